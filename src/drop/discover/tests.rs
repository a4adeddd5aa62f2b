//! Drops in the layout of Data Factory, and in unusual layouts.

use std::{sync::Mutex, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, stream};
use proptest::prelude::*;
use time::OffsetDateTime;

use super::*;
use crate::store::{BlobMetadata, ByteStream, ETag, LeaseId, Listing, WriteIf};

/// A read-only store with the container `datasets`. Records the prefixes of all listings.
#[derive(Debug, Default)]
struct ListingStore {
    blobs: Vec<Blob>,
    listed: Mutex<Vec<String>>,
}

impl ListingStore {
    /// Blobs of one byte with these names. A name that ends in `=0` is an empty blob without that suffix.
    fn with(names: &[&str]) -> Self {
        let blobs = names.iter().map(|name| {
            let (name, size) = name.strip_suffix("=0").map_or((*name, 1), |name| (name, 0));
            blob(name, size)
        });
        Self { blobs: blobs.collect(), ..Self::default() }
    }

    async fn drop_of(&self, name: &str) -> Option<String> {
        let found = find_drop(self, &BlobPath::new("datasets", name)).await.unwrap();
        found.map(|drop| drop.to_string())
    }

    /// The names of the job metadata and of the files of the drop in `folder`.
    async fn contents(&self, folder: &str) -> Option<(String, Vec<String>)> {
        let drop = list_contents(self, &DropPath::new("datasets", folder), 1000).await.unwrap()?;
        let files = drop.files.iter().map(|file| drop.relative(file).to_owned()).collect();
        Some((drop.relative(&drop.metadata).to_owned(), files))
    }
}

fn blob(name: &str, size: u64) -> Blob {
    Blob { path: BlobPath::new("datasets", name), etag: ETag("1".into()), size, modified: OffsetDateTime::UNIX_EPOCH }
}

#[async_trait]
impl Store for ListingStore {
    fn list<'a>(&'a self, container: &'a str, prefix: &'a str) -> Listing<'a> {
        self.listed.lock().unwrap().push(prefix.to_owned());
        let matches = |blob: &&Blob| blob.path.container == container && blob.path.name.starts_with(prefix);
        let blobs: Vec<_> = self.blobs.iter().filter(matches).cloned().map(Ok).collect();
        stream::iter(blobs).boxed()
    }

    async fn find(&self, path: &BlobPath) -> Result<Option<Blob>, StoreError> {
        Ok(self.blobs.iter().find(|blob| blob.path == *path).cloned())
    }

    async fn read_range(&self, blob: &Blob, _: std::ops::Range<u64>) -> Result<ByteStream, StoreError> {
        Err(StoreError::Missing(blob.path.clone()))
    }

    async fn write_with_metadata(
        &self,
        path: &BlobPath,
        _: Bytes,
        _: &BlobMetadata,
        _: WriteIf,
    ) -> Result<ETag, StoreError> {
        Err(StoreError::Denied(path.clone()))
    }

    async fn delete(&self, path: &BlobPath, _: Option<&ETag>) -> Result<(), StoreError> {
        Err(StoreError::Denied(path.clone()))
    }

    async fn has_container(&self, container: &str) -> Result<bool, StoreError> {
        Ok(self.blobs.iter().any(|blob| blob.path.container == container))
    }

    async fn create_container(&self, container: &str) -> Result<(), StoreError> {
        Err(StoreError::Denied(BlobPath::new(container, "")))
    }

    async fn lease(&self, path: &BlobPath, _: Duration) -> Result<Option<LeaseId>, StoreError> {
        Err(StoreError::Denied(path.clone()))
    }

    async fn renew(&self, path: &BlobPath, _: &LeaseId) -> Result<(), StoreError> {
        Err(StoreError::Denied(path.clone()))
    }

    async fn release(&self, path: &BlobPath, _: &LeaseId) -> Result<(), StoreError> {
        Err(StoreError::Denied(path.clone()))
    }

    fn parse_blob_url(&self, _: &str) -> Option<BlobPath> {
        None
    }
}

