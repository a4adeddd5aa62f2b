//! Employee attributes for survey platforms, computed from decoded rows. Does no I/O.
//!
//! An attribute is a person's weekly metric, averaged over the twelve weeks before a survey cycle closes and reported
//! as one of four ranges. A [`RowParser`] reads the rows of a drop, a [`CyclePass`] adds them up by person, and its
//! [`CycleReport`] has each person's ranges and the number of people in each range, with small groups withheld. Sums
//! are exact integers, so the order of the rows does not matter.

mod calendar;
mod confidentiality;
mod date_cache;
mod dates;
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
    dates::DropDates,
    definitions::{Attribute, Cycle, DefaultAttribute, Definitions, InvalidDefinitions, Program, default_attributes},
    people::TooManyPeople,
    rows::{ParsedRows, RowParser},
    schedule::DueCycle,
};
use self::{
    decimal::{BILLIONTHS, millionths_text},
    people::People,
    person_json::AttributeJson,
};
use crate::{person_id::PersonId, similar::most_similar, stage::columns::METRICS};

/// Billionths in a millionth.
const BILLIONTHS_IN_A_MILLIONTH: u64 = BILLIONTHS / 1_000_000;

/// How many dates the rows of a drop may have: 19 years of weeks. A drop is chosen by the customer, and its dates are
/// kept in memory and in the ledger.
const MAX_DATES: usize = 1000;

/// Why a cycle has no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CycleFailure {
    /// The dates of the rows are neither all Sundays nor all firsts of months, or there are more than 1,000 of them. Or
    /// a row has no date that can be read, or the drop has no rows.
    #[error("the dates of the rows are neither all Sundays nor all firsts of months, or over {MAX_DATES}")]
    NotWeekly,
    /// The drop has no Column key, so that nobody can be identified.
    #[error("the drop has no Column key, so its rows do not say whose they are")]
    NotIdentified,
    /// Fewer people than the confidentiality threshold have rows in the window.
    #[error("{people} people have rows in the window, and the minimum group size is {min_group_size}")]
    TooFewPeople {
        /// People with at least one row that counts.
        people: usize,
        /// `minGroupSize`.
        min_group_size: u64,
    },
    /// The table of people would exceed its memory bound.
    #[error(transparent)]
    TooManyPeople(#[from] TooManyPeople),
}

impl CycleFailure {
    /// The reason, as messages spell it.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NotWeekly => "not-weekly",
            Self::NotIdentified => "not-identified",
            Self::TooFewPeople { .. } => "too-few-people",
            Self::TooManyPeople(_) => "too-many-people",
        }
    }
}

/// One pass over the rows of a drop for one cycle.
pub struct CyclePass<'a> {
    definitions: &'a Definitions,
    window: Window,
    memory: usize,
    /// The dates of all rows, in the window or not. If there are more than [`MAX_DATES`], only those in the window are
    /// complete.
    dates: BTreeSet<Date>,
    has_unreadable_date: bool,
    /// One for each period that fits all dates so far. Few dates are both a Sunday and the first of a month, so one of
    /// the two is removed after a few dates. None is left if the pass has failed.
    candidates: Vec<Candidate>,
    /// Why there is no result. If this is set, only dates are collected.
    failure: Option<CycleFailure>,
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
        // As long as there are two tables, each has half of the memory.
        let candidate = |period| Candidate { period, people: People::new(attributes, memory / 2) };
        Self {
            definitions,
            window,
            memory,
            dates: BTreeSet::new(),
            has_unreadable_date: false,
            candidates: vec![candidate(Period::Week), candidate(Period::Month)],
            failure: None,
        }
    }

    /// Adds rows that a [`RowParser`] has parsed. They must come in file path order, then row order, because only the
    /// first of several rows of one person and week counts.
    pub fn push(&mut self, rows: &ParsedRows) {
        if let Err(failure) = self.add(rows) {
            self.failure.get_or_insert(failure);
            self.candidates.clear();
        }
    }

    fn add(&mut self, rows: &ParsedRows) -> Result<(), CycleFailure> {
        self.has_unreadable_date |= rows.has_unreadable_date;
        let mut has_too_many_dates = false;
        for &date in &rows.dates {
            let is_full = self.dates.len() >= MAX_DATES && !self.window.contains(date);
            if is_full && !self.dates.contains(&date) {
                has_too_many_dates = true;
            } else if self.dates.insert(date) {
                self.candidates.retain(|candidate| candidate.period.may_have(date));
            }
        }
        if self.candidates.is_empty() || rows.has_undated_row || has_too_many_dates {
            return Err(CycleFailure::NotWeekly);
        }
        if let [candidate] = &mut self.candidates[..] {
            candidate.people.set_limit(self.memory);
        }
        for Candidate { period, people } in &mut self.candidates {
            people.add(rows.of_period(*period))?;
        }
        Ok(())
    }

    /// Ends the pass: all rows of the drop were added. `is_identified` says whether the drop has a Column key.
    pub fn finish(mut self, is_identified: bool) -> CycleReport<'a> {
        let attributes = &self.definitions.attributes;
        let has_no_rows = self.dates.is_empty().then_some(CycleFailure::NotWeekly);
        let mut failure = self.failure.or(has_no_rows);
        let people = match failure {
            // The periods of the candidates are in the order of `Period::of_all`.
            None => self.candidates.swap_remove(0).people,
            Some(_) => People::new(attributes.len(), 0),
        };
        let period = Period::of_all(&self.dates).filter(|_| failure != Some(CycleFailure::NotWeekly));
        if failure.is_none() && !is_identified {
            failure = Some(CycleFailure::NotIdentified);
        }
        let min_group_size = self.definitions.min_group_size;
        if failure.is_none() && (people.len() as u64) < min_group_size {
            failure = Some(CycleFailure::TooFewPeople { people: people.len(), min_group_size });
        }
        let counts = counts(&people, attributes);
        let labels: Vec<_> = attributes.iter().map(Attribute::labels).collect();
        CycleReport {
            definitions: self.definitions,
            window: self.window,
            period: period.unwrap_or(Period::Week),
            weeks: self.dates.iter().filter(|&&date| self.window.contains(date)).count(),
            dates: DropDates { dates: self.dates, period, has_unreadable: self.has_unreadable_date },
            failure,
            people,
            withheld: counts.iter().map(|&counts| withheld(counts, min_group_size)).collect(),
            counts,
            attribute_json: attributes
                .iter()
                .zip(&labels)
                .map(|(one, labels)| AttributeJson::new(one, labels))
                .collect(),
            labels,
        }
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
    /// The period that the rows cover; a week if the dates are neither all Sundays nor all firsts of months.
    pub period: Period,
    /// How many dates in the window have rows.
    pub weeks: usize,
    dates: DropDates,
    /// Why nothing may be reported; `None` if the report is valid.
    pub failure: Option<CycleFailure>,
    people: People,
    counts: Vec<[u64; RANGES]>,
    withheld: Vec<[bool; RANGES]>,
    labels: Vec<[String; RANGES]>,
    attribute_json: Vec<AttributeJson>,
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

