//! The JSON text of records: formats and parses it, without I/O.

use std::num::NonZeroUsize;

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use time::OffsetDateTime;

use super::{Ending, FileRecord, LedgerError, Scope, Status};
use crate::{
    batch::BatchLimits,
    drop::FileVersion,
    message::MessageId,
    store::{BlobPath, ETag},
    verdict::Reason,
};

/// The version of the record format. Records of other versions are not read.
const VERSION: u64 = 1;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct FileJson {
    version: u64,
    etag: String,
    status: FileStatus,
    next_row: u64,
    bad_rows: u64,
    attempts: u32,
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
}

#[derive(Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum FileStatus {
    Running,
    Done,
    SetAside,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct DropJson {
    version: u64,
    status: DropStatus,
    /// How often the drop was replayed with new ids.
    #[serde(default, skip_serializing_if = "is_zero", rename = "edition")]
    generation: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    metadata: Option<VersionJson>,
    /// Absent if the ending is only about the metadata.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    files: Option<Vec<VersionJson>>,
    #[serde(default)]
    rows: u64,
    #[serde(default)]
    bad_rows: u64,
    #[serde(with = "time::serde::rfc3339")]
    updated: OffsetDateTime,
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "announced")]
    notification: Option<MessageId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<Reason>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    message: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum DropStatus {
    Open,
    Completed,
    SetAside,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes the field by reference")]
fn is_zero(generation: &u32) -> bool {
    *generation == 0
}

#[derive(Serialize, Deserialize)]
struct VersionJson {
    name: String,
    etag: String,
}

impl From<&FileVersion> for VersionJson {
    fn from(file: &FileVersion) -> Self {
        Self { name: file.name.clone(), etag: file.etag.0.clone() }
    }
}

impl From<VersionJson> for FileVersion {
    fn from(json: VersionJson) -> Self {
        Self { name: json.name, etag: ETag(json.etag) }
    }
}

/// Formats the record of a file.
pub(super) fn format_file(record: &FileRecord) -> Vec<u8> {
    let (status, reason) = match record.status {
        Status::Running => (FileStatus::Running, None),
        Status::Done => (FileStatus::Done, None),
        Status::SetAside(reason) => (FileStatus::SetAside, Some(reason)),
    };
    format(&FileJson {
        version: VERSION,
        etag: record.file.etag.0.clone(),
        status,
        next_row: record.next_row,
        bad_rows: record.bad_rows,
        attempts: record.attempts,
        batch_rows: record.batch.rows,
        batch_bytes: record.batch.bytes,
        message_bytes: record.batch.message,
        updated: to_millisecond(record.updated),
        reason,
        message: record.message.clone(),
    })
}

/// Formats the record of a drop; `ending` is `None` if the drop has not ended.
pub(super) fn format_drop(ending: Option<&Ending>, generation: u32, updated: OffsetDateTime) -> Vec<u8> {
    let open = DropJson {
        version: VERSION,
        status: DropStatus::Open,
        generation,
        metadata: None,
        files: None,
        rows: 0,
        bad_rows: 0,
        updated: to_millisecond(updated),
        notification: None,
        reason: None,
        message: None,
    };
    let Some(ending) = ending else {
        return format(&open);
    };
    let (metadata, files) = match &ending.scope {
        Scope::Metadata(metadata) => (metadata, None),
        Scope::Files(metadata, files) => (metadata, Some(files.iter().map(Into::into).collect())),
    };
    format(&DropJson {
        status: if ending.reason.is_some() { DropStatus::SetAside } else { DropStatus::Completed },
        metadata: Some(metadata.into()),
        files,
        rows: ending.rows,
        bad_rows: ending.bad_rows,
        notification: ending.notification.clone(),
        reason: ending.reason,
        message: ending.message.clone(),
        ..open
    })
}

/// Parses the record of the file `name`.
pub(super) fn parse_file(path: &BlobPath, name: &str, bytes: &[u8]) -> Result<FileRecord, LedgerError> {
    let json: FileJson = parse(path, bytes)?;
    let status = match (json.status, json.reason) {
        (FileStatus::Running, _) => Status::Running,
        (FileStatus::Done, _) => Status::Done,
        (FileStatus::SetAside, Some(reason)) => Status::SetAside(reason),
        (FileStatus::SetAside, None) => return Err(invalid(path, "it is set aside without a `reason`")),
    };
    if json.bad_rows > json.next_row {
        return Err(invalid(path, "it has more `badRows` than rows"));
    }
    Ok(FileRecord {
        file: FileVersion { name: name.to_owned(), etag: ETag(json.etag) },
        status,
        next_row: json.next_row,
        bad_rows: json.bad_rows,
        attempts: json.attempts,
        batch: BatchLimits { rows: json.batch_rows, bytes: json.batch_bytes, message: json.message_bytes },
        message: json.message,
        updated: json.updated,
    })
}

/// Parses the record of a drop: how it ended, if it has, and its generation.
pub(super) fn parse_drop(path: &BlobPath, bytes: &[u8]) -> Result<(Option<Ending>, u32), LedgerError> {
    let json: DropJson = parse(path, bytes)?;
    let generation = json.generation;
    match (json.status, json.reason) {
        (DropStatus::Open, _) => return Ok((None, generation)),
        (DropStatus::Completed, None) | (DropStatus::SetAside, Some(_)) => {}
        (DropStatus::Completed, Some(_)) => return Err(invalid(path, "it is completed but has a `reason`")),
        (DropStatus::SetAside, None) => return Err(invalid(path, "it is set aside without a `reason`")),
    }
    let metadata = json.metadata.ok_or_else(|| invalid(path, "it has ended but has no `metadata`"))?.into();
    let scope = match json.files {
        None => Scope::Metadata(metadata),
        Some(files) => Scope::Files(metadata, files.into_iter().map(Into::into).collect()),
    };
    let ending = Ending {
        scope,
        reason: json.reason,
        message: json.message,
        rows: json.rows,
        bad_rows: json.bad_rows,
        notification: json.notification,
    };
    Ok((Some(ending), generation))
}

/// Parses a record. The version is checked first, because members may have another meaning in other versions.
fn parse<T: DeserializeOwned>(path: &BlobPath, bytes: &[u8]) -> Result<T, LedgerError> {
    #[derive(Deserialize)]
    struct Versioned {
        version: u64,
    }
    let not_json = |error: serde_json::Error| invalid(path, &error.to_string());
    match serde_json::from_slice::<Versioned>(bytes).map_err(not_json)?.version {
        VERSION => serde_json::from_slice(bytes).map_err(not_json),
        0 => Err(invalid(path, "version 0 does not exist")),
        version => Err(LedgerError::NewerVersion { path: path.clone(), version }),
    }
}

fn invalid(path: &BlobPath, problem: &str) -> LedgerError {
    LedgerError::Invalid { path: path.clone(), problem: problem.to_owned() }
}

fn format(json: &impl Serialize) -> Vec<u8> {
    let mut text =
        serde_json::to_vec_pretty(json).expect("records have only strings, numbers and times in their range");
    text.push(b'\n');
    text
}

/// Cuts a time to milliseconds, which are easier to read and still show the order of events.
fn to_millisecond(time: OffsetDateTime) -> OffsetDateTime {
    time.replace_millisecond(time.millisecond()).unwrap_or(time)
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    fn path() -> BlobPath {
        BlobPath::new("vivadrop-state", "drops/datasets/run/drop.json")
    }

    fn version(name: &str) -> FileVersion {
        FileVersion { name: name.into(), etag: ETag("0x8DE2".into()) }
    }

    fn set_aside() -> FileRecord {
        FileRecord {
            file: version("part-0.json.gz"),
            status: Status::SetAside(Reason::BadRow),
            next_row: 1500,
            bad_rows: 3,
            attempts: 2,
            batch: BatchLimits {
                rows: NonZeroUsize::new(500).unwrap(),
                bytes: NonZeroUsize::new(1 << 20).unwrap(),
                message: NonZeroUsize::new(48 << 10),
            },
            message: Some("file `part-0.json.gz` has more than 3 bad rows".into()),
            updated: datetime!(2026-11-22 00:00:00.25 UTC),
        }
    }

    #[test]
    fn a_files_record_is_readable_json() {
        let text = String::from_utf8(format_file(&set_aside())).unwrap();
        let expected = r#"{
  "version": 1,
  "etag": "0x8DE2",
  "status": "set-aside",
  "nextRow": 1500,
  "badRows": 3,
  "attempts": 2,
  "batchRows": 500,
  "batchBytes": 1048576,
  "messageBytes": 49152,
  "updated": "2026-11-22T00:00:00.25Z",
  "reason": "bad-row",
  "message": "file `part-0.json.gz` has more than 3 bad rows"
}
"#;
        assert_eq!(text, expected);
        assert_eq!(parse_file(&path(), "part-0.json.gz", text.as_bytes()).unwrap(), set_aside());
    }

    #[test]
    fn a_drops_record_is_parsed_as_it_was_formatted() {
        let metadata = version("metadata/JobMetadata/Metadata.json");
        let completed = Ending {
            scope: Scope::Files(metadata.clone(), vec![version("part-0.json.gz")]),
            reason: None,
            message: None,
            rows: 997,
            bad_rows: 3,
            notification: serde_json::from_str(r#""msg_00""#).ok(),
        };
        let no_data = Ending {
            scope: Scope::Metadata(metadata),
            reason: Some(Reason::Errors),
            message: Some("no consent".into()),
            ..completed.clone()
        };
        for expected in [Some(completed), Some(no_data), None] {
            let text = format_drop(expected.as_ref(), 3, OffsetDateTime::now_utc());
            assert_eq!(parse_drop(&path(), &text).unwrap(), (expected, 3));
        }
    }

    #[test]
    fn a_record_of_a_newer_version_is_an_error() {
        let error = parse_drop(&path(), br#"{"version":2,"status":"half-done"}"#).unwrap_err();
        assert!(error.to_string().contains("by a newer vivadrop: it has version 2"), "{error}");
    }

    #[test]
    fn the_error_about_an_invalid_record_names_it() {
        for text in ["", "{}", "{\"version\":1}", "{\"version\":0}", "{\"version\":1,\"status\":\"completed\"}", "[]"] {
            let error = parse_drop(&path(), text.as_bytes()).unwrap_err();
            assert!(matches!(error, LedgerError::Invalid { .. }), "{text}: {error:?}");
            assert!(error.to_string().contains("`vivadrop-state/drops/datasets/run/drop.json`"), "{error}");
        }
        let text = String::from_utf8(format_file(&set_aside())).unwrap().replace("\"bad-row\"", "null");
        assert!(matches!(parse_file(&path(), "f", text.as_bytes()), Err(LedgerError::Invalid { .. })));
    }
}
