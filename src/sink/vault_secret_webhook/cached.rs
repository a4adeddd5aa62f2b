//! A value with a time-to-live: read when it is first needed, and read again when it has expired.

use std::time::Duration;

use tokio::{sync::Mutex, time::Instant};

/// How long a value is used before it is read again.
const TIME_TO_LIVE: Duration = Duration::from_secs(60 * 60);

/// A cache for one value.
///
/// While the value is unknown, all callers wait for one read and share its result. While an expired value is read
/// again, the other callers get the old value; if reading fails, all callers keep the old value until it expires again.
/// If the caller that reads is cancelled, its read has no effect: the next caller reads.
pub(super) struct Cached<T, E> {
    state: Mutex<State<T, E>>,
    /// Locked by the caller that refreshes an expired value. Unlocked only after the state was updated, so that a
    /// caller that finds an expired value and this lock free is the only one that reads.
    refresh: Mutex<()>,
}

/// The result of the last read.
enum State<T, E> {
    Unread,
    Failed { at: Instant, error: E },
    Known { value: T, expires: Instant },
}

impl<T: Clone, E: Clone> Cached<T, E> {
    pub(super) fn new() -> Self {
        Self { state: Mutex::new(State::Unread), refresh: Mutex::new(()) }
    }

    /// Returns the value; calls `read` if it is unknown or has expired. The argument of `read` tells whether an expired
    /// value exists.
    pub(super) async fn get<F>(&self, read: impl FnOnce(bool) -> F) -> Result<T, E>
    where
        F: Future<Output = Result<T, E>>,
    {
        let called = Instant::now();
        let mut state = self.state.lock().await;
        let expired = match &*state {
            State::Known { value, expires } if called < *expires => return Ok(value.clone()),
            State::Known { value, .. } => value.clone(),
            // The read failed while this caller waited for the lock, so its error is the result for this caller too.
            State::Failed { at, error } if called <= *at => return Err(error.clone()),
            State::Unread | State::Failed { .. } => {
                // The lock is held during the read, so that other callers wait for its result.
                let result = read(false).await;
                *state = match result.clone() {
                    Ok(value) => State::known(value),
                    Err(error) => State::Failed { at: Instant::now(), error },
                };
                return result;
            }
        };
        let Ok(_refreshing) = self.refresh.try_lock() else {
            return Ok(expired);
        };
        drop(state);
        let value = read(true).await.unwrap_or(expired);
        *self.state.lock().await = State::known(value.clone());
        Ok(value)
    }
}

impl<T, E> State<T, E> {
    /// A value that was read now, or whose expiry starts again now.
    fn known(value: T) -> Self {
        Self::Known { value, expires: Instant::now() + TIME_TO_LIVE }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use futures::future::join_all;
    use tokio::time::{advance, sleep, timeout};

    use super::*;

    /// Returns `result` after a second, and counts the reads.
    struct Source {
        result: Cell<Result<u8, &'static str>>,
        reads: Cell<u32>,
    }

    impl Source {
        fn new(result: Result<u8, &'static str>) -> Self {
            Self { result: Cell::new(result), reads: Cell::new(0) }
        }

        async fn read(&self) -> Result<u8, &'static str> {
            self.reads.set(self.reads.get() + 1);
            sleep(Duration::from_secs(1)).await;
            self.result.get()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn concurrent_callers_share_one_read_and_its_error() {
        let (cached, source) = (Cached::new(), Source::new(Err("the vault is down")));
        let get = || cached.get(|_| source.read());
        let begun = Instant::now();
        assert_eq!(join_all((0..8).map(|_| get())).await, [Err("the vault is down"); 8]);
        assert_eq!((source.reads.get(), begun.elapsed()), (1, Duration::from_secs(1)));

        advance(Duration::from_millis(1)).await;
        source.result.set(Ok(7));
        assert_eq!(join_all((0..8).map(|_| get())).await, [Ok(7); 8]);
        assert_eq!(source.reads.get(), 2, "later callers read again");
    }

    #[tokio::test(start_paused = true)]
    async fn an_expired_value_is_read_once_and_other_callers_get_the_old_value() {
        let (cached, source) = (Cached::new(), Source::new(Ok(1)));
        let get = || cached.get(|_| source.read());
        assert_eq!(get().await, Ok(1));
        source.result.set(Ok(2));
        advance(TIME_TO_LIVE - Duration::from_secs(1)).await;
        assert_eq!((get().await, source.reads.get()), (Ok(1), 1));
        advance(Duration::from_secs(1)).await;
        assert_eq!(join_all((0..3).map(|_| get())).await, [Ok(2), Ok(1), Ok(1)]);
        assert_eq!((get().await, source.reads.get()), (Ok(2), 2));
    }

    #[tokio::test(start_paused = true)]
    async fn an_expired_value_that_cannot_be_read_again_is_kept_for_another_time_to_live() {
        let (cached, source) = (Cached::new(), Source::new(Ok(1)));
        let get = || cached.get(|_| source.read());
        for (result, expected) in [(Ok(1), 1), (Err("the vault is down"), 1), (Err("the vault is down"), 1), (Ok(2), 2)]
        {
            source.result.set(result);
            assert_eq!(get().await, Ok(expected));
            advance(TIME_TO_LIVE).await;
        }
        assert_eq!(source.reads.get(), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn a_cancelled_refresh_leaves_the_cache_as_if_it_had_not_started() {
        let (cached, source) = (Cached::new(), Source::new(Ok(1)));
        let get = || cached.get(|_| source.read());
        assert_eq!(get().await, Ok(1));
        source.result.set(Ok(2));
        advance(TIME_TO_LIVE).await;
        timeout(Duration::from_millis(500), get()).await.expect_err("the refresh takes a second");
        assert_eq!((get().await, source.reads.get()), (Ok(2), 3), "the next caller reads again");
    }
}
