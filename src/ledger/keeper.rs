//! What keeps a claim while its run works: renews the lease, writes positions from time to time, and gives the claim up
//! in the end.
//!
//! One task a claim. It alone writes the record, so its writes need no order among them; the run tells it the newest
//! record and never waits for it but at the end. It ends when the run lets go, however that came about.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until, timeout},
};
use tracing::debug;

use super::{ASK_EVERY, CHECKPOINT_EVERY, FileRecord, LEASE, LedgerError, RENEW_EVERY, record};
use crate::store::{BlobPath, ETag, LeaseId, Store, StoreError, WriteIf};

/// How long one request may take: a third of a lease, so that a request that hangs does not cost the claim.
const REQUEST: Duration = RENEW_EVERY;

/// The lease on a record.
#[derive(Debug, Clone)]
pub(super) struct Lease {
    pub(super) store: Arc<dyn Store>,
    pub(super) path: BlobPath,
    pub(super) id: LeaseId,
}

impl Lease {
    /// Begins its time anew.
    pub(super) async fn renew(&self) -> Result<(), LedgerError> {
        self.in_time(self.store.renew(&self.path, &self.id)).await
    }

    /// Writes the record over the version `etag`, and makes that the new one.
    ///
    /// A write whose answer was lost may have been done, or be repeated by the SDK, which then reports the version that it
    /// wrote itself as a stranger's. While the lease is ours nobody else writes: so the version that is there is our own.
    pub(super) async fn write(&self, etag: &mut ETag, record: &FileRecord) -> Result<(), LedgerError> {
        let written = match self.write_over(etag, record).await {
            Err(LedgerError::Store(StoreError::Changed(_))) => {
                let found = self.in_time(self.store.find(&self.path)).await?;
                *etag = found.ok_or_else(|| StoreError::Missing(self.path.clone()))?.etag;
                self.write_over(etag, record).await
            }
            written => written,
        };
        *etag = written?;
        Ok(())
    }

    async fn write_over(&self, etag: &ETag, record: &FileRecord) -> Result<ETag, LedgerError> {
        let condition = WriteIf::Leased(etag.clone(), self.id.clone());
        self.in_time(self.store.write(&self.path, record::of_file(record).into(), condition)).await
    }

    /// Gives it up. Where that fails it lapses by itself.
    pub(super) async fn release(&self) {
        if let Err(error) = self.in_time(self.store.release(&self.path, &self.id)).await {
            debug!(%error, "the claim on `{}` will lapse by itself", self.path);
        }
    }

    async fn in_time<T>(&self, request: impl Future<Output = Result<T, StoreError>>) -> Result<T, LedgerError> {
        match timeout(REQUEST, request).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(StoreError::LeaseConflict(path))) => Err(LedgerError::Lost(path)),
            Ok(Err(error)) => Err(error.into()),
            Err(silence) => Err(StoreError::unavailable(&self.path, silence).into()),
        }
    }
}

/// Keeps one claim.
pub(super) struct Keeper {
    lease: Lease,
    etag: ETag,
    /// When the lease was last renewed, at the earliest.
    renewed: Instant,
    records: watch::Receiver<FileRecord>,
    /// Since when there is something to write.
    behind: Option<Instant>,
}

impl Keeper {
    /// Keeps `lease`, which was asked for at `renewed`, over the version `etag` of the record.
    pub(super) fn new(lease: Lease, etag: ETag, renewed: Instant, records: watch::Receiver<FileRecord>) -> Self {
        Self { lease, etag, renewed, records, behind: None }
    }

    /// Until the run lets go, or the claim is lost.
    pub(super) async fn keep(mut self) -> Result<(), LedgerError> {
        let end = match self.while_worked_on().await {
            Ok(()) => self.write_last().await,
            error => error,
        };
        if !matches!(end, Err(LedgerError::Lost(_))) {
            self.lease.release().await;
        }
        end
    }

    async fn while_worked_on(&mut self) -> Result<(), LedgerError> {
        let mut renew_at = self.renewed + RENEW_EVERY;
        let mut write_at = Instant::now() + CHECKPOINT_EVERY;
        loop {
            let is_behind = self.behind.is_some();
            tokio::select! {
                biased;
                () = sleep_until(renew_at) => renew_at = self.renew().await?,
                () = sleep_until(write_at), if is_behind => {
                    write_at = Instant::now() + CHECKPOINT_EVERY;
                    let since = self.behind.unwrap_or(write_at);
                    let written = self.write().await;
                    self.tolerate(written, since)?;
                }
                changed = self.records.changed() => match changed {
                    Ok(()) => _ = self.behind.get_or_insert_with(Instant::now),
                    Err(_let_go) => return Ok(()),
                },
            }
        }
    }

    /// Renews the lease; returns when to do so next.
    async fn renew(&mut self) -> Result<Instant, LedgerError> {
        let asked = Instant::now();
        let renewed = self.lease.renew().await;
        if renewed.is_ok() {
            self.renewed = asked;
            return Ok(asked + RENEW_EVERY);
        }
        self.tolerate(renewed, self.renewed)?;
        Ok(Instant::now() + ASK_EVERY)
    }

    async fn write(&mut self) -> Result<(), LedgerError> {
        let record = self.records.borrow_and_update().clone();
        self.lease.write(&mut self.etag, &record).await?;
        self.behind = None;
        Ok(())
    }

    /// Writes what is not written yet: the last position, or the end of the file.
    async fn write_last(&mut self) -> Result<(), LedgerError> {
        while self.behind.is_some() {
            let written = self.write().await;
            if written.is_ok() {
                break;
            }
            self.tolerate(written, self.renewed)?;
            sleep(ASK_EVERY).await;
        }
        Ok(())
    }

    /// A store that does not answer is borne for as long as a lease lasts, counted from `since`; a lost claim is not.
    fn tolerate(&self, result: Result<(), LedgerError>, since: Instant) -> Result<(), LedgerError> {
        match result {
            Err(LedgerError::Store(error)) if since.elapsed() < LEASE => {
                debug!(%error, "trying again to write or renew `{}`", self.lease.path);
                Ok(())
            }
            result => result,
        }
    }
}
