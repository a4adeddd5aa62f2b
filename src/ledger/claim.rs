//! Claims: how a run gets the right to work on a file.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio::time::{Instant, sleep_until};

use super::{
    ClaimedFile, FileRecord, KeysVersion, LEASE, LEASE_RENEWED_AFTER, Ledger, LedgerError, POLL_EVERY, Status, json,
    lease::RecordLease, paths, renewal::Renewal,
};
use crate::{
    batch::BatchLimits,
    clock,
    drop::{DropPath, FileVersion},
    store::{BlobPath, ETag, StoreError, WriteIf},
};

/// Whether a run has made progress. Clones share the flag, so it can be read after the run was cancelled.
#[derive(Debug, Clone, Default)]
pub struct ProgressFlag(Arc<AtomicBool>);

impl ProgressFlag {
    /// Whether rows were acknowledged or a file has ended.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The file that a run wants to work on.
#[derive(Debug, Clone)]
pub struct ClaimRequest {
    /// The drop.
    pub drop: DropPath,
    /// The file, in the version that the run has listed.
    pub file: FileVersion,
    /// The limits of batches, for a file that no run has started.
    pub batch: BatchLimits,
    /// How often the drop was replayed, as far as the run knows. Progress from before the last replay does not count.
    pub replays: u32,
    /// Whether the file probably has no record yet, which saves a request. The claim also works if there is a record.
    pub is_new: bool,
    /// Set as soon as rows are acknowledged or the file ends.
    pub progress: ProgressFlag,
    /// The generation of the drop. In a new generation message ids are new, so batches may have new limits.
    pub generation: u32,
    /// The version of the job metadata and the key details that the run takes the keys from. A file that was set aside
    /// with another version is tried again.
    pub keys: KeysVersion,
    /// The span of the run, as a `traceparent`, if it is exported.
    pub run: Option<String>,
}

/// The result of claiming a file.
pub enum Claim {
    /// This run may work on the file, from row `record().next_row` on, until it drops the value.
    Acquired(ClaimedFile),
    /// An earlier run has finished the file, or set it aside with the same keys.
    Ended(FileRecord),
    /// A live run works on the file and handles it; the caller need not wait.
    HeldByLiveRun,
    /// The blob has been overwritten, or the drop replayed, since the run read the listing or the record of the drop.
    Outdated,
}

impl Ledger {
    /// Tries once to claim a file. If its record is about an earlier version or replay, that record is replaced: the
    /// new version starts at its first row.
    ///
    /// Returns `None` if another process holds the lease. Whether that process is alive is not known yet.
    pub async fn try_claim(&self, request: &ClaimRequest) -> Result<Option<Claim>, LedgerError> {
        let path = self.blob(paths::file_record(&request.drop, &request.file.name));
        // A run in this process that has not dropped its claim is alive, so there is no need to wait for a renewal.
        if self.active_claims.contains(&path) {
            return Ok(Some(Claim::HeldByLiveRun));
        }
        // The acquisition runs in its own task, so it completes even if the caller is cancelled: the claim is then
        // dropped, which releases the lease.
        let (ledger, record, request) = (self.clone(), path.clone(), request.clone());
        let acquisition = self.tasks.spawn(async move { ledger.acquire(record, &request).await });
        acquisition.await.unwrap_or_else(|end| Err(StoreError::from_join_error(&path, end).into()))
    }

    /// Claims a file whose lease another process was first seen to hold at `since`: polls until that lease is released
    /// or lapses, or until it must have been renewed by a live run.
    pub async fn claim(&self, request: &ClaimRequest, since: Instant) -> Result<Claim, LedgerError> {
        let renewed_after = since + LEASE_RENEWED_AFTER;
        loop {
            let polled = Instant::now();
            if let Some(claim) = self.try_claim(request).await? {
                return Ok(claim);
            }
            if polled >= renewed_after {
                return Ok(Claim::HeldByLiveRun);
            }
            sleep_until((polled + POLL_EVERY).min(renewed_after)).await;
        }
    }

