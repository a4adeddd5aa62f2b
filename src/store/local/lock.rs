//! Locks between writers of the same blob, in every process.
//!
//! There are 256 lock files, chosen by the hash of the blob's path: a bounded number, and two blobs rarely share one. A
//! lock is held only for steps that do not depend on the size of a blob, so that a large write never delays the renewal
//! of a lease.

use std::{
    fs::{self, File},
    io,
    path::Path,
};

use sha2::{Digest, Sha256};

use super::file::OWN_PREFIX;
use crate::{hex::hex, store::BlobPath};

/// Locks the blob at `path` against all other writers until the returned file is dropped. The operating system releases
/// the lock if this process is killed.
pub(super) fn lock(root: &Path, path: &BlobPath) -> io::Result<File> {
    let folder = root.join(format!("{OWN_PREFIX}locks"));
    match fs::create_dir(&folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        created => created?,
    }
    let file = File::options().create(true).truncate(false).write(true).open(folder.join(&digest(path)[..2]))?;
    file.lock()?;
    Ok(file)
}

/// The SHA-256 of the blob's path, as hexadecimal digits.
pub(super) fn digest(path: &BlobPath) -> String {
    hex(&Sha256::digest(path.to_string()))
}
