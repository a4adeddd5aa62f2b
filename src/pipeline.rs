//! From the bytes of a file to its rows: the stages, joined by streams.
//!
//! Bytes are pulled. A reader fetches ranges ahead, one thread decrypts, inflates and cuts lines, a crew of others decodes
//! blocks; each waits when the next one has enough. So what one file has in memory does not depend on its size:
//!
//! ```text
//!   range_bytes x (in_flight + 1)                      ReadWindow: ranges on their way or waiting, and being decrypted
//! + 0.1 MiB                                            inflate's tables
//! + 0.4 MiB x (2 x BLOCKS_AHEAD + 3 + 2 x decoders)    buffers of blocks and of their rows, used again until the file ends
//! + message x (in_flight + 1)                          Limits: batches on their way, each a message; none with `decode`
//! ```
//!
//! A buffer is [`BLOCK_BYTES`](crate::stage::lines::BLOCK_BYTES) of whole lines with the 32 KiB before them and room for more;
//! where a line is longer than that, up to twice the line. A message is `BATCH_BYTES` of rows, or one row. That is 14 MiB with
//! what is set by default on two cores, and some 8 MiB of messages.

mod unpack;
mod worker_pool;

use std::num::NonZeroUsize;

use futures::{
    StreamExt, future,
    stream::{self, BoxStream},
};

use self::{
    unpack::{End, Unpacking},
    worker_pool::worker_pool,
};
use crate::{
    keys::Keys,
    stage::{
        Damage,
        decode::{Decoder, RowRules, RowTooLong, Rows},
        detect::LayoutError,
        layout::LayoutRules,
    },
    store::{ByteStream, StoreError},
    verdict::{Reason, Verdict},
    wipe::with_stack_wiped,
};

/// How many blocks wait for a decoder, or for whoever takes their rows.
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
    let decoder = Decoder::new(&rules.rows, keys.column.as_deref());
    let decode = move |block| with_stack_wiped(|| decoder.rows(&block));
    let (decoders, decoded) = worker_pool(decoders, BLOCKS_AHEAD, decode);
    let (key, rules, longest) = (keys.file.clone(), rules.clone(), rules.rows.longest_row);
    let mut unpacking = Unpacking::new(bytes, first_row, decoders);
    let worker = tokio::task::spawn_blocking(move || with_stack_wiped(|| unpacking.run(key.as_deref(), &rules)));

    // The decoders end with the worker; how that ended is the last item.
    let ended = stream::once(worker).filter_map(async |end| match end {
        Ok(Ok(())) => None,
        Ok(Err(End::Failed(error))) => Some(Err(error)),
        // Whoever sees this wants them: so it was a neighbour that died, and the file is not at its end.
        Ok(Err(End::Unwanted)) | Err(_) => Some(Err(RowsError::Panicked)),
    });
    stream::unfold(decoded, async |mut decoded| Some((decoded.next().await?, decoded)))
        .scan(first_row, move |row, decoded| {
            let rows = match decoded {
                Ok(Ok(rows)) => {
                    *row += rows.count();
                    Ok(rows)
                }
                Ok(Err(RowTooLong { row: within })) => Err(RowsError::RowTooLong { row: *row + within, longest }),
                Err(worker_pool::Panicked) => Err(RowsError::Panicked),
            };
            future::ready(Some(rows))
        })
        .chain(ended)
        .boxed()
}
