//! One file, from its bytes to the receiver: the whole pipeline on one screen.

use std::{mem, num::NonZeroUsize, sync::Arc};

use futures::{Stream, StreamExt, TryStreamExt, stream};
use tokio_util::task::AbortOnDropHandle;

use crate::{
    drop::FileVersion,
    keys::Keys,
    ledger::{ClaimedFile, LedgerError, Status},
    message::{DropFacts, Message, around_rows},
    pipeline::{self, FileRules, RowsError},
    sink::{Sink, SinkError},
    stage::{
        batch::{Batch, BatchLimits, Batches, RowTooLarge},
        decode::Rows,
    },
    store::ByteStream,
    verdict::{Reason, Verdict},
};

/// What one file may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Where the batches of a file end that is begun now. A file has up to `in_flight` messages in memory, and the
    /// batch that is begun.
    pub batch: BatchLimits,
    /// How many messages of one file are on their way at once.
    pub in_flight: NonZeroUsize,
    /// How many blocks are decoded at once at most; each is some 256 KiB of text, and as much again of rows.
    pub decoders: NonZeroUsize,
    /// How many bad rows a file may have.
    pub bad_rows_allowed: u64,
}

/// Everything about a file but its bytes.
pub struct FileJob<'a> {
    /// The drop, as messages describe it.
    pub drop: &'a DropFacts,
    /// Which version of which file.
    pub file: &'a FileVersion,
    /// The drop's keys.
    pub keys: &'a Keys,
    /// How files are read.
    pub rules: &'a FileRules,
    /// What it may take.
    pub limits: Limits,
}

/// Delivers the rows of a file from the checkpoint on, and records its end.
///
/// Where this fails, the rows up to the last checkpoint were taken, and some behind it may have been.
pub async fn deliver_file(
    job: &FileJob<'_>,
    bytes: ByteStream,
    sink: &Arc<dyn Sink>,
    work: &mut ClaimedFile,
) -> Result<(), FileError> {
    let (first_row, bad_before) = (work.record().next_row, work.record().bad_rows);
    // gzip cannot be entered in the middle: what was delivered before is read past.
    let rows = pipeline::rows(bytes, first_row, job.keys, job.rules, job.limits.decoders);
    // The same rows keep the same message ids, so batches end where those of the first run did, whatever was set since;
    // but for a sink that takes less.
    let around = around_rows(job.drop, job.file, job.is_identified());
    let cutter = Batches::new(work.record().batch, first_row, around, sink.largest_message());
    let budget = BadRowBudget { allowed: job.limits.bad_rows_allowed, seen: bad_before };

    batches(rows, cutter, budget)
        // Each on a task of its own: a request must not stand still while a checkpoint is written.
        .map(|batch| on_task(deliver_batch(Arc::clone(sink), batch.map(|batch| as_message(job, batch)))))
        .buffered(job.limits.in_flight.get())
        // Answers are awaited in order, so the checkpoint never passes a row that was not taken.
        .try_fold((work, bad_before), async |(work, bad), taken| {
            let bad = bad + taken.bad_rows.len() as u64;
            work.checkpoint(taken.end_row, bad).await?;
            Ok((work, bad))
        })
        .await?
        .0
        .finish(Status::Done, None)
        .await?;
    Ok(())
}

impl FileJob<'_> {
    /// Whether rows say whose they are.
    fn is_identified(&self) -> bool {
        self.keys.column.is_some()
    }
}

/// A batch as its message, which takes the rows' text; and what is left of the batch, to be recorded.
fn as_message(job: &FileJob<'_>, mut batch: Batch) -> (Message, Batch) {
    let (range, text) = (batch.first_row..batch.end_row, mem::take(&mut batch.text));
    (Message::rows(job.drop, job.file, range, job.is_identified(), text, &batch.bad_rows), batch)
}

/// Hands `message` to the sink; returns its batch once it was taken.
async fn deliver_batch(sink: Arc<dyn Sink>, batch: Result<(Message, Batch), FileError>) -> Result<Batch, FileError> {
    let (message, batch) = batch?;
    sink.deliver(&message).await.map_err(|source| FileError::Sink {
        first_row: batch.first_row,
        end_row: batch.end_row,
        source,
    })?;
    Ok(batch)
}

/// Runs a delivery on a task that ends with this file's run.
async fn on_task(
    delivery: impl Future<Output = Result<Batch, FileError>> + Send + 'static,
) -> Result<Batch, FileError> {
    AbortOnDropHandle::new(tokio::spawn(delivery)).await.unwrap_or(Err(FileError::Panicked))
}

