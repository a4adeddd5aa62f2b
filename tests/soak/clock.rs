//! Wrong clocks of instances: `libfaketime` adds an offset to the time that a process reads from the system's clock.
//! Timers are not affected, as on a real machine whose clock is set.

use std::{
    fs,
    path::{Path, PathBuf},
};

use fastrand::Rng;
use tempfile::TempDir;

const MINUTE: i64 = 60;
const HOUR: i64 = 3600;

/// The clock of an instance.
pub(crate) struct Clock {
    folder: TempDir,
}

impl Clock {
    /// A clock without an offset.
    pub(crate) fn right() -> Self {
        let clock = Self { folder: tempfile::tempdir().unwrap() };
        clock.set(0);
        clock
    }

    /// The environment of a process with this clock.
    pub(crate) fn settings(&self) -> [(String, String); 4] {
        let settings = [
            ("LD_PRELOAD", library().display().to_string()),
            ("FAKETIME_TIMESTAMP_FILE", self.file().display().to_string()),
            ("FAKETIME_CACHE_DURATION", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ];
        settings.map(|(name, value)| (name.to_owned(), value))
    }

    /// Sets a random offset, which may be 0. Receivers reject messages if the clock is wrong by more than five minutes;
    /// storage rejects requests with an account key if the clock is fast by 15 minutes, or slow by an hour.
    pub(crate) fn jump(&self, rng: &mut Rng) {
        let offsets = [0, 0, -4 * MINUTE, 4 * MINUTE, -10 * MINUTE, 10 * MINUTE, -50 * MINUTE, -6 * HOUR, 6 * HOUR];
        self.set(*rng.choice(&offsets).unwrap());
    }

    /// Removes what the library leaves behind when its process is killed.
    pub(crate) fn clean_up(process: u32) {
        for name in [format!("faketime_shm_{process}"), format!("sem.faketime_sem_{process}")] {
            _ = fs::remove_file(Path::new("/dev/shm").join(name));
        }
    }

    /// Sets the clock `seconds` ahead of the right time; a negative number sets it back.
    pub(crate) fn set(&self, seconds: i64) {
        let new = self.folder.path().join("new");
        fs::write(&new, format!("{seconds:+}\n")).unwrap();
        fs::rename(new, self.file()).unwrap();
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("offset")
    }
}

/// Debian's library; `make soak` installs it.
fn library() -> PathBuf {
    let mut folders = fs::read_dir("/usr/lib").unwrap().map(|folder| folder.unwrap().path());
    let library =
        folders.find_map(|folder| Some(folder.join("faketime/libfaketimeMT.so.1")).filter(|file| file.exists()));
    library.expect("libfaketime is installed: apt-get install faketime")
}
