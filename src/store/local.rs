//! [`LocalStore`]: a folder in place of a storage account. Containers are folders, and blobs are the files in them.
//!
//! For use on one machine. It keeps the whole [`Store`] contract: versions, pinned reads, conditional writes and
//! leases. File access blocks, so it runs on the blocking thread pool, in chunks of bounded size.
//!
//! A folder cannot hold every name that Azure Storage can hold: it cannot hold both `a` and `a/b`, nor a segment of
//! more than 255 bytes. Writing such a blob is an error about this blob; other blobs are not affected. Listings skip
//! files whose name no blob can have, with a warning.

mod contained;
mod file;
mod lease;
mod list;
mod lock;
mod version;
mod write;

use std::{
    fs::{self, File},
    io::{Read, Seek, SeekFrom},
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{
    StreamExt, TryStreamExt,
    stream::{self, try_unfold},
};
use percent_encoding::percent_decode_str;
use time::OffsetDateTime;
use tokio::task::spawn_blocking;
use url::Url;

use self::{
    contained::{contained, is_outside},
    file::{blob_of, file_name, file_path, is_missing, is_too_long, store_error},
    lease::Leases,
    list::Walk,
};
use super::{
    Blob, BlobMetadata, BlobPath, ByteStream, ETag, LeaseId, Listing, OPEN_BYTES, Store, StoreError, WriteIf,
    raw_url::RawUrl,
};

/// The number of bytes that are read from a file at once.
const CHUNK_BYTES: u64 = 1 << 20;

/// The blobs of a folder.
#[derive(Debug, Clone)]
pub struct LocalStore {
    root: Arc<Path>,
    /// The path of the root in a URL, percent-decoded, without the leading slash and with a trailing one.
    url_path: Arc<str>,
    leases: Arc<Leases>,
}

/// The text does not name a folder.
#[derive(Debug, thiserror::Error)]
#[error("expected a folder, such as file:///dir (write `#`, `?` and `%` as %23, %3F and %25)")]
pub struct FolderError;

impl LocalStore {
    /// The blobs of the folder `root`. The store never creates this folder: while it is missing, every write fails.
    pub fn new(root: impl AsRef<Path>) -> Result<Self, FolderError> {
        let root = std::path::absolute(root).map_err(|_| FolderError)?;
        let url = Url::from_directory_path(&root).map_err(|()| FolderError)?;
        let url_path = percent_decode_str(url.path()).decode_utf8().map_err(|_| FolderError)?;
        Ok(Self { url_path: url_path.trim_start_matches('/').into(), root: root.into(), leases: Arc::default() })
    }

    /// Opens the folder that `url` (`file:///dir`) names.
    pub fn from_url(url: &str) -> Result<Self, FolderError> {
        let has_path = url.get(..8).is_some_and(|start| start.eq_ignore_ascii_case("file:///"));
        let url = Url::parse(url).ok().filter(|url| has_path && url.query().is_none() && url.fragment().is_none());
        Self::new(url.ok_or(FolderError)?.to_file_path().map_err(|()| FolderError)?)
    }

    /// The path of the file that holds the blob; `None` if no file can have that name.
    fn file(&self, path: &BlobPath) -> Option<PathBuf> {
        file_path(&self.root, path)
    }

    /// Runs `work` while holding the lock of the blob, so that no other writer of it, in any process, runs at the same
    /// time.
    async fn locked<T: Send + 'static>(
        &self,
        path: &BlobPath,
        work: impl FnOnce(&Self, &BlobPath, OffsetDateTime) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let store = self.clone();
        on_blocking_pool(path.clone(), move |path| {
            let _lock = lock::lock(&store.root, path).map_err(|error| store_error(path, error))?;
            work(&store, path, OffsetDateTime::now_utc())
        })
        .await
    }
}

