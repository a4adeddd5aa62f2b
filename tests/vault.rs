//! Private keys in a vault: in the process against a stub that speaks Key Vault's wire format, and end to end with the
//! built binary and each way to a token.

#![expect(clippy::unwrap_used, reason = "a test says what went wrong by failing")]

mod support;

#[path = "vault/account.rs"]
mod account;
#[path = "vault/custody.rs"]
mod custody;
#[path = "vault/drops.rs"]
mod drops;
#[path = "vault/queue.rs"]
mod queue;
#[path = "vault/secrets.rs"]
mod secrets;
