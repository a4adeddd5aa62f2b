//! Renewal of the lease on a record.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use tracing::debug;

use super::{LEASE, LedgerError, RENEW_EVERY, lease::RecordLease};

/// The wait after a failed renewal.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Renews a lease every [`RENEW_EVERY`].
pub(super) struct Renewal {
    pub(super) lease: RecordLease,
    /// When the last successful renewal was requested. The lease lasts at least [`LEASE`] from then.
    renewed: Instant,
}

impl Renewal {
    /// The renewal of a lease that was requested at `leased`.
    pub(super) fn new(lease: RecordLease, leased: Instant) -> Self {
        Self { lease, renewed: leased }
    }

    /// Runs `work`, and renews the lease until `work` ends. The two run concurrently, so a renewal never waits behind
    /// the requests of `work`. If the lease is lost, stops `work` and returns the error.
    pub(super) async fn during<T>(
        &mut self,
        work: impl Future<Output = Result<T, LedgerError>>,
    ) -> Result<T, LedgerError> {
        tokio::select! {
            biased;
            result = work => result,
            lost = self.renew_until_lost() => Err(lost),
        }
    }

    /// Renews the lease; returns only when it is lost, or when the store did not answer for [`LEASE`].
    async fn renew_until_lost(&mut self) -> LedgerError {
        let mut renew_at = self.renewed + RENEW_EVERY;
        loop {
            sleep_until(renew_at).await;
            let requested = Instant::now();
            renew_at = match self.lease.renew().await {
                Ok(()) => {
                    self.renewed = requested;
                    requested + RENEW_EVERY
                }
                // The store may answer again before the lease lapses.
                Err(LedgerError::Store(error)) if self.renewed.elapsed() < LEASE => {
                    debug!(%error, "will retry to renew the lease on `{}`", self.lease.path);
                    Instant::now() + RETRY_AFTER
                }
                Err(error) => return error,
            };
        }
    }
}
