//! The Service Bus sink against a stub of its REST interface: the messages that it sends, authorization, retries,
//! permanent failures, duplicate detection, and whole drops with the built binary.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

#[path = "service_bus/check.rs"]
mod check;
#[path = "service_bus/drops.rs"]
mod drops;
#[path = "service_bus/sink.rs"]
mod sink;
