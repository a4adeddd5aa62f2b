//! A folder as a storage account: containers are folders, blobs are the files in them.
//!
//! For work on one machine, with the promises of the real store: versions, pinned reads, guarded writes. File access is
//! blocking, so it happens on the blocking pool, a bounded chunk at a time.

mod lease;
mod version;
mod walk;
mod write;

use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom},
    ops::Range,
    path::{Component, Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{
    StreamExt,
    stream::{self, try_unfold},
};
use percent_encoding::percent_decode_str;
use time::OffsetDateTime;
use tokio::task::spawn_blocking;
use url::Url;

use self::lease::Leases;
use super::{Blob, BlobPath, ByteStream, ETag, LeaseId, Store, StoreError, WriteIf, raw_url::RawUrl};

/// Bytes that are read from a file at once.
const CHUNK: u64 = 1 << 20;
/// What the names of the store's own files begin with. They are no blobs.
const OWN: &str = ".vivadrop-";

/// The blobs of a folder.
#[derive(Debug, Clone)]
pub struct LocalStore {
    root: Arc<Path>,
    /// The root as a URL's path spells it, percent-decoded: without the first slash, with one at the end.
    url_path: Arc<str>,
    leases: Arc<Leases>,
}

/// The text names no folder.
#[derive(Debug, thiserror::Error)]
#[error("expected a folder, such as file:///dir (`#`, `?` and `%` are written %23, %3F and %25)")]
pub struct FolderError;

impl LocalStore {
    /// The blobs of the folder `root`, which need not be there yet.
    pub fn new(root: impl AsRef<Path>) -> Result<Self, FolderError> {
        let root = std::path::absolute(root).map_err(|_| FolderError)?;
        let url = Url::from_directory_path(&root).map_err(|()| FolderError)?;
        let url_path = percent_decode_str(url.path()).decode_utf8().map_err(|_| FolderError)?;
        Ok(Self { url_path: url_path.trim_start_matches('/').into(), root: root.into(), leases: Arc::default() })
    }

    /// The blobs of the folder that `url` (`file:///dir`) names.
    pub fn from_url(url: &str) -> Result<Self, FolderError> {
        let has_path = url.get(..8).is_some_and(|start| start.eq_ignore_ascii_case("file:///"));
        let url = Url::parse(url).ok().filter(|url| has_path && url.query().is_none() && url.fragment().is_none());
        Self::new(url.ok_or(FolderError)?.to_file_path().map_err(|()| FolderError)?)
    }

    /// The file of a blob. `None` where no file of the folder can have that name.
    fn file(&self, path: &BlobPath) -> Option<PathBuf> {
        let mut file = self.root.to_path_buf();
        for segment in std::iter::once(&*path.container).chain(path.name.split('/')) {
            file.push(plain_component(segment)?);
        }
        Some(file)
    }

    /// Does `work` while no other writer of the folder, in any process, does anything.
    async fn locked<T: Send + 'static>(
        &self,
        path: &BlobPath,
        work: impl FnOnce(&Self, &BlobPath, OffsetDateTime) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let store = self.clone();
        on_blocking_pool(path.clone(), move |path| {
            let _lock = write::lock(&store.root).map_err(|error| failed(path, error))?;
            work(&store, path, OffsetDateTime::now_utc())
        })
        .await
    }
}

#[async_trait]
impl Store for LocalStore {
    async fn list(&self, container: &str, prefix: &str) -> Result<Vec<Blob>, StoreError> {
        let place = BlobPath::new(container, prefix);
        let store = self.clone();
        on_blocking_pool(place, move |place| walk::list(&store, place)).await
    }

    async fn find(&self, path: &BlobPath) -> Result<Option<Blob>, StoreError> {
        let Some(file) = self.file(path) else {
            return Ok(None);
        };
        let found = on_blocking_pool(path.clone(), move |path| found(path, fs::metadata(file)));
        match found.await {
            Err(StoreError::Missing(_)) => Ok(None),
            found => found,
        }
    }

