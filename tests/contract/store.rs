//! The contract of [`Store`], for a folder, memory and Azurite.

use std::{sync::Arc, time::Duration};

use azure_storage_blob::{BlobServiceClient, BlobServiceClientOptions, models::BlobClientBreakLeaseOptions};
use bytes::Bytes;
use futures::{TryStreamExt, future::join_all};
use tempfile::TempDir;
use vivadrop::store::{
    Blob, BlobMetadata, BlobPath, ETag, ListedBlob, OPEN_BYTES, ReadWholeError, ReadWindow, Store, StoreError, WriteIf,
    azure::{Account, AzureStore},
    list_at_most,
    local::LocalStore,
    read, read_current, read_whole,
};

use crate::support::{
    azurite::{self, Azurite},
    memory_store::MemoryStore,
};

/// A store with a container that no other test uses.
pub(crate) struct StoreFixture {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) container: String,
    /// The URL of the container.
    url: String,
    backend: Backend,
}

/// Where the blobs are stored.
enum Backend {
    Folder(TempDir),
    Account(Account),
    Memory,
}

impl StoreFixture {
    /// A fixture in a new folder.
    pub(crate) fn local() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self {
            store: Arc::new(LocalStore::new(folder.path()).unwrap()),
            container: "datasets".into(),
            url: format!("file://{}/datasets", folder.path().display()),
            backend: Backend::Folder(folder),
        }
    }

    /// A fixture in memory.
    pub(crate) fn memory() -> Self {
        Self {
            store: Arc::new(MemoryStore::default()),
            container: "datasets".into(),
            url: "memory:///datasets".into(),
            backend: Backend::Memory,
        }
    }

    /// A fixture on the shared Azurite, with its account key.
    pub(crate) fn azure() -> Self {
        Self::on(azurite::shared(), &azurite::shared().connection_string())
    }

    /// A fixture on `azurite`, with another credential or endpoint.
    pub(crate) fn on(azurite: &Azurite, connection_string: &str) -> Self {
        let account = Account::from_connection_string(connection_string).unwrap();
        let container = azurite.unique_name("datasets");
        Self {
            // Small pages, so that listing a few blobs takes several requests.
            store: Arc::new(AzureStore::new(&account).unwrap().with_page_size(3.try_into().unwrap())),
            url: format!("{}/{container}", azurite.blob_endpoint()),
            container,
            backend: Backend::Account(account),
        }
    }

    /// A blob in the container.
    pub(crate) fn path(&self, name: &str) -> BlobPath {
        BlobPath::new(&self.container, name)
    }

    /// A second client of the same storage, as in another process.
    pub(crate) fn another(&self) -> Arc<dyn Store> {
        match &self.backend {
            Backend::Folder(folder) => Arc::new(LocalStore::new(folder.path()).unwrap()),
            Backend::Account(account) => Arc::new(AzureStore::new(account).unwrap()),
            Backend::Memory => Arc::clone(&self.store),
        }
    }

    /// Lets the lease on `path` lapse without waiting.
    pub(crate) async fn lapse(&self, path: &BlobPath) {
        match &self.backend {
            Backend::Folder(folder) => std::fs::remove_dir_all(folder.path().join(".vivadrop-leases")).unwrap(),
            Backend::Account(account) => {
                let client_options = account.client_options();
                let options = BlobServiceClientOptions { client_options, ..BlobServiceClientOptions::default() };
                let client = BlobServiceClient::new(account.blob_endpoint().clone(), None, Some(options)).unwrap();
                let at_once =
                    BlobClientBreakLeaseOptions { break_period: Some(0), ..BlobClientBreakLeaseOptions::default() };
                client.blob_client(&path.container, &path.name).break_lease(Some(at_once)).await.unwrap();
            }
            Backend::Memory => tokio::time::advance(Duration::from_secs(60)).await,
        }
    }

    /// Writes a blob if `condition` holds.
    pub(crate) async fn write(&self, name: &str, text: &str, condition: WriteIf) -> Result<ETag, StoreError> {
        let bytes = Bytes::copy_from_slice(text.as_bytes());
        self.store.write(&self.path(name), bytes, condition).await
    }

    /// Writes a blob, whether it exists or not.
    pub(crate) async fn put(&self, name: &str, text: &str) -> Blob {
        self.write(name, text, WriteIf::Always).await.unwrap();
        self.find(name).await.unwrap()
    }

    /// The current version of a blob.
    pub(crate) async fn find(&self, name: &str) -> Option<Blob> {
        self.store.find(&self.path(name)).await.unwrap()
    }

    /// The names of the blobs that begin with `prefix`.
    pub(crate) async fn names(&self, prefix: &str) -> Vec<String> {
        let blobs = list_at_most(&*self.store, &self.container, prefix, 1_000).await.unwrap().unwrap();
        blobs.into_iter().map(|blob| blob.path.name).collect()
    }

    /// The text in a range of a version of a blob.
    pub(crate) async fn range(&self, blob: &Blob, range: std::ops::Range<u64>) -> Result<String, StoreError> {
        let chunks: Vec<Bytes> = self.store.read_range(blob, range).await?.try_collect().await?;
        Ok(String::from_utf8(chunks.concat()).unwrap())
    }
}

