//! Retries with exponential backoff and full jitter, within a time budget.
//!
//! The caller decides with [`Attempt`] whether a failure is transient. [`Backoff`] decides how long to wait; [`retry`]
//! is the loop around it.

use std::{
    future::Future,
    time::{Duration, SystemTime},
};

use tokio::time::{Instant, sleep};

/// The longest wait that a `Retry-After` can cause, within a call and between two runs.
pub const MAX_RETRY_AFTER: Duration = Duration::from_secs(60 * 60);

/// How long to wait between attempts, and when to give up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryBudget {
    /// The upper bound of the first wait. It doubles with each further wait.
    pub first_wait: Duration,
    /// The upper bound of every wait, except for one that the other side asked for.
    pub max_wait: Duration,
    /// The time within which attempts are started, from the start of the first one.
    pub total: Duration,
}

impl RetryBudget {
    /// One attempt, and no retries.
    pub const ONE_ATTEMPT: Self = Self::lasting(Duration::ZERO);

    /// Retries for `total`, with waits of up to 0.5 s at first and 30 s at most.
    pub const fn lasting(total: Duration) -> Self {
        Self { first_wait: Duration::from_millis(500), max_wait: Duration::from_secs(30), total }
    }

    /// The wait after attempt `number`, counted from 1. `jitter` is a random number from 0 to 1: clients that failed at
    /// the same time do not retry at the same time.
    fn wait(&self, number: u32, jitter: f64) -> Duration {
        let bound = self.first_wait.saturating_mul(1 << (number - 1).min(20)).min(self.max_wait);
        bound.mul_f64(jitter)
    }
}

/// The result of one attempt.
#[derive(Debug)]
pub enum Attempt<T, E> {
    /// The attempt succeeded.
    Done(T),
    /// The attempt failed, and so would any other.
    Permanent(E),
    /// The attempt failed, and another may succeed. The other side may have asked to wait this long before it
    /// (`Retry-After`).
    Transient(E, Option<Duration>),
}

/// Why there are no more attempts.
#[derive(Debug, PartialEq, Eq)]
pub enum GaveUp<E> {
    /// An attempt failed permanently.
    Permanent(E),
    /// The last attempt failed transiently, and the [`RetryBudget`] was spent.
    BudgetSpent(E, BudgetSpent),
}

impl<E> GaveUp<E> {
    /// The error of the last attempt.
    pub fn into_error(self) -> E {
        match self {
            Self::Permanent(error) | Self::BudgetSpent(error, _) => error,
        }
    }
}

/// How a [`RetryBudget`] was spent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BudgetSpent {
    /// The number of attempts.
    pub attempts: u32,
    /// The wait that the other side asked for after the last attempt, if it is longer than what was left of the budget;
    /// at most [`MAX_RETRY_AFTER`].
    pub retry_after: Option<Duration>,
}

/// The attempts of one call: counts them, and decides after each how long to wait. Does not sleep.
#[derive(Debug)]
pub struct Backoff {
    budget: RetryBudget,
    started: Instant,
    attempts: u32,
}

impl Backoff {
    /// Starts the budget.
    pub fn start(budget: RetryBudget) -> Self {
        Self { budget, started: Instant::now(), attempts: 0 }
    }

    /// Counts an attempt that failed transiently. Returns how long to wait before the next one. The other side may have
    /// asked to wait for `retry_after`.
    pub fn wait_after_failure(&mut self, retry_after: Option<Duration>) -> Result<Duration, BudgetSpent> {
        self.attempts += 1;
        let left = self.budget.total.saturating_sub(self.started.elapsed());
        let requested = retry_after.map(|requested| requested.min(MAX_RETRY_AFTER));
        let wait = self.budget.wait(self.attempts, fastrand::f64()).max(requested.unwrap_or_default());
        if wait < left {
            return Ok(wait);
        }
        let retry_after = requested.filter(|&requested| requested >= left);
        Err(BudgetSpent { attempts: self.attempts, retry_after })
    }

    /// The number of attempts that have failed.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }
}

/// Calls `attempt`, with the number of the attempt from 1, until it succeeds, fails permanently, or the budget is
/// spent.
pub async fn retry<T, E, F>(budget: RetryBudget, mut attempt: impl FnMut(u32) -> F) -> Result<T, GaveUp<E>>
where
    F: Future<Output = Attempt<T, E>>,
{
    let mut backoff = Backoff::start(budget);
    loop {
        let (error, retry_after) = match attempt(backoff.attempts() + 1).await {
            Attempt::Done(value) => return Ok(value),
            Attempt::Permanent(error) => return Err(GaveUp::Permanent(error)),
            Attempt::Transient(error, retry_after) => (error, retry_after),
        };
        match backoff.wait_after_failure(retry_after) {
            Ok(wait) => sleep(wait).await,
            Err(spent) => return Err(GaveUp::BudgetSpent(error, spent)),
        }
    }
}

