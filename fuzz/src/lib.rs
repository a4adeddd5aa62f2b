//! What every parser promises of any bytes at all, as functions that panic where a promise is broken.
//!
//! The fuzzers in `targets/` call them with bytes made up by libFuzzer, which takes `make fuzz`; `tests/fuzz.rs` of the
//! project calls them with the seeds in `corpus/` and changed forms of these, in every run of the tests. Bytes that break a
//! promise become a seed once the parser is mended.
//!
//! A seed is a file as it would arrive. Whatever else a check needs to choose, such as where the bytes are cut into
//! pieces, is drawn from the bytes themselves: see [`bytes`].

pub mod bytes;
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

/// Checks what is promised of some bytes; panics where a promise is broken.
pub type Check = fn(&[u8]);

/// All checks, by the names of their targets and of the folders with their seeds.
pub const CHECKS: [(&str, Check); 11] = [
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
