//! The messages that are sent to receivers: about drops, about survey attributes, and the test message of
//! `vivadrop check`.
//!
//! `schema/messages.v1.json` is the contract with every receiver. A message has the same id however often it is sent,
//! except for test messages. Rows are inserted as decoded bytes and not parsed again, so numbers keep their digits.

mod attributes;
mod rows_text;
mod size;

use std::{fmt, num::NonZeroUsize};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use uuid::Uuid;

pub use self::{
    attributes::{ImportFacts, ImportFailure, ImportVersion, RangeCounts, WindowFacts},
    rows_text::RowsText,
    size::{RowsSize, envelope_bytes},
};
use crate::{
    directory::DirectorySnapshot,
    drop::{FileVersion, TenantId},
    hex::hex,
    one_line::escape_deceptive,
    verdict::Reason,
};

/// A message to a receiver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The id (`webhook-id` of a webhook): the same each time the message is sent, so that receivers can deduplicate.
    pub id: MessageId,
    /// The type, such as `viva.insights.rows`.
    pub kind: &'static str,
    /// The tenant that the message is about; `None` for `vivadrop.check`.
    pub tenant: Option<TenantId>,
    /// The path of the drop that the message is about, `container/folder`, if it is about one.
    pub drop: Option<String>,
    /// The file that the rows come from; `None` for messages without rows.
    pub file: Option<String>,
    /// The JSON text.
    pub body: Bytes,
}

/// The id of a message: `msg_` and 32 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MessageId(String);

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl MessageId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id for `parts`, their hash. Each part is prefixed with its length, so that different lists never hash the
    /// same bytes.
    fn hash(parts: &[&str]) -> Self {
        let mut hash = Sha256::new();
        for part in parts {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        let hash = hash.finalize();
        Self(format!("msg_{}", hex(hash.first_chunk::<16>().expect("a hash has 32 bytes"))))
    }
}

/// The description of a drop: `data.drop` of every message about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DropFacts {
    /// `CopyActivityId`; null if the metadata cannot be read.
    pub id: Option<String>,
    /// The tenant that the drop belongs to.
    pub tenant_id: TenantId,
    /// The drop path, `container/folder`.
    pub path: String,
    /// `TableName`, if the metadata has it.
    pub table: Option<String>,
    /// `RequestStartDate`, as the metadata spells it.
    pub request_start_date: Option<String>,
    /// `RequestEndDate`, as the metadata spells it.
    pub request_end_date: Option<String>,
    /// How often the drop was replayed with new ids: part of every message id, but not of the message.
    #[serde(skip)]
    pub generation: u32,
}

/// The directory that rows are joined to: `data.directory` of their message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct JoinFacts {
    /// The directory; `None` if there is no directory: then `directory` of every row is null.
    pub snapshot: Option<DirectorySnapshot>,
}

/// A row that could not be decoded: an entry of `badRows`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BadRow {
    /// The number of the row within its file, from 0.
    pub row: u64,
    /// Why the row could not be decoded. Contains nothing of its content.
    pub reason: String,
}

/// The members that all messages have.
#[derive(Serialize)]
struct Envelope<'a, T> {
    id: &'a MessageId,
    r#type: &'static str,
    timestamp: String,
    data: T,
}

impl Message {
    /// The type of the messages with people and their attributes.
    pub const PEOPLE: &'static str = "viva.insights.attributes";

    /// The subject of the message, by which the circuit breaker distinguishes messages: the path of the file, or of the
    /// drop. All messages about attributes have the same subject, so that a receiver that fails only for attributes
    /// does not stop the delivery of rows.
    pub fn subject(&self) -> String {
        if self.kind.starts_with(Self::PEOPLE) {
            return Self::PEOPLE.to_owned();
        }
        format!("{}/{}", self.drop.as_deref().unwrap_or_default(), self.file.as_deref().unwrap_or_default())
    }

    /// `viva.insights.rows`: the rows `range` of a file. `rows` is the text of the good rows, in order. `directory` is
    /// given if they are joined.
    pub fn rows(
        drop: &DropFacts,
        file: &FileVersion,
        range: std::ops::Range<u64>,
        identified: bool,
        directory: Option<&JoinFacts>,
        rows: RowsText,
        bad_rows: &[BadRow],
    ) -> Self {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Data<'a> {
            drop: &'a DropFacts,
            file: &'a str,
            first_row: u64,
            end_row: u64,
            identified: bool,
            #[serde(skip_serializing_if = "Option::is_none")]
            directory: Option<&'a JoinFacts>,
            #[serde(skip_serializing_if = "<[_]>::is_empty")]
            bad_rows: &'a [BadRow],
        }
        let (start, end, generation) = (range.start.to_string(), range.end.to_string(), drop.generation.to_string());
        let mut parts = vec!["rows", &drop.path, &file.name, &file.etag.0, &start, &end, &generation];
        // Rows that are not joined keep the ids that they had before there was a join.
        let snapshot = directory.map(|directory| directory.snapshot.as_ref());
        let path = snapshot.flatten().map(|snapshot| snapshot.path.to_string()).unwrap_or_default();
        if let Some(snapshot) = snapshot {
            parts.extend(["directory", &path, snapshot.map_or("", |snapshot| &snapshot.versions)]);
        }
        let id = MessageId::hash(&parts);
        let (first_row, end_row) = (range.start, range.end);
        let data = Data { drop, file: &file.name, first_row, end_row, identified, directory, bad_rows };
        let kind = "viva.insights.rows";
        let mut head = json(&id, kind, data);

