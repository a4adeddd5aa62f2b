//! Keeps every access inside the root folder: symbolic links are followed only if they lead to a place inside it.
//!
//! This protects against existing links, such as a link in a copied folder. It does not protect against another process
//! on this machine that replaces a folder by a link during the access: only trusted users may write to the root.

use std::{
    fs,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

use crate::store::{BlobPath, StoreError};

/// A symbolic link leads out of the root.
#[derive(Debug, thiserror::Error)]
#[error("a symbolic link leads out of the folder of the storage: put the files there instead of the link")]
struct OutsideRoot;

/// The real path of `path`, which is inside the real path of `root`.
///
/// Fails with [`ErrorKind::NotFound`] if `path` does not exist or leads out of `root`; see [`is_outside`].
pub(super) fn contained(root: &Path, path: &Path) -> io::Result<PathBuf> {
    let (root, real) = (fs::canonicalize(root)?, fs::canonicalize(path)?);
    if real.starts_with(root) { Ok(real) } else { Err(outside()) }
}

/// Whether the error of [`contained`] is about a path that leads out of the root.
pub(super) fn is_outside(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<OutsideRoot>())
}

/// Creates the folders `container` and those of the name of `path`; returns the real path of the innermost one.
pub(super) fn create_folder_of(root: &Path, path: &BlobPath) -> Result<PathBuf, StoreError> {
    let folders = path.name.rsplit_once('/').map_or("", |(folders, _)| folders);
    let segments = [&*path.container].into_iter().chain(folders.split('/').filter(|segment| !segment.is_empty()));
    create_folders(root, path, segments)
}

/// Creates the folder of a container.
pub(super) fn create_container(root: &Path, path: &BlobPath) -> Result<PathBuf, StoreError> {
    create_folders(root, path, [&*path.container].into_iter())
}

fn create_folders<'a>(
    root: &Path,
    path: &BlobPath,
    segments: impl Iterator<Item = &'a str>,
) -> Result<PathBuf, StoreError> {
    let to_error = |error: io::Error| write_error(path, error);
    let root = fs::canonicalize(root).map_err(to_error)?;
    let mut folder = root.clone();
    for (depth, segment) in segments.enumerate() {
        folder.push(segment);
        if !fs::symlink_metadata(&folder).is_ok_and(|metadata| metadata.is_dir()) {
            match fs::create_dir(&folder) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                created => created.map_err(to_error)?,
            }
            // A link, a file, or a folder that was created at the same time.
            folder = contained(&root, &folder).map_err(to_error)?;
            if !fs::metadata(&folder).map_err(to_error)?.is_dir() {
                return Err(file_in_place(path, depth));
            }
        }
    }
    Ok(folder)
}

/// The error that a file has the path of the folder formed by the first `depth` segments of the name.
fn file_in_place(path: &BlobPath, depth: usize) -> StoreError {
    let folder = if depth == 0 {
        path.container.clone()
    } else {
        path.name.split('/').take(depth).collect::<Vec<_>>().join("/")
    };
    let text = format!("the file `{folder}` is in the place of a folder of this name: rename one of the two");
    StoreError::unavailable(path, text)
}

/// Converts an I/O error about writing the blob at `path`.
pub(super) fn write_error(path: &BlobPath, error: io::Error) -> StoreError {
    match error.kind() {
        ErrorKind::PermissionDenied => StoreError::Denied(path.clone()),
        ErrorKind::InvalidFilename => StoreError::unavailable(
            path,
            "the name, or a folder in it, is longer than 255 bytes, or the path is too long",
        ),
        _ => StoreError::unavailable(path, error),
    }
}

fn outside() -> io::Error {
    io::Error::new(ErrorKind::NotFound, OutsideRoot)
}
