//! Where bytes come from: the seam to the storage account, and the reader that every file goes through.
//!
//! Knows blobs, versions, ranges and leases, and nothing of what is in them. Keepers: [`azure::AzureStore`],
//! [`local::LocalStore`]; `tests/contract/` is this contract as code.

pub mod azure;
mod blob_path;
mod blob_url;
pub mod local;
mod reader;

use std::{fmt, ops::Range, panic::resume_unwind, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use time::OffsetDateTime;
use tokio::task::JoinError;
use uuid::Uuid;

pub use self::blob_path::BlobPath;
pub use self::reader::{ReadWholeError, ReadWindow, read, read_whole};
use crate::verdict::Verdict;

/// The version of a blob, as the store names it, without quotes. Two versions of a blob never share one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ETag(pub String);

impl fmt::Display for ETag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One version of a blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blob {
    /// Where it lies.
    pub path: BlobPath,
    /// Which version it is.
    pub etag: ETag,
    /// Its size in bytes.
    pub size: u64,
    /// When this version was written.
    pub modified: OffsetDateTime,
}

/// Bytes of a blob, in order.
pub type ByteStream = BoxStream<'static, Result<Bytes, StoreError>>;

/// When a write may happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WriteIf {
    /// Whatever is there.
    Always,
    /// Only where no blob is yet.
    Absent,
    /// Only over this version.
    Matches(ETag),
    /// Only over this version, and only while this lease is on the blob.
    Held(ETag, LeaseId),
}

impl WriteIf {
    /// The lease that must be on the blob; no other may be.
    fn lease(&self) -> Option<&LeaseId> {
        match self {
            Self::Held(_, lease) => Some(lease),
            Self::Always | Self::Absent | Self::Matches(_) => None,
        }
    }
}

/// A lease on a blob: as long as it lasts, nobody else writes the blob or leases it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LeaseId(String);

impl LeaseId {
    /// A new random id. The client chooses it, so that repeating a request whose response was lost gives the same lease.
    pub fn fresh() -> Self {
        Self(Uuid::new_v4().to_string())
    }
}

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A storage account: containers of blobs.
#[async_trait]
pub trait Store: fmt::Debug + Send + Sync + 'static {
    /// Lists the blobs of `container` whose names begin with `prefix`, by name (by bytes). A container that does not exist
    /// has none.
    async fn list(&self, container: &str, prefix: &str) -> Result<Vec<Blob>, StoreError>;

    /// The current version of a blob, or `None` where there is no blob.
    async fn find(&self, path: &BlobPath) -> Result<Option<Blob>, StoreError>;

    /// Reads `range` (in bytes, half open, within the blob's size) of exactly this version.
    ///
    /// Fails with [`StoreError::Changed`] when the blob has another version by now, at once or in the stream. The stream
    /// may end early where a connection was lost without a word: [`read`] counts.
    async fn read_range(&self, blob: &Blob, range: Range<u64>) -> Result<ByteStream, StoreError>;

    /// Writes a blob whole, making its container when that is missing; returns the new version.
    /// Fails with [`StoreError::Changed`] when `condition` does not hold, and with [`StoreError::NotHeld`] where a lease
    /// other than the given one, or none, is on the blob.
    async fn write(&self, path: &BlobPath, bytes: Bytes, condition: WriteIf) -> Result<ETag, StoreError>;

    /// Deletes a blob, whatever its version. One that is not there is gone already; [`StoreError::NotHeld`] where a lease is
    /// on it.
    async fn delete(&self, path: &BlobPath) -> Result<(), StoreError>;

    /// Whether there is such a container. Listing does not tell: one that is not there has no blobs either.
    async fn has_container(&self, container: &str) -> Result<bool, StoreError>;

    /// Makes a container when it is missing.
    async fn make_container(&self, container: &str) -> Result<(), StoreError>;

    /// Leases a blob for `time`, from 15 s to 60 s in whole seconds. `None` while somebody's lease is on it; a blob that is
    /// not there is [`StoreError::Missing`]. The lease lapses by itself, also when this process is killed.
    async fn lease(&self, path: &BlobPath, time: Duration) -> Result<Option<LeaseId>, StoreError>;

    /// Begins the time of a lease anew. [`StoreError::NotHeld`] where it lapsed and another took it, or might have.
    async fn renew(&self, path: &BlobPath, lease: &LeaseId) -> Result<(), StoreError>;

    /// Ends a lease before its time. [`StoreError::NotHeld`] where it is not on the blob any more.
    async fn release(&self, path: &BlobPath, lease: &LeaseId) -> Result<(), StoreError>;

    /// The blob that `url` names, when it is one of this account's: host, port and account are compared, and the path is
    /// decoded once. `None` for every other URL, and for one that steps up or aside.
    fn blob_at(&self, url: &str) -> Option<BlobPath>;
}

/// Why the store gave no bytes.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no such blob. The event is tried again: it may have been overwritten or moved that instant.
    #[error("there is no blob `{0}`")]
    Missing(BlobPath),
    /// The blob has another version than the one that was asked for. The event is tried again with the new version.
    #[error("`{0}` was overwritten meanwhile")]
    Changed(BlobPath),
    /// Somebody else's lease is on the blob, or ours has lapsed. The event is tried again: whoever holds it goes on.
    #[error("the lease on `{0}` is another's, or ours has lapsed")]
    NotHeld(BlobPath),
    /// The store does not let us. The event is tried again: a role assignment takes minutes to arrive.
    #[error(
        "the store denies access to `{0}`: grant Storage Blob Data Owner, or renew the SAS or key of the connection string \
         (a folder: give this user read and write permission)"
    )]
    Denied(BlobPath),
    /// The store did not answer, or answered that it cannot now. The event is tried again.
    #[error("the store did not answer for `{path}`")]
    Unavailable {
        /// What was asked for.
        path: BlobPath,
        /// What happened, without query strings.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl StoreError {
    pub(crate) fn unavailable(path: &BlobPath, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Unavailable { path: path.clone(), source: source.into() }
    }

    /// What the end of a task means for the blob it worked on. A panic goes on where it would have without the task;
    /// otherwise the runtime is ending.
    pub(crate) fn stopped(path: &BlobPath, end: JoinError) -> Self {
        match end.try_into_panic() {
            Ok(panic) => resume_unwind(panic),
            Err(cancelled) => Self::unavailable(path, cancelled),
        }
    }

    /// What the failure means: the store is never a reason to give up on a file.
    pub fn verdict(&self) -> Verdict {
        match self {
            Self::Missing(_) | Self::Changed(_) | Self::NotHeld(_) | Self::Denied(_) | Self::Unavailable { .. } => {
                Verdict::TryAgain
            }
        }
    }
}
