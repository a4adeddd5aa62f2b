//! Claims: how a run gets the right to work on a file.

use std::sync::Arc;

use time::OffsetDateTime;
use tokio::time::{Instant, sleep_until};

use super::{
    ClaimedFile, FileRecord, LEASE, LEASE_RENEWED_AFTER, Ledger, LedgerError, MAX_RECORD_BYTES, POLL_EVERY,
    RecordLease, Status, json, renewal::Renewal,
};
use crate::{
    batch::BatchLimits,
    drop::{DropPath, FileVersion},
    store::{BlobPath, ETag, StoreError, WriteIf, read_whole},
};

/// The result of claiming a file.
pub enum Claim {
    /// This run has the file, from row `record().next_row` on, until it drops the value.
    Acquired(ClaimedFile),
    /// An earlier run has finished the file or set it aside.
    Ended(FileRecord),
    /// A live run works on the file and handles it; the caller need not wait.
    HeldByLiveRun,
}

impl Ledger {
    /// Tries once to claim `file`. If its record is about another version, that record is replaced: the new version
    /// starts at its first row, with `batch` as its batch limits.
    ///
    /// Returns `None` if another process holds the lease. Whether that process is alive is not known yet.
    pub async fn try_claim(
        &self,
        drop: &DropPath,
        file: &FileVersion,
        batch: BatchLimits,
    ) -> Result<Option<Claim>, LedgerError> {
        let path = self.file_path(drop, &file.name);
        // A run in this process that has not dropped its claim is alive, so there is no need to wait for a renewal.
        if self.active_claims.contains(&path) {
            return Ok(Some(Claim::HeldByLiveRun));
        }
        // The acquisition runs in its own task, so it completes even if the caller is cancelled: the claim is then
        // dropped, which releases the lease.
        let (ledger, record, file) = (self.clone(), path.clone(), file.clone());
        let acquisition = self.tasks.spawn(async move { ledger.acquire(record, &file, batch).await });
        acquisition.await.unwrap_or_else(|end| Err(StoreError::from_join_error(&path, end).into()))
    }

    /// Claims `file`, whose lease another process was first seen to hold at `since`: polls until that lease is released
    /// or lapses, or until it must have been renewed by a live run.
    pub async fn claim(
        &self,
        drop: &DropPath,
        file: &FileVersion,
        batch: BatchLimits,
        since: Instant,
    ) -> Result<Claim, LedgerError> {
        let renewed_after = since + LEASE_RENEWED_AFTER;
        loop {
            let polled = Instant::now();
            if let Some(claim) = self.try_claim(drop, file, batch).await? {
                return Ok(claim);
            }
            if polled >= renewed_after {
                return Ok(Claim::HeldByLiveRun);
            }
            sleep_until((polled + POLL_EVERY).min(renewed_after)).await;
        }
    }

    /// Leases the record at `path`, creating it if it is missing. Returns `None` if the lease is held.
    async fn acquire(
        &self,
        path: BlobPath,
        file: &FileVersion,
        batch: BatchLimits,
    ) -> Result<Option<Claim>, LedgerError> {
        let mut leased = Instant::now();
        let mut created = None;
        let mut id = self.store.lease(&path, LEASE).await;
        if let Err(StoreError::Missing(_)) = id {
            created = self.create_record(&path, FileRecord::new(file.clone(), batch)).await?;
            leased = Instant::now();
            id = self.store.lease(&path, LEASE).await;
        }
        let Some(id) = id? else {
            return Ok(None);
        };
        let lease = RecordLease { store: Arc::clone(&self.store), path, id };
        let mut renewal = Renewal::new(lease.clone(), leased);
        match renewal.during(self.start_attempt(&lease, file, batch, created)).await {
            Ok((etag, record)) if record.status == Status::Running => {
                let claimed = ClaimedFile::new(renewal, etag, record, &self.active_claims, &self.tasks);
                Ok(Some(Claim::Acquired(claimed)))
            }
            Ok((_, record)) => {
                lease.release().await;
                Ok(Some(Claim::Ended(record)))
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
        record: FileRecord,
    ) -> Result<Option<(ETag, FileRecord)>, LedgerError> {
        match self.store.write(path, json::format_file(&record).into(), WriteIf::Absent).await {
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
        file: &FileVersion,
        batch: BatchLimits,
        created: Option<(ETag, FileRecord)>,
    ) -> Result<(ETag, FileRecord), LedgerError> {
        let blob = self.store.find(&lease.path).await?.ok_or_else(|| StoreError::Missing(lease.path.clone()))?;
        if let Some(created) = created.filter(|(etag, _)| *etag == blob.etag) {
            return Ok(created);
        }
        let bytes = read_whole(&*self.store, &blob, MAX_RECORD_BYTES).await?;
        let mut record = json::parse_file(&lease.path, &file.name, &bytes)?;
        if record.file != *file {
            record = FileRecord::new(file.clone(), batch);
        } else if record.status == Status::Running {
            record.attempts = record.attempts.saturating_add(1);
            record.updated = OffsetDateTime::now_utc();
        } else {
            return Ok((blob.etag, record));
        }
        let mut etag = blob.etag;
        lease.write(&mut etag, &record).await?;
        Ok((etag, record))
    }
}
