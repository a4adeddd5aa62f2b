//! One run of a drop: checks its tenant, gets its keys, delivers its files one after another, and ends the drop.
//!
//! Events, commands and sweeps all start the same run: they name a drop, and the run does the remaining work. So an
//! event that arrives twice, early or never changes when the work is done, but not its result.
//!
//! A run takes a snapshot of the drop, processes the files that are left, and takes another snapshot, until a snapshot
//! shows no file that this run has not tried. Only then does it end the drop. Without the last snapshot, two cases
//! would lose the end of a drop:
//! - a file arrives, or is overwritten, while this run works on another: the file's own event may be answered because
//!   this run is alive;
//! - two runs finish at the same time: the later one must see the files of both.

mod admitted;
mod conclude;
mod files;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use tracing::{debug, warn};

use crate::{
    deliver::FileError,
    drop::{
        DropPath, FileVersion,
        discover::{self, DropContents},
        tenant::{Refusal, Tenants},
    },
    error_chain::error_chain,
    keys::{KeyError, KeySource, Keys},
    ledger::{DropRecord, Ledger, LedgerError, Scope, Status},
    sink::SinkError,
    store::{Blob, BlobPath, ReadWindow, Store, StoreError},
    telemetry::is_first_occurrence,
    tenant_config::TenantConfigs,
    verdict::{Reason, Verdict},
};
pub use admitted::{AdmittedDrop, read_metadata};

/// Runs drops. Holds the parts that every run needs.
#[derive(Debug)]
pub struct Runner {
    /// The storage account with the drops.
    pub store: Arc<dyn Store>,
    /// The state of drops and files.
    pub ledger: Ledger,
    /// The tenants, and where each may write.
    pub tenants: Tenants,
    /// Where keys come from.
    pub keys: KeySource,
    /// The sink, the file rules and the limits of each tenant.
    pub tenant_configs: TenantConfigs,
    /// How much of a file is read ahead.
    pub window: ReadWindow,
}

/// The state of the drop at the end of a run.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The sink has acknowledged every row and the `drop.completed` message.
    Completed {
        /// Rows delivered, over all runs.
        rows: u64,
        /// Rows that could not be decoded.
        bad_rows: u64,
    },
    /// Rows are missing, or another run works on them.
    Open {
        /// Rows delivered so far, including bad rows.
        rows: u64,
        /// How many rows the drop will have, if the job metadata says so.
        of: Option<u64>,
    },
    /// The drop, or one of its files, was set aside by this run or an earlier one.
    SetAside {
        /// Why.
        reason: Reason,
        /// The reason in words, if it is recorded.
        message: Option<String>,
        /// Whether nothing is left to do. False while another run works on other files.
        is_over: bool,
    },
    /// There is no job metadata: this is not a drop, or not yet.
    NoDrop,
    /// The drop is not one of our tenants', or lies where its tenant may not write.
    Refused(Refusal),
}

/// Why a run stopped early. The event is retried.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The store did not answer.
    #[error("cannot list or read the drop")]
    Store(#[from] StoreError),
    /// The API, the vault or the token service did not answer.
    #[error("cannot get the keys of the drop")]
    Keys(#[source] KeyError),
    /// The delivery of a file failed.
    #[error("delivery of file `{name}` stopped")]
    File {
        /// The file.
        name: String,
        /// Why.
        source: FileError,
    },
    /// The sink did not accept the message about the end of the drop or of a file.
    #[error("{event}; the notification failed and will be retried")]
    Notification {
        /// What the sink was to be told.
        event: String,
        /// Why it was not.
        source: SinkError,
    },
    /// The ledger cannot be read or written.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

impl RunError {
    /// How long the service that stopped the run asked to wait before the next run, if it did; at most an hour.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Keys(source) => source.retry_after(),
            Self::File { source, .. } => source.retry_after(),
            Self::Notification { source, .. } => source.retry_after(),
            Self::Store(_) | Self::Ledger(_) => None,
        }
    }
}

