//! When the next drop of a tenant is due, derived from the times at which its earlier drops arrived.

use time::{Duration, OffsetDateTime};

/// Drops that arrive within this time belong to the same run of the pipeline.
const SAME_RUN: Duration = Duration::hours(12);

/// The number of newest runs that the interval is derived from, at most.
const MAX_RUNS: usize = 9;

/// The number of runs that the interval is derived from, at least.
const MIN_RUNS: usize = 3;

/// The shortest delay after which a drop is overdue.
const MIN_GRACE: Duration = Duration::days(1);

/// When the next drop of a tenant is expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Expectation {
    /// The usual time between two runs: the median of the last eight.
    pub(super) every: Duration,
    /// When the next run is due.
    pub(super) due: OffsetDateTime,
}

impl Expectation {
    /// Derives the expectation from the times at which the tenant's drops arrived, in any order. `None` if fewer than
    /// three runs are known.
    pub(super) fn of(arrivals: &mut [OffsetDateTime]) -> Option<Self> {
        arrivals.sort_unstable_by(|a, b| b.cmp(a));
        let last = *arrivals.first()?;
        let mut runs = vec![last];
        for &arrival in arrivals.iter() {
            if runs.len() == MAX_RUNS {
                break;
            }
            if *runs.last().expect("the last run is there") - arrival > SAME_RUN {
                runs.push(arrival);
            }
        }
        if runs.len() < MIN_RUNS {
            return None;
        }
        let mut gaps: Vec<Duration> = runs.windows(2).map(|pair| pair[0] - pair[1]).collect();
        gaps.sort_unstable();
        let every = gaps[gaps.len() / 2];
        Some(Self { every, due: last + every })
    }

    /// Whether the drop is late by more than a quarter of the interval, and by more than a day.
    pub(super) fn is_overdue(&self, now: OffsetDateTime) -> bool {
        now - self.due > MIN_GRACE.max(self.every / 4)
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    const SUNDAY: OffsetDateTime = datetime!(2026-11-22 03:00 UTC);

    fn weekly(weeks: i64) -> Vec<OffsetDateTime> {
        // The directory export of each run arrives an hour later.
        (0..weeks)
            .flat_map(|week| [SUNDAY - Duration::weeks(week), SUNDAY - Duration::weeks(week) + Duration::HOUR])
            .collect()
    }

    #[test]
    fn a_weekly_drop_is_overdue_after_a_quarter_of_a_week() {
        let expected = Expectation::of(&mut weekly(10)).unwrap();
        assert_eq!(expected.every, Duration::weeks(1));
        assert!(!expected.is_overdue(expected.due + Duration::hours(42)));
        assert!(expected.is_overdue(expected.due + Duration::hours(43)));
    }

    #[test]
    fn a_missed_week_and_an_additional_run_do_not_change_the_interval() {
        let mut arrivals = weekly(9);
        arrivals.drain(4..6);
        arrivals.push(SUNDAY - Duration::weeks(5) + Duration::days(2));
        assert_eq!(Expectation::of(&mut arrivals).unwrap().every, Duration::weeks(1));
    }

    #[test]
    fn two_runs_are_too_few() {
        assert_eq!(Expectation::of(&mut weekly(2)), None);
        assert_eq!(Expectation::of(&mut []), None);
    }
}
