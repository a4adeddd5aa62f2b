//! A claimed file, and the registry of the files that this process has claimed.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{sync::watch, task::JoinHandle};
use tokio_util::task::TaskTracker;

use super::{
    FileRecord, LedgerError, ProgressFlag, Status, heartbeat::Heartbeat, lease::RecordLease, renewal::Renewal,
};
use crate::{
    clock,
    store::{BlobPath, ETag, StoreError},
};

/// A file that this run may work on.
///
/// A heartbeat task keeps the lease and writes the record. Dropping this value ends the claim in the background: the
/// task writes the last checkpoint and releases the lease.
pub struct ClaimedFile {
    record: FileRecord,
    killed_run: Option<String>,
    lease: RecordLease,
    progress: ProgressFlag,
    /// `None` once the claim has ended.
    active: Option<Active>,
}

/// The parts of a claim that has not ended.
struct Active {
    /// The newest record, for the heartbeat task. Dropping it tells the task to end the claim.
    updates: watch::Sender<FileRecord>,
    heartbeat: JoinHandle<Result<(), LedgerError>>,
    registration: Registration,
}

impl ClaimedFile {
    /// Starts the heartbeat of a claim, which takes over `renewal`. `record` has the version `etag`; `killed_run` is
    /// the span of the run that worked on the file before, if that run was killed.
    pub(super) fn new(
        renewal: Renewal,
        etag: ETag,
        record: FileRecord,
        killed_run: Option<String>,
        progress: ProgressFlag,
        active_claims: &ActiveClaims,
        tasks: &TaskTracker,
    ) -> Self {
        let lease = renewal.lease.clone();
        let registration = active_claims.register(&lease.path);
        let (updates, received) = watch::channel(record.clone());
        let heartbeat = tasks.spawn(Heartbeat::new(renewal, etag, received).run());
        Self { record, killed_run, lease, progress, active: Some(Active { updates, heartbeat, registration }) }
    }

    /// The current record, with the last checkpoint.
    pub fn record(&self) -> &FileRecord {
        &self.record
    }

    /// The span of the last run that worked on the file, as a `traceparent`, if that run was killed.
    pub fn killed_run(&self) -> Option<&str> {
        self.killed_run.as_deref()
    }

    /// The path of the record.
    pub fn record_path(&self) -> &BlobPath {
        &self.lease.path
    }

    /// Sets the checkpoint: the sink has acknowledged every row before `next_row`, and `bad_rows` of them could not be
    /// decoded. Does not wait: the heartbeat task writes checkpoints at most once a second. Fails if the claim is lost.
    pub async fn checkpoint(&mut self, next_row: u64, bad_rows: u64) -> Result<(), LedgerError> {
        self.progress.set();
        (self.record.next_row, self.record.bad_rows) = (next_row, bad_rows);
        self.record.panics = 0;
        if self.send_update() { Ok(()) } else { self.release().await }
    }

    /// Counts a panic of this run. Returns how many runs in a row have panicked without progress.
    pub fn count_panic(&mut self) -> u32 {
        self.record.panics += 1;
        // If the heartbeat task has stopped, the end of the claim returns its error.
        self.send_update();
        self.record.panics
    }

    /// Records that the file has ended with `status`, and ends the claim. `message` says why the file was set aside.
    pub async fn finish(&mut self, status: Status, message: Option<String>) -> Result<(), LedgerError> {
        self.progress.set();
        (self.record.status, self.record.message, self.record.run) = (status, message, None);
        // If the heartbeat task has stopped, its error is returned below.
        self.send_update();
        self.release().await
    }

    /// Ends the claim: waits until the last update is written and the lease released. Fails if the claim is lost, or
    /// was ended before.
    pub async fn release(&mut self) -> Result<(), LedgerError> {
        self.remove_run();
        let Some(Active { updates, heartbeat, registration }) = self.active.take() else {
            return Err(LedgerError::LeaseLost(self.lease.path.clone()));
        };
        drop(updates);
        let result =
            heartbeat.await.unwrap_or_else(|end| Err(StoreError::from_join_error(&self.lease.path, end).into()));
        drop(registration);
        result
    }

    /// Removes the span of this run from the record, because the run was not killed.
    fn remove_run(&mut self) {
        if self.record.run.take().is_some() {
            // If the heartbeat task has stopped, the claim is lost, and another run may have written the record.
            self.send_update();
        }
    }

    /// Passes the current record to the heartbeat task; returns false if the task has stopped.
    fn send_update(&mut self) -> bool {
        self.record.updated = clock::now();
        self.active.as_ref().is_some_and(|active| active.updates.send(self.record.clone()).is_ok())
    }
}

impl Drop for ClaimedFile {
    fn drop(&mut self) {
        self.remove_run();
    }
}

/// The records of the files that runs in this process have claimed and not dropped.
#[derive(Debug, Clone, Default)]
pub(super) struct ActiveClaims(Arc<Mutex<HashSet<BlobPath>>>);

impl ActiveClaims {
    /// Whether a run in this process has claimed the file with the record at `path`.
    pub(super) fn contains(&self, path: &BlobPath) -> bool {
        self.paths().contains(path)
    }

    fn register(&self, path: &BlobPath) -> Registration {
        self.paths().insert(path.clone());
        Registration { active_claims: self.clone(), path: path.clone() }
    }

    fn paths(&self) -> MutexGuard<'_, HashSet<BlobPath>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An entry of [`ActiveClaims`]; dropping it removes the entry.
#[derive(Debug)]
struct Registration {
    active_claims: ActiveClaims,
    path: BlobPath,
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.active_claims.paths().remove(&self.path);
    }
}
