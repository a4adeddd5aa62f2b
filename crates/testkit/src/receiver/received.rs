//! Records the accepted messages: drops, their files, and the rows of each file by number.
//!
//! Rows are kept as JSON text, so that no digit changes.

use std::{
    collections::{BTreeMap, HashSet},
    fmt,
};

use axum::{body::Bytes, http::HeaderMap};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::message::{Batch, Content, DecodedMessage};

/// Everything that the receiver has received so far.
#[derive(Clone, Default)]
pub struct Received {
    /// Connections accepted.
    pub connections: u64,
    /// Requests to the webhook, with any result.
    pub requests: u64,
    /// Requests whose signature is wrong or missing, answered with 401.
    pub bad_signatures: u64,
    /// Requests that are not a message, answered with 400.
    pub malformed: u64,
    /// Messages accepted, without duplicates and checks.
    pub accepted: u64,
    /// Messages accepted whose id had been accepted before.
    pub duplicates: u64,
    /// Messages accepted of type `vivadrop.check`, which belong to no drop.
    pub checks: u64,
    /// Messages accepted about survey attributes.
    pub attributes: u64,
    /// The JSON text of each message about survey attributes, in the order in which they were accepted. Empty unless
    /// rows are kept.
    pub attribute_bodies: Vec<Bytes>,
    /// Requests to another path than the webhook's, answered with 404.
    pub not_found: u64,
    /// Every well-formed message, accepted or rejected, in order of arrival. Empty unless rows are kept.
    pub log: Vec<Delivery>,
    /// The JSON text of each message in `log`.
    pub bodies: Vec<Bytes>,
    /// The accepted messages, by drop path.
    pub drops: BTreeMap<String, ReceivedDrop>,
    ids: HashSet<String>,
}

/// One message, without its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// `webhook-id`.
    pub id: String,
    /// `webhook-timestamp`: seconds of Unix time.
    pub timestamp: i64,
    /// `type`.
    pub kind: String,
    /// The drop path.
    pub drop: String,
    /// The file, if the message names one.
    pub file: Option<String>,
    /// `sequence`, if the message has one: endings of drops and of imports, and deletions.
    pub sequence: Option<u64>,
    /// `firstRow` and `endRow`, if it is a message of rows.
    pub rows: Option<(u64, u64)>,
    /// The request's headers.
    pub headers: HeaderMap,
}

/// The accepted messages of one drop.
#[derive(Debug, Clone, Default)]
pub struct ReceivedDrop {
    /// `drop.id`.
    pub id: Option<String>,
    /// `drop.tenantId`.
    pub tenant_id: String,
    /// `drop.table`.
    pub table: Option<String>,
    /// Its files, by name.
    pub files: BTreeMap<String, ReceivedFile>,
    /// Each `drop.completed`.
    pub completed: Vec<Completed>,
    /// Each `drop.failed`.
    pub failed: Vec<Failed>,
}

/// The accepted rows of one file.
#[derive(Clone, Default)]
pub struct ReceivedFile {
    /// The number of rows: distinct rows if rows are kept, otherwise the rows of distinct messages.
    pub count: u64,
    /// The JSON text of rows by number; unless rows are kept, the first row only.
    pub rows: BTreeMap<u64, Box<RawValue>>,
    /// The reason of each bad row, by number.
    pub bad_rows: BTreeMap<u64, String>,
    /// How many rows arrived again in another message with a different text.
    pub changed: u64,
    /// `identified` of the last message.
    pub identified: bool,
}

/// A `drop.completed`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Completed {
    /// `files`.
    pub files: u64,
    /// `rows`: delivered rows.
    pub rows: u64,
    /// `badRows`.
    pub bad_rows: u64,
    /// How many rows of the drop had been accepted before this message.
    pub rows_before: u64,
}

/// A `drop.failed`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Failed {
    /// `file`: the file that failed, or `None` if the whole drop did.
    pub file: Option<String>,
    /// `reason`: one word.
    pub reason: String,
    /// `message`: the reason as a sentence.
    pub message: String,
    /// `rowsDelivered`.
    pub rows_delivered: u64,
}

impl Received {
    /// The rows of a drop, ordered by file and number, each once.
    pub fn rows(&self, drop: &str) -> Vec<&str> {
        let files = self.drops.get(drop).into_iter().flat_map(|drop| drop.files.values());
        files.flat_map(|file| file.rows.values().map(|row| row.get())).collect()
    }

