//! Records as JSON: what a person finds in `STATE_CONTAINER`. Knows their shape, and nothing of where they lie.

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

/// The version of the records that this vivadrop writes, and the only one that it reads.
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
    /// Absent where the ending holds whatever files there are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    files: Option<Vec<VersionJson>>,
    #[serde(default)]
    rows: u64,
    #[serde(default)]
    bad_rows: u64,
    #[serde(with = "time::serde::rfc3339")]
    updated: OffsetDateTime,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    announced: Option<MessageId>,
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

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes what it asks about by reference")]
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

/// The text of a file's record.
pub(super) fn of_file(record: &FileRecord) -> Vec<u8> {
    let (status, reason) = match record.status {
        Status::Running => (FileStatus::Running, None),
        Status::Done => (FileStatus::Done, None),
        Status::SetAside(reason) => (FileStatus::SetAside, Some(reason)),
    };
    text(&FileJson {
        version: VERSION,
        etag: record.file.etag.0.clone(),
        status,
        next_row: record.next_row,
        bad_rows: record.bad_rows,
        attempts: record.attempts,
        batch_rows: record.batch.rows,
        batch_bytes: record.batch.bytes,
        message_bytes: record.batch.message,
        updated: to_the_millisecond(record.updated),
        reason,
        message: record.message.clone(),
    })
}

/// The text of a drop's record; `None` is one that has not ended.
pub(super) fn of_drop(ending: Option<&Ending>, generation: u32, updated: OffsetDateTime) -> Vec<u8> {
    let open = DropJson {
        version: VERSION,
        status: DropStatus::Open,
        generation,
        metadata: None,
        files: None,
        rows: 0,
        bad_rows: 0,
        updated: to_the_millisecond(updated),
        announced: None,
        reason: None,
        message: None,
    };
    let Some(ending) = ending else {
        return text(&open);
    };
    let (metadata, files) = match &ending.scope {
        Scope::Metadata(metadata) => (metadata, None),
        Scope::Files(metadata, files) => (metadata, Some(files.iter().map(Into::into).collect())),
    };
    text(&DropJson {
        status: if ending.reason.is_some() { DropStatus::SetAside } else { DropStatus::Completed },
        metadata: Some(metadata.into()),
        files,
        rows: ending.rows,
        bad_rows: ending.bad_rows,
        announced: ending.announced.clone(),
        reason: ending.reason,
        message: ending.message.clone(),
        ..open
    })
}

/// The record of the file called `name`.
pub(super) fn file(path: &BlobPath, name: &str, bytes: &[u8]) -> Result<FileRecord, LedgerError> {
    let json: FileJson = parse(path, bytes)?;
    let status = match (json.status, json.reason) {
        (FileStatus::Running, _) => Status::Running,
        (FileStatus::Done, _) => Status::Done,
        (FileStatus::SetAside, Some(reason)) => Status::SetAside(reason),
        (FileStatus::SetAside, None) => return Err(unreadable(path, "it is set aside without a `reason`")),
    };
    if json.bad_rows > json.next_row {
        return Err(unreadable(path, "it has more `badRows` than rows"));
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

/// How a drop ended, if it has, and its generation.
pub(super) fn drop(path: &BlobPath, bytes: &[u8]) -> Result<(Option<Ending>, u32), LedgerError> {
    let json: DropJson = parse(path, bytes)?;
    let generation = json.generation;
    match (json.status, json.reason) {
        (DropStatus::Open, _) => return Ok((None, generation)),
        (DropStatus::Completed, None) | (DropStatus::SetAside, Some(_)) => {}
        (DropStatus::Completed, Some(_)) => return Err(unreadable(path, "it is completed and has a `reason`")),
        (DropStatus::SetAside, None) => return Err(unreadable(path, "it is set aside without a `reason`")),
    }
    let metadata = json.metadata.ok_or_else(|| unreadable(path, "it has ended and names no `metadata`"))?.into();
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
        announced: json.announced,
    };
    Ok((Some(ending), generation))
}

/// Reads a record, once its version is known: what a later one means by a name is not ours to guess.
fn parse<T: DeserializeOwned>(path: &BlobPath, bytes: &[u8]) -> Result<T, LedgerError> {
    #[derive(Deserialize)]
    struct Versioned {
        version: u64,
    }
    let no_json = |error: serde_json::Error| unreadable(path, &error.to_string());
    match serde_json::from_slice::<Versioned>(bytes).map_err(no_json)?.version {
        VERSION => serde_json::from_slice(bytes).map_err(no_json),
        0 => Err(unreadable(path, "there is no version 0")),
        version => Err(LedgerError::Later { path: path.clone(), version }),
    }
}

fn unreadable(path: &BlobPath, why: &str) -> LedgerError {
    LedgerError::Unreadable { path: path.clone(), why: why.to_owned() }
}

fn text(json: &impl Serialize) -> Vec<u8> {
    // Strings, numbers and times alone: serialization cannot fail.
    let mut text = serde_json::to_vec_pretty(json).unwrap_or_default();
    text.push(b'\n');
    text
}

/// What a person reads, and long enough apart to order what happened.
fn to_the_millisecond(time: OffsetDateTime) -> OffsetDateTime {
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
    fn a_files_record_is_for_people_too() {
        let text = String::from_utf8(of_file(&set_aside())).unwrap();
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
        assert_eq!(file(&path(), "part-0.json.gz", text.as_bytes()).unwrap(), set_aside());
    }

    #[test]
    fn a_drops_record_is_read_as_it_was_written() {
        let metadata = version("metadata/JobMetadata/Metadata.json");
        let completed = Ending {
            scope: Scope::Files(metadata.clone(), vec![version("part-0.json.gz")]),
            reason: None,
            message: None,
            rows: 997,
            bad_rows: 3,
            announced: serde_json::from_str(r#""msg_00""#).ok(),
        };
        let no_data = Ending {
            scope: Scope::Metadata(metadata),
            reason: Some(Reason::Errors),
            message: Some("no consent".into()),
            ..completed.clone()
        };
        for expected in [Some(completed), Some(no_data), None] {
            let text = of_drop(expected.as_ref(), 3, OffsetDateTime::now_utc());
            assert_eq!(drop(&path(), &text).unwrap(), (expected, 3));
        }
    }

    #[test]
    fn a_record_of_a_later_vivadrop_is_left_alone() {
        let error = drop(&path(), br#"{"version":2,"status":"half-done"}"#).unwrap_err();
        assert!(error.to_string().contains("by a later vivadrop: it has version 2"), "{error}");
    }

    #[test]
    fn a_record_that_is_none_is_named() {
        for text in ["", "{}", "{\"version\":1}", "{\"version\":0}", "{\"version\":1,\"status\":\"completed\"}", "[]"] {
            let error = drop(&path(), text.as_bytes()).unwrap_err();
            assert!(matches!(error, LedgerError::Unreadable { .. }), "{text}: {error:?}");
            assert!(error.to_string().contains("`vivadrop-state/drops/datasets/run/drop.json`"), "{error}");
        }
        let text = String::from_utf8(of_file(&set_aside())).unwrap().replace("\"bad-row\"", "null");
        assert!(matches!(file(&path(), "f", text.as_bytes()), Err(LedgerError::Unreadable { .. })));
    }
}
