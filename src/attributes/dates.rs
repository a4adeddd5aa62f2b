//! The dates of a drop's rows: which cycles the drop reaches.

use std::{collections::BTreeSet, ops::RangeInclusive};

use serde::{Deserialize, Serialize};
use time::{Date, Duration};

use super::calendar::{Period, Window, iso_date};

/// The dates of the rows of a drop.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "DatesJson", try_from = "DatesJson")]
pub struct DropDates {
    /// The dates, in the window of a cycle or not.
    pub(super) dates: BTreeSet<Date>,
    /// The period that the rows cover; `None` if the dates are neither all Sundays nor all firsts of months.
    pub(super) period: Option<Period>,
    /// Whether a row has a date that cannot be read.
    pub(super) has_unreadable: bool,
}

impl DropDates {
    /// Whether the drop has rows of the last week of `window`, or of a month that ends at the end of `window` or later.
    ///
    /// A drop whose dates are neither weeks nor months reaches a window if a date is in the last week, or if no date
    /// can be read: the cycle then fails, so that somebody notices.
    pub fn reaches(&self, window: Window) -> bool {
        let latest = self.dates.range(window.start..window.end).next_back();
        match (self.period, latest) {
            (Some(period), Some(&latest)) => window.is_reached_by(latest, period),
            (Some(_), None) => false,
            (None, Some(&latest)) => latest >= window.end - Duration::days(7),
            (None, None) => self.dates.is_empty() && self.has_unreadable,
        }
    }

    /// The dates among `days`. Whether a date cannot be read matters only if there are no other dates.
    pub fn within(&self, days: RangeInclusive<Date>) -> Self {
        let has_unreadable = self.has_unreadable && self.dates.is_empty();
        Self { dates: self.dates.range(days).copied().collect(), has_unreadable, period: self.period }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct DatesJson {
    dates: Vec<String>,
    period: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    unreadable: bool,
}

impl From<DropDates> for DatesJson {
    fn from(dates: DropDates) -> Self {
        Self {
            dates: dates.dates.iter().map(Date::to_string).collect(),
            period: dates.period.map(|period| period.name().to_owned()),
            unreadable: dates.has_unreadable,
        }
    }
}

impl TryFrom<DatesJson> for DropDates {
    type Error = &'static str;

    fn try_from(json: DatesJson) -> Result<Self, Self::Error> {
        let dates: Option<_> = json.dates.iter().map(|date| iso_date(date.as_bytes())).collect();
        let period = match json.period.as_deref() {
            Some("week") => Some(Period::Week),
            Some("month") => Some(Period::Month),
            Some(_) => return Err("expected week or month"),
            None => None,
        };
        Ok(Self { dates: dates.ok_or("expected dates")?, period, has_unreadable: json.unreadable })
    }
}

#[cfg(test)]
mod tests {
    use time::macros::date;

    use super::*;

    fn dates<const N: usize>(dates: [Date; N]) -> DropDates {
        DropDates { dates: dates.into(), period: None, has_unreadable: true }
    }

    #[test]
    fn dates_of_other_days_are_left_out() {
        let [before, first, last, after] =
            [date!(2022 - 01 - 01), date!(2024 - 10 - 06), date!(2024 - 10 - 13), date!(9999 - 12 - 31)];
        let all = dates([before, first, last, after]);
        assert_eq!(all.within(first..=last).dates, BTreeSet::from([first, last]));
    }

    #[test]
    fn a_drop_whose_dates_are_all_left_out_reaches_no_cycle() {
        let window = Window { start: date!(2024 - 07 - 21), end: date!(2024 - 10 - 13) };
        let days = window.start..=window.end;
        assert!(dates([]).within(days.clone()).reaches(window), "no date can be read");
        assert!(!dates([date!(9999 - 12 - 31)]).within(days).reaches(window));
    }
}