async fn a_blob_is_read_as_it_was_written(fixture: StoreFixture) {
    let etag = fixture.write("run/part-0", "rows", WriteIf::Always).await.unwrap();
    let blob = fixture.find("run/part-0").await.unwrap();
    assert_eq!(blob.path, fixture.path("run/part-0"));
    assert_eq!((&blob.etag, blob.size), (&etag, 4));
    assert!(!etag.0.contains('"'));
    let age = time::OffsetDateTime::now_utc() - blob.modified;
    assert!(age.abs() < time::Duration::minutes(1), "{age}");
    assert_eq!(read_whole(&*fixture.store, &blob, 4).await.unwrap(), "rows");
}

async fn a_missing_blob_is_none_and_not_an_error(fixture: StoreFixture) {
    assert_eq!(fixture.names("").await, [""; 0]);
    assert_eq!(fixture.find("run/part-0").await, None);
    fixture.put("run/part-0", "rows").await;
    assert_eq!(fixture.names("run/part-1").await, [""; 0]);
    assert_eq!(fixture.find("run/part-1").await, None);
    assert_eq!(fixture.find("run").await, None);
}

async fn a_missing_blob_cannot_be_read(fixture: StoreFixture) {
    let mut blob = fixture.put("run/part-0", "rows").await;
    blob.path = fixture.path("run/part-1");
    let error = fixture.range(&blob, 0..4).await.unwrap_err();
    // Azure checks first whether the blob exists, Azurite checks the condition first. The event is retried in both
    // cases.
    assert!(matches!(&error, StoreError::Missing(path) | StoreError::Changed(path) if *path == blob.path), "{error:?}");
}

async fn a_listing_is_complete_and_sorted_by_bytes(fixture: StoreFixture) {
    let names = ["run/b", "run/B", "run/a-1", "run/a/1", "run/a0", "run/é", "run/z", "runner", "other/x"];
    for name in names {
        fixture.put(name, name).await;
    }
    let listed = list_at_most(&*fixture.store, &fixture.container, "run/", 7).await.unwrap().unwrap();
    let expected = ["run/B", "run/a-1", "run/a/1", "run/a0", "run/b", "run/z", "run/é"];
    assert_eq!(listed.iter().map(|blob| &*blob.path.name).collect::<Vec<_>>(), expected);
    for blob in &listed {
        assert_eq!(Some(blob), fixture.find(&blob.path.name).await.as_ref());
    }
}

async fn a_listing_ends_where_the_consumer_stops(fixture: StoreFixture) {
    for name in 0..5 {
        fixture.put(&format!("run/{name}"), "rows").await;
    }
    assert_eq!(list_at_most(&*fixture.store, &fixture.container, "run/", 4).await.unwrap(), None);
    assert_eq!(list_at_most(&*fixture.store, &fixture.container, "run/", 5).await.unwrap().unwrap().len(), 5);
}

async fn the_blobs_of_a_folder_follow_each_other(fixture: StoreFixture) {
    for name in ["a/1", "a/b/1", "a/b/2", "a/b-c", "a/c", "a-b/1", "a0", "b"] {
        fixture.put(name, "rows").await;
    }
    let listed: Vec<Blob> = fixture.store.list(&fixture.container, "").try_collect().await.unwrap();
    assert_eq!(listed.len(), 8);
    for folder in ["a/", "a/b/", "a-b/"] {
        let inside = listed.iter().map(|blob| blob.path.name.starts_with(folder));
        let changes = inside.clone().zip(inside.skip(1)).filter(|(before, after)| before != after).count();
        assert!(changes <= 2, "{folder} is split: {listed:?}");
    }
}

