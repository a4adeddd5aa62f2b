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
    drop::{DropPath, FileVersion, TenantId},
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

impl DropFacts {
    /// The description of a drop without job metadata.
    pub fn new(tenant_id: TenantId, path: &DropPath, generation: u32) -> Self {
        Self {
            id: None,
            tenant_id,
            path: path.to_string(),
            table: None,
            request_start_date: None,
            request_end_date: None,
            generation,
        }
    }
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
mod tests;
