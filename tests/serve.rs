//! Runs the built binary as the Functions host does, with Azurite, a receiver and a stub of the Viva Insights API on
//! loopback.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod support;

#[path = "serve/arrival.rs"]
mod arrival;
#[path = "serve/directory.rs"]
mod directory;
#[path = "serve/failures.rs"]
mod failures;
#[path = "serve/imports.rs"]
mod imports;
#[path = "serve/ledger.rs"]
mod ledger;
#[path = "serve/notify_and_sweep.rs"]
mod notify_and_sweep;
#[path = "serve/payloads.rs"]
mod payloads;
#[path = "serve/process.rs"]
mod process;
#[path = "serve/queue.rs"]
mod queue;
#[path = "serve/refusals.rs"]
mod refusals;
#[path = "serve/slow_clients.rs"]
mod slow_clients;
#[path = "serve/stopping.rs"]
mod stopping;
#[path = "serve/storage.rs"]
mod storage;
#[path = "serve/tenants.rs"]
mod tenants;
#[path = "serve/webhook.rs"]
mod webhook;