async fn a_listing_returns_the_metadata_that_was_written(fixture: StoreFixture) {
    let metadata = BlobMetadata::from([("state".into(), "open".into()), ("reason".into(), "%C3%A9 a=b;c".into())]);
    let path = fixture.path("list/one");
    let etag = fixture.store.write_with_metadata(&path, "{}".into(), &metadata, WriteIf::Absent).await.unwrap();
    let list = async || {
        let listing = fixture.store.list_with_metadata(&fixture.container, "list/");
        listing.try_collect::<Vec<ListedBlob>>().await.unwrap()
    };
    let [listed] = &list().await[..] else { panic!("one blob") };
    assert_eq!((&listed.blob.path, &listed.blob.etag), (&path, &etag));
    // A folder has no metadata.
    assert!(listed.metadata.as_ref().is_none_or(|listed| *listed == metadata), "{listed:?}");
    let has_metadata = listed.metadata.is_some();
    fixture.write("list/one", "{}", WriteIf::Matches(etag)).await.unwrap();
    assert_eq!(list().await[0].metadata, has_metadata.then(BlobMetadata::new));
}

async fn a_small_blob_is_read_whatever_its_size(fixture: StoreFixture) {
    assert_eq!(read_current(&*fixture.store, &fixture.path("none"), 10).await.unwrap(), None);
    for size in [0, 1, OPEN_BYTES - 1, OPEN_BYTES, OPEN_BYTES + 1, 3 * OPEN_BYTES] {
        let text = "x".repeat(size as usize);
        let etag = fixture.write("record", &text, WriteIf::Always).await.unwrap();
        let (blob, bytes) = read_current(&*fixture.store, &fixture.path("record"), size).await.unwrap().unwrap();
        assert_eq!((blob.etag, blob.size), (etag, size));
        assert!(bytes == text, "{size}");
    }
    let error = read_current(&*fixture.store, &fixture.path("record"), 3 * OPEN_BYTES - 1).await.unwrap_err();
    assert!(matches!(error, ReadWholeError::TooLarge { .. }), "{error:?}");
}

async fn a_version_is_deleted_only_if_it_is_the_current_one(fixture: StoreFixture) {
    let old = fixture.write("entry", "1", WriteIf::Always).await.unwrap();
    let new = fixture.write("entry", "2", WriteIf::Always).await.unwrap();
    let path = fixture.path("entry");
    let error = fixture.store.delete(&path, Some(&old)).await.unwrap_err();
    assert!(matches!(error, StoreError::Changed(_)), "{error:?}");
    fixture.store.delete(&path, Some(&new)).await.unwrap();
    assert_eq!(fixture.find("entry").await, None);
    fixture.store.delete(&path, Some(&new)).await.unwrap();
}

async fn names_may_contain_any_character(fixture: StoreFixture) {
    let names = [
        "a b/c d",
        "a+b/c+d",
        "100%/50%25",
        "%2e%2e/%2F",
        "a#b?c=d&e",
        "über/日本/🦀",
        "[x]{y}^`|~'\"<>;:@=,$!*()",
        "..a/b../...",
    ];
    for name in names {
        let blob = fixture.put(name, name).await;
        assert_eq!(fixture.range(&blob, 0..blob.size).await.unwrap(), name);
        assert_eq!(fixture.names(name).await, [name]);
        let folder = name.rfind('/').map_or("", |end| &name[..=end]);
        assert!(fixture.names(folder).await.contains(&name.to_owned()), "{folder}");
        let encoded = percent_encoding::utf8_percent_encode(name, percent_encoding::NON_ALPHANUMERIC);
        let url = format!("{}/{encoded}", fixture.url);
        assert_eq!(fixture.store.parse_blob_url(&url), Some(fixture.path(name)), "{url}");
    }
    assert_eq!(fixture.names("").await.len(), names.len());
}

