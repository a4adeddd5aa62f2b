//! Employee attributes for survey platforms, computed from decoded rows. Does no I/O.
//!
//! An attribute is a person's weekly metric, averaged over the twelve weeks before a survey cycle closes and reported as one of
//! four ranges. A [`CyclePass`] takes the rows of a drop and adds them up by person; its [`CycleReport`] has each person's
//! ranges and the number of people in each range, with small groups withheld. Sums are exact integers, so the order of the
//! rows does not matter.

mod calendar;
mod confidentiality;
mod decimal;
mod definitions;
mod people;
mod person_json;
mod rows;
mod schedule;

use std::collections::BTreeSet;

use time::Date;

pub use self::{
    calendar::{Period, Window},
    confidentiality::{RANGES, withheld},
    definitions::{Attribute, Cycle, DefaultAttribute, Definitions, InvalidDefinitions, Program, default_attributes},
    people::TooManyPeople,
    schedule::DueCycle,
};
use self::{
    decimal::{BILLIONTHS, millionths_text},
    people::People,
    rows::{ColumnReader, MetricRow},
};
use crate::person_id::PersonId;

/// Billionths in a millionth.
const BILLIONTHS_IN_A_MILLIONTH: u64 = BILLIONTHS / 1_000_000;

/// Why a cycle has no result. `Display` begins with the reason as messages spell it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CycleFailure {
    /// A row has a date that is neither a Sunday nor the first of a month, or the drop has no rows with dates.
    #[error("not-weekly: the dates of the rows are neither all Sundays nor all firsts of months")]
    NotWeekly,
    /// The drop has no Column key, so that nobody can be identified.
    #[error("not-identified: the drop has no Column key, so its rows do not say whose they are")]
    NotIdentified,
    /// Fewer people than the confidentiality threshold have rows in the window.
    #[error("too-few-people: {people} people have rows in the window, and the minimum group size is {min_group_size}")]
    TooFewPeople {
        /// People with at least one row that counts.
        people: usize,
        /// `minGroupSize`.
        min_group_size: u64,
    },
    /// The table of people would exceed its memory bound.
    #[error("too-many-people: {0}")]
    TooManyPeople(#[from] TooManyPeople),
}

/// One pass over the rows of a drop for one cycle.
pub struct CyclePass<'a> {
    definitions: &'a Definitions,
    window: Window,
    columns: ColumnReader,
    /// The dates of all rows, in the window or not.
    dates: BTreeSet<Date>,
    /// One for each period that all dates so far agree with. Few dates are both a Sunday and the first of a month, so one of
    /// two goes after a few rows.
    candidates: Vec<Candidate>,
    values: Vec<Option<u64>>,
}

/// The sums so far, if the rows cover `period`.
struct Candidate {
    period: Period,
    people: People,
}

impl<'a> CyclePass<'a> {
    /// Begins a pass for the cycle whose rows lie in `window`; the table of people takes at most `memory` bytes.
    pub fn new(definitions: &'a Definitions, window: Window, memory: usize) -> Self {
        let attributes = definitions.attributes.len();
        let candidate = |period| Candidate { period, people: People::new(attributes, memory) };
        Self {
            definitions,
            window,
            columns: ColumnReader::new(&definitions.attributes),
            dates: BTreeSet::new(),
            candidates: vec![candidate(Period::Week), candidate(Period::Month)],
            values: vec![None; attributes],
        }
    }

    /// The columns that a pass reads: decoding may leave out all others.
    pub fn columns(definitions: &Definitions) -> Vec<String> {
        ColumnReader::names(&definitions.attributes)
    }

    /// Adds decoded rows. They must come in file path order, then row order: of several rows of one person and week the first
    /// counts.
    pub fn push<'r>(&mut self, rows: impl Iterator<Item = &'r [u8]>) -> Result<(), CycleFailure> {
        for row in rows {
            self.add(row)?;
        }
        Ok(())
    }

    fn add(&mut self, row: &[u8]) -> Result<(), CycleFailure> {
        let row = self.columns.read(row);
        let date = row.date().ok_or(CycleFailure::NotWeekly)?;
        if self.dates.insert(date) {
            self.candidates.retain(|candidate| candidate.period.may_have(date));
            if self.candidates.is_empty() {
                return Err(CycleFailure::NotWeekly);
            }
        }
        let counts = self.definitions.include_inactive_weeks || row.is_active();
        let Some(person) = row.person().filter(|_| counts && self.window.contains(date)) else {
            return Ok(());
        };
        for candidate in &mut self.candidates {
            candidate.add(person, date, self.window, &self.definitions.attributes, &row, &mut self.values)?;
        }
        Ok(())
    }

    /// Ends the drop. `is_identified` tells whether the drop has a Column key.
    ///
    /// A pass that failed in [`push`](Self::push) has no result; do not finish it.
    pub fn finish(mut self, is_identified: bool) -> Result<CycleReport<'a>, CycleFailure> {
        if self.dates.is_empty() {
            return Err(CycleFailure::NotWeekly);
        }
        // If all dates are both, weeks come first.
        let Candidate { period, people } = self.candidates.swap_remove(0);
        let in_window: Vec<Date> = self.dates.iter().copied().filter(|&date| self.window.contains(date)).collect();
        let failure = if !is_identified {
            Some(CycleFailure::NotIdentified)
        } else if (people.len() as u64) < self.definitions.min_group_size {
            Some(CycleFailure::TooFewPeople { people: people.len(), min_group_size: self.definitions.min_group_size })
        } else {
            None
        };
        let counts = counts(&people, &self.definitions.attributes);
        let withheld = counts.iter().map(|&counts| withheld(counts, self.definitions.min_group_size)).collect();
        let labels = self.definitions.attributes.iter().map(Attribute::labels).collect();
        Ok(CycleReport {
            definitions: self.definitions,
            window: self.window,
            period,
            weeks: in_window.len(),
            dates: self.dates,
            failure,
            people,
            counts,
            withheld,
            labels,
        })
    }
}

