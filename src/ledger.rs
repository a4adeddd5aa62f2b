//! What is known of each drop and file: who works on it, how far it is, how it ended.
//!
//! Holds positions and reasons, never row data or keys. The seam's keeper is [`blobs::Blobs`]: JSON blobs in
//! `STATE_CONTAINER` that a person can read, over any [`Store`](crate::store::Store).
//!
//! A file is worked on under a claim, and a claim is a lease on the file's record. Whoever works renews it every
//! [`RENEW_EVERY`]; when the process is killed it lapses within [`LEASE`]. Every write of a record carries the lease, so
//! that a worker that was taken for dead cannot write over its successor.

pub mod blobs;
mod keeper;
mod record;
mod survey;
mod work;

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;
use time::OffsetDateTime;
use tokio::time::{Instant, sleep_until};

pub use self::survey::Survey;
use crate::{
    drop::{DropPath, FileVersion},
    message::MessageId,
    stage::batch::BatchLimits,
    store::{BlobPath, ReadWholeError, StoreError},
    verdict::{Reason, Verdict},
};

/// How long a claim lasts without being renewed. Azure leases blobs for no less.
pub const LEASE: Duration = Duration::from_secs(15);

/// How often the claim of a living run is renewed.
pub const RENEW_EVERY: Duration = Duration::from_secs(5);

/// A claim that is still there this long after it was first seen was renewed since, or taken by another run.
pub const LEASE_RENEWED_AFTER: Duration = LEASE.saturating_add(Duration::from_secs(2));

/// How often a claim that another run holds is asked for.
pub const ASK_EVERY: Duration = Duration::from_secs(1);

/// How often the position of a file is written at most.
pub const CHECKPOINT_EVERY: Duration = Duration::from_secs(1);

/// How far a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Somebody works on it, or has until they stopped.
    Running,
    /// All of its rows were taken.
    Done,
    /// It was given up, and that was announced.
    SetAside(Reason),
}

/// What is known of one version of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileRecord {
    /// The version.
    pub file: FileVersion,
    /// How far it is.
    pub status: Status,
    /// The row behind the last one that was taken without a gap before it.
    pub next_row: u64,
    /// How many of the rows before that were bad.
    pub bad_rows: u64,
    /// How many runs have worked on it.
    pub attempts: u32,
    /// Where its batches end. Those of the first run count for all: the same rows must keep the same message ids.
    pub batch: BatchLimits,
    /// Why it was given up, for a person.
    pub message: Option<String>,
    /// When this was recorded.
    pub updated: OffsetDateTime,
}

impl FileRecord {
    /// A file at the beginning of its first run.
    pub fn new(file: FileVersion, batch: BatchLimits) -> Self {
        let updated = OffsetDateTime::now_utc();
        Self { file, status: Status::Running, next_row: 0, bad_rows: 0, attempts: 1, batch, message: None, updated }
    }
}

/// What an ending is about: it holds as long as none of that has another version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// The job metadata alone: whatever files there are or will be.
    Metadata(FileVersion),
    /// The job metadata and these files, all that there are.
    Files(FileVersion, Vec<FileVersion>),
}

impl Scope {
    /// Every version that the ending is about.
    pub fn versions(&self) -> Vec<FileVersion> {
        match self {
            Self::Metadata(metadata) => vec![metadata.clone()],
            Self::Files(metadata, files) => std::iter::once(metadata).chain(files).cloned().collect(),
        }
    }
}

/// How a drop ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// What it is about.
    pub scope: Scope,
    /// Why it was set aside, or `None` where it is complete.
    pub reason: Option<Reason>,
    /// The reason, for a person.
    pub message: Option<String>,
    /// Rows delivered.
    pub rows: u64,
    /// Rows that could not be decoded.
    pub bad_rows: u64,
    /// The message that said so. `None` where each file that was set aside had one of its own.
    pub announced: Option<MessageId>,
}

impl Ending {
    /// Whether `other` says the same of the same versions. What it counted may differ where two runs ended at once.
    pub fn agrees_with(&self, other: &Self) -> bool {
        self.scope == other.scope && self.reason == other.reason
    }
}

/// What was known of a drop at some instant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    /// How it ended, if it had.
    pub ending: Option<Ending>,
    /// How often it was replayed with new ids.
    pub generation: u32,
    /// Which version of its record said so: an ending is recorded over that one alone.
    version: Option<crate::store::ETag>,
}

/// What came of asking for a file.
pub enum Claim {
    /// The file is this run's, from `record.next_row` on, until the work is dropped.
    Held(Box<dyn Work>),
    /// It has ended already; here is how.
    Ended(FileRecord),
    /// Another run is alive and works on it: that run answers for it.
    AnsweredByAnother,
}

