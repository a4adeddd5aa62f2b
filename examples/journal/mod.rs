//! The storage of the examples: a file with one message per line.
//!
//! One line holds both the rows and the message id, so a crash cannot store one without the other. With a database, do
//! the same in one transaction: insert the id as a primary key, together with the rows.
//!
//! The last `drop.completed` or `drop.failed` of a drop in the file is the drop's state: an ending that arrives after
//! one with a higher sequence number is not stored. [`attributes`] applies the imports of survey attributes, and writes
//! them to `FILE.attributes`.

mod attributes;

use std::{
    collections::{HashMap, HashSet},
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use serde::Deserialize;

use attributes::Attributes;

/// The file, and an index of the messages in it.
pub(crate) struct Journal {
    file: File,
    /// Length of the complete lines, in bytes.
    end: u64,
    ids: HashSet<String>,
    /// The highest sequence number of the endings of each drop, by drop path.
    endings: HashMap<String, u64>,
    attributes: Attributes,
    dead_letters: PathBuf,
}

/// The part of a message that the examples read. The rows are skipped without being converted to values: a converter
/// has limits on nesting and on numbers, and one unusual row would then stop all rows after it.
#[derive(Deserialize)]
struct Message {
    id: String,
    #[serde(default, rename = "type")]
    kind: String,
}

/// The ending of a drop.
#[derive(Deserialize)]
struct Ending {
    data: EndingData,
}

#[derive(Deserialize)]
struct EndingData {
    drop: Drop,
    /// Messages of vivadrop 0.1.0 have none.
    #[serde(default)]
    sequence: u64,
}

#[derive(Deserialize)]
struct Drop {
    path: String,
}

impl Message {
    fn is_about_attributes(&self) -> bool {
        self.kind.starts_with("viva.insights.attributes")
    }

    /// The drop path and the sequence number, if this message, with the JSON text `json`, is about the end of a drop.
    fn ending(&self, json: &[u8]) -> Option<(String, u64)> {
        if !["viva.insights.drop.completed", "viva.insights.drop.failed"].contains(&&*self.kind) {
            return None;
        }
        let EndingData { drop, sequence } = serde_json::from_slice::<Ending>(json).ok()?.data;
        Some((drop.path, sequence))
    }
}

/// The result of storing a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stored {
    /// It is in the file.
    New,
    /// A message with its id was in the file before, or it is an ending that a newer one has replaced.
    Duplicate,
    /// It is not a message of vivadrop. It was added to the dead letters.
    DeadLetter,
}

impl Journal {
    /// Opens or creates the file at `path`. Discards an incomplete last line, which a crash can leave: its message was
    /// never acknowledged.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
        if let Some(folder) = path.canonicalize()?.parent() {
            // The directory entry must survive a crash as well.
            File::open(folder)?.sync_all()?;
        }
        let mut text = Vec::new();
        file.read_to_end(&mut text)?;
        text.truncate(text.iter().rposition(|&byte| byte == b'\n').map_or(0, |last| last + 1));
        let lines = text.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
        let (mut ids, mut endings) = (HashSet::new(), HashMap::new());
        let mut attributes = Attributes::new(with_suffix(path, ".attributes"));
        for line in lines {
            let message: Message = serde_json::from_slice(line)?;
            if message.is_about_attributes() {
                attributes.take(line);
            }
            endings.extend(message.ending(line));
            ids.insert(message.id);
        }
        attributes.write_changes()?;
        let dead_letters = with_suffix(path, ".dead-letters");
        Ok(Self { file, end: text.len() as u64, ids, endings, attributes, dead_letters })
    }

    /// Appends `message`, unless its id is in the file, or it is about an ending of its drop that a newer one has
    /// replaced. After the return it survives a crash.
    ///
    /// A message that cannot be read would fail in the same way again. It is reported and kept in another file, so that
    /// it is acknowledged and does not block the messages after it. An error is a failure of the disk: a retry can
    /// succeed.
    pub(crate) fn append(&mut self, message: &[u8]) -> io::Result<Stored> {
        let parsed: Message = match serde_json::from_slice(message) {
            Ok(parsed) => parsed,
            Err(error) => {
                self.append_dead_letter(message)?;
                let (line, column) = (error.line(), error.column());
                eprintln!(
                    "received a message that cannot be read (line {line}, column {column}): see the dead letters"
                );
                return Ok(Stored::DeadLetter);
            }
        };
        let ending = parsed.ending(message);
        let is_late = |(drop, sequence): &(String, u64)| self.endings.get(drop).is_some_and(|last| last > sequence);
        if self.ids.contains(&parsed.id) || ending.as_ref().is_some_and(is_late) {
            // It is sent again if the attributes could not be written.
            self.attributes.write_changes()?;
            return Ok(Stored::Duplicate);
        }
        // JSON strings contain no raw newlines; between tokens, a space is equivalent.
        let mut line: Vec<u8> = message.iter().map(|&byte| if byte == b'\n' { b' ' } else { byte }).collect();
        line.push(b'\n');
        // Removes the incomplete line of an earlier write that failed.
        self.file.set_len(self.end)?;
        self.file.write_all(&line)?;
        self.file.sync_data()?;
        self.end += line.len() as u64;
        if parsed.is_about_attributes() {
            self.attributes.take(message);
        }
        self.ids.insert(parsed.id);
        self.endings.extend(ending);
        self.attributes.write_changes()?;
        Ok(Stored::New)
    }

    /// Appends a message to the dead letters: one JSON string per line.
    fn append_dead_letter(&self, message: &[u8]) -> io::Result<()> {
        let mut file = OpenOptions::new().append(true).create(true).open(&self.dead_letters)?;
        let mut line = serde_json::to_vec(&String::from_utf8_lossy(message))?;
        line.push(b'\n');
        file.write_all(&line)?;
        file.sync_data()
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}
