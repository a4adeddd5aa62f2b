//! The waits between the runs of a drop that fails.

use std::time::Duration;

use time::OffsetDateTime;

use crate::ledger::Failing;

/// The wait after the first failure. It doubles with each further failure without progress.
const FIRST_WAIT: Duration = Duration::from_secs(60);

/// The longest wait, also for a `Retry-After`.
pub(crate) const MAX_WAIT: Duration = Duration::from_secs(3600);

/// Failures within this time of another count as one, and do not count within this time of a wait for memory: the
/// Functions host repeats a failed event five times without waiting.
const SAME_FAILURE: Duration = Duration::from_secs(60);

/// A failed run.
pub(super) struct Failure {
    /// Why it failed, for a person.
    pub(super) error: String,
    /// Whether the sink denied access, or rejects every message.
    pub(super) is_denied: bool,
    /// The wait that a receiver or service asked for.
    pub(super) retry_after: Option<Duration>,
}

/// Adds a failure at the time `now` to the failures since the last progress.
pub(super) fn add_failure(previous: Option<Failing>, failure: Failure, now: OffsetDateTime) -> Failing {
    let first = || Failing { last: OffsetDateTime::UNIX_EPOCH, ..no_failures(now) };
    let mut failing = previous.unwrap_or_else(first);
    // A failure in the future was recorded by a machine whose clock was fast.
    if (now - failing.last).abs() >= SAME_FAILURE {
        failing.attempts = failing.attempts.saturating_add(1);
        failing.last = now;
        failing.not_before = now + wait(failing.attempts);
        failing.retry_after = false;
    }
    if let Some(asked) = failure.retry_after {
        failing.not_before = now + asked.min(MAX_WAIT);
        failing.retry_after = true;
    }
    failing.is_denied &= failure.is_denied;
    failing.waits_for_memory = false;
    failing.error = failure.error;
    failing
}

/// Adds a try at the time `now` that only waited for memory to the failures since the last progress. It is no failure:
/// the failures before it still count, but the time between two such tries in a row does not, and the drop is tried
/// again soon.
pub(super) fn add_wait_for_memory(previous: Option<Failing>, why: String, now: OffsetDateTime) -> Failing {
    let mut failing = previous.unwrap_or_else(|| no_failures(now));
    if failing.waits_for_memory {
        failing.waited += (now - failing.last).try_into().unwrap_or(Duration::ZERO);
    }
    failing.waits_for_memory = true;
    failing.last = now;
    failing.not_before = now + FIRST_WAIT;
    failing.retry_after = false;
    failing.error = why;
    failing
}

/// Whether a sweep found the tenant paused at the time `paused`, after the last of the failures. They then do not
/// count: the drop was not tried for the time of the pause. A time far ahead of `now` was recorded by a machine whose
/// clock was fast.
pub(super) fn was_paused_since(failing: &Failing, paused: OffsetDateTime, now: OffsetDateTime) -> bool {
    failing.last <= paused && paused <= now + MAX_WAIT
}

/// A series in which no failure has been counted.
fn no_failures(now: OffsetDateTime) -> Failing {
    Failing {
        since: now,
        waited: Duration::ZERO,
        waits_for_memory: false,
        attempts: 0,
        last: now,
        not_before: now,
        retry_after: false,
        is_denied: true,
        error: String::new(),
    }
}

/// The wait after this number of failures.
fn wait(attempts: u32) -> Duration {
    FIRST_WAIT.saturating_mul(1 << attempts.saturating_sub(1).min(10)).min(MAX_WAIT)
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    const NOON: OffsetDateTime = datetime!(2026-11-22 12:00 UTC);

    fn minutes(minutes: u64) -> Duration {
        Duration::from_secs(minutes * 60)
    }

    fn fail(previous: Option<Failing>, retry_after: Option<Duration>, now: OffsetDateTime) -> Failing {
        add_failure(previous, Failure { error: "HTTP 503".into(), is_denied: false, retry_after }, now)
    }

    #[test]
    fn each_failure_without_progress_doubles_the_wait_up_to_an_hour() {
        let mut failing = fail(None, None, NOON);
        let mut waits = Vec::new();
        for _ in 0..9 {
            let now = failing.last;
            waits.push((failing.not_before - now).whole_minutes());
            failing = fail(Some(failing.clone()), None, failing.not_before);
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(failing.since, NOON);
    }

    #[test]
    fn the_repetitions_of_the_host_count_as_one_failure() {
        let mut failing = fail(None, None, NOON);
        for second in [10, 20, 30, 40] {
            failing = fail(Some(failing), None, NOON + Duration::from_secs(second));
        }
        assert_eq!((failing.attempts, failing.not_before), (1, NOON + minutes(1)));
    }

    #[test]
    fn a_wait_for_memory_keeps_the_failures_before_it_and_its_time_does_not_count() {
        let wait = |previous, minute| add_wait_for_memory(previous, "in use".into(), NOON + minutes(minute));
        let failing = fail(Some(fail(None, None, NOON)), None, NOON + minutes(2));
        let waiting = wait(Some(wait(Some(failing), 60)), 90);
        assert_eq!((waiting.since, waiting.waited, waiting.attempts), (NOON, minutes(30), 2));
        // People see why the drop waits now, not why it failed before.
        assert_eq!((waiting.not_before, &*waiting.error), (NOON + minutes(91), "in use"));
        let failing = fail(Some(waiting), None, NOON + minutes(92));
        assert_eq!((failing.since, failing.waited, failing.attempts), (NOON, minutes(30), 3));
        assert_eq!((failing.not_before, &*failing.error), (NOON + minutes(96), "HTTP 503"));
        // Waits alone never count, and say nothing about the failures after them.
        let waiting = wait(Some(wait(None, 0)), 600);
        assert_eq!((waiting.since, waiting.waited, waiting.attempts), (NOON, minutes(600), 0));
        assert!(waiting.is_denied);
    }

    #[test]
    fn a_drop_that_fails_at_every_second_try_and_waits_for_memory_between_is_given_up_in_time() {
        let mut failing = fail(None, None, NOON);
        for hour in 1..72 {
            let now = NOON + minutes(hour * 60);
            let wait = add_wait_for_memory(Some(failing), "in use".into(), now);
            failing = fail(Some(wait), None, now + minutes(5));
        }
        assert_eq!((failing.since, failing.waited), (NOON, Duration::ZERO));
    }

    #[test]
    fn a_failure_that_a_fast_clock_has_recorded_does_not_hide_those_after_it() {
        let failing = fail(None, None, NOON + minutes(600));
        let failing = fail(Some(failing), None, NOON);
        assert_eq!((failing.attempts, failing.not_before), (2, NOON + minutes(2)));
    }

    #[test]
    fn a_retry_after_postpones_the_drop_for_an_hour_at_most() {
        let failing = fail(None, Some(minutes(20)), NOON);
        assert_eq!((failing.not_before, failing.retry_after), (NOON + minutes(20), true));
        let failing = fail(None, Some(minutes(600)), NOON);
        assert_eq!(failing.not_before, NOON + minutes(60));
        let mut often = fail(None, None, NOON);
        often.attempts = 9;
        assert_eq!(fail(Some(often), Some(minutes(5)), NOON + minutes(60)).not_before, NOON + minutes(65));
        let later = fail(Some(failing), None, NOON + minutes(60));
        assert!(!later.retry_after);
    }
}
