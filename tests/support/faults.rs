//! Injects faults into any store or sink: one wrapper for each trait; both have the same faults.
//!
//! Faults of HTTP services are injected over HTTP, by the stubs in `crates/testkit` and by [`super::gateway`].

use std::{
    fmt,
    num::NonZeroUsize,
    ops::Range,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use testkit::plan::Plan;
use vivadrop::{
    message::Message,
    retry::RetryBudget,
    sink::{FailedTry, Sink},
    store::{Blob, BlobMetadata, BlobPath, ByteStream, ETag, LeaseId, ListedBlob, Listing, Store, StoreError, WriteIf},
};

/// What happens to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The call is made, and its result is returned.
    None,
    /// The call is not made. The caller gets a transient error.
    Unavailable,
    /// The call is not made. A store denies access, a sink rejects the message.
    Rejected,
    /// The call is made, but the caller gets a transient error.
    ResponseLost,
    /// The call is not made and never returns, as if the process had been killed before it.
    KilledBefore,
    /// The call is made but never returns, as if the process had been killed while it waited for the response.
    KilledAfter,
    /// The call is made after this time, and its result is returned.
    Delayed(Duration),
}

impl Fault {
    /// Makes `call` with this fault.
    async fn inject<T, E>(
        self,
        call: impl Future<Output = Result<T, E>>,
        unavailable: impl FnOnce() -> E,
        rejected: impl FnOnce() -> E,
    ) -> Result<T, E> {
        match self {
            Self::None => call.await,
            Self::Unavailable => Err(unavailable()),
            Self::Rejected => Err(rejected()),
            Self::ResponseLost => call.await.and_then(|_| Err(unavailable())),
            Self::KilledBefore => std::future::pending().await,
            Self::KilledAfter => {
                // A killed process does not learn the result either.
                _ = call.await;
                std::future::pending().await
            }
            Self::Delayed(time) => {
                tokio::time::sleep(time).await;
                call.await
            }
        }
    }
}

/// A method of [`Store`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    /// [`Store::list`] and [`Store::list_with_metadata`].
    List,
    /// [`Store::find`] and [`Store::has_container`].
    Find,
    /// [`Store::open`] and [`Store::read_range`].
    Read,
    /// [`Store::write_with_metadata`] and [`Store::create_container`].
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

/// A call to a store.
#[derive(Debug)]
pub(crate) struct StoreCall {
    pub(crate) operation: Operation,
    /// The blob; the prefix for a listing; an empty name for a container.
    pub(crate) path: BlobPath,
}

/// Injects planned faults into a store.
#[derive(Debug)]
pub(crate) struct FaultyStore<S> {
    inner: S,
    pub(crate) plan: Plan<StoreCall, Fault>,
    calls: AtomicU64,
}

impl<S: Store> FaultyStore<S> {
    pub(crate) fn new(inner: S, plan: Plan<StoreCall, Fault>) -> Self {
        Self { inner, plan, calls: AtomicU64::new(0) }
    }

    /// The number of calls so far, including those with faults.
    pub(crate) fn calls(&self) -> u64 {
        self.calls.load(Ordering::SeqCst)
    }

    /// Counts a call, and makes it with the fault that the plan chooses.
    async fn call<T>(
        &self,
        operation: Operation,
        path: &BlobPath,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let fault = self.plan.choose(&StoreCall { operation, path: path.clone() });
        let unavailable = || StoreError::Unavailable { path: path.clone(), source: "injected fault".into() };
        fault.inject(call, unavailable, || StoreError::Denied(path.clone())).await
    }
}

