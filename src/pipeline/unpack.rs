//! The thread that turns the bytes of one file into blocks of lines: it decrypts, inflates and cuts.

use bytes::Bytes;
use futures::StreamExt;
use tokio::runtime::Handle;

use super::{
    FileRules, RowsError,
    worker_pool::{Unwanted, WorkerPool},
};
use crate::{
    keys::AesKey,
    stage::{
        Damage,
        decode::{RowTooLong, Rows},
        layout::{self, HEAD_BYTES, LayoutError},
        lines::{Block, LineBlocks},
        skip::SkipRows,
        text::Text,
        window::Window,
    },
    store::ByteStream,
};

/// The decoders.
pub(super) type Decoders = WorkerPool<Block, Result<Rows, RowTooLong>>;

/// What the thread has of its file.
pub(super) struct Unpacking {
    bytes: ByteStream,
    /// How many bytes were taken.
    at: u64,
    is_at_end: bool,
    /// The first row that is wanted.
    first_row: u64,
    decoders: Decoders,
}

/// Why the thread ends before the file does.
pub(super) enum End {
    Failed(RowsError),
    /// The rows are not wanted any more.
    Unwanted,
}

/// The same, before it is known where the damage is.
enum Stop {
    End(End),
    Damaged(Damage),
}

impl From<Damage> for Stop {
    fn from(damage: Damage) -> Self {
        Self::Damaged(damage)
    }
}

impl From<RowsError> for Stop {
    fn from(error: RowsError) -> Self {
        Self::End(End::Failed(error))
    }
}

impl From<Unwanted> for Stop {
    fn from(_: Unwanted) -> Self {
        Self::End(End::Unwanted)
    }
}

impl Unpacking {
    pub(super) fn new(bytes: ByteStream, first_row: u64, decoders: Decoders) -> Self {
        Self { bytes, at: 0, is_at_end: false, first_row, decoders }
    }

    /// Gives the decoders all blocks from the line of the first row on that is wanted.
    pub(super) fn run(&mut self, key: Option<&AesKey>, rules: &FileRules) -> Result<(), End> {
        self.unpack(key, rules).map_err(|stop| match stop {
            Stop::Damaged(source) => End::Failed(RowsError::Damaged { at: self.at, source }),
            Stop::End(end) => end,
        })
    }

    fn unpack(&mut self, key: Option<&AesKey>, rules: &FileRules) -> Result<(), Stop> {
        let (head, is_whole) = self.head()?;
        let layout = layout::detect(&head, is_whole, key, &rules.layout).map_err(RowsError::Layout)?;
        let mut text = Text::new(layout, key).ok_or(RowsError::Layout(LayoutError::NoKey))?;
        let longest = rules.rows.longest_row;
        let (mut window, mut lines) = (Window::new(), LineBlocks::new(longest));
        let mut past = SkipRows::new(self.first_row, longest);
        let too_long = |RowTooLong { row }| RowsError::RowTooLong { row, longest };
        let mut bytes = Some(Bytes::from(head));
        loop {
            let decoders = &mut self.decoders;
            let mut send = |block| match past.push(block).map_err(too_long)? {
                Some(block) => Ok::<_, Stop>(decoders.push(block)?),
                None => Ok(()),
            };
            let mut cut = |window: &mut Window| lines.push(window, &mut send);
            let Some(chunk) = bytes else {
                text.finish(&mut window, &mut cut)?;
                return lines.finish(&mut window).map_or(Ok(()), send);
            };
            text.push(&chunk, &mut window, &mut cut)?;
            bytes = self.next()?;
        }
    }

    /// The first bytes of the file: all that detection looks at, and whether there are no more.
    fn head(&mut self) -> Result<(Vec<u8>, bool), Stop> {
        let mut head = Vec::new();
        while head.len() < HEAD_BYTES {
            match self.next()? {
                Some(bytes) => head.extend_from_slice(&bytes),
                None => return Ok((head, true)),
            }
        }
        Ok((head, false))
    }

    /// The next bytes of the file; waits for them as long as the rows are wanted.
    fn next(&mut self) -> Result<Option<Bytes>, Stop> {
        if self.is_at_end {
            return Ok(None);
        }
        let (decoders, stream) = (&self.decoders, &mut self.bytes);
        let next = Handle::current().block_on(async {
            tokio::select! {
                biased;
                () = decoders.unwanted() => Err(Unwanted),
                next = stream.next() => Ok(next),
            }
        })?;
        let Some(bytes) = next else {
            self.is_at_end = true;
            return Ok(None);
        };
        let bytes = bytes.map_err(|source| RowsError::Read { at: self.at, source })?;
        self.at += bytes.len() as u64;
        Ok(Some(bytes))
    }
}
