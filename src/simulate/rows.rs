//! The text of rows: one JSON object per line, ordered by week and then by person, with the columns and number formats
//! of real drops.

use std::ops::Range;

use base64::{Engine, engine::general_purpose::STANDARD};
use uuid::{Uuid, fmt::Hyphenated};

use super::{
    Cipher, SimulateOptions,
    encrypt::Encryptor,
    numbers,
    people::{METRICS, Person},
    period::Period,
    secrets::DropKeys,
};
use crate::keys::AesKey;

/// The metrics that real drops give in double precision; the others are in single precision.
const DOUBLES: [&str; 3] = ["AfterHoursCollaboration", "CollaborationHours", "CollaborationHoursExternal"];

/// More than the size of a row, in bytes, so that the text of several rows is allocated once.
const ROW_BYTES: usize = 1_100;

/// Generates any rows of a drop.
pub(super) struct Rows {
    seed: u64,
    users: u64,
    metric_dates: Vec<String>,
    columns: Columns,
    cipher: Cipher,
    key: AesKey,
}

impl Rows {
    /// The rows of a drop with `options`.
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

    /// The seed of the people.
    pub(super) fn seed(&self) -> u64 {
        self.seed
    }

    /// The lines of the rows in `range`. Row `r` belongs to person `r % users` in week `r / users`.
    pub(super) fn text(&self, range: Range<u64>) -> Vec<u8> {
        let mut text = Vec::with_capacity(range.clone().count() * ROW_BYTES);
        for row in range {
            self.push_row(&mut text, row);
        }
        text
    }

    fn push_row(&self, text: &mut Vec<u8>, row: u64) {
        // Less than `weeks`, which is a u32.
        let week = (row / self.users) as u32;
        let person = Person::of(self.seed, row % self.users);
        let (active, hours) = person.week(self.seed, row % self.users, week);

        text.extend_from_slice(br#"{"ObjectId":""#);
        push_encrypted(text, person.object_id, Encryptor::new(self.cipher, &self.key));
        text.extend_from_slice(br#"","MetricDate":""#);
        text.extend_from_slice(self.metric_dates[week as usize].as_bytes());
        text.extend_from_slice(b"\"");
        for (column, hours) in self.columns.metrics.iter().zip(hours) {
            text.extend_from_slice(column.before.as_bytes());
            if column.is_double {
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

/// The text between the values, from the first metric on.
struct Columns {
    metrics: Vec<MetricColumn>,
    before_historical_id: String,
    before_active: String,
    end: String,
}

struct MetricColumn {
    /// The text before the value.
    before: String,
    is_double: bool,
}

impl Columns {
    fn new(strings: bool) -> Self {
        let quote = if strings { "\"" } else { "" };
        let metric = |(index, name): (usize, &&str)| {
            let end_of_last = if index > 0 { quote } else { "" };
            MetricColumn { before: format!("{end_of_last},\"{name}\":{quote}"), is_double: DOUBLES.contains(name) }
        };
        Self {
            metrics: METRICS.iter().enumerate().map(metric).collect(),
            before_historical_id: format!("{quote},\"PeopleHistoricalId\":\""),
            // Real ids end with 0001-01-01T12:00:00Z in Unix seconds.
            before_active: format!("-62135553600\",\"IsActive\":{quote}"),
            end: format!("{quote}}}\n"),
        }
    }
}

/// Appends the encrypted text of `id` in Base64. Every value is encrypted with the same IV, so `encryptor` must be new.
fn push_encrypted(text: &mut Vec<u8>, id: Uuid, encryptor: Encryptor) {
    let mut bytes = Vec::with_capacity(Hyphenated::LENGTH + 16);
    push_guid(&mut bytes, id);
    encryptor.finish(&mut bytes);
    push_base64(text, &bytes);
}

fn push_base64(text: &mut Vec<u8>, bytes: &[u8]) {
    let begin = text.len();
    text.resize(begin + bytes.len().div_ceil(3) * 4, 0);
    STANDARD.encode_slice(bytes, &mut text[begin..]).expect("the buffer has the size of the Base64");
}

fn push_guid(text: &mut Vec<u8>, id: Uuid) {
    text.extend_from_slice(id.hyphenated().encode_lower(&mut [0; Hyphenated::LENGTH]).as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_does_not_depend_on_the_range_it_is_generated_in() {
        let options = SimulateOptions { users: 30, seed: Some(1), ..SimulateOptions::default() };
        let rows = Rows::new(&options, &Period::of(13, true).unwrap(), &DropKeys::random());
        assert_eq!(rows.text(0..390), [rows.text(0..123), rows.text(123..390)].concat());
        assert!(rows.text(7..7).is_empty());
    }
}