    /// The number of rows of all drops.
    pub fn row_count(&self) -> u64 {
        self.drops.values().map(ReceivedDrop::row_count).sum()
    }

    /// Adds a well-formed message to the log, before it is accepted or rejected.
    pub(super) fn record(&mut self, delivery: &Delivery, text: &Bytes, keep_rows: bool) {
        if keep_rows {
            self.log.push(delivery.clone());
            self.bodies.push(text.clone());
        }
    }

    /// Accepts a message. A message whose id was accepted before is only counted.
    pub(super) fn accept(&mut self, message: DecodedMessage, keep_rows: bool) {
        if !self.ids.insert(message.delivery.id) {
            self.duplicates += 1;
            return;
        }
        if let Content::Check = message.content {
            self.checks += 1;
            return;
        }
        self.accepted += 1;
        if let Content::Attributes(text) = message.content {
            self.attributes += 1;
            self.attribute_bodies.extend(keep_rows.then_some(text));
            return;
        }
        let drop = self.drops.entry(message.drop.path).or_default();
        drop.id = message.drop.id;
        drop.tenant_id = message.drop.tenant_id;
        drop.table = message.drop.table;
        match message.content {
            Content::Rows(batch) => drop.files.entry(batch.file.clone()).or_default().accept(batch, keep_rows),
            Content::Completed(ending) => {
                let rows_before = drop.row_count();
                drop.completed.push(Completed {
                    files: ending.files,
                    rows: ending.rows,
                    bad_rows: ending.bad_rows,
                    rows_before,
                });
            }
            Content::Failed(failed) => drop.failed.push(failed),
            Content::Attributes(_) | Content::Check => {}
        }
    }
}

/// Shows counts only.
impl fmt::Display for Received {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (requests, accepted, duplicates) = (self.requests, self.accepted, self.duplicates);
        let (bad, malformed, rows) = (self.bad_signatures, self.malformed, self.row_count());
        write!(
            f,
            "{requests} requests, {accepted} messages accepted, {duplicates} duplicates, {bad} bad signatures, \
             {malformed} malformed, {rows} rows"
        )
    }
}

impl fmt::Debug for Received {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Received({self})")
    }
}

impl ReceivedDrop {
    /// The number of rows of all files.
    pub fn row_count(&self) -> u64 {
        self.files.values().map(|file| file.count).sum()
    }
}

impl ReceivedFile {
    fn accept(&mut self, batch: Batch, keep_rows: bool) {
        self.identified = batch.identified;
        let bad: BTreeMap<_, _> = batch.bad_rows.into_iter().map(|bad| (bad.row, bad.reason)).collect();
        let numbers = (batch.first_row..batch.end_row).filter(|number| !bad.contains_key(number));
        for (number, row) in numbers.zip(batch.rows) {
            if !keep_rows {
                self.count += 1;
                if self.rows.is_empty() {
                    self.rows.insert(number, row);
                }
                continue;
            }
            match self.rows.insert(number, row) {
                None => self.count += 1,
                Some(old) => self.changed += u64::from(old.get() != self.rows[&number].get()),
            }
        }
        self.bad_rows.extend(bad);
    }
}

