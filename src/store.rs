//! Access to the storage account: the [`Store`] trait, its implementations, and the reader that resumes after lost
//! connections.
//!
//! This module handles blobs, versions, ranges and leases, and does not look into blobs. Implementations:
//! [`azure::AzureStore`] and [`local::LocalStore`] (a folder). `tests/contract/`
//! runs the contract of the trait against each of them.

pub mod azure;
mod blob_path;
pub mod local;
mod raw_url;
mod reader;

use std::{collections::BTreeMap, fmt, ops::Range, panic::resume_unwind, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream::BoxStream};
use time::OffsetDateTime;
use tokio::task::JoinError;
use uuid::Uuid;

pub use self::blob_path::{BlobPath, is_safe_segment};
pub use self::reader::{ReadWholeError, ReadWindow, read, read_current, read_whole};
use crate::verdict::Verdict;

/// The ETag of a blob version, without quotes. Two versions of a blob never have the same ETag.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ETag(pub String);

impl fmt::Display for ETag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One version of a blob: its properties, without its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blob {
    /// Container and name.
    pub path: BlobPath,
    /// The ETag of this version.
    pub etag: ETag,
    /// Size in bytes.
    pub size: u64,
    /// When this version was written.
    pub modified: OffsetDateTime,
}

/// The bytes of a blob, in order.
pub type ByteStream = BoxStream<'static, Result<Bytes, StoreError>>;

/// Blob metadata: short texts that a listing returns with the blob, so that a list costs no request per blob. Names
/// have only lower-case ASCII letters, values only visible ASCII characters. Azure allows 8 KiB for all names and
/// values.
pub type BlobMetadata = BTreeMap<String, String>;

/// A blob in a listing that asks for blob metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedBlob {
    /// The blob.
    pub blob: Blob,
    /// Its metadata; `None` if the store has no blob metadata. The caller then reads the blob's content.
    pub metadata: Option<BlobMetadata>,
}

/// The blobs of a listing. All blobs below a folder are adjacent.
pub type Listing<'a, T = Blob> = BoxStream<'a, Result<T, StoreError>>;

/// The maximum number of bytes that [`Store::open`] reads.
pub const OPEN_BYTES: u64 = 64 << 10;

/// The condition of a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WriteIf {
    /// No condition: creates the blob or overwrites it.
    Always,
    /// Only if the blob does not exist.
    Absent,
    /// Only if the blob has this ETag.
    Matches(ETag),
    /// Only if the blob has this ETag and this lease is active.
    Leased(ETag, LeaseId),
}

impl WriteIf {
    /// The lease that must be active on the blob; `None` if there must be no active lease.
    fn lease(&self) -> Option<&LeaseId> {
        match self {
            Self::Leased(_, lease) => Some(lease),
            Self::Always | Self::Absent | Self::Matches(_) => None,
        }
    }
}

/// The id of a lease. While a blob is leased, only the holder of the lease can write it, and nobody else can lease it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LeaseId(String);

