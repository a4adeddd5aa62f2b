use std::sync::{
    Mutex as SyncMutex,
    atomic::{AtomicUsize, Ordering},
};

use async_trait::async_trait;
use futures::stream;
use tempfile::TempDir;
use tokio::time::Instant;

use super::*;
use crate::store::{BlobPath, ETag, LeaseId, WriteIf, local::LocalStore};

/// What becomes of a connection.
#[derive(Debug, Clone, Copy)]
enum Fate {
    /// No connection at all.
    Refused,
    /// Breaks after so many bytes.
    BreaksAfter(usize),
    /// Ends without a word after so many bytes.
    EndsAfter(usize),
    /// Sends the blob from its beginning, whatever was asked for.
    IgnoresTheRange,
    /// Somebody overwrites the blob after so many bytes.
    OverwrittenAfter(usize),
    /// Stays silent.
    Silent,
}

/// A keeper around a keeper: each connection meets the next fate, and none when they are used up.
#[derive(Debug)]
struct Faulty {
    inner: LocalStore,
    _folder: TempDir,
    fates: SyncMutex<VecDeque<Fate>>,
    forever: Option<Fate>,
    asked: SyncMutex<Vec<Range<u64>>>,
    open: Arc<AtomicUsize>,
    most_open: AtomicUsize,
}

impl Faulty {
    fn new(fates: impl IntoIterator<Item = Fate>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self {
            inner: LocalStore::new(folder.path()).unwrap(),
            _folder: folder,
            fates: SyncMutex::new(fates.into_iter().collect()),
            forever: None,
            asked: SyncMutex::default(),
            open: Arc::default(),
            most_open: AtomicUsize::new(0),
        }
    }

    fn always(fate: Fate) -> Self {
        Self { forever: Some(fate), ..Self::new([]) }
    }

    async fn with_blob(self, bytes: &[u8]) -> (Arc<Self>, Blob) {
        let path = BlobPath::new("datasets", "part-0");
        self.inner.write(&path, Bytes::copy_from_slice(bytes), WriteIf::Always).await.unwrap();
        let blob = self.inner.find(&path).await.unwrap().unwrap();
        (Arc::new(self), blob)
    }

    fn asked(&self) -> Vec<Range<u64>> {
        self.asked.lock().unwrap().clone()
    }
}

