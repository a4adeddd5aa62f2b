//! The reader that every file goes through: a blob in, its bytes in order out.
//!
//! Knows ranges, lost connections and patience; which store it reads from is the [`Store`]'s to know. Ranges are fetched
//! by tasks of their own, so that a slow step behind the reader never leaves a connection standing half read.

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

use super::{Blob, ByteStream, Store, StoreError};
use crate::retry::{Attempt, GaveUp, RetryBudget, retry};

/// How a blob is cut up for reading. A reader holds at most `range_bytes * in_flight` bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadWindow {
    /// Bytes of one range: what one request asks for.
    pub range_bytes: NonZeroU64,
    /// How many ranges are fetched at once.
    pub in_flight: NonZeroUsize,
    /// How long a range is tried without a single byte coming. Each byte renews it.
    pub patience: RetryBudget,
}

impl Default for ReadWindow {
    /// Six ranges of 1 MiB, and a minute without progress.
    fn default() -> Self {
        Self {
            range_bytes: const { NonZeroU64::new(1 << 20).expect("1 MiB is not 0") },
            in_flight: const { NonZeroUsize::new(6).expect("6 is not 0") },
            patience: RetryBudget::lasting(Duration::from_secs(60)),
        }
    }
}

/// Reads `blob` from its first byte to its last, pinned to its version.
///
/// A range whose connection is lost, or ends early, goes on at the byte after. [`StoreError::Unavailable`] comes once
/// patience is out, every other error at once; the stream ends with it. Dropping the stream ends its requests.
pub fn read(store: Arc<dyn Store>, blob: Blob, window: ReadWindow) -> ByteStream {
    let reading = Reading { store, next: 0, blob: Arc::new(blob), window, open: VecDeque::new() };
    try_unfold(reading, |mut reading| async move {
        reading.open_ranges();
        let Some(range) = reading.open.pop_front() else {
            return Ok(None);
        };
        let bytes = range.await.unwrap_or_else(|end| Err(StoreError::stopped(&reading.blob.path, end)))?;
        Ok(Some((bytes, reading)))
    })
    .boxed()
}

/// Why a blob is not in memory.
#[derive(Debug, thiserror::Error)]
pub enum ReadWholeError {
    /// It is larger than such a blob ever is: nobody's metadata, and not worth the memory.
    #[error("`{path}` has {size} bytes, more than the {limit} that such a blob may have")]
    TooLarge {
        /// Which blob.
        path: crate::store::BlobPath,
        /// Its size in bytes.
        size: u64,
        /// How many bytes were allowed.
        limit: u64,
    },
    /// The store gave no bytes.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Reads a small `blob`, such as job metadata, of at most `limit` bytes, with the resumption and patience of [`read`].
pub async fn read_whole(store: &dyn Store, blob: &Blob, limit: u64) -> Result<Bytes, ReadWholeError> {
    if blob.size > limit {
        return Err(ReadWholeError::TooLarge { path: blob.path.clone(), size: blob.size, limit });
    }
    Ok(fetch(store, blob, 0..blob.size, ReadWindow::default().patience).await?)
}

/// A blob that is being read: the ranges that are on their way, oldest first, and where the next one begins.
struct Reading {
    store: Arc<dyn Store>,
    blob: Arc<Blob>,
    window: ReadWindow,
    next: u64,
    open: VecDeque<AbortOnDropHandle<Result<Bytes, StoreError>>>,
}

impl Reading {
    fn open_ranges(&mut self) {
        while self.open.len() < self.window.in_flight.get() && self.next < self.blob.size {
            let end = self.next.saturating_add(self.window.range_bytes.get()).min(self.blob.size);
            let (store, blob) = (Arc::clone(&self.store), Arc::clone(&self.blob));
            let (range, patience) = (self.next..end, self.window.patience);
            let task = tokio::spawn(async move { fetch(&*store, &blob, range, patience).await });
            self.open.push_back(AbortOnDropHandle::new(task));
            self.next = end;
        }
    }
}

/// Fetches all of `range`, however many connections that takes.
async fn fetch(store: &dyn Store, blob: &Blob, range: Range<u64>, patience: RetryBudget) -> Result<Bytes, StoreError> {
    let length =
        usize::try_from(range.end - range.start).map_err(|error| StoreError::unavailable(&blob.path, error))?;
    let fetched = Mutex::new(BytesMut::new());
    let mut have = 0;
    while have < length {
        // A new round for every connection that brought something: patience counts from the last byte.
        have = retry(patience, async |_| go_on(store, blob, &range, &mut *fetched.lock().await).await).await.map_err(
            |end| match end {
                GaveUp::Permanent(error) | GaveUp::BudgetSpent(error, _) => error,
            },
        )?;
    }
    Ok(fetched.into_inner().freeze())
}

/// Goes on at the byte after `fetched` for as long as one connection lasts; says how many bytes there are then.
///
/// The bytes are copied, but where they come as one piece: a slice of a connection's buffer would keep all of it alive.
async fn go_on(
    store: &dyn Store,
    blob: &Blob,
    range: &Range<u64>,
    fetched: &mut BytesMut,
) -> Attempt<usize, StoreError> {
    let before = fetched.len();
    let end = copy_rest(store, blob, range, fetched).await;
    match end {
        Ok(()) => Attempt::Done(fetched.len()),
        Err(error @ StoreError::Unavailable { .. }) if fetched.len() == before => Attempt::Transient(error, None),
        Err(error @ StoreError::Unavailable { .. }) => {
            let at = range.start + fetched.len() as u64;
            tracing::debug!(%error, "the connection was lost, going on at byte {at} of `{}`", blob.path);
            Attempt::Done(fetched.len())
        }
        Err(error) => Attempt::Permanent(error),
    }
}

async fn copy_rest(
    store: &dyn Store,
    blob: &Blob,
    range: &Range<u64>,
    fetched: &mut BytesMut,
) -> Result<(), StoreError> {
    let (before, length) = (fetched.len(), (range.end - range.start) as usize);
    let mut bytes = store.read_range(blob, range.start + before as u64..range.end).await?;
    while let Some(chunk) = bytes.try_next().await? {
        if chunk.len() > length - fetched.len() {
            // Whatever this connection sent, it was not the range.
            fetched.truncate(before);
            return Err(StoreError::unavailable(&blob.path, "more bytes came than were asked for"));
        }
        keep(fetched, chunk, length);
    }
    if fetched.len() < length {
        return Err(StoreError::unavailable(&blob.path, "the connection ended early"));
    }
    Ok(())
}

/// Puts `chunk` behind what was fetched of `length` bytes.
fn keep(fetched: &mut BytesMut, chunk: Bytes, length: usize) {
    if fetched.is_empty() && chunk.len() == length {
        // All of it, which is not copied where nobody else has it.
        *fetched = chunk.into();
    } else {
        fetched.reserve(length - fetched.len());
        fetched.extend_from_slice(&chunk);
    }
}

#[cfg(test)]
mod tests;
