//! Blobs in memory, and faults on purpose: the stores of tests.
//!
//! [`MemoryStore`] keeps the contract on tokio's clock, so that where time is paused leases lapse without waiting.
//! [`Faulty`] is a store around a store that fails as it is told, so that one mechanism makes any store fail.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    ops::Range,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, stream};
use time::OffsetDateTime;
use tokio::time::Instant;

use super::{Blob, BlobPath, ByteStream, ETag, LeaseId, Store, StoreError, WriteIf, is_safe_segment, raw_url::RawUrl};

/// Blobs in memory. Their addresses are `memory:///container/name`.
#[derive(Debug, Clone, Default)]
pub struct MemoryStore {
    shelf: Arc<Mutex<Shelf>>,
}

#[derive(Debug, Default)]
struct Shelf {
    blobs: BTreeMap<BlobPath, StoredBlob>,
    containers: BTreeSet<String>,
    written: u64,
}

#[derive(Debug)]
struct StoredBlob {
    blob: Blob,
    bytes: Bytes,
    lease: Option<(LeaseId, Duration, Instant)>,
}

impl StoredBlob {
    fn lease(&self) -> Option<&LeaseId> {
        self.lease.as_ref().filter(|(_, _, until)| Instant::now() < *until).map(|(lease, ..)| lease)
    }
}

impl MemoryStore {
    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does `work` on a blob while `lease` is on it.
    fn held(&self, path: &BlobPath, lease: &LeaseId, work: impl FnOnce(&mut StoredBlob)) -> Result<(), StoreError> {
        let mut shelf = self.shelf();
        let kept = shelf.blobs.get_mut(path).ok_or_else(|| StoreError::Missing(path.clone()))?;
        if kept.lease() != Some(lease) {
            return Err(StoreError::LeaseConflict(path.clone()));
        }
        work(kept);
        Ok(())
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn list(&self, container: &str, prefix: &str) -> Result<Vec<Blob>, StoreError> {
        let is_reference = |blob: &&Blob| blob.path.container == container && blob.path.name.starts_with(prefix);
        Ok(self.shelf().blobs.values().map(|kept| &kept.blob).filter(is_reference).cloned().collect())
    }

    async fn find(&self, path: &BlobPath) -> Result<Option<Blob>, StoreError> {
        Ok(self.shelf().blobs.get(path).map(|kept| kept.blob.clone()))
    }

    async fn read_range(&self, blob: &Blob, range: Range<u64>) -> Result<ByteStream, StoreError> {
        let shelf = self.shelf();
        let kept = shelf.blobs.get(&blob.path).ok_or_else(|| StoreError::Missing(blob.path.clone()))?;
        if kept.blob.etag != blob.etag {
            return Err(StoreError::Changed(blob.path.clone()));
        }
        let within = |at: u64| (at as usize).min(kept.bytes.len());
        let bytes = kept.bytes.slice(within(range.start)..within(range.end));
        Ok(stream::iter((!bytes.is_empty()).then_some(Ok(bytes))).boxed())
    }

    async fn write(&self, path: &BlobPath, bytes: Bytes, condition: WriteIf) -> Result<ETag, StoreError> {
        if !is_safe_segment(&path.container) || !path.name.split('/').all(is_safe_segment) {
            return Err(StoreError::unavailable(path, "a blob cannot have this name"));
        }
        let mut shelf = self.shelf();
        let before = shelf.blobs.remove(path);
        let holds = match (&condition, &before) {
            (WriteIf::Always, _) | (WriteIf::Absent, None) => true,
            (WriteIf::Matches(etag) | WriteIf::Leased(etag, _), Some(before)) => before.blob.etag == *etag,
            (WriteIf::Absent, Some(_)) | (WriteIf::Matches(_) | WriteIf::Leased(..), None) => false,
        };
        let is_held = before.as_ref().and_then(StoredBlob::lease) == condition.lease();
        if !holds || !is_held {
            before.into_iter().for_each(|before| _ = shelf.blobs.insert(path.clone(), before));
            let why = if is_held { StoreError::Changed } else { StoreError::LeaseConflict };
            return Err(why(path.clone()));
        }
        shelf.written += 1;
        shelf.containers.insert(path.container.clone());
        let etag = ETag(format!("{:x}", shelf.written));
        let (size, modified) = (bytes.len() as u64, OffsetDateTime::now_utc());
        let blob = Blob { path: path.clone(), etag: etag.clone(), size, modified };
        shelf.blobs.insert(path.clone(), StoredBlob { blob, bytes, lease: before.and_then(|before| before.lease) });
        Ok(etag)
    }

    async fn delete(&self, path: &BlobPath) -> Result<(), StoreError> {
        let mut shelf = self.shelf();
        if shelf.blobs.get(path).is_some_and(|kept| kept.lease().is_some()) {
            return Err(StoreError::LeaseConflict(path.clone()));
        }
        shelf.blobs.remove(path);
        Ok(())
    }

    async fn has_container(&self, container: &str) -> Result<bool, StoreError> {
        Ok(self.shelf().containers.contains(container))
    }

    async fn create_container(&self, container: &str) -> Result<(), StoreError> {
        self.shelf().containers.insert(container.to_owned());
        Ok(())
    }

    async fn lease(&self, path: &BlobPath, time: Duration) -> Result<Option<LeaseId>, StoreError> {
        let mut shelf = self.shelf();
        let kept = shelf.blobs.get_mut(path).ok_or_else(|| StoreError::Missing(path.clone()))?;
        if kept.lease().is_some() {
            return Ok(None);
        }
        let lease = LeaseId::fresh();
        kept.lease = Some((lease.clone(), time, Instant::now() + time));
        Ok(Some(lease))
    }

    async fn renew(&self, path: &BlobPath, lease: &LeaseId) -> Result<(), StoreError> {
        self.held(path, lease, |kept| {
            if let Some((_, time, until)) = &mut kept.lease {
                *until = Instant::now() + *time;
            }
        })
    }

    async fn release(&self, path: &BlobPath, lease: &LeaseId) -> Result<(), StoreError> {
        self.held(path, lease, |kept| kept.lease = None)
    }

    fn parse_blob_url(&self, url: &str) -> Option<BlobPath> {
        let url = RawUrl::split(url).filter(|url| url.scheme == "memory" && url.authority.is_empty())?;
        let path = url.path()?;
        let (container, name) = path.split_once('/')?;
        Some(BlobPath::new(container, name))
    }
}

/// What a store is asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// [`Store::list`].
    List,
    /// [`Store::find`], and [`Store::has_container`].
    Find,
    /// [`Store::read_range`].
    Read,
    /// [`Store::write`], and [`Store::create_container`].
    Write,
    /// [`Store::delete`].
    Delete,
    /// [`Store::lease`].
    Lease,
    /// [`Store::renew`].
    Renew,
    /// [`Store::release`].
    Release,
}

