//! The size of a message, computed before the message is built, so that a batch can be cut to the limit of a sink.

use super::{BadRow, DropFacts, JoinFacts};
use crate::drop::FileVersion;

/// A rows message without the values that differ between files or batches. The id and the timestamp always have this
/// size.
const FIXED: &str = concat!(
    r#"{"id":"msg_00000000000000000000000000000000","type":"viva.insights.rows","timestamp":"2026-11-22T00:00:00Z","#,
    r#""data":{"drop":,"file":,"firstRow":,"endRow":,"identified":,"rows":[]}}"#,
);

/// The size in bytes of everything that is the same in all rows messages of a file.
pub fn envelope_bytes(drop: &DropFacts, file: &FileVersion, identified: bool, directory: Option<&JoinFacts>) -> usize {
    let directory = directory.map_or(0, |directory| ",\"directory\":".len() + json_bytes(directory));
    FIXED.len() + json_bytes(drop) + json_bytes(&file.name) + json_bytes(&identified) + directory
}

/// The parts of a rows message that differ between the batches of a file.
#[derive(Debug, Clone, Copy)]
pub struct RowsSize {
    /// The number in `firstRow`.
    pub first_row: u64,
    /// The number in `endRow`.
    pub end_row: u64,
    /// The size in bytes of the text of the good rows, commas included.
    pub text_bytes: usize,
    /// The sum of the bad rows' [`BadRow::entry_bytes`].
    pub bad_bytes: usize,
}

impl RowsSize {
    /// The size in bytes of all these parts.
    pub fn bytes(self) -> usize {
        let bad_rows = match self.bad_bytes {
            0 => 0,
            // The first entry has no comma.
            entries => ",\"badRows\":[]".len() + entries - 1,
        };
        digits(self.first_row) + digits(self.end_row) + self.text_bytes + bad_rows
    }
}

impl BadRow {
    /// The size in bytes of this row's entry in `badRows`, with a comma.
    pub fn entry_bytes(&self) -> usize {
        json_bytes(self) + 1
    }
}

/// Shortens `text` to its beginning and `…`, so that its JSON has at least `excess` bytes fewer.
pub(super) fn shortened(text: &str, excess: usize) -> String {
    let room = json_bytes(text).saturating_sub(excess + '…'.len_utf8());
    let ends: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
    let fitting = ends.partition_point(|&end| json_bytes(&text[..end]) <= room);
    format!("{}…", &text[..ends.get(fitting.saturating_sub(1)).copied().unwrap_or_default()])
}

fn json_bytes(value: &(impl serde::Serialize + ?Sized)) -> usize {
    serde_json::to_vec(value).expect("strings, numbers and booleans can always be serialized").len()
}

fn digits(number: u64) -> usize {
    number.checked_ilog10().unwrap_or_default() as usize + 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        directory::DirectorySnapshot,
        message::{Message, RowsText},
        store::ETag,
    };

    #[test]
    fn the_computed_size_is_that_of_the_message() {
        let facts = |name: &str, value: Option<&str>| DropFacts {
            id: value.map(str::to_owned),
            tenant_id: "9f1c7fd3-1a33-4f2b-9d3c-0a8f6f2d7e10".parse().unwrap(),
            path: format!("datasets/{name}"),
            table: value.map(str::to_owned),
            request_start_date: value.map(str::to_owned),
            request_end_date: value.map(str::to_owned),
            generation: 0,
        };
        let names = ["run", "Läufe \"1\"\\\n\u{1}"];
        let texts = ["", "{}", "{\"a\":1},{\"ü\":[]}"];
        let snapshot = DirectorySnapshot {
            path: "datasets/Läufe/AADUser".parse().unwrap(),
            id: Some("5e8f1d2a".into()),
            versions: "1".into(),
        };
        let joins = [None, Some(None), Some(Some(snapshot))].map(|join| join.map(|snapshot| JoinFacts { snapshot }));
        let cases = [(names[0], None, true), (names[1], Some("2026-08-16"), false)];
        for ((name, value, identified), join) in
            cases.into_iter().flat_map(|case| joins.iter().map(move |join| (case, join)))
        {
            let join = join.as_ref();
            let (drop, file) = (facts(name, value), FileVersion { name: name.into(), etag: ETag("1".into()) });
            let envelope = envelope_bytes(&drop, &file, identified, join);
            for (first_row, end_row) in [(0, 1), (9, 10), (99, 1_000_001), (u64::MAX - 1, u64::MAX)] {
                for text in texts {
                    for count in 0..3 {
                        let bad_row =
                            |row| BadRow { row, reason: format!("has a value of `{name}` that is not Base64") };
                        let bad_rows: Vec<_> =
                            (0..count).map(|number| bad_row(first_row.saturating_add(number * 10))).collect();
                        let bad_bytes = bad_rows.iter().map(BadRow::entry_bytes).sum();
                        let rows = RowsSize { first_row, end_row, text_bytes: text.len(), bad_bytes };
                        let text = RowsText::from(text.as_bytes());
                        let message =
                            Message::rows(&drop, &file, first_row..end_row, identified, join, text, &bad_rows);
                        assert_eq!(envelope + rows.bytes(), message.body.len(), "{message:?}");
                    }
                }
            }
        }
    }
}
