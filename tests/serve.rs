//! The handler as the Functions host runs it: the built binary, Azurite, a receiver, the Viva Insights API on loopback.

#![expect(clippy::unwrap_used, reason = "a test says what went wrong by failing")]

mod support;

#[path = "serve/arrival.rs"]
mod arrival;
#[path = "serve/failures.rs"]
mod failures;
#[path = "serve/guard.rs"]
mod guard;
#[path = "serve/ledger.rs"]
mod ledger;
#[path = "serve/posts.rs"]
mod posts;
#[path = "serve/process.rs"]
mod process;
#[path = "serve/pull.rs"]
mod pull;
#[path = "serve/queue.rs"]
mod queue;
#[path = "serve/storage.rs"]
mod storage;
#[path = "serve/tenants.rs"]
mod tenants;
#[path = "serve/webhook.rs"]
mod webhook;
