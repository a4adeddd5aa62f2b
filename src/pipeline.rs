//! From the bytes of a file to its rows: the stages, connected by streams.
//!
//! Bytes are pulled. A reader fetches ranges ahead; one thread decrypts, decompresses and cuts lines; a worker pool
//! decodes blocks. Each waits when the next one has enough work (back-pressure), so memory does not depend on the size
//! of a file:
//!
//! ```text
//!   range_bytes x (in_flight + 1)                      ReadWindow: ranges being fetched or read
//! + 0.1 MiB                                            tables of inflate
//! + 0.4 MiB x (2 x BLOCKS_AHEAD + 3 + 2 x decoders)    buffers of blocks and of their rows, reused until the file ends
//! + message x (in_flight + 1)                          Limits: batches being delivered; none in `vivadrop decode`
//! ```
//!
//! A buffer is [`BLOCK_BYTES`](crate::stage::lines::BLOCK_BYTES) of whole lines, the 32 KiB of text before them, and
//! spare room; for a longer line, up to twice that line. Longer blocks take more permits of the worker pool, so that
//! fewer of them wait: with lines of 1 MiB, all buffers take about 12 MiB. The rows of a block that are joined to a
//! directory take up to 0.5 MiB more; if its longest entry is longer, it counts like a longer block. A message is
//! `BATCH_BYTES` of rows, or a single larger row. With the default settings on two cores, that is 17 MiB, and about
//! 8 MiB of messages.

mod unpack;
mod worker_pool;

use std::{num::NonZeroUsize, sync::Arc};

use futures::{
    StreamExt, TryStreamExt,
    stream::{self, BoxStream},
};
use tokio::task::JoinHandle;

use self::{
    unpack::{End, Unpacking},
    worker_pool::{OrderedResults, Panicked, worker_pool},
};
use crate::{
    directory::{Directory, DirectoryRules},
    keys::Keys,
    stage::{
        Damage,
        decode::{ColumnChecks, Decoder, MissingColumns, RowRules, RowTooLong, Rows},
        detect::LayoutError,
        layout::LayoutRules,
    },
    store::{ByteStream, StoreError},
    verdict::{Reason, Verdict},
    wipe::with_stack_wiped,
};

/// The number of blocks that wait for a decoder, or whose rows wait for the consumer. With fewer, cores are idle when
/// decoding takes longer than decompression: while a worker has no core, the blocks after its own take all permits.
const BLOCKS_AHEAD: usize = 8;

/// How a file is decrypted and decoded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FileRules {
    /// `FILE_LAYOUT`, `FILE_CIPHER`, `ALLOW_PLAINTEXT`.
    pub layout: LayoutRules,
    /// `ENCRYPTED_COLUMNS`, `COLUMN_CIPHER`, `ROW_VALUES`, `MAX_ROW_BYTES`, `MAX_ROW_DEPTH`.
    pub rows: RowRules,
}

impl FileRules {
    /// Derives the rules for reading a directory export into a lookup table; `self` has those of the tenant's other
    /// drops. A directory is a drop of its own: its layout is detected, and its values are joined unchanged.
    pub fn of_directory(&self, directory: &DirectoryRules) -> Self {
        let mut own = self.clone().for_columns(directory.columns_to_read());
        own.layout = LayoutRules { allow_plaintext: self.layout.allow_plaintext, ..LayoutRules::default() };
        own.rows.encrypted_columns = Vec::new();
        own.rows.typed = false;
        own
    }

    /// Derives the rules for the drop of a directory export, which need not have the columns that settings name for
    /// other drops. If its rows are only counted and not delivered, they need not have any of these columns.
    #[must_use]
    pub fn for_directory_export(mut self, is_delivered: bool) -> Self {
        self.rows.checks.expected.clear();
        self.rows.checks.rejects_empty_rows &= is_delivered;
        self
    }

    /// Derives the rules for a computation that reads only `columns`, whatever columns are delivered.
    #[must_use]
    pub fn for_columns(mut self, columns: Vec<String>) -> Self {
        self.rows.columns = Some(columns);
        self.rows.checks = ColumnChecks::default();
        self
    }

    /// Derives the rules for computing attributes from `columns`: strings are converted, and the places of the values
    /// are recorded.
    #[must_use]
    pub fn for_attributes(self, columns: Vec<String>) -> Self {
        let mut own = self.for_columns(columns);
        own.rows.typed = true;
        own.rows.records_values = true;
        own
    }
}

