//! Lines decoded to rows. Knows JSON and columns, and nothing of where lines come from or rows go.
//!
//! A row keeps the bytes it came in: only the values that must change are replaced, so that order, spelling and digits of
//! everything else stay what they were.

use std::{borrow::Cow, collections::HashMap, ops::Range};

use super::{
    columns::{IS_ACTIVE, METRICS},
    decrypt::Cipher,
    lines::{Block, is_blank},
};
use crate::{
    buffers::{Buffer, Buffers},
    keys::AesKey,
};

mod column;
mod json;
mod names;

use column::{ColumnKey, Scratch, is_guid};
use names::{Names, Next};

/// How rows are decoded: `COLUMNS`, `ENCRYPTED_COLUMNS`, `COLUMN_CIPHER`, `ROW_VALUES` and `MAX_ROW_BYTES`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowRules {
    /// The columns that are kept, by their exact names; all of them where this is `None`.
    pub columns: Option<Vec<String>>,
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
        Self {
            columns: None,
            encrypted_columns: vec!["ObjectId".into()],
            column_cipher: None,
            typed: true,
            longest_row: 1 << 20,
        }
    }
}

/// Decodes blocks of lines. One serves a whole file, from any number of threads.
pub struct Decoder {
    columns: Columns,
    key: Option<ColumnKey>,
    longest_row: usize,
    buffers: Buffers,
}

/// What is done with columns, by name.
struct Columns {
    named: HashMap<Box<str>, Fate>,
    /// What is done with those that have no name here.
    others: Fate,
}

/// What is done with a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Keep,
    /// Its strings are changed.
    Change(Change),
    /// It is left out, name and all.
    LeaveOut,
}

/// What is done with the strings of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Decrypt,
    ToNumber,
    ToBoolean,
}

/// A column that a row has.
#[derive(Debug, Clone, Copy)]
struct Column<'a> {
    /// Its name, where it has one of [`Columns::named`].
    name: &'a str,
    fate: Fate,
}

impl Columns {
    fn new(rules: &RowRules) -> Self {
        let mut named: HashMap<Box<str>, Fate> = HashMap::new();
        if rules.typed {
            named.extend(METRICS.iter().map(|&name| (name.into(), Fate::Change(Change::ToNumber))));
            named.insert(IS_ACTIVE.into(), Fate::Change(Change::ToBoolean));
        }
        named.extend(rules.encrypted_columns.iter().map(|name| (name.as_str().into(), Fate::Change(Change::Decrypt))));
        let Some(kept) = &rules.columns else {
            return Self { named, others: Fate::Keep };
        };
        let fate = |name: &str| named.get(name).copied().unwrap_or(Fate::Keep);
        let named = kept.iter().map(|name| (name.as_str().into(), fate(name))).collect();
        Self { named, others: Fate::LeaveOut }
    }

    /// The column called `name`, which is `None` where a row's name is no text.
    fn find(&self, name: Option<&str>) -> Column<'_> {
        match name.and_then(|name| self.named.get_key_value(name)) {
            Some((name, &fate)) => Column { name, fate },
            None => Column { name: "", fate: self.others },
        }
    }
}

/// The rows of one block.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rows {
    /// The JSON text of the good ones, each followed by a line feed.
    pub text: Buffer,
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

/// A line is longer than `MAX_ROW_BYTES`; its number within the block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowTooLong {
    /// The number of the row within the block.
    pub row: u64,
}

impl Decoder {
    /// A decoder for files whose columns are encrypted with `key`; without one, encrypted values become null.
    pub fn new(rules: &RowRules, key: Option<&AesKey>) -> Self {
        let key = key.map(|key| ColumnKey::new(key, rules.column_cipher));
        Self { columns: Columns::new(rules), key, longest_row: rules.longest_row, buffers: Buffers::default() }
    }