const RUN: [&str; 5] = [
    "run/VivaInsights/t/metadata/JobMetadata/Metadata.json",
    "run/VivaInsights/t/part-0.json.gz",
    "run/VivaInsights/t/more/part-1.json.gz",
    "run/AADUser/t/metadata/JobMetadata/Metadata.json",
    "run/AADUser/t/part-0.json.gz",
];

#[tokio::test]
async fn a_blob_belongs_to_its_nearest_ancestor_with_job_metadata() {
    let store = ListingStore::with(&RUN);
    let insights = Some("datasets/run/VivaInsights/t".to_string());
    for name in [RUN[0], RUN[1], RUN[2], "run/VivaInsights/t/metadata/UserMetadata/x.json"] {
        assert_eq!(store.drop_of(name).await, insights, "{name}");
    }
    assert_eq!(store.drop_of(RUN[4]).await.as_deref(), Some("datasets/run/AADUser/t"));
    assert_eq!(store.drop_of("run/VivaInsights/part-0.json.gz").await, None);
    assert_eq!(store.drop_of("run/VivaInsights/tt/part-0.json.gz").await, None);
}

#[tokio::test]
async fn a_drop_contains_only_its_own_files() {
    let store = ListingStore::with(&RUN);
    let (metadata, files) = store.contents("run/VivaInsights/t").await.unwrap();
    assert_eq!(metadata, "metadata/JobMetadata/Metadata.json");
    assert_eq!(files, ["more/part-1.json.gz", "part-0.json.gz"]);
    assert_eq!(store.contents("run/VivaInsights").await, None);
    assert_eq!(*store.listed.lock().unwrap(), ["run/VivaInsights/t/", "run/VivaInsights/"]);
}

#[tokio::test]
async fn a_folder_whose_name_begins_with_the_same_letters_is_another_drop() {
    let store = ListingStore::with(&[
        "a/metadata/JobMetadata/Metadata.json",
        "a/part-0",
        "ab/metadata/JobMetadata/Metadata.json",
        "ab/part-1",
    ]);
    assert_eq!(store.contents("a").await.unwrap().1, ["part-0"]);
    assert_eq!(store.drop_of("ab/part-1").await.as_deref(), Some("datasets/ab"));
}

#[tokio::test]
async fn a_nested_drop_is_separate() {
    let store = ListingStore::with(&[
        "a/metadata/JobMetadata/Metadata.json",
        "a/part-0",
        "a/b/metadata/JobMetadata.json",
        "a/b/c/part-1",
        "a/bc/part-2",
    ]);
    assert_eq!(store.contents("a").await.unwrap().1, ["bc/part-2", "part-0"]);
    assert_eq!(store.contents("a/b").await.unwrap().1, ["c/part-1"]);
    assert_eq!(store.drop_of("a/b/c/part-1").await.as_deref(), Some("datasets/a/b"));
}

#[tokio::test]
async fn a_drop_may_be_in_a_folder_called_metadata() {
    let store = ListingStore::with(&[
        "a/metadata/JobMetadata",
        "a/metadata/metadata/JobMetadata",
        "a/metadata/part-0",
        "a/part-1",
    ]);
    assert_eq!(store.contents("a").await.unwrap().1, ["part-1"]);
    assert_eq!(store.contents("a/metadata").await.unwrap().1, ["part-0"]);
    assert_eq!(store.drop_of("a/metadata/JobMetadata").await.as_deref(), Some("datasets/a"));
}

#[tokio::test]
async fn a_container_can_be_a_drop() {
    let store = ListingStore::with(&["metadata/JobMetadata/Metadata.json", "part-0", "x/part-1"]);
    assert_eq!(store.contents("").await.unwrap().1, ["part-0", "x/part-1"]);
    for name in ["part-0", "x/part-1", "metadata/JobMetadata/Metadata.json"] {
        assert_eq!(store.drop_of(name).await.as_deref(), Some("datasets"), "{name}");
    }
}

