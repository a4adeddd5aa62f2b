//! Persistent state of each drop and file: its worker, its progress, its outcome.
//!
//! The ledger consists of JSON blobs in `STATE_CONTAINER`. They hold positions and reasons, never row data or keys:
//! - `drops/{drop path}/drop.json`, the record of a drop, and `drops/{drop path}/files/{file}.json`, that of a file;
//! - `unfinished/`, the index of the drops that are not over: sweeps run these drops;
//! - `directories/{tenant}.json`, the directory exports of a tenant that have ended;
//! - `list/`, the list of all drops: one entry for each, for `status`, the page and sweeps; `list-copy/`, a copy of
//!   these entries in one blob;
//! - `attributes/{tenant}.json`, the definitions of a tenant's attributes, which people may edit; `imports/{tenant}/`,
//!   the progress of the imports of these attributes; `imports-due/`, when the next pass over each tenant's imports is
//!   due;
//! - `customers/{tenant}.json`, when the key, the registration and the SAS of a customer expire;
//! - `plans/`, which drops are to be delivered again, and `replays/`, the progress of these replays;
//! - `periodic/`, when the periodic tasks of sweeps were last done, and when sweeps last found each tenant paused.
//!
//! A run works on a file only under a [`Claim`], which is a lease on the file's record. A heartbeat task renews the
//! lease every [`RENEW_EVERY`], however slow other requests are; if the process is killed, the lease lapses within
//! [`LEASE`] and another run can claim the file. Every write of a file's record carries the lease id, so a worker whose
//! lease has lapsed cannot overwrite the record of its successor. The record of a drop needs no lease: a write replaces
//! only the version that was read.

mod claim;
mod claimed_file;
mod customers;
mod cycle_import;
mod defined_tenants;
mod directories;
mod entry;
mod error;
mod file_list;
mod heartbeat;
mod imports;
mod imports_due;
mod json;
mod lease;
mod list_copy;
mod list_entry;
mod paths;
mod periodic;
mod record;
mod renewal;
mod replays;
mod salvage;
mod survey;
mod unfinished;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use futures::TryStreamExt;
use tokio_util::task::TaskTracker;