    /// Decodes the lines of a block. Blank ones are no rows.
    pub fn rows(&self, block: &Block) -> Result<Rows, RowTooLong> {
        let mut rows = Rows { text: self.buffers.take(block.text().len()), ..Rows::default() };
        // Checked as a whole, which is quicker; line by line only when one of them is bad.
        let is_text = std::str::from_utf8(block.text()).is_ok();
        let mut names = Names::new(&self.columns);
        let mut scratch = Scratch::default();
        for line in block.lines() {
            if line.len() > self.longest_row {
                return Err(RowTooLong { row: rows.count() });
            }
            if is_blank(line) {
                continue;
            }
            let before = rows.text.len();
            let decoded = if is_text || std::str::from_utf8(line).is_ok() {
                let mut row =
                    Row { decoder: self, line: json::trimmed(line), copied: 0, has_members: false, bad: None };
                row.decode(&mut names, &mut scratch, &mut rows.text).unwrap_or(Err(BadRowReason::NotAnObject))
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
}

/// A row while it is copied from its line.
struct Row<'a> {
    decoder: &'a Decoder,
    line: &'a [u8],
    /// How much of the line is copied, replaced or left out.
    copied: usize,
    /// Whether a member before this one is kept.
    has_members: bool,
    bad: Option<BadRowReason>,
}

impl<'a> Row<'a> {
    /// Decodes the line to the end of `out`, which may hold part of the row where it fails; `None` when it is no JSON object.
    fn decode(
        &mut self,
        names: &mut Names<'a>,
        scratch: &mut Scratch,
        out: &mut Vec<u8>,
    ) -> Option<Result<(), BadRowReason>> {
        // Where a member begins: behind the one before it.
        let mut begin = 0;
        let mut next = names.begin(self.line)?;
        while let Next::Value { at, column } = next {
            let string = if self.line.get(at) == Some(&b'"') { Some(json::string(self.line, at + 1)?) } else { None };
            let end = string.map_or_else(|| json::value(self.line, at), |(end, _)| Some(end))?;
            if column.fate == Fate::LeaveOut {
                self.leave_out(begin..end, out);
            } else {
                self.keep(begin);
                if let (Fate::Change(change), Some((_, has_escapes))) = (column.fate, string) {
                    self.change(column.name, change, at..end, has_escapes, scratch, out);
                }
            }
            begin = end;
            next = names.next(self.line, end)?;
        }
        if !matches!(next, Next::End { at } if at == self.line.len()) {
            return None;
        }
        out.extend_from_slice(&self.line[self.copied..]);
        Some(self.bad.take().map_or(Ok(()), Err))
    }

    /// Keeps a member that begins at `begin`, with a comma if others come before it.
    fn keep(&mut self, begin: usize) {
        if !self.has_members && begin > 0 {
            // All before it were left out, so what is not copied begins with its comma.
            let comma = self.line[begin..].iter().position(|&byte| byte == b',').unwrap_or_default();
            self.copied = begin + comma + 1;
        }
        self.has_members = true;
    }

    /// Leaves out a member, with the comma before it; the bracket before the first one stays.
    fn leave_out(&mut self, member: Range<usize>, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.line[self.copied..member.start.max(1)]);
        self.copied = member.end;
    }

    /// Changes a string of a column. What is wrong with it is kept: whether the line is JSON at all is said first.
    fn change(
        &mut self,
        name: &str,
        change: Change,
        string: Range<usize>,
        has_escapes: bool,
        scratch: &mut Scratch,
        out: &mut Vec<u8>,
    ) {
        // Half of a character is no number, no boolean and no Base64.
        let text = json::text(&self.line[string.clone()], has_escapes).unwrap_or(Cow::Borrowed(b"\xFF"));
        match change {
            Change::Decrypt if is_guid(&text) => {}
            Change::Decrypt => {
                self.replace(string, out);
                let decrypted = match &self.decoder.key {
                    None => {
                        out.extend_from_slice(b"null");
                        Ok(())
                    }
                    Some(key) => key.decrypt(name, &text, scratch, out),
                };
                self.bad = self.bad.take().or(decrypted.err());
            }
            Change::ToNumber => {
                if json::number(&text, 0) == Some(text.len()) {
                    self.replace(string, out);
                    out.extend_from_slice(&text);
                }
            }
            Change::ToBoolean => {
                let words = [&b"true"[..], b"false"];
                if let Some(word) = words.into_iter().find(|word| word.eq_ignore_ascii_case(&text)) {
                    self.replace(string, out);
                    out.extend_from_slice(word);
                }
            }
        }
    }

    /// Copies what stands before `string`, and leaves that itself to be replaced.
    fn replace(&mut self, string: Range<usize>, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.line[self.copied..string.start]);
        self.copied = string.end;
    }
}

#[cfg(test)]
mod tests;
