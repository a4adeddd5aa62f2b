//! From the bytes of a file to its rows: the stages, joined by streams.
//!
//! Bytes are pulled. A reader fetches ranges ahead, one thread decrypts, inflates and cuts lines, several decode blocks;
//! each waits when the next one has enough. So what one file has in memory does not depend on its size:
//!
//! ```text
//!   range_bytes x (in_flight + READ_AHEAD + 1)         ReadWindow: ranges on their way, waiting, and being decrypted
//! + 0.3 MiB                                            inflate's window and tables
//! + 0.3 MiB x (BLOCKS_AHEAD + 2 + 2 x decoders)        blocks: filled, waiting, being decoded; and their rows
//! + message x (in_flight + 1)                          Limits: batches on their way, each a message; none with `decode`
//! ```
//!
//! A block is [`BLOCK_BYTES`](crate::stage::lines::BLOCK_BYTES) of whole lines, or one line of up to `MAX_ROW_BYTES`; a message
//! is `BATCH_BYTES` of rows, or one row. That is 10 MiB with what is set by default on two cores, and some 8 MiB of messages.

use std::{num::NonZeroUsize, sync::Arc};

use bytes::Bytes;
use futures::{Stream, StreamExt, stream::BoxStream};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use crate::{
    keys::Keys,
    stage::{
        Damage,
        decode::{Decoder, RowRules, RowTooLong, Rows},
        layout::{self, HEAD_BYTES, LayoutError, LayoutRules},
        lines::{Block, LineBlocks},
        past::ReadPast,
        text::Text,
        trace,
    },
    store::{ByteStream, StoreError},
    verdict::{Reason, Verdict},
};

/// How many chunks of the store's wait for the thread that decrypts.
const READ_AHEAD: usize = 2;

/// How many blocks of lines wait for a decoder.
const BLOCKS_AHEAD: usize = 4;

/// How a file is read: the settings that its bytes are taken by.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FileRules {
    /// `FILE_LAYOUT`, `FILE_CIPHER`, `ALLOW_PLAINTEXT`.
    pub layout: LayoutRules,
    /// `ENCRYPTED_COLUMNS`, `COLUMN_CIPHER`, `ROW_VALUES`, `MAX_ROW_BYTES`.
    pub rows: RowRules,
}

/// Why there are no more rows.
#[derive(Debug, thiserror::Error)]
pub enum RowsError {
    /// The store did not answer. The file is tried again from its checkpoint.
    #[error("cannot be read after byte {at}")]
    Read {
        /// How many bytes were read.
        at: u64,
        /// What the store said.
        source: StoreError,
    },
    /// No layout fits. The file is set aside.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The bytes are not what was sent. The file is set aside.
    #[error("is damaged at or before byte {at}")]
    Damaged {
        /// How many bytes were read.
        at: u64,
        /// What is wrong with them.
        source: Damage,
    },
    /// A line is too long. The file is set aside.
    #[error("has a line of more than {longest} bytes (`MAX_ROW_BYTES`) at row {row}")]
    RowTooLong {
        /// The number of the row within the file.
        row: u64,
        /// What is allowed.
        longest: usize,
    },
    /// A worker thread panicked: a defect of vivadrop. The file is tried again; the log says where it happened.
    #[error("could not be decoded: a worker thread panicked, which is a defect of vivadrop")]
    Panicked,
}

impl RowsError {
    /// What the failure means for the file.
    pub fn verdict(&self) -> Verdict {
        match self {
            Self::Read { source, .. } => source.verdict(),
            Self::Layout(source) => source.verdict(),
            Self::Damaged { .. } => Verdict::SetAside(Reason::Damaged),
            Self::RowTooLong { .. } => Verdict::SetAside(Reason::RowTooLong),
            Self::Panicked => Verdict::TryAgain,
        }
    }
}

/// The rows of a file from `first_row` on, block by block, in order. Row numbers within a block are the block's own.
pub fn rows(
    bytes: ByteStream,
    first_row: u64,
    keys: &Keys,
    rules: &FileRules,
    decoders: NonZeroUsize,
) -> BoxStream<'static, Result<Rows, RowsError>> {
    let decoder = Arc::new(Decoder::new(&rules.rows, keys.column.as_deref()));
    let longest = rules.rows.longest_row;
    let mut row = first_row;
    blocks(bytes, first_row, keys, rules)
        // Decoding is CPU work: some blocks at a time on the blocking pool, back in order.
        .map(move |block| {
            let decoder = Arc::clone(&decoder);
            on_worker(move || {
                let block = block?;
                Ok::<_, RowsError>(trace::leaving_none(|| decoder.rows(&block)))
            })
        })
        .buffered(decoders.get())
        .map(move |decoded| match decoded?? {
            Ok(rows) => {
                row += rows.count();
                Ok(rows)
            }
            Err(RowTooLong { row: within }) => Err(RowsError::RowTooLong { row: row + within, longest }),
        })
        .boxed()
}

