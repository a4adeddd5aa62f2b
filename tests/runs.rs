//! Tests of runs: concurrent ones, repeated ones, and runs in processes that are killed or lose the ledger at any step.
//!
//! The code under test is real; the storage and the receiver are in memory, and time is paused. The tests check what
//! the receiver sees: every row, and then exactly one ending.

#![expect(clippy::unwrap_used, reason = "a panic is a good failure message in a test")]

mod support;

#[path = "runs/averages.rs"]
mod averages;
#[path = "runs/breaker.rs"]
mod breaker;
#[path = "runs/clocks.rs"]
mod clocks;
#[path = "runs/concurrent.rs"]
mod concurrent;
#[path = "runs/directory.rs"]
mod directory;
#[path = "runs/endings.rs"]
mod endings;
#[path = "runs/faults.rs"]
mod faults;
#[path = "runs/giving_up.rs"]
mod giving_up;
#[path = "runs/import_failures.rs"]
mod import_failures;
#[path = "runs/import_records.rs"]
mod import_records;
#[path = "runs/import_requests.rs"]
mod import_requests;
#[path = "runs/imports.rs"]
mod imports;
#[path = "runs/isolation.rs"]
mod isolation;
#[path = "runs/listing.rs"]
mod listing;
#[path = "runs/new_ranges.rs"]
mod new_ranges;
#[path = "runs/outcomes.rs"]
mod outcomes;
#[path = "runs/process.rs"]
mod process;
#[path = "runs/receiver.rs"]
mod receiver;
#[path = "runs/recovery.rs"]
mod recovery;
#[path = "runs/replays.rs"]
mod replays;
#[path = "runs/survey.rs"]
mod survey;
#[path = "runs/world.rs"]
mod world;
