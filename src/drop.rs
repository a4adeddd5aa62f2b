//! Drops: their paths, files, job metadata and tenants.
//!
//! [`containers`] decides which blob URLs belong to drops at all, [`discover`] finds the drop of a blob and lists its
//! files, [`metadata`] parses the job metadata, and [`tenant`] decides whether the tenant named there may write at that
//! path.

pub mod containers;
pub mod discover;
pub mod metadata;
pub mod tenant;

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::store::{BlobPath, ETag, is_safe_segment};

/// The Microsoft Entra tenant id of a customer. Printed in lower case, parsed in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TenantId(pub Uuid);

impl utoipa::PartialSchema for TenantId {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        let uuid = utoipa::openapi::SchemaFormat::KnownFormat(utoipa::openapi::KnownFormat::Uuid);
        utoipa::openapi::ObjectBuilder::new()
            .schema_type(utoipa::openapi::schema::Type::String)
            .format(Some(uuid))
            .into()
    }
}

impl utoipa::ToSchema for TenantId {}

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

/// The text is not a tenant id.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a GUID such as 00000000-0000-4000-8000-000000000000")]
pub struct InvalidTenantId;

impl FromStr for TenantId {
    type Err = InvalidTenantId;

    /// Parses the hyphenated form only. The other forms of a GUID (`urn:`, braces, digits without hyphens) are
    /// rejected, because a folder with such a name does not identify a tenant.
    fn from_str(text: &str) -> Result<Self, InvalidTenantId> {
        match Uuid::try_parse(text) {
            Ok(id) if text.len() == 36 => Ok(Self(id)),
            _ => Err(InvalidTenantId),
        }
    }
}

/// One version of one data blob of a drop. Message ids are derived from it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileVersion {
    /// The path below the drop.
    pub name: String,
    /// The ETag of the version.
    pub etag: ETag,
}

/// The path of a drop: `container/folder`. The folder is empty if the container itself is the drop.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DropPath {
    /// The container.
    pub container: String,
    /// The folder below the container, without a slash at either end; empty for the container itself.
    pub folder: String,
}

impl DropPath {
    /// The drop in `folder` of `container`.
    pub fn new(container: impl Into<String>, folder: impl Into<String>) -> Self {
        Self { container: container.into(), folder: folder.into() }
    }

    /// The path of the blob whose name below the drop is `relative`.
    pub fn blob(&self, relative: &str) -> BlobPath {
        BlobPath::new(&self.container, format!("{}{relative}", self.prefix()))
    }

    /// The prefix of all blob names of the drop: the folder and a slash, or the empty string.
    pub fn prefix(&self) -> String {
        if self.folder.is_empty() { String::new() } else { format!("{}/", self.folder) }
    }

    /// The container and the folders, outermost first.
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

/// The text is not a `container/folder`.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected `container/folder`, without `.`, `..` or empty segments")]
pub struct InvalidDropPath;

impl FromStr for DropPath {
    type Err = InvalidDropPath;

    /// Parses `container/folder`. One slash at either end is ignored.
    fn from_str(text: &str) -> Result<Self, InvalidDropPath> {
        let text = text.strip_prefix('/').unwrap_or(text);
        let text = text.strip_suffix('/').unwrap_or(text);
        let (container, folder) = text.split_once('/').unwrap_or((text, ""));
        if !text.split('/').all(is_safe_segment) {
            return Err(InvalidDropPath);
        }
        Ok(Self::new(container, folder))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_displayed_drop_path_parses_to_itself() {
        for text in ["datasets", "datasets/run", "datasets/run/VivaInsights/t"] {
            assert_eq!(text.parse::<DropPath>().unwrap().to_string(), text);
        }
        assert_eq!("/datasets/run/".parse(), Ok(DropPath::new("datasets", "run")));
    }

    #[test]
    fn a_drop_path_with_an_unsafe_segment_is_rejected() {
        for text in ["", "/", "a//b", "a/../b", "a/./b", "..", "a/b\\c", "a/b\0"] {
            assert_eq!(text.parse::<DropPath>(), Err(InvalidDropPath), "{text:?}");
        }
    }

    #[test]
    fn a_tenant_id_is_a_hyphenated_guid_in_any_case() {
        let lower: TenantId = "9f1c7fd3-1a33-4f2b-9d3c-0a8f6f2d7e10".parse().unwrap();
        assert_eq!("9F1C7FD3-1A33-4F2B-9D3C-0A8F6F2D7E10".parse(), Ok(lower));
        assert_eq!("9f1c7fd31a334f2b9d3c0a8f6f2d7e10".parse::<TenantId>(), Err(InvalidTenantId));
        assert_eq!("{9f1c7fd3-1a33-4f2b-9d3c-0a8f6f2d7e10}".parse::<TenantId>(), Err(InvalidTenantId));
    }
}
