//! Stand-ins for what is not on this machine: the other ends of the wires, for `vivadrop demo` and the tests.
//!
//! Each speaks the documented wire format over HTTP on loopback, and can be told to be slow, wrong or down. This is their
//! one place.

pub mod receiver;
pub mod viva_api;
