//! Decodes one row.

use std::{borrow::Cow, ops::Range};

use super::{
    BadRowReason, Decoder, RecordedValue, Rows,
    column::{Scratch, is_guid},
    names::{Names, Next},
    treatment::{Action, Conversion, Treatment},
};
use crate::{
    directory::Person,
    json::scanner::{self as json, Invalid},
};

/// A row that is being copied from its line.
pub(super) struct Row<'a> {
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
    /// The row of `line`, which has no whitespace around it.
    pub(super) fn new(decoder: &'a Decoder, line: &'a [u8]) -> Self {
        Self { decoder, line, copied: 0, has_members: false, person: None, bad: None }
    }

    /// Decodes the line and appends the row to the text of `rows`, or a part of it on failure. The outer error is that
    /// of the JSON, the inner one that of a value.
    pub(super) fn decode(
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
                // The lookup is as early as possible: the processor loads the memory that it touches while the rest of
                // the row is scanned.
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

    /// Finds the person whose id or address is `text`, the value of `column`; decrypts `text` first if it is encrypted.
    /// Returns `None` without a Column key.
    fn find_person(&self, column: &str, is_encrypted: bool, text: &[u8], scratch: &mut Scratch) -> Option<Person> {
        let (directory, key) = (self.decoder.directory.as_ref()?, self.decoder.key.as_ref()?);
        if !is_encrypted || is_guid(text) {
            return directory.find(text);
        }
        // If the column is kept, `convert` decrypts the value again: that costs less than finding its text in the row.
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
