//! Lines decoded to rows. Knows JSON and columns, and nothing of where lines come from or rows go.
//!
//! A row keeps the bytes it came in: only the values that must change are replaced, so that order, spelling and digits of
//! everything else stay what they were.

use std::{borrow::Cow, collections::HashMap, fmt};

use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::{
    columns::{IS_ACTIVE, METRICS},
    decrypt::Cipher,
    lines::{Block, is_blank},
};
use crate::keys::AesKey;

mod column;
use column::{ColumnKey, is_guid};

/// How rows are decoded: `ENCRYPTED_COLUMNS`, `COLUMN_CIPHER`, `ROW_VALUES` and `MAX_ROW_BYTES`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowRules {
    /// The columns that are encrypted, by their exact names.
    pub encrypted_columns: Vec<String>,
    /// The one cipher to consider for them, or both.
    pub column_cipher: Option<Cipher>,
    /// Whether metrics in strings become numbers, and `IsActive` a boolean.
    pub typed: bool,
    /// The longest line, in bytes, its end not counted.
    pub longest_row: usize,
}

impl Default for RowRules {
    fn default() -> Self {
        Self { encrypted_columns: vec!["ObjectId".into()], column_cipher: None, typed: true, longest_row: 1 << 20 }
    }
}

/// Decodes blocks of lines. One serves a whole file, from any number of threads.
pub struct Decoder {
    columns: HashMap<Box<str>, Column>,
    key: Option<ColumnKey>,
    longest_row: usize,
}

/// What is done with the strings of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Column {
    Encrypted,
    Metric,
    Boolean,
}

/// The rows of one block.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rows {
    /// The JSON text of the good ones, each followed by a line feed.
    pub text: Vec<u8>,
    /// Where each good row ends in `text`, behind its line feed.
    pub ends: Vec<usize>,
    /// The bad ones: their number within the block, and why.
    pub bad: Vec<(u64, BadRowReason)>,
}

impl Rows {
    /// How many rows there are, good and bad.
    pub fn count(&self) -> u64 {
        (self.ends.len() + self.bad.len()) as u64
    }
}

/// Why a row could not be decoded. Never says what it holds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadRowReason {
    /// The line is no JSON, or no object.
    #[error("is not a JSON object")]
    NotAnObject,
    /// A value of an encrypted column is not Base64.
    #[error("`{0}` is not Base64")]
    NotBase64(String),
    /// A value of an encrypted column does not decrypt to text.
    #[error("`{0}` does not decrypt to text: wrong Column key, or a damaged value")]
    Undecipherable(String),
}

/// A line is longer than `MAX_ROW_BYTES`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowTooLong {
    /// The number of the row, from where the one who found it began to count.
    pub row: u64,
}

impl Decoder {
    /// A decoder for files whose columns are encrypted with `key`; without one, encrypted values become null.
    pub fn new(rules: &RowRules, key: Option<&AesKey>) -> Self {
        let mut columns = HashMap::new();
        if rules.typed {
            columns.extend(METRICS.iter().map(|&name| (name.into(), Column::Metric)));
            columns.insert(IS_ACTIVE.into(), Column::Boolean);
        }
        columns.extend(rules.encrypted_columns.iter().map(|name| (name.as_str().into(), Column::Encrypted)));
        Self { columns, key: key.map(|key| ColumnKey::new(key, rules.column_cipher)), longest_row: rules.longest_row }
    }

    /// Whether there is a Column key, so that rows say whose they are.
    pub fn is_identified(&self) -> bool {
        self.key.is_some()
    }

    /// Decodes the lines of a block. Blank ones are no rows.
    pub fn rows(&self, block: &Block) -> Result<Rows, RowTooLong> {
        let mut rows = Rows { text: Vec::with_capacity(block.0.len()), ..Rows::default() };
        // Checked as a whole, which is quicker; line by line only when one of them is bad.
        let is_text = std::str::from_utf8(&block.0).is_ok();
        for line in block.lines() {
            if line.len() > self.longest_row {
                return Err(RowTooLong { row: rows.count() });
            }
            if is_blank(line) {
                continue;
            }
            let before = rows.text.len();
            let decoded = if is_text || std::str::from_utf8(line).is_ok() {
                self.row(line, &mut rows.text)
            } else {
                Err(BadRowReason::NotAnObject)
            };
            match decoded {
                Ok(()) => {
                    rows.text.push(b'\n');
                    rows.ends.push(rows.text.len());
                }
                Err(reason) => {
                    rows.text.truncate(before);
                    rows.bad.push((rows.count(), reason));
                }
            }
        }
        Ok(rows)
    }

