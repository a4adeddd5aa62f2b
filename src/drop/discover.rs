//! Finds the drop that a blob belongs to, and lists the contents of a drop.
//!
//! Works on blob names and sizes only; it reads no blob and does not check the tenant.

#[cfg(test)]
mod tests;

use std::collections::HashSet;

use futures::TryStreamExt;
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use tracing::warn;

use super::DropPath;
use crate::{
    one_line::one_line,
    store::{Blob, BlobPath, Store, StoreError, is_safe_segment, list_at_most},
    telemetry::is_first_occurrence,
};

/// The maximum number of folders above a blob that are searched for job metadata, with one listing each.
const MAX_DEPTH: usize = 32;

/// The maximum number of blobs in the folder of the job metadata that are searched for it. Data Factory writes one to
/// three.
const MAX_METADATA_BLOBS: usize = 1_000;

/// The path of the job metadata below the drop: a folder, or one blob with or without `.json`.
const JOB_METADATA: &str = "metadata/JobMetadata";

/// The path of the key details below the drop.
const KEY_DETAILS: &str = "metadata/MoreMetadata/EncryptedDatasets/encryptionKeyDetails.json";

/// Finds the drop that `blob` belongs to: its nearest ancestor folder that contains job metadata.
///
/// `None` if there is no such folder (yet), or if a segment of the name is not [safe](is_safe_segment). Sends one
/// listing request per folder, innermost first, and none if `blob` is job metadata itself.
pub async fn find_drop(store: &dyn Store, blob: &BlobPath) -> Result<Option<DropPath>, StoreError> {
    if !is_safe_name(&blob.name) {
        return Ok(None);
    }
    if let Some(drop) = drop_of_metadata(blob) {
        return Ok(Some(drop));
    }
    for folder in ancestors(&blob.name).take(MAX_DEPTH) {
        let drop = DropPath::new(&blob.container, folder);
        if has_job_metadata(store, &drop).await? {
            return Ok(Some(drop));
        }
    }
    Ok(None)
}

/// Whether there is job metadata at `path`, so that it is the path of a drop. Lists only the blobs whose names begin as
/// those of job metadata do.
pub async fn has_job_metadata(store: &dyn Store, path: &DropPath) -> Result<bool, StoreError> {
    let prefix = format!("{}{JOB_METADATA}", path.prefix());
    let mut listing = store.list(&path.container, &prefix);
    // The metadata is one of the first blobs, unless somebody fills its folder.
    for _ in 0..MAX_METADATA_BLOBS {
        match listing.try_next().await? {
            Some(blob) if is_job_metadata_of(&blob, &path.folder) => return Ok(true),
            Some(_) => {}
            None => break,
        }
    }
    Ok(false)
}

/// The drop whose job metadata `blob` is, judged by its name; `None` if it is not job metadata.
pub fn drop_of_metadata(blob: &BlobPath) -> Option<DropPath> {
    let folder = folder_of_metadata(&blob.name).filter(|_| is_safe_name(&blob.name))?;
    Some(DropPath::new(&blob.container, folder))
}

/// The name of `blob` below `drop`; `None` if the blob is not below it.
pub fn relative<'a>(drop: &DropPath, blob: &'a BlobPath) -> Option<&'a str> {
    let name = blob.name.strip_prefix(&drop.prefix())?;
    (blob.container == drop.container && !name.is_empty()).then_some(name)
}

/// Lists the contents of the drop at `path`; `None` if there is no job metadata (yet).
///
/// If the drop has more than `max_blobs` blobs, whatever they are, the listing stops there, and the contents have no
/// files but [`too_many_blobs`](DropContents::too_many_blobs).
pub async fn list_contents(
    store: &dyn Store,
    path: &DropPath,
    max_blobs: usize,
) -> Result<Option<DropContents>, StoreError> {
    if let Some(blobs) = list_at_most(store, &path.container, &path.prefix(), max_blobs).await? {
        return Ok(DropContents::from_listing(path, blobs));
    }
    let prefix = format!("{}{JOB_METADATA}", path.prefix());
    let mut listing = store.list(&path.container, &prefix);
    let mut blobs = Vec::new();
    while blobs.len() < MAX_METADATA_BLOBS
        && let Some(blob) = listing.try_next().await?
    {
        blobs.push(blob);
    }
    Ok(DropContents::from_listing(path, blobs).map(|contents| DropContents {
        files: Vec::new(),
        too_many_blobs: true,
        listing: ListingSummary::default(),
        ..contents
    }))
}

