//! The times at which periodic tasks of sweeps were last done.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::{Ledger, LedgerError, json, paths};
use crate::store::WriteIf;

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
}
