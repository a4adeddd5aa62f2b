//! The weeks that a drop covers, and the timestamps in it.

use time::{
    Date, Duration, OffsetDateTime, PrimitiveDateTime, Time, Weekday,
    format_description::BorrowedFormatItem,
    macros::{date, format_description, time},
};

const TIMESTAMP: &[BorrowedFormatItem<'_>] = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z");

/// When the extraction starts and ends, on a Monday.
const SUBMISSION: Time = time!(01:00:04);
const COMPLETION: Time = time!(01:42:31);

/// The Monday of every drop with a seed, so that its weeks do not depend on the current date.
const SEEDED_MONDAY: Date = date!(2026 - 11 - 16);

/// The weeks of a drop. They begin on Sundays; the data is extracted on the Monday after the last week.
pub(super) struct Period {
    monday: Date,
    weeks: u32,
}

impl Period {
    /// The last `weeks` whole weeks before the latest Monday, or before a fixed Monday if `fixed`. `None` if they would
    /// begin before the year 1.
    pub(super) fn of(weeks: u32, fixed: bool) -> Option<Self> {
        let monday = if fixed { SEEDED_MONDAY } else { latest_monday() };
        let period = Self { monday, weeks };
        let begin = period.end_date().checked_sub(Duration::weeks(weeks.into()))?;
        (begin.year() > 0).then_some(period)
    }

    /// The `MetricDate` of each week.
    pub(super) fn metric_dates(&self) -> Vec<String> {
        (0..self.weeks).map(|week| midnight(self.sunday(week))).collect()
    }

    /// The first Sunday.
    pub(super) fn start(&self) -> String {
        midnight(self.sunday(0))
    }

    /// The Sunday after the last week.
    pub(super) fn end(&self) -> String {
        midnight(self.end_date())
    }

    /// When the extraction job was submitted.
    pub(super) fn submission(&self) -> String {
        timestamp(self.monday, SUBMISSION)
    }

    /// When the extraction job was completed.
    pub(super) fn completion(&self) -> String {
        timestamp(self.monday, COMPLETION)
    }

    fn end_date(&self) -> Date {
        self.monday - Duration::DAY
    }

    /// The Sunday on which `week` begins; weeks are numbered from 0.
    fn sunday(&self, week: u32) -> Date {
        self.end_date() - Duration::weeks((self.weeks - week).into())
    }
}

fn latest_monday() -> Date {
    let today = OffsetDateTime::now_utc().date();
    match today.weekday() {
        Weekday::Monday => today,
        _ => today.prev_occurrence(Weekday::Monday),
    }
}

fn midnight(date: Date) -> String {
    timestamp(date, Time::MIDNIGHT)
}

fn timestamp(date: Date, time: Time) -> String {
    PrimitiveDateTime::new(date, time).format(TIMESTAMP).expect("years from 1 to 9999 can be formatted")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drop_covers_whole_weeks_up_to_the_sunday_before_its_monday() {
        let period = Period::of(2, true).unwrap();
        assert_eq!(period.metric_dates(), ["2026-11-01T00:00:00Z", "2026-11-08T00:00:00Z"]);
        assert_eq!((period.start().as_str(), period.end().as_str()), ("2026-11-01T00:00:00Z", "2026-11-15T00:00:00Z"));
    }

    #[test]
    fn without_a_seed_the_weeks_are_the_latest_ones() {
        let monday = Period::of(1, false).unwrap().monday;
        let age = OffsetDateTime::now_utc().date() - monday;
        assert_eq!(monday.weekday(), Weekday::Monday);
        assert!((0..7).contains(&age.whole_days()), "{age}");
    }

    #[test]
    fn weeks_do_not_begin_before_the_year_1() {
        assert!(Period::of(100_000, true).is_some());
        assert!(Period::of(110_000, true).is_none());
        assert!(Period::of(u32::MAX, true).is_none());
    }
}
