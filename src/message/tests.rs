use serde_json::{Value, json};

use super::*;
use crate::store::ETag;

fn ending(sequence: u64, files: &str) -> EndingVersion {
    EndingVersion { sequence, files: files.into() }
}

fn facts() -> DropFacts {
    DropFacts {
        id: Some("4f5d0b34".into()),
        tenant_id: "9f1c7fd3-1a33-4f2b-9d3c-0a8f6f2d7e10".parse().unwrap(),
        path: "datasets/run".into(),
        table: None,
        request_start_date: Some("2026-08-16T00:00:00Z".into()),
        request_end_date: None,
        generation: 0,
    }
}

fn file(etag: &str) -> FileVersion {
    FileVersion { name: "part-0.json.gz".into(), etag: ETag(etag.into()) }
}

fn data(message: &Message) -> Value {
    serde_json::from_slice::<Value>(&message.body).unwrap()["data"].take()
}

#[test]
fn rows_are_inserted_digit_for_digit() {
    let rows = br#"{"a":1.50},{"a":12345678901234567890.10}"#;
    let message = Message::rows(&facts(), &file("1"), 10..12, true, None, rows[..].into(), &[]);
    let text = std::str::from_utf8(&message.body).unwrap();
    assert!(text.ends_with(r#","rows":[{"a":1.50},{"a":12345678901234567890.10}]}}"#), "{text}");
    assert_eq!(data(&message)["firstRow"], 10);
    assert!(data(&message).get("badRows").is_none());
}

#[test]
fn a_failure_cannot_be_hidden_by_the_name_of_a_file() {
    let failure =
        Failure { reason: Reason::Damaged, file: None, message: "file `a\u{202e}b` is damaged", rows_delivered: 0 };
    let message = Message::failed(&facts(), &ending(1, ""), &failure, None);
    assert_eq!(data(&message)["message"], "file `a\\u202eb` is damaged");
}

#[test]
fn a_batch_of_bad_rows_alone_has_an_empty_list_of_rows() {
    let bad = [BadRow { row: 3, reason: "is not a JSON object".into() }];
    let message = Message::rows(&facts(), &file("1"), 3..4, false, None, RowsText::default(), &bad);
    assert_eq!(data(&message)["rows"], json!([]));
    assert_eq!(data(&message)["badRows"], json!([{"row": 3, "reason": "is not a JSON object"}]));
}

#[test]
fn an_id_depends_on_the_rows_and_the_file_version() {
    let id = |etag: &str, range| Message::rows(&facts(), &file(etag), range, true, None, RowsText::default(), &[]).id;
    assert_eq!(id("1", 0..500), id("1", 0..500));
    assert_ne!(id("1", 0..500), id("1", 0..501));
    assert_ne!(id("1", 0..500), id("2", 0..500));
}

#[test]
fn joined_rows_name_their_directory_and_have_ids_of_their_own() {
    let snapshot = |path: &str, versions: &str| DirectorySnapshot {
        path: path.parse().unwrap(),
        id: Some("5e8f1d2a".into()),
        versions: versions.into(),
    };
    let joined = |snapshot| JoinFacts { snapshot };
    let message = |directory: Option<&JoinFacts>| {
        Message::rows(&facts(), &file("1"), 0..500, true, directory, RowsText::default(), &[])
    };
    let found = message(Some(&joined(Some(snapshot("datasets/users", "1")))));
    assert_eq!(data(&found)["directory"], json!({"path": "datasets/users", "id": "5e8f1d2a"}));
    let (none, off) = (message(Some(&joined(None))), message(None));
    assert_eq!(data(&none).get("directory"), Some(&Value::Null));
    assert_eq!(data(&off).get("directory"), None);
    let others = [("datasets/users", "2"), ("datasets/others", "1")];
    let others = others.map(|(path, versions)| message(Some(&joined(Some(snapshot(path, versions))))));
    let ids: std::collections::BTreeSet<_> = [found, none, off].into_iter().chain(others).map(|m| m.id).collect();
    assert_eq!(ids.len(), 5);
}

#[test]
fn another_generation_changes_the_ids_and_nothing_else() {
    let replayed = DropFacts { generation: 1, ..facts() };
    let id = |facts: &DropFacts| Message::rows(facts, &file("1"), 0..500, true, None, RowsText::default(), &[]).id;
    assert_ne!(id(&facts()), id(&replayed));
    assert_eq!(serde_json::to_value(facts()).unwrap(), serde_json::to_value(replayed).unwrap());
}

#[test]
fn the_id_of_an_ending_depends_on_its_sequence_and_file_versions() {
    let id = |sequence, files: &str| Message::completed(&facts(), &ending(sequence, files), 1, 7, 0).id;
    assert_eq!(id(1, "a"), id(1, "a"));
    assert_ne!(id(1, "a"), id(2, "a"));
    assert_ne!(id(1, "a"), id(1, "b"));
}

#[test]
fn the_file_of_a_failure_is_null_if_the_reason_applies_to_the_drop() {
    let failure = Failure { file: None, reason: Reason::Errors, message: "no consent", rows_delivered: 0 };
    let message = Message::failed(&facts(), &ending(3, ""), &failure, None);
    assert_eq!(data(&message)["sequence"], 3);
    assert_eq!(data(&message)["file"], Value::Null);
    assert_eq!(data(&message)["reason"], "errors");
    assert_eq!(data(&message)["rowsDelivered"], 0);
}

#[test]
fn a_failure_that_is_too_large_is_shortened_and_keeps_its_id() {
    let failed = |text: &str, max_bytes| {
        let failure = Failure { file: None, reason: Reason::Errors, message: text, rows_delivered: 0 };
        Message::failed(&facts(), &ending(1, ""), &failure, NonZeroUsize::new(max_bytes))
    };
    let text = "\u{1}ü\"😀".repeat(300);
    let full = failed(&text, 0);
    let empty = failed("", 0).body.len();
    assert_eq!(failed(&text, full.body.len()).body, full.body);
    for max in [empty + 3, empty + 20, empty + 21, empty + 22, empty + 23, empty + 24, full.body.len() - 1] {
        let message = failed(&text, max);
        assert_eq!(message.id, full.id);
        let shortened = data(&message)["message"].as_str().unwrap().to_owned();
        assert!(text.starts_with(shortened.strip_suffix('…').unwrap()), "{shortened}");
        // The longest JSON of a character is an escape of six bytes.
        let unused = max - message.body.len();
        assert!(unused < 6, "{max}: {unused} bytes are unused");
    }
}
