//! A summary of the whole ledger, for `vivadrop check`.

use futures::{StreamExt, stream};

use super::{CONCURRENT_READS, Ledger, LedgerError, Status, json};
use crate::store::{BlobPath, StoreError};

/// How many records a survey reads, the newest first: it must not take longer as the ledger grows.
const MAX_RECORDS: usize = 10_000;

/// Counts of the records of a ledger.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Survey {
    /// Drops that are completed.
    pub completed: usize,
    /// Drops that were set aside.
    pub set_aside: usize,
    /// Drops that were reset by a replay and have not ended since.
    pub reset: usize,
    /// Files that were set aside.
    pub files_set_aside: usize,
    /// An error message for each record that cannot be parsed.
    pub unreadable: Vec<String>,
    /// Older records, which were not read.
    pub unread: usize,
}

impl Ledger {
    /// Reads and counts the newest records. Fails if the store does not answer.
    pub async fn survey(&self) -> Result<Survey, StoreError> {
        let mut records = self.store.list(&self.container, "drops/").await?;
        records.sort_by_key(|record| std::cmp::Reverse(record.modified));
        let mut survey = Survey { unread: records.len().saturating_sub(MAX_RECORDS), ..Survey::default() };
        records.truncate(MAX_RECORDS);
        let reads = records.into_iter().map(async |record| {
            let path = record.path.clone();
            (path, self.read_blob(record).await)
        });
        let reads: Vec<_> = reads.collect();
        let mut reads = stream::iter(reads).buffer_unordered(CONCURRENT_READS);
        while let Some((path, record)) = reads.next().await {
            match record {
                Ok(Some((_, bytes))) => survey.count(&path, &bytes),
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
    fn count(&mut self, path: &BlobPath, bytes: &[u8]) {
        // `files/drop.json` may be the record of a drop in a folder `files`, or of a file named `drop`. Blobs with
        // other names are not records of the ledger.
        let as_drop = path.name.ends_with("/drop.json").then(|| json::parse_drop(path, bytes));
        let as_file = path.name.contains("/files/").then(|| json::parse_file(path, &path.name, bytes));
        match (as_drop, as_file) {
            (Some(Ok((Some(ending), _))), _) if ending.reason.is_some() => self.set_aside += 1,
            (Some(Ok((Some(_), _))), _) => self.completed += 1,
            (Some(Ok((None, _))), _) => self.reset += 1,
            (_, Some(Ok(record))) if matches!(record.status, Status::SetAside(_)) => self.files_set_aside += 1,
            (_, Some(Ok(_))) | (None, None) => {}
            (Some(Err(error)), _) | (None, Some(Err(error))) => self.unreadable.push(error.to_string()),
        }
    }
}
