//! The contract of [`Store`], over a folder, in memory and over Azurite.

use std::{sync::Arc, time::Duration};

use azure_storage_blob::{BlobServiceClient, BlobServiceClientOptions, models::BlobClientBreakLeaseOptions};
use bytes::Bytes;
use futures::{TryStreamExt, future::join_all};
use tempfile::TempDir;
use vivadrop::store::{
    Blob, BlobPath, ETag, ReadWindow, Store, StoreError, WriteIf,
    azure::{Account, AzureStore},
    local::LocalStore,
    read, read_whole,
};

use crate::support::{
    azurite::{self, Azurite},
    memory_store::MemoryStore,
};

/// A keeper, and a container that nobody else uses.
pub(crate) struct Keeper {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) container: String,
    /// The address of the container.
    url: String,
    place: Place,
}

/// What a keeper keeps blobs in.
enum Place {
    Folder(TempDir),
    Account(Account),
    Memory,
}

impl Keeper {
    pub(crate) fn local() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self {
            store: Arc::new(LocalStore::new(folder.path()).unwrap()),
            container: "datasets".into(),
            url: format!("file://{}/datasets", folder.path().display()),
            place: Place::Folder(folder),
        }
    }

    pub(crate) fn memory() -> Self {
        Self {
            store: Arc::new(MemoryStore::default()),
            container: "datasets".into(),
            url: "memory:///datasets".into(),
            place: Place::Memory,
        }
    }

    pub(crate) fn azure() -> Self {
        Self::on(azurite::shared(), &azurite::shared().connection_string())
    }

    pub(crate) fn on(azurite: &Azurite, connection_string: &str) -> Self {
        let account = Account::from_connection_string(connection_string).unwrap();
        let container = azurite.unique_name("datasets");
        Self {
            // Small pages, so that every listing of a few blobs takes several.
            store: Arc::new(AzureStore::new(&account).unwrap().with_page(3.try_into().unwrap())),
            url: format!("{}/{container}", azurite.blob_endpoint()),
            container,
            place: Place::Account(account),
        }
    }

    pub(crate) fn path(&self, name: &str) -> BlobPath {
        BlobPath::new(&self.container, name)
    }

    /// Another process that uses the same place.
    pub(crate) fn another(&self) -> Arc<dyn Store> {
        match &self.place {
            Place::Folder(folder) => Arc::new(LocalStore::new(folder.path()).unwrap()),
            Place::Account(account) => Arc::new(AzureStore::new(account).unwrap()),
            Place::Memory => Arc::clone(&self.store),
        }
    }

    /// What happens to the leases on `path` when they are not renewed, without the wait.
    pub(crate) async fn lapse(&self, path: &BlobPath) {
        match &self.place {
            Place::Folder(folder) => std::fs::remove_dir_all(folder.path().join(".vivadrop-leases")).unwrap(),
            Place::Account(account) => {
                let client_options = account.client_options();
                let options = BlobServiceClientOptions { client_options, ..BlobServiceClientOptions::default() };
                let client = BlobServiceClient::new(account.blob_endpoint().clone(), None, Some(options)).unwrap();
                let now =
                    BlobClientBreakLeaseOptions { break_period: Some(0), ..BlobClientBreakLeaseOptions::default() };
                client.blob_client(&path.container, &path.name).break_lease(Some(now)).await.unwrap();
            }
            Place::Memory => tokio::time::advance(Duration::from_secs(60)).await,
        }
    }

    pub(crate) async fn write(&self, name: &str, text: &str, condition: WriteIf) -> Result<ETag, StoreError> {
        let bytes = Bytes::copy_from_slice(text.as_bytes());
        self.store.write(&self.path(name), bytes, condition).await
    }

    pub(crate) async fn put(&self, name: &str, text: &str) -> Blob {
        self.write(name, text, WriteIf::Always).await.unwrap();
        self.find(name).await.unwrap()
    }

    pub(crate) async fn find(&self, name: &str) -> Option<Blob> {
        self.store.find(&self.path(name)).await.unwrap()
    }

    pub(crate) async fn names(&self, prefix: &str) -> Vec<String> {
        let blobs = self.store.list(&self.container, prefix).await.unwrap();
        blobs.into_iter().map(|blob| blob.path.name).collect()
    }

    pub(crate) async fn range(&self, blob: &Blob, range: std::ops::Range<u64>) -> Result<String, StoreError> {
        let chunks: Vec<Bytes> = self.store.read_range(blob, range).await?.try_collect().await?;
        Ok(String::from_utf8(chunks.concat()).unwrap())
    }
}

