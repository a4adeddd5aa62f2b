//! A circuit breaker: stops the runs that deliver to a receiver that acknowledges nothing. Without it, each of these
//! runs would hold a run permit for minutes.
//!
//! The breaker opens when messages about different files have failed for [`OPEN_AFTER`] without any success, and stops
//! the runs underway. From time to time it lets one run start as a trial. The first message that the receiver
//! acknowledges closes the breaker, and so does a rejection of a single message, because the receiver works.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// How long a receiver must acknowledge nothing before the breaker opens. A restart of a receiver takes less time.
const OPEN_AFTER: Duration = Duration::from_secs(30);

/// After this time without a failure, earlier failures no longer count.
const FORGET_AFTER: Duration = Duration::from_secs(300);

/// The wait before the first trial run. It doubles, up to [`MAX_WAIT`], each time that a trial fails.
const FIRST_WAIT: Duration = Duration::from_secs(30);
const MAX_WAIT: Duration = Duration::from_secs(300);

/// The breaker of one receiver.
#[derive(Debug, Default)]
pub struct Breaker(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    failing: Option<Failing>,
    open: Option<Open>,
    /// How often the breaker has opened.
    openings: u64,
    /// When the receiver last worked.
    last_success: Option<Instant>,
    last_failure: Option<LastFailure>,
}

/// The last failed try.
#[derive(Debug, Clone)]
pub(super) struct LastFailure {
    /// Its result.
    pub(super) answer: String,
    /// Whether the receiver answered that it accepts no message at all.
    pub(super) is_service: bool,
}

/// The failures since the last success.
#[derive(Debug)]
struct Failing {
    since: Instant,
    last: Instant,
    subject: String,
    has_several_subjects: bool,
}

#[derive(Debug)]
struct Open {
    /// When the next trial run may start.
    until: Instant,
    wait: Duration,
    /// When the first trial since the breaker opened was allowed.
    first_trial: Option<Instant>,
}

/// How often the breaker had opened when a run began. The breaker stops the runs that began before it opened last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Openings(u64);

impl Breaker {
    /// Whether a run may start. While the breaker is open, allows a trial run from time to time.
    pub fn may_start(&self) -> bool {
        let mut state = self.state();
        match &mut state.open {
            None => true,
            Some(open) if Instant::now() >= open.until => {
                open.first_trial.get_or_insert_with(Instant::now);
                open.until = Instant::now() + open.wait;
                true
            }
            Some(_) => false,
        }
    }

    /// Whether a run that wants to start would have to wait.
    pub fn is_open(&self) -> bool {
        self.state().open.as_ref().is_some_and(|open| Instant::now() < open.until)
    }

    /// How often the breaker has opened.
    pub fn openings(&self) -> Openings {
        Openings(self.state().openings)
    }

    /// Whether a run that began after this number of `openings` must stop: the breaker has opened since, and is still
    /// open.
    pub fn stops(&self, openings: Openings) -> bool {
        let state = self.state();
        state.open.is_some() && state.openings != openings.0
    }

    /// Records that the receiver works: it has acknowledged a message, or rejected that message alone.
    pub(super) fn succeeded(&self) {
        let mut state = self.state();
        (state.failing, state.open, state.last_success) = (None, None, Some(Instant::now()));
    }

    /// The last failed try; `None` if there was none.
    pub(super) fn last_failure(&self) -> Option<LastFailure> {
        self.state().last_failure.clone()
    }

