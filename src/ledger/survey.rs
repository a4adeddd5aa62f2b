//! What a whole ledger says, in numbers: for those who look after it.

use futures::{StreamExt, stream};

use super::{
    LedgerError, Status,
    blobs::{Blobs, READS_AT_ONCE},
    record,
};
use crate::store::{Blob, BlobPath, StoreError};

/// How many records are read at most, the newest first: a survey must not take longer the older a ledger gets.
const MOST_RECORDS: usize = 10_000;

/// What a ledger says, in numbers.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Survey {
    /// Drops that are complete.
    pub completed: usize,
    /// Drops that were set aside.
    pub set_aside: usize,
    /// Drops that were begun afresh and have not ended since.
    pub reopened: usize,
    /// Files that were set aside.
    pub files_set_aside: usize,
    /// Records that cannot be read, each with why.
    pub unreadable: Vec<String>,
    /// Older records, which were not read.
    pub unread: usize,
}

/// What one record says.
enum Said {
    Completed,
    SetAside,
    Reopened,
    FileSetAside,
    OfAFile,
    Unreadable(String),
    /// It went away meanwhile.
    Nothing,
}

impl Blobs {
    /// Reads the records, the newest first. Fails where the store does not answer.
    pub async fn survey(&self) -> Result<Survey, StoreError> {
        let mut records = self.records().await?;
        records.sort_by_key(|record| std::cmp::Reverse(record.modified));
        let mut survey = Survey { unread: records.len().saturating_sub(MOST_RECORDS), ..Survey::default() };
        records.truncate(MOST_RECORDS);
        let reads: Vec<_> = records.into_iter().map(|record| self.said_by(record)).collect();
        let mut said = stream::iter(reads).buffer_unordered(READS_AT_ONCE);
        while let Some(said) = said.next().await {
            match said? {
                Said::Completed => survey.completed += 1,
                Said::SetAside => survey.set_aside += 1,
                Said::Reopened => survey.reopened += 1,
                Said::FileSetAside => survey.files_set_aside += 1,
                Said::Unreadable(why) => survey.unreadable.push(why),
                Said::OfAFile | Said::Nothing => {}
            }
        }
        survey.unreadable.sort();
        Ok(survey)
    }

    async fn said_by(&self, record: Blob) -> Result<Said, StoreError> {
        let path = record.path.clone();
        match self.read_found(record).await {
            Ok(Some((_, bytes))) => Ok(said_in(&path, &bytes)),
            Ok(None) => Ok(Said::Nothing),
            Err(LedgerError::Store(error)) => Err(error),
            Err(error) => Ok(Said::Unreadable(error.to_string())),
        }
    }
}

/// A record called `drop.json` in a folder `files` may be that of a drop, or that of a file called `drop`.
fn said_in(path: &BlobPath, bytes: &[u8]) -> Said {
    let of_a_drop = path.name.ends_with("/drop.json").then(|| record::drop(path, bytes));
    let of_a_file = path.name.contains("/files/").then(|| record::file(path, &path.name, bytes));
    match (of_a_drop, of_a_file) {
        (Some(Ok((None, _))), _) => Said::Reopened,
        (Some(Ok((Some(ending), _))), _) if ending.reason.is_some() => Said::SetAside,
        (Some(Ok((Some(_), _))), _) => Said::Completed,
        (_, Some(Ok(record))) if matches!(record.status, Status::SetAside(_)) => Said::FileSetAside,
        (_, Some(Ok(_))) => Said::OfAFile,
        (Some(Err(error)), _) | (None, Some(Err(error))) => Said::Unreadable(error.to_string()),
        // Somebody else's blob.
        (None, None) => Said::Nothing,
    }
}
