//! A drop and its files.

use serde::Serialize;
use time::OffsetDateTime;

use super::DropStatus;
use crate::{
    ledger::{ListedFile, ListedFiles, Status},
    verdict::Reason,
};

/// Where a drop and its files stand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DropDetail {
    /// The drop.
    #[serde(flatten)]
    pub drop: DropStatus,
    /// The files that runs have started, sorted by name; the first thousand of them.
    pub file_list: Vec<FileStatus>,
    /// Whether there are more files.
    pub has_more_files: bool,
}

/// Where a file stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct FileStatus {
    /// The name below the drop.
    pub name: String,
    /// Whether the file has ended.
    pub state: FileState,
    /// The sink has acknowledged every row before this one.
    pub next_row: u64,
    /// How many of these rows could not be decoded.
    pub bad_rows: u64,
    /// How many runs have worked on the file.
    pub attempts: u32,
    /// When this was recorded.
    #[serde(with = "time::serde::rfc3339")]
    pub updated: OffsetDateTime,
    /// Why the file was set aside.
    pub reason: Option<Reason>,
    /// Why the file was set aside, for a person.
    pub message: Option<String>,
}

/// Whether a file has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FileState {
    /// A run works on the file, or worked on it until it stopped.
    Running,
    /// The sink has acknowledged every row.
    Done,
    /// The file has failed permanently.
    SetAside,
}

impl DropDetail {
    pub(super) fn new(drop: DropStatus, files: ListedFiles) -> Self {
        let file_list = files.files.into_iter().map(FileStatus::from).collect();
        Self { drop, file_list, has_more_files: files.has_more }
    }
}

impl From<ListedFile> for FileStatus {
    fn from(file: ListedFile) -> Self {
        let (state, reason) = match file.status {
            Status::Running => (FileState::Running, None),
            Status::Done => (FileState::Done, None),
            Status::SetAside(reason) => (FileState::SetAside, Some(reason)),
        };
        Self {
            name: file.name,
            state,
            next_row: file.next_row,
            bad_rows: file.bad_rows,
            attempts: file.attempts,
            updated: file.updated,
            reason,
            message: file.message,
        }
    }
}
