//! The heartbeat of a claim: a task that renews the lease, writes checkpoints, and releases the lease at the end.
//!
//! Each claim has one such task. It is the only writer of the record, so writes need no coordination. The run passes it
//! the newest record through a channel, and waits for it only at the end of the claim.

use std::time::Duration;

use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until},
};
use tracing::debug;

use super::{CHECKPOINT_EVERY, FileRecord, LEASE, LedgerError, RENEW_EVERY, lease::RecordLease};
use crate::store::ETag;

/// The wait after a failed request.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Keeps the lease of one claim, and writes its record.
pub(super) struct Heartbeat {
    lease: RecordLease,
    /// The version of the record.
    etag: ETag,
    /// When the last successful renewal was requested. The lease lasts at least [`LEASE`] from then.
    renewed: Instant,
    updates: watch::Receiver<FileRecord>,
    /// Since when there is an update that is not written; `None` if the newest one is.
    unwritten_since: Option<Instant>,
}

impl Heartbeat {
    /// The heartbeat of a claim on a record of version `etag`, whose lease was requested at `renewed`.
    pub(super) fn new(lease: RecordLease, etag: ETag, renewed: Instant, updates: watch::Receiver<FileRecord>) -> Self {
        Self { lease, etag, renewed, updates, unwritten_since: None }
    }

    /// Runs until the claim ends or is lost. Unless it is lost, writes the last update and releases the lease.
    pub(super) async fn run(mut self) -> Result<(), LedgerError> {
        let mut result = self.run_until_claim_ends().await;
        if result.is_ok() {
            result = self.write_last_update().await;
        }
        if !matches!(result, Err(LedgerError::LeaseLost(_))) {
            self.lease.release().await;
        }
        result
    }

    async fn run_until_claim_ends(&mut self) -> Result<(), LedgerError> {
        let mut renew_at = self.renewed + RENEW_EVERY;
        let mut write_at = Instant::now() + CHECKPOINT_EVERY;
        loop {
            tokio::select! {
                biased;
                () = sleep_until(renew_at) => renew_at = self.renew().await?,
                () = sleep_until(write_at), if self.unwritten_since.is_some() => {
                    write_at = Instant::now() + CHECKPOINT_EVERY;
                    let since = self.unwritten_since.expect("this branch runs only if there is an update");
                    let written = self.write_update().await;
                    self.tolerate(written, since)?;
                }
                changed = self.updates.changed() => match changed {
                    Ok(()) => _ = self.unwritten_since.get_or_insert_with(Instant::now),
                    Err(_claim_ended) => return Ok(()),
                },
            }
        }
    }

    /// Renews the lease; returns when to do so next.
    async fn renew(&mut self) -> Result<Instant, LedgerError> {
        let requested = Instant::now();
        let renewed = self.lease.renew().await;
        if renewed.is_ok() {
            self.renewed = requested;
            return Ok(requested + RENEW_EVERY);
        }
        self.tolerate(renewed, self.renewed)?;
        Ok(Instant::now() + RETRY_AFTER)
    }

    async fn write_update(&mut self) -> Result<(), LedgerError> {
        let record = self.updates.borrow_and_update().clone();
        self.lease.write(&mut self.etag, &record).await?;
        self.unwritten_since = None;
        Ok(())
    }

    /// Writes the last update, which is a checkpoint or the end of the file, unless it is written already.
    async fn write_last_update(&mut self) -> Result<(), LedgerError> {
        while self.unwritten_since.is_some() {
            let written = self.write_update().await;
            if written.is_ok() {
                break;
            }
            self.tolerate(written, self.renewed)?;
            sleep(RETRY_AFTER).await;
        }
        Ok(())
    }

    /// Ignores a failure of the store until [`LEASE`] after `since`, because it may be over before the lease lapses.
    /// Returns every other failure.
    fn tolerate(&self, result: Result<(), LedgerError>, since: Instant) -> Result<(), LedgerError> {
        match result {
            Err(LedgerError::Store(error)) if since.elapsed() < LEASE => {
                debug!(%error, "will retry to write or renew `{}`", self.lease.path);
                Ok(())
            }
            result => result,
        }
    }
}
