//! Writing a file so that others see the old version or the new one, and so that one of two guarded writers loses.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tempfile::NamedTempFile;
use time::OffsetDateTime;

use super::{BlobPath, ETag, OWN, StoreError, WriteIf, failed, lease, version};

/// Writes `bytes` to `file` when `condition` holds.
pub(super) fn write(
    root: &Path,
    path: &BlobPath,
    file: &Path,
    bytes: &[u8],
    condition: &WriteIf,
) -> Result<ETag, StoreError> {
    let folder = file.parent().unwrap_or(root);
    let unwritten = |error| match failed(path, error) {
        // A file lies where a folder of the name should be.
        StoreError::Missing(path) => StoreError::unavailable(&path, "no folder can be made for it"),
        error => error,
    };
    fs::create_dir_all(folder).map_err(unwritten)?;
    let lock = lock(root).map_err(unwritten)?;
    let lease = lease::on_blob(root, path, OffsetDateTime::now_utc()).map_err(unwritten)?;
    if lease.as_ref() != condition.lease() {
        return Err(StoreError::LeaseConflict(path.clone()));
    }
    let before = current(file).map_err(unwritten)?;
    if !holds(condition, before.as_ref()) {
        return Err(StoreError::Changed(path.clone()));
    }
    let etag = replace(folder, file, bytes, before.as_ref()).map_err(unwritten)?;
    std::mem::drop(lock);
    Ok(etag)
}

/// All writers of the folder, in every process, one after another. The system unlocks it when a process is killed.
pub(super) fn lock(root: &Path) -> io::Result<File> {
    let file = File::options().create(true).truncate(false).write(true).open(root.join(format!("{OWN}lock")))?;
    file.lock()?;
    Ok(file)
}

fn current(file: &Path) -> io::Result<Option<fs::Metadata>> {
    match fs::metadata(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        metadata => metadata.map(Some),
    }
}

fn holds(condition: &WriteIf, before: Option<&fs::Metadata>) -> bool {
    match condition {
        WriteIf::Always => true,
        WriteIf::Absent => before.is_none(),
        WriteIf::Matches(etag) | WriteIf::Leased(etag, _) => {
            before.is_some_and(|before| version::etag(before) == *etag)
        }
    }
}

fn replace(folder: &Path, file: &Path, bytes: &[u8], before: Option<&fs::Metadata>) -> io::Result<ETag> {
    let mut new = new_file(folder)?;
    new.write_all(bytes)?;
    // The file system's clock ticks in milliseconds, and gives the same file number out again: two quick versions of one
    // size could look alike. So each is written at a later nanosecond than the one before.
    new.as_file().set_modified(later_than(before))?;
    new.as_file().sync_all()?;
    let written = new.persist(file)?;
    Ok(version::etag(&written.metadata()?))
}

/// A temporary file is for its owner's eyes alone; a blob is for whom the umask says.
fn new_file(folder: &Path) -> io::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.prefix(OWN).suffix(".tmp").tempfile_in(folder)
}

fn later_than(before: Option<&fs::Metadata>) -> SystemTime {
    let now = SystemTime::now();
    let Some(before) = before.map(version::written) else {
        return now;
    };
    let next = u64::try_from(before + 1).map_or(UNIX_EPOCH, |next| UNIX_EPOCH + Duration::from_nanos(next));
    now.max(next)
}