    /// Leases the record at `path`, creating it if it is missing. Returns `None` if the lease is held.
    async fn acquire(&self, path: BlobPath, request: &ClaimRequest) -> Result<Option<Claim>, LedgerError> {
        let mut created = if request.is_new { self.create_record(&path, request).await? } else { None };
        let mut leased = Instant::now();
        let mut id = self.store.lease(&path, LEASE).await;
        if let Err(StoreError::Missing(_)) = id {
            created = self.create_record(&path, request).await?;
            leased = Instant::now();
            id = self.store.lease(&path, LEASE).await;
        }
        let Some(id) = id? else {
            return Ok(None);
        };
        let lease = RecordLease { store: Arc::clone(&self.store), path, id };
        let mut renewal = Renewal::new(lease.clone(), leased);
        match renewal.during(self.start_attempt(&lease, request, created)).await {
            Ok(Started::Running { etag, record, killed_run }) => {
                let progress = request.progress.clone();
                let claimed =
                    ClaimedFile::new(renewal, etag, record, killed_run, progress, &self.active_claims, &self.tasks);
                Ok(Some(Claim::Acquired(claimed)))
            }
            Ok(Started::Ended(record)) => {
                lease.release().await;
                Ok(Some(Claim::Ended(record)))
            }
            Ok(Started::Outdated) => {
                lease.release().await;
                Ok(Some(Claim::Outdated))
            }
            Err(error) => {
                lease.release().await;
                Err(error)
            }
        }
    }

    /// Writes the first record of a file. Returns `None` if another run has created it at the same time.
    async fn create_record(
        &self,
        path: &BlobPath,
        request: &ClaimRequest,
    ) -> Result<Option<(ETag, FileRecord)>, LedgerError> {
        let ClaimRequest { drop, file, batch, replays, generation, keys, run, .. } = request;
        let earlier = self.file_record_v1(drop, &file.name).await?;
        let mut record = earlier.unwrap_or_else(|| FileRecord::new(file.clone(), *batch, *replays, *generation, *keys));
        record.run.clone_from(run);
        let (bytes, metadata) = (json::format_file(&record).into(), json::file_metadata(&record));
        match self.store.write_with_metadata(path, bytes, &metadata, WriteIf::Absent).await {
            Ok(etag) => Ok(Some((etag, record))),
            Err(StoreError::Changed(_) | StoreError::LeaseConflict(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Reads the leased record. Counts this run's attempt and writes the record back, unless the file has ended, or
    /// unless the record is still the one that this run has `created`.
    async fn start_attempt(
        &self,
        lease: &RecordLease,
        request: &ClaimRequest,
        created: Option<(ETag, FileRecord)>,
    ) -> Result<Started, LedgerError> {
        let ClaimRequest { drop, file, batch, replays, generation, keys, run, .. } = request;
        let (mut etag, mut record) = self
            .read_file_record(&lease.path, &file.name)
            .await?
            .ok_or_else(|| StoreError::Missing(lease.path.clone()))?;
        let is_same = record.file == *file && record.replays == *replays;
        if is_same && created.is_some_and(|(created, _)| created == etag) && record.status == Status::Running {
            return Ok(Started::Running { etag, record, killed_run: None });
        }
        if record.replays > *replays {
            return Ok(Started::Outdated);
        }
        if record.file != *file && !self.is_current(drop, file).await? {
            return Ok(Started::Outdated);
        }
        let mut killed_run = None;
        if !is_same {
            // A replay that keeps the message ids needs batches with the same limits.
            let keeps_ids = record.file == *file && record.generation == *generation;
            let batch = if keeps_ids { record.batch } else { *batch };
            record = FileRecord::new(file.clone(), batch, *replays, *generation, *keys);
        } else if record.progress().has_ended(*keys) {
            return Ok(Started::Ended(record));
        } else {
            if matches!(record.status, Status::SetAside(_)) {
                record.restart();
            }
            killed_run = record.run.take();
            record.attempts = record.attempts.saturating_add(1);
            record.updated = clock::now();
        }
        record.keys = Some(*keys);
        record.run.clone_from(run);
        lease.write(&mut etag, &record).await?;
        Ok(Started::Running { etag, record, killed_run })
    }

    /// Whether the newest version of the file is still this one. A run may have waited for the claim, and must not
    /// replace the record of a newer version.
    async fn is_current(&self, drop: &DropPath, file: &FileVersion) -> Result<bool, LedgerError> {
        Ok(self.store.find(&drop.blob(&file.name)).await?.is_some_and(|newest| newest.etag == file.etag))
    }
}

/// The state of a file after a run has leased its record.
enum Started {
    Running {
        etag: ETag,
        record: FileRecord,
        /// The span of the last run, if that run was killed.
        killed_run: Option<String>,
    },
    Ended(FileRecord),
    Outdated,
}
