//! The text of rows: one JSON object a line, by week and then by person, in the columns and the spelling of real drops.
//!
//! Knows what a row looks like and nothing of files.

use std::ops::Range;

use base64::{Engine, engine::general_purpose::STANDARD};
use uuid::{Uuid, fmt::Hyphenated};

use super::{
    Cipher, SimulateOptions,
    encrypt::Seal,
    metadata::Period,
    numbers,
    people::{FIGURES, Person},
    secrets::DropKeys,
};
use crate::keys::AesKey;

/// The metric columns, in order.
pub(super) const METRICS: [&str; FIGURES] = [
    "AfterHoursCollaboration",
    "AfterHoursCollaborationEmails",
    "AfterHoursCollaborationInstantMessages",
    "AfterHoursCollaborationMeetings",
    "AfterHoursCollaborationScheduledCalls",
    "AfterHoursCollaborationAdhocCalls",
    "CollaborationHours",
    "CollaborationHoursEmails",
    "CollaborationHoursExternal",
    "CollaborationHoursInstantMessages",
    "CollaborationHoursMeetings",
    "CollaborationHoursScheduledCalls",
    "CollaborationHoursAdhocCalls",
    "ConflictingMeetingHours",
    "DirectManagerMeetingHours",
    "OneOnOneMeetingHours",
    "SkipLevelMeetingHours",
    "TotalFocusHours",
];

/// The metrics that are sums: in double precision, as later drops have metrics, while the others are in single precision.
const SUMS: [&str; 3] = ["AfterHoursCollaboration", "CollaborationHours", "CollaborationHoursExternal"];

/// Room for a row, so that the text of some is allocated once.
const ROW_BYTES: usize = 1_100;

/// All rows of a drop, made when they are asked for.
pub(super) struct Rows {
    seed: u64,
    users: u64,
    metric_dates: Vec<String>,
    columns: Columns,
    cipher: Cipher,
    key: AesKey,
}

impl Rows {
    /// The rows that `options` describe.
    pub(super) fn new(options: &SimulateOptions, period: &Period, keys: &DropKeys) -> Self {
        Self {
            seed: options.seed.unwrap_or_else(|| fastrand::u64(..)),
            users: options.users,
            metric_dates: period.metric_dates(),
            columns: Columns::new(options.string_metrics),
            cipher: options.column_cipher,
            key: keys.column.clone(),
        }
    }

    /// The lines of `range`. Row `r` is of person `r % users` in week `r / users`.
    pub(super) fn text(&self, range: Range<u64>) -> Vec<u8> {
        let mut text = Vec::with_capacity(range.clone().count() * ROW_BYTES);
        for row in range {
            self.push_row(&mut text, row);
        }
        text
    }

    fn push_row(&self, text: &mut Vec<u8>, row: u64) {
        // At most `weeks`, which is a u32.
        let week = (row / self.users) as u32;
        let person = Person::of(self.seed, row % self.users);
        let (active, hours) = person.week(self.seed, row % self.users, week);

        text.extend_from_slice(br#"{"ObjectId":""#);
        push_encrypted(text, person.object_id, Seal::new(self.cipher, &self.key));
        text.extend_from_slice(br#"","MetricDate":""#);
        text.extend_from_slice(self.metric_dates[week as usize].as_bytes());
        text.extend_from_slice(b"\"");
        for (column, hours) in self.columns.metrics.iter().zip(hours) {
            text.extend_from_slice(column.before.as_bytes());
            if column.is_sum {
                numbers::push_double(text, hours);
            } else {
                numbers::push_single(text, hours as f32);
            }
        }
        text.extend_from_slice(self.columns.before_historical_id.as_bytes());
        push_guid(text, person.historical_id);
        text.extend_from_slice(self.columns.before_active.as_bytes());
        text.extend_from_slice(if active { b"true" } else { b"false" });
        text.extend_from_slice(self.columns.end.as_bytes());
    }
}

/// What stands between the values, behind `MetricDate`.
struct Columns {
    metrics: Vec<Metric>,
    before_historical_id: String,
    before_active: String,
    end: String,
}

struct Metric {
    before: String,
    is_sum: bool,
}

impl Columns {
    fn new(strings: bool) -> Self {
        let quote = if strings { "\"" } else { "" };
        let metric = |(at, name): (usize, &&str)| {
            let behind_metric = if at > 0 { quote } else { "" };
            Metric { before: format!("{behind_metric},\"{name}\":{quote}"), is_sum: SUMS.contains(name) }
        };
        Self {
            metrics: METRICS.iter().enumerate().map(metric).collect(),
            before_historical_id: format!("{quote},\"PeopleHistoricalId\":\""),
            // Real ids end in 0001-01-01T12:00:00Z, in Unix seconds.
            before_active: format!("-62135553600\",\"IsActive\":{quote}"),
            end: format!("{quote}}}\n"),
        }
    }
}

/// Appends the Base64 of the encrypted text of `id`. Every value is encrypted from the IV on, so `seal` is a fresh one.
fn push_encrypted(text: &mut Vec<u8>, id: Uuid, seal: Seal) {
    let mut bytes = Vec::with_capacity(Hyphenated::LENGTH + 16);
    push_guid(&mut bytes, id);
    seal.finish(&mut bytes);
    push_base64(text, &bytes);
}

fn push_base64(text: &mut Vec<u8>, bytes: &[u8]) {
    let begin = text.len();
    text.resize(begin + bytes.len().div_ceil(3) * 4, 0);
    let written = STANDARD.encode_slice(bytes, &mut text[begin..]);
    debug_assert!(written.is_ok(), "Base64 of {} bytes", bytes.len());
}

fn push_guid(text: &mut Vec<u8>, id: Uuid) {
    text.extend_from_slice(id.hyphenated().encode_lower(&mut [0; Hyphenated::LENGTH]).as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_the_same_from_whichever_row_on_they_are_made() {
        let options = SimulateOptions { users: 30, seed: Some(1), ..SimulateOptions::default() };
        let rows = Rows::new(&options, &Period::of(13, true).unwrap(), &DropKeys::random());
        assert_eq!(rows.text(0..390), [rows.text(0..123), rows.text(123..390)].concat());
        assert!(rows.text(7..7).is_empty());
    }
}
