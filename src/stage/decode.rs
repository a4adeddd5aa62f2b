//! Decodes lines to rows: checks the JSON, decrypts and converts column values, and omits columns.
//!
//! A row is copied byte for byte, except for the values that are replaced and the columns that are omitted. So
//! everything else keeps its order, spelling and digits.

use std::{borrow::Cow, collections::HashMap, ops::Range, sync::Arc};

use super::{
    columns::{IS_ACTIVE, METRICS},
    decrypt::Cipher,
    lines::{Block, is_blank},
};
use crate::{
    buffers::{Buffer, Buffers},
    directory::{Directory, Person},
    json::scanner::{self as json, Invalid},
    keys::AesKey,
};

mod bad_rows;
mod checks;
mod column;
mod detect;
mod names;

pub use bad_rows::{BadRowReason, BadRows};
use checks::FileColumns;
pub use checks::{ColumnChecks, ExpectedColumn, MissingColumns};
use column::{ColumnKey, Scratch, is_guid};
use names::{Names, Next};

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
    /// `MAX_ROW_DEPTH`: the maximum nesting depth of a line in levels of objects and arrays. The row itself is the first
    /// level. A line that is nested deeper is a bad row.
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
    /// With more bad rows than this, a block ends.
    bad_rows_allowed: u64,
    buffers: Buffers,
    /// The directory whose people are joined to the rows.
    directory: Option<Arc<Directory>>,
}

/// The member that the join adds, as the last one of a row. A row's own column of this name is omitted.
const DIRECTORY: &str = "directory";

/// The action for each column.
struct Columns {
    named: HashMap<Box<str>, Treatment>,
    /// The action for columns that are not in `named`.
    others: Action,
    /// The columns that the file must have.
    checked: FileColumns,
}

/// What is done with a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Treatment {
    action: Action,
    is_encrypted: bool,
    /// Whether the join looks up the column's value.
    is_join_key: bool,
    /// The number of the column in [`RowRules::columns`], if the places of its values are recorded.
    recorded: Option<usize>,
}

/// What to do with the values of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Keep,
    /// Convert strings; keep other values.
    Convert(Conversion),
    /// Omit the value and its name.
    Omit,
}

/// What the strings of a column are converted to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Conversion {
    Decrypt,
    ToNumber,
    ToBoolean,
}

/// A column of a row.
#[derive(Debug, Clone, Copy)]
struct Column<'a> {
    /// The name if it is one of [`Columns::named`], otherwise empty.
    name: &'a str,
    treatment: Treatment,
}

impl Treatment {
    fn of(action: Action) -> Self {
        Self {
            action,
            is_encrypted: action == Action::Convert(Conversion::Decrypt),
            is_join_key: false,
            recorded: None,
        }
    }
}

impl Columns {
    fn new(rules: &RowRules) -> Self {
        let mut named: HashMap<Box<str>, Action> = HashMap::new();
        if rules.typed {
            named.extend(METRICS.iter().map(|&name| (name.into(), Action::Convert(Conversion::ToNumber))));
            named.insert(IS_ACTIVE.into(), Action::Convert(Conversion::ToBoolean));
        }
        let checked = FileColumns::new(&rules.checks);
        let encrypted = rules.encrypted_columns.iter();
        named.extend(encrypted.map(|name| (name.as_str().into(), Action::Convert(Conversion::Decrypt))));
        let Some(kept) = &rules.columns else {
            let named = named.into_iter().map(|(name, action)| (name, Treatment::of(action))).collect();
            return Self { named, others: Action::Keep, checked };
        };
        let action = |name: &str| named.get(name).copied().unwrap_or(Action::Keep);
        let named = kept.iter().enumerate().map(|(number, name)| {
            let recorded = rules.records_values.then_some(number);
            (name.as_str().into(), Treatment { recorded, ..Treatment::of(action(name)) })
        });
        let named = named.collect();
        Self { named, others: Action::Omit, checked }
    }

    /// Adds what a join needs: its key, which `rules` may hide, and no column with the name of the joined member.
    fn join(&mut self, rules: &RowRules, key: &str) {
        let hidden = Treatment {
            is_encrypted: rules.encrypted_columns.iter().any(|name| name == key),
            ..Treatment::of(self.others)
        };
        self.named.entry(key.into()).or_insert(hidden).is_join_key = true;
        let own = self.named.entry(DIRECTORY.into()).or_insert(Treatment::of(Action::Omit));
        own.action = Action::Omit;
    }

    /// Finds a column by its name; `None` is a name that is not text.
    fn find(&self, name: Option<&str>) -> Column<'_> {
        match name.and_then(|name| self.named.get_key_value(name)) {
            Some((name, &treatment)) => Column { name, treatment },
            None => Column { name: "", treatment: Treatment::of(self.others) },
        }
    }
}

