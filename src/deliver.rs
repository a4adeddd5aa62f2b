//! Delivers one file, from its bytes to the sink: the whole pipeline on one screen.

use std::{collections::VecDeque, mem, num::NonZeroUsize, pin::pin, sync::Arc, time::Duration};

use futures::{
    Stream, StreamExt,
    stream::{self, BoxStream},
};
use tokio_util::task::AbortOnDropHandle;

use crate::{
    batch::{Batch, BatchError, BatchLimits, Batches, Position},
    directory::Directory,
    drop::FileVersion,
    keys::Keys,
    ledger::{ClaimedFile, LedgerError, Status},
    message::{DropFacts, JoinFacts, Message, envelope_bytes},
    pipeline::{self, FileRules, RowsError},
    sink::{Receiver, SinkError},
    stage::decode::Rows,
    store::ByteStream,
    telemetry::{in_current_trace, metrics},
    verdict::Verdict,
};

/// The bounds of the delivery of one file. At most `in_flight + 1` messages of a file are in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The maximum size of a batch, in rows and bytes. Applies to files that are started from now on; a file that is
    /// continued keeps the limits in its ledger record.
    pub batch: BatchLimits,
    /// The maximum number of messages that are being delivered at once.
    pub in_flight: NonZeroUsize,
    /// The maximum number of blocks that are being decoded at once. Each has about 256 KiB of text and as much of rows.
    pub decoders: NonZeroUsize,
    /// The maximum number of bad rows. With more, the file is set aside.
    pub bad_rows_allowed: u64,
}

/// The directory that rows are joined to.
#[derive(Debug, Clone)]
pub struct Join {
    /// The directory, as messages describe it.
    pub facts: JoinFacts,
    /// Its people.
    pub people: Arc<Directory>,
}

/// Everything that the delivery of a file needs, except its bytes.
pub struct FileJob<'a> {
    /// The drop, as messages describe it.
    pub drop: &'a DropFacts,
    /// The file and its version.
    pub file: &'a FileVersion,
    /// The keys of the drop.
    pub keys: &'a Keys,
    /// The directory that the rows are joined to, if they are.
    pub join: Option<&'a Join>,
    /// How the file is read.
    pub rules: &'a FileRules,
    /// The bounds of the delivery.
    pub limits: Limits,
}

/// Delivers the rows of a file from its checkpoint on, and records that the file is done.
///
/// If this fails, all rows before the last checkpoint were delivered; some rows after it may have been delivered, too.
pub async fn deliver_file(
    job: &FileJob<'_>,
    bytes: ByteStream,
    receiver: &Receiver,
    claimed: &mut ClaimedFile,
) -> Result<(), FileError> {
    let (first_row, mut bad_rows) = (claimed.record().next_row, claimed.record().bad_rows);
    // Batches end where those of the first run did, whatever the settings are now, so that the same rows keep their
    // message ids. The only exception: a batch that is too large for the current sink ends earlier.
    let envelope = envelope_bytes(job.drop, job.file, job.is_identified(), job.facts_of_join());
    let batches = Batches::new(claimed.record().batch, first_row, envelope, receiver.sink.largest_message())
        .allow_bad_rows(job.limits.bad_rows_allowed, bad_rows);

    // Decrypt, gunzip, lines, decode. All bytes are read, because gzip can only be read from its start.
    let (decoders, bad_rows_allowed) = (job.limits.decoders, job.limits.bad_rows_allowed);
    let people = job.join.map(|join| Arc::clone(&join.people));
    let rows = pipeline::rows(bytes, first_row, job.keys, job.rules, people, decoders, bad_rows_allowed);
    let acknowledged = cut_into_batches(rows, batches)
        .map(|batch| batch.map(|batch| into_message(job, batch)))
        .map(|message| deliver(receiver.clone(), message))
        .buffered(job.limits.in_flight.get());

    // Checkpoints never pass an unacknowledged row, because `buffered` yields the batches in order.
    let mut acknowledged = pin!(acknowledged);
    while let Some(batch) = acknowledged.next().await {
        let batch = batch.map_err(|error| name_record(error, claimed))?;
        let bad_in_batch = batch.bad_rows.len() as u64;
        bad_rows += bad_in_batch;
        if receiver.sink.is_measured() {
            let delivered = batch.end_row - batch.first_row - bad_in_batch;
            metrics::count_rows(job.drop.tenant_id, delivered, bad_in_batch);
        }
        claimed.checkpoint(batch.end_row, bad_rows).await?;
    }
    claimed.finish(Status::Done, None).await?;
    Ok(())
}

impl FileJob<'_> {
    /// Whether the rows identify people: without a Column key, encrypted columns are null.
    fn is_identified(&self) -> bool {
        self.keys.column.is_some()
    }

    fn facts_of_join(&self) -> Option<&JoinFacts> {
        self.join.map(|join| &join.facts)
    }
}

/// Names the file's ledger record in `error`, if the record is its cause.
fn name_record(error: FileError, claimed: &ClaimedFile) -> FileError {
    match error {
        FileError::Rows(RowsError::TooFewRows { rows, first_row }) => {
            FileError::WrongRecord { rows, next_row: first_row, record: claimed.record_path().name.clone() }
        }
        error => error,
    }
}

