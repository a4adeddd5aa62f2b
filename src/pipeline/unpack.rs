//! The thread that decrypts and decompresses one file and cuts its text into blocks of lines.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use inflate::PIECE_BYTES;
use tokio::runtime::Handle;

use super::{
    FileRules, RowsError,
    worker_pool::{ConsumerGone, WorkerPool},
};
use crate::{
    keys::AesKey,
    stage::{
        Damage,
        decode::{Decoder, RowRules, RowTooLong},
        detect::{HEAD_BYTES, LayoutError, detect_layout},
        layers::RemoveLayers,
        lines::{BLOCK_BYTES, Block, LineBlocks},
        skip::{SkipRows, TooFewRows},
    },
    store::ByteStream,
};

/// The bytes of text that a block may have for each permit of the worker pool: those of a block of short lines.
const PERMIT_BYTES: usize = BLOCK_BYTES + PIECE_BYTES;

/// The worker pool that decodes blocks.
pub(super) type Decoders<R> = WorkerPool<Block, R>;

/// The state of the thread.
pub(super) struct Unpacking<R> {
    bytes: ByteStream,
    /// How many bytes have been read.
    at: u64,
    is_at_end: bool,
    /// The first row to decode; rows before it are skipped.
    first_row: u64,
    /// The decoder that the pool uses; `None` once it has examined the first block.
    undecided: Option<Arc<Decoder>>,
    /// How many lines a block may have.
    max_lines: usize,
    /// How many bytes each block may need for a long directory entry, besides its lines.
    long_entry_bytes: usize,
    decoders: Decoders<R>,
}

/// Why the thread stops before the end of the file.
pub(super) enum End {
    /// The file cannot be read or unpacked.
    Failed(RowsError),
    /// The consumer of the rows is gone.
    ConsumerGone,
}

/// An [`End`], or an error whose position or limit is still to be added.
enum Stop {
    End(End),
    Damaged(Damage),
    RowTooLong(RowTooLong),
}

impl From<Damage> for Stop {
    fn from(damage: Damage) -> Self {
        Self::Damaged(damage)
    }
}

impl From<RowTooLong> for Stop {
    fn from(error: RowTooLong) -> Self {
        Self::RowTooLong(error)
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

impl<R: Send + 'static> Unpacking<R> {
    /// The thread for the file `bytes`. The worker pool `decoders` uses `decoder`.
    pub(super) fn new(bytes: ByteStream, first_row: u64, decoder: Arc<Decoder>, decoders: Decoders<R>) -> Self {
        let (max_lines, long_entry_bytes) = (decoder.max_lines(), decoder.long_entry_bytes());
        let undecided = Some(decoder);
        Self { bytes, at: 0, is_at_end: false, first_row, undecided, max_lines, long_entry_bytes, decoders }
    }

    /// Sends the decoders all blocks from the first row on.
    pub(super) fn run(&mut self, key: Option<&AesKey>, rules: &FileRules) -> Result<(), End> {
        self.unpack(key, rules).map_err(|stop| match stop {
            Stop::Damaged(source) => End::Failed(RowsError::Damaged { at: self.at, source }),
            Stop::RowTooLong(RowTooLong { row }) => {
                End::Failed(RowsError::RowTooLong { row, max_bytes: rules.rows.max_row_bytes })
            }
            Stop::End(end) => end,
        })
    }

    /// Reads the file to its end.
    fn unpack(&mut self, key: Option<&AesKey>, rules: &FileRules) -> Result<(), Stop> {
        let (head, is_whole_file) = self.head()?;
        let layout = detect_layout(&head, is_whole_file, key, &rules.layout).map_err(RowsError::Layout)?;
        let mut layers = RemoveLayers::new(layout, key).ok_or(RowsError::Layout(LayoutError::NoKey))?;
        let mut lines = LineBlocks::new(rules.rows.max_row_bytes);
        let mut skip = SkipRows::new(self.first_row, rules.rows.max_row_bytes);

        let mut bytes = Some(Bytes::from(head));
        while let Some(chunk) = bytes {
            let mut input = &chunk[..];
            while layers.push(&mut input, lines.window())? > 0 {
                self.send_blocks(&mut lines, &mut skip, &rules.rows)?;
            }
            bytes = self.next()?;
        }
        while layers.finish(lines.window())? > 0 {
            self.send_blocks(&mut lines, &mut skip, &rules.rows)?;
        }
        if let Some(block) = lines.finish() {
            self.send(block, &mut skip, &rules.rows)?;
        }
        skip.finish().map_err(|TooFewRows { rows }| RowsError::TooFewRows { rows, first_row: self.first_row })?;
        Ok(())
    }

    /// Sends the decoders the complete blocks.
    fn send_blocks(&mut self, lines: &mut LineBlocks, skip: &mut SkipRows, rules: &RowRules) -> Result<(), Stop> {
        while let Some(block) = lines.next_block() {
            self.send(block, skip, rules)?;
        }
        Ok(())
    }

    /// Sends the decoders a block without the rows to skip. Waits until the worker pool has permits.
    ///
    /// The column cipher is detected before rows are skipped, so a resumed run detects the same cipher as the first
    /// run.
    fn send(&mut self, block: Block, skip: &mut SkipRows, rules: &RowRules) -> Result<(), Stop> {
        if let Some(decoder) = self.undecided.take() {
            decoder.check_first_columns(&block, rules).map_err(RowsError::MissingColumns)?;
            decoder.detect_column_cipher(&block);
        }
        for block in skip.push(block)?.into_iter().flat_map(|block| block.split(self.max_lines)) {
            let permits = (block.text().len() + self.long_entry_bytes).div_ceil(PERMIT_BYTES);
            self.decoders.push(block, permits)?;
        }
        Ok(())
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