#[tokio::test]
async fn job_metadata_has_three_forms_and_the_folder_comes_first() {
    for (names, metadata) in [
        (
            &[
                "d/metadata/JobMetadata",
                "d/metadata/JobMetadata.json",
                "d/metadata/JobMetadata/b.json",
                "d/metadata/JobMetadata/part-0",
            ][..],
            "metadata/JobMetadata/b.json",
        ),
        (&["d/metadata/JobMetadata.json", "d/metadata/JobMetadata"], "metadata/JobMetadata"),
        (&["d/metadata/JobMetadata.json"], "metadata/JobMetadata.json"),
    ] {
        let store = ListingStore::with(names);
        assert_eq!(store.contents("d").await.unwrap().0, metadata);
        for name in names {
            assert_eq!(store.drop_of(name).await.as_deref(), Some("datasets/d"), "{name}");
        }
    }
}

#[tokio::test]
async fn job_metadata_may_be_a_part_file_beside_a_success_marker() {
    let store = ListingStore::with(&[
        "d/metadata/JobMetadata/.Metadata.json.crc",
        "d/metadata/JobMetadata/._hidden.json",
        "d/metadata/JobMetadata/_SUCCESS",
        "d/metadata/JobMetadata/_part.json",
        "d/metadata/JobMetadata/deeper/Metadata.json",
        "d/metadata/JobMetadata/part-00001-4b1d",
        "d/metadata/JobMetadata/part-00000-4b1d",
        "d/part-0",
    ]);
    let (metadata, files) = store.contents("d").await.unwrap();
    assert_eq!(metadata, "metadata/JobMetadata/part-00000-4b1d");
    assert_eq!(files, ["part-0"]);
}

#[tokio::test]
async fn similar_names_are_not_job_metadata() {
    let store = ListingStore::with(&[
        "d/metadata/JobMetadata/.Metadata.json",
        "d/metadata/JobMetadata/_SUCCESS",
        "d/metadata/JobMetadata/Metadata.json.crc",
        "d/metadata/JobMetadataOld/Metadata.json",
        "d/xmetadata/JobMetadata/Metadata.json",
        "d/Metadata/jobmetadata/Metadata.json",
        "d/part-0",
    ]);
    assert_eq!(store.drop_of("d/part-0").await, None);
    assert_eq!(store.contents("d").await, None);
}

#[tokio::test]
async fn empty_job_metadata_is_ignored() {
    let store = ListingStore::with(&["d/metadata/JobMetadata=0", "d/metadata/JobMetadata/Metadata.json=0", "d/part-0"]);
    assert_eq!(store.drop_of("d/part-0").await, None);
    assert_eq!(store.contents("d").await, None);
}

#[tokio::test]
async fn hidden_empty_and_unsafe_blobs_are_not_files() {
    let store = ListingStore::with(&[
        "d/metadata/JobMetadata/Metadata.json",
        "d/metadata/UserMetadata/part-0.json.gz",
        "d/metadata",
        "d/_SUCCESS",
        "d/_temporary/0/part-1.json.gz",
        "d/.part-0.json.gz.crc",
        "d/x/.hidden/part-2",
        "d/x=0",
        "d/empty=0",
        "d/x/../part-3",
        "d//part-4",
        "d/x/",
        "d/metadatas/part-5",
        "d/part-0.json.gz",
    ]);
    assert_eq!(store.contents("d").await.unwrap().1, ["metadatas/part-5", "part-0.json.gz"]);
    for name in ["d/x/../part-3", "d//part-4", "d/x/", "/part", "", "d/../metadata/JobMetadata.json"] {
        assert_eq!(store.drop_of(name).await, None, "{name}");
    }
    assert!(store.listed.lock().unwrap().iter().all(|prefix| prefix == "d/"));
}

#[tokio::test]
async fn files_are_sorted_by_bytes() {
    let store = ListingStore::with(&[
        "d/metadata/JobMetadata.json",
        "d/part-10",
        "d/part-2",
        "d/ä",
        "d/part/1",
        "d/part-/1",
        "d/Z",
        "d/\u{10ffff}",
        "d/\u{ff5e}",
    ]);
    let files = store.contents("d").await.unwrap().1;
    assert_eq!(files, ["Z", "part-/1", "part-10", "part-2", "part/1", "ä", "\u{ff5e}", "\u{10ffff}"]);
}

