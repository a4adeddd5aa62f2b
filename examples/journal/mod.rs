//! The storage of the examples: a file with one message per line.
//!
//! One line holds both the rows and the message id, so a crash cannot store one without the other. With a database, do the
//! same in one transaction: insert the id as a primary key, together with the rows.

use std::{
    collections::HashSet,
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    path::Path,
};

use serde::Deserialize;

/// The file, and the ids of the messages in it.
pub(crate) struct Journal {
    file: File,
    /// Length of the complete lines, in bytes.
    end: u64,
    ids: HashSet<String>,
}

#[derive(Deserialize)]
struct Message {
    id: String,
}

impl Journal {
    /// Opens or creates the file at `path`. Discards an incomplete last line, which a crash can leave: its message was never
    /// acknowledged.
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
        let ids = lines.map(|line| Ok(serde_json::from_slice::<Message>(line)?.id)).collect::<io::Result<_>>()?;
        Ok(Self { file, end: text.len() as u64, ids })
    }

    /// Appends `message`, unless its id is in the file; returns whether it was new. After the return it survives a crash.
    pub(crate) fn append(&mut self, message: &[u8]) -> io::Result<bool> {
        let Message { id } = serde_json::from_slice(message)?;
        if self.ids.contains(&id) {
            return Ok(false);
        }
        // JSON strings contain no raw newlines; between tokens, a space is equivalent.
        let mut line: Vec<u8> = message.iter().map(|&byte| if byte == b'\n' { b' ' } else { byte }).collect();
        line.push(b'\n');
        // Removes the rest of a write that failed before.
        self.file.set_len(self.end)?;
        self.file.write_all(&line)?;
        self.file.sync_data()?;
        self.end += line.len() as u64;
        self.ids.insert(id);
        Ok(true)
    }
}
