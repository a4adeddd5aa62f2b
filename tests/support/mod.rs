//! What the tests of the whole share.

#![expect(dead_code, reason = "each test binary uses its own part of it")]

pub(crate) mod azurite;
pub(crate) mod command;
pub(crate) mod entra;
pub(crate) mod gateway;
pub(crate) mod host;
pub(crate) mod host_payloads;
pub(crate) mod json;
pub(crate) mod memory;
pub(crate) mod message;
pub(crate) mod queue;
pub(crate) mod scene;
pub(crate) mod schema;
pub(crate) mod secrets;
pub(crate) mod tls;
pub(crate) mod vault;
pub(crate) mod vectors;
