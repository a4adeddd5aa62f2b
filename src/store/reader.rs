//! Reads a whole blob in order: in parallel ranges, and across lost connections.
//!
//! Works with any [`Store`]. Each range is fetched by a task of its own, so that a slow consumer never leaves a
//! connection half read: a task reads its range to the end, and the result waits in memory.

use std::{
    collections::VecDeque,
    num::{NonZeroU64, NonZeroUsize},
    ops::Range,
    sync::Arc,
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use futures::{
    TryStreamExt,
    stream::{StreamExt, try_unfold},
};
use tokio::sync::Mutex;
use tokio_util::task::AbortOnDropHandle;

use super::{Blob, BlobPath, ByteStream, Store, StoreError};
use crate::retry::{Attempt, GaveUp, RetryBudget, retry};

/// How a blob is read. A reader holds at most `range_bytes * in_flight` bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadWindow {
    /// Size of one range, in bytes. Each request asks for one range.
    pub range_bytes: NonZeroU64,
    /// The number of ranges that are fetched at once.
    pub in_flight: NonZeroUsize,
    /// How long a range is retried without receiving a byte. Each byte restarts the budget.
    pub retry_budget: RetryBudget,
}

impl Default for ReadWindow {
    /// Six ranges of 1 MiB, and one minute without progress.
    fn default() -> Self {
        Self {
            range_bytes: const { NonZeroU64::new(1 << 20).expect("1 MiB is not 0") },
            in_flight: const { NonZeroUsize::new(6).expect("6 is not 0") },
            retry_budget: RetryBudget::lasting(Duration::from_secs(60)),
        }
    }
}

/// Reads this version of `blob` from the first byte to the last.
///
/// If the connection of a range is lost or ends early, reading resumes at the next missing byte. The stream fails with
/// [`StoreError::Unavailable`] when the retry budget is used up, with every other error at once, and ends after an
/// error. Dropping the stream aborts its requests.
pub fn read(store: Arc<dyn Store>, blob: Blob, window: ReadWindow) -> ByteStream {
    let reader = Reader { store, blob: Arc::new(blob), window, next: 0, fetches: VecDeque::new() };
    try_unfold(reader, |mut reader| async move {
        reader.start_fetches();
        let Some(fetch) = reader.fetches.pop_front() else {
            return Ok(None);
        };
        let bytes = fetch.await.unwrap_or_else(|error| Err(StoreError::from_join_error(&reader.blob.path, error)))?;
        Ok(Some((bytes, reader)))
    })
    .boxed()
}

