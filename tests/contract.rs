//! The contracts of the seams, as code: each test is written once and run against every keeper.

#![expect(clippy::unwrap_used, reason = "a test says what went wrong by failing")]

mod support;

#[path = "contract/account.rs"]
mod account;
#[path = "contract/store.rs"]
mod store;
