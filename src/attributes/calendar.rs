//! Weeks, months and the window of a survey cycle.

use std::collections::BTreeSet;

use time::{Date, Duration, Weekday};

use super::decimal::Scale;

/// Days in a cycle's window: twelve weeks.
const WINDOW_DAYS: i64 = 84;

/// The days from `start` (inclusive) to `end` (exclusive) whose rows count for a cycle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// The first day: a Sunday.
    pub start: Date,
    /// The day after the last one: the last Sunday strictly before the end of the cycle.
    pub end: Date,
}

impl Window {
    /// The twelve weeks before the last Sunday strictly before `cycle_end`. `None` before the year -9998.
    pub fn before(cycle_end: Date) -> Option<Self> {
        let last_day = cycle_end.previous_day()?;
        let end = last_day.checked_sub(Duration::days(last_day.weekday().number_days_from_sunday().into()))?;
        Some(Self { start: end.checked_sub(Duration::days(WINDOW_DAYS))?, end })
    }

    pub(super) fn contains(self, date: Date) -> bool {
        (self.start..self.end).contains(&date)
    }

    /// The number of the week that begins at `date`, which is in the window.
    pub(super) fn week_of(self, date: Date) -> u8 {
        u8::try_from((date - self.start).whole_weeks()).expect("a window has twelve weeks")
    }

    /// Whether `latest`, the newest date in the window that has rows, belongs to the window's last week, or is a month
    /// that ends at the window's end or later.
    pub(super) fn is_reached_by(self, latest: Date, period: Period) -> bool {
        match period {
            Period::Week => latest >= self.end - Duration::days(7),
            Period::Month => latest + Duration::days(days_in_month(latest).into()) >= self.end,
        }
    }
}

/// The period that the rows of a drop cover.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Period {
    /// All dates are Sundays.
    Week,
    /// All dates are firsts of months.
    Month,
}

impl Period {
    /// The period as messages spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Week => "week",
            Self::Month => "month",
        }
    }

    /// The period that all of these dates fit; a week if they fit both. `None` if they fit none.
    pub(super) fn of_all(dates: &BTreeSet<Date>) -> Option<Self> {
        [Self::Week, Self::Month].into_iter().find(|period| dates.iter().all(|&date| period.may_have(date)))
    }

    /// Whether rows of this period may have `date`.
    pub(super) fn may_have(self, date: Date) -> bool {
        match self {
            Self::Week => date.weekday() == Weekday::Sunday,
            Self::Month => date.day() == 1,
        }
    }

    /// The factor that converts hours of the period that begins at `date` to hours of a week.
    pub(super) fn to_week(self, date: Date) -> Scale {
        match self {
            Self::Week => Scale::ONE,
            Self::Month => Scale { numerator: 7, denominator: days_in_month(date).into() },
        }
    }
}

fn days_in_month(date: Date) -> u8 {
    date.month().length(date.year())
}

/// The date of a `MetricDate`: `2024-10-06`, alone or with a time that is midnight UTC, such as `2024-10-06T00:00:00Z`.
pub(super) fn metric_date(text: &[u8]) -> Option<Date> {
    let (date, time) = text.split_at_checked(10)?;
    is_midnight(time).then(|| iso_date(date)).flatten()
}

fn is_midnight(time: &[u8]) -> bool {
    if time.is_empty() {
        return true;
    }
    let Some(clock) = time.strip_prefix(b"T").or_else(|| time.strip_prefix(b" ")) else {
        return false;
    };
    let zone_at = clock.iter().position(|byte| matches!(byte, b'Z' | b'z' | b'+' | b'-')).unwrap_or(clock.len());
    let (clock, zone) = clock.split_at(zone_at);
    let is_utc = matches!(zone, b"" | b"Z" | b"z" | b"+00:00" | b"-00:00" | b"+0000");
    let (seconds, fraction) = match clock.iter().position(|&byte| byte == b'.') {
        Some(point) => (&clock[..point], &clock[point + 1..]),
        None => (clock, &b"0"[..]),
    };
    let is_zero =
        matches!(seconds, b"00:00" | b"00:00:00") && !fraction.is_empty() && fraction.iter().all(|&byte| byte == b'0');
    is_zero && is_utc
}

/// A date as `YYYY-MM-DD`.
pub(super) fn iso_date(text: &[u8]) -> Option<Date> {
    let number = |digits: &[u8]| {
        digits
            .iter()
            .try_fold(0_u16, |number, byte| byte.is_ascii_digit().then(|| number * 10 + u16::from(byte - b'0')))
    };
    let [y @ .., b'-', m1, m2, b'-', d1, d2] = text else { return None };
    if y.len() != 4 {
        return None;
    }
    let month = u8::try_from(number(&[*m1, *m2])?).ok()?.try_into().ok()?;
    Date::from_calendar_date(number(y)?.into(), month, u8::try_from(number(&[*d1, *d2])?).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use time::macros::date;

    use super::*;

    #[test]
    fn a_window_ends_at_the_last_sunday_strictly_before_the_cycles_end() {
        let window = |end| Window::before(end).unwrap();
        assert_eq!(window(date!(2024 - 10 - 15)), Window { start: date!(2024 - 07 - 21), end: date!(2024 - 10 - 13) });
        assert_eq!(window(date!(2024 - 10 - 14)).end, date!(2024 - 10 - 13));
        assert_eq!(window(date!(2024 - 10 - 13)).end, date!(2024 - 10 - 06));
        assert_eq!(window(date!(2024 - 10 - 12)).end, date!(2024 - 10 - 06));
    }

    #[test]
    fn a_metric_date_is_midnight_utc() {
        for text in [
            "2024-10-06",
            "2024-10-06T00:00:00Z",
            "2024-10-06T00:00:00.0000000Z",
            "2024-10-06 00:00",
            "2024-10-06T00:00:00+00:00",
        ] {
            assert_eq!(metric_date(text.as_bytes()), Some(date!(2024 - 10 - 06)), "{text}");
        }
        for text in [
            "",
            "2024-10-6",
            "2024-13-01",
            "2024-02-30",
            "2024-10-06T01:00:00Z",
            "2024-10-06T00:00:00+02:00",
            "06.10.2024",
            "2024-10-06x",
        ] {
            assert_eq!(metric_date(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn a_month_reaches_a_cycle_if_it_ends_at_the_windows_end_or_later() {
        let window = Window { start: date!(2024 - 07 - 21), end: date!(2024 - 10 - 13) };
        assert!(window.is_reached_by(date!(2024 - 10 - 01), Period::Month));
        assert!(!window.is_reached_by(date!(2024 - 09 - 01), Period::Month));
        assert!(window.is_reached_by(date!(2024 - 10 - 06), Period::Week));
        assert!(!window.is_reached_by(date!(2024 - 09 - 29), Period::Week));
    }
}