async fn a_name_with_an_unsafe_segment_is_not_a_blob(fixture: StoreFixture) {
    fixture.put("a/b", "rows").await;
    for name in ["", ".", "..", "../a/b", "a/../a/b", "a/./b", "x/../../a/b"] {
        assert_eq!(fixture.find(name).await, None, "{name:?}");
        let error = fixture.write(name, "rows", WriteIf::Always).await.unwrap_err();
        assert!(matches!(error, StoreError::Unavailable { .. }), "{name:?}: {error:?}");
    }
    for container in ["", ".", "..", "a/b"] {
        assert_eq!(list_at_most(&*fixture.store, container, "", 1).await.unwrap().unwrap(), [], "{container:?}");
    }
}

async fn a_range_is_half_open(fixture: StoreFixture) {
    let blob = fixture.put("part-0", "0123456789").await;
    for (range, expected) in [(0..10, "0123456789"), (0..1, "0"), (3..7, "3456"), (9..10, "9"), (5..5, ""), (0..0, "")]
    {
        assert_eq!(fixture.range(&blob, range.clone()).await.unwrap(), expected, "{range:?}");
    }
}

async fn an_empty_blob_can_be_read(fixture: StoreFixture) {
    let blob = fixture.put("empty", "").await;
    assert_eq!(blob.size, 0);
    assert_eq!(fixture.names("").await, ["empty"]);
    assert_eq!(read_whole(&*fixture.store, &blob, 0).await.unwrap(), "");
}

async fn a_read_is_pinned_to_its_version(fixture: StoreFixture) {
    let old = fixture.put("part-0", "old!").await;
    let new = fixture.put("part-0", "new!").await;
    assert_ne!(old.etag, new.etag);
    assert!(matches!(fixture.range(&old, 0..4).await, Err(StoreError::Changed(path)) if path == old.path));
    assert_eq!(fixture.range(&new, 0..4).await.unwrap(), "new!");
}

async fn overwriting_a_blob_between_two_ranges_ends_the_read(fixture: StoreFixture) {
    let blob = fixture.put("part-0", &"a".repeat(100)).await;
    let window =
        ReadWindow { range_bytes: 10.try_into().unwrap(), in_flight: 2.try_into().unwrap(), ..ReadWindow::default() };
    let mut bytes = read(Arc::clone(&fixture.store), blob.clone(), window);
    assert_eq!(bytes.try_next().await.unwrap().unwrap(), "a".repeat(10));
    fixture.put("part-0", &"b".repeat(100)).await;
    let end = loop {
        match bytes.try_next().await {
            Ok(Some(chunk)) => assert_eq!(chunk, "a".repeat(10)),
            end => break end,
        }
    };
    assert!(matches!(end, Err(StoreError::Changed(path)) if path == blob.path));
}

async fn a_large_blob_is_read_completely_in_parallel_ranges(fixture: StoreFixture) {
    let bytes: Vec<u8> = (0..3_000_000u32).flat_map(|number| (number % 251).to_le_bytes()).collect();
    let path = fixture.path("large");
    fixture.store.write(&path, bytes.clone().into(), WriteIf::Absent).await.unwrap();
    let blob = fixture.find("large").await.unwrap();
    let chunks: Vec<Bytes> = read(Arc::clone(&fixture.store), blob, ReadWindow::default()).try_collect().await.unwrap();
    assert!(chunks.concat() == bytes);
}

async fn a_write_if_absent_fails_if_the_blob_exists(fixture: StoreFixture) {
    fixture.write("claim", "first", WriteIf::Absent).await.unwrap();
    let error = fixture.write("claim", "second", WriteIf::Absent).await.unwrap_err();
    assert!(matches!(error, StoreError::Changed(path) if path == fixture.path("claim")));
    let blob = fixture.find("claim").await.unwrap();
    assert_eq!(fixture.range(&blob, 0..5).await.unwrap(), "first");
}

async fn a_write_if_matches_fails_for_another_version(fixture: StoreFixture) {
    let old = fixture.write("state", "1", WriteIf::Always).await.unwrap();
    let new = fixture.write("state", "2", WriteIf::Matches(old.clone())).await.unwrap();
    let error = fixture.write("state", "3", WriteIf::Matches(old.clone())).await.unwrap_err();
    assert!(matches!(error, StoreError::Changed(_)), "{error:?}");
    assert_eq!(fixture.find("state").await.unwrap().etag, new);
    let error = fixture.write("another", "1", WriteIf::Matches(old)).await.unwrap_err();
    assert!(matches!(error, StoreError::Changed(_)), "{error:?}");
    assert_eq!(fixture.find("another").await, None);
}

