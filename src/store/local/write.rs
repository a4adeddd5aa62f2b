//! Writes files atomically and conditionally.
//!
//! A reader sees either the old version or the new one, and of two concurrent conditional writes only one succeeds.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tempfile::NamedTempFile;
use time::OffsetDateTime;

use super::{
    file::{OWN_PREFIX, store_error},
    lease, version,
};
use crate::store::{BlobPath, ETag, StoreError, WriteIf};

/// Writes `bytes` to `file`, the file of the blob at `path`, if `condition` holds.
pub(super) fn write(
    root: &Path,
    path: &BlobPath,
    file: &Path,
    bytes: &[u8],
    condition: &WriteIf,
) -> Result<ETag, StoreError> {
    let folder = file.parent().unwrap_or(root);
    let to_error = |error| match store_error(path, error) {
        // A file is in the place of a folder of the name.
        StoreError::Missing(path) => StoreError::unavailable(&path, "its folder cannot be created"),
        error => error,
    };
    fs::create_dir_all(folder).map_err(to_error)?;
    let _lock = lock(root).map_err(to_error)?;
    let lease = lease::active_lease(root, path, OffsetDateTime::now_utc()).map_err(to_error)?;
    if lease.as_ref() != condition.lease() {
        return Err(StoreError::LeaseConflict(path.clone()));
    }
    let current = current_metadata(file).map_err(to_error)?;
    if !holds(condition, current.as_ref()) {
        return Err(StoreError::Changed(path.clone()));
    }
    replace(folder, file, bytes, current.as_ref()).map_err(to_error)
}

/// Locks the store against all other writers, in every process, until the returned file is dropped. The system releases
/// the lock if this process is killed.
pub(super) fn lock(root: &Path) -> io::Result<File> {
    let file = File::options().create(true).truncate(false).write(true).open(root.join(format!("{OWN_PREFIX}lock")))?;
    file.lock()?;
    Ok(file)
}

fn current_metadata(file: &Path) -> io::Result<Option<fs::Metadata>> {
    match fs::metadata(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        metadata => metadata.map(Some),
    }
}

fn holds(condition: &WriteIf, current: Option<&fs::Metadata>) -> bool {
    match condition {
        WriteIf::Always => true,
        WriteIf::Absent => current.is_none(),
        WriteIf::Matches(etag) | WriteIf::Leased(etag, _) => {
            current.is_some_and(|current| version::etag(current) == *etag)
        }
    }
}

fn replace(folder: &Path, file: &Path, bytes: &[u8], current: Option<&fs::Metadata>) -> io::Result<ETag> {
    let mut new = new_file(folder)?;
    new.write_all(bytes)?;
    // The clock of the file system may tick only every few milliseconds, and inodes are reused, so two quick versions
    // of the same size could have the same ETag. Therefore each version gets a later modification time than the one
    // before.
    new.as_file().set_modified(later_than(current))?;
    new.as_file().sync_all()?;
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
fn later_than(current: Option<&fs::Metadata>) -> SystemTime {
    let now = SystemTime::now();
    let Some(modified) = current.map(version::modified_nanos) else {
        return now;
    };
    let next = u64::try_from(modified + 1).map_or(UNIX_EPOCH, |next| UNIX_EPOCH + Duration::from_nanos(next));
    now.max(next)
}
