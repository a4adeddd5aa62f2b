use std::sync::{
    Mutex as SyncMutex,
    atomic::{AtomicUsize, Ordering},
};

use async_trait::async_trait;
use futures::stream;
use tempfile::TempDir;
use tokio::time::Instant;

use super::*;
use crate::store::{BlobMetadata, BlobPath, ETag, LeaseId, Listing, WriteIf, local::LocalStore};

/// A fault of one connection.
#[derive(Debug, Clone, Copy)]
enum Fault {
    /// The connection cannot be opened.
    CannotConnect,
    /// The connection fails after this number of bytes.
    FailsAfter(usize),
    /// The connection ends without an error after this number of bytes.
    EndsAfter(usize),
    /// The response is the whole blob instead of the requested range.
    IgnoresTheRange,
    /// The blob is overwritten after this number of bytes.
    OverwrittenAfter(usize),
    /// Nothing arrives, and the connection stays open.
    Silent,
}

/// A store whose connections fail. Each connection has the next fault of the list; after that, `always`.
#[derive(Debug)]
struct FaultyStore {
    inner: LocalStore,
    _folder: TempDir,
    faults: SyncMutex<VecDeque<Fault>>,
    always: Option<Fault>,
    requests: SyncMutex<Vec<Range<u64>>>,
    open: Arc<AtomicUsize>,
    most_open: AtomicUsize,
}

impl FaultyStore {
    fn new(faults: impl IntoIterator<Item = Fault>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self {
            inner: LocalStore::new(folder.path()).unwrap(),
            _folder: folder,
            faults: SyncMutex::new(faults.into_iter().collect()),
            always: None,
            requests: SyncMutex::default(),
            open: Arc::default(),
            most_open: AtomicUsize::new(0),
        }
    }

    fn always(fault: Fault) -> Self {
        Self { always: Some(fault), ..Self::new([]) }
    }

    async fn with_blob(self, bytes: &[u8]) -> (Arc<Self>, Blob) {
        let path = BlobPath::new("datasets", "part-0");
        self.inner.write(&path, Bytes::copy_from_slice(bytes), WriteIf::Always).await.unwrap();
        let blob = self.inner.find(&path).await.unwrap().unwrap();
        (Arc::new(self), blob)
    }

    /// The requested ranges, in order.
    fn requests(&self) -> Vec<Range<u64>> {
        self.requests.lock().unwrap().clone()
    }
}

/// Counts a connection as open until it is dropped.
struct OpenConnection(Arc<AtomicUsize>);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

fn connection_lost(blob: &Blob) -> StoreError {
    StoreError::unavailable(&blob.path, "connection reset by peer")
}

#[async_trait]
impl Store for FaultyStore {
    fn list<'a>(&'a self, container: &'a str, prefix: &'a str) -> Listing<'a> {
        self.inner.list(container, prefix)
    }

    async fn find(&self, path: &BlobPath) -> Result<Option<Blob>, StoreError> {
        self.inner.find(path).await
    }

    async fn read_range(&self, blob: &Blob, range: Range<u64>) -> Result<ByteStream, StoreError> {
        let open = self.open.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_open.fetch_max(open, Ordering::SeqCst);
        let connection = OpenConnection(Arc::clone(&self.open));
        self.requests.lock().unwrap().push(range.clone());
        let fault = self.faults.lock().unwrap().pop_front().or(self.always);
        if let Some(Fault::CannotConnect) = fault {
            return Err(connection_lost(blob));
        }
        let range = match fault {
            Some(Fault::IgnoresTheRange) => 0..blob.size,
            _ => range,
        };
        let bytes: Vec<_> = self.inner.read_range(blob, range).await?.try_collect().await?;
        let bytes = bytes.concat();
        let first = |count: usize| Ok(Bytes::copy_from_slice(&bytes[..count.min(bytes.len())]));
        let items = match fault {
            Some(Fault::FailsAfter(count)) => vec![first(count), Err(connection_lost(blob))],
            Some(Fault::EndsAfter(count)) => vec![first(count)],
            Some(Fault::OverwrittenAfter(count)) => vec![first(count), Err(StoreError::Changed(blob.path.clone()))],
            Some(Fault::Silent) => {
                return Ok(stream::pending().inspect(move |_: &Result<_, _>| _ = &connection).boxed());
            }
            Some(Fault::CannotConnect | Fault::IgnoresTheRange) | None => vec![first(usize::MAX)],
        };
        // Connections take some time, so that as many are open at once as the window allows.
        let items = stream::iter(items).then(move |item| {
            let _connection = &connection;
            async {
                tokio::time::sleep(Duration::from_millis(10)).await;
                item
            }
        });
        Ok(items.boxed())
    }

    async fn write_with_metadata(
        &self,
        path: &BlobPath,
        bytes: Bytes,
        metadata: &BlobMetadata,
        condition: WriteIf,
    ) -> Result<ETag, StoreError> {
        self.inner.write_with_metadata(path, bytes, metadata, condition).await
    }

    async fn delete(&self, path: &BlobPath, version: Option<&ETag>) -> Result<(), StoreError> {
        self.inner.delete(path, version).await
    }

    async fn has_container(&self, container: &str) -> Result<bool, StoreError> {
        self.inner.has_container(container).await
    }

    async fn create_container(&self, container: &str) -> Result<(), StoreError> {
        self.inner.create_container(container).await
    }

    async fn lease(&self, path: &BlobPath, time: Duration) -> Result<Option<LeaseId>, StoreError> {
        self.inner.lease(path, time).await
    }

    async fn renew(&self, path: &BlobPath, lease: &LeaseId) -> Result<(), StoreError> {
        self.inner.renew(path, lease).await
    }

    async fn release(&self, path: &BlobPath, lease: &LeaseId) -> Result<(), StoreError> {
        self.inner.release(path, lease).await
    }

    fn parse_blob_url(&self, url: &str) -> Option<BlobPath> {
        self.inner.parse_blob_url(url)
    }
}