/// Why a run stopped before it could end the drop from its records: by verdict.
enum Stopped {
    Retry(RunError),
    SetAside { reason: Reason, message: String },
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

/// A drop at one instant.
struct Snapshot {
    /// The ledger's record of the drop, read before the drop was listed.
    record: DropRecord,
    contents: DropContents,
    admitted: AdmittedDrop,
    /// The versions of `contents.files`, in the same order.
    versions: Vec<FileVersion>,
}

/// What a run keeps from one snapshot to the next.
#[derive(Default)]
struct Progress {
    /// The files that this run has claimed, or has left to another run.
    tried: BTreeSet<FileVersion>,
    /// The keys of the drop, with the version of the job metadata that they were requested for.
    keys: Option<(FileVersion, Keys)>,
}

impl Runner {
    /// Does the remaining work on the drop at `path`. Starts with the blob `first`, if it is one of the drop's files.
    pub async fn run(&self, path: &DropPath, first: Option<&BlobPath>) -> Result<Outcome, RunError> {
        let mut progress = Progress::default();
        loop {
            // The record is read before the listing: if another run records an ending later, recording ours fails.
            let record = self.ledger.drop_record(path).await?;
            let Some(contents) = discover::list_contents(&*self.store, path).await? else {
                return Ok(Outcome::NoDrop);
            };
            let admitted = match AdmittedDrop::admit(&*self.store, &self.tenants, &contents, record.generation).await? {
                Ok(admitted) => admitted,
                Err(refusal) => {
                    log_refusal(path, &refusal);
                    return Ok(Outcome::Refused(refusal));
                }
            };
            let snapshot = Snapshot { record, versions: versions_of(&contents), contents, admitted };
            if let Some(outcome) = snapshot.recorded_outcome() {
                return Ok(outcome);
            }
            match self.process(&snapshot, first, &mut progress).await {
                Ok(Some(outcome)) => return Ok(outcome),
                Ok(None) => {}
                Err(Stopped::Retry(error)) => return Err(error),
                Err(Stopped::SetAside { reason, message }) => {
                    let scope = Scope::Metadata(snapshot.admitted.metadata_version.clone());
                    return self.set_drop_aside(&snapshot, scope, reason, &message).await;
                }
            }
        }
    }

    /// Resets the drop at `path`, even if it has ended, and runs it. Rows keep their message ids unless `new_ids` is
    /// set.
    pub async fn replay(&self, path: &DropPath, new_ids: bool) -> Result<Outcome, RunError> {
        let Some(contents) = discover::list_contents(&*self.store, path).await? else {
            return Ok(Outcome::NoDrop);
        };
        let admitted = match AdmittedDrop::admit(&*self.store, &self.tenants, &contents, 0).await? {
            Ok(admitted) => admitted,
            Err(refusal) => return Ok(Outcome::Refused(refusal)),
        };
        let batch = self.tenant_configs.of(admitted.tenant).limits.batch;
        self.ledger.reset(path, &versions_of(&contents), batch, new_ids).await?;
        self.run(path, None).await
    }

    /// Processes the files that are left, and returns `None`; or ends the drop if no file is left.
    async fn process(
        &self,
        snapshot: &Snapshot,
        first: Option<&BlobPath>,
        progress: &mut Progress,
    ) -> Result<Option<Outcome>, Stopped> {
        let metadata = match &snapshot.admitted.metadata {
            Ok(metadata) => metadata,
            Err(error) => return Err(Stopped::SetAside { reason: Reason::Metadata, message: error.to_string() }),
        };
        if let Some(errors) = &metadata.errors {
            return Err(Stopped::SetAside { reason: Reason::Errors, message: errors.clone() });
        }
        let records = self.ledger.file_records(&snapshot.admitted.path, &snapshot.versions).await?;
        let is_left = |file: &FileVersion| {
            let has_ended = records.get(&file.name).is_some_and(|record| record.status != Status::Running);
            !has_ended && !progress.tried.contains(file)
        };
        let files = snapshot.contents.files.iter().zip(&snapshot.versions);
        let mut left: Vec<_> = files.filter(|(_, version)| is_left(version)).collect();
        if left.is_empty() {
            return Ok(Some(self.conclude(snapshot, &records, metadata.rows_extracted).await?));
        }
        left.sort_by_key(|(blob, _)| Some(&blob.path) != first);
        self.process_files(snapshot, metadata, left, progress).await?;
        Ok(None)
    }
}

fn versions_of(contents: &DropContents) -> Vec<FileVersion> {
    let version = |blob: &Blob| FileVersion { name: contents.relative(blob).to_owned(), etag: blob.etag.clone() };
    contents.files.iter().map(version).collect()
}

/// Logs a warning the first time only: every sweep finds the same drop again.
fn log_refusal(path: &DropPath, refusal: &Refusal) {
    let line = format!("refused `{path}`: {refusal}");
    if is_first_occurrence(&line) {
        warn!(drop.path = %path, "{line}");
    } else {
        debug!(drop.path = %path, "{line}");
    }
}
