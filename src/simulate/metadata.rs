//! What a simulated drop says of itself: the job metadata, and the weeks it covers.

use serde::Serialize;
use time::{
    Date, Duration, OffsetDateTime, PrimitiveDateTime, Time, Weekday,
    format_description::BorrowedFormatItem,
    macros::{date, format_description, time},
};

use super::{Simulated, rows::METRICS, secrets::KeyDetails};

const TIMESTAMP: &[BorrowedFormatItem<'_>] = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z");

/// When the pipeline runs, on Mondays, and when it is done.
const SUBMISSION: Time = time!(01:00:04);
const COMPLETION: Time = time!(01:42:31);

/// The Monday of every drop with a seed, so that its weeks do not depend on when it is made.
const SEEDED_MONDAY: Date = date!(2026 - 11 - 16);

/// The weeks of a drop. They begin on Sundays; the data is extracted on the Monday after the last one.
pub(super) struct Period {
    monday: Date,
    weeks: u32,
}

impl Period {
    /// The last `weeks` whole weeks before the latest Monday, or before a fixed one. `None` when they begin before the
    /// year 1.
    pub(super) fn of(weeks: u32, fixed: bool) -> Option<Self> {
        let monday = if fixed { SEEDED_MONDAY } else { latest_monday() };
        let period = Self { monday, weeks };
        let begin = period.end().checked_sub(Duration::weeks(weeks.into()))?;
        (begin.year() > 0).then_some(period)
    }

    /// The Sunday that the last week ends before.
    fn end(&self) -> Date {
        self.monday - Duration::DAY
    }

    /// The Sunday that `week` begins on; the first week is 0.
    fn sunday(&self, week: u32) -> Date {
        self.end() - Duration::weeks((self.weeks - week).into())
    }

    /// The `MetricDate` of each week.
    pub(super) fn metric_dates(&self) -> Vec<String> {
        (0..self.weeks).map(|week| midnight(self.sunday(week))).collect()
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
    // Years have four digits here, so that formatting cannot fail.
    PrimitiveDateTime::new(date, time).format(TIMESTAMP).unwrap_or_default()
}

/// `Metadata.json`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct JobMetadata<'a> {
    copy_activity_id: String,
    job_submission_time: String,
    job_completion_time: String,
    request_start_date: String,
    request_end_date: String,
    columns_requested: String,
    number_of_rows_extracted: u64,
    data_factory_name: &'static str,
    tenant_id: String,
    errors: &'static str,
    /// Later versions name the table.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) table_name: Option<&'a str>,
    /// Later versions bring the keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) decryption_key_details: Option<Vec<KeyDetails>>,
}

impl JobMetadata<'_> {
    /// The metadata of the first version, without what later ones add.
    pub(super) fn new(made: &Simulated, period: &Period) -> Self {
        Self {
            copy_activity_id: made.copy_activity_id.to_string(),
            job_submission_time: timestamp(period.monday, SUBMISSION),
            job_completion_time: timestamp(period.monday, COMPLETION),
            request_start_date: midnight(period.sunday(0)),
            request_end_date: midnight(period.end()),
            columns_requested: ["ObjectId", "MetricDate"].iter().chain(&METRICS).copied().collect::<Vec<_>>().join(","),
            number_of_rows_extracted: made.rows,
            data_factory_name: "vivadrop-simulate",
            tenant_id: made.tenant.to_string(),
            errors: "",
            table_name: None,
            decryption_key_details: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drop_covers_whole_weeks_up_to_the_sunday_before_its_monday() {
        let period = Period::of(2, true).unwrap();
        assert_eq!(period.metric_dates(), ["2026-11-01T00:00:00Z", "2026-11-08T00:00:00Z"]);
        assert_eq!(midnight(period.end()), "2026-11-15T00:00:00Z");
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
