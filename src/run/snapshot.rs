//! A drop at one instant.

use super::AdmittedDrop;
use crate::{
    drop::{FileVersion, discover::DropContents, metadata::JobMetadata},
    ledger::Scope,
    store::Blob,
};

/// A drop at one instant.
pub(super) struct Snapshot {
    pub(super) contents: DropContents,
    pub(super) scope: Scope,
    pub(super) admitted: AdmittedDrop,
    /// The versions of `contents.files`, in the same order.
    pub(super) versions: Vec<FileVersion>,
}

impl Snapshot {
    /// The version of a file as `name@ETag`; `None` if it is not in the snapshot.
    pub(super) fn version_text(&self, name: &str) -> Option<String> {
        let version = self.versions.iter().find(|version| version.name == name)?;
        Some(format!("{name}@{}", version.etag))
    }

    /// The expected number of rows, if the job metadata says so.
    pub(super) fn expected_rows(&self) -> Option<u64> {
        self.admitted.metadata.as_ref().ok().and_then(|metadata: &JobMetadata| metadata.rows_extracted)
    }
}

/// The versions of the files, in the order of the listing.
pub(super) fn versions_of(contents: &DropContents) -> Vec<FileVersion> {
    let version = |blob: &Blob| FileVersion { name: contents.relative(blob).to_owned(), etag: blob.etag.clone() };
    contents.files.iter().map(version).collect()
}