async fn a_blob_is_read_as_it_was_written(keeper: Keeper) {
    let etag = keeper.write("run/part-0", "rows", WriteIf::Always).await.unwrap();
    let blob = keeper.find("run/part-0").await.unwrap();
    assert_eq!(blob.path, keeper.path("run/part-0"));
    assert_eq!((&blob.etag, blob.size), (&etag, 4));
    assert!(!etag.0.contains('"'));
    let age = time::OffsetDateTime::now_utc() - blob.modified;
    assert!(age.abs() < time::Duration::minutes(1), "{age}");
    assert_eq!(read_whole(&*keeper.store, &blob, 4).await.unwrap(), "rows");
}

async fn what_is_not_there_is_none_and_no_error(keeper: Keeper) {
    assert_eq!(keeper.names("").await, [""; 0]);
    assert_eq!(keeper.find("run/part-0").await, None);
    keeper.put("run/part-0", "rows").await;
    assert_eq!(keeper.names("run/part-1").await, [""; 0]);
    assert_eq!(keeper.find("run/part-1").await, None);
    assert_eq!(keeper.find("run").await, None);
}

async fn a_blob_that_went_away_cannot_be_read(keeper: Keeper) {
    let mut blob = keeper.put("run/part-0", "rows").await;
    blob.path = keeper.path("run/part-1");
    let error = keeper.range(&blob, 0..4).await.unwrap_err();
    // Azure looks for the blob first, Azurite at the condition. Either way the event is tried again.
    assert!(matches!(&error, StoreError::Missing(path) | StoreError::Changed(path) if *path == blob.path), "{error:?}");
}

async fn a_listing_is_whole_and_sorted_by_bytes(keeper: Keeper) {
    let names = ["run/b", "run/B", "run/a-1", "run/a/1", "run/a0", "run/é", "run/z", "runner", "other/x"];
    for name in names {
        keeper.put(name, name).await;
    }
    let listed = keeper.store.list(&keeper.container, "run/").await.unwrap();
    let expected = ["run/B", "run/a-1", "run/a/1", "run/a0", "run/b", "run/z", "run/é"];
    assert_eq!(listed.iter().map(|blob| &*blob.path.name).collect::<Vec<_>>(), expected);
    for blob in &listed {
        assert_eq!(Some(blob), keeper.find(&blob.path.name).await.as_ref());
    }
}

async fn names_may_hold_any_character(keeper: Keeper) {
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
        let blob = keeper.put(name, name).await;
        assert_eq!(keeper.range(&blob, 0..blob.size).await.unwrap(), name);
        assert_eq!(keeper.names(name).await, [name]);
        let folder = name.rfind('/').map_or("", |end| &name[..=end]);
        assert!(keeper.names(folder).await.contains(&name.to_owned()), "{folder}");
        let encoded = percent_encoding::utf8_percent_encode(name, percent_encoding::NON_ALPHANUMERIC);
        let url = format!("{}/{encoded}", keeper.url);
        assert_eq!(keeper.store.blob_at(&url), Some(keeper.path(name)), "{url}");
    }
    assert_eq!(keeper.names("").await.len(), names.len());
}

async fn a_name_that_steps_up_or_aside_is_no_blob(keeper: Keeper) {
    keeper.put("a/b", "rows").await;
    for name in ["", ".", "..", "../a/b", "a/../a/b", "a/./b", "x/../../a/b"] {
        assert_eq!(keeper.find(name).await, None, "{name:?}");
        let error = keeper.write(name, "rows", WriteIf::Always).await.unwrap_err();
        assert!(matches!(error, StoreError::Unavailable { .. }), "{name:?}: {error:?}");
    }
    for container in ["", ".", "..", "a/b"] {
        assert_eq!(keeper.store.list(container, "").await.unwrap(), [], "{container:?}");
    }
}

