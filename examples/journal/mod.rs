//! Where the examples keep what they take: a file with a message a line.
//!
//! A line has the rows and the id that says whether they are there already, so that no crash can leave one without the
//! other. A partner with a database does the same with a transaction: the id as a primary key, beside the rows.

use std::{
    collections::HashSet,
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    path::Path,
};

use serde::Deserialize;

/// The file, and the ids in it.
pub(crate) struct Journal {
    file: File,
    /// Where the last whole line ends.
    end: u64,
    ids: HashSet<String>,
}

#[derive(Deserialize)]
struct Message {
    id: String,
}

impl Journal {
    /// Opens the file at `path`, or makes it. A line that a crash left unfinished is cut off: nobody was told that it is
    /// kept.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
        if let Some(folder) = path.canonicalize()?.parent() {
            // The file's name must survive as well.
            File::open(folder)?.sync_all()?;
        }
        let mut text = Vec::new();
        file.read_to_end(&mut text)?;
        text.truncate(text.iter().rposition(|&byte| byte == b'\n').map_or(0, |last| last + 1));
        let lines = text.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
        let ids = lines.map(|line| Ok(serde_json::from_slice::<Message>(line)?.id)).collect::<io::Result<_>>()?;
        Ok(Self { file, end: text.len() as u64, ids })
    }

    /// Keeps `message`, unless it is there already; says whether it was new. Once this returns, it survives a crash.
    pub(crate) fn keep(&mut self, message: &[u8]) -> io::Result<bool> {
        let Message { id } = serde_json::from_slice(message)?;
        if self.ids.contains(&id) {
            return Ok(false);
        }
        // Between tokens a line end is as good as a space, and in a JSON string there is none.
        let mut line: Vec<u8> = message.iter().map(|&byte| if byte == b'\n' { b' ' } else { byte }).collect();
        line.push(b'\n');
        // What is left of a write that failed goes first.
        self.file.set_len(self.end)?;
        self.file.write_all(&line)?;
        self.file.sync_data()?;
        self.end += line.len() as u64;
        self.ids.insert(id);
        Ok(true)
    }
}