/// Why the rows of a file end early. Each text continues a sentence that begins with ``file `part-0.json.gz` ``.
#[derive(Debug, thiserror::Error)]
pub enum RowsError {
    /// The store did not return the next bytes. The store's verdict applies to the file.
    #[error("cannot be read after byte {at}")]
    Read {
        /// How many bytes were read.
        at: u64,
        /// Why the store failed.
        source: StoreError,
    },
    /// No layout fits, or the key is missing. The file is set aside.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The bytes cannot be decrypted or decompressed. The file is set aside.
    #[error("is damaged at or before byte {at}")]
    Damaged {
        /// How many bytes were read.
        at: u64,
        /// The kind of damage.
        source: Damage,
    },
    /// No row has a column that a setting names. The file is set aside.
    #[error(transparent)]
    MissingColumns(#[from] MissingColumns),
    /// A line is too long. The file is set aside.
    #[error("has a line of more than {max_bytes} bytes (`MAX_ROW_BYTES`) at row {row}")]
    RowTooLong {
        /// The number of the row within the file.
        row: u64,
        /// The maximum length of a line, in bytes.
        max_bytes: usize,
    },
    /// The file ends before the row to begin with: that number is wrong. The file is retried.
    #[error("has {rows} rows, and was to be read from row {first_row} on")]
    TooFewRows {
        /// The number of rows of the file.
        rows: u64,
        /// The row to begin with.
        first_row: u64,
    },
    /// A block has more bad rows than are allowed; the lines after the first bad row beyond the limit were not decoded.
    /// The file is set aside.
    #[error("has more than {allowed} bad rows (`BAD_ROWS_ALLOWED`)")]
    TooManyBadRows {
        /// How many bad rows are allowed.
        allowed: u64,
    },
    /// A worker thread panicked: a defect of vivadrop. The file is retried; the log shows where the panic occurred.
    #[error("could not be decoded: a worker thread panicked, which is a defect of vivadrop")]
    Panicked,
}

impl RowsError {
    /// The verdict on the file.
    pub fn verdict(&self) -> Verdict {
        match self {
            Self::Read { source, .. } => source.verdict(),
            Self::Layout(source) => source.verdict(),
            Self::Damaged { .. } => Verdict::SetAside(Reason::Damaged),
            Self::RowTooLong { .. } => Verdict::SetAside(Reason::RowTooLong),
            Self::TooManyBadRows { .. } | Self::MissingColumns(_) => Verdict::SetAside(Reason::BadRow),
            Self::TooFewRows { .. } | Self::Panicked => Verdict::Retry,
        }
    }
}

/// Decodes the rows of a file from `first_row` on. Yields them in order, block by block; row numbers within [`Rows`]
/// count from the start of the block. A file that ends before `first_row` is an error. With a `directory`, each row
/// ends with the person that it finds there.
///
/// If a block has more than `bad_rows_allowed` bad rows, its rows end with the first one beyond the limit, and an error
/// follows: memory must not depend on the number of bad rows.
///
/// If a setting names a column that no row has, the stream fails: before the first row if the name is misspelled,
/// otherwise after the last row. The check after the last row needs all rows: it is omitted unless `first_row` is 0.
pub fn rows(
    bytes: ByteStream,
    first_row: u64,
    keys: &Keys,
    rules: &FileRules,
    directory: Option<Arc<Directory>>,
    decoders: NonZeroUsize,
    bad_rows_allowed: u64,
) -> BoxStream<'static, Result<Rows, RowsError>> {
    let mut decoder = Decoder::new(&rules.rows, keys.column.as_deref()).ending_after_bad_rows(bad_rows_allowed);
    if let Some(directory) = directory {
        decoder = decoder.joined_to(directory, &rules.rows);
    }
    decode(bytes, first_row, keys, rules, decoder, decoders, |_| ()).map_ok(|(rows, ())| rows).boxed()
}

