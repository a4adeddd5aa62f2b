//! Leases on files: a note each, in a folder of the store's own.
//!
//! A lease lasts until the time that its note says, and no longer than the process that keeps the note locked: the system
//! unlocks it when a process is killed. Whoever calls these functions holds the lock of the folder, so that nothing here
//! happens at the same time as anything else.

use std::{
    collections::HashMap,
    fs::{self, File, TryLockError},
    io::{self, Read, Seek, Write},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;

use super::{BlobPath, LeaseId, OWN};

/// The notes that this process keeps locked.
#[derive(Debug, Default)]
pub(super) struct Leases {
    locked: Mutex<HashMap<LeaseId, File>>,
}

/// What a note says.
#[derive(Debug, Serialize, Deserialize)]
struct Note {
    blob: String,
    lease: String,
    seconds: u64,
    #[serde(with = "time::serde::rfc3339")]
    until: OffsetDateTime,
}

/// The lease that is on a blob at `now`, if there is one.
pub(super) fn on_blob(root: &Path, path: &BlobPath, now: OffsetDateTime) -> io::Result<Option<LeaseId>> {
    Ok(living(root, path, now)?.map(|note| LeaseId(note.lease)))
}

impl Leases {
    /// Leases a blob, unless somebody has.
    pub(super) fn take(
        &self,
        root: &Path,
        path: &BlobPath,
        time: Duration,
        now: OffsetDateTime,
    ) -> io::Result<Option<LeaseId>> {
        if on_blob(root, path, now)?.is_some() {
            return Ok(None);
        }
        let place = place(root, path);
        fs::create_dir_all(place.parent().unwrap_or(root))?;
        // Somebody whose lease ran out may still keep the old note locked: the new one is another file.
        remove(&place)?;
        let mut file = File::options().create_new(true).read(true).write(true).open(&place)?;
        file.lock()?;
        let lease = LeaseId::fresh();
        let (blob, seconds) = (path.to_string(), time.as_secs());
        write(&mut file, &Note { blob, lease: lease.0.clone(), seconds, until: now + time })?;
        self.locked().insert(lease.clone(), file);
        Ok(Some(lease))
    }

    /// Begins the time of a lease anew; `false` where it is not on the blob any more.
    pub(super) fn renew(&self, root: &Path, path: &BlobPath, lease: &LeaseId, now: OffsetDateTime) -> io::Result<bool> {
        let mut locked = self.locked();
        let Some(note) = living(root, path, now)?.filter(|note| note.lease == lease.0) else {
            locked.remove(lease);
            return Ok(false);
        };
        let Some(file) = locked.get_mut(lease) else {
            return Ok(false);
        };
        let until = now + Duration::from_secs(note.seconds);
        write(file, &Note { until, ..note })?;
        Ok(true)
    }

    /// Ends a lease; `false` where it was not on the blob any more.
    pub(super) fn end(&self, root: &Path, path: &BlobPath, lease: &LeaseId, now: OffsetDateTime) -> io::Result<bool> {
        let is_ours = on_blob(root, path, now)?.as_ref() == Some(lease);
        if is_ours {
            remove(&place(root, path))?;
        }
        self.locked().remove(lease);
        Ok(is_ours)
    }

    fn locked(&self) -> MutexGuard<'_, HashMap<LeaseId, File>> {
        self.locked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A blob's name may hold what a file's cannot, and be longer: the note has the name's hash.
fn place(root: &Path, path: &BlobPath) -> PathBuf {
    let digits: String = Sha256::digest(path.to_string()).iter().map(|byte| format!("{byte:02x}")).collect();
    root.join(format!("{OWN}leases")).join(format!("{digits}.json"))
}

/// The note on a blob, if its time is not out and the process that wrote it lives.
fn living(root: &Path, path: &BlobPath, now: OffsetDateTime) -> io::Result<Option<Note>> {
    let mut file = match File::open(place(root, path)) {
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
    // What cannot be read was being written when its writer was killed.
    let note: Option<Note> = serde_json::from_str(&text).ok();
    Ok(note.filter(|note| is_locked && now < note.until))
}

fn write(file: &mut File, note: &Note) -> io::Result<()> {
    file.rewind()?;
    file.set_len(0)?;
    file.write_all(&serde_json::to_vec(note)?)
}

fn remove(file: &Path) -> io::Result<()> {
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
    fn a_lease_lapses_when_it_is_not_renewed() {
        let root = tempfile::tempdir().unwrap();
        let (first, second) = (Leases::default(), Leases::default());
        let begun = OffsetDateTime::now_utc();
        let lease = first.take(root.path(), &path(), TIME, begun).unwrap().unwrap();
        let at = |seconds| begun + Duration::from_secs(seconds);
        assert!(first.renew(root.path(), &path(), &lease, at(10)).unwrap());
        assert_eq!(second.take(root.path(), &path(), TIME, at(24)).unwrap(), None);
        let other = second.take(root.path(), &path(), TIME, at(25)).unwrap().unwrap();
        assert!(!first.renew(root.path(), &path(), &lease, at(26)).unwrap());
        assert!(!first.end(root.path(), &path(), &lease, at(26)).unwrap());
        assert_eq!(on_blob(root.path(), &path(), at(26)).unwrap(), Some(other));
    }

    #[test]
    fn a_lease_lapses_with_its_process() {
        let root = tempfile::tempdir().unwrap();
        let killed = Leases::default();
        let now = OffsetDateTime::now_utc();
        assert!(killed.take(root.path(), &path(), TIME, now).unwrap().is_some());
        assert!(on_blob(root.path(), &path(), now).unwrap().is_some());
        // Its files are closed, as the system closes those of a process.
        std::mem::drop(killed);
        assert_eq!(on_blob(root.path(), &path(), now).unwrap(), None);
    }

    #[test]
    fn a_note_that_was_half_written_is_none() {
        let root = tempfile::tempdir().unwrap();
        let place = place(root.path(), &path());
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        fs::write(&place, "{\"blob\":").unwrap();
        let leases = Leases::default();
        assert!(leases.take(root.path(), &path(), TIME, OffsetDateTime::now_utc()).unwrap().is_some());
    }
}
