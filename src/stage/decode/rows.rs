//! Decoded rows.

use std::ops::Range;

use super::BadRows;
use crate::buffers::{Buffer, Buffers};

/// The rows of one block.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rows {
    /// The JSON text of the good rows, each followed by a line feed.
    pub text: Buffer,
    /// The end of each good row in `text`, after its line feed.
    pub ends: Buffer<usize>,
    /// The values of the good rows whose places are [recorded](super::RowRules::records_values), in the order of
    /// `text`.
    pub values: Buffer<RecordedValue>,
    /// The bad rows.
    pub bad: BadRows,
}

/// A value of a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedValue {
    /// The number of the column in [`RowRules::columns`](super::RowRules::columns).
    pub column: usize,
    /// The place of the value's JSON in [`Rows::text`].
    pub place: Range<usize>,
}

/// The most rows and recorded values of a block whose memory is reused. Usual blocks have a few thousand values.
const MAX_REUSED: usize = 1 << 14;

/// The memory of [`Rows`], reused from block to block.
pub(super) struct RowsBuffers {
    texts: Buffers,
    ends: Buffers<usize>,
    values: Buffers<RecordedValue>,
}

impl Default for RowsBuffers {
    fn default() -> Self {
        Self { texts: Buffers::default(), ends: Buffers::up_to(MAX_REUSED), values: Buffers::up_to(MAX_REUSED) }
    }
}

impl RowsBuffers {
    /// No rows, with room for `text_bytes` bytes of text.
    pub(super) fn take(&self, text_bytes: usize) -> Rows {
        Rows {
            text: self.texts.take(text_bytes),
            ends: self.ends.take(0),
            values: self.values.take(0),
            bad: BadRows::default(),
        }
    }
}

impl Rows {
    /// The JSON text of each good row, in order.
    pub fn good(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(self.ends.iter()).map(|(start, &end)| &self.text[start..end - 1])
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