#[async_trait]
impl<S: Store> Store for FaultyStore<S> {
    fn list<'a>(&'a self, container: &'a str, prefix: &'a str) -> Listing<'a> {
        let path = BlobPath::new(container, prefix);
        // A fault applies to the whole listing.
        let listing = async move {
            let blobs = self.inner.list(container, prefix).try_collect::<Vec<_>>();
            Ok(stream::iter(self.call(Operation::List, &path, blobs).await?.into_iter().map(Ok)))
        };
        stream::once(listing).try_flatten().boxed()
    }

    fn list_with_metadata<'a>(&'a self, container: &'a str, prefix: &'a str) -> Listing<'a, ListedBlob> {
        let path = BlobPath::new(container, prefix);
        let listing = async move {
            let blobs = self.inner.list_with_metadata(container, prefix).try_collect::<Vec<_>>();
            Ok(stream::iter(self.call(Operation::List, &path, blobs).await?.into_iter().map(Ok)))
        };
        stream::once(listing).try_flatten().boxed()
    }

    async fn find(&self, path: &BlobPath) -> Result<Option<Blob>, StoreError> {
        self.call(Operation::Find, path, self.inner.find(path)).await
    }

    async fn read_range(&self, blob: &Blob, range: Range<u64>) -> Result<ByteStream, StoreError> {
        self.call(Operation::Read, &blob.path, self.inner.read_range(blob, range)).await
    }

    async fn open(&self, path: &BlobPath) -> Result<Option<(Blob, ByteStream)>, StoreError> {
        self.call(Operation::Read, path, self.inner.open(path)).await
    }

    async fn write_with_metadata(
        &self,
        path: &BlobPath,
        bytes: Bytes,
        metadata: &BlobMetadata,
        condition: WriteIf,
    ) -> Result<ETag, StoreError> {
        let write = self.inner.write_with_metadata(path, bytes, metadata, condition);
        self.call(Operation::Write, path, write).await
    }

    async fn delete(&self, path: &BlobPath, version: Option<&ETag>) -> Result<(), StoreError> {
        self.call(Operation::Delete, path, self.inner.delete(path, version)).await
    }

    async fn has_container(&self, container: &str) -> Result<bool, StoreError> {
        let path = BlobPath::new(container, "");
        self.call(Operation::Find, &path, self.inner.has_container(container)).await
    }

    async fn create_container(&self, container: &str) -> Result<(), StoreError> {
        let path = BlobPath::new(container, "");
        self.call(Operation::Write, &path, self.inner.create_container(container)).await
    }

    async fn lease(&self, path: &BlobPath, duration: Duration) -> Result<Option<LeaseId>, StoreError> {
        self.call(Operation::Lease, path, self.inner.lease(path, duration)).await
    }

    async fn renew(&self, path: &BlobPath, lease: &LeaseId) -> Result<(), StoreError> {
        self.call(Operation::Renew, path, self.inner.renew(path, lease)).await
    }

    async fn release(&self, path: &BlobPath, lease: &LeaseId) -> Result<(), StoreError> {
        self.call(Operation::Release, path, self.inner.release(path, lease)).await
    }

    fn parse_blob_url(&self, url: &str) -> Option<BlobPath> {
        self.inner.parse_blob_url(url)
    }
}

/// Injects planned faults into a sink.
pub(crate) struct FaultySink<S> {
    pub(crate) inner: S,
    pub(crate) plan: Plan<Message, Fault>,
}

#[async_trait]
impl<S: Sink> Sink for FaultySink<S> {
    async fn try_deliver(&self, message: &Message) -> Result<(), FailedTry> {
        let answer = "injected fault";
        let fault = self.plan.choose(message);
        let call = self.inner.try_deliver(message);
        fault.inject(call, || FailedTry::transient(answer), || FailedTry::rejected(answer)).await
    }

    fn retry_budget(&self) -> RetryBudget {
        self.inner.retry_budget()
    }

    fn name(&self) -> String {
        self.inner.name()
    }

    fn largest_message(&self) -> Option<NonZeroUsize> {
        self.inner.largest_message()
    }
}

impl<S: fmt::Debug> fmt::Debug for FaultySink<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultySink").field("inner", &self.inner).finish_non_exhaustive()
    }
}
