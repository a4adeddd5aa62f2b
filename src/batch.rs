//! Cuts decoded rows into batches, the unit of delivery.
//!
//! Where a batch ends depends on the rows and the limits alone, never on the blocks in which the rows arrive. So a file
//! that is read again gives the same batches, and its messages have the same ids.

use std::num::NonZeroUsize;

use crate::{
    buffers::Buffers,
    message::{BadRow, RowsSize, RowsText},
    stage::decode::Rows,
    verdict::{Reason, Verdict},
};

/// The limits of a batch. It ends at the first one that it reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchLimits {
    /// The maximum number of rows, bad rows included.
    pub rows: NonZeroUsize,
    /// The maximum size of the text of the rows, in bytes. A single row may be larger.
    pub bytes: NonZeroUsize,
    /// The maximum size of the batch's message, in bytes, if the sink has a limit. A single row may be larger if the
    /// file is continued with a sink that has a higher limit.
    pub message: Option<NonZeroUsize>,
}

impl BatchLimits {
    /// These limits, with messages of at most `max_message` bytes.
    #[must_use]
    pub fn within(self, max_message: Option<NonZeroUsize>) -> Self {
        let message = self.message.into_iter().chain(max_message).min();
        Self { message, ..self }
    }
}

/// Consecutive rows of one file, `first_row..end_row`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    /// The number of the first row.
    pub first_row: u64,
    /// One more than the number of the last row.
    pub end_row: u64,
    /// The JSON text of the good rows.
    pub text: RowsText,
    /// The bad rows.
    pub bad_rows: Vec<BadRow>,
}

impl Batch {
    fn new(first_row: u64, text: RowsText) -> Self {
        Self { first_row, end_row: first_row, text, bad_rows: Vec::new() }
    }

    fn rows(&self) -> u64 {
        self.end_row - self.first_row
    }
}

/// Why the batches of a file end before its last row. The batches that were complete before the error are delivered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// The file has more bad rows than `BAD_ROWS_ALLOWED`. It is set aside.
    #[error("has more than {allowed} bad rows (`BAD_ROWS_ALLOWED`): row {row} {reason}")]
    TooManyBadRows {
        /// The number of the first bad row beyond the limit.
        row: u64,
        /// Why that row is bad.
        reason: String,
        /// How many bad rows are allowed.
        allowed: u64,
    },
    /// A row does not fit into a message of the sink, even alone. The file is set aside.
    #[error("has a row that is too large for a message: row {row} takes {bytes} bytes, and there is room for {room}")]
    RowTooLarge {
        /// The number of the row.
        row: u64,
        /// How many bytes of the message the row takes.
        bytes: usize,
        /// How many bytes of the message are available for rows.
        room: usize,
    },
}

impl BatchError {
    /// The verdict on the file.
    pub fn verdict(&self) -> Verdict {
        match self {
            Self::TooManyBadRows { .. } => Verdict::SetAside(Reason::BadRow),
            Self::RowTooLarge { .. } => Verdict::SetAside(Reason::Refused),
        }
    }
}

/// Cuts the rows of one file into batches. Does no I/O.
pub struct Batches {
    limits: BatchLimits,
    /// How many bytes of a message are available for the rows of a batch.
    batch_room: Option<usize>,
    /// How many bytes of a message are available for a single row.
    row_room: Option<usize>,
    /// The size of the longest possible head of a message without bad rows: reserved in front of each batch's text.
    head_bytes: usize,
    bad_rows_allowed: u64,
    /// How many bad rows the file had so far.
    bad_rows: u64,
    buffers: Buffers,
    /// The unfinished batch.
    batch: Batch,
    /// The size of the unfinished batch's bad rows in its message.
    bad_bytes: usize,
}

/// A row that is about to be added to a batch.
enum Row<'a> {
    Good(&'a [u8]),
    Bad(BadRow),
}

/// How many rows of a block have been added to batches.
#[derive(Debug, Default)]
pub struct Position {
    good: usize,
    bad: usize,
    /// The end of the last good row in the text of the block.
    text: usize,
}

impl Batches {
    /// Begins at row `first_row`. A message has `envelope` bytes in addition to its rows; the sink accepts messages of
    /// at most `max_message` bytes. Any number of bad rows is allowed.
    pub fn new(limits: BatchLimits, first_row: u64, envelope: usize, max_message: Option<NonZeroUsize>) -> Self {
        let limits = limits.within(max_message);
        let room = |max: NonZeroUsize| max.get().saturating_sub(envelope);
        let longest = RowsSize { first_row: u64::MAX, end_row: u64::MAX, text_bytes: 0, bad_bytes: 0 };
        let head_bytes = envelope + longest.bytes();
        let buffers = Buffers::default();
        Self {
            limits,
            batch_room: limits.message.map(room),
            row_room: max_message.map(room),
            head_bytes,
            bad_rows_allowed: u64::MAX,
            bad_rows: 0,
            batch: Batch::new(first_row, RowsText::new(head_bytes, buffers.take(head_bytes))),
            buffers,
            bad_bytes: 0,
        }
    }

