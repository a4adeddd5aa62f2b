//! The record of a file: `drops/…/files/….json`.

use std::num::NonZeroUsize;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::{VERSION, format, invalid, is_zero, parse, to_millisecond, version};
use crate::{
    batch::BatchLimits,
    drop::FileVersion,
    ledger::{FileProgress, FileRecord, KeysVersion, LedgerError, Status, entry, record::FileFacts},
    store::{BlobMetadata, BlobPath, ETag},
    verdict::Reason,
};

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct FileJson {
    version: u64,
    /// Absent in records of older vivadrops, which did not list files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    etag: String,
    status: FileStatus,
    next_row: u64,
    bad_rows: u64,
    attempts: u32,
    #[serde(default, skip_serializing_if = "is_zero")]
    panics: u32,
    #[serde(default, skip_serializing_if = "is_zero")]
    replays: u32,
    #[serde(default, skip_serializing_if = "is_zero", rename = "edition")]
    generation: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    keys: Option<String>,
    batch_rows: NonZeroUsize,
    batch_bytes: NonZeroUsize,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    message_bytes: Option<NonZeroUsize>,
    #[serde(with = "time::serde::rfc3339")]
    updated: OffsetDateTime,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<Reason>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    run: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum FileStatus {
    Running,
    Done,
    SetAside,
}

impl FileStatus {
    fn of(status: Status) -> (Self, Option<Reason>) {
        match status {
            Status::Running => (Self::Running, None),
            Status::Done => (Self::Done, None),
            Status::SetAside(reason) => (Self::SetAside, Some(reason)),
        }
    }

    /// The status; `None` if the reason for setting the file aside is missing.
    fn status(self, reason: Option<Reason>) -> Option<Status> {
        match self {
            Self::Running => Some(Status::Running),
            Self::Done => Some(Status::Done),
            Self::SetAside => reason.map(Status::SetAside),
        }
    }
}

/// Formats the record of a file.
pub(in crate::ledger) fn format_file(record: &FileRecord) -> Vec<u8> {
    let (status, reason) = FileStatus::of(record.status);
    format(&FileJson {
        version: VERSION,
        name: Some(record.file.name.clone()),
        etag: record.file.etag.0.clone(),
        status,
        next_row: record.next_row,
        bad_rows: record.bad_rows,
        attempts: record.attempts,
        panics: record.panics,
        replays: record.replays,
        generation: record.generation,
        keys: record.keys.map(|keys| keys.to_string()),
        batch_rows: record.batch.rows,
        batch_bytes: record.batch.bytes,
        message_bytes: record.batch.message,
        updated: to_millisecond(record.updated),
        reason,
        message: record.message.clone(),
        run: record.run.clone(),
    })
}

/// The fields of a file's record that are in its blob metadata as well.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
struct FileMetadata {
    etag: String,
    status: FileStatus,
    #[serde(default)]
    reason: Option<Reason>,
    #[serde(deserialize_with = "entry::number")]
    nextrow: u64,
    #[serde(deserialize_with = "entry::number")]
    badrows: u64,
    #[serde(deserialize_with = "entry::number")]
    replays: u64,
    #[serde(default)]
    keys: Option<String>,
}

/// The blob metadata of the record of a file.
pub(in crate::ledger) fn file_metadata(record: &FileRecord) -> BlobMetadata {
    let (status, reason) = FileStatus::of(record.status);
    entry::metadata(&FileMetadata {
        etag: record.file.etag.0.clone(),
        status,
        reason,
        nextrow: record.next_row,
        badrows: record.bad_rows,
        replays: record.replays.into(),
        keys: record.keys.map(|keys| keys.to_string()),
    })
}

/// Parses the blob metadata of the record of a file; `None` if version 1 wrote the record, or somebody changed it.
pub(in crate::ledger) fn parse_file_metadata(metadata: &BlobMetadata) -> Option<FileFacts> {
    let json: FileMetadata = entry::parse_metadata(metadata)?;
    Some(FileFacts {
        etag: ETag(json.etag),
        replays: json.replays.try_into().ok()?,
        progress: FileProgress {
            status: json.status.status(json.reason)?,
            next_row: json.nextrow,
            bad_rows: json.badrows,
            keys: parse_keys(json.keys),
        },
    })
}

/// Parses the record of the file `name`.
pub(in crate::ledger) fn parse_file(path: &BlobPath, name: &str, bytes: &[u8]) -> Result<FileRecord, LedgerError> {
    version(path, bytes)?;
    file_record(path, name.to_owned(), parse(path, bytes)?)
}

/// Parses the record of a file, and takes the name of the file from the record. Older records have no name: their file
/// is called `otherwise`.
pub(in crate::ledger) fn parse_named_file(
    path: &BlobPath,
    otherwise: &str,
    bytes: &[u8],
) -> Result<FileRecord, LedgerError> {
    version(path, bytes)?;
    let mut json: FileJson = parse(path, bytes)?;
    let name = json.name.take().unwrap_or_else(|| otherwise.to_owned());
    file_record(path, name, json)
}

fn file_record(path: &BlobPath, name: String, json: FileJson) -> Result<FileRecord, LedgerError> {
    let Some(status) = json.status.status(json.reason) else {
        return Err(invalid(path, "it is set aside without a `reason`"));
    };
    if json.bad_rows > json.next_row {
        return Err(invalid(path, "it has more `badRows` than rows"));
    }
    Ok(FileRecord {
        file: FileVersion { name, etag: ETag(json.etag) },
        status,
        next_row: json.next_row,
        bad_rows: json.bad_rows,
        attempts: json.attempts,
        panics: json.panics,
        replays: json.replays,
        generation: json.generation,
        keys: parse_keys(json.keys),
        batch: BatchLimits { rows: json.batch_rows, bytes: json.batch_bytes, message: json.message_bytes },
        message: json.message,
        run: json.run,
        updated: json.updated,
    })
}

/// Without a usable version, new keys are no reason to try the file again.
fn parse_keys(text: Option<String>) -> Option<KeysVersion> {
    text?.parse().ok()
}
