//! The times at which periodic tasks of sweeps were last done, and at which sweeps last found a tenant paused.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::{Ledger, LedgerError, json, paths};
use crate::{drop::TenantId, store::WriteIf};

#[derive(Serialize, Deserialize)]
struct LastDone {
    #[serde(with = "time::serde::rfc3339")]
    done: OffsetDateTime,
}

impl Ledger {
    /// When `task` was last done; `None` if it never was, or if the record cannot be parsed.
    pub async fn last_done(&self, task: &str) -> Result<Option<OffsetDateTime>, LedgerError> {
        let record = self.read(&self.blob(paths::periodic(task))).await?;
        Ok(record.and_then(|(_, bytes)| Some(serde_json::from_slice::<LastDone>(&bytes).ok()?.done)))
    }

    /// Records that `task` was done at this time.
    pub async fn record_done(&self, task: &str, done: OffsetDateTime) -> Result<(), LedgerError> {
        let text = json::format(&LastDone { done });
        self.store.write(&self.blob(paths::periodic(task)), text.into(), WriteIf::Always).await?;
        Ok(())
    }

    /// When a sweep last found the tenant paused, with unfinished drops; `None` if none did.
    pub async fn last_paused(&self, tenant: TenantId) -> Result<Option<OffsetDateTime>, LedgerError> {
        self.last_done(&pause_of(tenant)).await
    }

    /// Records that the tenant is paused at this time. One record for all drops of the tenant: a sweep must not need a
    /// request for each of them.
    pub async fn record_pause(&self, tenant: TenantId, now: OffsetDateTime) -> Result<(), LedgerError> {
        self.record_done(&pause_of(tenant), now).await
    }
}

/// The name under which the ledger records when the tenant was last paused.
fn pause_of(tenant: TenantId) -> String {
    format!("pause {tenant}")
}
