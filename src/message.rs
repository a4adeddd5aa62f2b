//! What is sent: the messages of a drop and that of a check, as JSON, with ids that stay the same however often they are sent.
//!
//! The shapes are the contract with every receiver. Rows are spliced in as the bytes they were decoded to: they are not
//! parsed again, so their digits cannot change on the way.

mod size;
mod text;

use std::{fmt, num::NonZeroUsize};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use uuid::Uuid;

pub use self::{
    size::{RowsSize, around_rows},
    text::RowsText,
};
use crate::{
    drop::{FileVersion, TenantId},
    verdict::Reason,
};

/// One message to the receiver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The `webhook-id`: the same for the same content, so that a receiver can drop doubles.
    pub id: MessageId,
    /// The JSON text.
    pub body: Bytes,
}

/// A message's id: `msg_` and 32 hexadecimal digits.
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

    /// The id of what `parts` name. Parts are length-prefixed, so that no two lists of parts hash alike.
    fn of(parts: &[&str]) -> Self {
        let mut hash = Sha256::new();
        for part in parts {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        let digits = hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect::<String>();
        Self(format!("msg_{digits}"))
    }
}

/// What every message says of the drop.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DropFacts {
    /// `CopyActivityId`; null where the metadata cannot be read.
    pub id: Option<String>,
    /// Whose drop it is.
    pub tenant_id: TenantId,
    /// `container/folder`.
    pub path: String,
    /// `TableName`, where the metadata has it.
    pub table: Option<String>,
    /// `RequestStartDate`, as the metadata spells it.
    pub request_start_date: Option<String>,
    /// `RequestEndDate`, as the metadata spells it.
    pub request_end_date: Option<String>,
    /// How often the drop was replayed with new ids: part of every id, and of nothing that is sent.
    #[serde(skip)]
    pub generation: u32,
}

/// A row that could not be decoded, by its number within the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BadRow {
    /// Its number within the file, from 0.
    pub row: u64,
    /// Why: never what it holds.
    pub reason: String,
}

/// The JSON around the content of each message.
#[derive(Serialize)]
struct Envelope<'a, T> {
    id: &'a MessageId,
    r#type: &'static str,
    timestamp: String,
    data: T,
}

impl Message {
    /// `viva.insights.rows`: rows `range` of a file. `rows` is the text of the good ones, in order.
    pub fn rows(
        drop: &DropFacts,
        file: &FileVersion,
        range: std::ops::Range<u64>,
        identified: bool,
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
            #[serde(skip_serializing_if = "<[_]>::is_empty")]
            bad_rows: &'a [BadRow],
        }
        let id = MessageId::of(&[
            "rows",
            &drop.path,
            &file.name,
            &file.etag.0,
            &range.start.to_string(),
            &range.end.to_string(),
            &drop.generation.to_string(),
        ]);
        let data = Data { drop, file: &file.name, first_row: range.start, end_row: range.end, identified, bad_rows };
        let mut head = envelope(&id, "viva.insights.rows", data);

        // The envelope ends in `}}`: the rows go in before that, as the last member of `data`.
        head.truncate(head.len() - 2);
        head.extend_from_slice(b",\"rows\":[");
        Self { id, body: rows.between(&head, b"]}}") }
    }

    /// `viva.insights.drop.completed`: every row of `files` was taken.
    pub fn completed(drop: &DropFacts, files: &[FileVersion], rows: u64, bad_rows: u64) -> Self {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Data<'a> {
            drop: &'a DropFacts,
            files: usize,
            rows: u64,
            bad_rows: u64,
        }
        let id = ending_id("completed", drop, files);
        let data = Data { drop, files: files.len(), rows, bad_rows };
        Self::whole(id, "viva.insights.drop.completed", data)
    }

    /// `viva.insights.drop.failed`: the drop, or one file of it, was set aside. `versions` are the file versions it was
    /// seen with; `file` is the one to blame, or `None` where the reason is the drop's. Where the whole would have more
    /// than `largest` bytes, the failure's message ends early, in `…`.
    pub fn failed(
        drop: &DropFacts,
        versions: &[FileVersion],
        failure: &Failure<'_>,
        largest: Option<NonZeroUsize>,
    ) -> Self {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Data<'a> {
            drop: &'a DropFacts,
            #[serde(flatten)]
            failure: &'a Failure<'a>,
        }
        let ending = format!("failed {} {}", failure.reason, failure.file.unwrap_or_default());
        let id = ending_id(&ending, drop, versions);
        let told = |failure: &Failure<'_>| Self::whole(id.clone(), "viva.insights.drop.failed", Data { drop, failure });
        let whole = told(failure);
        let too_much = largest.map_or(0, |largest| whole.body.len().saturating_sub(largest.get()));
        if too_much == 0 {
            return whole;
        }
        told(&Failure { message: &size::shortened(failure.message, too_much), ..failure.clone() })
    }

    /// `vivadrop.check`: asks whether the receiver takes messages, and is about no drop.
    pub fn check() -> Self {
        #[derive(Serialize)]
        struct Data {
            vivadrop: &'static str,
        }
        let id = MessageId::of(&["check", &Uuid::new_v4().to_string()]);
        Self::whole(id, "vivadrop.check", Data { vivadrop: env!("CARGO_PKG_VERSION") })
    }

    fn whole(id: MessageId, kind: &'static str, data: impl Serialize) -> Self {
        let body = envelope(&id, kind, data).into();
        Self { id, body }
    }
}