/// The rows of one block.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rows {
    /// The JSON text of the good rows, each followed by a line feed.
    pub text: Buffer,
    /// The end of each good row in `text`, after its line feed.
    pub ends: Vec<usize>,
    /// The values of the good rows whose places are [recorded](RowRules::records_values), in the order of `text`.
    pub values: Vec<RecordedValue>,
    /// The bad rows.
    pub bad: BadRows,
}

/// A value of a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedValue {
    /// The number of the column in [`RowRules::columns`].
    pub column: usize,
    /// The place of the value's JSON in [`Rows::text`].
    pub place: Range<usize>,
}

impl Rows {
    /// The JSON text of each good row, in order.
    pub fn good(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, &end)| &self.text[start..end - 1])
    }

    /// The recorded values of each good row, in order: the number of the column and the JSON text.
    pub fn recorded(&self) -> impl Iterator<Item = impl Iterator<Item = (usize, &[u8])>> {
        let mut others = &self.values[..];
        self.ends.iter().map(move |&end| {
            let (values, after) = others.split_at(others.iter().take_while(|value| value.place.end <= end).count());
            others = after;
            values.iter().map(|value| (value.column, &self.text[value.place.clone()]))
        })
    }

    /// The number of rows, good and bad.
    pub fn count(&self) -> u64 {
        (self.ends.len() + self.bad.len()) as u64
    }
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
            buffers: Buffers::default(),
            directory: None,
        }
    }

    /// Ends the rows of a block after `allowed` bad rows and one more: the file is then set aside at that row, and bad rows
    /// after it would only take memory.
    #[must_use]
    pub fn ending_after_bad_rows(mut self, allowed: u64) -> Self {
        self.bad_rows_allowed = allowed;
        self
    }

    /// With more bad rows than this, the rows of a block end.
    pub fn bad_rows_allowed(&self) -> u64 {
        self.bad_rows_allowed
    }

    /// Adds to each row, as its last member, the person of `directory` that the row's key column names. Without a Column key
    /// the member is null: the directory must not identify people who have not consented.
    #[must_use]
    pub fn joined_to(mut self, directory: Arc<Directory>, rules: &RowRules) -> Self {
        self.columns.join(rules, directory.key_column());
        self.directory = Some(directory);
        self
    }

    /// Compares the names of columns in settings with those in `first`, which is the first block of the file. Must be called
    /// before any block of the file is decoded, so that no row is delivered of a file that lacks a column for certain.
    pub fn check_first_columns(&self, first: &Block, rules: &RowRules) -> Result<(), MissingColumns> {
        self.columns.checked.check_first(first, rules.columns.as_deref())
    }

    /// Reports the columns that settings name and that no row of the file had. Must be called after all blocks of the file
    /// are decoded.
    pub fn check_columns(&self) -> Result<(), MissingColumns> {
        self.columns.checked.missing()
    }

    /// Detects the cipher of the encrypted columns, unless `COLUMN_CIPHER` sets it, from `first`, which is the first block
    /// of the file. Must be called before any block of the file is decoded.
    ///
    /// If `first` does not tell, each value is decrypted with the cipher that it fits by itself.
    pub fn detect_column_cipher(&self, first: &Block) {
        let Some(key) = self.key.as_ref().filter(|key| key.is_undecided()) else { return };
        if let Some(cipher) = detect::column_cipher(first, Names::new(&self.columns), key, self.max_row_bytes) {
            key.set_detected(cipher);
        }
    }

    /// Decodes the lines of a block. Blank lines are not rows. If there are more bad rows than
    /// [allowed](Self::ending_after_bad_rows), the rows end with the first one beyond the limit.
    pub fn rows(&self, block: &Block) -> Result<Rows, RowTooLong> {
        let mut rows = Rows { text: self.buffers.take(block.text().len()), ..Rows::default() };
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
                let mut row = Row {
                    decoder: self,
                    line: json::trimmed(line),
                    copied: 0,
                    has_members: false,
                    person: None,
                    bad: None,
                };
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

/// A row that is being copied from its line.
struct Row<'a> {
    decoder: &'a Decoder,
    line: &'a [u8],
    /// How many bytes of the line have been copied, replaced or omitted.
    copied: usize,
    /// Whether an earlier member was kept.
    has_members: bool,
    /// The person in the directory that the row's key column names.
    person: Option<Person>,
    /// Why the row is bad, if a value cannot be decrypted.
    bad: Option<BadRowReason>,
}

