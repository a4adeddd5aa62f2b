//! The JSON text of records: formats and parses it, without I/O.

use std::num::NonZeroUsize;

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use time::OffsetDateTime;

use super::{
    Announcement, DropRecord, Ending, Failing, FileProgress, FileRecord, LedgerError, PinnedDirectory, Scope, Status,
    entry,
    record::{FileFacts, files_hash},
};
use crate::{
    batch::BatchLimits,
    directory::DirectorySnapshot,
    drop::{DropPath, FileVersion, InvalidDropPath, TenantId},
    message::MessageId,
    store::{BlobMetadata, BlobPath, ETag},
    verdict::Reason,
};

/// The version of the record format. Version 1 is read as well.
pub(super) const VERSION: u64 = 2;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct FileJson {
    version: u64,
    /// Absent if vivadrop wrote the record before it listed files.
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

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct DropJson {
    version: u64,
    path: String,
    tenant_id: TenantId,
    status: DropStatus,
    sequence: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    replays: u32,
    #[serde(default, skip_serializing_if = "is_zero", rename = "edition")]
    generation: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<Reason>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    /// The members of an ending.
    #[serde(flatten)]
    ending: Option<EndingJson>,
    /// The members of failures.
    #[serde(flatten)]
    failing: Option<FailingJson>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    announced_files: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    directory: Option<DirectoryJson>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    first_run: Option<String>,
    #[serde(with = "time::serde::rfc3339")]
    first_seen: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    updated: OffsetDateTime,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct EndingJson {
    rows: u64,
    bad_rows: u64,
    scope: ScopeJson,
    #[serde(with = "time::serde::rfc3339")]
    ended: OffsetDateTime,
    announced: AnnouncedJson,
    r#final: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    message_id: Option<MessageId>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ScopeJson {
    metadata: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key_details: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    files_hash: Option<String>,
    files: usize,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum AnnouncedJson {
    Pending,
    Done,
    GivenUp,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct FailingJson {
    #[serde(with = "time::serde::rfc3339")]
    failing_since: OffsetDateTime,
    attempts: u32,
    #[serde(with = "time::serde::rfc3339")]
    last_failure: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    not_before: OffsetDateTime,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    retry_after: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    denied: bool,
    last_error: String,
}

/// The directory that rows are joined to. All members are null if there is none.
#[derive(Default, Serialize, Deserialize)]
struct DirectoryJson {
    path: Option<DropPathJson>,
    id: Option<String>,
    versions: Option<String>,
}

/// The path of a drop, as text.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(super) struct DropPathJson(pub(super) DropPath);

impl TryFrom<String> for DropPathJson {
    type Error = InvalidDropPath;

    fn try_from(text: String) -> Result<Self, InvalidDropPath> {
        text.parse().map(Self)
    }
}

impl From<DropPathJson> for String {
    fn from(path: DropPathJson) -> Self {
        path.0.to_string()
    }
}

impl From<PinnedDirectory> for DirectoryJson {
    fn from(PinnedDirectory { snapshot }: PinnedDirectory) -> Self {
        snapshot.map_or_else(Self::default, |DirectorySnapshot { path, id, versions }| Self {
            path: Some(DropPathJson(path)),
            id,
            versions: Some(versions),
        })
    }
}

impl From<DirectoryJson> for PinnedDirectory {
    fn from(json: DirectoryJson) -> Self {
        let snapshot = |path: DropPathJson| DirectorySnapshot {
            path: path.0,
            id: json.id,
            versions: json.versions.unwrap_or_default(),
        };
        Self { snapshot: json.path.map(snapshot) }
    }
}

#[derive(Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum DropStatus {
    Open,
    Completed,
    SetAside,
}

/// The record of a drop in version 1.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DropJsonV1 {
    status: DropStatus,
    #[serde(default, rename = "edition")]
    generation: u32,
    #[serde(default)]
    metadata: Option<VersionJson>,
    /// Absent if the ending is only about the metadata.
    #[serde(default)]
    files: Option<Vec<VersionJson>>,
    #[serde(default)]
    rows: u64,
    #[serde(default)]
    bad_rows: u64,
    #[serde(with = "time::serde::rfc3339")]
    updated: OffsetDateTime,
    #[serde(default)]
    announced: Option<MessageId>,
    #[serde(default)]
    reason: Option<Reason>,
    #[serde(default)]
    message: Option<String>,
}

#[derive(Deserialize)]
struct VersionJson {
    name: String,
    etag: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes the field by reference")]
fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// Formats the record of a file.
pub(super) fn format_file(record: &FileRecord) -> Vec<u8> {
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
}

/// The blob metadata of the record of a file.
pub(super) fn file_metadata(record: &FileRecord) -> BlobMetadata {
    let (status, reason) = FileStatus::of(record.status);
    entry::metadata(&FileMetadata {
        etag: record.file.etag.0.clone(),
        status,
        reason,
        nextrow: record.next_row,
        badrows: record.bad_rows,
        replays: record.replays.into(),
    })
}

/// Parses the blob metadata of the record of a file; `None` if version 1 wrote the record, or somebody changed it.
pub(super) fn parse_file_metadata(metadata: &BlobMetadata) -> Option<FileFacts> {
    let json: FileMetadata = entry::parse_metadata(metadata)?;
    Some(FileFacts {
        etag: ETag(json.etag),
        replays: json.replays.try_into().ok()?,
        progress: FileProgress {
            status: json.status.status(json.reason)?,
            next_row: json.nextrow,
            bad_rows: json.badrows,
        },
    })
}

/// Parses the record of the file `name`.
pub(super) fn parse_file(path: &BlobPath, name: &str, bytes: &[u8]) -> Result<FileRecord, LedgerError> {
    version(path, bytes)?;
    file_record(path, name.to_owned(), parse(path, bytes)?)
}

/// Parses the record of a file, which has the name of the file. An older record has none; its file is called `otherwise`.
pub(super) fn parse_named_file(path: &BlobPath, otherwise: &str, bytes: &[u8]) -> Result<FileRecord, LedgerError> {
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
        batch: BatchLimits { rows: json.batch_rows, bytes: json.batch_bytes, message: json.message_bytes },
        message: json.message,
        run: json.run,
        updated: json.updated,
    })
}

/// Formats the record of a drop. `record` has a tenant.
pub(super) fn format_drop(drop: &DropPath, tenant: TenantId, record: &DropRecord, now: OffsetDateTime) -> Vec<u8> {
    let ending = record.ending.as_ref();
    let status = match ending {
        None => DropStatus::Open,
        Some(Ending { reason: None, .. }) => DropStatus::Completed,
        Some(Ending { reason: Some(_), .. }) => DropStatus::SetAside,
    };
    format(&DropJson {
        version: VERSION,
        path: drop.to_string(),
        tenant_id: tenant,
        status,
        sequence: record.sequence,
        replays: record.replays,
        generation: record.generation,
        reason: ending.and_then(|ending| ending.reason),
        file: ending.and_then(|ending| ending.file.clone()),
        message: ending.and_then(|ending| ending.message.clone()),
        ending: ending.map(EndingJson::from),
        failing: record.failing.as_ref().map(FailingJson::from),
        announced_files: record.announced_files.clone(),
        directory: record.directory.clone().map(DirectoryJson::from),
        first_run: record.first_run.clone(),
        first_seen: to_millisecond(record.first_seen.unwrap_or(now)),
        updated: to_millisecond(now),
    })
}

/// Parses the record of a drop, which has the version `etag`.
pub(super) fn parse_drop(path: &BlobPath, etag: ETag, bytes: &[u8]) -> Result<DropRecord, LedgerError> {
    if version(path, bytes)? == 1 {
        return parse_drop_v1(path, etag, bytes);
    }
    let json: DropJson = parse(path, bytes)?;
    let ending = match (json.status, json.reason, json.ending) {
        (DropStatus::Open, ..) => None,
        (DropStatus::Completed, None, Some(ending)) => Some(ending.ending(None, None, None)),
        (DropStatus::SetAside, Some(reason), Some(ending)) => {
            Some(ending.ending(Some(reason), json.file, json.message))
        }
        (DropStatus::Completed, Some(_), _) => return Err(invalid(path, "it is completed but has a `reason`")),
        (DropStatus::SetAside, None, _) => return Err(invalid(path, "it is set aside without a `reason`")),
        (_, _, None) => return Err(invalid(path, "it has ended, but `rows`, `scope` or `ended` is missing")),
    };
    Ok(DropRecord {
        first_seen: Some(json.first_seen),
        tenant: Some(json.tenant_id),
        replays: json.replays,
        generation: json.generation,
        sequence: json.sequence,
        ending,
        announced_files: json.announced_files,
        directory: json.directory.map(PinnedDirectory::from),
        failing: json.failing.map(Failing::from),
        first_run: json.first_run,
        version: Some(etag),
    })
}

fn parse_drop_v1(path: &BlobPath, etag: ETag, bytes: &[u8]) -> Result<DropRecord, LedgerError> {
    let json: DropJsonV1 = parse(path, bytes)?;
    let open = DropRecord { generation: json.generation, version: Some(etag), ..DropRecord::default() };
    match (json.status, json.reason) {
        (DropStatus::Open, _) => return Ok(open),
        (DropStatus::Completed, None) | (DropStatus::SetAside, Some(_)) => {}
        (DropStatus::Completed, Some(_)) => return Err(invalid(path, "it is completed but has a `reason`")),
        (DropStatus::SetAside, None) => return Err(invalid(path, "it is set aside without a `reason`")),
    }
    let metadata = json.metadata.ok_or_else(|| invalid(path, "it has ended but has no `metadata`"))?;
    let versions =
        json.files.map(|files| files.into_iter().map(|file| (file.name, ETag(file.etag))).collect::<Vec<_>>());
    let scope = Scope {
        metadata: format!("{}@{}", metadata.name, metadata.etag),
        key_details: None,
        file_count: versions.as_ref().map_or(0, Vec::len),
        files: versions.map(files_hash),
    };
    let ending = Ending {
        scope,
        reason: json.reason,
        file: None,
        message: json.message,
        rows: json.rows,
        bad_rows: json.bad_rows,
        recorded: json.updated,
        // Version 1 recorded an ending after the sink had taken the message.
        announcement: Announcement::Done(json.announced),
        is_final: true,
    };
    Ok(DropRecord { ending: Some(ending), ..open })
}

impl EndingJson {
    fn ending(self, reason: Option<Reason>, file: Option<String>, message: Option<String>) -> Ending {
        let Self { rows, bad_rows, scope, ended, announced, r#final, message_id } = self;
        let ScopeJson { metadata, key_details, files_hash, files } = scope;
        Ending {
            scope: Scope { metadata, key_details, files: files_hash, file_count: files },
            reason,
            file,
            message,
            rows,
            bad_rows,
            recorded: ended,
            is_final: r#final,
            announcement: match announced {
                AnnouncedJson::Pending => Announcement::Pending,
                AnnouncedJson::Done => Announcement::Done(message_id),
                AnnouncedJson::GivenUp => Announcement::GivenUp,
            },
        }
    }
}

impl From<&Ending> for EndingJson {
    fn from(ending: &Ending) -> Self {
        let Scope { metadata, key_details, files, file_count } = ending.scope.clone();
        let (announced, message_id) = match &ending.announcement {
            Announcement::Pending => (AnnouncedJson::Pending, None),
            Announcement::Done(id) => (AnnouncedJson::Done, id.clone()),
            Announcement::GivenUp => (AnnouncedJson::GivenUp, None),
        };
        Self {
            rows: ending.rows,
            bad_rows: ending.bad_rows,
            scope: ScopeJson { metadata, key_details, files_hash: files, files: file_count },
            ended: to_millisecond(ending.recorded),
            announced,
            r#final: ending.is_final,
            message_id,
        }
    }
}

impl From<&Failing> for FailingJson {
    fn from(failing: &Failing) -> Self {
        Self {
            failing_since: to_millisecond(failing.since),
            attempts: failing.attempts,
            last_failure: to_millisecond(failing.last),
            not_before: to_millisecond(failing.not_before),
            retry_after: failing.retry_after,
            denied: failing.is_denied,
            last_error: failing.error.clone(),
        }
    }
}

impl From<FailingJson> for Failing {
    fn from(json: FailingJson) -> Self {
        Self {
            since: json.failing_since,
            attempts: json.attempts,
            last: json.last_failure,
            not_before: json.not_before,
            retry_after: json.retry_after,
            is_denied: json.denied,
            error: json.last_error,
        }
    }
}

/// The format version of a record. It is checked first, because members may have another meaning in other versions.
fn version(path: &BlobPath, bytes: &[u8]) -> Result<u64, LedgerError> {
    #[derive(Deserialize)]
    struct Versioned {
        version: u64,
    }
    match parse::<Versioned>(path, bytes)?.version {
        0 => Err(invalid(path, "version 0 does not exist")),
        version @ 1..=VERSION => Ok(version),
        version => Err(LedgerError::NewerVersion { path: path.clone(), version }),
    }
}

/// Parses a record whose members are the same in all versions.
pub(super) fn parse_versioned<T: DeserializeOwned>(path: &BlobPath, bytes: &[u8]) -> Result<T, LedgerError> {
    version(path, bytes)?;
    parse(path, bytes)
}

pub(super) fn parse<T: DeserializeOwned>(path: &BlobPath, bytes: &[u8]) -> Result<T, LedgerError> {
    serde_json::from_slice(bytes).map_err(|error| invalid(path, &error.to_string()))
}

fn invalid(path: &BlobPath, problem: &str) -> LedgerError {
    LedgerError::Invalid { path: path.clone(), problem: problem.to_owned() }
}

pub(super) fn format(json: &impl Serialize) -> Vec<u8> {
    let mut text =
        serde_json::to_vec_pretty(json).expect("records have only strings, numbers and times in their range");
    text.push(b'\n');
    text
}

/// Cuts a time to milliseconds, which are easier to read and still show the order of events.
pub(super) fn to_millisecond(time: OffsetDateTime) -> OffsetDateTime {
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
            panics: 0,
            replays: 0,
            generation: 0,
            batch: BatchLimits {
                rows: NonZeroUsize::new(500).unwrap(),
                bytes: NonZeroUsize::new(1 << 20).unwrap(),
                message: NonZeroUsize::new(48 << 10),
            },
            message: Some("file `part-0.json.gz` has more than 3 bad rows".into()),
            run: None,
            updated: datetime!(2026-11-22 00:00:00.25 UTC),
        }
    }

    #[test]
    fn a_files_record_is_readable_json() {
        let text = String::from_utf8(format_file(&set_aside())).unwrap();
        let expected = r#"{
  "version": 2,
  "name": "part-0.json.gz",
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

    fn tenant() -> TenantId {
        "9f1c7fd3-1a33-4f2b-9d3c-0a8f6f2d7e10".parse().unwrap()
    }

    fn set_aside_drop() -> DropRecord {
        let time = datetime!(2026-11-22 00:00:00.25 UTC);
        let scope = Scope {
            metadata: "metadata/JobMetadata/Metadata.json@0x8DE1".into(),
            key_details: Some(String::new()),
            files: Some("00ff".into()),
            file_count: 2,
        };
        let ending = Ending {
            scope,
            reason: Some(Reason::Damaged),
            file: Some("part-0.json.gz".into()),
            message: Some("file `part-0.json.gz` ends early".into()),
            rows: 997,
            bad_rows: 3,
            recorded: time,
            announcement: Announcement::Done(serde_json::from_str(r#""msg_00""#).ok()),
            is_final: true,
        };
        DropRecord {
            first_seen: Some(time),
            tenant: Some(tenant()),
            replays: 1,
            generation: 1,
            sequence: 3,
            ending: Some(ending),
            announced_files: vec!["part-0.json.gz@0x8DE2".into()],
            directory: None,
            failing: None,
            first_run: None,
            version: Some(ETag("1".into())),
        }
    }

    #[test]
    fn a_drops_record_is_readable_json() {
        let drop = DropPath::new("datasets", "run");
        let text = format_drop(&drop, tenant(), &set_aside_drop(), datetime!(2026-11-22 00:00:01 UTC));
        let expected = r#"{
  "version": 2,
  "path": "datasets/run",
  "tenantId": "9f1c7fd3-1a33-4f2b-9d3c-0a8f6f2d7e10",
  "status": "set-aside",
  "sequence": 3,
  "replays": 1,
  "edition": 1,
  "reason": "damaged",
  "file": "part-0.json.gz",
  "message": "file `part-0.json.gz` ends early",
  "rows": 997,
  "badRows": 3,
  "scope": {
    "metadata": "metadata/JobMetadata/Metadata.json@0x8DE1",
    "keyDetails": "",
    "filesHash": "00ff",
    "files": 2
  },
  "ended": "2026-11-22T00:00:00.25Z",
  "announced": "done",
  "final": true,
  "messageId": "msg_00",
  "announcedFiles": [
    "part-0.json.gz@0x8DE2"
  ],
  "firstSeen": "2026-11-22T00:00:00.25Z",
  "updated": "2026-11-22T00:00:01Z"
}
"#;
        assert_eq!(String::from_utf8(text).unwrap(), expected);
    }

    #[test]
    fn a_drops_record_is_parsed_as_it_was_formatted() {
        let time = datetime!(2026-11-22 12:00 UTC);
        let failing = Failing {
            since: time,
            attempts: 3,
            last: time,
            not_before: time,
            retry_after: true,
            is_denied: true,
            error: "HTTP 503".into(),
        };
        let set_aside = set_aside_drop();
        let pending = Ending {
            reason: None,
            file: None,
            message: None,
            announcement: Announcement::Pending,
            ..set_aside.ending.clone().unwrap()
        };
        let completed = DropRecord { ending: Some(pending), failing: Some(failing), ..set_aside.clone() };
        let open = DropRecord { ending: None, ..completed.clone() };
        let snapshot =
            DirectorySnapshot { path: DropPath::new("datasets", "users"), id: None, versions: "00ff".into() };
        let pinned = |snapshot| Some(PinnedDirectory { snapshot });
        let joined = DropRecord { directory: pinned(Some(snapshot)), ..open.clone() };
        let joined_to_none = DropRecord { directory: pinned(None), ..open.clone() };
        for expected in [set_aside, completed, open, joined, joined_to_none] {
            let text = format_drop(&DropPath::new("datasets", "run"), tenant(), &expected, time);
            assert_eq!(parse_drop(&path(), ETag("1".into()), &text).unwrap(), expected);
        }
    }

    #[test]
    fn a_drops_record_of_version_1_covers_the_same_versions() {
        let completed = br#"{"version": 1, "status": "completed", "edition": 2, "rows": 7, "badRows": 1,
            "metadata": {"name": "metadata/JobMetadata.json", "etag": "m"}, "files": [{"name": "part-0", "etag": "0x8DE2"}],
            "updated": "2026-11-22T00:00:00Z", "announced": "msg_00"}"#;
        let record = parse_drop(&path(), ETag("1".into()), completed).unwrap();
        let ending = record.ending.unwrap();
        assert_eq!((record.generation, record.sequence, ending.rows, ending.is_announced()), (2, 0, 7, true));
        let current = |etag: &str| Scope {
            metadata: "metadata/JobMetadata.json@m".into(),
            key_details: Some("metadata/MoreMetadata/x@1".into()),
            files: Some(files_hash(vec![("part-0".into(), ETag(etag.into()))])),
            file_count: 1,
        };
        assert!(ending.scope.covers(&current("0x8DE2")));
        assert!(!ending.scope.covers(&current("0x8DE3")));
    }

    #[test]
    fn a_record_of_a_newer_version_is_an_error() {
        let error = parse_drop(&path(), ETag("1".into()), br#"{"version":3,"status":"half-done"}"#).unwrap_err();
        assert!(error.to_string().contains("by a newer vivadrop: it has version 3"), "{error}");
    }

    #[test]
    fn the_error_about_an_invalid_record_names_it() {
        for text in ["", "{}", "{\"version\":1}", "{\"version\":0}", "{\"version\":1,\"status\":\"completed\"}", "[]"] {
            let error = parse_drop(&path(), ETag("1".into()), text.as_bytes()).unwrap_err();
            assert!(matches!(error, LedgerError::Invalid { .. }), "{text}: {error:?}");
            assert!(error.to_string().contains("`vivadrop-state/drops/datasets/run/drop.json`"), "{error}");
        }
        let text = String::from_utf8(format_file(&set_aside())).unwrap().replace("\"bad-row\"", "null");
        assert!(matches!(parse_file(&path(), "f", text.as_bytes()), Err(LedgerError::Invalid { .. })));
    }
}
