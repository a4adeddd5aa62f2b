//! What came, put in order: drops, their files, the rows of each by number.
//!
//! Rows are kept as the text they came as, so that no digit changes.

use std::{
    collections::{BTreeMap, HashSet},
    fmt,
};

use axum::{body::Bytes, http::HeaderMap};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::parcel::{Batch, Content, Parcel};

/// All that came.
#[derive(Clone, Default)]
pub struct Received {
    /// Connections made.
    pub connections: u64,
    /// Requests to the webhook, whatever became of them.
    pub requests: u64,
    /// Messages whose signature is wrong or missing, answered with 401.
    pub bad_signatures: u64,
    /// Requests that are no message, answered with 400.
    pub malformed: u64,
    /// Messages taken, without doubles.
    pub taken: u64,
    /// Messages that had been taken before.
    pub doubles: u64,
    /// Messages that are about no drop, and ask whether they are taken.
    pub checks: u64,
    /// Requests to anywhere but the webhook.
    pub strays: u64,
    /// Every well-formed delivery, taken or not, in order of arrival. Empty unless rows are kept.
    pub log: Vec<Delivery>,
    /// The JSON text of each, in the same order.
    pub texts: Vec<Bytes>,
    /// What was taken, by drop path.
    pub drops: BTreeMap<String, ReceivedDrop>,
    ids: HashSet<String>,
}

/// One message as it came, without its content.
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
    /// The file, where the message names one.
    pub file: Option<String>,
    /// The rows, where it is a message of rows: first and behind the last.
    pub rows: Option<(u64, u64)>,
    /// The request's headers.
    pub headers: HeaderMap,
}

/// What came of one drop.
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

/// What came of one file.
#[derive(Clone, Default)]
pub struct ReceivedFile {
    /// How many rows came: distinct ones where rows are kept, else those of distinct messages.
    pub count: u64,
    /// The rows by number, as they came; the first one alone unless rows are kept.
    pub rows: BTreeMap<u64, Box<RawValue>>,
    /// Why rows are missing, by number.
    pub bad_rows: BTreeMap<u64, String>,
    /// Rows that came again, in another message, with another text.
    pub changed: u64,
    /// `identified` of the last message.
    pub identified: bool,
}

/// A `drop.completed`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Completed {
    /// How many files it reports.
    pub files: u64,
    /// How many delivered rows it reports.
    pub rows: u64,
    /// How many bad rows it reports.
    pub bad_rows: u64,
    /// How many rows of the drop had been taken when it came.
    pub rows_before: u64,
}

/// A `drop.failed`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Failed {
    /// The file to blame, if it is one file's.
    pub file: Option<String>,
    /// The reason, one word.
    pub reason: String,
    /// The reason, for a person.
    pub message: String,
    /// How many rows it reports as delivered.
    pub rows_delivered: u64,
}

impl Received {
    /// The rows of a drop in order, by file and by number, each once.
    pub fn rows(&self, drop: &str) -> Vec<&str> {
        let files = self.drops.get(drop).into_iter().flat_map(|drop| drop.files.values());
        files.flat_map(|file| file.rows.values().map(|row| row.get())).collect()
    }

    /// How many rows came of all drops.
    pub fn row_count(&self) -> u64 {
        self.drops.values().map(ReceivedDrop::row_count).sum()
    }

    pub(super) fn log(&mut self, delivery: &Delivery, text: &Bytes, keep: bool) {
        if keep {
            self.log.push(delivery.clone());
            self.texts.push(text.clone());
        }
    }

    /// Takes a message, unless it was taken before.
    pub(super) fn take(&mut self, parcel: Parcel, keep_rows: bool) {
        if !self.ids.insert(parcel.delivery.id) {
            self.doubles += 1;
            return;
        }
        if let Content::Check = parcel.content {
            self.checks += 1;
            return;
        }
        self.taken += 1;
        let drop = self.drops.entry(parcel.delivery.drop).or_default();
        drop.id = parcel.facts.id;
        drop.tenant_id = parcel.facts.tenant_id;
        drop.table = parcel.facts.table;
        match parcel.content {
            Content::Rows(batch) => drop.files.entry(batch.file.clone()).or_default().take(batch, keep_rows),
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
            Content::Check => {}
        }
    }
}

