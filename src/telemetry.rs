//! Logs: JSON lines on stdout for the host, short lines on stderr for a person.

use std::{
    collections::HashSet,
    hash::{BuildHasher, RandomState},
    io::IsTerminal,
    panic,
    sync::{LazyLock, Mutex, PoisonError},
};

use tracing_subscriber::{EnvFilter, filter::LevelFilter, fmt::time::UtcTime};

/// What is logged: our own story at info, libraries when they are worried.
const FILTER: &str = "warn,vivadrop=info";

/// Logs JSON lines to stdout. The host calls every line on stderr an error, so nothing ordinary goes there.
pub fn for_the_host() {
    let format = tracing_subscriber::fmt().json().flatten_event(true).with_timer(UtcTime::rfc_3339());
    format.with_env_filter(filter()).with_target(false).init();
    log_panics();
}

/// Logs to stderr, since stdout is for rows; warnings alone unless `RUST_LOG` asks for more.
pub fn for_a_person() {
    let filter = EnvFilter::builder().with_default_directive(LevelFilter::WARN.into()).from_env_lossy();
    let format = tracing_subscriber::fmt().with_writer(std::io::stderr).without_time().with_target(false);
    format.with_ansi(std::io::stderr().is_terminal()).with_env_filter(filter).init();
    log_panics();
}

fn filter() -> EnvFilter {
    EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(FILTER))
}

/// A panic is logged by its place alone: its message may quote what was being decoded.
fn log_panics() {
    panic::set_hook(Box::new(|panic| {
        let place = panic.location().map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
        tracing::error!("a task panicked at {place}: a defect of vivadrop, please report it");
    }));
}

/// How many lines are remembered: some 100 KiB.
const MOST_NEWS: usize = 4096;

/// Whether `line` is said for the first time in this process. What every sweep comes across again is worth one warning; where
/// there is more of it than is remembered, some of it is said again.
pub(crate) fn is_first_occurrence(line: &str) -> bool {
    static NEWS: LazyLock<Mutex<News>> = LazyLock::new(Mutex::default);
    NEWS.lock().unwrap_or_else(PoisonError::into_inner).is_new(line)
}

/// The lines that were said, by their hashes.
#[derive(Default)]
struct News {
    hasher: RandomState,
    said: HashSet<u64>,
}

impl News {
    fn is_new(&mut self, line: &str) -> bool {
        if self.said.len() == MOST_NEWS {
            self.said.clear();
        }
        self.said.insert(self.hasher.hash_one(line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_is_no_news_and_is_not_remembered_without_bound() {
        let mut news = News::default();
        assert!(news.is_new("refused a"));
        assert!(!news.is_new("refused a"));
        assert!(news.is_new("refused b"));
        for line in 0..2 * MOST_NEWS {
            news.is_new(&line.to_string());
            assert!(news.said.len() <= MOST_NEWS);
        }
        assert!(news.is_new("refused a"));
    }
}
