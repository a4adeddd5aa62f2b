//! Where a blob is stored.

use std::fmt;

/// Where a blob lies: container and name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlobPath {
    /// The container.
    pub container: String,
    /// The blob's name: everything behind the container, not percent-encoded.
    pub name: String,
}

impl BlobPath {
    /// The blob `name` of `container`.
    pub fn new(container: impl Into<String>, name: impl Into<String>) -> Self {
        Self { container: container.into(), name: name.into() }
    }
}

impl fmt::Display for BlobPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.container, self.name)
    }
}
