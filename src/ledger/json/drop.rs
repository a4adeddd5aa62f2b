//! The record of a drop: `drops/…/drop.json`.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::{DropPathJson, VERSION, format, invalid, is_zero, parse, to_millisecond, version};
use crate::{
    directory::DirectorySnapshot,
    drop::{DropPath, TenantId},
    ledger::{Announcement, DropRecord, Ending, Failing, LedgerError, PinnedDirectory, Scope, record::files_hash},
    message::MessageId,
    store::{BlobPath, ETag},
    verdict::Reason,
};

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
    Rejected,
    GivenUp,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct FailingJson {
    #[serde(with = "time::serde::rfc3339")]
    failing_since: OffsetDateTime,
    /// The time that the drop waited for memory, in seconds.
    #[serde(default, skip_serializing_if = "is_zero")]
    waited: u64,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    waits_for_memory: bool,
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

/// Formats the record of a drop. `record` has a tenant.
pub(in crate::ledger) fn format_drop(
    drop: &DropPath,
    tenant: TenantId,
    record: &DropRecord,
    now: OffsetDateTime,
) -> Vec<u8> {
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
pub(in crate::ledger) fn parse_drop(path: &BlobPath, etag: ETag, bytes: &[u8]) -> Result<DropRecord, LedgerError> {
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
                AnnouncedJson::Rejected => Announcement::Rejected,
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
            Announcement::Rejected => (AnnouncedJson::Rejected, None),
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
            waited: failing.waited.as_secs(),
            waits_for_memory: failing.waits_for_memory,
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
            waited: Duration::from_secs(json.waited),
            waits_for_memory: json.waits_for_memory,
            attempts: json.attempts,
            last: json.last_failure,
            not_before: json.not_before,
            retry_after: json.retry_after,
            is_denied: json.denied,
            error: json.last_error,
        }
    }
}