fn window(range_bytes: u64, in_flight: usize) -> ReadWindow {
    ReadWindow {
        range_bytes: range_bytes.try_into().unwrap(),
        in_flight: in_flight.try_into().unwrap(),
        ..ReadWindow::default()
    }
}

async fn read_all(store: &Arc<FaultyStore>, blob: &Blob, window: ReadWindow) -> Result<Vec<u8>, StoreError> {
    let chunks: Vec<Bytes> = read(Arc::clone(store) as _, blob.clone(), window).try_collect().await?;
    Ok(chunks.concat())
}

#[tokio::test(start_paused = true)]
async fn a_blob_is_read_in_order_for_any_size_and_window() {
    let bytes: Vec<u8> = (0..100).collect();
    for (range_bytes, in_flight) in [(1, 1), (7, 3), (10, 4), (100, 2), (101, 2), (u64::MAX, 1)] {
        let (store, blob) = FaultyStore::new([]).with_blob(&bytes).await;
        let read = read_all(&store, &blob, window(range_bytes, in_flight)).await.unwrap();
        assert_eq!(read, bytes, "{range_bytes} bytes, {in_flight} in flight");
    }
}

#[tokio::test(start_paused = true)]
async fn an_empty_blob_is_an_empty_stream() {
    let (store, blob) = FaultyStore::new([]).with_blob(b"").await;
    assert!(read_all(&store, &blob, ReadWindow::default()).await.unwrap().is_empty());
    assert!(store.requests().is_empty());
}

#[tokio::test(start_paused = true)]
async fn as_many_ranges_are_in_flight_as_allowed() {
    let (store, blob) = FaultyStore::new([]).with_blob(&[7; 100]).await;
    read_all(&store, &blob, window(5, 4)).await.unwrap();
    assert_eq!(store.most_open.load(Ordering::SeqCst), 4);
    assert!(store.requests().iter().all(|range| range.end - range.start == 5));
}