impl<'a> Row<'a> {
    /// Decodes the line and appends the row to the text of `rows`, or a part of it on failure. The outer error is that of
    /// the JSON, the inner one that of a value.
    fn decode(
        &mut self,
        names: &mut Names<'a>,
        scratch: &mut Scratch,
        rows: &mut Rows,
    ) -> Result<Result<(), BadRowReason>, Invalid> {
        let (out, values) = (&mut *rows.text, &mut rows.values);
        // The row itself is the first level.
        let max_depth = self.decoder.max_depth.saturating_sub(1);
        // A member begins after the previous one.
        let mut begin = 0;
        let mut next = names.begin(self.line).ok_or(Invalid::Json)?;
        while let Next::Value { at, column } = next {
            let string = if self.line.get(at) == Some(&b'"') {
                Some(json::string_end(self.line, at + 1).ok_or(Invalid::Json)?)
            } else {
                None
            };
            let end = string.map_or_else(|| json::value_end(self.line, at, max_depth), |(end, _)| Ok(end))?;
            let Treatment { action, is_encrypted, is_join_key, recorded } = column.treatment;
            if is_join_key {
                // Found as early as the row allows: while the rest of it is scanned, the processor loads what the lookup touches.
                let text = string.and_then(|(_, has_escapes)| json::unescaped(&self.line[at..end], has_escapes));
                self.person = text.and_then(|text| self.find_person(column.name, is_encrypted, &text, scratch));
            }
            if action == Action::Omit {
                self.omit(begin..end, out);
            } else {
                self.keep(begin);
                // Text up to `self.copied` is in `out`; what follows will be copied as it is.
                let start = out.len() + at - self.copied;
                if let (Action::Convert(conversion), Some((_, has_escapes))) = (action, string) {
                    self.convert(column.name, conversion, at..end, has_escapes, scratch, out);
                }
                if let Some(column) = recorded {
                    values.push(RecordedValue { column, place: start..out.len() + end - self.copied });
                }
            }
            begin = end;
            next = names.next(self.line, end).ok_or(Invalid::Json)?;
        }
        if !matches!(next, Next::End { at } if at == self.line.len()) {
            return Err(Invalid::Json);
        }
        if self.decoder.rejects_empty_rows && !self.has_members && begin > 0 {
            return Ok(Err(BadRowReason::NoColumns));
        }
        out.extend_from_slice(&self.line[self.copied..]);
        if let Some(directory) = &self.decoder.directory {
            // The row ends with its closing bracket.
            out.pop();
            out.extend_from_slice(if self.has_members { b",\"directory\":" } else { b"\"directory\":" });
            directory.append(self.person, out);
            out.push(b'}');
        }
        Ok(self.bad.take().map_or(Ok(()), Err))
    }

    /// The person whose id or address is `text`, which is decrypted first if it is encrypted. Without a Column key, nobody.
    fn find_person(&self, column: &str, is_encrypted: bool, text: &[u8], scratch: &mut Scratch) -> Option<Person> {
        let (directory, key) = (self.decoder.directory.as_ref()?, self.decoder.key.as_ref()?);
        if !is_encrypted || is_guid(text) {
            return directory.find(text);
        }
        // If the column is kept, it is decrypted a second time: that costs less than to find its text in the row.
        key.plaintext_of(column, text, scratch).ok()?;
        directory.find(&scratch.plaintext)
    }

    /// Keeps the member that begins at `begin`, with its comma unless it is the first one that is kept.
    fn keep(&mut self, begin: usize) {
        if !self.has_members && begin > 0 {
            // All members before it were omitted, so the text that is not copied yet begins with its comma.
            let comma = self.line[begin..].iter().position(|&byte| byte == b',').unwrap_or_default();
            self.copied = begin + comma + 1;
        }
        self.has_members = true;
    }

    /// Omits a member with the comma before it; the opening bracket before the first member stays.
    fn omit(&mut self, member: Range<usize>, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.line[self.copied..member.start.max(1)]);
        self.copied = member.end;
    }

    /// Converts a string. If it cannot be decrypted, `self.bad` keeps the reason, and the rest of the line is still
    /// checked: that it is not JSON is the more important reason.
    fn convert(
        &mut self,
        name: &str,
        conversion: Conversion,
        string: Range<usize>,
        has_escapes: bool,
        scratch: &mut Scratch,
        out: &mut Vec<u8>,
    ) {
        // Half of a surrogate pair becomes a byte that occurs in no number, boolean or Base64.
        let text = json::unescaped(&self.line[string.clone()], has_escapes).unwrap_or(Cow::Borrowed(b"\xFF"));
        match conversion {
            Conversion::Decrypt if is_guid(&text) => {}
            Conversion::Decrypt => {
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
            Conversion::ToNumber => {
                if text.len() <= json::MAX_NUMBER_CHARS && json::number_end(&text, 0) == Some(text.len()) {
                    self.replace(string, out);
                    out.extend_from_slice(&text);
                }
            }
            Conversion::ToBoolean => {
                let literals = [&b"true"[..], b"false"];
                if let Some(literal) = literals.into_iter().find(|literal| literal.eq_ignore_ascii_case(&text)) {
                    self.replace(string, out);
                    out.extend_from_slice(literal);
                }
            }
        }
    }

    /// Copies the text before `string` and skips `string`; the caller appends the replacement.
    fn replace(&mut self, string: Range<usize>, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.line[self.copied..string.start]);
        self.copied = string.end;
    }
}

#[cfg(test)]
mod tests;