/// What becomes of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is done.
    Through,
    /// It is not done, and the caller is told so.
    Unavailable,
    /// It is done, and the caller is told that it is not.
    AnswerLost,
    /// It is not done, and the caller never hears of it: what a process that is dead asks for.
    Never,
    /// It is done, and the caller never hears of it: the last that a process asked for before it died.
    DoneUnheard,
}

type Plan = dyn Fn(Step, &BlobPath, u64) -> Fate + Send + Sync;

/// A store around a store that fails as it is told.
pub struct Faulty<S> {
    inner: S,
    plan: Box<Plan>,
    steps: AtomicU64,
}

impl<S: Store> Faulty<S> {
    /// Fails as `plan` says, which is given each step, the blob it is about, and its number, from 0.
    pub fn by(inner: S, plan: impl Fn(Step, &BlobPath, u64) -> Fate + Send + Sync + 'static) -> Self {
        Self { inner, plan: Box::new(plan), steps: AtomicU64::new(0) }
    }

    /// How many steps there were.
    pub fn steps(&self) -> u64 {
        self.steps.load(Ordering::SeqCst)
    }

    async fn meet<T: Send>(
        &self,
        step: Step,
        path: &BlobPath,
        work: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        let lost = || StoreError::unavailable(path, "down on purpose");
        match (self.plan)(step, path, self.steps.fetch_add(1, Ordering::SeqCst)) {
            Fate::Through => work.await,
            Fate::Unavailable => Err(lost()),
            Fate::AnswerLost => {
                work.await?;
                Err(lost())
            }
            Fate::Never => std::future::pending().await,
            Fate::DoneUnheard => {
                // Whether it could be done, nobody hears either.
                let _unheard = work.await;
                std::future::pending().await
            }
        }
    }
}

#[async_trait]
impl<S: Store> Store for Faulty<S> {
    async fn list(&self, container: &str, prefix: &str) -> Result<Vec<Blob>, StoreError> {
        self.meet(Step::List, &BlobPath::new(container, prefix), self.inner.list(container, prefix)).await
    }

    async fn find(&self, path: &BlobPath) -> Result<Option<Blob>, StoreError> {
        self.meet(Step::Find, path, self.inner.find(path)).await
    }

    async fn read_range(&self, blob: &Blob, range: Range<u64>) -> Result<ByteStream, StoreError> {
        self.meet(Step::Read, &blob.path, self.inner.read_range(blob, range)).await
    }

    async fn write(&self, path: &BlobPath, bytes: Bytes, condition: WriteIf) -> Result<ETag, StoreError> {
        self.meet(Step::Write, path, self.inner.write(path, bytes, condition)).await
    }

    async fn delete(&self, path: &BlobPath) -> Result<(), StoreError> {
        self.meet(Step::Delete, path, self.inner.delete(path)).await
    }

    async fn has_container(&self, container: &str) -> Result<bool, StoreError> {
        self.meet(Step::Find, &BlobPath::new(container, ""), self.inner.has_container(container)).await
    }

    async fn create_container(&self, container: &str) -> Result<(), StoreError> {
        self.meet(Step::Write, &BlobPath::new(container, ""), self.inner.create_container(container)).await
    }

    async fn lease(&self, path: &BlobPath, time: Duration) -> Result<Option<LeaseId>, StoreError> {
        self.meet(Step::Lease, path, self.inner.lease(path, time)).await
    }

    async fn renew(&self, path: &BlobPath, lease: &LeaseId) -> Result<(), StoreError> {
        self.meet(Step::Renew, path, self.inner.renew(path, lease)).await
    }

    async fn release(&self, path: &BlobPath, lease: &LeaseId) -> Result<(), StoreError> {
        self.meet(Step::Release, path, self.inner.release(path, lease)).await
    }

    fn parse_blob_url(&self, url: &str) -> Option<BlobPath> {
        self.inner.parse_blob_url(url)
    }
}

impl<S: fmt::Debug> fmt::Debug for Faulty<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Faulty").field("inner", &self.inner).finish_non_exhaustive()
    }
}
