//! A summary of the whole ledger, for `vivadrop check`.

use std::{cmp::Reverse, collections::BinaryHeap};

use futures::{StreamExt, TryStreamExt, stream};

use super::{CONCURRENT_READS, DropRecord, Ending, Ledger, LedgerError, Status, json, paths};
use crate::store::{BlobPath, ETag, StoreError};

/// The maximum number of records that a survey reads, newest first: its duration must not grow with the ledger.
const MAX_RECORDS: usize = 10_000;

/// Counts of the records of a ledger.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Survey {
    /// Drops that are completed.
    pub completed: usize,
    /// Drops that were set aside.
    pub set_aside: usize,
    /// Drops that have not ended since their arrival or their last replay.
    pub open: usize,
    /// Files that were set aside.
    pub files_set_aside: usize,
    /// An error message for each record that cannot be parsed.
    pub unreadable: Vec<String>,
    /// How many older records were not read.
    pub unread: usize,
}

impl Ledger {
    /// Reads and counts the newest records. Fails if the store does not answer.
    pub async fn survey(&self) -> Result<Survey, StoreError> {
        let mut listing = self.store.list(&self.container, paths::DROPS);
        let mut records = BinaryHeap::new();
        let mut survey = Survey::default();
        while let Some(record) = listing.try_next().await? {
            // An account with a hierarchical namespace lists folders as empty blobs. No record is a folder, and the
            // names of records end with `.json`: one that somebody has emptied is still reported.
            if record.size == 0 && !record.path.name.ends_with(".json") {
                continue;
            }
            records.push(Reverse((record.modified, record.path)));
            if records.len() > MAX_RECORDS {
                records.pop();
                survey.unread += 1;
            }
        }
        let reads = records.into_iter().map(async |Reverse((_, path))| {
            let record = self.read(&path).await;
            (path, record)
        });
        let reads: Vec<_> = reads.collect();
        let mut reads = stream::iter(reads).buffer_unordered(CONCURRENT_READS);
        while let Some((path, record)) = reads.next().await {
            match record {
                Ok(Some((etag, bytes))) => survey.count(&path, etag, &bytes),
                Ok(None) => {}
                Err(LedgerError::Store(error)) => return Err(error),
                Err(error) => survey.unreadable.push(error.to_string()),
            }
        }
        survey.unreadable.sort();
        Ok(survey)
    }
}

impl Survey {
    fn count(&mut self, path: &BlobPath, etag: ETag, bytes: &[u8]) {
        // In version 1, `files/drop.json` may be the record of a drop in a folder `files`, or of a file named `drop`.
        // Blobs with other names are not records of the ledger.
        let as_drop = path.name.ends_with("/drop.json").then(|| json::parse_drop(path, etag, bytes));
        let as_file = path.name.contains("/files/").then(|| json::parse_file(path, &path.name, bytes));
        match (as_drop, as_file) {
            (Some(Ok(DropRecord { ending: Some(Ending { reason: Some(_), .. }), .. })), _) => self.set_aside += 1,
            (Some(Ok(DropRecord { ending: Some(_), .. })), _) => self.completed += 1,
            (Some(Ok(_)), _) => self.open += 1,
            (_, Some(Ok(record))) if matches!(record.status, Status::SetAside(_)) => self.files_set_aside += 1,
            (_, Some(Ok(_))) | (None, None) => {}
            (Some(Err(error)), _) | (None, Some(Err(error))) => self.unreadable.push(error.to_string()),
        }
    }
}
