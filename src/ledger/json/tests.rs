use std::{num::NonZeroUsize, time::Duration};

use time::macros::datetime;

use super::*;
use crate::{
    batch::BatchLimits,
    directory::DirectorySnapshot,
    drop::{FileVersion, TenantId},
    ledger::{
        Announcement, DropRecord, Ending, Failing, FileRecord, PinnedDirectory, Scope, Status, record::files_hash,
    },
    store::ETag,
    verdict::Reason,
};

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
        keys: "00000000000000ff".parse().ok(),
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
  "keys": "00000000000000ff",
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
        announced_files: vec!["part-0.json.gz@0x8DE2 damaged".into()],
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
    "part-0.json.gz@0x8DE2 damaged"
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
        waited: Duration::from_secs(1800),
        waits_for_memory: true,
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
    let snapshot = DirectorySnapshot { path: DropPath::new("datasets", "users"), id: None, versions: "00ff".into() };
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
