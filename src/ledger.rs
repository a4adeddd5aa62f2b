//! Persistent state of each drop and file: who works on it, how far it is, how it ended.
//!
//! The ledger consists of JSON blobs in `STATE_CONTAINER`: `drops/{drop path}/drop.json` for a drop and
//! `drops/{drop path}/files/{file}.json` for a file. They hold positions and reasons, never row data or keys.
//!
//! A run works on a file only under a [`Claim`], which is a lease on the file's record. A heartbeat task renews the
//! lease every [`RENEW_EVERY`], however slow other requests are; if the process is killed, the lease lapses within
//! [`LEASE`] and another run can claim the file. Every write of a file's record carries the lease id, so a worker whose
//! lease has lapsed cannot overwrite the record of its successor.

mod claim;
mod claimed_file;
mod error;
mod heartbeat;
mod json;
mod lease;
mod record;
mod renewal;
mod survey;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use time::OffsetDateTime;
use tokio_util::task::TaskTracker;

pub use self::{
    claim::Claim,
    claimed_file::ClaimedFile,
    error::LedgerError,
    record::{DropRecord, Ending, FileRecord, Scope, Status},
    survey::Survey,
};
use self::{claimed_file::ActiveClaims, lease::RecordLease};
use crate::{
    batch::BatchLimits,
    drop::{DropPath, FileVersion},
    store::{Blob, BlobPath, ETag, ReadWholeError, Store, StoreError, WriteIf, read_whole},
};

/// How long a lease lasts if it is not renewed. 15 s is the shortest lease that Azure grants on a blob.
pub const LEASE: Duration = Duration::from_secs(15);

/// How often a live run renews its lease.
pub const RENEW_EVERY: Duration = Duration::from_secs(5);

/// A lease that is still held this long after it was first seen was renewed, or another run has taken it: a live run
/// works on the file.
pub const LEASE_RENEWED_AFTER: Duration = LEASE.saturating_add(Duration::from_secs(2));

/// How often [`Ledger::claim`] asks for a lease that another process holds.
pub const POLL_EVERY: Duration = Duration::from_secs(1);

/// The shortest time between two checkpoints of a file.
pub const CHECKPOINT_EVERY: Duration = Duration::from_secs(1);

/// How long a checkpoint may stay unwritten, while the lease is renewed, before the run stops. A later run delivers the
/// rows of about this time again.
pub const CHECKPOINT_LIMIT: Duration = Duration::from_secs(120);

/// The largest record that is read, in bytes. A drop's record lists its files, some hundred bytes each.
const MAX_RECORD_BYTES: u64 = 16 << 20;

/// How many records are read at the same time.
const CONCURRENT_READS: usize = 8;

/// How often the read of a record is repeated because the record was overwritten in between. A record is written at
/// most once a second, so one repetition is usually enough.
const READ_ATTEMPTS: usize = 5;

/// The ledger in one container of a store. A clone is a handle to the same ledger.
#[derive(Debug, Clone)]
pub struct Ledger {
    store: Arc<dyn Store>,
    container: Arc<str>,
    active_claims: ActiveClaims,
    /// Acquisitions and heartbeats, which outlive the calls that started them.
    tasks: TaskTracker,
}

impl Ledger {
    /// Opens the ledger in `container`. The first write creates the container if it is missing.
    pub fn new(store: Arc<dyn Store>, container: impl Into<Arc<str>>) -> Self {
        Self { store, container: container.into(), active_claims: ActiveClaims::default(), tasks: TaskTracker::new() }
    }

    /// Reads the records of these versions of files, by file name. A file has no entry if its record is missing or is
    /// about another version.
    pub async fn file_records(
        &self,
        drop: &DropPath,
        versions: &[FileVersion],
    ) -> Result<BTreeMap<String, FileRecord>, LedgerError> {
        let wanted: HashMap<_, _> =
            versions.iter().map(|file| (self.file_path(drop, &file.name), file.clone())).collect();
        let listed = self.store.list(&self.container, &self.path(drop, "files/").name).await?;
        let reads: Vec<_> = listed
            .into_iter()
            .filter_map(|blob| wanted.get(&blob.path).map(|file| self.file_record(file.clone(), blob)))
            .collect();
        let mut records = BTreeMap::new();
        let mut reads = stream::iter(reads).buffer_unordered(CONCURRENT_READS);
        while let Some(record) = reads.try_next().await? {
            records.extend(record.map(|record| (record.file.name.clone(), record)));
        }
        Ok(records)
    }

    /// Reads the record of `file` from `blob`; `None` if the record is missing by now or is about another version.
    async fn file_record(&self, file: FileVersion, blob: Blob) -> Result<Option<FileRecord>, LedgerError> {
        let path = blob.path.clone();
        let Some((_, bytes)) = self.read_blob(blob).await? else {
            return Ok(None);
        };
        let record = json::parse_file(&path, &file.name, &bytes)?;
        Ok((record.file == file).then_some(record))
    }

    /// Reads the record of a drop. Returns an empty record if there is none.
    pub async fn drop_record(&self, drop: &DropPath) -> Result<DropRecord, LedgerError> {
        let path = self.drop_path(drop);
        let Some((etag, bytes)) = self.read(&path).await? else {
            return Ok(DropRecord::default());
        };
        let (ending, generation) = json::parse_drop(&path, &bytes)?;
        Ok(DropRecord { ending, generation, version: Some(etag) })
    }

