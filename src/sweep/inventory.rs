//! Finds the drops in a listing, blob by blob. Does no I/O.

use sha2::{Digest, Sha256};

use crate::{
    drop::{
        DropPath,
        discover::{self, ListingSummary},
    },
    store::Blob,
};

/// The drops of a container, found while its blobs are listed. Holds only the folders around the last blob, because the
/// blobs of a folder follow each other.
pub(super) struct Inventory {
    container: String,
    /// The maximum number of blobs of a drop. The summary of a drop with more counts no blobs, as in a run, but says
    /// when the newest one was written.
    max_blobs: usize,
    /// The folder of the last blob, without a slash at the end.
    folder: String,
    /// The folders around the last blob, outermost first.
    open: Vec<Folder>,
}

struct Folder {
    /// The length of the folder's name, which is the beginning of `Inventory::folder`.
    length: usize,
    is_drop: bool,
    /// The blobs in the folder and in those below it.
    listing: ListingSummary,
    blobs: usize,
}

impl Folder {
    fn new(length: usize) -> Self {
        Self { length, is_drop: false, listing: ListingSummary::default(), blobs: 0 }
    }
}

impl Inventory {
    pub(super) fn new(container: &str, max_blobs: usize) -> Self {
        let open = vec![Folder::new(0)];
        Self { container: container.to_owned(), max_blobs, folder: String::new(), open }
    }

    /// Adds the next blob of the listing. Returns the drops whose last blob was added before, each with the summary of
    /// its blobs.
    pub(super) fn push(&mut self, blob: &Blob) -> Vec<(DropPath, ListingSummary)> {
        let folder = blob.path.name.rsplit_once('/').map_or("", |(folder, _)| folder);
        let mut drops = Vec::new();
        while !self.is_around(folder) {
            drops.extend(self.close_innermost());
        }
        let start = self.open.last().map_or(0, |folder| folder.length);
        self.folder.truncate(start);
        self.folder.push_str(&folder[start..]);
        let ends = folder.match_indices('/').map(|(at, _)| at).chain([folder.len()]);
        self.open.extend(ends.filter(|&end| end > start).map(Folder::new));
        if blob.size > 0
            && let Some(drop) = discover::drop_of_metadata(&blob.path)
        {
            let is_drop = |folder: &&mut Folder| folder.length == drop.folder.len();
            if let Some(folder) = self.open.iter_mut().find(is_drop) {
                folder.is_drop = true;
            }
        }
        if let Some(folder) = self.open.last_mut() {
            // A run ignores blobs with unsafe names, but counts them.
            if discover::is_safe_name(&blob.path.name) {
                folder.listing.add(blob);
            }
            folder.blobs += 1;
        }
        drops
    }

    /// Ends the listing; returns the drops that `push` has not returned.
    pub(super) fn finish(&mut self) -> Vec<(DropPath, ListingSummary)> {
        let mut drops = Vec::new();
        while !self.open.is_empty() {
            drops.extend(self.close_innermost());
        }
        drops
    }

    /// Whether `folder` is the innermost open folder or lies inside it.
    fn is_around(&self, folder: &str) -> bool {
        let length = self.open.last().map_or(0, |folder| folder.length);
        let is_prefix = self.folder.get(..length).is_some_and(|open| folder.starts_with(open));
        is_prefix && (length == 0 || folder.len() == length || folder.as_bytes()[length] == b'/')
    }

    /// Closes the innermost folder; returns it if it is a drop.
    fn close_innermost(&mut self) -> Option<(DropPath, ListingSummary)> {
        let closed = self.open.pop()?;
        let name = self.folder[..closed.length].to_owned();
        if let Some(outer) = self.open.last_mut() {
            outer.listing.merge(&closed.listing);
            outer.blobs += closed.blobs;
        }
        let ListingSummary { newest, .. } = closed.listing;
        let too_many = ListingSummary { newest, ..ListingSummary::default() };
        let listing = if closed.blobs > self.max_blobs { too_many } else { closed.listing };
        closed.is_drop.then(|| (DropPath::new(&self.container, name), listing))
    }
}

