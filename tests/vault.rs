//! Azure identities and Key Vault: the vault's client against a stub of Key Vault's REST interface, and whole drops
//! that the built binary delivers with each kind of identity.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

#[path = "vault/account.rs"]
mod account;
#[path = "vault/drops.rs"]
mod drops;
#[path = "vault/keys.rs"]
mod keys;
#[path = "vault/queue.rs"]
mod queue;
#[path = "vault/secrets.rs"]
mod secrets;