#[tokio::test]
async fn key_details_are_found() {
    let details = "d/metadata/MoreMetadata/EncryptedDatasets/encryptionKeyDetails.json";
    let store = ListingStore::with(&["d/metadata/JobMetadata.json", details, "d/part-0"]);
    let drop = list_contents(&store, &DropPath::new("datasets", "d"), 1000).await.unwrap().unwrap();
    assert_eq!(drop.key_details.map(|blob| blob.path.name).as_deref(), Some(details));
    assert_eq!(drop.files.len(), 1);
    assert_eq!(store.drop_of(details).await.as_deref(), Some("datasets/d"));
}

#[tokio::test]
async fn each_folder_takes_one_listing_and_job_metadata_takes_none() {
    let store = ListingStore::with(&RUN);
    store.drop_of("run/VivaInsights/t/metadata/JobMetadata/part-7").await;
    assert_eq!(store.listed.lock().unwrap().len(), 0);
    store.drop_of(RUN[2]).await;
    assert_eq!(
        *store.listed.lock().unwrap(),
        ["run/VivaInsights/t/more/metadata/JobMetadata", "run/VivaInsights/t/metadata/JobMetadata"]
    );
}

#[tokio::test]
async fn the_number_of_listings_for_a_deep_blob_is_bounded() {
    let store = ListingStore::with(&["metadata/JobMetadata.json"]);
    assert_eq!(store.drop_of(&format!("{}part-0", "x/".repeat(100))).await, None);
    assert_eq!(store.listed.lock().unwrap().len(), MAX_DEPTH);
}

#[tokio::test]
async fn a_file_is_found_by_path_and_by_name() {
    let store = ListingStore::with(&RUN);
    let path = DropPath::new("datasets", "run/VivaInsights/t");
    let drop = list_contents(&store, &path, 1000).await.unwrap().unwrap();
    let file = drop.file(&BlobPath::new("datasets", RUN[2])).unwrap();
    assert_eq!(drop.relative(file), "more/part-1.json.gz");
    assert_eq!(drop.file_named("more/part-1.json.gz"), Some(file));
    assert_eq!(drop.file(&BlobPath::new("datasets", RUN[0])), None);
    assert_eq!(relative(&path, &BlobPath::new("other", RUN[2])), None);
    assert_eq!(relative(&path, &BlobPath::new("datasets", RUN[4])), None);
}

/// Names built from significant segments, so that nested drops, hidden files and collisions are frequent.
fn names() -> impl Strategy<Value = Vec<String>> {
    let word = prop::sample::select(vec![
        "a",
        "b",
        "metadata",
        "JobMetadata",
        "JobMetadata.json",
        "x.json",
        "part-0",
        "_x",
        "..",
        "",
    ]);
    let name = prop::collection::vec(word, 1..6).prop_map(|words| words.join("/"));
    prop::collection::vec(name, 1..20)
}

proptest! {
    /// `list_contents` returns exactly the files that `find_drop` assigns to the drop.
    #[test]
    fn a_drop_lists_the_files_that_belong_to_it(names in names()) {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let store = ListingStore::with(&names);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut drops: Vec<_> = store.blobs.iter().filter_map(|blob| drop_of_metadata(&blob.path)).collect();
            drops.dedup();
            for path in drops {
                let drop = list_contents(&store, &path, 1000).await.unwrap().unwrap();
                prop_assert_eq!(drop_of_metadata(&drop.metadata.path), Some(path.clone()));
                for file in &drop.files {
                    prop_assert_eq!(find_drop(&store, &file.path).await.unwrap(), Some(path.clone()));
                }
                for blob in &store.blobs {
                    let name = relative(&path, &blob.path).unwrap_or("metadata");
                    let is_data = !name.starts_with("metadata") && !name.split('/').any(is_hidden);
                    if is_data && find_drop(&store, &blob.path).await.unwrap().as_ref() == Some(&path) {
                        prop_assert!(drop.file(&blob.path).is_some(), "{}", blob.path);
                    }
                }
            }
            Ok(())
        })?;
    }
}