#[tokio::test(start_paused = true)]
async fn a_slow_consumer_stops_further_fetches() {
    let (store, blob) = FaultyStore::new([]).with_blob(&[7; 100]).await;
    let mut bytes = read(Arc::clone(&store) as _, blob, window(5, 4));
    bytes.try_next().await.unwrap();
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(store.requests().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_lost_connection_is_resumed_at_the_next_byte() {
    for fault in [Fault::FailsAfter(6), Fault::EndsAfter(6)] {
        let bytes: Vec<u8> = (0..20).collect();
        let (store, blob) = FaultyStore::new([fault]).with_blob(&bytes).await;
        assert_eq!(read_all(&store, &blob, window(20, 1)).await.unwrap(), bytes);
        assert_eq!(store.requests(), [0..20, 6..20], "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_range_in_the_middle_is_resumed_at_the_next_byte() {
    let faults = [Fault::EndsAfter(10), Fault::FailsAfter(3), Fault::CannotConnect, Fault::EndsAfter(0)];
    let bytes: Vec<u8> = (0..30).collect();
    let (store, blob) = FaultyStore::new(faults).with_blob(&bytes).await;
    assert_eq!(read_all(&store, &blob, window(10, 1)).await.unwrap(), bytes);
    assert_eq!(store.requests(), [0..10, 10..20, 13..20, 13..20, 13..20, 20..30]);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_stays_unavailable_is_an_error_after_a_minute() {
    for fault in [Fault::CannotConnect, Fault::EndsAfter(0), Fault::IgnoresTheRange] {
        let (store, blob) = FaultyStore::always(fault).with_blob(&[7; 20]).await;
        let start = Instant::now();
        // Not the first range, because a store that ignores ranges still returns that one correctly.
        let error = fetch(&*store, &blob, 5..10, ReadWindow::default().retry_budget).await.unwrap_err();
        assert!(matches!(error, StoreError::Unavailable { .. }), "{error:?}");
        assert!(start.elapsed() <= Duration::from_secs(61), "{:?}", start.elapsed());
        assert!(store.requests().len() > 3, "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn every_byte_restarts_the_retry_budget() {
    // Five failed connections before each byte take minutes in total, but never one minute without a byte.
    let faults = (0..100).flat_map(|_| [Fault::CannotConnect; 5].into_iter().chain([Fault::FailsAfter(1)]));
    let (store, blob) = FaultyStore::new(faults).with_blob(&[7; 100]).await;
    let start = Instant::now();
    assert_eq!(read_all(&store, &blob, window(100, 1)).await.unwrap(), [7; 100]);
    assert!(start.elapsed() > Duration::from_secs(120), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn overwriting_the_blob_ends_the_read_at_once() {
    let (store, blob) = FaultyStore::new([Fault::OverwrittenAfter(3)]).with_blob(&[7; 10]).await;
    let error = read_all(&store, &blob, window(10, 1)).await.unwrap_err();
    assert!(matches!(error, StoreError::Changed(_)), "{error:?}");
    assert_eq!(store.requests().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn two_versions_of_a_blob_are_never_mixed() {
    let (store, blob) = FaultyStore::new([Fault::FailsAfter(3), Fault::CannotConnect]).with_blob(&[7; 10]).await;
    let mut bytes = read(Arc::clone(&store) as _, blob.clone(), window(3, 1));
    assert_eq!(bytes.try_next().await.unwrap().unwrap(), [7; 3][..]);
    store.write(&blob.path, Bytes::from_static(&[8; 10]), WriteIf::Always).await.unwrap();
    let error = bytes.try_next().await.unwrap_err();
    assert!(matches!(error, StoreError::Changed(_)), "{error:?}");
    assert!(bytes.try_next().await.unwrap().is_none(), "the stream ends after an error");
}

#[tokio::test(start_paused = true)]
async fn a_deleted_blob_is_missing_at_once() {
    let (store, mut blob) = FaultyStore::new([]).with_blob(&[7; 10]).await;
    blob.path.name.push('x');
    let error = read_all(&store, &blob, window(10, 1)).await.unwrap_err();
    assert!(matches!(error, StoreError::Missing(_)), "{error:?}");
    assert_eq!(store.requests().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn dropping_the_stream_closes_its_connections() {
    let (store, blob) = FaultyStore::always(Fault::Silent).with_blob(&[7; 100]).await;
    let mut bytes = read(Arc::clone(&store) as _, blob, window(10, 4));
    let waited = tokio::time::timeout(Duration::from_secs(5), bytes.try_next()).await;
    assert!(waited.is_err());
    assert_eq!(store.open.load(Ordering::SeqCst), 4);
    std::mem::drop(bytes);
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(store.open.load(Ordering::SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn a_small_blob_is_read_across_lost_connections() {
    let (store, blob) = FaultyStore::new([Fault::CannotConnect, Fault::FailsAfter(2)]).with_blob(b"metadata").await;
    assert_eq!(read_whole(&*store, &blob, 8).await.unwrap(), "metadata");
}

#[tokio::test(start_paused = true)]
async fn a_blob_above_the_limit_is_not_read() {
    let (store, blob) = FaultyStore::new([]).with_blob(b"metadata").await;
    let error = read_whole(&*store, &blob, 7).await.unwrap_err();
    assert_eq!(error.to_string(), "`datasets/part-0` has 8 bytes, more than the 7 that such a blob may have");
    assert!(store.requests().is_empty());
}
