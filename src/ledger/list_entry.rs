//! The entry of a drop in the list of all drops: where the drop stands, for people, and the facts with which a sweep
//! decides to skip it.

use futures::{StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;

use super::{
    Ledger, LedgerError,
    entry::{self, number, optional_number},
    paths,
};
use crate::{
    clock::whole_seconds,
    directory::is_directory,
    drop::{DropPath, TenantId, discover::ListingSummary},
    one_line::one_line,
    store::{Listing, WriteIf},
    verdict::Reason,
};

/// The longest message in an entry, in characters. An entry in ASCII then fits in the 8 KiB of blob metadata.
const MAX_MESSAGE: usize = 500;

/// Where a drop stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DropState {
    /// Rows are missing, or a run works on the drop.
    Open,
    /// The drop waits for the directory that its rows are joined to.
    Waiting,
    /// A service or the receiver failed; the drop is retried.
    Retrying,
    /// Retrying cannot help.
    SetAside,
    /// The sink has acknowledged every row.
    Completed,
}

/// The entry of a drop in the list of all drops.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListEntry {
    /// The drop path.
    pub path: DropPath,
    /// The tenant that the drop belongs to.
    pub tenant: TenantId,
    /// Where the drop stands.
    pub state: DropState,
    /// Rows delivered, including bad rows.
    pub rows: u64,
    /// `NumberOfRowsExtracted`, if the job metadata says so.
    pub expected_rows: Option<u64>,
    /// Files that are done.
    pub files_done: u64,
    /// Files that are set aside.
    pub files_set_aside: u64,
    /// All files.
    pub files: u64,
    /// Since when the drop is in this state.
    pub since: OffsetDateTime,
    /// Failed runs since the last progress.
    pub attempts: u64,
    /// When the drop is run again, if it waits or is retried.
    pub next_try: Option<OffsetDateTime>,
    /// Why the drop was set aside.
    pub reason: Option<Reason>,
    /// Why the drop was set aside, or the last failure.
    pub message: Option<String>,
    /// Whether nothing is left to do until blobs are added or overwritten.
    pub is_over: bool,
    /// The summary of the drop's blobs.
    pub listing: ListingSummary,
}

impl ListEntry {
    /// A hash of the drop path and of the time of completion; 0 if the drop is not completed, or is a directory. The
    /// sum over a tenant's drops changes when one of them is completed.
    pub fn delivery_hash(&self) -> u64 {
        if self.state != DropState::Completed || is_directory(&self.path, None) {
            return 0;
        }
        let since = self.since.unix_timestamp().to_be_bytes();
        let hash: [u8; 32] = Sha256::new().chain_update(self.path.to_string()).chain_update(since).finalize().into();
        u64::from_be_bytes(*hash.first_chunk().expect("a hash has 32 bytes"))
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
struct EntryJson {
    path: String,
    tenant: TenantId,
    state: DropState,
    #[serde(deserialize_with = "number")]
    rows: u64,
    #[serde(default, deserialize_with = "optional_number")]
    expectedrows: Option<u64>,
    #[serde(deserialize_with = "number")]
    filesdone: u64,
    #[serde(deserialize_with = "number")]
    filessetaside: u64,
    #[serde(deserialize_with = "number")]
    files: u64,
    #[serde(with = "time::serde::rfc3339")]
    since: OffsetDateTime,
    #[serde(deserialize_with = "number")]
    attempts: u64,
    #[serde(default, with = "time::serde::rfc3339::option")]
    nexttry: Option<OffsetDateTime>,
    #[serde(default)]
    reason: Option<Reason>,
    #[serde(default)]
    message: Option<String>,
    /// 1 if nothing is left to do.
    #[serde(deserialize_with = "number")]
    over: u64,
    #[serde(deserialize_with = "number")]
    blobs: u64,
    #[serde(with = "time::serde::rfc3339")]
    newest: OffsetDateTime,
    #[serde(deserialize_with = "number")]
    digest: u64,
}

impl From<&ListEntry> for EntryJson {
    fn from(entry: &ListEntry) -> Self {
        Self {
            path: entry.path.to_string(),
            tenant: entry.tenant,
            state: entry.state,
            rows: entry.rows,
            expectedrows: entry.expected_rows,
            filesdone: entry.files_done,
            filessetaside: entry.files_set_aside,
            files: entry.files,
            since: whole_seconds(entry.since),
            attempts: entry.attempts,
            nexttry: entry.next_try.map(whole_seconds),
            reason: entry.reason,
            message: entry.message.as_ref().map(|message| one_line(message, MAX_MESSAGE)),
            over: entry.is_over.into(),
            blobs: entry.listing.blobs,
            // A folder has finer times than seconds.
            newest: entry.listing.newest,
            digest: entry.listing.digest,
        }
    }
}

impl EntryJson {
    /// The entry; `None` if its path is not a drop path.
    fn entry(self) -> Option<ListEntry> {
        Some(ListEntry {
            path: self.path.parse().ok()?,
            tenant: self.tenant,
            state: self.state,
            rows: self.rows,
            expected_rows: self.expectedrows,
            files_done: self.filesdone,
            files_set_aside: self.filessetaside,
            files: self.files,
            since: self.since,
            attempts: self.attempts,
            next_try: self.nexttry,
            reason: self.reason,
            message: self.message,
            is_over: self.over != 0,
            listing: ListingSummary { blobs: self.blobs, newest: self.newest, digest: self.digest },
        })
    }
}

impl Ledger {
    /// Writes the entry of a drop. The last write wins: an entry informs people and saves work, and decides nothing.
    pub async fn write_list_entry(&self, entry: &ListEntry) -> Result<(), LedgerError> {
        let (bytes, metadata) = entry::format(&EntryJson::from(entry));
        let path = self.blob(paths::list_entry(&entry.path));
        self.store.write_with_metadata(&path, bytes, &metadata, WriteIf::Always).await?;
        Ok(())
    }

    /// The entry of a drop; `None` if there is none, or if it cannot be parsed.
    pub async fn list_entry(&self, drop: &DropPath) -> Result<Option<ListEntry>, LedgerError> {
        let record = self.read(&self.blob(paths::list_entry(drop))).await?;
        Ok(record.and_then(|(_, bytes)| serde_json::from_slice::<EntryJson>(&bytes).ok()?.entry()))
    }

    /// Lists the entries of all drops. Skips blobs that are not entries.
    pub fn list_entries(&self) -> Listing<'_, ListEntry> {
        self.entries(paths::LIST).try_filter_map(async |(_, json): (_, EntryJson)| Ok(json.entry())).boxed()
    }
}
