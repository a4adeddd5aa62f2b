//! Which version of a file this is, without reading it.

use std::{fs::Metadata, time::UNIX_EPOCH};

use super::super::ETag;

/// When it was written, when it last changed in any way, its size, and which file it is.
///
/// The time of the last change is there because `tar`, `rsync` and `cp -p` set the time of writing to what they please.
pub(super) fn etag(metadata: &Metadata) -> ETag {
    let (changed, file) = identity(metadata);
    ETag(format!("{:x}-{changed:x}-{:x}-{file:x}", written(metadata), metadata.len()))
}

/// Nanoseconds since 1970.
pub(super) fn written(metadata: &Metadata) -> i128 {
    let modified = metadata.modified().unwrap_or(UNIX_EPOCH);
    match modified.duration_since(UNIX_EPOCH) {
        Ok(since) => since.as_nanos() as i128,
        Err(before) => -(before.duration().as_nanos() as i128),
    }
}

#[cfg(unix)]
fn identity(metadata: &Metadata) -> (i128, u64) {
    use std::os::unix::fs::MetadataExt;

    let changed = i128::from(metadata.ctime()) * 1_000_000_000 + i128::from(metadata.ctime_nsec());
    (changed, metadata.ino())
}

#[cfg(not(unix))]
fn identity(metadata: &Metadata) -> (i128, u64) {
    let created = metadata.created().unwrap_or(UNIX_EPOCH);
    let created = created.duration_since(UNIX_EPOCH).unwrap_or_default();
    (created.as_nanos() as i128, 0)
}
