//! The words of a drop: whose it is, where it lies, what its files are called.
//!
//! [`metadata`] reads what a drop says of itself, [`tenant`] decides whether that may be believed, and [`discover`] finds
//! a drop around a blob and lists its files.

pub mod discover;
pub mod metadata;
pub mod tenant;

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::store::{BlobPath, ETag};

/// The customer, by Microsoft Entra tenant id. Written in small letters, read in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TenantId(pub Uuid);

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

/// The text is no tenant id.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a GUID such as 00000000-0000-4000-8000-000000000000")]
pub struct InvalidTenantId;

impl FromStr for TenantId {
    type Err = InvalidTenantId;

    /// Takes the hyphenated form alone: `urn:`, braces and bare digits are no tenant ids in a path.
    fn from_str(text: &str) -> Result<Self, InvalidTenantId> {
        match Uuid::try_parse(text) {
            Ok(id) if text.len() == 36 => Ok(Self(id)),
            _ => Err(InvalidTenantId),
        }
    }
}

/// One version of one data blob of a drop: what ids are made from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileVersion {
    /// Its path below the drop.
    pub name: String,
    /// Its version.
    pub etag: ETag,
}

/// `container/folder` of a drop. The folder may be empty: a container can be a drop.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DropPath {
    /// The container.
    pub container: String,
    /// The folder below the container, without slashes at its ends; empty for the container itself.
    pub folder: String,
}

impl DropPath {
    /// The folder `folder` of `container`.
    pub fn new(container: impl Into<String>, folder: impl Into<String>) -> Self {
        Self { container: container.into(), folder: folder.into() }
    }

    /// The blob at `relative` below the drop.
    pub fn blob(&self, relative: &str) -> BlobPath {
        BlobPath::new(&self.container, format!("{}{relative}", self.prefix()))
    }

    /// What the names of all blobs of the drop begin with: the folder and a slash, or nothing.
    pub fn prefix(&self) -> String {
        if self.folder.is_empty() { String::new() } else { format!("{}/", self.folder) }
    }

    /// Container and folders, outermost first.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.container.as_str()).chain(self.folder.split('/').filter(|segment| !segment.is_empty()))
    }
}

impl fmt::Display for DropPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.container)?;
        if self.folder.is_empty() { Ok(()) } else { write!(f, "/{}", self.folder) }
    }
}

/// The text is no `container/folder`.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected `container/folder`, without `.`, `..` or empty segments")]
pub struct InvalidDropPath;

impl FromStr for DropPath {
    type Err = InvalidDropPath;

    /// Reads `container/folder`; one slash at either end is forgiven.
    fn from_str(text: &str) -> Result<Self, InvalidDropPath> {
        let text = text.strip_prefix('/').unwrap_or(text);
        let text = text.strip_suffix('/').unwrap_or(text);
        let (container, folder) = text.split_once('/').unwrap_or((text, ""));
        if !text.split('/').all(is_plain_segment) {
            return Err(InvalidDropPath);
        }
        Ok(Self::new(container, folder))
    }
}

/// Whether `segment` of a path names something: not empty, no step up or aside, nothing that another system would read as
/// a separator or the end of the name.
pub fn is_plain_segment(segment: &str) -> bool {
    !matches!(segment, "" | "." | "..") && !segment.contains(|c: char| c == '/' || c == '\\' || c.is_control())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drop_path_is_read_as_it_is_displayed() {
        for text in ["datasets", "datasets/run", "datasets/run/VivaInsights/t"] {
            assert_eq!(text.parse::<DropPath>().unwrap().to_string(), text);
        }
        assert_eq!("/datasets/run/".parse(), Ok(DropPath::new("datasets", "run")));
    }

    #[test]
    fn a_drop_path_takes_no_step_up_or_aside() {
        for text in ["", "/", "a//b", "a/../b", "a/./b", "..", "a/b\\c", "a/b\0"] {
            assert_eq!(text.parse::<DropPath>(), Err(InvalidDropPath), "{text:?}");
        }
    }

    #[test]
    fn a_tenant_id_is_the_hyphenated_form_in_any_case() {
        let small: TenantId = "9f1c7fd3-1a33-4f2b-9d3c-0a8f6f2d7e10".parse().unwrap();
        assert_eq!("9F1C7FD3-1A33-4F2B-9D3C-0A8F6F2D7E10".parse(), Ok(small));
        assert_eq!("9f1c7fd31a334f2b9d3c0a8f6f2d7e10".parse::<TenantId>(), Err(InvalidTenantId));
        assert_eq!("{9f1c7fd3-1a33-4f2b-9d3c-0a8f6f2d7e10}".parse::<TenantId>(), Err(InvalidTenantId));
    }
}