/// The contents of a drop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DropContents {
    /// The path of the drop.
    pub path: DropPath,
    /// The job metadata.
    pub metadata: Blob,
    /// Data Connect's key details, if present.
    pub key_details: Option<Blob>,
    /// The data files, sorted by path (by bytes).
    pub files: Vec<Blob>,
    /// Whether the drop has more blobs than a drop may have. `files` is empty then.
    pub too_many_blobs: bool,
    /// All blobs below the drop's folder.
    pub listing: ListingSummary,
}

/// A summary of the blobs below a folder. By comparing two of them, a sweep decides whether blobs were added or
/// overwritten since a drop has ended: only then does it run the drop again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListingSummary {
    /// The number of blobs that are not empty.
    pub blobs: u64,
    /// When the newest of them was written.
    pub newest: OffsetDateTime,
    /// The sum of the hashes of each blob's name and version. A sum does not depend on the order of the blobs.
    pub digest: u64,
}

impl Default for ListingSummary {
    /// The summary of no blobs.
    fn default() -> Self {
        Self { blobs: 0, newest: OffsetDateTime::UNIX_EPOCH, digest: 0 }
    }
}

impl ListingSummary {
    /// Adds `blob`, unless it is empty.
    pub fn add(&mut self, blob: &Blob) {
        if blob.size > 0 {
            let hash = Sha256::new().chain_update(&blob.path.name).chain_update([0]).chain_update(&blob.etag.0);
            let hash: [u8; 32] = hash.finalize().into();
            let digest = u64::from_be_bytes(*hash.first_chunk().expect("a hash has 32 bytes"));
            self.merge(&Self { blobs: 1, newest: blob.modified, digest });
        }
    }

    /// Adds the blobs of `other`.
    pub fn merge(&mut self, other: &Self) {
        self.blobs += other.blobs;
        self.newest = self.newest.max(other.newest);
        self.digest = self.digest.wrapping_add(other.digest);
    }

    /// Whether blobs may have been added or overwritten since the `earlier` summary. Blobs that were deleted do not
    /// count.
    pub fn has_news_since(&self, earlier: &Self) -> bool {
        // Azure rounds the time of a write to seconds, so a newer version may have the same time.
        self.newest > earlier.newest
            || (self.newest == earlier.newest && self.digest != earlier.digest && self.blobs >= earlier.blobs)
    }
}

impl DropContents {
    /// Finds the parts of the drop at `path` in a listing; `None` if it contains no job metadata.
    ///
    /// Ignores empty blobs: an empty data file has no rows, and an empty blob with the name of job metadata is a folder
    /// of a hierarchical account or is still being written.
    pub fn from_listing(path: &DropPath, mut blobs: Vec<Blob>) -> Option<Self> {
        blobs.retain(|blob| blob.size > 0);
        warn_of_unsafe_names(path, &blobs);
        blobs.retain(|blob| has_safe_name(path, blob));
        blobs.sort_by(|a, b| a.path.name.cmp(&b.path.name));
        let mut listing = ListingSummary::default();
        blobs.iter().for_each(|blob| listing.add(blob));

        let name = |blob: &Blob| relative(path, &blob.path).unwrap_or_default().to_owned();
        let nested_drops: HashSet<String> = blobs
            .iter()
            .filter_map(|blob| folder_of_metadata(&name(blob)).map(str::to_owned))
            .filter(|folder| !folder.is_empty())
            .collect();
        Some(Self {
            path: path.clone(),
            metadata: find_job_metadata(path, &blobs)?.clone(),
            key_details: blobs.iter().find(|blob| name(blob) == KEY_DETAILS).cloned(),
            files: blobs
                .into_iter()
                // In a folder called `metadata`, the job metadata of the enclosing drop lies inside this drop.
                .filter(|blob| drop_of_metadata(&blob.path).is_none() && is_data(&name(blob), &nested_drops))
                .collect(),
            too_many_blobs: false,
            listing,
        })
    }

