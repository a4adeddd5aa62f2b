//! Decodes lines to rows: checks the JSON, decrypts and converts column values, and omits columns.
//!
//! A row is copied byte for byte, except for the values that are replaced and the columns that are omitted. So
//! everything else keeps its order, spelling and digits.

use std::sync::Arc;

use super::{
    decrypt::Cipher,
    lines::{Block, is_blank},
};
use crate::{
    directory::Directory,
    json::scanner::{self as json, Invalid},
    keys::AesKey,
};

mod bad_rows;
mod checks;
mod column;
mod detect;
mod names;
mod row;
mod rows;
mod treatment;

pub use bad_rows::{BadRowReason, BadRows};
pub use checks::{ColumnChecks, ExpectedColumn, MissingColumns};
use column::{ColumnKey, Scratch};
use names::Names;
use row::Row;
use rows::RowsBuffers;
pub use rows::{RecordedValue, Rows};
use treatment::Columns;

/// The most bytes that the directory adds to the rows of a block, unless one entry is longer. Blocks of usual rows and
/// entries need less, so they are not divided.
const MAX_JOINED_BYTES: usize = 512 << 10;

/// How rows are decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowRules {
    /// `ROW_COLUMNS`: the exact names of the columns to keep; `None` keeps all.
    pub columns: Option<Vec<String>>,
    /// Whether [`Rows::values`] has the places of the values of `columns`.
    pub records_values: bool,
    /// Which columns a file must have.
    pub checks: ColumnChecks,
    /// `ENCRYPTED_COLUMNS`: the exact names of the encrypted columns.
    pub encrypted_columns: Vec<String>,
    /// `COLUMN_CIPHER`: the cipher of these columns; `None` detects it for each file.
    pub column_cipher: Option<Cipher>,
    /// `ROW_VALUES`: whether strings in metric columns become numbers, and `IsActive` becomes a boolean.
    pub typed: bool,
    /// `MAX_ROW_BYTES`: the maximum length of a line in bytes, without its line end.
    pub max_row_bytes: usize,
    /// `MAX_ROW_DEPTH`: the maximum nesting depth of a line in levels of objects and arrays. The row itself is the
    /// first level. A line that is nested deeper is a bad row.
    pub max_depth: usize,
}

impl Default for RowRules {
    fn default() -> Self {
        Self {
            columns: None,
            records_values: false,
            checks: ColumnChecks::default(),
            encrypted_columns: vec!["ObjectId".into()],
            column_cipher: None,
            typed: true,
            max_row_bytes: 1 << 20,
            max_depth: 50,
        }
    }
}

/// Decodes the blocks of one file. May be used by several threads at once.
pub struct Decoder {
    columns: Columns,
    rejects_empty_rows: bool,
    key: Option<ColumnKey>,
    max_row_bytes: usize,
    max_depth: usize,
    /// The rows of a block end with the first bad row beyond this number.
    bad_rows_allowed: u64,
    buffers: RowsBuffers,
    /// The directory whose people are joined to the rows.
    directory: Option<Arc<Directory>>,
}

/// A line is longer than `MAX_ROW_BYTES`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowTooLong {
    /// The number of the row within the block.
    pub row: u64,
}

impl Decoder {
    /// Creates a decoder that decrypts columns with `key`. Without a key, encrypted values become null.
    pub fn new(rules: &RowRules, key: Option<&AesKey>) -> Self {
        let key = key.map(|key| ColumnKey::new(key, rules.column_cipher));
        Self {
            columns: Columns::new(rules),
            rejects_empty_rows: rules.checks.rejects_empty_rows,
            key,
            max_row_bytes: rules.max_row_bytes,
            max_depth: rules.max_depth,
            bad_rows_allowed: u64::MAX,
            buffers: RowsBuffers::default(),
            directory: None,
        }
    }

    /// Ends the rows of a block after `allowed` bad rows and one more: the file is then set aside at that row, and bad
    /// rows after it would only take memory.
    #[must_use]
    pub fn ending_after_bad_rows(mut self, allowed: u64) -> Self {
        self.bad_rows_allowed = allowed;
        self
    }

