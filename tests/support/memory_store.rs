//! A [`Store`] in memory, for tests without Azurite.
//!
//! Leases lapse by tokio's clock, so that a test with paused time does not wait for them.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use percent_encoding::percent_decode_str;
use tokio::time::Instant;
use vivadrop::store::{
    Blob, BlobMetadata, BlobPath, ByteStream, ETag, LeaseId, ListedBlob, Listing, Store, StoreError, WriteIf,
    is_safe_segment,
};

/// Blobs in memory. Clones share them. The URL of a blob is `memory:///container/name`.
#[derive(Debug, Clone, Default)]
pub(crate) struct MemoryStore {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    blobs: BTreeMap<BlobPath, StoredBlob>,
    containers: BTreeSet<String>,
    /// The number of writes so far, which gives each version its ETag.
    writes: u64,
}

#[derive(Debug)]
struct StoredBlob {
    blob: Blob,
    bytes: Bytes,
    metadata: BlobMetadata,
    lease: Option<Lease>,
}

#[derive(Debug)]
struct Lease {
    id: LeaseId,
    duration: Duration,
    lapses: Instant,
}

impl StoredBlob {
    /// The lease that is on the blob now.
    fn lease(&self) -> Option<&LeaseId> {
        self.lease.as_ref().filter(|lease| Instant::now() < lease.lapses).map(|lease| &lease.id)
    }
}

impl MemoryStore {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes a blob if `lease` is on it.
    fn with_lease(
        &self,
        path: &BlobPath,
        lease: &LeaseId,
        change: impl FnOnce(&mut StoredBlob),
    ) -> Result<(), StoreError> {
        let mut state = self.state();
        let stored = state.blobs.get_mut(path).ok_or_else(|| StoreError::Missing(path.clone()))?;
        if stored.lease() != Some(lease) {
            return Err(StoreError::LeaseConflict(path.clone()));
        }
        change(stored);
        Ok(())
    }
}

#[async_trait]
impl Store for MemoryStore {
    fn list<'a>(&'a self, container: &'a str, prefix: &'a str) -> Listing<'a> {
        self.list_with_metadata(container, prefix).map_ok(|listed| listed.blob).boxed()
    }

    fn list_with_metadata<'a>(&'a self, container: &'a str, prefix: &'a str) -> Listing<'a, ListedBlob> {
        let matches =
            |stored: &&StoredBlob| stored.blob.path.container == container && stored.blob.path.name.starts_with(prefix);
        let listed =
            |stored: &StoredBlob| Ok(ListedBlob { blob: stored.blob.clone(), metadata: Some(stored.metadata.clone()) });
        let blobs: Vec<_> = self.state().blobs.values().filter(matches).map(listed).collect();
        stream::iter(blobs).boxed()
    }

    async fn find(&self, path: &BlobPath) -> Result<Option<Blob>, StoreError> {
        Ok(self.state().blobs.get(path).map(|stored| stored.blob.clone()))
    }

    async fn read_range(&self, blob: &Blob, range: Range<u64>) -> Result<ByteStream, StoreError> {
        let state = self.state();
        let stored = state.blobs.get(&blob.path).ok_or_else(|| StoreError::Missing(blob.path.clone()))?;
        if stored.blob.etag != blob.etag {
            return Err(StoreError::Changed(blob.path.clone()));
        }
        let clamp = |at: u64| (at as usize).min(stored.bytes.len());
        let bytes = stored.bytes.slice(clamp(range.start)..clamp(range.end));
        Ok(stream::iter((!bytes.is_empty()).then_some(Ok(bytes))).boxed())
    }

    async fn write_with_metadata(
        &self,
        path: &BlobPath,
        bytes: Bytes,
        metadata: &BlobMetadata,
        condition: WriteIf,
    ) -> Result<ETag, StoreError> {
        if !is_safe_segment(&path.container) || !path.name.split('/').all(is_safe_segment) {
            return Err(StoreError::Unavailable { path: path.clone(), source: "invalid blob name".into() });
        }
        let mut state = self.state();
        let old = state.blobs.get(path);
        let version_matches = match (&condition, old) {
            (WriteIf::Always, _) | (WriteIf::Absent, None) => true,
            (WriteIf::Matches(etag) | WriteIf::Leased(etag, _), Some(old)) => old.blob.etag == *etag,
            (WriteIf::Absent, Some(_)) | (WriteIf::Matches(_) | WriteIf::Leased(..), None) => false,
        };
        let lease = match &condition {
            WriteIf::Leased(_, lease) => Some(lease),
            WriteIf::Always | WriteIf::Absent | WriteIf::Matches(_) => None,
        };
        if old.and_then(StoredBlob::lease) != lease {
            return Err(StoreError::LeaseConflict(path.clone()));
        }
        if !version_matches {
            return Err(StoreError::Changed(path.clone()));
        }
        let lease = state.blobs.remove(path).and_then(|old| old.lease);
        state.writes += 1;
        state.containers.insert(path.container.clone());
        let etag = ETag(format!("{:x}", state.writes));
        let (size, modified) = (bytes.len() as u64, vivadrop::clock::now());
        let blob = Blob { path: path.clone(), etag: etag.clone(), size, modified };
        state.blobs.insert(path.clone(), StoredBlob { blob, bytes, metadata: metadata.clone(), lease });
        Ok(etag)
    }

    async fn delete(&self, path: &BlobPath, version: Option<&ETag>) -> Result<(), StoreError> {
        let mut state = self.state();
        let Some(stored) = state.blobs.get(path) else {
            return Ok(());
        };
        if stored.lease().is_some() {
            return Err(StoreError::LeaseConflict(path.clone()));
        }
        if version.is_some_and(|version| *version != stored.blob.etag) {
            return Err(StoreError::Changed(path.clone()));
        }
        state.blobs.remove(path);
        Ok(())
    }

    async fn has_container(&self, container: &str) -> Result<bool, StoreError> {
        Ok(self.state().containers.contains(container))
    }

    async fn create_container(&self, container: &str) -> Result<(), StoreError> {
        self.state().containers.insert(container.to_owned());
        Ok(())
    }

    async fn lease(&self, path: &BlobPath, duration: Duration) -> Result<Option<LeaseId>, StoreError> {
        let mut state = self.state();
        let stored = state.blobs.get_mut(path).ok_or_else(|| StoreError::Missing(path.clone()))?;
        if stored.lease().is_some() {
            return Ok(None);
        }
        let id = LeaseId::fresh();
        stored.lease = Some(Lease { id: id.clone(), duration, lapses: Instant::now() + duration });
        Ok(Some(id))
    }

    async fn renew(&self, path: &BlobPath, lease: &LeaseId) -> Result<(), StoreError> {
        self.with_lease(path, lease, |stored| {
            if let Some(lease) = &mut stored.lease {
                lease.lapses = Instant::now() + lease.duration;
            }
        })
    }

    async fn release(&self, path: &BlobPath, lease: &LeaseId) -> Result<(), StoreError> {
        self.with_lease(path, lease, |stored| stored.lease = None)
    }

    fn parse_blob_url(&self, url: &str) -> Option<BlobPath> {
        let path = url.strip_prefix("memory:///")?.split(['?', '#']).next()?;
        let path = percent_decode_str(path).decode_utf8().ok()?;
        if !path.split('/').all(is_safe_segment) {
            return None;
        }
        let (container, name) = path.split_once('/')?;
        Some(BlobPath::new(container, name))
    }
}
