//! The index of unfinished drops: one entry for every drop that is not over.
//!
//! An entry is written before the first record of its drop, and rewritten by every event. A run deletes the entry only
//! after the sink has taken the ending, and only in the version that the run has written or found. So if an event
//! arrives while a run ends the drop, the entry stays, and the next sweep runs the drop again.

use futures::{StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::{Ledger, LedgerError, entry, paths};
use crate::{
    drop::{DropPath, TenantId},
    store::{BlobPath, ETag, Listing, StoreError, WriteIf},
};

/// An entry of the index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnfinishedDrop {
    /// The drop path.
    pub path: DropPath,
    /// The tenant that the drop belongs to.
    pub tenant: TenantId,
    /// When sweeps run the drop.
    pub not_before: OffsetDateTime,
    /// The version of the entry.
    pub version: ETag,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
struct EntryJson {
    path: String,
    tenant: TenantId,
    #[serde(with = "time::serde::rfc3339")]
    notbefore: OffsetDateTime,
}

impl Ledger {
    /// Writes the entry of a drop, so that sweeps run the drop from `not_before` on. A run that starts to work on the
    /// drop passes the current time: if the process is killed, the next sweep runs the drop. Returns the version of the
    /// entry.
    pub async fn mark_unfinished(
        &self,
        drop: &DropPath,
        tenant: TenantId,
        not_before: OffsetDateTime,
    ) -> Result<ETag, LedgerError> {
        self.write_entry(drop, tenant, not_before, WriteIf::Always).await
    }

    /// Postpones the next run of a drop by a sweep to `not_before`. Does nothing if an event has rewritten the entry
    /// since `version`, because the event may be about a new blob.
    pub async fn postpone(
        &self,
        drop: &DropPath,
        tenant: TenantId,
        not_before: OffsetDateTime,
        version: &ETag,
    ) -> Result<(), LedgerError> {
        match self.write_entry(drop, tenant, not_before, WriteIf::Matches(version.clone())).await {
            Ok(_) | Err(LedgerError::Store(StoreError::Changed(_))) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Deletes the entry of a drop that is over. Does nothing if an event has rewritten the entry since `version`.
    pub async fn remove_unfinished(&self, drop: &DropPath, version: &ETag) -> Result<(), LedgerError> {
        match self.store.delete(&self.blob(paths::unfinished_entry(drop)), Some(version)).await {
            Ok(()) | Err(StoreError::Changed(_)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Lists the index. Skips blobs that are not entries.
    pub fn unfinished(&self) -> Listing<'_, UnfinishedDrop> {
        let entries = self.entries(paths::UNFINISHED).try_filter_map(async |(version, json): (_, EntryJson)| {
            let EntryJson { path, tenant, notbefore: not_before } = json;
            Ok(path.parse().ok().map(|path| UnfinishedDrop { path, tenant, not_before, version }))
        });
        entries.boxed()
    }

    async fn write_entry(
        &self,
        drop: &DropPath,
        tenant: TenantId,
        not_before: OffsetDateTime,
        condition: WriteIf,
    ) -> Result<ETag, LedgerError> {
        let json = EntryJson {
            path: drop.to_string(),
            tenant,
            notbefore: not_before.replace_nanosecond(0).unwrap_or(not_before),
        };
        let (bytes, metadata) = entry::format(&json);
        let path: BlobPath = self.blob(paths::unfinished_entry(drop));
        Ok(self.store.write_with_metadata(&path, bytes, &metadata, condition).await?)
    }
}
