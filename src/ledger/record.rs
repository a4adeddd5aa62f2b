//! What the ledger records about a file and about a drop.

use time::OffsetDateTime;

use crate::{batch::BatchLimits, drop::FileVersion, message::MessageId, store::ETag, verdict::Reason};

/// Progress of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// A run works on the file, or worked on it until it stopped.
    Running,
    /// The sink has acknowledged every row.
    Done,
    /// The file has failed permanently, and the sink has been notified.
    SetAside(Reason),
}

/// The record of one version of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileRecord {
    /// The version.
    pub file: FileVersion,
    /// Its progress.
    pub status: Status,
    /// The checkpoint: the sink has acknowledged every row before this one.
    pub next_row: u64,
    /// How many of these rows could not be decoded.
    pub bad_rows: u64,
    /// How many runs have worked on the file.
    pub attempts: u32,
    /// Where batches end. All runs use the limits of the first run, because message ids depend on them.
    pub batch: BatchLimits,
    /// Why the file was set aside, for a person.
    pub message: Option<String>,
    /// When this record was written.
    pub updated: OffsetDateTime,
}

impl FileRecord {
    /// The record of a file at the start of its first run.
    pub fn new(file: FileVersion, batch: BatchLimits) -> Self {
        let updated = OffsetDateTime::now_utc();
        Self { file, status: Status::Running, next_row: 0, bad_rows: 0, attempts: 1, batch, message: None, updated }
    }
}

/// The versions that an ending is about. The ending is valid as long as none of them changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// Only the job metadata: the ending is valid for any files, present or future.
    Metadata(FileVersion),
    /// The job metadata and the files, all that the drop has.
    Files(FileVersion, Vec<FileVersion>),
}

impl Scope {
    /// All versions that the ending is about.
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
    /// The versions that it is about.
    pub scope: Scope,
    /// Why the drop was set aside; `None` if it is completed.
    pub reason: Option<Reason>,
    /// The reason, for a person.
    pub message: Option<String>,
    /// Rows delivered.
    pub rows: u64,
    /// Rows that could not be decoded.
    pub bad_rows: u64,
    /// The id of the message that told the sink; `None` if the sink was told about each file that was set aside
    /// instead.
    pub notification: Option<MessageId>,
}

impl Ending {
    /// Whether `other` has the same reason for the same versions. The row counts are not compared: they may differ if
    /// two runs end a drop at the same time.
    pub fn agrees_with(&self, other: &Self) -> bool {
        self.scope == other.scope && self.reason == other.reason
    }
}

/// The record of a drop, as it was when it was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DropRecord {
    /// How the drop ended, if it has.
    pub ending: Option<Ending>,
    /// How often the drop was replayed with new ids.
    pub generation: u32,
    /// The version of the record's blob, which a new ending must overwrite; `None` if there was no record.
    pub(super) version: Option<ETag>,
}
