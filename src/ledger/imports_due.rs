//! The index of imports: when the next pass over the imports of each tenant is due. Also the lease on these imports.
//!
//! A tenant has one entry. A request for an import writes the entry. A pass rewrites the entry when it ends, unless the
//! entry has been written since the pass began. Sweeps compare the entry with the stored definitions and with the
//! delivered drops, and make a pass due if either has changed.

use std::{future::ready, sync::Arc};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use tokio::time::Instant;

use super::{LEASE, Ledger, LedgerError, entry, lease::RecordLease, paths, renewal::Renewal};
use crate::{
    clock::whole_seconds,
    drop::TenantId,
    store::{ETag, Listing, StoreError, WriteIf},
};

/// The text of a member that says that there is a record.
const RECORD_EXISTS: &str = "yes";

/// An entry of the index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportsEntry {
    /// The tenant.
    pub tenant: TenantId,
    /// When the next pass begins; `None` if there is nothing to do until a drop ends or the definitions change.
    pub not_before: Option<OffsetDateTime>,
    /// The version of the definitions that the last pass has seen.
    pub definitions: Option<ETag>,
    /// The sum of the [hashes](super::ListEntry::delivery_hash) of the delivered drops that the last pass has seen.
    pub drops: u64,
    /// Whether the tenant had a record of its imports when a pass ended or was requested. If it has none now, a person
    /// has deleted it.
    pub has_record: bool,
    /// How many passes in a row have failed.
    pub attempts: u64,
    /// When the first pass failed after the last one that made progress; `None` if none did.
    pub since: Option<OffsetDateTime>,
    /// The last failure, for people.
    pub error: Option<String>,
    /// The version of the entry.
    pub version: ETag,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
struct EntryJson {
    tenant: TenantId,
    #[serde(default, with = "time::serde::rfc3339::option")]
    notbefore: Option<OffsetDateTime>,
    #[serde(default)]
    definitions: Option<String>,
    #[serde(default, deserialize_with = "entry::number")]
    drops: u64,
    #[serde(default)]
    record: Option<String>,
    #[serde(default, deserialize_with = "entry::number")]
    attempts: u64,
    #[serde(default, with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    since: Option<OffsetDateTime>,
    #[serde(default)]
    error: Option<String>,
}

impl EntryJson {
    fn entry(self, version: ETag) -> ImportsEntry {
        ImportsEntry {
            tenant: self.tenant,
            not_before: self.notbefore,
            definitions: self.definitions.map(ETag),
            drops: self.drops,
            has_record: self.record.is_some(),
            attempts: self.attempts,
            since: self.since,
            error: self.error,
            version,
        }
    }
}

impl Ledger {
    /// Makes a pass over the imports of a tenant due now. The tenant has a record of its imports.
    pub async fn mark_imports_due(&self, tenant: TenantId, now: OffsetDateTime) -> Result<(), LedgerError> {
        let earlier = self.imports_entry(tenant).await?;
        let json = EntryJson {
            tenant,
            notbefore: Some(whole_seconds(now)),
            definitions: None,
            drops: 0,
            record: Some(RECORD_EXISTS.to_owned()),
            attempts: 0,
            since: earlier.and_then(|earlier| earlier.since),
            error: None,
        };
        let (bytes, metadata) = entry::format(&json);
        let path = self.blob(paths::imports_entry(tenant));
        self.store.write_with_metadata(&path, bytes, &metadata, WriteIf::Always).await?;
        Ok(())
    }

    /// Rewrites an entry, unless it has been written since. `entry.version` is the version that was read; `None` if
    /// there was none.
    pub async fn rewrite_imports_entry(
        &self,
        entry: &ImportsEntry,
        replaces: Option<&ETag>,
    ) -> Result<(), LedgerError> {
        let json = EntryJson {
            tenant: entry.tenant,
            notbefore: entry.not_before.map(whole_seconds),
            definitions: entry.definitions.as_ref().map(|etag| etag.0.clone()),
            drops: entry.drops,
            record: entry.has_record.then(|| RECORD_EXISTS.to_owned()),
            attempts: entry.attempts,
            since: entry.since.map(whole_seconds),
            error: entry.error.clone(),
        };
        let (bytes, metadata) = entry::format(&json);
        let condition = replaces.cloned().map_or(WriteIf::Absent, WriteIf::Matches);
        let path = self.blob(paths::imports_entry(entry.tenant));
        match self.store.write_with_metadata(&path, bytes, &metadata, condition).await {
            Ok(_) | Err(StoreError::Changed(_)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Lists the index. Skips blobs that are not entries.
    pub fn imports_entries(&self) -> Listing<'_, ImportsEntry> {
        self.entries(paths::IMPORTS_DUE).map_ok(|(version, json): (_, EntryJson)| json.entry(version)).boxed()
    }

    /// Reads the entry of a tenant; `None` if there is none.
    pub async fn imports_entry(&self, tenant: TenantId) -> Result<Option<ImportsEntry>, LedgerError> {
        let Some((version, bytes)) = self.read(&self.blob(paths::imports_entry(tenant))).await? else {
            return Ok(None);
        };
        Ok(serde_json::from_slice(&bytes).ok().map(|json: EntryJson| json.entry(version)))
    }

    /// The tenants that have definitions, and the version of the definitions. Skips blobs that are not definitions.
    pub fn definitions_versions(&self) -> Listing<'_, (TenantId, ETag)> {
        let tenant = |name: &str| name.strip_prefix(paths::DEFINITIONS)?.strip_suffix(".json")?.parse().ok();
        let listed = self.store.list(&self.container, paths::DEFINITIONS);
        listed.try_filter_map(move |blob| ready(Ok(tenant(&blob.path.name).map(|tenant| (tenant, blob.etag))))).boxed()
    }

    /// Does `work` under a lease on the imports of `tenant`, so that one process at a time imports for the tenant.
    /// Returns `None` if another process holds the lease. If the lease is lost, stops `work` and fails. If the process
    /// is killed, the lease lapses within [`LEASE`].
    pub async fn with_imports_lease<T>(
        &self,
        tenant: TenantId,
        work: impl Future<Output = T>,
    ) -> Result<Option<T>, LedgerError> {
        let path = self.blob(paths::imports_lease(tenant));
        let mut leased = Instant::now();
        let mut id = self.store.lease(&path, LEASE).await;
        if let Err(StoreError::Missing(_)) = id {
            match self.store.write(&path, Bytes::from_static(b"{}\n"), WriteIf::Absent).await {
                Ok(_) | Err(StoreError::Changed(_) | StoreError::LeaseConflict(_)) => {}
                Err(error) => return Err(error.into()),
            }
            leased = Instant::now();
            id = self.store.lease(&path, LEASE).await;
        }
        let Some(id) = id? else { return Ok(None) };
        let lease = RecordLease { store: Arc::clone(&self.store), path, id };
        // Releases the lease also if the work is cancelled.
        let release = ReleaseOnDrop { ledger: self.clone(), lease: Some(lease.clone()) };
        let result = Renewal::new(lease, leased).during(async { Ok(work.await) }).await;
        release.now().await;
        result.map(Some)
    }
}

/// A lease that is released when this is dropped.
struct ReleaseOnDrop {
    ledger: Ledger,
    lease: Option<RecordLease>,
}

impl ReleaseOnDrop {
    async fn now(mut self) {
        if let Some(lease) = self.lease.take() {
            lease.release().await;
        }
    }
}

impl Drop for ReleaseOnDrop {
    fn drop(&mut self) {
        if let Some(lease) = self.lease.take() {
            self.ledger.tasks.spawn(async move { lease.release().await });
        }
    }
}