/// Parses a `Retry-After` header: seconds or a date (RFC 9110, section 10.2.3). Returns how long to wait from `now` on:
/// no time if the date has passed. Returns `None` if the header is invalid.
pub fn retry_after(text: &str, now: SystemTime) -> Option<Duration> {
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // The only possible error is that the number is too large.
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    const BUDGET: RetryBudget = RetryBudget::lasting(Duration::from_secs(240));

    #[test]
    fn waits_double_up_to_the_maximum_and_have_full_jitter() {
        let bounds: Vec<_> = (1..=8).map(|number| BUDGET.wait(number, 1.0).as_secs_f64()).collect();
        assert_eq!(bounds, [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]);
        assert_eq!(BUDGET.wait(5, 0.0), Duration::ZERO);
        assert_eq!(BUDGET.wait(u32::MAX, 1.0), BUDGET.max_wait);
    }

    #[tokio::test(start_paused = true)]
    async fn a_transient_failure_is_retried_until_an_attempt_succeeds() {
        let done = retry(BUDGET, |number| async move {
            if number < 6 { Attempt::Transient("not yet", None) } else { Attempt::Done(number) }
        });
        assert_eq!(done.await, Ok::<_, GaveUp<&str>>(6));
    }

    #[tokio::test(start_paused = true)]
    async fn retries_end_with_the_budget() {
        let started = Instant::now();
        let end = retry(BUDGET, |_| async { Attempt::<(), _>::Transient("down", None) }).await;
        assert!(
            matches!(end, Err(GaveUp::BudgetSpent("down", spent)) if spent.attempts > 8 && spent.retry_after.is_none()),
            "{end:?}"
        );
        assert!(started.elapsed() <= BUDGET.total);
    }

    #[tokio::test(start_paused = true)]
    async fn a_retry_after_is_honoured_up_to_an_hour() {
        let started = Instant::now();
        let hour = Duration::from_secs(3600);
        let done = retry(RetryBudget::lasting(hour * 3), |number| async move {
            if number == 1 { Attempt::<_, ()>::Transient((), Some(hour * 2)) } else { Attempt::Done(()) }
        });
        assert_eq!(done.await, Ok(()));
        assert_eq!(started.elapsed(), hour);
    }

    #[tokio::test(start_paused = true)]
    async fn a_retry_after_beyond_the_budget_is_returned_and_not_waited_for() {
        for (requested, returned) in [(239, None), (240, Some(240)), (600, Some(600)), (u64::MAX, Some(3600))] {
            let started = Instant::now();
            let requested = Some(Duration::from_secs(requested));
            let end = retry(BUDGET, |number| async move {
                if number == 1 { Attempt::Transient("busy", requested) } else { Attempt::<(), _>::Permanent("gone") }
            });
            let expected = match returned.map(Duration::from_secs) {
                None => GaveUp::Permanent("gone"),
                retry_after => GaveUp::BudgetSpent("busy", BudgetSpent { attempts: 1, retry_after }),
            };
            assert_eq!(end.await, Err(expected));
            assert_eq!(started.elapsed(), if returned.is_none() { Duration::from_secs(239) } else { Duration::ZERO });
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_retry_after_is_compared_with_what_is_left_of_the_budget() {
        let minute = Duration::from_secs(60);
        let end = retry(BUDGET, |_| async { Attempt::<(), _>::Transient("busy", Some(minute)) }).await;
        let spent = BudgetSpent { attempts: 4, retry_after: Some(minute) };
        assert_eq!(end, Err(GaveUp::BudgetSpent("busy", spent)), "tries at 0, 60, 120 and 180 s");
    }

    #[tokio::test(start_paused = true)]
    async fn a_budget_of_one_attempt_has_no_retry() {
        let end = retry(RetryBudget::ONE_ATTEMPT, |_| async { Attempt::<(), _>::Transient("down", None) }).await;
        assert_eq!(end, Err(GaveUp::BudgetSpent("down", BudgetSpent { attempts: 1, retry_after: None })));
    }

    #[tokio::test]
    async fn a_permanent_failure_is_not_retried() {
        let end = retry(BUDGET, |_| async { Attempt::<(), _>::Permanent("no") }).await;
        assert_eq!(end, Err(GaveUp::Permanent("no")));
    }

    /// Parses `text` 60 s before Sun, 06 Nov 1994 08:50:37 GMT.
    fn parse(text: &str) -> Option<Duration> {
        retry_after(text, UNIX_EPOCH + Duration::from_secs(784_111_777))
    }

    #[test]
    fn a_retry_after_has_seconds_or_a_date_in_one_of_three_formats() {
        assert_eq!(parse("0"), Some(Duration::ZERO));
        assert_eq!(parse("120"), Some(Duration::from_secs(120)));
        assert_eq!(parse("99999999999999999999999"), Some(Duration::from_secs(u64::MAX)));
        for date in ["Sun, 06 Nov 1994 08:50:37 GMT", "Sunday, 06-Nov-94 08:50:37 GMT", "Sun Nov  6 08:50:37 1994"] {
            assert_eq!(parse(date), Some(Duration::from_secs(60)), "{date}");
        }
    }

    #[test]
    fn a_retry_after_in_the_past_means_no_wait_and_an_invalid_one_is_ignored() {
        assert_eq!(parse("Sun, 06 Nov 1994 08:00:00 GMT"), Some(Duration::ZERO));
        for text in ["", "soon", "-1", "1.5", "+5"] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }
}
