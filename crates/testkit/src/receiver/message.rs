//! Decodes a message. Written from the documented format alone, independently of vivadrop's `message` module.

use axum::{body::Bytes, http::HeaderMap};
use serde::Deserialize;
use serde_json::value::RawValue;
use standardwebhooks::{HEADER_WEBHOOK_ID, HEADER_WEBHOOK_TIMESTAMP};

use super::{Delivery, Failed};

/// A well-formed message.
pub(super) struct DecodedMessage {
    pub(super) delivery: Delivery,
    pub(super) drop: DropMembers,
    pub(super) content: Content,
}

pub(super) enum Content {
    Rows(Batch),
    Completed(Ending),
    Failed(Failed),
    /// A message about survey attributes: its JSON text.
    Attributes(Bytes),
    /// A `vivadrop.check`, which belongs to no drop.
    Check,
}

#[derive(Deserialize)]
struct Envelope<'a> {
    id: String,
    r#type: String,
    #[serde(borrow)]
    data: &'a RawValue,
}

#[derive(Default, Deserialize)]
struct AnyData {
    #[serde(default)]
    drop: DropMembers,
    sequence: Option<u64>,
}

/// The members of `data.drop` that the receiver uses.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct DropMembers {
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

impl DecodedMessage {
    /// Decodes a message; the error says what is wrong with it, for the response.
    pub(super) fn parse(headers: &HeaderMap, text: &Bytes) -> Result<Self, String> {
        let envelope: Envelope<'_> = parse_json(text)?;
        if header_text(headers, HEADER_WEBHOOK_ID) != Some(&envelope.id) {
            return Err("expected the header webhook-id to equal the message's `id`".into());
        }
        let timestamp = header_text(headers, HEADER_WEBHOOK_TIMESTAMP).and_then(|text| text.parse().ok());
        let timestamp = timestamp.ok_or("expected the header webhook-timestamp in seconds")?;

        let data = envelope.data.get().as_bytes();
        let AnyData { drop, sequence } = match envelope.r#type.as_str() {
            "vivadrop.check" => AnyData::default(),
            _ => parse_json(data)?,
        };
        let content = match envelope.r#type.as_str() {
            "vivadrop.check" => Content::Check,
            "viva.insights.rows" => Content::Rows(parse_json::<Batch>(data)?.checked()?),
            "viva.insights.drop.completed" => Content::Completed(parse_json(data)?),
            "viva.insights.drop.failed" => Content::Failed(parse_json(data)?),
            kind if kind.starts_with("viva.insights.attributes") => Content::Attributes(text.clone()),
            _ => return Err("expected a known `type`: vivadrop.check or viva.insights.*".into()),
        };
        let (file, rows) = match &content {
            Content::Rows(batch) => (Some(batch.file.clone()), Some((batch.first_row, batch.end_row))),
            Content::Completed(_) | Content::Attributes(_) | Content::Check => (None, None),
            Content::Failed(failed) => (failed.file.clone(), None),
        };
        let delivery = Delivery {
            id: envelope.id,
            timestamp,
            kind: envelope.r#type,
            drop: drop.path.clone(),
            file,
            sequence,
            rows,
            headers: headers.clone(),
        };
        Ok(Self { delivery, drop, content })
    }
}

impl Batch {
    /// Checks that every row number of the batch has a row or a bad row.
    fn checked(self) -> Result<Self, String> {
        let range = self.first_row..self.end_row;
        let bad_rows_are_in_range = self.bad_rows.iter().all(|bad| range.contains(&bad.row));
        let count = (self.rows.len() + self.bad_rows.len()) as u64;
        if !bad_rows_are_in_range || range.end.checked_sub(range.start) != Some(count) {
            return Err("expected one row or bad row for each number from `firstRow` up to `endRow`".into());
        }
        Ok(self)
    }
}

/// Parses JSON. The error gives the position only, because errors of serde_json may quote row values.
fn parse_json<'a, T: Deserialize<'a>>(text: &'a [u8]) -> Result<T, String> {
    serde_json::from_slice(text).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        format!("invalid message: unexpected JSON at line {line}, column {column}")
    })
}

fn header_text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}
