//! A claim as its run has it: the work on one file, until the run lets go.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use time::OffsetDateTime;
use tokio::{sync::watch, task::JoinHandle, time::Instant};
use tokio_util::task::TaskTracker;

use super::{
    FileRecord, LedgerError, Status, Work,
    keeper::{Keeper, Lease},
};
use crate::store::{BlobPath, ETag, StoreError};

/// The records on which runs of this process have claims that they have not let go of.
#[derive(Debug, Clone, Default)]
pub(super) struct Living(Arc<Mutex<HashSet<BlobPath>>>);

impl Living {
    /// Whether a run of this process works on the record.
    pub(super) fn has(&self, path: &BlobPath) -> bool {
        self.paths().contains(path)
    }

    fn enter(&self, path: &BlobPath) -> Entry {
        self.paths().insert(path.clone());
        Entry { living: self.clone(), path: path.clone() }
    }

    fn paths(&self) -> MutexGuard<'_, HashSet<BlobPath>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One of the living, as long as it is.
#[derive(Debug)]
struct Entry {
    living: Living,
    path: BlobPath,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.living.paths().remove(&self.path);
    }
}

/// A claimed file. Letting go of `records` ends its keeper, which writes the newest of them and gives the claim up.
pub(super) struct Held {
    record: FileRecord,
    lease: Lease,
    records: Option<watch::Sender<FileRecord>>,
    keeper: Option<JoinHandle<Result<(), LedgerError>>>,
    living: Option<Entry>,
}

impl Held {
    /// Begins the work that `record`, in its version `etag`, tells of, under a lease that was asked for at `asked`.
    pub(super) fn begin(
        lease: Lease,
        etag: ETag,
        record: FileRecord,
        asked: Instant,
        living: &Living,
        tasks: &TaskTracker,
    ) -> Self {
        let living = Some(living.enter(&lease.path));
        let (records, newest) = watch::channel(record.clone());
        let keeper = tasks.spawn(Keeper::new(lease.clone(), etag, asked, newest).keep());
        Self { record, lease, records: Some(records), keeper: Some(keeper), living }
    }

    /// Tells the keeper the newest record, if it still keeps the claim.
    fn tell(&mut self) -> bool {
        self.record.updated = OffsetDateTime::now_utc();
        self.records.as_ref().is_some_and(|records| records.send(self.record.clone()).is_ok())
    }

    /// Lets go, and waits for how the keeper ends.
    async fn let_go(&mut self) -> Result<(), LedgerError> {
        self.records.take();
        let end = match self.keeper.take() {
            Some(keeper) => {
                keeper.await.unwrap_or_else(|end| Err(StoreError::from_join_error(&self.lease.path, end).into()))
            }
            None => Err(LedgerError::Lost(self.lease.path.clone())),
        };
        self.living.take();
        end
    }
}

#[async_trait]
impl Work for Held {
    fn record(&self) -> &FileRecord {
        &self.record
    }

    async fn checkpoint(&mut self, next_row: u64, bad_rows: u64) -> Result<(), LedgerError> {
        (self.record.next_row, self.record.bad_rows) = (next_row, bad_rows);
        if self.tell() { Ok(()) } else { self.let_go().await }
    }

    async fn confirm(&mut self) -> Result<(), LedgerError> {
        self.lease.renew().await
    }

    async fn finish(&mut self, status: Status, message: Option<String>) -> Result<(), LedgerError> {
        (self.record.status, self.record.message) = (status, message);
        self.tell();
        self.let_go().await
    }

    async fn release(&mut self) -> Result<(), LedgerError> {
        self.let_go().await
    }
}
