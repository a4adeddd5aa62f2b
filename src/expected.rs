//! The error of every parser that accepts a fixed set of values.

/// The text is not one of the accepted values, which the message lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected {0}")]
pub struct Expected(pub &'static str);
