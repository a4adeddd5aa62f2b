//! The names in a row, foreseen from the rows before.
//!
//! Rows of a file have the same columns in the same order, spelled the same. So what stands between two values is compared
//! with what stood there in a row before, and only where it differs is it read as JSON and looked up.

use super::{Column, Columns, json};

/// How many names are foreseen at most, so that rows with ever new ones do not take ever longer.
const FORESEEN: usize = 256;

/// The names in the rows so far.
pub(super) struct Names<'a> {
    columns: &'a Columns,
    first: Option<Name<'a>>,
    others: Vec<Name<'a>>,
    /// Which of `others` comes next in this row.
    next: usize,
}

/// What stands before a value: a bracket or a comma, the name, a colon, and whitespace anywhere.
#[derive(Clone, Copy)]
struct Name<'a> {
    text: &'a [u8],
    column: Column<'a>,
}

/// What comes next in a row.
#[derive(Clone, Copy)]
pub(super) enum Next<'a> {
    /// A value, and its column.
    Value { at: usize, column: Column<'a> },
    /// The end of the object.
    End { at: usize },
}

impl<'a> Names<'a> {
    pub(super) fn new(columns: &'a Columns) -> Self {
        Self { columns, first: None, others: Vec::new(), next: 0 }
    }

    /// What comes first in `row`, or `None` where it is no object.
    pub(super) fn begin(&mut self, row: &'a [u8]) -> Option<Next<'a>> {
        self.next = 0;
        if let Some(first) = self.first.filter(|first| begins_with(row, first.text)) {
            return Some(first.next(row, 0));
        }
        let start = json::space(row, json::behind(row, 0, b'{')?);
        if row.get(start) == Some(&b'}') {
            return Some(Next::End { at: start + 1 });
        }
        let first = self.read(row, 0, start)?;
        self.first = Some(first);
        Some(first.next(row, 0))
    }

    /// What comes in `row` behind a value that ends at `at`.
    pub(super) fn next(&mut self, row: &'a [u8], at: usize) -> Option<Next<'a>> {
        let rest = row.get(at..)?;
        let foreseen = self.others.get(self.next..).unwrap_or_default();
        // A row may lack columns that others have.
        if let Some(skipped) = foreseen.iter().position(|name| begins_with(rest, name.text)) {
            self.next += skipped + 1;
            return Some(foreseen[skipped].next(row, at));
        }
        let end = json::space(row, at);
        if row.get(end) == Some(&b'}') {
            return Some(Next::End { at: end + 1 });
        }
        let name = self.read(row, at, json::space(row, json::behind(row, end, b',')?))?;
        if self.others.len() < FORESEEN {
            self.others.insert(self.next, name);
            self.next += 1;
        }
        Some(name.next(row, at))
    }

    /// Reads what stands from `at` to the next value, where a name begins at `start`.
    fn read(&self, row: &'a [u8], at: usize, start: usize) -> Option<Name<'a>> {
        let name = json::name(row, start)?;
        let spelled = json::text(&row[start..name.end], name.has_escapes);
        let spelled = spelled.as_deref().and_then(|name| std::str::from_utf8(name).ok());
        Some(Name { text: &row[at..name.value], column: self.columns.find(spelled) })
    }
}

impl<'a> Name<'a> {
    /// The value behind this name, which stands at `at` in `row`.
    fn next(self, row: &[u8], at: usize) -> Next<'a> {
        // The same text may be followed by more whitespace than it was before.
        Next::Value { at: json::space(row, at + self.text.len()), column: self.column }
    }
}

/// How much is compared at once.
const WINDOW: usize = 16;

/// The same as `starts_with`, without a call for the few bytes that a name has.
fn begins_with(row: &[u8], text: &[u8]) -> bool {
    let (Some(row), Some(last)) = (row.get(..text.len()), text.len().checked_sub(WINDOW)) else {
        return row.starts_with(text);
    };
    let is_same = |at: usize| row[at..at + WINDOW] == text[at..at + WINDOW];
    // The last window may overlap the one before it.
    (0..last).step_by(WINDOW).all(is_same) && is_same(last)
}
