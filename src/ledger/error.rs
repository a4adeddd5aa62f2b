//! Why the ledger cannot be read or written.

use super::paths::{self, ImportsRecord};
use crate::{
    drop::DropPath,
    store::{BlobPath, ReadWholeError, StoreError},
    verdict::Verdict,
};

/// Why the ledger cannot be read or written. Every failure is retried: without the ledger a run does not know which
/// rows were delivered.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The store did not answer.
    #[error("cannot read or write the ledger")]
    Store(#[from] StoreError),
    /// A newer vivadrop wrote the record. The event is retried until the newer version is deployed everywhere.
    #[error("`{path}` was written by a newer vivadrop: it has version {version}, and this vivadrop supports version 2")]
    NewerVersion {
        /// The record.
        path: BlobPath,
        /// Its version.
        version: u64,
    },
    /// The record cannot be parsed: somebody changed it by hand. The event is retried until the record is corrected or
    /// deleted, or a replay replaces it.
    #[error("`{path}` is not a valid ledger record ({problem}): correct it, or {}", remedy(.path))]
    Invalid {
        /// The record.
        path: BlobPath,
        /// The problem, for a person.
        problem: String,
    },
    /// The lease lapsed before it was renewed, so another run may have claimed the file. The event is retried.
    #[error("the lease on `{0}` is lost: it was not renewed in time")]
    LeaseLost(BlobPath),
    /// Another run has written the record of the drop. The run judges the drop again from the new record.
    #[error("another run has changed the record of `{0}`")]
    Conflict(DropPath),
    /// Another process has written the record of an import. That process, or a later pass, imports the cycle.
    #[error("another process has changed `{0}`")]
    ImportConflict(BlobPath),
}

impl LedgerError {
    /// The consequence of the failure: always a retry. A failure of the ledger is never a reason to set a file aside.
    pub fn verdict(&self) -> Verdict {
        match self {
            Self::Store(_)
            | Self::NewerVersion { .. }
            | Self::Invalid { .. }
            | Self::LeaseLost(_)
            | Self::Conflict(_)
            | Self::ImportConflict(_) => Verdict::Retry,
        }
    }
}

/// The advice for a record that cannot be parsed, besides to correct it. The record of a drop must not
/// be deleted: the records of its files would be ahead of it.
fn remedy(path: &BlobPath) -> String {
    if let Some(drop) = paths::drop_of_record(&path.name) {
        return format!("deliver the drop again from the start with `vivadrop replay {drop}`");
    }
    let remedy = match paths::imports_record(&path.name) {
        Some(ImportsRecord::Tenant) => {
            "delete it: imports that were asked for are then forgotten, and revisions and sequence numbers continue at the \
             current Unix time"
        }
        Some(ImportsRecord::Cycle) => {
            "delete it, and run `vivadrop import DROP_PATH --again`; new ranges are then not compared with those that \
             receivers have"
        }
        None => "delete it to deliver again from the start",
    };
    remedy.to_owned()
}

impl From<ReadWholeError> for LedgerError {
    fn from(error: ReadWholeError) -> Self {
        match error {
            ReadWholeError::Store(error) => Self::Store(error),
            ReadWholeError::TooLarge { path, size, .. } => {
                Self::Invalid { path, problem: format!("it has {size} bytes") }
            }
        }
    }
}