    /// Records how the drop ended, after the sink has acknowledged the message about it. Overwrites only `previous`:
    /// fails with [`LedgerError::Conflict`] if another run has recorded another ending since `previous` was read.
    pub async fn record_ending(
        &self,
        drop: &DropPath,
        ending: &Ending,
        previous: &DropRecord,
    ) -> Result<(), LedgerError> {
        let condition = previous.version.clone().map_or(WriteIf::Absent, WriteIf::Matches);
        let text = json::format_drop(Some(ending), previous.generation, OffsetDateTime::now_utc());
        match self.store.write(&self.drop_path(drop), text.into(), condition).await {
            Ok(_) => Ok(()),
            // Either our own write succeeded and its response was lost, or another run has recorded the same ending.
            Err(StoreError::Changed(_)) => match self.drop_record(drop).await?.ending {
                Some(recorded) if recorded.agrees_with(ending) => Ok(()),
                _ => Err(LedgerError::Conflict(drop.clone())),
            },
            Err(error) => Err(error.into()),
        }
    }

    /// Resets the records of the drop and of these files, so that the next run delivers them from row 0. Also replaces
    /// records that cannot be parsed. Fails with [`LedgerError::InUse`] if a run works on one of the files.
    ///
    /// Files keep their batch limits, so messages keep their ids. With `new_ids`, the drop gets the next generation and
    /// the files get `batch` as their limits, because the receiver may have rejected batches of the old size.
    pub async fn reset(
        &self,
        drop: &DropPath,
        versions: &[FileVersion],
        batch: BatchLimits,
        new_ids: bool,
    ) -> Result<(), LedgerError> {
        for file in versions {
            self.reset_file(self.file_path(drop, &file.name), file, batch, new_ids).await?;
        }
        self.reset_drop(&self.drop_path(drop), new_ids).await
    }

    async fn reset_file(
        &self,
        path: BlobPath,
        file: &FileVersion,
        batch: BatchLimits,
        new_ids: bool,
    ) -> Result<(), LedgerError> {
        let id = match self.store.lease(&path, LEASE).await {
            Ok(Some(id)) => id,
            Ok(None) => return Err(LedgerError::InUse(path)),
            Err(StoreError::Missing(_)) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let lease = RecordLease { store: Arc::clone(&self.store), path, id };
        let (mut etag, bytes) = self.read(&lease.path).await?.ok_or_else(|| StoreError::Missing(lease.path.clone()))?;
        let batch = match json::parse_file(&lease.path, &file.name, &bytes) {
            Ok(previous) if !new_ids => previous.batch,
            _ => batch,
        };
        let record = FileRecord { attempts: 0, ..FileRecord::new(file.clone(), batch) };
        let written = lease.write(&mut etag, &record).await;
        lease.release().await;
        written
    }

    async fn reset_drop(&self, path: &BlobPath, new_ids: bool) -> Result<(), LedgerError> {
        let (condition, generation) = match self.read(path).await? {
            Some((etag, bytes)) => {
                let generation = json::parse_drop(path, &bytes).map_or(0, |(_, generation)| generation);
                (WriteIf::Matches(etag), generation)
            }
            None => (WriteIf::Absent, 0),
        };
        let text = json::format_drop(None, generation.wrapping_add(new_ids.into()), OffsetDateTime::now_utc());
        self.store.write(path, text.into(), condition).await?;
        Ok(())
    }

    /// Waits until every dropped [`ClaimedFile`] has written its last checkpoint and released its lease. Called before
    /// the process exits, so that the next process need not wait for leases to lapse.
    pub async fn flush(&self) {
        self.tasks.close();
        self.tasks.wait().await;
        self.tasks.reopen();
    }

    fn path(&self, drop: &DropPath, below: &str) -> BlobPath {
        BlobPath::new(&*self.container, format!("drops/{drop}/{below}"))
    }

    fn drop_path(&self, drop: &DropPath) -> BlobPath {
        self.path(drop, "drop.json")
    }

    fn file_path(&self, drop: &DropPath, name: &str) -> BlobPath {
        self.path(drop, &format!("files/{name}.json"))
    }

    /// Reads a record and its version; `None` if it is missing.
    async fn read(&self, path: &BlobPath) -> Result<Option<(ETag, Bytes)>, LedgerError> {
        match self.store.find(path).await? {
            Some(blob) => self.read_blob(blob).await,
            None => Ok(None),
        }
    }

    /// Reads the record in `blob`, or its newest version if it was overwritten since; `None` if it was deleted.
    async fn read_blob(&self, mut blob: Blob) -> Result<Option<(ETag, Bytes)>, LedgerError> {
        let mut attempt = 1;
        loop {
            match read_whole(&*self.store, &blob, MAX_RECORD_BYTES).await {
                Ok(bytes) => return Ok(Some((blob.etag, bytes))),
                Err(ReadWholeError::Store(StoreError::Changed(_) | StoreError::Missing(_)))
                    if attempt < READ_ATTEMPTS => {}
                Err(error) => return Err(error.into()),
            }
            match self.store.find(&blob.path).await? {
                Some(newer) => blob = newer,
                None => return Ok(None),
            }
            attempt += 1;
        }
    }
}
