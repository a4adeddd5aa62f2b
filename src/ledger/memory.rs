//! The ledger of one process. What it knows ends with the process: the host then repeats what was not answered.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;

use super::{Claim, Ending, FileRecord, Ledger, LedgerError, Status, Work};
use crate::{drop::DropPath, message::FileVersion};

/// How many drops are remembered. Older ones are forgotten first: their events are long answered.
const DROPS_KEPT: usize = 1000;

/// A ledger in memory.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    drops: Arc<Mutex<Drops>>,
}

#[derive(Debug, Default)]
struct Drops {
    known: HashMap<DropPath, Known>,
    /// Grows with each drop, so that the oldest can be told.
    clock: u64,
}

#[derive(Debug, Default)]
struct Known {
    since: u64,
    files: BTreeMap<String, Entry>,
    ending: Option<Ending>,
}

#[derive(Debug)]
struct Entry {
    record: FileRecord,
    is_claimed: bool,
}

impl Memory {
    fn drops(&self) -> MutexGuard<'_, Drops> {
        self.drops.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drops {
    fn of(&mut self, drop: &DropPath) -> &mut Known {
        self.clock += 1;
        if !self.known.contains_key(drop) && self.known.len() >= DROPS_KEPT {
            let is_idle = |known: &Known| !known.files.values().any(|entry| entry.is_claimed);
            let oldest = self.known.iter().filter(|(_, known)| is_idle(known)).min_by_key(|(_, known)| known.since);
            if let Some(path) = oldest.map(|(path, _)| path.clone()) {
                self.known.remove(&path);
            }
        }
        let since = self.clock;
        self.known.entry(drop.clone()).or_insert_with(|| Known { since, ..Known::default() })
    }
}

#[async_trait]
impl Ledger for Memory {
    async fn claim(&self, drop: &DropPath, file: &FileVersion) -> Result<Claim, LedgerError> {
        let mut drops = self.drops();
        let known = drops.of(drop);
        let entry = known
            .files
            .entry(file.name.clone())
            .or_insert_with(|| Entry { record: FileRecord::new(file.clone()), is_claimed: false });
        if entry.record.file != *file && !entry.is_claimed {
            entry.record = FileRecord::new(file.clone());
        }
        if entry.is_claimed {
            return Ok(Claim::AnsweredByAnother);
        }
        if entry.record.status != Status::Running {
            return Ok(Claim::Ended(entry.record.clone()));
        }
        entry.is_claimed = true;
        let record = entry.record.clone();
        Ok(Claim::Held(Box::new(Held { ledger: self.clone(), drop: drop.clone(), record })))
    }

    async fn files(&self, drop: &DropPath) -> Result<BTreeMap<String, FileRecord>, LedgerError> {
        let mut drops = self.drops();
        let files = &drops.of(drop).files;
        Ok(files.iter().map(|(name, entry)| (name.clone(), entry.record.clone())).collect())
    }

    async fn ending(&self, drop: &DropPath) -> Result<Option<Ending>, LedgerError> {
        Ok(self.drops().of(drop).ending.clone())
    }

    async fn end(&self, drop: &DropPath, ending: &Ending) -> Result<(), LedgerError> {
        self.drops().of(drop).ending = Some(ending.clone());
        Ok(())
    }
}

/// A claimed file.
struct Held {
    ledger: Memory,
    drop: DropPath,
    record: FileRecord,
}

impl Held {
    fn with_entry(&self, change: impl FnOnce(&mut Entry)) {
        let mut drops = self.ledger.drops();
        if let Some(entry) = drops.of(&self.drop).files.get_mut(&self.record.file.name) {
            change(entry);
        }
    }
}

#[async_trait]
impl Work for Held {
    fn record(&self) -> &FileRecord {
        &self.record
    }

    async fn checkpoint(&mut self, next_row: u64, bad_rows: u64) -> Result<(), LedgerError> {
        (self.record.next_row, self.record.bad_rows) = (next_row, bad_rows);
        self.with_entry(|entry| entry.record = self.record.clone());
        Ok(())
    }

    async fn finish(&mut self, status: Status) -> Result<(), LedgerError> {
        self.record.status = status;
        self.with_entry(|entry| entry.record = self.record.clone());
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.with_entry(|entry| entry.is_claimed = false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::ETag;

    fn drop_path() -> DropPath {
        DropPath::new("datasets", "run")
    }

    fn file(etag: &str) -> FileVersion {
        FileVersion { name: "part-0.json.gz".into(), etag: ETag(etag.into()) }
    }

    async fn held(ledger: &Memory, etag: &str) -> Box<dyn Work> {
        match ledger.claim(&drop_path(), &file(etag)).await.unwrap() {
            Claim::Held(work) => work,
            Claim::Ended(_) | Claim::AnsweredByAnother => panic!("the file is not free"),
        }
    }

    #[tokio::test]
    async fn a_file_has_one_worker_at_a_time_and_goes_on_from_its_checkpoint() {
        let ledger = Memory::default();
        let mut work = held(&ledger, "1").await;
        work.checkpoint(500, 2).await.unwrap();
        assert!(matches!(ledger.claim(&drop_path(), &file("1")).await, Ok(Claim::AnsweredByAnother)));
        std::mem::drop(work);
        let work = held(&ledger, "1").await;
        assert_eq!((work.record().next_row, work.record().bad_rows), (500, 2));
    }

    #[tokio::test]
    async fn an_ended_file_stays_ended_until_it_is_overwritten() {
        let ledger = Memory::default();
        held(&ledger, "1").await.finish(Status::Done).await.unwrap();
        let again = ledger.claim(&drop_path(), &file("1")).await;
        assert!(matches!(again, Ok(Claim::Ended(FileRecord { status: Status::Done, .. }))));
        assert_eq!(held(&ledger, "2").await.record().next_row, 0);
    }

    #[tokio::test]
    async fn old_drops_are_forgotten_and_running_ones_are_not() {
        let ledger = Memory::default();
        let _running = held(&ledger, "1").await;
        for number in 0..2 * DROPS_KEPT {
            let path = DropPath::new("datasets", number.to_string());
            std::mem::drop(ledger.claim(&path, &file("1")).await);
        }
        assert!(ledger.drops().known.len() <= DROPS_KEPT);
        assert!(ledger.drops().known.contains_key(&drop_path()));
    }
}
