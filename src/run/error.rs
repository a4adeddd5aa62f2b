//! Why a run stops.

use std::time::Duration;

use super::DirectoryError;
use crate::{
    deliver::FileError,
    drop::DropPath,
    error_chain::error_chain,
    keys::KeyError,
    ledger::LedgerError,
    sink::SinkError,
    store::StoreError,
    verdict::{Reason, Verdict},
};

/// Why a run failed. The Functions host repeats the event, and sweeps retry the drop.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The store did not answer.
    #[error("cannot list or read the drop")]
    Store(#[from] StoreError),
    /// The API, the vault or the token service did not answer.
    #[error("cannot get the keys of the drop")]
    Keys(#[source] KeyError),
    /// The directory that the rows are joined to cannot be read.
    #[error("cannot read the directory `{path}`")]
    Directory {
        /// The path of the directory drop.
        path: DropPath,
        /// Why it cannot be read.
        source: Box<DirectoryError>,
    },
    /// The delivery of a file failed.
    #[error("delivery of file `{name}` stopped")]
    File {
        /// The name of the file.
        name: String,
        /// Why its delivery stopped.
        source: FileError,
    },
    /// The sink did not accept the message about the end of the drop.
    #[error("{event}; the notification failed and will be retried")]
    Notification {
        /// The description of the ending that the message announces.
        event: String,
        /// Why the sink did not accept the message.
        source: SinkError,
    },
    /// The job metadata of an unfinished drop was deleted. The drop continues if the metadata is written again.
    #[error("the job metadata of the unfinished drop has been deleted")]
    NoMetadata,
    /// The run took too long. It continues at the checkpoints of its files.
    #[error("not finished within its time limit of {} s, which follows from DEADLINE", .0.as_secs_f64())]
    TimeLimit(Duration),
    /// The ledger cannot be read or written.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

impl RunError {
    /// How long the service that stopped the run asked to wait before the next run, if it did; at most an hour.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Keys(source) => source.retry_after(),
            Self::Directory { source, .. } => source.retry_after(),
            Self::File { source, .. } => source.retry_after(),
            Self::Notification { source, .. } => source.retry_after(),
            Self::Store(_) | Self::NoMetadata | Self::TimeLimit(_) | Self::Ledger(_) => None,
        }
    }

    /// Whether the run only waited for memory that other runs use. The drop is not at fault, however long that takes.
    pub(crate) fn is_memory_in_use(&self) -> bool {
        matches!(self, Self::Directory { source, .. } if matches!(**source, DirectoryError::MemoryInUse))
    }
}

/// Why a run stopped before it could judge the drop, by verdict.
pub(super) enum Stopped {
    Retry(RunError),
    SetAside {
        reason: Reason,
        message: String,
    },
    /// The directory that the rows are joined to has gone: the run chooses another one.
    ChooseAgain,
}

impl<E: Into<RunError>> From<E> for Stopped {
    fn from(error: E) -> Self {
        Self::Retry(error.into())
    }
}

impl From<KeyError> for Stopped {
    fn from(error: KeyError) -> Self {
        match error.verdict() {
            Verdict::Retry => Self::Retry(RunError::Keys(error)),
            Verdict::SetAside(reason) => Self::SetAside { reason, message: error_chain(&error) },
        }
    }
}
