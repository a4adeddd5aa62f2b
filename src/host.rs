//! The Functions host's side: invocation in, answer out.

pub mod event;
pub mod invocation;
