//! A message as it is read: the contract of `message` from the other side.

use axum::http::HeaderMap;
use serde::Deserialize;
use serde_json::value::RawValue;
use standardwebhooks::{HEADER_WEBHOOK_ID, HEADER_WEBHOOK_TIMESTAMP};

use super::{Delivery, Failed};

/// A message, read.
pub(super) struct Parcel {
    pub(super) delivery: Delivery,
    pub(super) facts: Facts,
    pub(super) content: Content,
}

pub(super) enum Content {
    Rows(Batch),
    Completed(Ending),
    Failed(Failed),
    /// Of no drop.
    Check,
}

#[derive(Deserialize)]
struct Envelope<'a> {
    id: String,
    r#type: String,
    #[serde(borrow)]
    data: &'a RawValue,
}

#[derive(Deserialize)]
struct AnyData {
    drop: Facts,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Facts {
    pub(super) id: Option<String>,
    pub(super) tenant_id: String,
    pub(super) path: String,
    pub(super) table: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Batch {
    pub(super) file: String,
    pub(super) first_row: u64,
    pub(super) end_row: u64,
    pub(super) identified: bool,
    pub(super) rows: Vec<Box<RawValue>>,
    #[serde(default)]
    pub(super) bad_rows: Vec<BadRow>,
}

#[derive(Deserialize)]
pub(super) struct BadRow {
    pub(super) row: u64,
    pub(super) reason: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Ending {
    pub(super) files: u64,
    pub(super) rows: u64,
    pub(super) bad_rows: u64,
}

impl Parcel {
    /// Reads a message, or says what is wrong with it.
    pub(super) fn open(headers: &HeaderMap, text: &[u8]) -> Result<Self, String> {
        let envelope: Envelope<'_> = read(text)?;
        if header_text(headers, HEADER_WEBHOOK_ID) != Some(&envelope.id) {
            return Err("expected the message's `id` to be its webhook-id".into());
        }
        let timestamp = header_text(headers, HEADER_WEBHOOK_TIMESTAMP).and_then(|text| text.parse().ok());
        let timestamp = timestamp.ok_or("expected a webhook-timestamp in seconds")?;

        let data = envelope.data.get().as_bytes();
        let facts = match envelope.r#type.as_str() {
            "vivadrop.check" => Facts::default(),
            _ => read::<AnyData>(data)?.drop,
        };
        let content = match envelope.r#type.as_str() {
            "vivadrop.check" => Content::Check,
            "viva.insights.rows" => Content::Rows(read::<Batch>(data)?.checked()?),
            "viva.insights.drop.completed" => Content::Completed(read(data)?),
            "viva.insights.drop.failed" => Content::Failed(read(data)?),
            _ => return Err("expected a `type` of viva.insights".into()),
        };
        let (file, rows) = match &content {
            Content::Rows(batch) => (Some(batch.file.clone()), Some((batch.first_row, batch.end_row))),
            Content::Completed(_) | Content::Check => (None, None),
            Content::Failed(failed) => (failed.file.clone(), None),
        };
        let delivery = Delivery {
            id: envelope.id,
            timestamp,
            kind: envelope.r#type,
            drop: facts.path.clone(),
            file,
            rows,
            headers: headers.clone(),
        };
        Ok(Self { delivery, facts, content })
    }
}

impl Batch {
    /// A batch accounts for each of its rows, good or bad.
    fn checked(self) -> Result<Self, String> {
        let range = self.first_row..self.end_row;
        let bad_rows_are_in_range = self.bad_rows.iter().all(|bad| range.contains(&bad.row));
        let accounted = (self.rows.len() + self.bad_rows.len()) as u64;
        if !bad_rows_are_in_range || range.end.checked_sub(range.start) != Some(accounted) {
            return Err("expected one row, or one bad row, for each number from `firstRow` to `endRow`".into());
        }
        Ok(self)
    }
}

/// Errors of serde_json may quote what they read: the place is enough.
fn read<'a, T: Deserialize<'a>>(text: &'a [u8]) -> Result<T, String> {
    serde_json::from_slice(text).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        format!("no message: unexpected JSON at line {line}, column {column}")
    })
}

fn header_text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}