        // The JSON ends in `}}`, which closes `data` and the message. `rows` becomes the last member of `data`.
        head.truncate(head.len() - 2);
        head.extend_from_slice(b",\"rows\":[");
        let (tenant, drop, file) = (Some(drop.tenant_id), Some(drop.path.clone()), Some(file.name.clone()));
        Self { id, kind, tenant, drop, file, body: rows.enclosed(&head, b"]}}") }
    }

    /// `viva.insights.drop.completed`: the sink has acknowledged every row of the drop.
    pub fn completed(drop: &DropFacts, version: &EndingVersion, files: usize, rows: u64, bad_rows: u64) -> Self {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Data<'a> {
            drop: &'a DropFacts,
            sequence: u64,
            files: usize,
            rows: u64,
            bad_rows: u64,
        }
        let data = Data { drop, sequence: version.sequence, files, rows, bad_rows };
        Self::new(version.id("completed", drop), "viva.insights.drop.completed", Some(drop), data)
    }

    /// `viva.insights.drop.failed`: the drop, or one file of it, was set aside. If the message would have more than
    /// `max_bytes` bytes, the failure's text is shortened and ends in `…`.
    pub fn failed(
        drop: &DropFacts,
        version: &EndingVersion,
        failure: &Failure<'_>,
        max_bytes: Option<NonZeroUsize>,
    ) -> Self {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Data<'a> {
            drop: &'a DropFacts,
            sequence: u64,
            #[serde(flatten)]
            failure: &'a Failure<'a>,
        }
        // The text contains names that the customer chose.
        let text = escape_deceptive(failure.message);
        let failure = &Failure { message: &text, ..failure.clone() };
        let id = version.id(&format!("failed {} {}", failure.reason, failure.file.unwrap_or_default()), drop);
        let with = |failure: &Failure<'_>| {
            let data = Data { drop, sequence: version.sequence, failure };
            Self::new(id.clone(), "viva.insights.drop.failed", Some(drop), data)
        };
        let message = with(failure);
        let excess = max_bytes.map_or(0, |max| message.body.len().saturating_sub(max.get()));
        if excess == 0 {
            return message;
        }
        with(&Failure { message: &size::shortened(failure.message, excess), ..failure.clone() })
    }

    /// `vivadrop.check`: tests whether the receiver accepts messages. It concerns no drop, and each has a new id.
    pub fn check() -> Self {
        #[derive(Serialize)]
        struct Data {
            vivadrop: &'static str,
        }
        let id = MessageId::hash(&["check", &Uuid::new_v4().to_string()]);
        Self::new(id, "vivadrop.check", None, Data { vivadrop: env!("CARGO_PKG_VERSION") })
    }

    fn new(id: MessageId, kind: &'static str, drop: Option<&DropFacts>, data: impl Serialize) -> Self {
        let body = json(&id, kind, data).into();
        let (tenant, drop) = (drop.map(|drop| drop.tenant_id), drop.map(|drop| drop.path.clone()));
        Self { id, kind, tenant, drop, file: None, body }
    }
}

/// Why a drop or a file was set aside: the members of `drop.failed` about it.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Failure<'a> {
    /// The name of the file, or `None` if the reason applies to the whole drop.
    pub file: Option<&'a str>,
    /// The reason, for programs.
    pub reason: Reason,
    /// The reason, for people.
    pub message: &'a str,
    /// How many rows were delivered before: of the file, or of the whole drop if `file` is `None`.
    pub rows_delivered: u64,
}

/// The version of an ending: distinguishes it from the other endings of its drop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndingVersion {
    /// The number of the ending, from 1. The ending with the highest number is the state of the drop.
    pub sequence: u64,
    /// The versions of the files that the ending is about, as a text that is the same for the same versions.
    pub files: String,
}

impl EndingVersion {
    /// The id of the message about this ending: the same however often it is sent.
    fn id(&self, ending: &str, drop: &DropFacts) -> MessageId {
        let (generation, sequence) = (drop.generation.to_string(), self.sequence.to_string());
        MessageId::hash(&[
            ending,
            &drop.path,
            drop.id.as_deref().unwrap_or_default(),
            &generation,
            &self.files,
            &sequence,
        ])
    }
}

/// Serializes a message.
fn json(id: &MessageId, kind: &'static str, data: impl Serialize) -> Vec<u8> {
    // Whole seconds, so that the size of a message does not depend on when it is sent.
    let now = OffsetDateTime::now_utc().replace_nanosecond(0).expect("0 is a valid number of nanoseconds");
    let timestamp = now.format(&Rfc3339).expect("the current year has four digits");
    serde_json::to_vec(&Envelope { id, r#type: kind, timestamp, data })
        .expect("strings, numbers, booleans and lists of them can always be serialized")
}

#[cfg(test)]
mod tests {
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
        let id =
            |etag: &str, range| Message::rows(&facts(), &file(etag), range, true, None, RowsText::default(), &[]).id;
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
}