async fn a_range_is_half_open(keeper: Keeper) {
    let blob = keeper.put("part-0", "0123456789").await;
    for (range, expected) in [(0..10, "0123456789"), (0..1, "0"), (3..7, "3456"), (9..10, "9"), (5..5, ""), (0..0, "")]
    {
        assert_eq!(keeper.range(&blob, range.clone()).await.unwrap(), expected, "{range:?}");
    }
}

async fn an_empty_blob_is_a_blob(keeper: Keeper) {
    let blob = keeper.put("empty", "").await;
    assert_eq!(blob.size, 0);
    assert_eq!(keeper.names("").await, ["empty"]);
    assert_eq!(read_whole(&*keeper.store, &blob, 0).await.unwrap(), "");
}

async fn a_read_is_pinned_to_its_version(keeper: Keeper) {
    let old = keeper.put("part-0", "old!").await;
    let new = keeper.put("part-0", "new!").await;
    assert_ne!(old.etag, new.etag);
    assert!(matches!(keeper.range(&old, 0..4).await, Err(StoreError::Changed(path)) if path == old.path));
    assert_eq!(keeper.range(&new, 0..4).await.unwrap(), "new!");
}

async fn a_blob_overwritten_between_two_ranges_ends_the_read(keeper: Keeper) {
    let blob = keeper.put("part-0", &"a".repeat(100)).await;
    let window =
        ReadWindow { range_bytes: 10.try_into().unwrap(), in_flight: 2.try_into().unwrap(), ..ReadWindow::default() };
    let mut bytes = read(Arc::clone(&keeper.store), blob.clone(), window);
    assert_eq!(bytes.try_next().await.unwrap().unwrap(), "a".repeat(10));
    keeper.put("part-0", &"b".repeat(100)).await;
    let end = loop {
        match bytes.try_next().await {
            Ok(Some(chunk)) => assert_eq!(chunk, "a".repeat(10)),
            end => break end,
        }
    };
    assert!(matches!(end, Err(StoreError::Changed(path)) if path == blob.path));
}

async fn a_large_blob_comes_whole_through_ranges_in_flight(keeper: Keeper) {
    let bytes: Vec<u8> = (0..3_000_000u32).flat_map(|number| (number % 251).to_le_bytes()).collect();
    let path = keeper.path("large");
    keeper.store.write(&path, bytes.clone().into(), WriteIf::Absent).await.unwrap();
    let blob = keeper.find("large").await.unwrap();
    let chunks: Vec<Bytes> = read(Arc::clone(&keeper.store), blob, ReadWindow::default()).try_collect().await.unwrap();
    assert!(chunks.concat() == bytes);
}

async fn a_write_where_nothing_may_be_needs_nothing_there(keeper: Keeper) {
    keeper.write("claim", "first", WriteIf::Absent).await.unwrap();
    let error = keeper.write("claim", "second", WriteIf::Absent).await.unwrap_err();
    assert!(matches!(error, StoreError::Changed(path) if path == keeper.path("claim")));
    let blob = keeper.find("claim").await.unwrap();
    assert_eq!(keeper.range(&blob, 0..5).await.unwrap(), "first");
}

async fn a_write_over_a_version_needs_that_version(keeper: Keeper) {
    let old = keeper.write("state", "1", WriteIf::Always).await.unwrap();
    let new = keeper.write("state", "2", WriteIf::Matches(old.clone())).await.unwrap();
    let error = keeper.write("state", "3", WriteIf::Matches(old.clone())).await.unwrap_err();
    assert!(matches!(error, StoreError::Changed(_)), "{error:?}");
    assert_eq!(keeper.find("state").await.unwrap().etag, new);
    let error = keeper.write("another", "1", WriteIf::Matches(old)).await.unwrap_err();
    assert!(matches!(error, StoreError::Changed(_)), "{error:?}");
    assert_eq!(keeper.find("another").await, None);
}

