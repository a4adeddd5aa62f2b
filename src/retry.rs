//! Trying again: exponential backoff with full jitter, for as long as patience lasts.
//!
//! Knows time and chance, and nothing of what is tried. Whether trying again may help is the caller's to say, with
//! [`Attempt`].

use std::{
    future::Future,
    time::{Duration, SystemTime},
};

use tokio::time::{Instant, sleep};

/// The longest wait that a `Retry-After` is granted.
pub const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(5 * 60);

/// How long is waited between tries, and for how long there are tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryBudget {
    /// The longest first wait; each further one may be twice as long.
    pub first: Duration,
    /// What no wait exceeds, but for one that the other side asked for.
    pub longest: Duration,
    /// How long there are tries: none begins later than this after the first.
    pub total: Duration,
}

impl RetryBudget {
    /// The waits of design: 0.5 s, doubling to 30 s.
    pub const fn lasting(total: Duration) -> Self {
        Self { first: Duration::from_millis(500), longest: Duration::from_secs(30), total }
    }

    /// The wait before try `number` (1 is the first repetition): anywhere between nothing and the doubled bound, so that
    /// many who failed together do not come back together.
    fn wait(&self, number: u32, chance: f64) -> Duration {
        let bound = self.first.saturating_mul(1 << (number - 1).min(20)).min(self.longest);
        bound.mul_f64(chance)
    }
}

/// What came of one try.
#[derive(Debug)]
pub enum Attempt<T, E> {
    /// It worked.
    Done(T),
    /// It failed, and trying again cannot help.
    Failed(E),
    /// It failed, and trying again may help: after the given time, if the other side asked for one.
    Again(E, Option<Duration>),
}

/// Why there was no further try.
#[derive(Debug, PartialEq, Eq)]
pub enum GaveUp<E> {
    /// Trying again could not help.
    Failed(E),
    /// RetryBudget ran out after this many tries; the last one's error.
    OutOfPatience(E, u32),
}

/// Tries until it works, cannot work, or patience runs out.
pub async fn tries<T, E, F>(patience: RetryBudget, mut attempt: impl FnMut(u32) -> F) -> Result<T, GaveUp<E>>
where
    F: Future<Output = Attempt<T, E>>,
{
    let begun = Instant::now();
    for number in 1.. {
        let (error, asked) = match attempt(number).await {
            Attempt::Done(value) => return Ok(value),
            Attempt::Failed(error) => return Err(GaveUp::Failed(error)),
            Attempt::Again(error, asked) => (error, asked),
        };
        let wait = patience.wait(number, fastrand::f64()).max(asked.unwrap_or_default().min(LONGEST_RETRY_AFTER));
        if begun.elapsed() + wait > patience.total {
            return Err(GaveUp::OutOfPatience(error, number));
        }
        sleep(wait).await;
    }
    unreachable!("the numbers of tries do not end")
}

/// How long a `Retry-After` asks for, in seconds or as a date (RFC 9110, section 10.2.3). A date that has passed asks for
/// no wait.
pub fn retry_after(text: &str, now: SystemTime) -> Option<Duration> {
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    const PATIENCE: RetryBudget = RetryBudget::lasting(Duration::from_secs(240));

    #[test]
    fn waits_double_up_to_the_longest_and_are_jittered_in_full() {
        let bounds: Vec<_> = (1..=8).map(|number| PATIENCE.wait(number, 1.0).as_secs_f64()).collect();
        assert_eq!(bounds, [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]);
        assert_eq!(PATIENCE.wait(5, 0.0), Duration::ZERO);
        assert_eq!(PATIENCE.wait(u32::MAX, 1.0), PATIENCE.longest);
    }

    #[tokio::test(start_paused = true)]
    async fn what_fails_for_a_while_is_tried_until_it_works() {
        let done = tries(PATIENCE, |number| async move {
            if number < 6 { Attempt::Again("not yet", None) } else { Attempt::Done(number) }
        });
        assert_eq!(done.await, Ok::<_, GaveUp<&str>>(6));
    }

    #[tokio::test(start_paused = true)]
    async fn patience_ends() {
        let begun = Instant::now();
        let end = tries(PATIENCE, |_| async { Attempt::<(), _>::Again("down", None) }).await;
        assert!(matches!(end, Err(GaveUp::OutOfPatience("down", tries)) if tries > 8), "{end:?}");
        assert!(begun.elapsed() <= PATIENCE.total);
    }

    #[tokio::test(start_paused = true)]
    async fn a_retry_after_is_honoured_up_to_five_minutes() {
        let begun = Instant::now();
        let patience = RetryBudget::lasting(Duration::from_secs(3600));
        let done = tries(patience, |number| async move {
            let hour = Some(Duration::from_secs(3600));
            if number == 1 { Attempt::<_, ()>::Again((), hour) } else { Attempt::Done(()) }
        });
        assert_eq!(done.await, Ok(()));
        assert_eq!(begun.elapsed(), LONGEST_RETRY_AFTER);
    }

    #[tokio::test]
    async fn what_cannot_work_is_tried_once() {
        let end = tries(PATIENCE, |_| async { Attempt::<(), _>::Failed("no") }).await;
        assert_eq!(end, Err(GaveUp::Failed("no")));
    }

    fn asked(text: &str) -> Option<Duration> {
        // Sun, 06 Nov 1994 08:49:37 GMT: the example of RFC 9110.
        retry_after(text, UNIX_EPOCH + Duration::from_secs(784_111_777))
    }

    #[test]
    fn a_retry_after_is_in_seconds_or_a_date_of_any_of_the_three_forms() {
        assert_eq!(asked("0"), Some(Duration::ZERO));
        assert_eq!(asked("120"), Some(Duration::from_secs(120)));
        assert_eq!(asked("99999999999999999999999"), Some(Duration::from_secs(u64::MAX)));
        for date in ["Sun, 06 Nov 1994 08:50:37 GMT", "Sunday, 06-Nov-94 08:50:37 GMT", "Sun Nov  6 08:50:37 1994"] {
            assert_eq!(asked(date), Some(Duration::from_secs(60)), "{date}");
        }
    }

    #[test]
    fn a_retry_after_that_is_past_or_unreadable_asks_for_nothing() {
        assert_eq!(asked("Sun, 06 Nov 1994 08:00:00 GMT"), Some(Duration::ZERO));
        for text in ["", "soon", "-1", "1.5", "+5"] {
            assert_eq!(asked(text), None, "{text:?}");
        }
    }
}
