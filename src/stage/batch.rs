//! Rows cut into batches. Knows numbers and sizes of rows, and nothing of what they say or where they go.

use std::num::NonZeroUsize;

use super::decode::Rows;
use crate::{
    buffers::Buffers,
    message::{BadRow, RowsSize, RowsText},
};

/// Where a batch ends: whichever comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchLimits {
    /// The most rows of a batch, bad ones counted.
    pub rows: NonZeroUsize,
    /// The most bytes of row text in a batch; a single row may have more.
    pub bytes: NonZeroUsize,
    /// The most bytes of a batch's message, if the sink has a limit; a single row may have more where another sink takes it.
    pub message: Option<NonZeroUsize>,
}

impl BatchLimits {
    /// These limits, and those of a sink whose messages have no more than `largest` bytes.
    #[must_use]
    pub fn within(self, largest: Option<NonZeroUsize>) -> Self {
        let message = self.message.into_iter().chain(largest).min();
        Self { message, ..self }
    }
}

/// Consecutive rows of one file: the unit of delivery.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    /// The number of its first row.
    pub first_row: u64,
    /// The number behind its last row.
    pub end_row: u64,
    /// The text of its good rows.
    pub text: RowsText,
    /// Its bad rows.
    pub bad_rows: Vec<BadRow>,
}

impl Batch {
    fn begin(row: u64, text: RowsText) -> Self {
        Self { first_row: row, end_row: row, text, ..Self::default() }
    }

    /// How many of its rows are good.
    pub fn good_rows(&self) -> u64 {
        self.end_row - self.first_row - self.bad_rows.len() as u64
    }

    fn is_empty(&self) -> bool {
        self.end_row == self.first_row
    }
}

/// A row that no message has room for, not even alone. The rows before it are in batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("has a row that is too large for a message: row {row} takes {bytes} bytes, and there is room for {room}")]
pub struct RowTooLarge {
    /// Its number within the file.
    pub row: u64,
    /// How many bytes of a message it takes.
    pub bytes: usize,
    /// How many bytes of a message there are for rows.
    pub room: usize,
}

/// Cuts rows into batches. The same rows are cut the same way whatever blocks they arrive in.
pub struct Batches {
    limits: BatchLimits,
    /// How many bytes of a message the rows of a batch may take.
    room: Option<usize>,
    /// How many a single row may take.
    most: Option<usize>,
    /// How many bytes the longest head of a message has, but for its bad rows.
    head: usize,
    buffers: Buffers,
    batch: Batch,
    /// How many bytes the entries of the batch's bad rows take.
    bad_bytes: usize,
}

/// What a row adds to its batch.
enum Row<'a> {
    Good(&'a [u8]),
    Bad(BadRow),
}

impl Batches {
    /// Begins with the row `first_row`. A message has `around` bytes around its rows, and the sink takes none that has more
    /// than `largest`.
    pub fn new(limits: BatchLimits, first_row: u64, around: usize, largest: Option<NonZeroUsize>) -> Self {
        let limits = limits.within(largest);
        let [room, most] = [limits.message, largest].map(|limit| limit.map(|bytes| bytes.get().saturating_sub(around)));
        let head = around + RowsSize::of(u64::MAX..u64::MAX).bytes();
        let buffers = Buffers::default();
        let batch = Batch::begin(first_row, RowsText::with_room(head, buffers.take(head)));
        Self { limits, room, most, head, buffers, batch, bad_bytes: 0 }
    }

    /// Takes the rows of the next block; puts the batches that they complete into `done`. A row that is too large ends
    /// the file.
    pub fn push(&mut self, rows: &Rows, done: &mut Vec<Batch>) -> Result<(), RowTooLarge> {
        let mut bad = rows.bad.iter().peekable();
        let mut start = 0;
        let mut ends = rows.ends.iter();
        for number in 0..rows.count() {
            if let Some((_, reason)) = bad.next_if(|(row, _)| *row == number) {
                let row = self.batch.end_row;
                self.take(Row::Bad(BadRow { row, reason: reason.to_string() }), done)?;
            } else if let Some(&end) = ends.next() {
                self.take(Row::Good(&rows.text[start..end - 1]), done)?;
                start = end;
            }
        }
        Ok(())
    }

    /// The number behind the last row taken.
    pub fn end_row(&self) -> u64 {
        self.batch.end_row
    }

    /// Ends the file; returns the last batch, if there are rows left.
    pub fn finish(self) -> Option<Batch> {
        (!self.batch.is_empty()).then_some(self.batch)
    }

    fn take(&mut self, row: Row<'_>, done: &mut Vec<Batch>) -> Result<(), RowTooLarge> {
        if !self.has_room_for(&row) && !self.batch.is_empty() {
            done.push(self.cut());
        }
        if let Some(room) = self.most {
            let bytes = self.message_bytes_with(&row);
            if bytes > room {
                return Err(RowTooLarge { row: self.batch.end_row, bytes, room });
            }
        }
        match row {
            Row::Good(row) => self.batch.text.push(row),
            Row::Bad(row) => {
                self.bad_bytes += row.entry();
                self.batch.bad_rows.push(row);
            }
        }
        self.batch.end_row += 1;
        if self.batch.end_row - self.batch.first_row >= self.limits.rows.get() as u64 {
            done.push(self.cut());
        }
        Ok(())
    }

    fn has_room_for(&self, row: &Row<'_>) -> bool {
        // Bad rows have no text, and a single row may have more than there should be.
        let has_text = matches!(row, Row::Good(_)) && !self.batch.text.is_empty();
        let fits_text = !has_text || self.text_with(row) <= self.limits.bytes.get();
        fits_text && self.room.is_none_or(|room| self.message_bytes_with(row) <= room)
    }

    fn text_with(&self, row: &Row<'_>) -> usize {
        let text = self.batch.text.len();
        match row {
            Row::Good(row) if text > 0 => text + 1 + row.len(),
            Row::Good(row) => row.len(),
            Row::Bad(_) => text,
        }
    }

    fn message_bytes_with(&self, row: &Row<'_>) -> usize {
        let bad = match row {
            Row::Good(_) => self.bad_bytes,
            Row::Bad(row) => self.bad_bytes + row.entry(),
        };
        RowsSize::of(self.batch.first_row..self.batch.end_row + 1).text(self.text_with(row)).bad(bad).bytes()
    }

    fn cut(&mut self) -> Batch {
        self.bad_bytes = 0;
        // Batches of a file are of much the same size.
        let buffer = self.buffers.take(self.head + self.batch.text.len());
        let next = Batch::begin(self.batch.end_row, RowsText::with_room(self.head, buffer));
        std::mem::replace(&mut self.batch, next)
    }
}

#[cfg(test)]
mod tests;