/// Shows counts only, so that no failed assertion prints row values.
impl fmt::Debug for ReceivedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReceivedFile")
            .field("count", &self.count)
            .field("bad_rows", &self.bad_rows)
            .field("changed", &self.changed)
            .field("identified", &self.identified)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use standardwebhooks::{HEADER_WEBHOOK_ID, HEADER_WEBHOOK_TIMESTAMP};

    use super::*;
    use vivadrop::{
        drop::FileVersion,
        message::{BadRow, DropFacts, EndingVersion, Failure, Message},
        store::ETag,
        verdict::Reason,
    };

    const DROP: &str = "datasets/run";

    fn facts() -> DropFacts {
        DropFacts {
            id: Some("4f5d0b34".into()),
            tenant_id: "9f1c7fd3-1a33-4f2b-9d3c-0a8f6f2d7e10".parse().unwrap(),
            path: DROP.into(),
            table: Some("PersonReport_v1".into()),
            request_start_date: None,
            request_end_date: None,
            generation: 0,
        }
    }

    fn rows(file: &str, first: u64, rows: &[&str], bad_rows: &[BadRow]) -> Message {
        let file = FileVersion { name: file.into(), etag: ETag("1".into()) };
        let end = first + (rows.len() + bad_rows.len()) as u64;
        Message::rows(&facts(), &file, first..end, true, None, rows.join(",").as_bytes().into(), bad_rows)
    }

    fn parse(message: &Message) -> Result<DecodedMessage, String> {
        let headers = [(HEADER_WEBHOOK_ID, message.id.as_str()), (HEADER_WEBHOOK_TIMESTAMP, "7")];
        let headers = headers.map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        DecodedMessage::parse(&HeaderMap::from_iter(headers), &message.body)
    }

    fn received(messages: &[Message], keep_rows: bool) -> Received {
        let mut received = Received::default();
        for message in messages {
            received.accept(parse(message).unwrap(), keep_rows);
        }
        received
    }

    #[test]
    fn rows_are_sorted_independently_of_their_order_of_arrival() {
        let received = received(
            &[
                rows("b", 0, &["{}"], &[]),
                rows("a", 2, &[r#"{"n":2.50}"#], &[]),
                rows("a", 0, &[r#"{"n":0}"#, r#"{"n":1}"#], &[]),
            ],
            true,
        );
        assert_eq!(received.rows(DROP), [r#"{"n":0}"#, r#"{"n":1}"#, r#"{"n":2.50}"#, "{}"]);
        assert_eq!(received.drops[DROP].table.as_deref(), Some("PersonReport_v1"));
    }

    #[test]
    fn rows_that_arrive_again_in_other_batches_count_once() {
        let received = received(
            &[
                rows("a", 0, &[r#"{"n":0}"#, r#"{"n":1}"#], &[]),
                rows("a", 1, &[r#"{"n":1}"#, r#"{"n":2}"#], &[]),
                rows("a", 2, &[r#"{"n":"other"}"#], &[]),
            ],
            true,
        );
        assert_eq!(received.row_count(), 3);
        assert_eq!(received.drops[DROP].files["a"].changed, 1);
        assert_eq!(received.duplicates, 0);
    }

    #[test]
    fn the_numbers_of_bad_rows_are_skipped() {
        let bad = BadRow { row: 1, reason: "not a JSON object".into() };
        let received = received(&[rows("a", 0, &[r#"{"n":0}"#, r#"{"n":2}"#], &[bad])], true);
        let file = &received.drops[DROP].files["a"];
        assert_eq!(file.rows.keys().collect::<Vec<_>>(), [&0, &2]);
        assert_eq!(file.bad_rows[&1], "not a JSON object");
    }

    #[test]
    fn a_receiver_that_only_counts_keeps_the_first_row() {
        let messages = [rows("a", 0, &["{}", "{}"], &[]), rows("a", 2, &["{}"], &[])];
        let received = received(&messages, false);
        assert_eq!(received.row_count(), 3);
        assert_eq!(received.rows(DROP).len(), 1);
    }

    #[test]
    fn an_ending_records_how_many_rows_were_accepted_before_it() {
        let ending = EndingVersion { sequence: 1, files: String::new() };
        let failure = Failure { file: Some("a"), reason: Reason::Damaged, message: "cut short", rows_delivered: 2 };
        let received = received(
            &[
                rows("a", 0, &["{}", "{}"], &[]),
                Message::completed(&facts(), &ending, 1, 3, 0),
                rows("a", 2, &["{}"], &[]),
                Message::failed(&facts(), &ending, &failure, None),
            ],
            true,
        );
        let drop = &received.drops[DROP];
        assert_eq!((drop.completed[0].rows, drop.completed[0].rows_before), (3, 2));
        assert_eq!(drop.failed[0].reason, "damaged");
        assert_eq!(drop.failed[0].file.as_deref(), Some("a"));
    }

    #[test]
    fn a_batch_with_too_few_rows_for_its_range_is_malformed() {
        let mut message = rows("a", 0, &["{}", "{}"], &[]);
        let text = String::from_utf8(message.body.to_vec()).unwrap();
        message.body = text.replace("\"endRow\":2", "\"endRow\":3").into();
        assert!(parse(&message).err().unwrap().contains("`endRow`"));
    }
}