#[async_trait]
impl Store for LocalStore {
    fn list<'a>(&'a self, container: &'a str, prefix: &'a str) -> Listing<'a> {
        let (root, prefix) = (Arc::clone(&self.root), BlobPath::new(container, prefix));
        let path = prefix.clone();
        let walk = on_blocking_pool(prefix, move |prefix| Walk::new(&root, prefix));
        let next_page = move |mut walk: Walk| {
            on_blocking_pool(path.clone(), move |_| {
                let page = walk.next_page()?;
                Ok((!page.is_empty()).then(|| (stream::iter(page.into_iter().map(Ok)), walk)))
            })
        };
        stream::once(walk).map_ok(move |walk| try_unfold(walk, next_page.clone()).try_flatten()).try_flatten().boxed()
    }

    async fn find(&self, path: &BlobPath) -> Result<Option<Blob>, StoreError> {
        let Some(file) = self.file(path) else {
            return Ok(None);
        };
        let root = Arc::clone(&self.root);
        let found =
            on_blocking_pool(path.clone(), move |path| blob_of(path, contained(&root, &file).and_then(fs::metadata)));
        match found.await {
            Err(StoreError::Missing(_)) => Ok(None),
            blob => blob,
        }
    }

    async fn read_range(&self, blob: &Blob, range: Range<u64>) -> Result<ByteStream, StoreError> {
        let missing = || StoreError::Missing(blob.path.clone());
        let file = self.file(&blob.path).ok_or_else(missing)?;
        let (root, etag) = (Arc::clone(&self.root), blob.etag.clone());
        // The first chunk is usually the whole range.
        let opened = on_blocking_pool(blob.path.clone(), move |path| {
            let file = contained(&root, &file).map_err(|error| store_error(path, error))?;
            RangeReader::open(path, &file, etag, range)?.read_chunk()
        });
        let Some((first, reader)) = opened.await? else {
            return Ok(stream::empty().boxed());
        };
        Ok(stream::iter([Ok(first)]).chain(try_unfold(reader, RangeReader::next)).boxed())
    }

    async fn open(&self, path: &BlobPath) -> Result<Option<(Blob, ByteStream)>, StoreError> {
        let Some(file) = self.file(path) else {
            return Ok(None);
        };
        let root = Arc::clone(&self.root);
        // One task finds and reads the file, because a listing of entries opens thousands of files.
        let opened = on_blocking_pool(path.clone(), move |path| {
            let file = contained(&root, &file).map_err(|error| store_error(path, error))?;
            let Some(blob) = blob_of(path, fs::metadata(&file))? else {
                return Ok(None);
            };
            let range = 0..blob.size.min(OPEN_BYTES);
            let first = RangeReader::open(path, &file, blob.etag.clone(), range)?.read_chunk()?;
            Ok(Some((blob, first.map(|(bytes, _)| Ok(bytes)))))
        });
        match opened.await {
            Err(StoreError::Missing(_)) => Ok(None),
            opened => Ok(opened?.map(|(blob, first)| (blob, stream::iter(first).boxed()))),
        }
    }

    async fn write_with_metadata(
        &self,
        path: &BlobPath,
        bytes: Bytes,
        _metadata: &BlobMetadata,
        condition: WriteIf,
    ) -> Result<ETag, StoreError> {
        let file = self.file(path).ok_or_else(|| StoreError::unavailable(path, "a blob cannot have this name"))?;
        let root = Arc::clone(&self.root);
        on_blocking_pool(path.clone(), move |path| {
            let name = file.file_name().expect("a file path ends in the last segment of the blob's name");
            write::write(&root, path, name, &bytes, &condition)
        })
        .await
    }

    async fn delete(&self, path: &BlobPath, version: Option<&ETag>) -> Result<(), StoreError> {
        let Some(file) = self.file(path) else {
            return Ok(());
        };
        let version = version.cloned();
        let deleted = self.locked(path, move |store, path, now| {
            if lease::active_lease(&store.root, path, now).map_err(|error| store_error(path, error))?.is_some() {
                return Err(StoreError::LeaseConflict(path.clone()));
            }
            let current = blob_of(path, contained(&store.root, &file).and_then(fs::metadata))?;
            let current = current.ok_or_else(|| StoreError::Missing(path.clone()))?;
            if version.is_some_and(|version| version != current.etag) {
                return Err(StoreError::Changed(path.clone()));
            }
            fs::remove_file(file).map_err(|error| store_error(path, error))
        });
        match deleted.await {
            Err(StoreError::Missing(_)) => Ok(()),
            deleted => deleted,
        }
    }

    async fn has_container(&self, container: &str) -> Result<bool, StoreError> {
        let Some(folder) = file_name(container).map(|name| self.root.join(name)) else {
            return Ok(false);
        };
        let root = Arc::clone(&self.root);
        on_blocking_pool(BlobPath::new(container, ""), move |path| {
            match contained(&root, &folder).and_then(fs::metadata) {
                Ok(metadata) => Ok(metadata.is_dir()),
                Err(error) if is_outside(&error) => Err(StoreError::unavailable(path, error)),
                Err(error) if is_missing(&error) || is_too_long(&error) => Ok(false),
                Err(error) => Err(store_error(path, error)),
            }
        })
        .await
    }

    async fn create_container(&self, container: &str) -> Result<(), StoreError> {
        let path = BlobPath::new(container, "");
        let invalid_name = || StoreError::unavailable(&path, "a container cannot have this name");
        file_name(container).ok_or_else(invalid_name)?;
        let root = Arc::clone(&self.root);
        on_blocking_pool(path, move |path| contained::create_container(&root, path).map(drop)).await
    }

    async fn lease(&self, path: &BlobPath, time: Duration) -> Result<Option<LeaseId>, StoreError> {
        let file = self.file(path).ok_or_else(|| StoreError::Missing(path.clone()))?;
        self.locked(path, move |store, path, now| {
            let blob = blob_of(path, contained(&store.root, &file).and_then(fs::metadata))?;
            blob.ok_or_else(|| StoreError::Missing(path.clone()))?;
            store.leases.acquire(&store.root, path, time, now).map_err(|error| store_error(path, error))
        })
        .await
    }

    async fn renew(&self, path: &BlobPath, lease: &LeaseId) -> Result<(), StoreError> {
        let lease = lease.clone();
        self.locked(path, move |store, path, now| {
            let is_active =
                store.leases.renew(&store.root, path, &lease, now).map_err(|error| store_error(path, error))?;
            if is_active { Ok(()) } else { Err(StoreError::LeaseConflict(path.clone())) }
        })
        .await
    }

    async fn release(&self, path: &BlobPath, lease: &LeaseId) -> Result<(), StoreError> {
        let lease = lease.clone();
        self.locked(path, move |store, path, now| {
            let was_active =
                store.leases.release(&store.root, path, &lease, now).map_err(|error| store_error(path, error))?;
            if was_active { Ok(()) } else { Err(StoreError::LeaseConflict(path.clone())) }
        })
        .await
    }

    fn parse_blob_url(&self, url: &str) -> Option<BlobPath> {
        let url = RawUrl::split(url)?;
        let is_this_machine = url.authority.is_empty() || url.authority.eq_ignore_ascii_case("localhost");
        if !url.scheme.eq_ignore_ascii_case("file") || !is_this_machine {
            return None;
        }
        let path = url.path()?;
        let (container, name) = path.strip_prefix(&*self.url_path)?.split_once('/')?;
        let path = BlobPath::new(container, name);
        self.file(&path).is_some().then_some(path)
    }
}