/// Why a small blob could not be read into memory.
#[derive(Debug, thiserror::Error)]
pub enum ReadWholeError {
    /// The blob is larger than blobs of its kind can be.
    #[error("`{path}` has {size} bytes, more than the {limit} that such a blob may have")]
    TooLarge {
        /// The blob.
        path: BlobPath,
        /// Its size in bytes.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Reads a small blob, such as job metadata, of at most `limit` bytes. Resumes and retries like [`read`].
pub async fn read_whole(store: &dyn Store, blob: &Blob, limit: u64) -> Result<Bytes, ReadWholeError> {
    if blob.size > limit {
        return Err(ReadWholeError::TooLarge { path: blob.path.clone(), size: blob.size, limit });
    }
    Ok(fetch(store, blob, 0..blob.size, ReadWindow::default().retry_budget).await?)
}

/// How many times [`read_current`] tries to read a blob that is overwritten during the read. The blobs that it reads
/// are written at most once a second, so the second attempt usually succeeds.
const READ_ATTEMPTS: usize = 5;

/// Reads the current version of a small blob, of at most `limit` bytes, in one request if it has at most
/// [`OPEN_BYTES`](super::OPEN_BYTES). Returns `None` if the blob does not exist. Resumes and retries like [`read`].
pub async fn read_current(
    store: &dyn Store,
    path: &BlobPath,
    limit: u64,
) -> Result<Option<(Blob, Bytes)>, ReadWholeError> {
    let mut attempt = 1;
    loop {
        let Some((blob, first)) = store.open(path).await? else {
            return Ok(None);
        };
        if blob.size > limit {
            return Err(ReadWholeError::TooLarge { path: blob.path, size: blob.size, limit });
        }
        match read_rest(store, &blob, first).await {
            Ok(bytes) => return Ok(Some((blob, bytes))),
            Err(StoreError::Changed(_) | StoreError::Missing(_)) if attempt < READ_ATTEMPTS => attempt += 1,
            Err(error) => return Err(error.into()),
        }
    }
}

/// Reads the stream of [`Store::open`], and then the rest of the blob.
async fn read_rest(store: &dyn Store, blob: &Blob, mut first: ByteStream) -> Result<Bytes, StoreError> {
    let mut bytes = BytesMut::new();
    // A failure of the stream is not an error here, because the missing bytes are fetched below.
    while let Ok(Some(chunk)) = first.try_next().await {
        bytes.extend_from_slice(&chunk);
    }
    if (bytes.len() as u64) < blob.size {
        let rest = fetch(store, blob, bytes.len() as u64..blob.size, ReadWindow::default().retry_budget).await?;
        bytes.extend_from_slice(&rest);
    }
    Ok(bytes.freeze())
}

/// The state of [`read`].
struct Reader {
    store: Arc<dyn Store>,
    blob: Arc<Blob>,
    window: ReadWindow,
    /// Where the next range begins.
    next: u64,
    /// The tasks that fetch ranges, in the order of the ranges.
    fetches: VecDeque<AbortOnDropHandle<Result<Bytes, StoreError>>>,
}

impl Reader {
    /// Starts fetching until as many ranges are in flight as the window allows.
    fn start_fetches(&mut self) {
        while self.fetches.len() < self.window.in_flight.get() && self.next < self.blob.size {
            let end = self.next.saturating_add(self.window.range_bytes.get()).min(self.blob.size);
            let (store, blob) = (Arc::clone(&self.store), Arc::clone(&self.blob));
            let (range, retry_budget) = (self.next..end, self.window.retry_budget);
            let task = tokio::spawn(async move { fetch(&*store, &blob, range, retry_budget).await });
            self.fetches.push_back(AbortOnDropHandle::new(task));
            self.next = end;
        }
    }
}

/// Fetches all of `range`, over as many connections as it takes.
async fn fetch(
    store: &dyn Store,
    blob: &Blob,
    range: Range<u64>,
    retry_budget: RetryBudget,
) -> Result<Bytes, StoreError> {
    let length =
        usize::try_from(range.end - range.start).map_err(|error| StoreError::unavailable(&blob.path, error))?;
    let fetched = Mutex::new(BytesMut::new());
    let mut count = 0;
    while count < length {
        // Each round ends as soon as a connection has delivered bytes, so the retry budget counts from the last byte.
        let round = retry(retry_budget, async |_| fetch_once(store, blob, &range, &mut *fetched.lock().await).await);
        count = round.await.map_err(GaveUp::into_error)?;
    }
    Ok(fetched.into_inner().freeze())
}

/// Fetches the missing bytes of `range` over one connection; returns the number of bytes fetched so far.
async fn fetch_once(
    store: &dyn Store,
    blob: &Blob,
    range: &Range<u64>,
    fetched: &mut BytesMut,
) -> Attempt<usize, StoreError> {
    let before = fetched.len();
    match fetch_rest(store, blob, range, fetched).await {
        Ok(()) => Attempt::Done(fetched.len()),
        Err(error @ StoreError::Unavailable { .. }) if fetched.len() == before => Attempt::Transient(error, None),
        Err(error @ StoreError::Unavailable { .. }) => {
            let at = range.start + fetched.len() as u64;
            tracing::debug!(%error, "lost the connection, resuming at byte {at} of `{}`", blob.path);
            Attempt::Done(fetched.len())
        }
        Err(error) => Attempt::Permanent(error),
    }
}

/// Appends the missing bytes of `range` to `fetched`. On failure `fetched` holds what arrived.
async fn fetch_rest(
    store: &dyn Store,
    blob: &Blob,
    range: &Range<u64>,
    fetched: &mut BytesMut,
) -> Result<(), StoreError> {
    let (before, length) = (fetched.len(), (range.end - range.start) as usize);
    let mut bytes = store.read_range(blob, range.start + before as u64..range.end).await?;
    while let Some(chunk) = bytes.try_next().await? {
        if chunk.len() > length - fetched.len() {
            // These bytes cannot be the requested range, so none of this connection's bytes are used.
            fetched.truncate(before);
            return Err(StoreError::unavailable(&blob.path, "more bytes arrived than were requested"));
        }
        append(fetched, chunk, length);
    }
    if fetched.len() < length {
        return Err(StoreError::unavailable(&blob.path, "the connection ended early"));
    }
    Ok(())
}

/// Appends `chunk` to `fetched`, which has `length` bytes when the range is complete.
///
/// Copies the bytes, because a slice of a connection's buffer would keep the whole buffer alive. A chunk that is the
/// whole range is not copied if nothing else references its buffer.
fn append(fetched: &mut BytesMut, chunk: Bytes, length: usize) {
    if fetched.is_empty() && chunk.len() == length {
        *fetched = chunk.into();
    } else {
        fetched.reserve(length - fetched.len());
        fetched.extend_from_slice(&chunk);
    }
}

#[cfg(test)]
mod tests;
