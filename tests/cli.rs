//! The command line as people and scripts use it: exit codes, stdout and stderr of the real binary.

#![expect(clippy::unwrap_used, reason = "a failed setup is a failed test")]

mod support;

#[path = "cli/attributes.rs"]
mod attributes;
#[path = "cli/check.rs"]
mod check;
#[path = "cli/decode.rs"]
mod decode;
#[path = "cli/definitions.rs"]
mod definitions;
#[path = "cli/deliver.rs"]
mod deliver;
#[path = "cli/demo.rs"]
mod demo;
#[path = "cli/directory.rs"]
mod directory;
#[path = "cli/onboard.rs"]
mod onboard;
#[path = "cli/queue.rs"]
mod queue;
#[path = "cli/replay_and_sweep.rs"]
mod replay_and_sweep;
#[path = "cli/samples.rs"]
mod samples;
#[path = "cli/simulate.rs"]
mod simulate;
#[path = "cli/status.rs"]
mod status;
