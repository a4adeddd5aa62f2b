//! Finds the columns of attributes in a decoded row.
//!
//! The rows of a file nearly always have the same members in the same order. So each member is compared with the one at
//! its position in the row before; only a member that differs is looked up by name. Reading a row allocates nothing.

use std::{borrow::Cow, collections::HashMap};

use super::{
    decimal::{Scale, sum_in_billionths},
    definitions::Attribute,
};
use crate::{
    json::{
        members::{end_of_value, is_number, string_value},
        scanner as json,
    },
    person_id::PersonId,
};

/// Columns that every row may have, besides those of the attributes.
const OBJECT_ID: &str = "ObjectId";
const METRIC_DATE: &str = "MetricDate";
const IS_ACTIVE: &str = "IsActive";

/// The slots of these columns.
const OBJECT_ID_SLOT: usize = 0;
const METRIC_DATE_SLOT: usize = 1;
const IS_ACTIVE_SLOT: usize = 2;

/// How many members of a row are remembered.
const MAX_EXPECTED: usize = 1_000;

/// Finds the values of the columns that a pass needs.
pub(super) struct ColumnReader {
    /// The slot of each column, by name.
    slots: HashMap<Vec<u8>, usize>,
    /// By attribute: the slot of its column, and those of older columns.
    attributes: Vec<(usize, Vec<usize>)>,
    /// The members of the row before, in order.
    expected: Vec<ExpectedMember>,
    /// By slot: where the value of the row that was read last begins and ends; `None` if it has none.
    values: Vec<Option<(usize, usize)>>,
}

/// A member of a row, as it is expected at the same position of the next row.
struct ExpectedMember {
    /// The text of its name, with quotes and colon.
    head: Vec<u8>,
    /// The slot of its value, if the column is needed.
    slot: Option<usize>,
}

/// The values of one row.
pub(super) struct MetricRow<'a> {
    reader: &'a ColumnReader,
    row: &'a [u8],
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
        let values = vec![None; slots.len()];
        Self { slots, attributes, expected: Vec::new(), values }
    }

    /// The names of all columns that are read.
    pub(super) fn names(attributes: &[Attribute]) -> Vec<String> {
        let metrics =
            attributes.iter().flat_map(|attribute| std::iter::once(&attribute.column).chain(&attribute.older_columns));
        [OBJECT_ID, METRIC_DATE, IS_ACTIVE].into_iter().map(String::from).chain(metrics.cloned()).collect()
    }

    /// Reads a decoded row. Of a column that is there twice the last counts.
    pub(super) fn read<'a>(&'a mut self, row: &'a [u8]) -> MetricRow<'a> {
        self.values.fill(None);
        let mut next = json::after(row, json::space_end(row, 0), b'{');
        let mut position = 0;
        while let Some(after) = next {
            next = self.read_member(row, json::space_end(row, after), position);
            position += 1;
        }
        MetricRow { reader: self, row }
    }

    /// Reads the member that begins at `start` and is the `position`th of its row. Returns the position after its
    /// comma, or
    /// `None` if it is the last one.
    fn read_member(&mut self, row: &[u8], start: usize, position: usize) -> Option<usize> {
        let expected = self.expected.get(position).filter(|expected| row[start..].starts_with(&expected.head));
        let (slot, value) = match expected {
            Some(expected) => (expected.slot, start + expected.head.len()),
            None => self.read_name(row, start, position)?,
        };
        let value = json::space_end(row, value);
        let end = end_of_value(row, value)?;
        if let Some(slot) = slot {
            self.values[slot] = Some((value, end));
        }
        json::after(row, json::space_end(row, end), b',')
    }

    /// Reads the name of a member and remembers it. Returns the slot of its value, and where that begins.
    fn read_name(&mut self, row: &[u8], start: usize, position: usize) -> Option<(Option<usize>, usize)> {
        let name = json::name(row, start)?;
        let text = json::unescaped(&row[start..name.end], name.has_escapes);
        let slot = text.and_then(|text| self.slots.get(&*text).copied());
        let member = ExpectedMember { head: row[start..name.value].trim_ascii_end().to_vec(), slot };
        match self.expected.get_mut(position) {
            Some(expected) => *expected = member,
            None if position < MAX_EXPECTED => self.expected.push(member),
            None => {}
        }
        Some((slot, name.value))
    }
}

impl<'a> MetricRow<'a> {
    /// The JSON text of the value in a slot.
    fn json(&self, slot: usize) -> Option<&'a [u8]> {
        self.reader.values[slot].map(|(start, end)| &self.row[start..end])
    }

    fn text(&self, slot: usize) -> Option<Cow<'a, [u8]>> {
        string_value(self.json(slot)?)
    }

    pub(super) fn person(&self) -> Option<PersonId> {
        PersonId::parse(&self.text(OBJECT_ID_SLOT)?)
    }

    /// The JSON text of the date, if there is one, even if it cannot be read.
    pub(super) fn date(&self) -> Option<&'a [u8]> {
        self.json(METRIC_DATE_SLOT).filter(|value| *value != b"null")
    }

    /// Whether `IsActive` is anything but false.
    pub(super) fn is_active(&self) -> bool {
        self.json(IS_ACTIVE_SLOT) != Some(b"false")
    }

    /// The value of an attribute in billionths: that of its column if the row has it, even if it is no number, else the
    /// sum of the older columns that are numbers.
    pub(super) fn value(&self, attribute: usize, scale: Scale) -> Option<u64> {
        let (column, older) = &self.reader.attributes[attribute];
        let has_column = self.reader.values[*column].is_some();
        let slots = if has_column { std::slice::from_ref(column) } else { older.as_slice() };
        let numbers = slots.iter().filter_map(|&slot| number(self.json(slot)?));
        sum_in_billionths(numbers, scale)
    }
}

/// The text of a value that is a number, or a number in a string. A string with escapes is none: digits need no
/// escapes, and a decoder unescapes those of metric columns.
fn number(value: &[u8]) -> Option<&[u8]> {
    let text = value.strip_prefix(b"\"").and_then(|text| text.strip_suffix(b"\"")).unwrap_or(value);
    is_number(text).then_some(text)
}
