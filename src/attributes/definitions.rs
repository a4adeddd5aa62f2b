//! The definitions of a tenant: attributes, their ranges and roles, and survey programs with their cycles.
//!
//! Definitions are JSON that the partner's analytics lead edits. They are validated as a whole: every mistake is named,
//! with its place.

mod format;
mod parse;

use std::fmt;

use time::Date;

use super::{confidentiality::RANGES, decimal::millionths_text};

/// The attributes of a tenant and the survey programs that use them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Definitions {
    /// The confidentiality threshold: smaller groups are withheld.
    pub min_group_size: u64,
    /// Whether weeks in which a person was not active count.
    pub include_inactive_weeks: bool,
    /// Whether messages have the average of each person in addition to its range.
    pub with_values: bool,
    /// The attributes, in the order in which they are defined.
    pub attributes: Vec<Attribute>,
    /// The survey programs.
    pub programs: Vec<Program>,
}

/// A weekly metric that is reported as one of four ranges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attribute {
    /// Its name on the survey platform.
    pub name: String,
    /// The column that has the metric.
    pub column: String,
    /// Columns whose numbers are added if a row lacks `column`: the metric in earlier versions of the dataset.
    pub older_columns: Vec<String>,
    /// The unit of the metric. Values in `Hour` are scaled from months to weeks, values in other units are not.
    pub unit: String,
    /// The upper bounds of the first three ranges, in millionths.
    pub bounds: [u64; RANGES - 1],
    /// The permissions of each role for the attribute. vivadrop only passes them on.
    pub roles: Vec<(String, Vec<String>)>,
}

impl Attribute {
    /// The columns that may have the metric.
    pub fn columns(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.column).chain(&self.older_columns).map(String::as_str)
    }

    /// The upper bounds of the first three ranges, as JSON numbers.
    pub fn bounds_as_text(&self) -> [String; RANGES - 1] {
        self.bounds.map(millionths_text)
    }

    /// The names of the four ranges: `0 to less than 3`, …, `8 or more`.
    pub fn labels(&self) -> [String; RANGES] {
        let [a, b, c] = self.bounds.map(millionths_text);
        [
            format!("0 to less than {a}"),
            format!("{a} to less than {b}"),
            format!("{b} to less than {c}"),
            format!("{c} or more"),
        ]
    }
}

/// A survey that is repeated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// Its name.
    pub name: String,
    /// Its cycles.
    pub cycles: Vec<Cycle>,
}

/// One round of a survey.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cycle {
    /// Its name.
    pub name: String,
    /// The day it opens.
    pub start: Date,
    /// The day it closes.
    pub end: Date,
}

/// A default attribute: definitions name it without `metric`.
struct Default {
    name: &'static str,
    column: &'static str,
    older_columns: &'static [&'static str],
    unit: &'static str,
    bounds: Option<[&'static str; RANGES - 1]>,
}

/// Viva Glint's attributes with its bounds; the columns are those of PersonReport_v1 and of VivaInsightsDataset_v0.
/// Microsoft's table truncates the row of Collaboration hours, so that one has no bounds.
#[rustfmt::skip]
const DEFAULTS: [Default; 10] = [
    Default { name: "Email hours", column: "Email hours", older_columns: &["CollaborationHoursEmails"], unit: "Hour", bounds: Some(["3", "6", "8"]) },
    Default { name: "Call hours", column: "Call hours", older_columns: &["CollaborationHoursScheduledCalls", "CollaborationHoursAdhocCalls"], unit: "Hour", bounds: Some(["5", "10", "15"]) },
    Default { name: "After-hours collaboration hours", column: "After-hours collaboration hours", older_columns: &["AfterHoursCollaboration"], unit: "Hour", bounds: Some(["1", "3", "5"]) },
    Default { name: "Multitasking hours", column: "Multitasking hours", older_columns: &["MultitaskingMeetingHours"], unit: "Hour", bounds: Some(["1", "3", "5"]) },
    Default { name: "Collaboration hours", column: "Collaboration hours", older_columns: &["CollaborationHours"], unit: "Hour", bounds: None },
    Default { name: "Uninterrupted hours", column: "Uninterrupted hours", older_columns: &["UninterruptedHours"], unit: "Hour", bounds: Some(["5", "10", "15"]) },
    Default { name: "Meeting hours", column: "Meeting hours", older_columns: &["CollaborationHoursMeetings"], unit: "Hour", bounds: Some(["6", "12", "15"]) },
    Default { name: "Meeting hours with Manager 1:1", column: "Meeting hours with manager 1:1", older_columns: &["OneOnOneMeetingHours"], unit: "Hour", bounds: Some(["0.01", "0.25", "0.5"]) },
    Default { name: "Meeting hours with Skip Level Manager", column: "Meeting hours with skip level", older_columns: &["SkipLevelMeetingHours"], unit: "Hour", bounds: Some(["0.01", "0.5", "1"]) },
    Default { name: "Internal network size", column: "Internal network size", older_columns: &[], unit: "Count", bounds: Some(["15", "30", "45"]) },
];

/// A default attribute, for people who choose attributes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DefaultAttribute {
    /// Its name.
    pub name: &'static str,
    /// The unit of the metric.
    pub unit: &'static str,
    /// The upper bounds of its first three ranges, as JSON numbers; `None` if there is no default, so that `max` is
    /// needed.
    pub bounds: Option<[&'static str; RANGES - 1]>,
}

/// The default attributes.
pub fn default_attributes() -> impl Iterator<Item = DefaultAttribute> {
    DEFAULTS.iter().map(|default| DefaultAttribute { name: default.name, unit: default.unit, bounds: default.bounds })
}

/// Everything that is wrong with definitions, one sentence each.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct InvalidDefinitions(pub Vec<String>);

impl fmt::Display for InvalidDefinitions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.len() {
            1 => f.write_str("1 mistake in the definitions")?,
            count => write!(f, "{count} mistakes in the definitions")?,
        }
        self.0.iter().try_for_each(|mistake| write!(f, "\n  {mistake}"))
    }
}

#[cfg(test)]
mod tests;
