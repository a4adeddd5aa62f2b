//! HTTP stubs of the services that vivadrop talks to: [`viva_api`] returns wrapped keys, [`receiver`] accepts webhooks.
//!
//! Both are real HTTP servers on loopback that speak the documented wire formats. A test makes them slow, wrong or
//! unreachable with a [`plan`].
//!
//! Only `vivadrop demo` uses this crate in the released program: no setting and no other command starts a stub, or
//! replaces a real service by one. The crate depends on vivadrop in its own tests only; anything else would be a cycle.
//! The stubs of Microsoft Entra ID, Key Vault and the storage gateway are in `tests/support/` of vivadrop, because they
//! need a TLS server and a certificate generator, which must not become dependencies of the released program.

pub mod plan;
pub mod receiver;
pub mod viva_api;