    /// The number of bad rows that a block may have. Its rows end with the first bad row beyond it.
    pub fn bad_rows_allowed(&self) -> u64 {
        self.bad_rows_allowed
    }

    /// Adds to each row, as its last member, the person of `directory` that the row's key column names. Without a
    /// Column key the member is null: the directory must not identify people who have not consented.
    #[must_use]
    pub fn joined_to(mut self, directory: Arc<Directory>, rules: &RowRules) -> Self {
        self.columns.join(rules, directory.key_column());
        self.directory = Some(directory);
        self
    }

    /// How many lines a block may have, so that the directory entries that are added to its rows take at most
    /// [`MAX_JOINED_BYTES`], or one entry. A customer decides how long an entry is, and how often rows repeat it.
    pub fn max_lines(&self) -> usize {
        self.directory.as_ref().map_or(usize::MAX, |directory| (MAX_JOINED_BYTES / directory.longest_entry()).max(1))
    }

    /// The size of the longest directory entry, in bytes, if it is longer than [`MAX_JOINED_BYTES`]; otherwise 0.
    pub fn long_entry_bytes(&self) -> usize {
        let longest = self.directory.as_ref().map_or(0, |directory| directory.longest_entry());
        if longest > MAX_JOINED_BYTES { longest } else { 0 }
    }

    /// Compares the names of columns in settings with those in `first`, which is the first block of the file. Must be
    /// called before any block of the file is decoded, so that no row of a file that certainly lacks a column is
    /// delivered.
    pub fn check_first_columns(&self, first: &Block, rules: &RowRules) -> Result<(), MissingColumns> {
        self.columns.checked.check_first(first, rules.columns.as_deref())
    }

    /// Reports the columns that settings name and that no row of the file had. Must be called after all blocks of the
    /// file are decoded.
    pub fn check_columns(&self) -> Result<(), MissingColumns> {
        self.columns.checked.missing()
    }

    /// Detects the cipher of the encrypted columns, unless `COLUMN_CIPHER` sets it, from `first`, which is the first
    /// block of the file. Must be called before any block of the file is decoded.
    ///
    /// If no value in `first` decrypts to text, the cipher is detected for each value of the file separately.
    pub fn detect_column_cipher(&self, first: &Block) {
        let Some(key) = self.key.as_ref().filter(|key| key.is_undecided()) else { return };
        if let Some(cipher) = detect::column_cipher(first, Names::new(&self.columns), key, self.max_row_bytes) {
            key.set_detected(cipher);
        }
    }

    /// Decodes the lines of a block. Blank lines are not rows. If there are more bad rows than
    /// [allowed](Self::ending_after_bad_rows), the rows end with the first one beyond the limit.
    pub fn rows(&self, block: &Block) -> Result<Rows, RowTooLong> {
        let mut rows = self.buffers.take(block.text().len());
        // UTF-8 is checked for the whole block at once, which is faster; only if that fails, line by line.
        let is_text = std::str::from_utf8(block.text()).is_ok();
        let mut names = Names::new(&self.columns);
        let mut scratch = Scratch::default();
        for line in block.lines() {
            if line.len() > self.max_row_bytes {
                return Err(RowTooLong { row: rows.count() });
            }
            if is_blank(line) {
                continue;
            }
            let (before, values_before) = (rows.text.len(), rows.values.len());
            let decoded = if is_text || std::str::from_utf8(line).is_ok() {
                let mut row = Row::new(self, json::trimmed(line));
                row.decode(&mut names, &mut scratch, &mut rows).unwrap_or_else(|invalid| Err(self.reason(invalid)))
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
                    rows.values.truncate(values_before);
                    rows.bad.push(rows.count(), reason);
                    if rows.bad.len() as u64 > self.bad_rows_allowed {
                        break;
                    }
                }
            }
        }
        Ok(rows)
    }

    fn reason(&self, invalid: Invalid) -> BadRowReason {
        match invalid {
            Invalid::Json => BadRowReason::NotAnObject,
            Invalid::TooDeep => BadRowReason::TooDeep(self.max_depth),
            Invalid::LongNumber => BadRowReason::LongNumber,
        }
    }
}

#[cfg(test)]
mod tests;
