//! Finds the columns of attributes in a decoded row.

use std::{borrow::Cow, collections::HashMap};

use time::Date;

use super::{
    calendar::metric_date,
    decimal::{Scale, sum_in_billionths},
    definitions::Attribute,
};
use crate::{
    json::members::{is_number, members, string_value},
    person_id::PersonId,
};

/// Columns that every row may have, besides those of the attributes.
const OBJECT_ID: &str = "ObjectId";
const METRIC_DATE: &str = "MetricDate";
const IS_ACTIVE: &str = "IsActive";

/// Finds the values of the columns that a pass needs.
pub(super) struct ColumnReader {
    /// The slot of each column, by name.
    slots: HashMap<Vec<u8>, usize>,
    /// By attribute: the slot of its column, and those of older columns.
    attributes: Vec<(usize, Vec<usize>)>,
}

/// The values of one row.
pub(super) struct MetricRow<'a> {
    reader: &'a ColumnReader,
    values: Vec<Option<&'a [u8]>>,
}

impl ColumnReader {
    pub(super) fn new(attributes: &[Attribute]) -> Self {
        let mut slots: HashMap<Vec<u8>, usize> = HashMap::new();
        let mut slot = |name: &str| {
            let next = slots.len();
            *slots.entry(name.as_bytes().to_vec()).or_insert(next)
        };
        for name in [OBJECT_ID, METRIC_DATE, IS_ACTIVE] {
            slot(name);
        }
        let attributes = attributes.iter().map(|attribute| {
            let column = slot(&attribute.column);
            (column, attribute.older_columns.iter().map(|name| slot(name)).collect())
        });
        let attributes = attributes.collect();
        Self { slots, attributes }
    }

    /// The names of all columns that are read.
    pub(super) fn names(attributes: &[Attribute]) -> Vec<String> {
        let metrics =
            attributes.iter().flat_map(|attribute| std::iter::once(&attribute.column).chain(&attribute.older_columns));
        [OBJECT_ID, METRIC_DATE, IS_ACTIVE].into_iter().map(String::from).chain(metrics.cloned()).collect()
    }

    /// Reads a decoded row. Of a column that is there twice the last counts.
    pub(super) fn read<'a>(&'a self, row: &'a [u8]) -> MetricRow<'a> {
        let mut values = vec![None; self.slots.len()];
        for member in members(row) {
            if let Some(&slot) = self.slots.get(&*member.name) {
                values[slot] = Some(member.value);
            }
        }
        MetricRow { reader: self, values }
    }
}

impl<'a> MetricRow<'a> {
    fn text(&self, slot: usize) -> Option<Cow<'a, [u8]>> {
        string_value(self.values[slot]?)
    }

    pub(super) fn person(&self) -> Option<PersonId> {
        PersonId::parse(&self.text(0)?)
    }

    /// Whether there is a date, even if it cannot be read.
    pub(super) fn has_date(&self) -> bool {
        self.values[1].is_some_and(|value| value != b"null")
    }

    pub(super) fn date(&self) -> Option<Date> {
        metric_date(&self.text(1)?)
    }

    /// Whether `IsActive` is anything but false.
    pub(super) fn is_active(&self) -> bool {
        self.values[2] != Some(b"false")
    }

    /// The value of an attribute in billionths: that of its column if the row has it, even if it is no number, else the sum of
    /// the older columns that are numbers.
    pub(super) fn value(&self, attribute: usize, scale: Scale) -> Option<u64> {
        let (column, older) = &self.reader.attributes[attribute];
        let slots = if self.values[*column].is_some() { std::slice::from_ref(column) } else { older.as_slice() };
        let numbers = slots.iter().filter_map(|&slot| number(self.values[slot]?));
        sum_in_billionths(numbers, scale)
    }
}

/// The text of a value that is a number, or a number in a string. A string with escapes is none: digits need no escapes, and a
/// decoder unescapes those of metric columns.
fn number(value: &[u8]) -> Option<&[u8]> {
    let text = value.strip_prefix(b"\"").and_then(|text| text.strip_suffix(b"\"")).unwrap_or(value);
    is_number(text).then_some(text)
}