async fn a_write_if_matches_creates_no_container(fixture: StoreFixture) {
    let error = fixture.write("state", "1", WriteIf::Matches(ETag("1".into()))).await.unwrap_err();
    assert!(matches!(error, StoreError::Changed(_)), "{error:?}");
}

async fn one_of_several_concurrent_writes_succeeds(fixture: StoreFixture) {
    // The container is missing, so the writes also compete to create it.
    let writers = (0..10).map(|_| fixture.write("claim", "mine", WriteIf::Absent));
    let first = successful_write(join_all(writers).await);
    let writers = (0..10).map(|_| fixture.write("claim", "mine", WriteIf::Matches(first.clone())));
    let second = successful_write(join_all(writers).await);
    assert_eq!(fixture.find("claim").await.unwrap().etag, second);
}

/// The ETag of the only write that succeeded. All others must have found another version.
fn successful_write(writes: Vec<Result<ETag, StoreError>>) -> ETag {
    let (succeeded, failed): (Vec<_>, Vec<_>) = writes.into_iter().partition(Result::is_ok);
    assert!(failed.iter().all(|write| matches!(write, Err(StoreError::Changed(_)))), "{failed:?}");
    let [Ok(etag)] = &succeeded[..] else {
        panic!("{} writes succeeded", succeeded.len());
    };
    etag.clone()
}

async fn the_url_of_a_blob_is_parsed(fixture: StoreFixture) {
    let parse = |url: String| fixture.store.parse_blob_url(&url);
    assert_eq!(parse(format!("{}/run/part-0", fixture.url)), Some(fixture.path("run/part-0")));
    assert_eq!(parse(format!("{}/run/../part-0", fixture.url)), None);
    assert_eq!(parse("https://acct.blob.core.windows.net/datasets/part-0".into()), None);
}

async fn a_deleted_blob_is_missing_and_may_be_deleted_again(fixture: StoreFixture) {
    let (deleted, other) = (fixture.put("run/part-0", "rows").await, fixture.put("run/part-1", "rows").await);
    for _ in 0..2 {
        fixture.store.delete(&deleted.path, None).await.unwrap();
    }
    assert_eq!(fixture.names("").await, [&*other.path.name]);
    assert_eq!(fixture.find("run/part-0").await, None);
    fixture.store.delete(&BlobPath::new("elsewhere", "part-0"), None).await.unwrap();
}

async fn a_container_exists_once_it_was_created_or_written_to(fixture: StoreFixture) {
    assert!(!fixture.store.has_container(&fixture.container).await.unwrap());
    for _ in 0..2 {
        fixture.store.create_container(&fixture.container).await.unwrap();
    }
    assert!(fixture.store.has_container(&fixture.container).await.unwrap());
    assert_eq!(fixture.names("").await, [""; 0]);
    let another = format!("{}-two", fixture.container);
    fixture.store.write(&BlobPath::new(&another, "a"), Bytes::new(), WriteIf::Absent).await.unwrap();
    assert!(fixture.store.has_container(&another).await.unwrap());
    for container in ["", ".", "..", "a/b"] {
        assert!(!fixture.store.has_container(container).await.unwrap(), "{container:?}");
    }
}

contract![
    a_blob_is_read_as_it_was_written,
    a_missing_blob_is_none_and_not_an_error,
    a_missing_blob_cannot_be_read,
    a_listing_is_complete_and_sorted_by_bytes,
    a_listing_ends_where_the_consumer_stops,
    the_blobs_of_a_folder_follow_each_other,
    a_listing_returns_the_metadata_that_was_written,
    a_small_blob_is_read_whatever_its_size,
    a_version_is_deleted_only_if_it_is_the_current_one,
    names_may_contain_any_character,
    a_name_with_an_unsafe_segment_is_not_a_blob,
    a_range_is_half_open,
    an_empty_blob_can_be_read,
    a_read_is_pinned_to_its_version,
    overwriting_a_blob_between_two_ranges_ends_the_read,
    a_large_blob_is_read_completely_in_parallel_ranges,
    a_write_if_absent_fails_if_the_blob_exists,
    a_write_if_matches_fails_for_another_version,
    a_write_if_matches_creates_no_container,
    one_of_several_concurrent_writes_succeeds,
    the_url_of_a_blob_is_parsed,
    a_deleted_blob_is_missing_and_may_be_deleted_again,
    a_container_exists_once_it_was_created_or_written_to,
];
