//! A value that is read elsewhere when it is first needed, kept, and read again from time to time.
//!
//! Knows time and who waits for whom, and nothing of what is read.

use std::time::Duration;

use tokio::{sync::Mutex, time::Instant};

/// How long a value is used before it is read again.
const AS_LONG_AS: Duration = Duration::from_secs(60 * 60);

/// The value, as far as it is known.
pub(super) struct Cached<T, E>(Mutex<Last<T, E>>);

/// What came of reading it.
enum Last<T, E> {
    Never,
    Failed { at: Instant, why: E },
    Known { value: T, until: Instant },
}

impl<T: Clone, E: Clone> Cached<T, E> {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Last::Never))
    }

    /// The value; by `read` where it is not known, or has been for a while. `read` is told whether there is one to go on with:
    /// whoever finds it old reads it anew, the others go on with it meanwhile, and so do all if it cannot be read.
    pub(super) async fn get<F>(&self, read: impl FnOnce(bool) -> F) -> Result<T, E>
    where
        F: Future<Output = Result<T, E>>,
    {
        let asked = Instant::now();
        let mut last = self.0.lock().await;
        let old = match &mut *last {
            Last::Known { value, until } if asked < *until => return Ok(value.clone()),
            // What came of it while this one waited is the answer to all who did.
            Last::Failed { at, why } if asked <= *at => return Err(why.clone()),
            Last::Never | Last::Failed { .. } => {
                let end = read(false).await;
                *last = match end.clone() {
                    Ok(value) => Last::Known { value, until: Instant::now() + AS_LONG_AS },
                    Err(why) => Last::Failed { at: Instant::now(), why },
                };
                return end;
            }
            Last::Known { value, until } => {
                *until = asked + AS_LONG_AS;
                value.clone()
            }
        };
        drop(last);
        let Ok(value) = read(true).await else {
            return Ok(old);
        };
        *self.0.lock().await = Last::Known { value: value.clone(), until: Instant::now() + AS_LONG_AS };
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use futures::future::join_all;
    use tokio::time::{advance, sleep};

    use super::*;

    /// Takes a second to give `end`, and counts how often that is asked for.
    struct Source {
        end: Cell<Result<u8, &'static str>>,
        reads: Cell<u32>,
    }

    impl Source {
        fn of(end: Result<u8, &'static str>) -> Self {
            Self { end: Cell::new(end), reads: Cell::new(0) }
        }

        async fn read(&self) -> Result<u8, &'static str> {
            self.reads.set(self.reads.get() + 1);
            sleep(Duration::from_secs(1)).await;
            self.end.get()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn all_who_wait_for_one_try_share_what_came_of_it() {
        let (kept, source) = (Cached::new(), Source::of(Err("the vault is away")));
        let ask = || kept.get(|_| source.read());
        let begun = Instant::now();
        assert_eq!(join_all((0..8).map(|_| ask())).await, [Err("the vault is away"); 8]);
        assert_eq!((source.reads.get(), begun.elapsed()), (1, Duration::from_secs(1)));

        advance(Duration::from_millis(1)).await;
        source.end.set(Ok(7));
        assert_eq!(join_all((0..8).map(|_| ask())).await, [Ok(7); 8]);
        assert_eq!(source.reads.get(), 2, "who comes later tries again");
    }

    #[tokio::test(start_paused = true)]
    async fn a_value_is_read_again_after_a_while_and_the_old_one_serves_meanwhile() {
        let (kept, source) = (Cached::new(), Source::of(Ok(1)));
        let ask = || kept.get(|_| source.read());
        assert_eq!(ask().await, Ok(1));
        source.end.set(Ok(2));
        advance(AS_LONG_AS - Duration::from_secs(1)).await;
        assert_eq!((ask().await, source.reads.get()), (Ok(1), 1));
        advance(Duration::from_secs(1)).await;
        assert_eq!(join_all((0..3).map(|_| ask())).await, [Ok(2), Ok(1), Ok(1)]);
        assert_eq!((ask().await, source.reads.get()), (Ok(2), 2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_value_that_cannot_be_read_again_is_kept_until_the_next_time() {
        let (kept, source) = (Cached::new(), Source::of(Ok(1)));
        let ask = || kept.get(|_| source.read());
        for (now, value) in [(Ok(1), 1), (Err("the vault is away"), 1), (Err("the vault is away"), 1), (Ok(2), 2)] {
            source.end.set(now);
            assert_eq!(ask().await, Ok(value));
            advance(AS_LONG_AS).await;
        }
        assert_eq!(source.reads.get(), 4);
    }
}
