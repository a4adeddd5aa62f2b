//! When the containers were last listed for lost events.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::{Ledger, LedgerError, json, paths};
use crate::store::WriteIf;

#[derive(Serialize, Deserialize)]
struct LastListing {
    #[serde(with = "time::serde::rfc3339")]
    listed: OffsetDateTime,
}

impl Ledger {
    /// When a sweep with these `settings` last listed the containers; `None` if it never did, or if the record cannot be
    /// parsed.
    pub async fn last_listing(&self, settings: &str) -> Result<Option<OffsetDateTime>, LedgerError> {
        let record = self.read(&self.blob(paths::last_listing(settings))).await?;
        Ok(record.and_then(|(_, bytes)| Some(serde_json::from_slice::<LastListing>(&bytes).ok()?.listed)))
    }

    /// Records that a sweep with these `settings` listed the containers at the time `listed`.
    pub async fn record_listing(&self, settings: &str, listed: OffsetDateTime) -> Result<(), LedgerError> {
        let text = json::format(&LastListing { listed });
        self.store.write(&self.blob(paths::last_listing(settings)), text.into(), WriteIf::Always).await?;
        Ok(())
    }
}
