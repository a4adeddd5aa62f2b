//! Logging: JSON lines on stdout for the Functions host, short lines on stderr for a terminal.

use std::{
    collections::HashSet,
    hash::{BuildHasher, RandomState},
    io::IsTerminal,
    mem, panic,
    sync::{LazyLock, Mutex, PoisonError},
};

use tracing_subscriber::{EnvFilter, filter::LevelFilter, fmt::time::UtcTime};

use crate::one_line::EscapeDeceptive;

/// The log levels without `RUST_LOG`: `info` for vivadrop, `warn` for libraries.
const DEFAULT_FILTER: &str = "warn,vivadrop=info";

/// Logs JSON lines to stdout, because the host reports every line on stderr as an error.
pub fn init_for_host() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(DEFAULT_FILTER));
    let format =
        tracing_subscriber::fmt().json().flatten_event(true).log_internal_errors(false).with_timer(UtcTime::rfc_3339());
    let format = format.with_writer(|| EscapeDeceptive(std::io::stdout()));
    format.with_env_filter(filter).with_target(false).init();
    log_panics();
}

/// Logs to stderr, because rows go to stdout; only warnings and errors unless `RUST_LOG` is set.
pub fn init_for_terminal() {
    let filter = EnvFilter::builder().with_default_directive(LevelFilter::WARN.into()).from_env_lossy();
    let writer = || EscapeDeceptive(std::io::stderr());
    let format = tracing_subscriber::fmt().with_writer(writer).without_time().with_target(false);
    let format = format.with_ansi(has_colours(&std::io::stderr())).log_internal_errors(false);
    format.with_env_filter(filter).init();
    log_panics();
}

/// Whether output to `stream` has colours: it is a terminal, and the user has not set `NO_COLOR`
/// (<https://no-color.org>).
pub(crate) fn has_colours(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Logs only the location of a panic: its message may contain data that was being decoded.
fn log_panics() {
    panic::set_hook(Box::new(|panic| {
        let location = match panic.location() {
            Some(location) => location.to_string(),
            None => "an unknown location".to_owned(),
        };
        tracing::error!("a task panicked at {location}: a defect of vivadrop, please report it");
    }));
}

/// The number of lines that are remembered at least; twice as many take about 100 KiB.
const MAX_SEEN_LINES: usize = 2048;

/// Whether this is the first call with `line` in this process.
///
/// Every sweep finds the same conditions again, and each of them should be logged once. If there are more different
/// lines than are remembered, some of them are logged again.
pub(crate) fn is_first_occurrence(line: &str) -> bool {
    static SEEN: LazyLock<Mutex<SeenLines>> = LazyLock::new(Mutex::default);
    SEEN.lock().unwrap_or_else(PoisonError::into_inner).insert(line)
}

/// The hashes of lines that were logged; bounded.
#[derive(Default)]
struct SeenLines {
    hasher: RandomState,
    newer: HashSet<u64>,
    older: HashSet<u64>,
}

impl SeenLines {
    /// Adds `line`; returns whether it is new. Forgets the older half of the lines when there are too many.
    fn insert(&mut self, line: &str) -> bool {
        let hash = self.hasher.hash_one(line);
        if self.newer.len() == MAX_SEEN_LINES {
            self.older = mem::take(&mut self.newer);
        }
        self.newer.insert(hash) && !self.older.contains(&hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_lines_are_recognized_and_their_number_is_bounded() {
        let mut seen = SeenLines::default();
        assert!(seen.insert("refused a"));
        assert!(!seen.insert("refused a"));
        assert!(seen.insert("refused b"));
        for line in 0..2 * MAX_SEEN_LINES {
            seen.insert(&line.to_string());
            assert!(seen.newer.len() <= MAX_SEEN_LINES && seen.older.len() <= MAX_SEEN_LINES);
        }
        assert!(seen.insert("refused a"));
        assert!(!seen.insert(&(2 * MAX_SEEN_LINES - 1).to_string()), "the newest lines are remembered");
    }
}