/// The text of a file from the line of `first_row` on, in blocks of whole lines.
fn blocks(
    bytes: ByteStream,
    first_row: u64,
    keys: &Keys,
    rules: &FileRules,
) -> impl Stream<Item = Result<Block, RowsError>> + Send + use<> {
    let (byte_sender, byte_receiver) = mpsc::channel(READ_AHEAD);
    let (block_sender, mut block_receiver) = mpsc::channel(BLOCKS_AHEAD);
    let reading = AbortOnDropHandle::new(tokio::spawn(forward(bytes, byte_sender)));
    let mut unpacking =
        Unpacking { bytes: byte_receiver, at: 0, is_at_end: false, first_row, blocks: block_sender.clone() };
    let (key, rules) = (keys.file.clone(), rules.clone());
    let worker = tokio::task::spawn_blocking(move || trace::leaving_none(|| unpacking.run(key.as_deref(), &rules)));

    // The worker's own channel closes when it ends; how it ended is the last item.
    drop(block_sender);
    let ended = futures::stream::once(worker).filter_map(async |end| match end {
        Ok(Ok(())) => None,
        Ok(Err(Stop::Failed(error))) => Some(Err(error)),
        // Whoever sees this listens: so it was a neighbour that died, and the file is not at its end.
        Ok(Err(Stop::NobodyListens | Stop::Damaged(_))) | Err(_) => Some(Err(RowsError::Panicked)),
    });
    futures::stream::poll_fn(move |context| {
        let _reads_while_polled = &reading;
        block_receiver.poll_recv(context)
    })
    .map(Ok)
    .chain(ended)
}

/// What the thread is sent: bytes, an error, or `None` at the end of the file. A channel that closes without a `None` says
/// that the file is not wanted any more: that must never look like a shorter file.
type Chunk = Option<Result<Bytes, StoreError>>;

async fn forward(mut bytes: ByteStream, to: mpsc::Sender<Chunk>) {
    while let Some(chunk) = bytes.next().await {
        if to.send(Some(chunk)).await.is_err() {
            return;
        }
    }
    // Where nobody listens any more, nobody needs to know.
    let _nobody_listens = to.send(None).await;
}

/// The thread that turns the bytes of one file into blocks.
struct Unpacking {
    bytes: mpsc::Receiver<Chunk>,
    /// How many bytes were taken.
    at: u64,
    is_at_end: bool,
    /// The first row that is wanted.
    first_row: u64,
    blocks: mpsc::Sender<Block>,
}

/// Why the thread ends before the file does.
enum Stop {
    Failed(RowsError),
    /// The rows are not wanted any more.
    NobodyListens,
    Damaged(Damage),
}

impl From<Damage> for Stop {
    fn from(damage: Damage) -> Self {
        Self::Damaged(damage)
    }
}

impl Unpacking {
    fn run(&mut self, key: Option<&crate::keys::AesKey>, rules: &FileRules) -> Result<(), Stop> {
        self.unpack(key, rules).map_err(|stop| match stop {
            Stop::Damaged(source) => Stop::Failed(RowsError::Damaged { at: self.at, source }),
            other => other,
        })
    }

    fn unpack(&mut self, key: Option<&crate::keys::AesKey>, rules: &FileRules) -> Result<(), Stop> {
        let (head, is_whole) = self.head()?;
        let failed = |error: LayoutError| Stop::Failed(error.into());
        let layout = layout::detect(&head, is_whole, key, &rules.layout).map_err(failed)?;
        let mut text = Text::new(layout, key).ok_or(LayoutError::NoKey).map_err(failed)?;
        let mut lines = LineBlocks::new(rules.rows.longest_row);
        let blocks = self.blocks.clone();
        let longest = rules.rows.longest_row;
        let mut past = ReadPast::new(self.first_row, longest);
        let mut send = |block| {
            let too_long = |RowTooLong { row }| Stop::Failed(RowsError::RowTooLong { row, longest });
            match past.push(block).map_err(too_long)? {
                Some(block) => blocks.blocking_send(block).map_err(|_| Stop::NobodyListens),
                // Nothing is sent, so nobody would notice that nobody listens.
                None if blocks.is_closed() => Err(Stop::NobodyListens),
                None => Ok(()),
            }
        };
        text.push(&head, &mut |text| lines.push(text, &mut send))?;
        while let Some(bytes) = self.next()? {
            text.push(&bytes, &mut |text| lines.push(text, &mut send))?;
        }
        text.finish(&mut |text| lines.push(text, &mut send))?;
        lines.finish().map_or(Ok(()), send)
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

    fn next(&mut self) -> Result<Option<Bytes>, Stop> {
        if self.is_at_end {
            return Ok(None);
        }
        let Some(bytes) = self.bytes.blocking_recv().ok_or(Stop::NobodyListens)? else {
            self.is_at_end = true;
            return Ok(None);
        };
        let bytes = bytes.map_err(|source| Stop::Failed(RowsError::Read { at: self.at, source }))?;
        self.at += bytes.len() as u64;
        Ok(Some(bytes))
    }
}

/// Runs CPU work on the blocking pool. A panic there ends this file's run and nothing else.
async fn on_worker<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, RowsError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| RowsError::Panicked)
}