    /// The name of `file` below the drop.
    pub fn relative<'a>(&self, file: &'a Blob) -> &'a str {
        relative(&self.path, &file.path).unwrap_or(&file.path.name)
    }

    /// The file at `path`; `None` if it is not a file of this drop.
    pub fn file(&self, path: &BlobPath) -> Option<&Blob> {
        self.files.iter().find(|file| file.path == *path)
    }

    /// The file whose name below the drop is `name`.
    pub fn file_named(&self, name: &str) -> Option<&Blob> {
        self.files.iter().find(|file| self.relative(file) == name)
    }
}

/// Whether `blob` lies below the drop at `path` under a safe name.
fn has_safe_name(path: &DropPath, blob: &Blob) -> bool {
    relative(path, &blob.path).is_some_and(is_safe_name)
}

/// Logs a warning if blobs have unsafe names: one line for a drop, once for each number of such blobs.
fn warn_of_unsafe_names(path: &DropPath, blobs: &[Blob]) {
    let mut unsafe_names = blobs.iter().filter(|blob| !has_safe_name(path, blob)).map(|blob| &blob.path.name);
    let Some(first) = unsafe_names.next() else { return };
    let others = match unsafe_names.count() {
        0 => String::new(),
        count => format!(" and {count} others"),
    };
    let line = format!(
        "ignored `{}`{others}: names that contain `\\`, a control character, or an empty, `.` or `..` segment",
        one_line(first, 200)
    );
    if is_first_occurrence(&format!("{path}: {line}")) {
        warn!(drop.path = %path, "{line}");
    }
}

/// The job metadata of the drop at `path` in `blobs`, which are sorted: the first blob in the folder, or else the
/// single blob.
fn find_job_metadata<'a>(path: &DropPath, blobs: &'a [Blob]) -> Option<&'a Blob> {
    let candidates = || blobs.iter().filter(|blob| is_job_metadata_of(blob, &path.folder));
    let folder = format!("{}{JOB_METADATA}/", path.prefix());
    candidates().find(|blob| blob.path.name.starts_with(&folder)).or_else(|| candidates().next())
}

/// Whether the blob called `name` below a drop is a data file: not in `metadata`, not hidden, and not part of a nested
/// drop.
fn is_data(name: &str, nested_drops: &HashSet<String>) -> bool {
    !name.split('/').any(is_hidden)
        && name.split('/').next() != Some("metadata")
        && !ancestors(name).any(|folder| nested_drops.contains(folder))
}

/// Whether `blob` is job metadata of `folder`. An empty blob is not: its content has yet to be written.
fn is_job_metadata_of(blob: &Blob, folder: &str) -> bool {
    blob.size > 0 && folder_of_metadata(&blob.path.name) == Some(folder)
}

/// The folder of the drop whose job metadata is the blob called `name`.
fn folder_of_metadata(name: &str) -> Option<&str> {
    let (parent, last) = name.rsplit_once('/')?;
    if !is_hidden(last)
        && (last.ends_with(".json") || last.starts_with("part-"))
        && let Some(folder) = strip_tail(parent, JOB_METADATA)
    {
        return Some(folder);
    }
    strip_tail(name.strip_suffix(".json").unwrap_or(name), JOB_METADATA)
}

/// The folder above `tail` in `path`, if `path` ends with `tail`; the empty string stands for the container.
fn strip_tail<'a>(path: &'a str, tail: &str) -> Option<&'a str> {
    let folder = path.strip_suffix(tail)?;
    if folder.is_empty() { Some(folder) } else { folder.strip_suffix('/') }
}

/// The folders above the blob or folder `name`, innermost first. The last one is the empty string, for the container.
fn ancestors(name: &str) -> impl Iterator<Item = &str> {
    let parent = |name: &str| name.rfind('/').unwrap_or(0);
    std::iter::successors(Some(&name[..parent(name)]), move |folder| {
        (!folder.is_empty()).then(|| &folder[..parent(folder)])
    })
}

fn is_hidden(segment: &str) -> bool {
    segment.starts_with(['_', '.'])
}

/// Whether every segment of a blob name is [safe](is_safe_segment).
pub fn is_safe_name(name: &str) -> bool {
    name.split('/').all(is_safe_segment)
}