pub use self::{
    claim::{Claim, ClaimRequest, ProgressFlag},
    claimed_file::ClaimedFile,
    customers::{CustomerEntry, KeyState},
    cycle_import::{CycleImport, ImportState, ImportedAttribute, KnownRanges, ListingFacts},
    error::LedgerError,
    file_list::{ListedFile, ListedFiles},
    imports::{AcceptedDefinitions, Deletion, ExaminedDrop, RequestedImport, TenantImports},
    imports_due::ImportsEntry,
    list_copy::{LIST_COPY_VERSION, MAX_LIST_COPY_BYTES},
    list_entry::{DropState, ListEntry},
    record::{
        Announcement, DropRecord, Ending, Failing, FileProgress, FileRecord, KeysVersion, PinnedDirectory, Scope,
        Status,
    },
    replays::{PlanCounts, PlanFilter, PlannedDrop, ReplayPlan, ReplayRun, ReplayState, ReplayedBy},
    survey::Survey,
    unfinished::UnfinishedDrop,
};
use self::{claimed_file::ActiveClaims, record::FileFacts};
use crate::{
    clock,
    drop::{DropPath, FileVersion, TenantId},
    store::{BlobPath, ETag, ListedBlob, Store, StoreError, WriteIf, read_current},
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

/// How long a checkpoint may stay unwritten, while the lease is renewed, before the run stops. This bounds the rows
/// that a later run delivers again.
pub const CHECKPOINT_LIMIT: Duration = Duration::from_secs(120);

/// How many records or entries are read at the same time.
pub(crate) const CONCURRENT_READS: usize = 8;

/// The largest record that is read, in bytes. Version 1 listed the files of a drop in its record, some hundred bytes
/// each.
const MAX_RECORD_BYTES: u64 = 16 << 20;

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

    /// The progress of these versions of files in replay `replays` of their drop, by file name. A file that no run has
    /// started has no entry. Costs a listing, and a request for each record whose fields the listing does not return.
    pub async fn progress(
        &self,
        drop: &DropPath,
        versions: &[FileVersion],
        replays: u32,
    ) -> Result<BTreeMap<String, FileProgress>, LedgerError> {
        self.read_progress(drop, versions, replays, false).await
    }

    /// Returns the same as [`progress`](Self::progress), but leaves out files whose records cannot be parsed, instead
    /// of failing.
    pub async fn valid_progress(
        &self,
        drop: &DropPath,
        versions: &[FileVersion],
        replays: u32,
    ) -> Result<BTreeMap<String, FileProgress>, LedgerError> {
        self.read_progress(drop, versions, replays, true).await
    }

    async fn read_progress(
        &self,
        drop: &DropPath,
        versions: &[FileVersion],
        replays: u32,
        skips_invalid: bool,
    ) -> Result<BTreeMap<String, FileProgress>, LedgerError> {
        let mut progress = BTreeMap::new();
        if versions.is_empty() {
            return Ok(progress);
        }
        let wanted = versions.iter().map(|file| (paths::file_record(drop, &file.name), file)).collect();
        self.add_progress(&paths::file_records(drop), &wanted, replays, skips_invalid, &mut progress).await?;
        let wanted_v1: HashMap<_, _> = versions
            .iter()
            .filter(|file| !progress.contains_key(&file.name))
            .filter_map(|file| Some((paths::file_record_v1(drop, &file.name)?, file)))
            .collect();
        if !wanted_v1.is_empty() {
            self.add_progress(&paths::file_records_v1(drop), &wanted_v1, replays, skips_invalid, &mut progress).await?;
        }
        Ok(progress)
    }

    /// Adds the progress of files whose records are below `folder`. `wanted` has the files by the path of their record.
    async fn add_progress(
        &self,
        folder: &str,
        wanted: &HashMap<String, &FileVersion>,
        replays: u32,
        skips_invalid: bool,
        progress: &mut BTreeMap<String, FileProgress>,
    ) -> Result<(), LedgerError> {
        let mut listing = self.store.list_with_metadata(&self.container, folder);
        while let Some(listed) = listing.try_next().await? {
            let Some(file) = wanted.get(&listed.blob.path.name) else {
                continue;
            };
            let facts = match self.facts_of(listed, &file.name).await {
                Err(LedgerError::Invalid { .. }) if skips_invalid => None,
                facts => facts?,
            };
            if let Some(facts) = facts.filter(|facts| facts.etag == file.etag && facts.replays == replays) {
                progress.insert(file.name.clone(), facts.progress);
            }
        }
        Ok(())
    }

    /// The facts about a file in the blob metadata of its record, or else in the record; `None` if the record was
    /// deleted.
    async fn facts_of(&self, listed: ListedBlob, name: &str) -> Result<Option<FileFacts>, LedgerError> {
        if let Some(facts) = listed.metadata.as_ref().and_then(json::parse_file_metadata) {
            return Ok(Some(facts));
        }
        let record = self.read_file_record(&listed.blob.path, name).await?;
        Ok(record.map(|(_, record)| record.facts()))
    }

    /// Reads the record of a file. Returns `None` if the file has no record.
    pub async fn file_record(&self, drop: &DropPath, name: &str) -> Result<Option<FileRecord>, LedgerError> {
        let path = self.blob(paths::file_record(drop, name));
        if let Some((_, record)) = self.read_file_record(&path, name).await? {
            return Ok(Some(record));
        }
        self.file_record_v1(drop, name).await
    }

    /// Reads the record of a file from the path of version 1, if that differs from today's path. `None` if there is no
    /// record, or if it is the record of a drop: paths of version 1 could collide.
    async fn file_record_v1(&self, drop: &DropPath, name: &str) -> Result<Option<FileRecord>, LedgerError> {
        let Some(path) = paths::file_record_v1(drop, name) else {
            return Ok(None);
        };
        match self.read_file_record(&self.blob(path), name).await {
            Ok(record) => Ok(record.map(|(_, record)| record)),
            Err(LedgerError::Invalid { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn read_file_record(&self, path: &BlobPath, name: &str) -> Result<Option<(ETag, FileRecord)>, LedgerError> {
        match self.read(path).await? {
            Some((etag, bytes)) => Ok(Some((etag, json::parse_file(path, name, &bytes)?))),
            None => Ok(None),
        }
    }

    /// Reads the record of a drop. Returns an empty record if there is none.
    pub async fn drop_record(&self, drop: &DropPath) -> Result<DropRecord, LedgerError> {
        let path = self.blob(paths::drop_record(drop));
        if let Some((etag, bytes)) = self.read(&path).await? {
            return json::parse_drop(&path, etag, &bytes);
        }
        let Some(path) = paths::drop_record_v1(drop).map(|path| self.blob(path)) else {
            return Ok(DropRecord::default());
        };
        match self.read(&path).await? {
            // The next write creates the record at its new path.
            Some((etag, bytes)) => match json::parse_drop(&path, etag, &bytes) {
                Ok(record) => Ok(DropRecord { version: None, ..record }),
                // Paths of version 1 could collide: this may be the record of a file.
                Err(LedgerError::Invalid { .. }) => Ok(DropRecord::default()),
                Err(error) => Err(error),
            },
            None => Ok(DropRecord::default()),
        }
    }

    /// Writes the record of a drop over the version that was read. Fails with [`LedgerError::Conflict`] if another run
    /// has written it since.
    pub async fn write_drop_record(
        &self,
        drop: &DropPath,
        tenant: TenantId,
        record: &mut DropRecord,
    ) -> Result<(), LedgerError> {
        let now = clock::now();
        record.tenant = Some(tenant);
        record.first_seen.get_or_insert(now);
        let path = self.blob(paths::drop_record(drop));
        let text = Bytes::from(json::format_drop(drop, tenant, record, now));
        let condition = record.version.clone().map_or(WriteIf::Absent, WriteIf::Matches);
        let version = match self.store.write(&path, text.clone(), condition).await {
            Ok(version) => version,
            // Either our own write succeeded and its response was lost, or another run has written the record.
            Err(StoreError::Changed(_)) => match self.read(&path).await? {
                Some((version, found)) if found == text => version,
                _ => return Err(LedgerError::Conflict(drop.clone())),
            },
            Err(error) => return Err(error.into()),
        };
        record.version = Some(version);
        Ok(())
    }

    /// Records that a drop is to be delivered again from its first row, in one write: progress of files from before
    /// this replay no longer counts. Also replaces a record that cannot be parsed. With `new_ids`, the drop gets the
    /// next generation, which is part of every message id.
    pub async fn replay(&self, drop: &DropPath, tenant: TenantId, new_ids: bool) -> Result<(), LedgerError> {
        loop {
            let previous = match self.drop_record(drop).await {
                Err(LedgerError::Invalid { path, .. }) => self.salvaged_record(drop, &path).await?,
                record => record?,
            };
            let mut record = DropRecord {
                replays: previous.replays.wrapping_add(1),
                generation: previous.generation.wrapping_add(new_ids.into()),
                sequence: previous.sequence,
                version: previous.version,
                ..DropRecord::default()
            };
            match self.write_drop_record(drop, tenant, &mut record).await {
                Err(LedgerError::Conflict(_)) => {}
                written => return written,
            }
        }
    }

    /// Deletes the records of these files that cannot be parsed, so that the files are delivered from their first row.
    pub async fn delete_invalid_records(&self, drop: &DropPath, versions: &[FileVersion]) -> Result<(), LedgerError> {
        loop {
            match self.progress(drop, versions, 0).await {
                Err(LedgerError::Invalid { path, .. }) => self.store.delete(&path, None).await?,
                progress => return progress.map(|_| ()),
            }
        }
    }

    /// Waits until every dropped [`ClaimedFile`] has written its last checkpoint and released its lease. Call it before
    /// the process exits, so that the next process need not wait for leases to lapse.
    pub async fn flush(&self) {
        self.tasks.close();
        self.tasks.wait().await;
        self.tasks.reopen();
    }

    fn blob(&self, name: String) -> BlobPath {
        BlobPath::new(&*self.container, name)
    }

    /// Reads a record and its version; `None` if it is missing.
    async fn read(&self, path: &BlobPath) -> Result<Option<(ETag, Bytes)>, LedgerError> {
        let current = read_current(&*self.store, path, MAX_RECORD_BYTES).await?;
        Ok(current.map(|(blob, bytes)| (blob.etag, bytes)))
    }
}
