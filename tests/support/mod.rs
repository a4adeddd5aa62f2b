//! Shared by the integration tests: in-memory implementations of vivadrop's traits, fault injection, and the other ends
//! of its connections (the Functions host, Azurite, Microsoft Entra ID, Key Vault, Service Bus, a queue's consumer).
//!
//! The stubs of the webhook receiver and of the Viva Insights API are in `crates/testkit`, because `vivadrop demo` uses
//! them too.

#![expect(dead_code, reason = "each test binary uses a part of it")]

pub(crate) mod attributes;
pub(crate) mod azurite;
pub(crate) mod collector;
pub(crate) mod command;
pub(crate) mod credential;
pub(crate) mod entra;
pub(crate) mod faults;
pub(crate) mod gateway;
pub(crate) mod host;
pub(crate) mod host_payloads;
pub(crate) mod json;
pub(crate) mod memory_sink;
pub(crate) mod memory_store;
pub(crate) mod message;
pub(crate) mod process_memory;
pub(crate) mod queue;
pub(crate) mod scene;
pub(crate) mod schema;
pub(crate) mod secrets;
pub(crate) mod service_bus;
pub(crate) mod tls;
pub(crate) mod vault;
pub(crate) mod vectors;
