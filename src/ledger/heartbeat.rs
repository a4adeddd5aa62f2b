//! The heartbeat of a claim: a task that renews the lease, writes the record, and releases the lease at the end.
//!
//! Each claim has one such task. It is the only writer of the record, so writes need no coordination. Renewals run
//! concurrently with writes, so a slow write does not cost the lease. The run passes the newest record through a
//! channel, and waits for the task only at the end of the claim.

use std::time::Duration;

use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until},
};
use tracing::debug;

use super::{CHECKPOINT_EVERY, CHECKPOINT_LIMIT, FileRecord, LEASE, LedgerError, lease::RecordLease, renewal::Renewal};
use crate::store::ETag;

/// The wait before the last write of a claim is repeated.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Keeps the lease of one claim, and writes its record.
pub(super) struct Heartbeat {
    renewal: Renewal,
    writer: RecordWriter,
}

impl Heartbeat {
    /// The heartbeat of a claim on a record of version `etag`.
    pub(super) fn new(renewal: Renewal, etag: ETag, updates: watch::Receiver<FileRecord>) -> Self {
        let lease = renewal.lease.clone();
        Self { renewal, writer: RecordWriter { lease, etag, updates, unwritten_since: None } }
    }

    /// Runs until the claim ends or is lost. Unless it is lost, writes the last update and then releases the lease.
    pub(super) async fn run(mut self) -> Result<(), LedgerError> {
        let result = self.renewal.during(self.writer.run()).await;
        if !matches!(result, Err(LedgerError::LeaseLost(_))) {
            self.renewal.lease.release().await;
        }
        result
    }
}

/// Writes the updates of a claim to its record. Every write carries the id of the lease.
struct RecordWriter {
    lease: RecordLease,
    /// The version of the record.
    etag: ETag,
    updates: watch::Receiver<FileRecord>,
    /// Since when an update is waiting to be written; `None` if the newest update is written.
    unwritten_since: Option<Instant>,
}

impl RecordWriter {
    /// Writes updates until the claim ends, and then the last update.
    async fn run(&mut self) -> Result<(), LedgerError> {
        self.write_until_claim_ends().await?;
        self.write_last_update().await
    }

    async fn write_until_claim_ends(&mut self) -> Result<(), LedgerError> {
        let mut write_at = Instant::now() + CHECKPOINT_EVERY;
        loop {
            tokio::select! {
                biased;
                () = sleep_until(write_at), if self.unwritten_since.is_some() => {
                    write_at = Instant::now() + CHECKPOINT_EVERY;
                    let since = self.unwritten_since.expect("this branch runs only if there is an update");
                    let written = self.write_update().await;
                    self.tolerate_until(since + CHECKPOINT_LIMIT, written)?;
                }
                changed = self.updates.changed() => match changed {
                    Ok(()) => _ = self.unwritten_since.get_or_insert_with(Instant::now),
                    Err(_claim_ended) => return Ok(()),
                },
            }
        }
    }

    async fn write_update(&mut self) -> Result<(), LedgerError> {
        let record = self.updates.borrow_and_update().clone();
        self.lease.write(&mut self.etag, &record).await?;
        self.unwritten_since = None;
        Ok(())
    }

    /// Writes the last update, which is a checkpoint or the end of the file, unless it is written already. The run
    /// waits for this write, so failed writes are repeated for no longer than [`LEASE`].
    async fn write_last_update(&mut self) -> Result<(), LedgerError> {
        let deadline = Instant::now() + LEASE;
        while self.unwritten_since.is_some() {
            let written = self.write_update().await;
            if written.is_ok() {
                break;
            }
            self.tolerate_until(deadline, written)?;
            sleep(RETRY_AFTER).await;
        }
        Ok(())
    }

    /// Ignores a failure of the store until `deadline`, because the store may answer again before then. Returns every
    /// other failure.
    fn tolerate_until(&self, deadline: Instant, result: Result<(), LedgerError>) -> Result<(), LedgerError> {
        match result {
            Err(LedgerError::Store(error)) if Instant::now() < deadline => {
                debug!(%error, "will retry to write `{}`", self.lease.path);
                Ok(())
            }
            result => result,
        }
    }
}
