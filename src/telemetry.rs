//! Logs: JSON lines on stdout for the host, short lines on stderr for a person.

use std::{io::IsTerminal, panic};

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