    async fn read_range(&self, blob: &Blob, range: Range<u64>) -> Result<ByteStream, StoreError> {
        let missing = || StoreError::Missing(blob.path.clone());
        let file = self.file(&blob.path).ok_or_else(missing)?;
        let etag = blob.etag.clone();
        // The first chunk is most often the whole range.
        let opened = on_blocking_pool(blob.path.clone(), move |path| Reading::open(path, &file, etag, range)?.chunk());
        let Some((first, reading)) = opened.await? else {
            return Ok(stream::empty().boxed());
        };
        Ok(stream::iter([Ok(first)]).chain(try_unfold(reading, Reading::next)).boxed())
    }

    async fn write(&self, path: &BlobPath, bytes: Bytes, condition: WriteIf) -> Result<ETag, StoreError> {
        let file = self.file(path).ok_or_else(|| StoreError::unavailable(path, "no file can have this name"))?;
        let root = Arc::clone(&self.root);
        on_blocking_pool(path.clone(), move |path| write::write(&root, path, &file, &bytes, &condition)).await
    }

    async fn delete(&self, path: &BlobPath) -> Result<(), StoreError> {
        let Some(file) = self.file(path) else {
            return Ok(());
        };
        let deleted = self.locked(path, move |store, path, now| {
            if lease::on_blob(&store.root, path, now).map_err(|error| failed(path, error))?.is_some() {
                return Err(StoreError::LeaseConflict(path.clone()));
            }
            fs::remove_file(file).map_err(|error| failed(path, error))
        });
        match deleted.await {
            Err(StoreError::Missing(_)) => Ok(()),
            deleted => deleted,
        }
    }

    async fn has_container(&self, container: &str) -> Result<bool, StoreError> {
        let Some(folder) = plain_component(container).map(|name| self.root.join(name)) else {
            return Ok(false);
        };
        on_blocking_pool(BlobPath::new(container, ""), move |path| {
            match fs::metadata(folder).map_err(|error| failed(path, error)) {
                Ok(metadata) => Ok(metadata.is_dir()),
                Err(StoreError::Missing(_)) => Ok(false),
                Err(error) => Err(error),
            }
        })
        .await
    }

    async fn create_container(&self, container: &str) -> Result<(), StoreError> {
        let place = BlobPath::new(container, "");
        let unusable = || StoreError::unavailable(&place, "no folder can have this name");
        let folder = self.root.join(plain_component(container).ok_or_else(unusable)?);
        on_blocking_pool(place, move |path| fs::create_dir_all(folder).map_err(|error| failed(path, error))).await
    }

    async fn lease(&self, path: &BlobPath, time: Duration) -> Result<Option<LeaseId>, StoreError> {
        let file = self.file(path).ok_or_else(|| StoreError::Missing(path.clone()))?;
        self.locked(path, move |store, path, now| {
            found(path, fs::metadata(file))?.ok_or_else(|| StoreError::Missing(path.clone()))?;
            store.leases.take(&store.root, path, time, now).map_err(|error| failed(path, error))
        })
        .await
    }

    async fn renew(&self, path: &BlobPath, lease: &LeaseId) -> Result<(), StoreError> {
        let lease = lease.clone();
        self.locked(path, move |store, path, now| {
            let is_ours = store.leases.renew(&store.root, path, &lease, now).map_err(|error| failed(path, error))?;
            if is_ours { Ok(()) } else { Err(StoreError::LeaseConflict(path.clone())) }
        })
        .await
    }

    async fn release(&self, path: &BlobPath, lease: &LeaseId) -> Result<(), StoreError> {
        let lease = lease.clone();
        self.locked(path, move |store, path, now| {
            let was_ours = store.leases.end(&store.root, path, &lease, now).map_err(|error| failed(path, error))?;
            if was_ours { Ok(()) } else { Err(StoreError::LeaseConflict(path.clone())) }
        })
        .await
    }