/// Counts alone.
impl fmt::Display for Received {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (requests, taken, doubles) = (self.requests, self.taken, self.doubles);
        let (bad, malformed, rows) = (self.bad_signatures, self.malformed, self.row_count());
        write!(
            f,
            "{requests} requests, {taken} messages taken, {doubles} doubles, {bad} bad signatures, {malformed} malformed, {rows} rows"
        )
    }
}

impl fmt::Debug for Received {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Received({self})")
    }
}

impl ReceivedDrop {
    /// How many rows came.
    pub fn row_count(&self) -> u64 {
        self.files.values().map(|file| file.count).sum()
    }
}

impl ReceivedFile {
    fn take(&mut self, batch: Batch, keep_rows: bool) {
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

/// Counts alone: rows are nobody's business but the test's that asks for them.
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
        message::{BadRow, DropFacts, Failure, Message},
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
        Message::rows(&facts(), &file, first..end, true, rows.join(",").as_bytes().into(), bad_rows)
    }

    fn open(message: &Message) -> Result<Parcel, String> {
        let headers = [(HEADER_WEBHOOK_ID, message.id.as_str()), (HEADER_WEBHOOK_TIMESTAMP, "7")];
        let headers = headers.map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        Parcel::open(&HeaderMap::from_iter(headers), &message.body)
    }

    fn received(messages: &[Message], keep_rows: bool) -> Received {
        let mut received = Received::default();
        for message in messages {
            received.take(open(message).unwrap(), keep_rows);
        }
        received
    }

    #[test]
    fn rows_are_put_in_order_whichever_way_they_came() {
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
    fn rows_that_come_again_cut_another_way_count_once() {
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
        assert_eq!(received.doubles, 0);
    }

    #[test]
    fn bad_rows_leave_their_numbers_free() {
        let bad = BadRow { row: 1, reason: "is no JSON object".into() };
        let received = received(&[rows("a", 0, &[r#"{"n":0}"#, r#"{"n":2}"#], &[bad])], true);
        let file = &received.drops[DROP].files["a"];
        assert_eq!(file.rows.keys().collect::<Vec<_>>(), [&0, &2]);
        assert_eq!(file.bad_rows[&1], "is no JSON object");
    }

    #[test]
    fn a_receiver_that_counts_keeps_one_row() {
        let messages = [rows("a", 0, &["{}", "{}"], &[]), rows("a", 2, &["{}"], &[])];
        let received = received(&messages, false);
        assert_eq!(received.row_count(), 3);
        assert_eq!(received.rows(DROP).len(), 1);
    }

    #[test]
    fn an_ending_tells_how_many_rows_had_come_before_it() {
        let failure = Failure { file: Some("a"), reason: Reason::Damaged, message: "cut short", rows_delivered: 2 };
        let received = received(
            &[
                rows("a", 0, &["{}", "{}"], &[]),
                Message::completed(&facts(), &[], 3, 0),
                rows("a", 2, &["{}"], &[]),
                Message::failed(&facts(), &[], &failure, None),
            ],
            true,
        );
        let drop = &received.drops[DROP];
        assert_eq!((drop.completed[0].rows, drop.completed[0].rows_before), (3, 2));
        assert_eq!(drop.failed[0].reason, "damaged");
        assert_eq!(drop.failed[0].file.as_deref(), Some("a"));
    }

    #[test]
    fn a_batch_that_does_not_account_for_its_rows_is_no_message() {
        let mut message = rows("a", 0, &["{}", "{}"], &[]);
        let text = String::from_utf8(message.body.to_vec()).unwrap();
        message.body = text.replace("\"endRow\":2", "\"endRow\":3").into();
        assert!(open(&message).err().unwrap().contains("`endRow`"));
    }
}
