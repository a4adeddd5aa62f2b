//! Maps blobs to files, and I/O errors to [`StoreError`]s.

use std::{
    fs, io,
    path::{Component, Path, PathBuf},
};

use time::OffsetDateTime;

use super::version;
use crate::store::{Blob, BlobPath, StoreError};

/// Prefix of the store's own files. They are not blobs.
pub(super) const OWN_PREFIX: &str = ".vivadrop-";

/// The path of the file that holds the blob at `path`; `None` if no file can have that name.
pub(super) fn file_path(root: &Path, path: &BlobPath) -> Option<PathBuf> {
    let mut file = root.to_path_buf();
    for segment in std::iter::once(&*path.container).chain(path.name.split('/')) {
        file.push(file_name(segment)?);
    }
    Some(file)
}

/// `segment` as the name of one file or folder.
///
/// `None` for `.`, `..` and the empty name, for a name that this system splits into several, and for the store's own
/// files.
pub(super) fn file_name(segment: &str) -> Option<&str> {
    let mut components = Path::new(segment).components();
    let is_single = matches!(components.next(), Some(Component::Normal(name)) if name == segment)
        && components.next().is_none()
        && !segment.contains('\0');
    (is_single && !segment.starts_with(OWN_PREFIX)).then_some(segment)
}

/// The blob whose file has this `metadata`, read through symbolic links. `None` for folders, pipes and devices.
pub(super) fn blob_of(path: &BlobPath, metadata: io::Result<fs::Metadata>) -> Result<Option<Blob>, StoreError> {
    let metadata = metadata.map_err(|error| store_error(path, error))?;
    if !metadata.is_file() {
        return Ok(None);
    }
    let modified = metadata.modified().map_err(|error| store_error(path, error))?;
    Ok(Some(Blob {
        path: path.clone(),
        etag: version::etag(&metadata),
        size: metadata.len(),
        modified: OffsetDateTime::from(modified),
    }))
}

/// Converts an I/O error about the file of the blob at `path`.
pub(super) fn store_error(path: &BlobPath, error: io::Error) -> StoreError {
    match error.kind() {
        // `NotADirectory`: a file is in the place of a folder of the name, so the blob cannot exist.
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => StoreError::Missing(path.clone()),
        io::ErrorKind::PermissionDenied => StoreError::Denied(path.clone()),
        _ => StoreError::unavailable(path, error),
    }
}
