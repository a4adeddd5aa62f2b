//! Container and name of a blob, and the rule for path segments that are safe to use.

use std::fmt;

/// Container and name of a blob.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlobPath {
    /// The container.
    pub container: String,
    /// The name: the path below the container, not percent-encoded.
    pub name: String,
}

impl BlobPath {
    /// The blob `name` in `container`.
    pub fn new(container: impl Into<String>, name: impl Into<String>) -> Self {
        Self { container: container.into(), name: name.into() }
    }
}

impl fmt::Display for BlobPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.container, self.name)
    }
}

/// Whether `segment` is one plain path segment on every system.
///
/// Rejects the empty segment, `.` and `..`, and every segment that contains `/`, `\` or a control character: another
/// system could read those as a separator or as the end of the name.
pub fn is_safe_segment(segment: &str) -> bool {
    !matches!(segment, "" | "." | "..") && !segment.contains(|c: char| c == '/' || c == '\\' || c.is_control())
}
