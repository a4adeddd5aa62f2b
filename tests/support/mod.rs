//! What the tests of the whole share.

pub(crate) mod azurite;