    fn parse_blob_url(&self, url: &str) -> Option<BlobPath> {
        let url = RawUrl::split(url)?;
        let is_here = url.authority.is_empty() || url.authority.eq_ignore_ascii_case("localhost");
        if !url.scheme.eq_ignore_ascii_case("file") || !is_here {
            return None;
        }
        let path = url.path()?;
        let (container, name) = path.strip_prefix(&*self.url_path)?.split_once('/')?;
        let path = BlobPath::new(container, name);
        self.file(&path).map(|_| path)
    }
}

/// One range of a file that is being read.
struct Reading {
    file: File,
    path: BlobPath,
    etag: ETag,
    left: u64,
}

impl Reading {
    fn open(path: &BlobPath, file: &Path, etag: ETag, range: Range<u64>) -> Result<Self, StoreError> {
        // A pipe would block the open until somebody writes to it.
        if !fs::metadata(file).map_err(|error| failed(path, error))?.is_file() {
            return Err(StoreError::Missing(path.clone()));
        }
        let mut file = File::open(file).map_err(|error| failed(path, error))?;
        same_version(path, &file, &etag)?;
        file.seek(SeekFrom::Start(range.start)).map_err(|error| failed(path, error))?;
        Ok(Self { file, path: path.clone(), etag, left: range.end.saturating_sub(range.start) })
    }

    /// The next chunk. It counts once the file is still the version that was opened.
    fn chunk(mut self) -> Result<Option<(Bytes, Self)>, StoreError> {
        let wanted = self.left.min(CHUNK);
        let mut chunk = Vec::with_capacity(usize::try_from(wanted).unwrap_or_default());
        (&self.file).take(wanted).read_to_end(&mut chunk).map_err(|error| failed(&self.path, error))?;
        same_version(&self.path, &self.file, &self.etag)?;
        self.left -= chunk.len() as u64;
        Ok((!chunk.is_empty()).then(|| (chunk.into(), self)))
    }

    async fn next(self) -> Result<Option<(Bytes, Self)>, StoreError> {
        if self.left == 0 {
            return Ok(None);
        }
        on_blocking_pool(self.path.clone(), move |_| self.chunk()).await
    }
}

fn same_version(path: &BlobPath, file: &File, etag: &ETag) -> Result<(), StoreError> {
    let now = file.metadata().map_err(|error| failed(path, error))?;
    if version::etag(&now) == *etag { Ok(()) } else { Err(StoreError::Changed(path.clone())) }
}

/// The blob behind `metadata`, followed through symbolic links. Folders, pipes and devices are none.
fn found(path: &BlobPath, metadata: io::Result<fs::Metadata>) -> Result<Option<Blob>, StoreError> {
    let metadata = metadata.map_err(|error| failed(path, error))?;
    if !metadata.is_file() {
        return Ok(None);
    }
    let modified = metadata.modified().map_err(|error| failed(path, error))?;
    Ok(Some(Blob {
        path: path.clone(),
        etag: version::etag(&metadata),
        size: metadata.len(),
        modified: OffsetDateTime::from(modified),
    }))
}

/// The segment as one step down a path. `None` for steps up and aside, for what this system reads as more than one step,
/// and for the store's own files.
fn plain_component(segment: &str) -> Option<&str> {
    let mut components = Path::new(segment).components();
    let is_plain = matches!(components.next(), Some(Component::Normal(name)) if name == segment)
        && components.next().is_none()
        && !segment.contains('\0')
        && !segment.starts_with(OWN);
    is_plain.then_some(segment)
}

fn failed(path: &BlobPath, error: io::Error) -> StoreError {
    match error.kind() {
        // A file where a folder should be: what is asked for cannot be there.
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => StoreError::Missing(path.clone()),
        io::ErrorKind::PermissionDenied => StoreError::Denied(path.clone()),
        _ => StoreError::unavailable(path, error),
    }
}

async fn on_blocking_pool<T: Send + 'static>(
    path: BlobPath,
    work: impl FnOnce(&BlobPath) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    let asked = path.clone();
    spawn_blocking(move || work(&path)).await.unwrap_or_else(|end| Err(StoreError::from_join_error(&asked, end)))
}

#[cfg(test)]
mod tests;