/// Reads one range of a file in chunks.
struct RangeReader {
    file: File,
    path: BlobPath,
    etag: ETag,
    remaining: u64,
}

impl RangeReader {
    fn open(path: &BlobPath, file: &Path, etag: ETag, range: Range<u64>) -> Result<Self, StoreError> {
        // Opening a pipe would block until another process writes to it.
        if !fs::metadata(file).map_err(|error| store_error(path, error))?.is_file() {
            return Err(StoreError::Missing(path.clone()));
        }
        let mut file = File::open(file).map_err(|error| store_error(path, error))?;
        check_version(path, &file, &etag)?;
        file.seek(SeekFrom::Start(range.start)).map_err(|error| store_error(path, error))?;
        Ok(Self { file, path: path.clone(), etag, remaining: range.end.saturating_sub(range.start) })
    }

    /// Reads the next chunk; `None` at the end of the range. The version is checked after reading, so every chunk that
    /// is returned belongs to the version that was opened.
    fn read_chunk(mut self) -> Result<Option<(Bytes, Self)>, StoreError> {
        let wanted = self.remaining.min(CHUNK_BYTES);
        let mut chunk = Vec::with_capacity(usize::try_from(wanted).expect("a chunk fits in memory"));
        (&self.file).take(wanted).read_to_end(&mut chunk).map_err(|error| store_error(&self.path, error))?;
        check_version(&self.path, &self.file, &self.etag)?;
        self.remaining -= chunk.len() as u64;
        Ok((!chunk.is_empty()).then(|| (chunk.into(), self)))
    }

    async fn next(self) -> Result<Option<(Bytes, Self)>, StoreError> {
        if self.remaining == 0 {
            return Ok(None);
        }
        on_blocking_pool(self.path.clone(), move |_| self.read_chunk()).await
    }
}

fn check_version(path: &BlobPath, file: &File, etag: &ETag) -> Result<(), StoreError> {
    let metadata = file.metadata().map_err(|error| store_error(path, error))?;
    if version::etag(&metadata) == *etag { Ok(()) } else { Err(StoreError::Changed(path.clone())) }
}

/// Runs `work` about the blob at `path` on the blocking thread pool.
async fn on_blocking_pool<T: Send + 'static>(
    path: BlobPath,
    work: impl FnOnce(&BlobPath) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    let for_error = path.clone();
    let result = spawn_blocking(move || work(&path)).await;
    result.unwrap_or_else(|error| Err(StoreError::from_join_error(&for_error, error)))
}

#[cfg(test)]
mod tests;