/// What is known of each drop and file.
#[async_trait]
pub trait Ledger: std::fmt::Debug + Send + Sync + 'static {
    /// Asks for the right to work on one version of a file. A version other than the recorded one replaces it, and begins
    /// at its first row, with `batch` as its limits.
    ///
    /// `None` where a claim of another process is on the file, and nothing tells whether that process lives.
    async fn try_claim(
        &self,
        drop: &DropPath,
        file: &FileVersion,
        batch: BatchLimits,
    ) -> Result<Option<Claim>, LedgerError>;

    /// Asks until the claim of another process, first seen at `since`, was given up or lapsed, or must have been renewed.
    async fn claim(
        &self,
        drop: &DropPath,
        file: &FileVersion,
        batch: BatchLimits,
        since: Instant,
    ) -> Result<Claim, LedgerError> {
        loop {
            let asked = Instant::now();
            if let Some(claim) = self.try_claim(drop, file, batch).await? {
                return Ok(claim);
            }
            if asked >= since + LEASE_RENEWED_AFTER {
                return Ok(Claim::AnsweredByAnother);
            }
            sleep_until((asked + ASK_EVERY).min(since + LEASE_RENEWED_AFTER)).await;
        }
    }

    /// What is known of these versions of files of a drop, by name.
    async fn files(
        &self,
        drop: &DropPath,
        versions: &[FileVersion],
    ) -> Result<BTreeMap<String, FileRecord>, LedgerError>;

    /// What is known of the drop.
    async fn known(&self, drop: &DropPath) -> Result<Known, LedgerError>;

    /// Records how the drop ended, once that was announced. Fails with [`LedgerError::Overtaken`] where another run has
    /// recorded another ending since `known`.
    async fn end(&self, drop: &DropPath, ending: &Ending, known: &Known) -> Result<(), LedgerError>;

    /// Forgets how these files and the drop ended, so that the next run begins them at row 0. Fails with
    /// [`LedgerError::InUse`] where a run works on one of them.
    ///
    /// Batches stay what they were, and so do ids; with `new_ids` the drop gets another generation, and `batch` as the limits
    /// of its files: a receiver may have refused the old ones.
    async fn reopen(
        &self,
        drop: &DropPath,
        versions: &[FileVersion],
        batch: BatchLimits,
        new_ids: bool,
    ) -> Result<(), LedgerError>;

    /// Returns once the claims of all work that was dropped are given up, their last positions written. Before the process
    /// ends, so that the next one need not wait for claims to lapse.
    async fn settle(&self);
}

/// A file while it is worked on. Dropping it gives the claim up behind the scenes; the last checkpoint is written.
#[async_trait]
pub trait Work: Send {
    /// Where the work begins, and how far it is.
    fn record(&self) -> &FileRecord;

    /// Every row before `next_row` was taken, `bad_rows` of them bad. Costs nothing: it is written from time to time, at
    /// most once a second. Fails where the claim is lost.
    async fn checkpoint(&mut self, next_row: u64, bad_rows: u64) -> Result<(), LedgerError>;

    /// Fails unless the file is still this run's: asked before anything is announced in its name.
    async fn confirm(&mut self) -> Result<(), LedgerError>;

    /// The file ends this way, and the claim with it; `message` says why it was given up.
    async fn finish(&mut self, status: Status, message: Option<String>) -> Result<(), LedgerError>;

    /// Gives the claim up, the last checkpoint written. What dropping does, for those who wait.
    async fn release(&mut self) -> Result<(), LedgerError>;
}

/// Why the ledger has no answer. What is not known cannot be gone on from: all of these are tried again.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The store did not answer.
    #[error("the ledger did not answer")]
    Store(#[from] StoreError),
    /// A later vivadrop wrote the record. Deploy that one everywhere; until then the event is tried again.
    #[error("`{path}` was written by a later vivadrop: it has version {version}, and this one knows version 1")]
    Later {
        /// The record.
        path: BlobPath,
        /// Its version.
        version: u64,
    },
    /// The record is none: somebody changed it by hand. Mend or delete it; until then the event is tried again.
    #[error("`{path}` is no record of the ledger ({why}): mend it, or delete it to begin afresh")]
    Unreadable {
        /// The record.
        path: BlobPath,
        /// What is wrong with it.
        why: String,
    },
    /// The claim lapsed before it was renewed, and another run has the file, or may have it.
    #[error("the claim on `{0}` is lost: it was not renewed in time")]
    Lost(BlobPath),
    /// Another run recorded another ending meanwhile: the drop changed. The event is tried again on what is there now.
    #[error("`{0}` was concluded by another run meanwhile")]
    Overtaken(DropPath),
    /// A run works on it just now.
    #[error("a run works on `{0}`")]
    InUse(BlobPath),
}

impl LedgerError {
    /// What the failure means: the ledger is never a reason to give up on a file.
    pub fn verdict(&self) -> Verdict {
        match self {
            Self::Store(_)
            | Self::Later { .. }
            | Self::Unreadable { .. }
            | Self::Lost(_)
            | Self::Overtaken(_)
            | Self::InUse(_) => Verdict::TryAgain,
        }
    }
}

impl From<ReadWholeError> for LedgerError {
    fn from(error: ReadWholeError) -> Self {
        match error {
            ReadWholeError::Store(error) => Self::Store(error),
            ReadWholeError::TooLarge { path, size, .. } => {
                Self::Unreadable { path, why: format!("it has {size} bytes") }
            }
        }
    }
}
