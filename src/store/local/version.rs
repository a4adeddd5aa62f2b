//! Derives the ETag of a file from its metadata, without reading the file.

use std::{fs::Metadata, time::UNIX_EPOCH};

use crate::store::ETag;

/// Modification time, change time, size and inode.
///
/// The change time is included because `tar`, `rsync` and `cp -p` set the modification time to an arbitrary value.
pub(super) fn etag(metadata: &Metadata) -> ETag {
    let (changed, inode) = identity(metadata);
    ETag(format!("{:x}-{changed:x}-{:x}-{inode:x}", modified_nanos(metadata), metadata.len()))
}

/// The modification time in nanoseconds since 1970.
pub(super) fn modified_nanos(metadata: &Metadata) -> i128 {
    let modified = metadata.modified().unwrap_or(UNIX_EPOCH);
    match modified.duration_since(UNIX_EPOCH) {
        Ok(since) => since.as_nanos() as i128,
        Err(before) => -(before.duration().as_nanos() as i128),
    }
}

/// The change time in nanoseconds since 1970, and the inode.
#[cfg(unix)]
fn identity(metadata: &Metadata) -> (i128, u64) {
    use std::os::unix::fs::MetadataExt;

    let changed = i128::from(metadata.ctime()) * 1_000_000_000 + i128::from(metadata.ctime_nsec());
    (changed, metadata.ino())
}

/// The creation time in nanoseconds since 1970, and 0: other systems have no change time and no inode.
#[cfg(not(unix))]
fn identity(metadata: &Metadata) -> (i128, u64) {
    let created = metadata.created().unwrap_or(UNIX_EPOCH);
    let created = created.duration_since(UNIX_EPOCH).unwrap_or_default();
    (created.as_nanos() as i128, 0)
}