/// Cuts rows into batches; stops at the first error, where there are more bad rows than allowed, and before a row that no
/// message has room for.
fn batches<'a>(
    rows: impl Stream<Item = Result<Rows, RowsError>> + Send + 'a,
    cutter: Batches,
    mut budget: BadRowBudget,
) -> impl Stream<Item = Result<Batch, FileError>> + Send + 'a {
    let mut cutter = Some(cutter);
    rows.map(Some).chain(stream::once(async { None })).flat_map(move |rows| {
        let mut batches = Vec::new();
        let cut = || match (cutter.take(), rows) {
            (None, _) => Ok(()),
            (Some(_), Some(Err(error))) => Err(FileError::Rows(error)),
            (Some(mut cutting), Some(Ok(rows))) => {
                let within = budget.take(&rows, cutting.end_row());
                let fitting = cutting.push(&rows, &mut batches);
                match (within, fitting) {
                    (Ok(()), Ok(())) => {
                        cutter = Some(cutting);
                        Ok(())
                    }
                    (Err(bad), Err(large)) if bad.row <= large.row => Err(bad.into()),
                    (_, Err(large)) => Err(large.into()),
                    (Err(bad), Ok(())) => Err(bad.into()),
                }
            }
            (Some(cutting), None) => {
                batches.extend(cutting.finish());
                Ok(())
            }
        };
        let end = cut().err();
        // What comes before the row that is one too many is whole; what holds it is not.
        if let Some(FileError::BadRows(OneTooMany { row, .. })) = &end {
            batches.retain(|batch| batch.end_row <= *row);
        }
        stream::iter(batches.into_iter().map(Ok).chain(end.map(Err)))
    })
}

/// A row is bad, and more of them than allowed are.
#[derive(Debug, thiserror::Error)]
#[error("has more than {allowed} bad rows (`BAD_ROWS_ALLOWED`): row {row} {reason}")]
pub struct OneTooMany {
    /// The number of the first row that is one too many.
    pub row: u64,
    /// What is wrong with that row.
    pub reason: String,
    /// How many are allowed.
    pub allowed: u64,
}

/// How many bad rows a file has, and may have.
struct BadRowBudget {
    allowed: u64,
    seen: u64,
}

impl BadRowBudget {
    /// Counts the bad rows of a block whose first row is `first_row`; fails at the one that is too many.
    fn take(&mut self, rows: &Rows, first_row: u64) -> Result<(), OneTooMany> {
        for (row, reason) in &rows.bad {
            self.seen += 1;
            if self.seen > self.allowed {
                let (row, reason) = (first_row + row, reason.to_string());
                return Err(OneTooMany { row, reason, allowed: self.allowed });
            }
        }
        Ok(())
    }
}

/// Why a file stopped. Says what happened behind the file's name: ``file `part-0.json.gz` `` goes before it.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// There are no more rows.
    #[error(transparent)]
    Rows(#[from] RowsError),
    /// More rows than allowed could not be decoded. The file is set aside.
    #[error(transparent)]
    BadRows(#[from] OneTooMany),
    /// A row is larger than the sink's messages may be. The rows before it were delivered; the file is set aside.
    #[error(transparent)]
    RowTooLarge(#[from] RowTooLarge),
    /// A batch was not taken. The sink's verdict is the file's.
    #[error("could not be delivered at rows {first_row}..{end_row}")]
    Sink {
        /// The first row of the batch.
        first_row: u64,
        /// The row behind its last one.
        end_row: u64,
        /// Why it was not taken.
        source: SinkError,
    },
    /// The ledger did not answer. The file is tried again from its checkpoint.
    #[error("could not be recorded")]
    Ledger(#[from] LedgerError),
    /// A task panicked: a defect of vivadrop. The file is tried again; the log says where it happened.
    #[error("could not be delivered: a task panicked, which is a defect of vivadrop")]
    Panicked,
}

impl FileError {
    /// What the failure means for the file.
    pub fn verdict(&self) -> Verdict {
        match self {
            Self::Rows(source) => source.verdict(),
            Self::BadRows(_) => Verdict::SetAside(Reason::BadRow),
            Self::RowTooLarge(_) => Verdict::SetAside(Reason::Refused),
            Self::Sink { source, .. } => source.verdict(),
            Self::Ledger(source) => source.verdict(),
            Self::Panicked => Verdict::TryAgain,
        }
    }
}