impl LeaseId {
    /// A new random id. The client chooses it, so that repeating a request after a lost response acquires the same
    /// lease.
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
    /// Lists the blobs of `container` whose names begin with `prefix`. Requests the next page only when the consumer
    /// has read the last one. All blobs below a folder are adjacent; otherwise the store decides the order. The listing
    /// is empty if the container does not exist, and ends after an error.
    fn list<'a>(&'a self, container: &'a str, prefix: &'a str) -> Listing<'a>;

    /// As [`list`](Self::list), with the blob metadata.
    fn list_with_metadata<'a>(&'a self, container: &'a str, prefix: &'a str) -> Listing<'a, ListedBlob> {
        self.list(container, prefix).map_ok(|blob| ListedBlob { blob, metadata: None }).boxed()
    }

    /// The current version of a blob; `None` if the blob does not exist.
    async fn find(&self, path: &BlobPath) -> Result<Option<Blob>, StoreError>;

    /// Reads `range` of exactly this version. `range` is half open, in bytes, and within the size of the blob.
    ///
    /// Fails with [`StoreError::Changed`], at once or in the stream, if the blob has another version by now. The stream
    /// may end early without an error if the connection is lost, so the caller must count the bytes, as [`read`] does.
    async fn read_range(&self, blob: &Blob, range: Range<u64>) -> Result<ByteStream, StoreError>;

    /// The current version of a small blob and its content, or the first [`OPEN_BYTES`] of it, in one request; `None`
    /// if the blob does not exist. The stream may end early or fail if the connection is lost, as that of
    /// [`read_range`](Self::read_range). [`read_current`] reads the whole blob.
    async fn open(&self, path: &BlobPath) -> Result<Option<(Blob, ByteStream)>, StoreError> {
        let Some(blob) = self.find(path).await? else {
            return Ok(None);
        };
        let bytes = self.read_range(&blob, 0..blob.size.min(OPEN_BYTES)).await?;
        Ok(Some((blob, bytes)))
    }

    /// Writes a whole blob and returns the ETag of the new version, which has no blob metadata. Creates the container
    /// if it is missing.
    ///
    /// Fails with [`StoreError::Changed`] if the ETag condition does not hold, and with [`StoreError::LeaseConflict`]
    /// if the active lease is not the one that `condition` requires.
    async fn write(&self, path: &BlobPath, bytes: Bytes, condition: WriteIf) -> Result<ETag, StoreError> {
        self.write_with_metadata(path, bytes, &BlobMetadata::new(), condition).await
    }

    /// As [`write`](Self::write), and sets the blob metadata. A store without blob metadata ignores it.
    async fn write_with_metadata(
        &self,
        path: &BlobPath,
        bytes: Bytes,
        metadata: &BlobMetadata,
        condition: WriteIf,
    ) -> Result<ETag, StoreError>;

    /// Deletes a blob, or only this `version` of it. Succeeds if the blob does not exist. Fails with
    /// [`StoreError::Changed`] if the blob has another version, and with [`StoreError::LeaseConflict`] if it is leased.
    async fn delete(&self, path: &BlobPath, version: Option<&ETag>) -> Result<(), StoreError>;

    /// Whether the container exists. [`Store::list`] cannot tell: it returns an empty list for a missing container.
    async fn has_container(&self, container: &str) -> Result<bool, StoreError>;

    /// Creates a container if it is missing.
    async fn create_container(&self, container: &str) -> Result<(), StoreError>;

    /// Leases a blob for `time`: 15 to 60 whole seconds.
    ///
    /// Returns `None` if the blob is already leased; fails with [`StoreError::Missing`] if it does not exist. The lease
    /// lapses by itself, also if this process is killed.
    async fn lease(&self, path: &BlobPath, time: Duration) -> Result<Option<LeaseId>, StoreError>;

    /// Restarts the time of a lease. Fails with [`StoreError::LeaseConflict`] if the lease lapsed and the blob was, or
    /// may have been, leased again.
    async fn renew(&self, path: &BlobPath, lease: &LeaseId) -> Result<(), StoreError>;

    /// Ends a lease early. Fails with [`StoreError::LeaseConflict`] if the lease is no longer active on the blob.
    async fn release(&self, path: &BlobPath, lease: &LeaseId) -> Result<(), StoreError>;

    /// The blob that `url` names, if it belongs to this account.
    ///
    /// Compares host, port and account name, and percent-decodes the path once. `None` for every other URL, and for a
    /// path with an empty, `.` or `..` segment, a backslash or a control character.
    fn parse_blob_url(&self, url: &str) -> Option<BlobPath>;
}

/// Lists the blobs whose names begin with `prefix`, sorted by name (by bytes); `None` if there are more than `limit`.
pub async fn list_at_most(
    store: &dyn Store,
    container: &str,
    prefix: &str,
    limit: usize,
) -> Result<Option<Vec<Blob>>, StoreError> {
    let mut listing = store.list(container, prefix);
    let mut blobs = Vec::new();
    while let Some(blob) = listing.try_next().await? {
        if blobs.len() == limit {
            return Ok(None);
        }
        blobs.push(blob);
    }
    blobs.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(Some(blobs))
}

/// Why a request to the store failed. Every failure is treated as transient: the event is retried.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The blob does not exist. It may have been moved or overwritten at that moment.
    #[error("there is no blob `{0}`")]
    Missing(BlobPath),
    /// The blob has another version than the requested one. The retry uses the new version.
    #[error("`{0}` was overwritten in the meantime")]
    Changed(BlobPath),
    /// Another worker holds the lease on the blob, or our lease lapsed. The holder of the lease continues the work.
    #[error("another worker holds the lease on `{0}`, or our lease has lapsed")]
    LeaseConflict(BlobPath),
    /// Permission denied. The retry may succeed, because a role assignment takes minutes to apply.
    #[error(
        "the store denies access to `{0}`: grant Storage Blob Data Owner, or renew the SAS or key of the connection string \
         (a folder: give this user read and write permission)"
    )]
    Denied(BlobPath),
    /// The store did not respond, reported another failure, or cannot hold a blob of this name.
    #[error("the store did not answer for `{path}`")]
    Unavailable {
        /// The requested blob, container or listing.
        path: BlobPath,
        /// The cause, without query strings.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl StoreError {
    pub(crate) fn unavailable(path: &BlobPath, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Unavailable { path: path.clone(), source: source.into() }
    }

    /// Converts the error of a task that worked on the blob at `path`.
    ///
    /// Resumes the panic if the task panicked. Otherwise the task was cancelled because the runtime is shutting down.
    pub(crate) fn from_join_error(path: &BlobPath, error: JoinError) -> Self {
        match error.try_into_panic() {
            Ok(panic) => resume_unwind(panic),
            Err(cancelled) => Self::unavailable(path, cancelled),
        }
    }

    /// The consequence of the failure: always a retry. A store failure is never a reason to give up on a file.
    pub fn verdict(&self) -> Verdict {
        match self {
            Self::Missing(_)
            | Self::Changed(_)
            | Self::LeaseConflict(_)
            | Self::Denied(_)
            | Self::Unavailable { .. } => Verdict::Retry,
        }
    }
}
