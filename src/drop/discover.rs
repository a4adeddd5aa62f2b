//! Which drop a blob belongs to, and what is in a drop.
//!
//! Knows the layout of a drop, names alone. What is in the blobs, and whose they are, is not decided here.

#[cfg(test)]
mod tests;

use std::collections::HashSet;

use tracing::warn;

use super::{BlobPath, DropPath, is_plain_segment};
use crate::{
    one_line::one_line,
    store::{Blob, Store, StoreError},
    telemetry::is_first_occurrence,
};

/// How many folders above a blob are looked into: one listing each.
const DEEPEST: usize = 32;

/// The job metadata, below the drop: a folder, or one blob with or without `.json`.
const JOB_METADATA: &str = "metadata/JobMetadata";

/// The key details, below the drop.
const KEY_DETAILS: &str = "metadata/MoreMetadata/EncryptedDatasets/encryptionKeyDetails.json";

/// Finds the drop that `blob` belongs to: its nearest ancestor folder with job metadata in it.
///
/// `None` where there is no such folder (yet), and for a name that steps up or aside. Asks the store once a folder,
/// innermost first, and not at all for job metadata itself.
pub async fn find_drop(store: &dyn Store, blob: &BlobPath) -> Result<Option<DropPath>, StoreError> {
    if !is_plain(&blob.name) {
        return Ok(None);
    }
    if let Some(drop) = described_by(blob) {
        return Ok(Some(drop));
    }
    for folder in ancestors(&blob.name).take(DEEPEST) {
        let drop = DropPath::new(&blob.container, folder);
        let prefix = format!("{}{JOB_METADATA}", drop.prefix());
        let found = store.list(&blob.container, &prefix).await?;
        if found.iter().any(|blob| describes(blob, folder)) {
            return Ok(Some(drop));
        }
    }
    Ok(None)
}

/// The drop that `blob` is job metadata of, by its name.
pub fn described_by(blob: &BlobPath) -> Option<DropPath> {
    let folder = described_folder(&blob.name).filter(|_| is_plain(&blob.name))?;
    Some(DropPath::new(&blob.container, folder))
}

/// The name of `blob` below `drop`; `None` where it lies elsewhere.
pub fn relative<'a>(drop: &DropPath, blob: &'a BlobPath) -> Option<&'a str> {
    let name = blob.name.strip_prefix(&drop.prefix())?;
    (blob.container == drop.container && !name.is_empty()).then_some(name)
}

/// Lists what is in the drop at `path`; `None` where there is no job metadata (yet). One listing.
pub async fn contents(store: &dyn Store, path: &DropPath) -> Result<Option<DropContents>, StoreError> {
    let blobs = store.list(&path.container, &path.prefix()).await?;
    Ok(DropContents::among(path, blobs))
}

/// What is in a drop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DropContents {
    /// Where it lies.
    pub path: DropPath,
    /// The job metadata.
    pub metadata: Blob,
    /// Data Connect's key details, when present.
    pub key_details: Option<Blob>,
    /// The files, by path (by bytes).
    pub files: Vec<Blob>,
}

