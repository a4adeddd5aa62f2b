//! The thread that decrypts and decompresses one file and cuts its text into blocks of lines.

use bytes::Bytes;
use futures::StreamExt;
use tokio::runtime::Handle;

use super::{
    FileRules, RowsError,
    worker_pool::{ConsumerGone, WorkerPool},
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

/// The worker pool that decodes blocks.
pub(super) type Decoders = WorkerPool<Block, Result<Rows, RowTooLong>>;

/// The state of the thread.
pub(super) struct Unpacking {
    bytes: ByteStream,
    /// How many bytes have been read.
    at: u64,
    is_at_end: bool,
    /// The first row to decode; rows before it are skipped.
    first_row: u64,
    decoders: Decoders,
}

/// Why the thread stops before the end of the file.
pub(super) enum End {
    /// The file cannot be read or unpacked.
    Failed(RowsError),
    /// The consumer of the rows is gone.
    ConsumerGone,
}

/// An [`End`], or damage whose position is still to be added.
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

impl From<ConsumerGone> for Stop {
    fn from(_: ConsumerGone) -> Self {
        Self::End(End::ConsumerGone)
    }
}

impl Unpacking {
    pub(super) fn new(bytes: ByteStream, first_row: u64, decoders: Decoders) -> Self {
        Self { bytes, at: 0, is_at_end: false, first_row, decoders }
    }

    /// Sends the decoders all blocks from the first row on.
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
        let longest = rules.rows.max_row_bytes;
        let (mut window, mut lines) = (Window::new(), LineBlocks::new(longest));
        let mut past = SkipRows::new(self.first_row, longest);
        let too_long = |RowTooLong { row }| RowsError::RowTooLong { row, max_bytes: longest };
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

    /// Reads the bytes that layout detection needs. The second value is true if they are the whole file.
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

    /// Reads the next bytes of the file; `None` at its end. Stops waiting if the consumer is gone.
    fn next(&mut self) -> Result<Option<Bytes>, Stop> {
        if self.is_at_end {
            return Ok(None);
        }
        let (decoders, stream) = (&self.decoders, &mut self.bytes);
        let next = Handle::current().block_on(async {
            tokio::select! {
                biased;
                () = decoders.consumer_gone() => Err(ConsumerGone),
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
