//! What is known of each drop and file: who works on it, how far it is, how it ended.
//!
//! The seam's keeper is [`memory::Memory`], which knows what one process knows. It holds positions and reasons, never row
//! data or keys.

pub mod memory;

use std::collections::BTreeMap;

use async_trait::async_trait;

use crate::{
    drop::DropPath,
    message::{FileVersion, MessageId},
    verdict::{Reason, Verdict},
};

/// How far a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Somebody works on it, or has until they were killed.
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
}

impl FileRecord {
    /// A file that nobody has worked on yet.
    pub fn new(file: FileVersion) -> Self {
        Self { file, status: Status::Running, next_row: 0, bad_rows: 0 }
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
    /// Rows delivered.
    pub rows: u64,
    /// Rows that could not be decoded.
    pub bad_rows: u64,
    /// The message that said so.
    pub announced: MessageId,
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
    /// Asks for the right to work on one version of a file. A newer version replaces an older one.
    async fn claim(&self, drop: &DropPath, file: &FileVersion) -> Result<Claim, LedgerError>;

    /// What is known of the files of a drop, by name: the latest version of each.
    async fn files(&self, drop: &DropPath) -> Result<BTreeMap<String, FileRecord>, LedgerError>;

    /// How the drop ended, if it has, and that was announced.
    async fn ending(&self, drop: &DropPath) -> Result<Option<Ending>, LedgerError>;

    /// Records how the drop ended, once that was announced.
    async fn end(&self, drop: &DropPath, ending: &Ending) -> Result<(), LedgerError>;
}

/// A file while it is worked on. Dropping it gives the claim up; what was checkpointed stays.
#[async_trait]
pub trait Work: Send {
    /// Where the work begins, and how far it is.
    fn record(&self) -> &FileRecord;

    /// Every row before `next_row` was taken, `bad_rows` of them bad. Costs little: it is written from time to time.
    async fn checkpoint(&mut self, next_row: u64, bad_rows: u64) -> Result<(), LedgerError>;

    /// The file ends this way.
    async fn finish(&mut self, status: Status) -> Result<(), LedgerError>;
}

/// The ledger did not answer.
#[derive(Debug, thiserror::Error)]
#[error("the ledger did not answer")]
pub struct LedgerError(#[source] pub Box<dyn std::error::Error + Send + Sync>);

impl LedgerError {
    /// What the failure means: what is not known cannot be gone on from.
    pub fn verdict(&self) -> Verdict {
        Verdict::TryAgain
    }
}
