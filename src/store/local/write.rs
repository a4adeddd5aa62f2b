//! Writes files atomically and conditionally.
//!
//! A reader sees either the old version or the new one, and of two concurrent conditional writes only one succeeds.

use std::{
    ffi::OsStr,
    fs::{self, Metadata},
    io::{self, Write},
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tempfile::NamedTempFile;
use time::OffsetDateTime;

use super::{
    contained::{contained, create_folder_of, write_error},
    file::{OWN_PREFIX, is_missing},
    lease,
    lock::lock,
    version,
};
use crate::store::{BlobPath, ETag, StoreError, WriteIf};

/// Writes `bytes` as the blob at `path`, whose file is called `file_name`, if `condition` holds.
///
/// The bytes are written to a temporary file before the blob is locked, because writing may take long.
pub(super) fn write(
    root: &Path,
    path: &BlobPath,
    file_name: &OsStr,
    bytes: &[u8],
    condition: &WriteIf,
) -> Result<ETag, StoreError> {
    let folder = create_folder_of(root, path)?;
    let file = folder.join(file_name);
    check(root, path, &file, condition)?;
    let to_error = |error| write_error(path, error);
    let new = write_temporary(&folder, bytes).map_err(to_error)?;

    let _lock = lock(root, path).map_err(to_error)?;
    let lease = lease::active_lease(root, path, OffsetDateTime::now_utc()).map_err(to_error)?;
    if lease.as_ref() != condition.lease() {
        return Err(StoreError::LeaseConflict(path.clone()));
    }
    let current = check(root, path, &file, condition)?;
    replace(new, &file, current.as_ref()).map_err(to_error)
}

/// Fails if `condition` does not hold for the file that exists now; returns the metadata of that file.
fn check(root: &Path, path: &BlobPath, file: &Path, condition: &WriteIf) -> Result<Option<Metadata>, StoreError> {
    let current = match contained(root, file).and_then(fs::metadata) {
        Err(error) if is_missing(&error) => None,
        metadata => Some(metadata.map_err(|error| write_error(path, error))?),
    };
    if current.as_ref().is_some_and(Metadata::is_dir) {
        return Err(StoreError::unavailable(path, "a folder is in the place of this file: rename one of the two"));
    }
    if holds(condition, current.as_ref()) { Ok(current) } else { Err(StoreError::Changed(path.clone())) }
}

fn holds(condition: &WriteIf, current: Option<&Metadata>) -> bool {
    match condition {
        WriteIf::Always => true,
        WriteIf::Absent => current.is_none(),
        WriteIf::Matches(etag) | WriteIf::Leased(etag, _) => {
            current.is_some_and(|current| version::etag(current) == *etag)
        }
    }
}

fn write_temporary(folder: &Path, bytes: &[u8]) -> io::Result<NamedTempFile> {
    let mut new = new_file(folder)?;
    new.write_all(bytes)?;
    new.as_file().sync_all()?;
    Ok(new)
}

/// Puts the file `new` in the place of `file`, which has the metadata `current` if it exists.
fn replace(new: NamedTempFile, file: &Path, current: Option<&Metadata>) -> io::Result<ETag> {
    // The clock of the file system may tick only every few milliseconds, and inodes are reused, so two quick versions
    // of the same size could have the same ETag. Therefore each version gets a later modification time than the one
    // before.
    new.as_file().set_modified(later_than(current))?;
    let written = new.persist(file)?;
    Ok(version::etag(&written.metadata()?))
}

/// A new temporary file. Its permissions follow the umask, because it becomes a blob; the default is the owner only.
fn new_file(folder: &Path) -> io::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.prefix(OWN_PREFIX).suffix(".tmp").tempfile_in(folder)
}

/// Now, or one nanosecond after the modification time of `current` if that is later.
fn later_than(current: Option<&Metadata>) -> SystemTime {
    let now = SystemTime::now();
    let Some(modified) = current.map(version::modified_nanos) else {
        return now;
    };
    let next = u64::try_from(modified + 1).map_or(UNIX_EPOCH, |next| UNIX_EPOCH + Duration::from_nanos(next));
    now.max(next)
}
