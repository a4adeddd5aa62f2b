//! The files of a drop, for people.

use futures::{StreamExt, TryStreamExt};
use time::OffsetDateTime;

use super::{CONCURRENT_READS, Ledger, LedgerError, Status, json, paths};
use crate::{drop::DropPath, store::BlobPath};

/// The maximum number of records that are listed.
const MAX_FILES: usize = 1_000;

/// A file of a drop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedFile {
    /// The name below the drop.
    pub name: String,
    /// Its progress.
    pub status: Status,
    /// The checkpoint: the sink has acknowledged every row before this one.
    pub next_row: u64,
    /// How many rows before the checkpoint could not be decoded.
    pub bad_rows: u64,
    /// How many runs have worked on the file.
    pub attempts: u32,
    /// Why the file was set aside, for a person.
    pub message: Option<String>,
    /// When its record was written.
    pub updated: OffsetDateTime,
}

/// The files of a drop that runs have started.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct ListedFiles {
    /// The files, sorted by name.
    pub files: Vec<ListedFile>,
    /// Whether the drop has more records than were listed.
    pub has_more: bool,
}

impl Ledger {
    /// The files of a drop that have a record of replay `replays`, among the first thousand records. Costs a listing,
    /// and one request for each record. Skips records that cannot be parsed.
    pub async fn files(&self, drop: &DropPath, replays: u32) -> Result<ListedFiles, LedgerError> {
        let folder = paths::file_records(drop);
        let listing = self.store.list(&self.container, &folder).take(MAX_FILES + 1);
        let mut records: Vec<BlobPath> = listing.map_ok(|blob| blob.path).try_collect().await?;
        let has_more = records.len() > MAX_FILES;
        records.truncate(MAX_FILES);
        let reads: Vec<_> = records.iter().map(|path| self.listed_file(path, &folder, replays)).collect();
        let files = futures::stream::iter(reads).buffered(CONCURRENT_READS);
        let mut files: Vec<_> = files.try_filter_map(async |file| Ok(file)).try_collect().await?;
        files.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(ListedFiles { files, has_more })
    }

    async fn listed_file(
        &self,
        path: &BlobPath,
        folder: &str,
        replays: u32,
    ) -> Result<Option<ListedFile>, LedgerError> {
        let Some((_, bytes)) = self.read(path).await? else { return Ok(None) };
        let name = path.name.strip_prefix(folder).and_then(|name| name.strip_suffix(".json")).unwrap_or_default();
        let Ok(record) = json::parse_named_file(path, name, &bytes) else { return Ok(None) };
        Ok(Some(record).filter(|record| record.replays == replays).map(|record| ListedFile {
            name: record.file.name,
            status: record.status,
            next_row: record.next_row,
            bad_rows: record.bad_rows,
            attempts: record.attempts,
            message: record.message,
            updated: record.updated,
        }))
    }
}