impl Candidate {
    fn add(
        &mut self,
        person: PersonId,
        date: Date,
        window: Window,
        attributes: &[Attribute],
        row: &MetricRow<'_>,
        values: &mut [Option<u64>],
    ) -> Result<(), TooManyPeople> {
        let to_week = self.period.to_week(date);
        for (number, attribute) in attributes.iter().enumerate() {
            values[number] = row.value(number, if attribute.unit == "Hour" { to_week } else { decimal::Scale::ONE });
        }
        self.people.add(person, window.week_of(date), values)
    }
}

fn counts(people: &People, attributes: &[Attribute]) -> Vec<[u64; RANGES]> {
    let mut counts = vec![[0; RANGES]; attributes.len()];
    for person in people.iter() {
        for (number, attribute) in attributes.iter().enumerate() {
            if let Some((sum, weeks)) = person.attribute(number) {
                counts[number][range_of(sum, weeks, attribute.bounds)] += 1;
            }
        }
    }
    counts
}

/// The range, from 0, of the average of `weeks` weeks that sum up to `sum` billionths.
fn range_of(sum: u64, weeks: u8, bounds: [u64; RANGES - 1]) -> usize {
    // Below 1e9 x 1e9 x 12 weeks: fits, and no division rounds.
    bounds.into_iter().filter(|bound| sum >= bound * BILLIONTHS_IN_A_MILLIONTH * u64::from(weeks)).count()
}

/// The range of each person, and how many people are in each range.
pub struct CycleReport<'a> {
    definitions: &'a Definitions,
    /// The days whose rows count.
    pub window: Window,
    /// The period that the rows cover.
    pub period: Period,
    /// How many dates in the window have rows.
    pub weeks: usize,
    /// The dates of all rows, in the window or not.
    dates: BTreeSet<Date>,
    /// Why nothing may be reported, if so.
    pub failure: Option<CycleFailure>,
    people: People,
    counts: Vec<[u64; RANGES]>,
    withheld: Vec<[bool; RANGES]>,
    labels: Vec<[String; RANGES]>,
}

/// A person's weeks and ranges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PersonReport<'a> {
    /// The id of the person.
    pub id: PersonId,
    /// How many of the person's weeks count.
    pub weeks: u32,
    /// By attribute, in the order of the definitions: `None` if the person has no number in any week.
    pub attributes: Vec<Option<Value<'a>>>,
}

/// What is reported of a person's attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value<'a> {
    /// Too few people share the range.
    Withheld,
    /// The range.
    Range {
        /// From 1 to 4.
        number: usize,
        /// Its name.
        label: &'a str,
        /// The average, truncated to 6 decimals, if the definitions ask for it.
        average: Option<String>,
    },
}

impl CycleReport<'_> {
    /// Whether the drop has rows of the last week, or of a month that ends at the end or later, of another cycle's `window`.
    pub fn reaches(&self, window: Window) -> bool {
        let latest = self.dates.range(..window.end).next_back().filter(|&&date| date >= window.start);
        latest.is_some_and(|&latest| window.is_reached_by(latest, self.period))
    }

    /// The number of people in the report.
    pub fn people_count(&self) -> usize {
        self.people.len()
    }

    /// By attribute: the number of people in each range, `None` where it is withheld.
    pub fn counts(&self) -> impl Iterator<Item = (&Attribute, [Option<u64>; RANGES])> {
        let published = |(number, attribute): (usize, _)| {
            (
                attribute,
                std::array::from_fn(|range| (!self.withheld[number][range]).then(|| self.counts[number][range])),
            )
        };
        self.definitions.attributes.iter().enumerate().map(published)
    }

    /// The people, in the order of their ids.
    pub fn people(&self) -> impl Iterator<Item = PersonReport<'_>> {
        self.people.sorted().map(|person| PersonReport {
            id: person.id,
            weeks: person.weeks,
            attributes: (0..self.definitions.attributes.len()).map(|number| self.value(&person, number)).collect(),
        })
    }

    fn value(&self, person: &people::Person<'_>, number: usize) -> Option<Value<'_>> {
        let (sum, weeks) = person.attribute(number)?;
        let range = range_of(sum, weeks, self.definitions.attributes[number].bounds);
        if self.withheld[number][range] {
            return Some(Value::Withheld);
        }
        let average =
            self.definitions.with_values.then(|| millionths_text(sum / (u64::from(weeks) * BILLIONTHS_IN_A_MILLIONTH)));
        Some(Value::Range { number: range + 1, label: &self.labels[number][range], average })
    }
}
