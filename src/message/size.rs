//! How large a message is before it is made, to the byte, so that a batch can be cut to what a sink takes.

use super::{BadRow, DropFacts, Message, RowsText};
use crate::drop::FileVersion;

/// What goes around the entries of a list of bad rows.
const AROUND_BAD_ROWS: usize = ",\"badRows\":[]".len();

/// How many bytes a message has around its rows: with all that is the same in every batch of a file, whatever its rows.
pub fn around_rows(drop: &DropFacts, file: &FileVersion, identified: bool) -> usize {
    Message::rows(drop, file, 0..0, identified, RowsText::default(), &[]).body.len() - RowsSize::of(0..0).bytes()
}

/// How many bytes of a message are its rows': their numbers, their text, and what is said of the bad ones.
#[derive(Debug, Clone, Copy)]
pub struct RowsSize {
    numbers: usize,
    text: usize,
    bad: usize,
}

impl RowsSize {
    /// The size of a batch that has these numbers and nothing in it yet.
    pub fn of(range: std::ops::Range<u64>) -> Self {
        Self { numbers: digits(range.start) + digits(range.end), text: 0, bad: 0 }
    }

    /// The same batch, with a text of so many bytes, commas counted.
    #[must_use]
    pub fn text(self, bytes: usize) -> Self {
        Self { text: bytes, ..self }
    }

    /// The same batch, with bad rows whose [`entries`](BadRow::entry) have so many bytes.
    #[must_use]
    pub fn bad(self, entries: usize) -> Self {
        // Each entry brings a comma, but for the first one.
        let bad = if entries == 0 { 0 } else { AROUND_BAD_ROWS + entries - 1 };
        Self { bad, ..self }
    }

    /// All of it.
    pub fn bytes(self) -> usize {
        self.numbers + self.text + self.bad
    }
}

impl BadRow {
    /// How many bytes it takes in a message's list, with a comma.
    pub fn entry(&self) -> usize {
        json_bytes(self) + 1
    }
}

/// The beginning of `text` and `…`, so that its JSON is shorter by `too_much` bytes or somewhat more.
pub(super) fn shortened(text: &str, too_much: usize) -> String {
    let room = json_bytes(text).saturating_sub(too_much + '…'.len_utf8());
    let ends: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
    let fitting = ends.partition_point(|&end| json_bytes(&text[..end]) <= room);
    format!("{}…", &text[..ends.get(fitting.saturating_sub(1)).copied().unwrap_or_default()])
}

fn json_bytes(value: &(impl serde::Serialize + ?Sized)) -> usize {
    // Strings and numbers alone: serialization cannot fail.
    serde_json::to_vec(value).unwrap_or_default().len()
}

fn digits(number: u64) -> usize {
    number.checked_ilog10().map_or(1, |log| log as usize + 1)
}