    /// Decodes one line to the end of `out`, which may hold part of the row where it fails.
    fn row(&self, line: &[u8], out: &mut Vec<u8>) -> Result<(), BadRowReason> {
        let mut row = Row { decoder: self, line, copied: 0, out, bad: None };
        let mut json = serde_json::Deserializer::from_slice(line);
        let parsed = json.deserialize_map(&mut row).and_then(|()| json.end());
        let copied = row.copied;
        parsed.map_err(|_| BadRowReason::NotAnObject)?;
        if let Some(reason) = row.bad {
            return Err(reason);
        }
        out.extend_from_slice(&line[copied..]);
        Ok(())
    }
}

/// A row while it is copied from its line.
struct Row<'a> {
    decoder: &'a Decoder,
    line: &'a [u8],
    /// How much of the line is in `out`, or replaced there.
    copied: usize,
    out: &'a mut Vec<u8>,
    bad: Option<BadRowReason>,
}

impl<'de: 'a, 'a> Visitor<'de> for &mut Row<'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some((name, value)) = map.next_entry::<&RawValue, &RawValue>()? {
            if !value.get().starts_with('"') {
                continue;
            }
            let Some(name) = string_of(name) else { continue };
            let Some(column) = self.decoder.columns.get(&*name) else {
                continue;
            };
            // Half of a character is no number, no boolean and no Base64.
            let sealed = string_of(value).unwrap_or(Cow::Borrowed("\u{FFFD}"));
            // The rest of the line is still read: whether it is JSON at all is said first.
            if self.bad.is_none()
                && let Err(reason) = self.replace(*column, &name, &sealed, value.get())
            {
                self.bad = Some(reason);
            }
        }
        Ok(())
    }
}

impl Row<'_> {
    fn replace(&mut self, column: Column, name: &str, value: &str, raw: &str) -> Result<(), BadRowReason> {
        match column {
            Column::Encrypted if is_guid(value) => {}
            Column::Encrypted => {
                self.copy_to(raw);
                match &self.decoder.key {
                    None => self.out.extend_from_slice(b"null"),
                    Some(key) => write_string(self.out, &key.decrypt(name, value)?),
                }
            }
            Column::Metric if is_json_number(value) => {
                self.copy_to(raw);
                self.out.extend_from_slice(value.as_bytes());
            }
            Column::Boolean => {
                let words = [("true", &b"true"[..]), ("false", b"false")];
                if let Some((_, word)) = words.iter().find(|(word, _)| word.eq_ignore_ascii_case(value)) {
                    self.copy_to(raw);
                    self.out.extend_from_slice(word);
                }
            }
            Column::Metric => {}
        }
        Ok(())
    }

    /// Copies what stands before the value `raw`, and leaves the value itself to be replaced.
    fn copy_to(&mut self, raw: &str) {
        // `raw` was borrowed from `line`, so the difference of their addresses is its place in it.
        let start = raw.as_ptr().addr() - self.line.as_ptr().addr();
        self.out.extend_from_slice(&self.line[self.copied..start]);
        self.copied = start + raw.len();
    }
}

/// What a JSON string says, or `None` for any other value.
fn string_of(raw: &RawValue) -> Option<Cow<'_, str>> {
    let inside = raw.get().strip_prefix('"')?.strip_suffix('"')?;
    if !inside.contains('\\') {
        return Some(Cow::Borrowed(inside));
    }
    // An escape that is half of a character (`\ud800` alone) says nothing that can be decrypted or typed.
    serde_json::from_str(raw.get()).ok().map(Cow::Owned)
}

fn write_string(out: &mut Vec<u8>, text: &str) {
    // Writing a string to memory cannot fail.
    let _infallible = serde_json::to_writer(out, text);
}

/// Whether `text` is a number as JSON spells it (RFC 8259, section 6), and nothing else.
fn is_json_number(text: &str) -> bool {
    fn digits(text: &[u8]) -> (usize, &[u8]) {
        let count = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
        (count, &text[count..])
    }
    let text = text.as_bytes();
    let text = text.strip_prefix(b"-").unwrap_or(text);
    let (count, mut rest) = digits(text);
    if count == 0 || (count > 1 && text[0] == b'0') {
        return false;
    }
    if let Some(fraction) = rest.strip_prefix(b".") {
        let (count, behind) = digits(fraction);
        if count == 0 {
            return false;
        }
        rest = behind;
    }
    if let Some((b'e' | b'E', exponent)) = rest.split_first() {
        let exponent = exponent.strip_prefix(b"+").or_else(|| exponent.strip_prefix(b"-")).unwrap_or(exponent);
        let (count, behind) = digits(exponent);
        return count > 0 && behind.is_empty();
    }
    rest.is_empty()
}

#[cfg(test)]
mod tests;