impl DropContents {
    /// Picks the parts of the drop at `path` out of a listing; `None` where there is no job metadata among them.
    ///
    /// Empty blobs are passed over, all of them: a data file without rows has nothing to tell, an empty blob named like
    /// job metadata is a folder of a hierarchical account or is still being written.
    pub fn among(path: &DropPath, mut blobs: Vec<Blob>) -> Option<Self> {
        blobs.retain(|blob| {
            let is_plain = relative(path, &blob.path).is_some_and(is_plain);
            if blob.size > 0 && !is_plain {
                let name = one_line(&blob.path.name, 200);
                let line =
                    format!("passed over `{name}`: its name has `\\`, a control character or a step aside in it");
                if is_first_occurrence(&format!("{path}: {line}")) {
                    warn!(drop.path = %path, "{line}");
                }
            }
            blob.size > 0 && is_plain
        });
        blobs.sort_by(|a, b| a.path.name.cmp(&b.path.name));

        let name = |blob: &Blob| relative(path, &blob.path).unwrap_or_default().to_owned();
        let nested: HashSet<String> = blobs
            .iter()
            .filter_map(|blob| described_folder(&name(blob)).map(str::to_owned))
            .filter(|folder| !folder.is_empty())
            .collect();
        Some(Self {
            path: path.clone(),
            metadata: job_metadata(path, &blobs)?.clone(),
            key_details: blobs.iter().find(|blob| name(blob) == KEY_DETAILS).cloned(),
            files: blobs
                .into_iter()
                // Around a drop in a folder called `metadata` may lie another, whose job metadata is in its midst.
                .filter(|blob| described_by(&blob.path).is_none() && is_data(&name(blob), &nested))
                .collect(),
        })
    }

    /// The name of `file` below the drop.
    pub fn relative<'a>(&self, file: &'a Blob) -> &'a str {
        relative(&self.path, &file.path).unwrap_or(&file.path.name)
    }

    /// The file at `path`, when it is one of the drop's.
    pub fn file(&self, path: &BlobPath) -> Option<&Blob> {
        self.files.iter().find(|file| file.path == *path)
    }

    /// The file called `name` below the drop.
    pub fn file_named(&self, name: &str) -> Option<&Blob> {
        self.files.iter().find(|file| self.relative(file) == name)
    }
}

/// The job metadata of the drop at `path` among `blobs`, which are in order: the first of those in the folder, else the
/// one blob.
fn job_metadata<'a>(path: &DropPath, blobs: &'a [Blob]) -> Option<&'a Blob> {
    let candidates = || blobs.iter().filter(|blob| describes(blob, &path.folder));
    let folder = format!("{}{JOB_METADATA}/", path.prefix());
    candidates().find(|blob| blob.path.name.starts_with(&folder)).or_else(|| candidates().next())
}

/// Whether the blob called `name` below a drop is data: not metadata, not hidden, not of a drop of its own in a folder below.
fn is_data(name: &str, nested: &HashSet<String>) -> bool {
    !name.split('/').any(is_hidden)
        && name.split('/').next() != Some("metadata")
        && !ancestors(name).any(|folder| nested.contains(folder))
}

/// Whether `blob` is job metadata of `folder`. An empty one does not say anything yet.
fn describes(blob: &Blob, folder: &str) -> bool {
    blob.size > 0 && described_folder(&blob.path.name) == Some(folder)
}

/// The folder that a blob called `name` is job metadata of.
fn described_folder(name: &str) -> Option<&str> {
    let (parent, last) = name.rsplit_once('/')?;
    if !is_hidden(last)
        && (last.ends_with(".json") || last.starts_with("part-"))
        && let Some(folder) = above(parent, JOB_METADATA)
    {
        return Some(folder);
    }
    above(name.strip_suffix(".json").unwrap_or(name), JOB_METADATA)
}

/// The folder in which `path` is `tail`; empty for the container itself.
fn above<'a>(path: &'a str, tail: &str) -> Option<&'a str> {
    let folder = path.strip_suffix(tail)?;
    if folder.is_empty() { Some(folder) } else { folder.strip_suffix('/') }
}

/// The folders above the blob or folder `name`, innermost first; the last is empty, for the container itself.
fn ancestors(name: &str) -> impl Iterator<Item = &str> {
    let parent = |name: &str| name.rfind('/').unwrap_or(0);
    std::iter::successors(Some(&name[..parent(name)]), move |folder| {
        (!folder.is_empty()).then(|| &folder[..parent(folder)])
    })
}

fn is_hidden(segment: &str) -> bool {
    segment.starts_with(['_', '.'])
}

fn is_plain(name: &str) -> bool {
    name.split('/').all(is_plain_segment)
}