    /// Allows the file `allowed` bad rows, of which it had `bad_rows` before `first_row`.
    #[must_use]
    pub fn allow_bad_rows(self, allowed: u64, bad_rows: u64) -> Self {
        Self { bad_rows_allowed: allowed, bad_rows, ..self }
    }

    /// Adds the rows of the next block; appends the batches that they complete to `complete`. Stops at the first error.
    pub fn push(&mut self, rows: &Rows, complete: &mut Vec<Batch>) -> Result<(), BatchError> {
        let mut position = Position::default();
        while self.push_until_complete(rows, &mut position, complete)? {}
        Ok(())
    }

    /// Adds the rows of a block from `position` on, until they complete a batch, which is appended to `complete`. Moves
    /// `position` after these rows. Returns false once all rows of the block are added.
    ///
    /// A block of very short rows has hundreds of batches, so they are not all cut at once.
    pub fn push_until_complete(
        &mut self,
        rows: &Rows,
        position: &mut Position,
        complete: &mut Vec<Batch>,
    ) -> Result<bool, BatchError> {
        let complete_before = complete.len();
        while complete.len() == complete_before {
            let number = (position.good + position.bad) as u64;
            if let Some((_, reason)) = rows.bad.get(position.bad).filter(|(row, _)| *row == number) {
                position.bad += 1;
                let row = self.batch.end_row;
                self.add(Row::Bad(BadRow { row, reason: reason.to_string() }), complete)?;
            } else if let Some(&end) = rows.ends.get(position.good) {
                let start = position.text;
                (position.good, position.text) = (position.good + 1, end);
                self.add(Row::Good(&rows.text[start..end - 1]), complete)?;
            } else {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Ends the file; returns the last batch, if it has any rows.
    pub fn finish(self) -> Option<Batch> {
        (self.batch.rows() > 0).then_some(self.batch)
    }

    fn add(&mut self, row: Row<'_>, complete: &mut Vec<Batch>) -> Result<(), BatchError> {
        if self.batch.rows() > 0 && !self.has_room_for(&row) {
            complete.push(self.cut());
        }
        if let Row::Bad(bad) = &row {
            self.count_bad_row(bad)?;
        }
        if let Some(room) = self.row_room {
            let bytes = self.message_bytes_with(&row);
            if bytes > room {
                return Err(BatchError::RowTooLarge { row: self.batch.end_row, bytes, room });
            }
        }
        match row {
            Row::Good(text) => self.batch.text.push(text),
            Row::Bad(bad) => {
                self.bad_bytes += bad.entry_bytes();
                self.batch.bad_rows.push(bad);
            }
        }
        self.batch.end_row += 1;
        if self.batch.rows() >= self.limits.rows.get() as u64 {
            complete.push(self.cut());
        }
        Ok(())
    }

    fn count_bad_row(&mut self, bad: &BadRow) -> Result<(), BatchError> {
        self.bad_rows += 1;
        if self.bad_rows <= self.bad_rows_allowed {
            return Ok(());
        }
        let (row, reason, allowed) = (bad.row, bad.reason.clone(), self.bad_rows_allowed);
        Err(BatchError::TooManyBadRows { row, reason, allowed })
    }

    fn has_room_for(&self, row: &Row<'_>) -> bool {
        // `limits.bytes` limits text only: it applies neither to a bad row nor to the first good row of a batch.
        let adds_text = matches!(row, Row::Good(_)) && !self.batch.text.is_empty();
        let fits_text = !adds_text || self.text_bytes_with(row) <= self.limits.bytes.get();
        fits_text && self.batch_room.is_none_or(|room| self.message_bytes_with(row) <= room)
    }

    /// The size of the unfinished batch's text with `row` added.
    fn text_bytes_with(&self, row: &Row<'_>) -> usize {
        let text = self.batch.text.len();
        match row {
            Row::Good(row) if text > 0 => text + 1 + row.len(),
            Row::Good(row) => row.len(),
            Row::Bad(_) => text,
        }
    }

    /// How many bytes of a message the unfinished batch takes with `row` added.
    fn message_bytes_with(&self, row: &Row<'_>) -> usize {
        let bad_bytes = match row {
            Row::Good(_) => self.bad_bytes,
            Row::Bad(row) => self.bad_bytes + row.entry_bytes(),
        };
        let (first_row, end_row) = (self.batch.first_row, self.batch.end_row + 1);
        RowsSize { first_row, end_row, text_bytes: self.text_bytes_with(row), bad_bytes }.bytes()
    }

    /// Takes the unfinished batch and begins the next one.
    fn cut(&mut self) -> Batch {
        self.bad_bytes = 0;
        // The batches of a file have similar sizes, so the next buffer rarely has to grow.
        let buffer = self.buffers.take(self.head_bytes + self.batch.text.len());
        let next = Batch::new(self.batch.end_row, RowsText::new(self.head_bytes, buffer));
        std::mem::replace(&mut self.batch, next)
    }
}

#[cfg(test)]
mod tests;