/// A hash of a text.
pub(super) fn hash(text: &str) -> u64 {
    let hash: [u8; 32] = Sha256::digest(text).into();
    u64::from_be_bytes(*hash.first_chunk().expect("a hash has 32 bytes"))
}

#[cfg(test)]
mod tests {
    use time::{Duration, OffsetDateTime};

    use super::*;
    use crate::store::{BlobPath, ETag};

    fn blob(name: &str, minute: i64) -> Blob {
        let modified = OffsetDateTime::UNIX_EPOCH + Duration::minutes(minute);
        Blob { path: BlobPath::new("datasets", name), etag: ETag("1".into()), size: 1, modified }
    }

    /// The drops with the number of their blobs and the minute of the newest one.
    fn drops(blobs: &[(&str, i64)]) -> Vec<(String, u64, i64)> {
        let mut inventory = Inventory::new("datasets", 5);
        let mut drops: Vec<_> = blobs.iter().flat_map(|(name, minute)| inventory.push(&blob(name, *minute))).collect();
        drops.extend(inventory.finish());
        let minute = |time: OffsetDateTime| (time - OffsetDateTime::UNIX_EPOCH).whole_minutes();
        drops.into_iter().map(|(path, found)| (path.to_string(), found.blobs, minute(found.newest))).collect()
    }

    #[test]
    fn a_drop_is_as_new_as_its_newest_blob() {
        let blobs = [
            ("a/metadata/JobMetadata/Metadata.json", 1),
            ("a/part-0.json.gz", 5),
            ("a-2/part-0.json.gz", 9),
            ("b/0/part-0.json.gz", 3),
            ("b/metadata/JobMetadata.json", 2),
            ("b/x/part-0.json.gz", 2),
        ];
        assert_eq!(drops(&blobs), [("datasets/a".into(), 2, 5), ("datasets/b".into(), 3, 3)]);
    }

    #[test]
    fn a_nested_drop_counts_for_the_outer_drop_as_well() {
        let blobs = [
            ("a/inner/metadata/JobMetadata/Metadata.json", 1),
            ("a/inner/part-0.json.gz", 7),
            ("a/metadata/JobMetadata/Metadata.json", 2),
        ];
        assert_eq!(drops(&blobs), [("datasets/a/inner".into(), 2, 7), ("datasets/a".into(), 3, 7)]);
    }

    #[test]
    fn a_container_may_be_a_drop() {
        assert_eq!(
            drops(&[("deep/part-0.json.gz", 3), ("metadata/JobMetadata/Metadata.json", 1)]),
            [("datasets".into(), 2, 3)]
        );
    }

    #[test]
    fn a_drop_with_too_many_blobs_is_as_new_as_its_newest_blob_and_counts_none() {
        let names: Vec<_> = (0..6).map(|number| format!("a/part-{number}")).collect();
        let mut blobs = vec![("a/metadata/JobMetadata/Metadata.json", 1)];
        blobs.extend(names.iter().map(|name| (name.as_str(), 2)));
        assert_eq!(drops(&blobs), [("datasets/a".into(), 0, 2)]);
    }

    #[test]
    fn the_summary_is_that_of_a_run() {
        let blobs = ["a/metadata/JobMetadata/Metadata.json", "a/part-0.json.gz", "a/x/y/z"].map(|name| blob(name, 1));
        let mut inventory = Inventory::new("datasets", 5);
        let pushed: Vec<_> = blobs.iter().flat_map(|blob| inventory.push(blob)).collect();
        assert_eq!(pushed, []);
        let [(path, found)] = &inventory.finish()[..] else { panic!("one drop") };
        let contents = discover::DropContents::from_listing(path, blobs.to_vec()).unwrap();
        assert_eq!(*found, contents.listing);
    }
}
