//! Parses decoded rows: whose they are, their dates and the values of attributes.

use std::borrow::Cow;

use time::Date;

use super::{
    calendar::{Period, Window},
    date_cache::{DateCache, Found},
    decimal::{Scale, sum_in_billionths},
    definitions::Definitions,
    people::{PersonRows, PersonRowsBuffers},
};
use crate::{
    json::members::{is_number, string_value},
    person_id::PersonId,
    stage::decode::Rows,
};

/// Columns that every row may have, besides those of the attributes.
const OBJECT_ID: &str = "ObjectId";
const METRIC_DATE: &str = "MetricDate";
const IS_ACTIVE: &str = "IsActive";

/// The slots of these columns.
const OBJECT_ID_SLOT: usize = 0;
const METRIC_DATE_SLOT: usize = 1;
const IS_ACTIVE_SLOT: usize = 2;

/// Parses decoded rows for a [`CyclePass`](super::CyclePass). Several threads may use it at once.
pub struct RowParser {
    /// How many columns are read. The slot of a column is its number among them.
    slots: usize,
    attributes: Vec<AttributeColumns>,
    window: Window,
    include_inactive_weeks: bool,
    weekly: PersonRowsBuffers,
    monthly: PersonRowsBuffers,
}

/// Where the value of an attribute is found.
struct AttributeColumns {
    /// The slot of its column.
    column: usize,
    /// The slots of older columns, which count if a row does not have the column.
    older: Vec<usize>,
    /// Whether values are hours, which depend on the length of the period.
    is_in_hours: bool,
}

/// The rows of a block, as far as a pass needs them.
#[derive(Debug, Default)]
pub struct ParsedRows {
    /// The dates of the rows, in the window or not. A date may repeat.
    pub(super) dates: Vec<Date>,
    /// Whether a row has no date, or one that cannot be read.
    pub(super) has_undated_row: bool,
    /// Whether a row has a date that cannot be read.
    pub(super) has_unreadable_date: bool,
    /// The rows that count if the drop has a row for each week.
    weekly: PersonRows,
    /// The rows that count if the drop has a row for each month.
    monthly: PersonRows,
}

impl ParsedRows {
    /// The rows that count if the rows of the drop cover `period`.
    pub(super) fn of_period(&self, period: Period) -> &PersonRows {
        match period {
            Period::Week => &self.weekly,
            Period::Month => &self.monthly,
        }
    }
}

impl RowParser {
    /// A parser for the cycle whose rows lie in `window`.
    pub fn new(definitions: &Definitions, window: Window) -> Self {
        let columns = Self::columns(definitions);
        let slot = |name: &String| columns.iter().position(|column| column == name).expect("all names are columns");
        let attributes = definitions.attributes.iter().map(|attribute| AttributeColumns {
            column: slot(&attribute.column),
            older: attribute.older_columns.iter().map(slot).collect(),
            is_in_hours: attribute.unit == "Hour",
        });
        let attributes = attributes.collect();
        Self {
            slots: columns.len(),
            attributes,
            window,
            include_inactive_weeks: definitions.include_inactive_weeks,
            weekly: PersonRowsBuffers::default(),
            monthly: PersonRowsBuffers::default(),
        }
    }

    /// The names of all columns that are read, each once. The rows to parse must be decoded with these columns, and
    /// with the places of their values recorded.
    pub fn columns(definitions: &Definitions) -> Vec<String> {
        let mut columns = [OBJECT_ID, METRIC_DATE, IS_ACTIVE].map(String::from).to_vec();
        for attribute in &definitions.attributes {
            for name in std::iter::once(&attribute.column).chain(&attribute.older_columns) {
                if !columns.contains(name) {
                    columns.push(name.clone());
                }
            }
        }
        columns
    }

    /// Parses decoded rows.
    pub fn parse(&self, rows: &Rows) -> ParsedRows {
        let (weekly, monthly) = (self.weekly.take(), self.monthly.take());
        let mut parsed = ParsedRows { weekly, monthly, ..ParsedRows::default() };
        let (mut row, mut dates) = (MetricRow(vec![None; self.slots]), DateCache::default());
        for values in rows.recorded() {
            row.read(values);
            let text = row.date();
            let Some(Found { date, is_new }) = text.and_then(|text| dates.find(text)) else {
                parsed.has_undated_row = true;
                parsed.has_unreadable_date |= text.is_some();
                continue;
            };
            if is_new {
                parsed.dates.push(date);
            }
            let counts = self.include_inactive_weeks || row.is_active();
            let Some(person) = row.person().filter(|_| counts && self.window.contains(date)) else { continue };
            // Few dates are both a Sunday and the first of a month.
            for (period, rows) in [(Period::Week, &mut parsed.weekly), (Period::Month, &mut parsed.monthly)] {
                if period.may_have(date) {
                    let to_week = period.to_week(date);
                    let value = |columns| row.value(columns, to_week);
                    rows.push(person, self.window.week_of(date), self.attributes.iter().map(value));
                }
            }
        }
        parsed
    }
}

/// The JSON texts of the values of one row, by slot.
struct MetricRow<'a>(Vec<Option<&'a [u8]>>);

impl<'a> MetricRow<'a> {
    /// Replaces the values by those of another row. If a row has a column twice, the last value counts.
    fn read(&mut self, values: impl Iterator<Item = (usize, &'a [u8])>) {
        self.0.fill(None);
        for (slot, value) in values {
            self.0[slot] = Some(value);
        }
    }

    fn text(&self, slot: usize) -> Option<Cow<'a, [u8]>> {
        string_value(self.0[slot]?)
    }

    fn person(&self) -> Option<PersonId> {
        PersonId::parse(&self.text(OBJECT_ID_SLOT)?)
    }

    /// The JSON text of the date, if there is one, even if it cannot be read.
    fn date(&self) -> Option<&'a [u8]> {
        self.0[METRIC_DATE_SLOT].filter(|value| *value != b"null")
    }

    /// Whether `IsActive` is anything but false.
    fn is_active(&self) -> bool {
        self.0[IS_ACTIVE_SLOT] != Some(b"false")
    }

    /// The value of an attribute in billionths: the value of its column if the row has that column, even if it is not a
    /// number; otherwise the sum of the older columns that are numbers.
    fn value(&self, AttributeColumns { column, older, is_in_hours }: &AttributeColumns, to_week: Scale) -> Option<u64> {
        let slots = if self.0[*column].is_some() { std::slice::from_ref(column) } else { older.as_slice() };
        let numbers = slots.iter().filter_map(|&slot| number(self.0[slot]?));
        sum_in_billionths(numbers, if *is_in_hours { to_week } else { Scale::ONE })
    }
}

/// The text of a value that is a number, or a number in a string.
fn number(value: &[u8]) -> Option<Cow<'_, [u8]>> {
    match value {
        // The row is valid JSON.
        [b'0'..=b'9' | b'-', ..] => Some(value.into()),
        _ => string_value(value).filter(|text| is_number(text)),
    }
}
