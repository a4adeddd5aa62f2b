//! Properties that every parser has for arbitrary bytes, as functions that panic if the property is violated.
//!
//! `make fuzz` calls them from the fuzzers in `targets/`, with bytes from libFuzzer. `tests/fuzz.rs` calls them in
//! every test run, with the seeds in `corpus/` and mutations of these. After a fix, the bytes that violated a property
//! become a seed.
//!
//! A seed is a file as it would arrive. A check derives everything else that it needs, such as where to cut the bytes
//! into pieces, from the bytes themselves: see [`bytes`].

pub mod bytes;
pub mod definitions;
pub mod event;
pub mod gunzip;
pub mod inflate;
pub mod keys;
pub mod layout;
pub mod ledger;
pub mod lines;
#[path = "../../tests/support/memory_store.rs"]
mod memory_store;
pub mod metadata;
pub mod retry;
pub mod rows;
pub mod settings;
pub mod stages;

/// Checks the properties of a parser for some bytes; panics if one is violated.
pub type Check = fn(&[u8]);

/// All checks, by the names of their fuzz targets and seed folders.
pub const CHECKS: [(&str, Check); 12] = [
    ("definitions", definitions::check),
    ("event", event::check),
    ("gunzip", gunzip::check),
    ("inflate", inflate::check),
    ("keys", keys::check),
    ("layout", layout::check),
    ("ledger", ledger::check),
    ("lines", lines::check),
    ("metadata", metadata::check),
    ("retry", retry::check),
    ("rows", rows::check),
    ("settings", settings::check),
];
