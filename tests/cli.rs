//! The command line as a person, or a script of theirs, uses it: exit codes, what is on stdout, what is on stderr.

#![expect(clippy::unwrap_used, reason = "a test says what went wrong by failing")]

mod support;

#[path = "cli/again.rs"]
mod again;
#[path = "cli/check.rs"]
mod check;
#[path = "cli/decode.rs"]
mod decode;
#[path = "cli/deliver.rs"]
mod deliver;
#[path = "cli/demo.rs"]
mod demo;
#[path = "cli/onboard.rs"]
mod onboard;
#[path = "cli/queue.rs"]
mod queue;
#[path = "cli/samples.rs"]
mod samples;
#[path = "cli/simulate.rs"]
mod simulate;