async fn a_write_over_a_version_makes_no_container(keeper: Keeper) {
    let error = keeper.write("state", "1", WriteIf::Matches(ETag("1".into()))).await.unwrap_err();
    assert!(matches!(error, StoreError::Changed(_)), "{error:?}");
}

async fn one_of_many_who_write_at_once_wins(keeper: Keeper) {
    // The container is missing, so they race for that as well.
    let writers = (0..10).map(|_| keeper.write("claim", "mine", WriteIf::Absent));
    let first = winner(join_all(writers).await);
    let writers = (0..10).map(|_| keeper.write("claim", "mine", WriteIf::Matches(first.clone())));
    let second = winner(join_all(writers).await);
    assert_eq!(keeper.find("claim").await.unwrap().etag, second);
}

fn winner(writes: Vec<Result<ETag, StoreError>>) -> ETag {
    let (won, lost): (Vec<_>, Vec<_>) = writes.into_iter().partition(Result::is_ok);
    assert!(lost.iter().all(|write| matches!(write, Err(StoreError::Changed(_)))), "{lost:?}");
    let [Ok(etag)] = &won[..] else {
        panic!("{} writers won", won.len());
    };
    etag.clone()
}

async fn the_address_of_a_blob_names_it(keeper: Keeper) {
    let named = |url: String| keeper.store.blob_at(&url);
    assert_eq!(named(format!("{}/run/part-0", keeper.url)), Some(keeper.path("run/part-0")));
    assert_eq!(named(format!("{}/run/../part-0", keeper.url)), None);
    assert_eq!(named("https://acct.blob.core.windows.net/datasets/part-0".into()), None);
}

async fn what_is_deleted_is_gone_and_may_be_deleted_again(keeper: Keeper) {
    let (gone, stays) = (keeper.put("run/part-0", "rows").await, keeper.put("run/part-1", "rows").await);
    for _ in 0..2 {
        keeper.store.delete(&gone.path).await.unwrap();
    }
    assert_eq!(keeper.names("").await, [&*stays.path.name]);
    assert_eq!(keeper.find("run/part-0").await, None);
    keeper.store.delete(&BlobPath::new("elsewhere", "part-0")).await.unwrap();
}

async fn a_container_is_there_once_it_was_made_or_written_to(keeper: Keeper) {
    assert!(!keeper.store.has_container(&keeper.container).await.unwrap());
    for _ in 0..2 {
        keeper.store.make_container(&keeper.container).await.unwrap();
    }
    assert!(keeper.store.has_container(&keeper.container).await.unwrap());
    assert_eq!(keeper.names("").await, [""; 0]);
    let another = format!("{}-two", keeper.container);
    keeper.store.write(&BlobPath::new(&another, "a"), Bytes::new(), WriteIf::Absent).await.unwrap();
    assert!(keeper.store.has_container(&another).await.unwrap());
    for container in ["", ".", "..", "a/b"] {
        assert!(!keeper.store.has_container(container).await.unwrap(), "{container:?}");
    }
}

contract![
    a_blob_is_read_as_it_was_written,
    what_is_not_there_is_none_and_no_error,
    a_blob_that_went_away_cannot_be_read,
    a_listing_is_whole_and_sorted_by_bytes,
    names_may_hold_any_character,
    a_name_that_steps_up_or_aside_is_no_blob,
    a_range_is_half_open,
    an_empty_blob_is_a_blob,
    a_read_is_pinned_to_its_version,
    a_blob_overwritten_between_two_ranges_ends_the_read,
    a_large_blob_comes_whole_through_ranges_in_flight,
    a_write_where_nothing_may_be_needs_nothing_there,
    a_write_over_a_version_needs_that_version,
    a_write_over_a_version_makes_no_container,
    one_of_many_who_write_at_once_wins,
    the_address_of_a_blob_names_it,
    what_is_deleted_is_gone_and_may_be_deleted_again,
    a_container_is_there_once_it_was_made_or_written_to,
];