/// The reported value of a person's attribute.
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
    /// Whether the drop reaches the cycle with this `window`, which may be another one than that of the report.
    pub fn reaches(&self, window: Window) -> bool {
        self.dates.reaches(window)
    }

    /// The dates of the drop's rows.
    pub fn dates(&self) -> &DropDates {
        &self.dates
    }

    /// The memory that the report takes, in bytes.
    pub fn bytes(&self) -> usize {
        self.people.bytes()
    }

    /// The first attribute whose bounds have changed so that 1 to `minGroupSize - 1` people move from one range to
    /// another: a reader of both reports could single these people out. `known` returns the bounds of earlier reports
    /// for the columns of an attribute, for each report that had one of these columns.
    pub fn identifying_change(&self, known: impl Fn(&[&str]) -> Vec<[u64; RANGES - 1]>) -> Option<&Attribute> {
        let attributes = self.definitions.attributes.iter().enumerate();
        let mut changed = attributes.flat_map(|(number, attribute)| {
            let mut known = known(&attribute.columns().collect::<Vec<_>>());
            known.retain(|bounds| *bounds != attribute.bounds);
            known.into_iter().map(move |bounds| (number, attribute, bounds))
        });
        let identifies = |&(number, attribute, bounds): &(usize, &Attribute, [u64; RANGES - 1])| {
            let mut moved = [[0; RANGES]; RANGES];
            for (sum, weeks) in self.people.iter().filter_map(|person| person.attribute(number)) {
                moved[range_of(sum, weeks, bounds)][range_of(sum, weeks, attribute.bounds)] += 1;
            }
            let small = 1..self.definitions.min_group_size;
            (0..RANGES).any(|from| (0..RANGES).any(|to| from != to && small.contains(&moved[from][to])))
        };
        changed.find(identifies).map(|(_, attribute, _)| attribute)
    }

    /// The attributes, in the order of the definitions.
    pub fn attributes(&self) -> impl Iterator<Item = &Attribute> {
        self.definitions.attributes.iter()
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

    /// The attributes for which nobody has a number, one sentence each. A misspelled metric looks like this.
    pub fn missing_numbers(&self) -> impl Iterator<Item = String> {
        let counts = self.counts.iter().zip(&self.definitions.attributes);
        let missing = counts.filter(|(counts, _)| counts.iter().all(|&count| count == 0));
        missing.map(|(_, attribute)| {
            let columns: Vec<_> = attribute.columns().map(|column| format!("`{column}`")).collect();
            let is_metric = METRICS.contains(&attribute.column.as_str());
            let similar = most_similar(&attribute.column, METRICS.iter().copied()).filter(|_| !is_metric);
            let hint = similar.map(|name| format!(" (Viva Insights has a metric `{name}`)")).unwrap_or_default();
            format!("nobody has a number for `{}`, from {}{hint}", attribute.name, columns.join(" or "))
        })
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

#[cfg(test)]
mod tests;
