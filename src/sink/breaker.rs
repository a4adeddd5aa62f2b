//! A circuit breaker: stops the runs that deliver to a receiver that acknowledges nothing. Without it, each of these
//! runs would hold a turn of the process for minutes.
//!
//! The breaker opens when messages about different files have failed for [`OPEN_AFTER`] without any success. Then it
//! stops the runs underway, and lets one run through from time to time. The first message that the receiver
//! acknowledges closes it, and so does a rejection of a single message, because the receiver works.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// How long a receiver must acknowledge nothing before the breaker opens. A restart of a receiver takes less time.
const OPEN_AFTER: Duration = Duration::from_secs(30);

/// After this time without a failure, earlier failures no longer count.
const FORGET_AFTER: Duration = Duration::from_secs(300);

/// The wait before the first run is let through. It doubles, up to [`MAX_WAIT`], each time that such a run fails.
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
    /// When a run is let through.
    until: Instant,
    wait: Duration,
    /// When the first run since the breaker has opened was let through.
    let_through: Option<Instant>,
}

/// When a run began, as the number of times that the breaker had opened before. The breaker stops the runs that began
/// before it opened last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Passage(u64);

impl Breaker {
    /// Whether a run may start. Lets one run through from time to time while the breaker is open.
    pub fn may_start(&self) -> bool {
        let mut state = self.state();
        match &mut state.open {
            None => true,
            Some(open) if Instant::now() >= open.until => {
                open.let_through.get_or_insert_with(Instant::now);
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

    /// The passage of a run that begins now.
    pub fn passage(&self) -> Passage {
        Passage(self.state().openings)
    }

    /// Whether the breaker has not opened since the run with this passage began.
    pub fn lets_through(&self, passage: Passage) -> bool {
        let state = self.state();
        state.open.is_none() || state.openings == passage.0
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
            // A try of a run that was let through.
            Some(open) if open.let_through.is_some_and(|time| started >= time) => (open.wait * 2).min(MAX_WAIT),
            // A try that began before, or one that asks no breaker, such as that of an import.
            Some(_) => return,
            None if is_down => FIRST_WAIT,
            None => return,
        };
        state.openings += 1;
        state.open = Some(Open { until: now + wait, wait, let_through: None });
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
    async fn failures_of_messages_that_ask_no_breaker_delay_no_run() {
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
    async fn an_open_breaker_stops_the_runs_underway_and_lets_one_through_from_time_to_time() {
        let before = Breaker::default().passage();
        let breaker = opened().await;
        assert!(!breaker.lets_through(before));
        assert!(!breaker.may_start());
        for wait in [30, 60, 120, 240, 300, 300] {
            seconds(wait - 1).await;
            assert!(!breaker.may_start(), "{wait}");
            seconds(1).await;
            assert!(breaker.may_start(), "{wait}");
            assert!(!breaker.may_start(), "one at a time");
            let passage = breaker.passage();
            assert!(breaker.lets_through(passage));
            fail(&breaker, "c");
            assert!(!breaker.lets_through(passage), "the receiver still takes nothing");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_try_that_takes_as_long_as_the_wait_stops_the_run_that_was_let_through_after_it() {
        let breaker = opened().await;
        seconds(30).await;
        assert!(breaker.may_start());
        seconds(1).await;
        let (passage, started) = (breaker.passage(), Instant::now());
        seconds(29).await;
        assert!(breaker.may_start(), "the first run has no answer yet");
        seconds(1).await;
        fail_since(&breaker, "c", started);
        assert!(!breaker.lets_through(passage));
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