/// What `drop.failed` says of the failure.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Failure<'a> {
    /// The file to blame, or `None` where the reason is the drop's.
    pub file: Option<&'a str>,
    /// The reason, one word.
    pub reason: Reason,
    /// The reason, for a person.
    pub message: &'a str,
    /// How many rows were delivered before: of the file, or of the drop where no file is named.
    pub rows_delivered: u64,
}

fn ending_id(ending: &str, drop: &DropFacts, files: &[FileVersion]) -> MessageId {
    let mut files = files.to_vec();
    files.sort();
    let generation = drop.generation.to_string();
    let mut parts = vec![ending, &drop.path, drop.id.as_deref().unwrap_or_default(), &generation];
    for file in &files {
        parts.extend([file.name.as_str(), &file.etag.0]);
    }
    MessageId::of(&parts)
}

fn envelope(id: &MessageId, kind: &'static str, data: impl Serialize) -> Vec<u8> {
    // Whole seconds: a message then has the same size whenever it is made.
    let now = OffsetDateTime::now_utc();
    let timestamp = now.replace_nanosecond(0).unwrap_or(now).format(&Rfc3339).unwrap_or_default();
    // Strings, numbers and options alone: serialization cannot fail.
    serde_json::to_vec(&Envelope { id, r#type: kind, timestamp, data }).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::store::ETag;

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
    fn rows_are_spliced_in_digit_for_digit() {
        let rows = br#"{"a":1.50},{"a":12345678901234567890.10}"#;
        let message = Message::rows(&facts(), &file("1"), 10..12, true, rows[..].into(), &[]);
        let text = std::str::from_utf8(&message.body).unwrap();
        assert!(text.ends_with(r#","rows":[{"a":1.50},{"a":12345678901234567890.10}]}}"#), "{text}");
        assert_eq!(data(&message)["firstRow"], 10);
        assert!(data(&message).get("badRows").is_none());
    }

    #[test]
    fn a_batch_of_bad_rows_alone_has_an_empty_list_of_rows() {
        let bad = [BadRow { row: 3, reason: "is no JSON object".into() }];
        let message = Message::rows(&facts(), &file("1"), 3..4, false, RowsText::default(), &bad);
        assert_eq!(data(&message)["rows"], json!([]));
        assert_eq!(data(&message)["badRows"], json!([{"row": 3, "reason": "is no JSON object"}]));
    }

    #[test]
    fn an_id_is_the_same_for_the_same_rows_of_the_same_version_alone() {
        let id = |etag: &str, range| Message::rows(&facts(), &file(etag), range, true, RowsText::default(), &[]).id;
        assert_eq!(id("1", 0..500), id("1", 0..500));
        assert_ne!(id("1", 0..500), id("1", 0..501));
        assert_ne!(id("1", 0..500), id("2", 0..500));
    }

    #[test]
    fn another_generation_has_other_ids_and_says_nothing_of_it() {
        let again = DropFacts { generation: 1, ..facts() };
        let id = |facts: &DropFacts| Message::rows(facts, &file("1"), 0..500, true, RowsText::default(), &[]).id;
        assert_ne!(id(&facts()), id(&again));
        assert_eq!(serde_json::to_value(facts()).unwrap(), serde_json::to_value(again).unwrap());
    }

    #[test]
    fn an_ending_has_one_id_in_whatever_order_its_files_are_listed() {
        let (a, mut b) = (file("1"), file("2"));
        b.name = "part-1.json.gz".into();
        let id = |files: &[FileVersion]| Message::completed(&facts(), files, 7, 0).id;
        assert_eq!(id(&[a.clone(), b.clone()]), id(&[b.clone(), a.clone()]));
        assert_ne!(id(&[a.clone(), b]), id(&[a]));
    }

    #[test]
    fn a_failure_names_its_file_or_says_null() {
        let failure = Failure { file: None, reason: Reason::Errors, message: "no consent", rows_delivered: 0 };
        let message = Message::failed(&facts(), &[], &failure, None);
        assert_eq!(data(&message)["file"], Value::Null);
        assert_eq!(data(&message)["reason"], "errors");
        assert_eq!(data(&message)["rowsDelivered"], 0);
    }

    #[test]
    fn a_failure_that_is_too_long_is_told_in_part_by_the_same_id() {
        let failed = |text: &str, largest| {
            let failure = Failure { file: None, reason: Reason::Errors, message: text, rows_delivered: 0 };
            Message::failed(&facts(), &[], &failure, NonZeroUsize::new(largest))
        };
        let text = "\u{1}ü\"😀".repeat(300);
        let whole = failed(&text, 0);
        let empty = failed("", 0).body.len();
        assert_eq!(failed(&text, whole.body.len()).body, whole.body);
        for largest in [empty + 3, empty + 20, empty + 21, empty + 22, empty + 23, empty + 24, whole.body.len() - 1] {
            let message = failed(&text, largest);
            assert_eq!(message.id, whole.id);
            let told = data(&message)["message"].as_str().unwrap().to_owned();
            assert!(text.starts_with(told.strip_suffix('…').unwrap()), "{told}");
            // No character is longer than the six bytes of an escape.
            let left = largest - message.body.len();
            assert!(left < 6, "{largest}: {left} bytes are left");
        }
    }
}
