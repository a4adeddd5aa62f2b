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

/// How many segments a blob name has at most, as in Azure Storage.
pub(super) const MAX_SEGMENTS: usize = 254;

/// The path of the file that holds the blob at `path`; `None` if no file can have that name.
pub(super) fn file_path(root: &Path, path: &BlobPath) -> Option<PathBuf> {
    if path.name.split('/').count() > MAX_SEGMENTS {
        return None;
    }
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
        _ if is_missing(&error) || is_too_long(&error) => StoreError::Missing(path.clone()),
        io::ErrorKind::PermissionDenied => StoreError::Denied(path.clone()),
        _ => StoreError::unavailable(path, error),
    }
}

/// Whether the error means that there is no such file: nothing has the name, a file is in the place of a folder of the
/// name, or the name is that of a symbolic link to itself.
pub(super) fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) || is_link_loop(error)
}

/// Whether the error means that no file can have the name, because it, or its path, is too long.
pub(super) fn is_too_long(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::InvalidFilename
}

/// Whether the error is `ELOOP`: a symbolic link that leads to itself. `ErrorKind::FilesystemLoop` is not stable yet.
fn is_link_loop(error: &io::Error) -> bool {
    /// On Linux, and on macOS and the BSDs.
    const ELOOP: [i32; 2] = [40, 62];
    cfg!(unix) && error.raw_os_error().is_some_and(|code| ELOOP.contains(&code))
}