/// Decodes all rows of a file as [`rows`] does, and yields each block of rows with the result of `parse` for it.
/// `parse` runs on the threads that decode, for several blocks at once.
pub fn parsed_rows<T: Send + 'static>(
    bytes: ByteStream,
    keys: &Keys,
    rules: &FileRules,
    decoders: NonZeroUsize,
    bad_rows_allowed: u64,
    parse: impl Fn(&Rows) -> T + Send + Sync + 'static,
) -> BoxStream<'static, Result<(Rows, T), RowsError>> {
    let decoder = Decoder::new(&rules.rows, keys.column.as_deref()).ending_after_bad_rows(bad_rows_allowed);
    decode(bytes, 0, keys, rules, decoder, decoders, parse)
}

/// The common part of [`rows`] and [`parsed_rows`]: starts the thread that unpacks the file and the threads that decode
/// it.
fn decode<T: Send + 'static>(
    bytes: ByteStream,
    first_row: u64,
    keys: &Keys,
    rules: &FileRules,
    decoder: Decoder,
    decoders: NonZeroUsize,
    parse: impl Fn(&Rows) -> T + Send + Sync + 'static,
) -> BoxStream<'static, Result<(Rows, T), RowsError>> {
    let bad_rows_allowed = decoder.bad_rows_allowed();
    let decoder = Arc::new(decoder);
    let decode_block = {
        let decoder = Arc::clone(&decoder);
        move |block| {
            with_stack_wiped(|| {
                let rows = decoder.rows(&block)?;
                let parsed = parse(&rows);
                Ok((rows, parsed))
            })
        }
    };
    let (blocks, decoded) = worker_pool(decoders, BLOCKS_AHEAD, decode_block);
    let mut unpacking = Unpacking::new(bytes, first_row, Arc::clone(&decoder), blocks);
    let (key, rules, max_row_bytes) = (keys.file.clone(), rules.clone(), rules.rows.max_row_bytes);
    let thread = tokio::task::spawn_blocking(move || with_stack_wiped(|| unpacking.run(key.as_deref(), &rules)));
    let rows = RowsStream {
        decoded,
        // The rows before `first_row` may have the columns that the others lack.
        decoder: (first_row == 0).then_some(decoder),
        next_row: first_row,
        max_row_bytes,
        bad_rows_allowed,
        is_cut: false,
        unpacking: Some(thread),
    };
    stream::unfold(rows, async |mut rows| Some((rows.next().await?, rows))).boxed()
}

/// The decoded rows of a file with the results of `parse`, and after them the error of the unpacking thread, if it
/// failed.
struct RowsStream<T> {
    decoded: OrderedResults<Result<(Rows, T), RowTooLong>>,
    /// The decoder, if it decodes all rows of the file.
    decoder: Option<Arc<Decoder>>,
    /// The number of the first row of the next block.
    next_row: u64,
    max_row_bytes: usize,
    bad_rows_allowed: u64,
    /// Whether the last block had too many bad rows: the lines after the first one beyond the limit were not decoded.
    is_cut: bool,
    /// `None` once its result has been taken.
    unpacking: Option<JoinHandle<Result<(), End>>>,
}

impl<T> RowsStream<T> {
    async fn next(&mut self) -> Option<Result<(Rows, T), RowsError>> {
        if self.is_cut {
            return Some(Err(RowsError::TooManyBadRows { allowed: self.bad_rows_allowed }));
        }
        match self.decoded.next().await {
            Some(Ok(Ok((rows, parsed)))) => {
                self.next_row += rows.count();
                self.is_cut = rows.bad.len() as u64 > self.bad_rows_allowed;
                Some(Ok((rows, parsed)))
            }
            Some(Ok(Err(RowTooLong { row }))) => {
                Some(Err(RowsError::RowTooLong { row: self.next_row + row, max_bytes: self.max_row_bytes }))
            }
            Some(Err(Panicked)) => Some(Err(RowsError::Panicked)),
            // The results end after the unpacking thread, which submits the jobs.
            None => match self.unpacking.take()?.await {
                Ok(Ok(())) => {
                    let decoder = self.decoder.take().filter(|_| self.next_row > 0)?;
                    decoder.check_columns().err().map(|missing| Err(missing.into()))
                }
                Ok(Err(End::Failed(error))) => Some(Err(error)),
                // The thread panicked, or stopped although the consumer is still here: not the end of the file.
                Ok(Err(End::ConsumerGone)) | Err(_) => Some(Err(RowsError::Panicked)),
            },
        }
    }
}

#[cfg(test)]
mod tests;