/// Counts a connection for as long as it lives.
struct Open(Arc<AtomicUsize>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

fn lost(blob: &Blob) -> StoreError {
    StoreError::unavailable(&blob.path, "connection reset by peer")
}

#[async_trait]
impl Store for Faulty {
    async fn list(&self, container: &str, prefix: &str) -> Result<Vec<Blob>, StoreError> {
        self.inner.list(container, prefix).await
    }

    async fn find(&self, path: &BlobPath) -> Result<Option<Blob>, StoreError> {
        self.inner.find(path).await
    }

    async fn read_range(&self, blob: &Blob, range: Range<u64>) -> Result<ByteStream, StoreError> {
        let open = self.open.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_open.fetch_max(open, Ordering::SeqCst);
        let guard = Open(Arc::clone(&self.open));
        self.asked.lock().unwrap().push(range.clone());
        let fate = self.fates.lock().unwrap().pop_front().or(self.forever);
        if let Some(Fate::Refused) = fate {
            return Err(lost(blob));
        }
        let range = match fate {
            Some(Fate::IgnoresTheRange) => 0..blob.size,
            _ => range,
        };
        let bytes: Vec<_> = self.inner.read_range(blob, range).await?.try_collect().await?;
        let bytes = bytes.concat();
        let first = |count: usize| Ok(Bytes::copy_from_slice(&bytes[..count.min(bytes.len())]));
        let items = match fate {
            Some(Fate::BreaksAfter(count)) => vec![first(count), Err(lost(blob))],
            Some(Fate::EndsAfter(count)) => vec![first(count)],
            Some(Fate::OverwrittenAfter(count)) => vec![first(count), Err(StoreError::Changed(blob.path.clone()))],
            Some(Fate::Silent) => {
                return Ok(stream::pending().inspect(move |_: &Result<_, _>| _ = &guard).boxed());
            }
            Some(Fate::Refused | Fate::IgnoresTheRange) | None => vec![first(usize::MAX)],
        };
        // A connection takes its time, so that those that may be open together are.
        let items = stream::iter(items).then(move |item| {
            let _open = &guard;
            async {
                tokio::time::sleep(Duration::from_millis(10)).await;
                item
            }
        });
        Ok(items.boxed())
    }

    async fn write(&self, path: &BlobPath, bytes: Bytes, condition: WriteIf) -> Result<ETag, StoreError> {
        self.inner.write(path, bytes, condition).await
    }

    async fn delete(&self, path: &BlobPath) -> Result<(), StoreError> {
        self.inner.delete(path).await
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

async fn read_all(store: &Arc<Faulty>, blob: &Blob, window: ReadWindow) -> Result<Vec<u8>, StoreError> {
    let chunks: Vec<Bytes> = read(Arc::clone(store) as _, blob.clone(), window).try_collect().await?;
    Ok(chunks.concat())
}

#[tokio::test(start_paused = true)]
async fn a_blob_comes_in_order_whatever_its_size_and_range() {
    let bytes: Vec<u8> = (0..100).collect();
    for (range_bytes, in_flight) in [(1, 1), (7, 3), (10, 4), (100, 2), (101, 2), (u64::MAX, 1)] {
        let (store, blob) = Faulty::new([]).with_blob(&bytes).await;
        let read = read_all(&store, &blob, window(range_bytes, in_flight)).await.unwrap();
        assert_eq!(read, bytes, "{range_bytes} bytes, {in_flight} in flight");
    }
}

#[tokio::test(start_paused = true)]
async fn an_empty_blob_is_an_empty_stream() {
    let (store, blob) = Faulty::new([]).with_blob(b"").await;
    assert!(read_all(&store, &blob, ReadWindow::default()).await.unwrap().is_empty());
    assert!(store.asked().is_empty());
}

#[tokio::test(start_paused = true)]
async fn several_ranges_are_in_flight_and_no_more_than_allowed() {
    let (store, blob) = Faulty::new([]).with_blob(&[7; 100]).await;
    read_all(&store, &blob, window(5, 4)).await.unwrap();
    assert_eq!(store.most_open.load(Ordering::SeqCst), 4);
    assert!(store.asked().iter().all(|range| range.end - range.start == 5));
}

#[tokio::test(start_paused = true)]
async fn a_slow_taker_lets_no_more_ranges_come_than_fit() {
    let (store, blob) = Faulty::new([]).with_blob(&[7; 100]).await;
    let mut bytes = read(Arc::clone(&store) as _, blob, window(5, 4));
    bytes.try_next().await.unwrap();
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(store.asked().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_lost_connection_is_taken_up_at_the_byte_after() {
    for fate in [Fate::BreaksAfter(6), Fate::EndsAfter(6)] {
        let bytes: Vec<u8> = (0..20).collect();
        let (store, blob) = Faulty::new([fate]).with_blob(&bytes).await;
        assert_eq!(read_all(&store, &blob, window(20, 1)).await.unwrap(), bytes);
        assert_eq!(store.asked(), [0..20, 6..20], "{fate:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_range_in_the_middle_is_taken_up_where_it_was_lost() {
    let fates = [Fate::EndsAfter(10), Fate::BreaksAfter(3), Fate::Refused, Fate::EndsAfter(0)];
    let bytes: Vec<u8> = (0..30).collect();
    let (store, blob) = Faulty::new(fates).with_blob(&bytes).await;
    assert_eq!(read_all(&store, &blob, window(10, 1)).await.unwrap(), bytes);
    assert_eq!(store.asked(), [0..10, 10..20, 13..20, 13..20, 13..20, 20..30]);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_stays_away_is_given_up_after_a_minute() {
    for fate in [Fate::Refused, Fate::EndsAfter(0), Fate::IgnoresTheRange] {
        let (store, blob) = Faulty::always(fate).with_blob(&[7; 20]).await;
        let begun = Instant::now();
        // Not the first range: that one is right even from a store that ignores ranges.
        let error = fetch(&*store, &blob, 5..10, ReadWindow::default().retry_budget).await.unwrap_err();
        assert!(matches!(error, StoreError::Unavailable { .. }), "{error:?}");
        assert!(begun.elapsed() <= Duration::from_secs(61), "{:?}", begun.elapsed());
        assert!(store.asked().len() > 3, "{fate:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn every_byte_renews_the_patience() {
    // Each byte comes after a handful of refusals: minutes in all, but never one without a byte.
    let fates = (0..100).flat_map(|_| [Fate::Refused; 5].into_iter().chain([Fate::BreaksAfter(1)]));
    let (store, blob) = Faulty::new(fates).with_blob(&[7; 100]).await;
    let begun = Instant::now();
    assert_eq!(read_all(&store, &blob, window(100, 1)).await.unwrap(), [7; 100]);
    assert!(begun.elapsed() > Duration::from_secs(120), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_blob_that_was_overwritten_ends_the_read_at_once() {
    let (store, blob) = Faulty::new([Fate::OverwrittenAfter(3)]).with_blob(&[7; 10]).await;
    let error = read_all(&store, &blob, window(10, 1)).await.unwrap_err();
    assert!(matches!(error, StoreError::Changed(_)), "{error:?}");
    assert_eq!(store.asked().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_blob_that_was_overwritten_between_two_connections_is_not_mixed() {
    let (store, blob) = Faulty::new([Fate::BreaksAfter(3), Fate::Refused]).with_blob(&[7; 10]).await;
    let mut bytes = read(Arc::clone(&store) as _, blob.clone(), window(3, 1));
    assert_eq!(bytes.try_next().await.unwrap().unwrap(), [7; 3][..]);
    store.write(&blob.path, Bytes::from_static(&[8; 10]), WriteIf::Always).await.unwrap();
    let error = bytes.try_next().await.unwrap_err();
    assert!(matches!(error, StoreError::Changed(_)), "{error:?}");
    assert!(bytes.try_next().await.unwrap().is_none(), "the stream ends with its error");
}

#[tokio::test(start_paused = true)]
async fn a_blob_that_went_away_is_missing_at_once() {
    let (store, mut blob) = Faulty::new([]).with_blob(&[7; 10]).await;
    blob.path.name.push('x');
    let error = read_all(&store, &blob, window(10, 1)).await.unwrap_err();
    assert!(matches!(error, StoreError::Missing(_)), "{error:?}");
    assert_eq!(store.asked().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn dropping_the_stream_ends_its_connections() {
    let (store, blob) = Faulty::always(Fate::Silent).with_blob(&[7; 100]).await;
    let mut bytes = read(Arc::clone(&store) as _, blob, window(10, 4));
    let waited = tokio::time::timeout(Duration::from_secs(5), bytes.try_next()).await;
    assert!(waited.is_err());
    assert_eq!(store.open.load(Ordering::SeqCst), 4);
    std::mem::drop(bytes);
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(store.open.load(Ordering::SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn a_small_blob_is_read_whole_through_lost_connections() {
    let (store, blob) = Faulty::new([Fate::Refused, Fate::BreaksAfter(2)]).with_blob(b"metadata").await;
    assert_eq!(read_whole(&*store, &blob, 8).await.unwrap(), "metadata");
}

#[tokio::test(start_paused = true)]
async fn a_blob_over_the_limit_is_not_read() {
    let (store, blob) = Faulty::new([]).with_blob(b"metadata").await;
    let error = read_whole(&*store, &blob, 7).await.unwrap_err();
    assert_eq!(error.to_string(), "`datasets/part-0` has 8 bytes, more than the 7 that such a blob may have");
    assert!(store.asked().is_empty());
}