    /// Records that the receiver did not acknowledge a message about `subject`, in a try that began at `started`.
    pub(super) fn failed(&self, subject: &str, started: Instant, failure: LastFailure) {
        let (mut state, now) = (self.state(), Instant::now());
        state.last_failure = Some(failure);
        let since = state.last_success.map_or(started, |success| success.max(started));
        let previous = state.failing.take().filter(|failing| now - failing.last < FORGET_AFTER);
        let failing = match previous {
            Some(Failing { since, subject: first, has_several_subjects, .. }) => Failing {
                since,
                last: now,
                has_several_subjects: has_several_subjects || first != subject,
                subject: first,
            },
            None => Failing { since, last: now, subject: subject.to_owned(), has_several_subjects: false },
        };
        let is_down = failing.has_several_subjects && now - failing.since >= OPEN_AFTER;
        state.failing = Some(failing);
        let wait = match &state.open {
            // A try of a trial run.
            Some(open) if open.first_trial.is_some_and(|time| started >= time) => (open.wait * 2).min(MAX_WAIT),
            // A try that began before the first trial.
            Some(_) => return,
            None if is_down => FIRST_WAIT,
            None => return,
        };
        state.openings += 1;
        state.open = Some(Open { until: now + wait, wait, first_trial: None });
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    async fn seconds(seconds: u64) {
        advance(Duration::from_secs(seconds)).await;
    }

    fn fail(breaker: &Breaker, subject: &str) {
        fail_since(breaker, subject, Instant::now());
    }

    fn fail_since(breaker: &Breaker, subject: &str, started: Instant) {
        breaker.failed(subject, started, LastFailure { answer: "HTTP 503".into(), is_service: false });
    }

    /// A breaker that has opened just now.
    async fn opened() -> Breaker {
        let breaker = Breaker::default();
        fail(&breaker, "a");
        seconds(30).await;
        fail(&breaker, "b");
        assert!(breaker.is_open());
        breaker
    }

    #[tokio::test(start_paused = true)]
    async fn one_file_that_fails_opens_nothing() {
        let breaker = Breaker::default();
        for _ in 0..100 {
            fail(&breaker, "a");
            seconds(10).await;
        }
        assert!(breaker.may_start());
    }

    #[tokio::test(start_paused = true)]
    async fn a_short_outage_opens_nothing() {
        let breaker = Breaker::default();
        for subject in ["a", "b", "c"] {
            fail(&breaker, subject);
            seconds(9).await;
        }
        breaker.succeeded();
        fail(&breaker, "d");
        assert!(breaker.may_start());
    }

    #[tokio::test(start_paused = true)]
    async fn tries_that_began_before_a_success_open_nothing() {
        let (breaker, started) = (Breaker::default(), Instant::now());
        seconds(29).await;
        breaker.succeeded();
        seconds(1).await;
        for subject in ["a", "b"] {
            fail_since(&breaker, subject, started);
        }
        assert!(breaker.may_start());
    }

    #[tokio::test(start_paused = true)]
    async fn failures_before_the_first_trial_do_not_postpone_it() {
        let breaker = opened().await;
        for _ in 0..29 {
            seconds(1).await;
            fail(&breaker, "an import");
        }
        seconds(1).await;
        assert!(breaker.may_start());
    }

    #[tokio::test(start_paused = true)]
    async fn failures_hours_apart_open_nothing() {
        let breaker = Breaker::default();
        for subject in ["a", "b", "c"] {
            fail(&breaker, subject);
            seconds(3600).await;
        }
        assert!(breaker.may_start());
    }

    #[tokio::test(start_paused = true)]
    async fn an_open_breaker_stops_the_runs_underway_and_allows_a_trial_from_time_to_time() {
        let before = Breaker::default().openings();
        let breaker = opened().await;
        assert!(breaker.stops(before));
        assert!(!breaker.may_start());
        for wait in [30, 60, 120, 240, 300, 300] {
            seconds(wait - 1).await;
            assert!(!breaker.may_start(), "{wait}");
            seconds(1).await;
            assert!(breaker.may_start(), "{wait}");
            assert!(!breaker.may_start(), "one at a time");
            let openings = breaker.openings();
            assert!(!breaker.stops(openings));
            fail(&breaker, "c");
            assert!(breaker.stops(openings), "the receiver still takes nothing");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_try_that_takes_as_long_as_the_wait_stops_the_trial_that_began_after_it() {
        let breaker = opened().await;
        seconds(30).await;
        assert!(breaker.may_start());
        seconds(1).await;
        let (openings, started) = (breaker.openings(), Instant::now());
        seconds(29).await;
        assert!(breaker.may_start(), "the first run has no answer yet");
        seconds(1).await;
        fail_since(&breaker, "c", started);
        assert!(breaker.stops(openings));
        seconds(59).await;
        assert!(!breaker.may_start());
        seconds(1).await;
        assert!(breaker.may_start());
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_that_the_receiver_takes_closes_the_breaker() {
        let breaker = opened().await;
        seconds(30).await;
        assert!(breaker.may_start());
        breaker.succeeded();
        assert!(breaker.may_start() && breaker.may_start());
    }
}
