//! Leases on the blobs of a folder: one record file per lease, in a folder of the store's own.
//!
//! A lease is active until the time in its record, and only while the process that wrote the record keeps the file
//! locked. The operating system unlocks the file if that process is killed. The caller must hold the lock of the blob
//! ([`super::lock`]) during each of these functions, so that they never run concurrently for one blob.

use std::{
    collections::HashMap,
    fs::{self, File, TryLockError},
    io::{self, Read, Seek, Write},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::{file::OWN_PREFIX, lock::digest};
use crate::store::{BlobPath, LeaseId};

/// The leases of this process, with their locked record files.
#[derive(Debug, Default)]
pub(super) struct Leases {
    files: Mutex<HashMap<LeaseId, File>>,
}

/// The record of a lease.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    blob: String,
    lease: String,
    seconds: u64,
    #[serde(with = "time::serde::rfc3339")]
    until: OffsetDateTime,
}

/// The lease that is active on a blob at `now`. Returns `None` if no lease is active.
pub(super) fn active_lease(root: &Path, path: &BlobPath, now: OffsetDateTime) -> io::Result<Option<LeaseId>> {
    Ok(active_record(root, path, now)?.map(|record| LeaseId(record.lease)))
}

impl Leases {
    /// Leases a blob; `None` if it is already leased.
    pub(super) fn acquire(
        &self,
        root: &Path,
        path: &BlobPath,
        time: Duration,
        now: OffsetDateTime,
    ) -> io::Result<Option<LeaseId>> {
        if active_lease(root, path, now)?.is_some() {
            return Ok(None);
        }
        let record_path = record_path(root, path);
        fs::create_dir_all(record_path.parent().unwrap_or(root))?;
        // The holder of a lease that lapsed may still have the old record locked, so the new record is a new file.
        remove_if_present(&record_path)?;
        let mut file = File::options().create_new(true).read(true).write(true).open(&record_path)?;
        file.lock()?;
        let lease = LeaseId::fresh();
        let (blob, seconds) = (path.to_string(), time.as_secs());
        write_record(&mut file, &Record { blob, lease: lease.0.clone(), seconds, until: now + time })?;
        self.files().insert(lease.clone(), file);
        Ok(Some(lease))
    }

    /// Restarts the time of a lease; `false` if it is no longer active.
    pub(super) fn renew(&self, root: &Path, path: &BlobPath, lease: &LeaseId, now: OffsetDateTime) -> io::Result<bool> {
        let mut files = self.files();
        let Some(record) = active_record(root, path, now)?.filter(|record| record.lease == lease.0) else {
            files.remove(lease);
            return Ok(false);
        };
        let Some(file) = files.get_mut(lease) else {
            return Ok(false);
        };
        let until = now + Duration::from_secs(record.seconds);
        write_record(file, &Record { until, ..record })?;
        Ok(true)
    }

    /// Ends a lease; `false` if it was no longer active.
    pub(super) fn release(
        &self,
        root: &Path,
        path: &BlobPath,
        lease: &LeaseId,
        now: OffsetDateTime,
    ) -> io::Result<bool> {
        let is_active = active_lease(root, path, now)?.as_ref() == Some(lease);
        if is_active {
            remove_if_present(&record_path(root, path))?;
        }
        self.files().remove(lease);
        Ok(is_active)
    }

    fn files(&self) -> MutexGuard<'_, HashMap<LeaseId, File>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The record file of a blob's lease. It is named by a hash, because a blob name may be longer than a file name, or
/// contain characters that a file name cannot.
fn record_path(root: &Path, path: &BlobPath) -> PathBuf {
    root.join(format!("{OWN_PREFIX}leases")).join(format!("{}.json", digest(path)))
}

/// The record of the active lease on a blob: its time has not passed, and the process that wrote it is alive.
fn active_record(root: &Path, path: &BlobPath, now: OffsetDateTime) -> io::Result<Option<Record>> {
    let mut file = match File::open(record_path(root, path)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let is_locked = match file.try_lock() {
        Ok(()) => false,
        Err(TryLockError::WouldBlock) => true,
        Err(TryLockError::Error(error)) => return Err(error),
    };
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    // A record that cannot be parsed was incomplete when its writer was killed.
    let record: Option<Record> = serde_json::from_str(&text).ok();
    Ok(record.filter(|record| is_locked && now < record.until))
}

fn write_record(file: &mut File, record: &Record) -> io::Result<()> {
    file.rewind()?;
    file.set_len(0)?;
    file.write_all(&serde_json::to_vec(record)?)
}

fn remove_if_present(file: &Path) -> io::Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: Duration = Duration::from_secs(15);

    fn path() -> BlobPath {
        BlobPath::new("c", "state.json")
    }

    #[test]
    fn a_lease_lapses_if_it_is_not_renewed() {
        let root = tempfile::tempdir().unwrap();
        let (first, second) = (Leases::default(), Leases::default());
        let start = OffsetDateTime::now_utc();
        let lease = first.acquire(root.path(), &path(), TIME, start).unwrap().unwrap();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(first.renew(root.path(), &path(), &lease, at(10)).unwrap());
        assert_eq!(second.acquire(root.path(), &path(), TIME, at(24)).unwrap(), None);
        let other = second.acquire(root.path(), &path(), TIME, at(25)).unwrap().unwrap();
        assert!(!first.renew(root.path(), &path(), &lease, at(26)).unwrap());
        assert!(!first.release(root.path(), &path(), &lease, at(26)).unwrap());
        assert_eq!(active_lease(root.path(), &path(), at(26)).unwrap(), Some(other));
    }

    #[test]
    fn a_lease_lapses_with_its_process() {
        let root = tempfile::tempdir().unwrap();
        let killed = Leases::default();
        let now = OffsetDateTime::now_utc();
        assert!(killed.acquire(root.path(), &path(), TIME, now).unwrap().is_some());
        assert!(active_lease(root.path(), &path(), now).unwrap().is_some());
        // This closes its files, as the system does when a process is killed.
        std::mem::drop(killed);
        assert_eq!(active_lease(root.path(), &path(), now).unwrap(), None);
    }

    #[test]
    fn an_incomplete_record_is_ignored() {
        let root = tempfile::tempdir().unwrap();
        let record_path = record_path(root.path(), &path());
        fs::create_dir_all(record_path.parent().unwrap()).unwrap();
        fs::write(&record_path, "{\"blob\":").unwrap();
        let leases = Leases::default();
        assert!(leases.acquire(root.path(), &path(), TIME, OffsetDateTime::now_utc()).unwrap().is_some());
    }
}