/// The batches of a file. The first error ends them, after the batches before it.
fn cut_into_batches(
    rows: BoxStream<'_, Result<Rows, RowsError>>,
    batches: Batches,
) -> impl Stream<Item = Result<Batch, FileError>> + Send {
    let cutter = BatchStream { rows, batches: Some(batches), block: None, ready: VecDeque::new() };
    stream::unfold(cutter, async |mut cutter| Some((cutter.next().await?, cutter)))
}

struct BatchStream<'a> {
    rows: BoxStream<'a, Result<Rows, RowsError>>,
    /// `None` once the rows have ended or an error has occurred.
    batches: Option<Batches>,
    /// The block whose rows are being added to batches.
    block: Option<(Rows, Position)>,
    /// Complete batches, and the error that follows them.
    ready: VecDeque<Result<Batch, FileError>>,
}

impl BatchStream<'_> {
    async fn next(&mut self) -> Option<Result<Batch, FileError>> {
        while self.ready.is_empty() {
            let batches = self.batches.as_mut()?;
            let Some((rows, position)) = &mut self.block else {
                match self.rows.next().await {
                    Some(Ok(rows)) => self.block = Some((rows, Position::default())),
                    Some(Err(error)) => self.end_with(FileError::Rows(error)),
                    None => return self.batches.take()?.finish().map(Ok),
                }
                continue;
            };
            let mut complete = Vec::new();
            let pushed = batches.push_until_complete(rows, position, &mut complete);
            self.ready.extend(complete.into_iter().map(Ok));
            match pushed {
                Ok(true) => {}
                Ok(false) => self.block = None,
                Err(error) => self.end_with(FileError::Batch(error)),
            }
        }
        self.ready.pop_front()
    }

    fn end_with(&mut self, error: FileError) {
        self.ready.push_back(Err(error));
        self.batches = None;
    }
}

/// Moves the text of a batch into its message; returns both. What remains of the batch is needed for the checkpoint.
fn into_message(job: &FileJob<'_>, mut batch: Batch) -> (Message, Batch) {
    let (range, text) = (batch.first_row..batch.end_row, mem::take(&mut batch.text));
    let directory = job.facts_of_join();
    (Message::rows(job.drop, job.file, range, job.is_identified(), directory, text, &batch.bad_rows), batch)
}

/// Delivers a message; returns its batch after the sink has acknowledged it.
///
/// Runs in a task, so that requests go on while a checkpoint is written. Dropping the future aborts the task.
async fn deliver(receiver: Receiver, message: Result<(Message, Batch), FileError>) -> Result<Batch, FileError> {
    let (message, batch) = message?;
    let delivery = tokio::spawn(in_current_trace(async move { receiver.deliver(&message).await }));
    match AbortOnDropHandle::new(delivery).await {
        Ok(Ok(())) => Ok(batch),
        Ok(Err(source)) => Err(FileError::Sink { first_row: batch.first_row, end_row: batch.end_row, source }),
        Err(_panicked) => Err(FileError::Panicked),
    }
}

/// Why a file was not delivered to its end. Each text continues a sentence that begins with ``file `part-0.json.gz` ``.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The rows could not be read or decoded.
    #[error(transparent)]
    Rows(#[from] RowsError),
    /// There are too many bad rows, or a row is too large for the sink. The file is set aside.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// The sink did not acknowledge a batch. The sink's verdict applies to the file.
    #[error("could not be delivered at rows {first_row}..{end_row}")]
    Sink {
        /// The number of the batch's first row.
        first_row: u64,
        /// One more than the number of the batch's last row.
        end_row: u64,
        /// Why the batch was not acknowledged.
        source: SinkError,
    },
    /// The ledger did not record the progress. The file is retried from its checkpoint.
    #[error("could not be recorded")]
    Ledger(#[from] LedgerError),
    /// The ledger record says that more rows were delivered than the file has: somebody changed it by hand. The file is
    /// retried until the record is corrected or deleted.
    #[error(
        "has {rows} rows, but its ledger record begins at `nextRow` {next_row}: correct `{record}` in STATE_CONTAINER, \
         or delete it to deliver again from the start"
    )]
    WrongRecord {
        /// The number of rows of the file.
        rows: u64,
        /// The first row that is not delivered, according to the record.
        next_row: u64,
        /// The name of the blob with the record.
        record: String,
    },
    /// A task panicked: a defect of vivadrop. The file is retried; the log shows where the panic occurred.
    #[error("could not be delivered: a task panicked, which is a defect of vivadrop")]
    Panicked,
}

impl FileError {
    /// How long the sink asked to wait before the next run, if it did.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Sink { source, .. } => source.retry_after(),
            Self::Rows(_) | Self::Batch(_) | Self::Ledger(_) | Self::WrongRecord { .. } | Self::Panicked => None,
        }
    }

    /// What the failure means for the file.
    pub fn verdict(&self) -> Verdict {
        match self {
            Self::Rows(source) => source.verdict(),
            Self::Batch(source) => source.verdict(),
            Self::Sink { source, .. } => source.verdict(),
            Self::Ledger(source) => source.verdict(),
            Self::WrongRecord { .. } | Self::Panicked => Verdict::Retry,
        }
    }
}
