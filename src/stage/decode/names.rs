//! The names of the members of a row, predicted from earlier rows.
//!
//! The rows of a file have the same columns in the same order, with the same spelling. So the text between two values
//! is compared with the text that was there in an earlier row. Only where it differs, it is parsed as JSON and the
//! column is looked up.

use super::treatment::{Column, Columns};
use crate::json::scanner as json;

/// The maximum number of names that are predicted. It bounds the time per row if every row has other names.
const MAX_PREDICTED: usize = 256;

/// The names in the rows so far.
pub(super) struct Names<'a> {
    columns: &'a Columns,
    first: Option<Name<'a>>,
    others: Vec<Name<'a>>,
    /// The index in `others` of the name that is expected next.
    next: usize,
}

/// The text before a value: a bracket or a comma, the name, a colon, and any whitespace between them.
#[derive(Clone, Copy)]
struct Name<'a> {
    text: &'a [u8],
    column: Column<'a>,
}

/// The next part of a row.
#[derive(Clone, Copy)]
pub(super) enum Next<'a> {
    /// A value at the position `at`.
    Value { at: usize, column: Column<'a> },
    /// The end of the object; `at` is after its bracket.
    End { at: usize },
}

impl<'a> Names<'a> {
    pub(super) fn new(columns: &'a Columns) -> Self {
        Self { columns, first: None, others: Vec::new(), next: 0 }
    }

    /// Begins a row. Returns its first part, or `None` if the row is not an object.
    pub(super) fn begin(&mut self, row: &'a [u8]) -> Option<Next<'a>> {
        self.next = 0;
        if let Some(first) = self.first.filter(|first| begins_with(row, first.text)) {
            return Some(first.next(row, 0));
        }
        let start = json::space_end(row, json::after(row, 0, b'{')?);
        if row.get(start) == Some(&b'}') {
            return Some(Next::End { at: start + 1 });
        }
        let first = self.parse(row, 0, start)?;
        self.first = Some(first);
        Some(first.next(row, 0))
    }

    /// Returns the part of the row after a value that ends at `at`, or `None` if the JSON is invalid.
    pub(super) fn next(&mut self, row: &'a [u8], at: usize) -> Option<Next<'a>> {
        let rest = row.get(at..)?;
        let predicted = self.others.get(self.next..).unwrap_or_default();
        // A row may lack columns that earlier rows have.
        if let Some(missing) = predicted.iter().position(|name| begins_with(rest, name.text)) {
            self.next += missing + 1;
            return Some(predicted[missing].next(row, at));
        }
        let end = json::space_end(row, at);
        if row.get(end) == Some(&b'}') {
            return Some(Next::End { at: end + 1 });
        }
        let name = self.parse(row, at, json::space_end(row, json::after(row, end, b',')?))?;
        if self.others.len() < MAX_PREDICTED {
            self.others.insert(self.next, name);
            self.next += 1;
        }
        Some(name.next(row, at))
    }

    /// Parses the text from `at` to the next value. Its name begins at `start`.
    fn parse(&self, row: &'a [u8], at: usize, start: usize) -> Option<Name<'a>> {
        let name = json::name(row, start)?;
        let unescaped = json::unescaped(&row[start..name.end], name.has_escapes);
        let unescaped = unescaped.as_deref().and_then(|name| std::str::from_utf8(name).ok());
        if let Some(name) = unescaped {
            self.columns.checked.see(name);
        }
        Some(Name { text: &row[at..name.value], column: self.columns.find(unescaped) })
    }
}

impl<'a> Name<'a> {
    /// The value after this name, whose text is at `at` in `row`.
    fn next(self, row: &[u8], at: usize) -> Next<'a> {
        // This row may have more whitespace before the value than the row that the name is from.
        Next::Value { at: json::space_end(row, at + self.text.len()), column: self.column }
    }
}

/// How many bytes are compared at once.
const WINDOW: usize = 16;

/// Like `starts_with`, but without a function call for texts as short as names.
fn begins_with(row: &[u8], text: &[u8]) -> bool {
    let (Some(row), Some(last)) = (row.get(..text.len()), text.len().checked_sub(WINDOW)) else {
        return row.starts_with(text);
    };
    let is_same = |at: usize| row[at..at + WINDOW] == text[at..at + WINDOW];
    // The last window may overlap the one before it.
    (0..last).step_by(WINDOW).all(is_same) && is_same(last)
}
