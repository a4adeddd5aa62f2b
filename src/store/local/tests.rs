use futures::TryStreamExt;
use tempfile::TempDir;

use super::{file::MAX_SEGMENTS, list::PAGE_BLOBS, *};
use crate::store::list_at_most;

struct Folder {
    store: LocalStore,
    root: TempDir,
}

impl Folder {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let store = LocalStore::new(root.path()).unwrap();
        Self { store, root }
    }

    fn put(&self, path: &str, text: &str) -> PathBuf {
        let path = self.root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    async fn names(&self, container: &str, prefix: &str) -> Vec<String> {
        let blobs = list_at_most(&self.store, container, prefix, 1_000).await.unwrap().unwrap();
        blobs.into_iter().map(|blob| blob.path.name).collect()
    }

    async fn blob(&self, name: &str) -> Blob {
        self.store.find(&BlobPath::new("c", name)).await.unwrap().unwrap()
    }

    async fn text(&self, blob: &Blob) -> Result<String, StoreError> {
        let chunks: Vec<Bytes> = self.store.read_range(blob, 0..blob.size).await?.try_collect().await?;
        Ok(String::from_utf8(chunks.concat()).unwrap())
    }
}

#[tokio::test]
async fn files_in_folders_are_blobs() {
    let folder = Folder::new();
    folder.put("c/run/metadata/JobMetadata/Metadata.json", "{}");
    folder.put("c/run/part-0", "rows");
    folder.put("c/run-2/part-0", "rows");
    folder.put("d/other", "rows");
    assert_eq!(
        folder.names("c", "run").await,
        ["run-2/part-0", "run/metadata/JobMetadata/Metadata.json", "run/part-0"]
    );
    assert_eq!(folder.names("c", "run/p").await, ["run/part-0"]);
    assert_eq!(folder.names("c", "../d/").await, [""; 0]);
    let blob = folder.blob("run/part-0").await;
    assert_eq!((blob.size, folder.text(&blob).await.unwrap().as_str()), (4, "rows"));
}

#[tokio::test]
async fn the_root_is_never_created() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("missing");
    let store = LocalStore::new(&root).unwrap();
    let path = BlobPath::new("c", "a");
    for result in [store.write(&path, Bytes::new(), WriteIf::Always).await.map(drop), store.create_container("c").await]
    {
        assert!(matches!(result, Err(StoreError::Unavailable { .. })), "{result:?}");
    }
    let lease = store.lease(&path, Duration::from_secs(15)).await;
    assert!(matches!(lease, Err(StoreError::Missing(_))), "{lease:?}");
    assert!(!root.exists());
}

#[tokio::test]
async fn a_folder_is_not_a_blob_and_a_file_is_not_a_folder() {
    let folder = Folder::new();
    folder.put("c/run/part-0", "rows");
    for name in ["run", "run/part-0/x", "", "run/", "/run/part-0", "../c/run/part-0", "run/../run/part-0"] {
        assert_eq!(folder.store.find(&BlobPath::new("c", name)).await.unwrap(), None, "{name:?}");
    }
    assert_eq!(folder.names("c", "run/part-0/").await, [""; 0]);
}

#[cfg(unix)]
#[tokio::test]
async fn links_are_followed_except_in_loops() {
    use std::os::unix::fs::symlink;

    let folder = Folder::new();
    let file = folder.put("elsewhere/file", "rows");
    folder.put("c/run/part-0", "rows");
    let at = |path: &str| folder.root.path().join(path);
    symlink(file, at("c/run/part-1")).unwrap();
    symlink(at("elsewhere"), at("c/linked")).unwrap();
    symlink(at("c"), at("c/run/up")).unwrap();
    symlink("itself", at("c/itself")).unwrap();
    symlink("nothing", at("c/dangling")).unwrap();
    assert_eq!(folder.names("c", "").await, ["linked/file", "run/part-0", "run/part-1"]);
    let blob = folder.blob("run/part-1").await;
    assert_eq!(folder.text(&blob).await.unwrap(), "rows");
    assert_eq!(folder.store.find(&BlobPath::new("c", "itself")).await.unwrap(), None);
}

#[cfg(unix)]
#[tokio::test]
async fn a_link_that_leads_out_of_the_folder_gives_no_access() {
    use std::os::unix::fs::symlink;

    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret"), "not ours").unwrap();
    let folder = Folder::new();
    let target = folder.put("c/part-0", "rows");
    let inside = folder.blob("part-0").await;
    let at = |path: &str| folder.root.path().join(path);
    symlink(outside.path().join("secret"), at("c/file")).unwrap();
    symlink(outside.path(), at("c/folder")).unwrap();
    symlink(outside.path(), at("container")).unwrap();

    assert_eq!(folder.names("c", "").await, ["part-0"]);
    assert_eq!(folder.names("c", "folder/").await, [""; 0]);
    assert_eq!(folder.names("container", "").await, [""; 0]);
    for (container, name) in [("c", "file"), ("c", "folder/secret"), ("container", "secret")] {
        assert_eq!(folder.store.find(&BlobPath::new(container, name)).await.unwrap(), None, "{container}/{name}");
    }
    for (container, name) in [("c", "folder/new"), ("c", "folder/new/new"), ("container", "new")] {
        let path = BlobPath::new(container, name);
        let error = folder.store.write(&path, Bytes::new(), WriteIf::Always).await.unwrap_err();
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert!(source.contains("leads out of the folder"), "{source}");
        folder.store.delete(&BlobPath::new(container, "secret"), None).await.unwrap();
    }
    assert!(folder.store.has_container("container").await.is_err());
    assert!(folder.store.create_container("container").await.is_err());
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1, "nothing was written or deleted there");

    // The file is replaced by a link between finding and reading it.
    fs::remove_file(&target).unwrap();
    symlink(outside.path().join("secret"), &target).unwrap();
    assert!(matches!(folder.text(&inside).await, Err(StoreError::Missing(_))));
    // A write replaces such a link, and not the file to which it leads.
    folder.store.write(&inside.path, Bytes::from_static(b"new"), WriteIf::Absent).await.unwrap();
    assert_eq!(folder.text(&folder.blob("part-0").await).await.unwrap(), "new");
    assert_eq!(fs::read_to_string(outside.path().join("secret")).unwrap(), "not ours");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_name_that_cannot_be_used_does_not_stop_the_listing() {
    use std::os::unix::ffi::OsStrExt;

    let folder = Folder::new();
    folder.put("c/part-0", "rows");
    let status = std::process::Command::new("mkfifo").arg(folder.root.path().join("c/pipe")).status();
    assert!(status.unwrap().success());
    let name = std::ffi::OsStr::from_bytes(b"part-\xFF");
    fs::write(folder.root.path().join("c").join(name), "rows").unwrap();
    let name = std::ffi::OsStr::from_bytes(b"run-\xFF");
    fs::create_dir_all(folder.root.path().join("c").join(name).join("below")).unwrap();
    assert_eq!(folder.names("c", "").await, ["part-0"]);
}

#[tokio::test]
async fn a_folder_700_levels_deep_does_not_stop_the_listing() {
    let folder = Folder::new();
    folder.put("c/part-0", "rows");
    let deep = format!("c/{}part-1", "d/".repeat(700));
    folder.put(&deep, "rows");
    folder.put(&format!("c/{}part-2", "e/".repeat(MAX_SEGMENTS - 1)), "rows");
    assert_eq!(folder.names("c", "").await, [&format!("{}part-2", "e/".repeat(MAX_SEGMENTS - 1)), "part-0"]);
    let deep = BlobPath::new("c", format!("{}part-1", "d/".repeat(700)));
    assert_eq!(folder.store.find(&deep).await.unwrap(), None);
    assert!(folder.store.write(&deep, Bytes::new(), WriteIf::Always).await.is_err());
}

/// A path that is longer than the system accepts can be created all the same, one folder at a time.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_path_longer_than_the_system_accepts_does_not_stop_the_listing() {
    let folder = Folder::new();
    folder.put("c/part-0", "rows");
    let long = "n".repeat(250);
    let script = format!("for i in $(seq 20); do mkdir {long} && cd -P {long} || exit 1; done; touch file");
    let made =
        std::process::Command::new("bash").arg("-c").arg(script).current_dir(folder.root.path().join("c")).status();
    assert!(made.unwrap().success());
    assert_eq!(folder.names("c", "").await, ["part-0"]);
    // The folder cannot be deleted by its path either.
    let remove = std::process::Command::new("rm").arg("-rf").arg(folder.root.path().join("c")).status();
    assert!(remove.unwrap().success());
}

#[tokio::test]
async fn a_listing_holds_one_page_of_blobs_in_memory() {
    let folder = Folder::new();
    for number in 0..PAGE_BLOBS + 50 {
        folder.put(&format!("c/run-{}/part-{number:05}", number % 3), "");
    }
    let listed = list_at_most(&folder.store, "c", "", 2 * PAGE_BLOBS).await.unwrap().unwrap();
    assert_eq!(listed.len(), PAGE_BLOBS + 50);
    let mut walk = Walk::new(&folder.store.root, &BlobPath::new("c", "")).unwrap();
    let page = walk.next_page().unwrap();
    assert_eq!(page.len(), PAGE_BLOBS);
    assert_eq!(walk.next_page().unwrap().len(), 50);
    assert_eq!(walk.next_page().unwrap().len(), 0);
}

#[tokio::test]
async fn a_name_in_the_place_of_a_folder_stops_only_the_other_name() {
    let folder = Folder::new();
    let write = async |name: &str| {
        folder.store.write(&BlobPath::new("c", name), Bytes::from_static(b"{}"), WriteIf::Absent).await
    };
    let text = |result: Result<ETag, StoreError>| crate::error_chain::error_chain(&result.unwrap_err());
    write("a").await.unwrap();
    write("a.json/b").await.unwrap();
    write("x/y").await.unwrap();
    let error = text(write("a/b").await);
    assert!(error.contains("`c/a/b`") && error.contains("the file `a` is in the place of a folder"), "{error}");
    let error = text(write("x").await);
    assert!(error.contains("`c/x`") && error.contains("a folder is in the place of this file"), "{error}");
    write("a.json/c").await.unwrap();
    assert_eq!(folder.names("c", "").await, ["a", "a.json/b", "a.json/c", "x/y"]);
}

#[tokio::test]
async fn a_name_of_252_bytes_can_be_written_and_a_longer_one_stops_only_itself() {
    let folder = Folder::new();
    let write = async |length: usize| {
        let path = BlobPath::new("c", format!("run/{}", "n".repeat(length)));
        (folder.store.write(&path, Bytes::from_static(b"{}"), WriteIf::Absent).await, path)
    };
    write(252).await.0.unwrap();
    let (written, path) = write(257).await;
    let error = crate::error_chain::error_chain(&written.unwrap_err());
    assert!(error.contains("longer than 255 bytes"), "{error}");
    assert_eq!(folder.store.find(&path).await.unwrap(), None);
    folder.store.delete(&path, None).await.unwrap();
    assert!(matches!(folder.store.lease(&path, Duration::from_secs(15)).await, Err(StoreError::Missing(_))));
    assert_eq!(folder.names("c", &format!("run/{}/", "n".repeat(257))).await, [""; 0]);
    assert_eq!(folder.names("c", "").await.len(), 1);
}

#[tokio::test]
async fn a_write_does_not_delay_the_renewal_of_a_lease_on_another_blob() {
    let folder = Folder::new();
    folder.put("c/state.json", "{}");
    let leased = BlobPath::new("c", "state.json");
    let lease = folder.store.lease(&leased, Duration::from_secs(15)).await.unwrap().unwrap();
    // Another writer holds the lock of another blob, and does not release it.
    let other = BlobPath::new("c", "large");
    assert_ne!(lock::digest(&other)[..2], lock::digest(&leased)[..2], "two lock files");
    let _held = lock::lock(&folder.store.root, &other).unwrap();
    folder.store.renew(&leased, &lease).await.unwrap();
    let etag = folder.blob("state.json").await.etag;
    let condition = WriteIf::Leased(etag, lease.clone());
    folder.store.write(&leased, Bytes::from_static(b"{ }"), condition).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bytes_of_a_blob_are_written_before_it_is_locked() {
    const BYTES: usize = 4 << 20;
    let folder = Folder::new();
    folder.put("c/first", "");
    let path = BlobPath::new("c", "large");
    let held = lock::lock(&folder.store.root, &path).unwrap();
    let (store, large) = (folder.store.clone(), path.clone());
    let write = tokio::spawn(async move { store.write(&large, Bytes::from(vec![1; BYTES]), WriteIf::Absent).await });
    let has_all_bytes = |entry: std::io::Result<fs::DirEntry>| {
        entry.and_then(|entry| entry.metadata()).is_ok_and(|metadata| metadata.len() == BYTES as u64)
    };
    while !fs::read_dir(folder.root.path().join("c")).unwrap().any(has_all_bytes) {
        assert!(!write.is_finished(), "it waits for the lock");
        tokio::task::yield_now().await;
    }
    assert_eq!(folder.store.find(&path).await.unwrap(), None);
    drop(held);
    write.await.unwrap().unwrap();
    assert_eq!(folder.blob("large").await.size, BYTES as u64);
}

#[tokio::test]
async fn overwriting_a_file_in_place_during_a_read_is_detected() {
    let folder = Folder::new();
    let file = folder.put("c/part-0", &"a".repeat(2 * CHUNK_BYTES as usize));
    let blob = folder.blob("part-0").await;
    let mut bytes = folder.store.read_range(&blob, 0..blob.size).await.unwrap();
    assert_eq!(bytes.try_next().await.unwrap().unwrap().len() as u64, CHUNK_BYTES);
    fs::write(&file, "b".repeat(2 * CHUNK_BYTES as usize)).unwrap();
    let error = bytes.try_next().await.unwrap_err();
    assert!(matches!(error, StoreError::Changed(_)), "{error:?}");
}

#[tokio::test]
async fn versions_with_the_same_size_and_modification_time_are_distinguished() {
    let folder = Folder::new();
    let file = folder.put("c/part-0", "old");
    let old = folder.blob("part-0").await;
    let new = folder.put("c/new", "new");
    File::options().write(true).open(&new).unwrap().set_modified(old.modified.into()).unwrap();
    fs::rename(new, file).unwrap();
    assert_ne!(folder.blob("part-0").await.etag, old.etag);
    assert!(matches!(folder.text(&old).await, Err(StoreError::Changed(_))));
}

#[tokio::test]
async fn quick_versions_of_the_same_size_have_different_etags() {
    let folder = Folder::new();
    let path = BlobPath::new("c", "state.json");
    let mut etags = std::collections::HashSet::new();
    for _ in 0..200 {
        let etag = folder.store.write(&path, Bytes::from_static(b"{}"), WriteIf::Always).await;
        assert!(etags.insert(etag.unwrap()));
    }
    assert!(etags.contains(&folder.blob("state.json").await.etag));
}

#[tokio::test]
async fn a_write_leaves_no_temporary_files() {
    let folder = Folder::new();
    let path = BlobPath::new("c", "a/b");
    folder.store.write(&path, Bytes::from_static(b"1"), WriteIf::Always).await.unwrap();
    let below: Vec<_> = fs::read_dir(folder.root.path().join("c/a")).unwrap().collect();
    assert_eq!(below.len(), 1);
    // A temporary file of a writer that was killed is not a blob.
    folder.put("c/a/.vivadrop-x.tmp", "half");
    assert_eq!(folder.names("c", "").await, ["a/b"]);
    assert_eq!(folder.store.find(&BlobPath::new("c", "a/.vivadrop-x.tmp")).await.unwrap(), None);
}

#[tokio::test]
async fn a_write_to_an_invalid_file_name_is_an_error() {
    let folder = Folder::new();
    folder.put("c/file", "1");
    for name in ["file/below", "a//b", "../x", "", ".vivadrop-lock"] {
        let error = folder.store.write(&BlobPath::new("c", name), Bytes::new(), WriteIf::Always).await;
        assert!(matches!(error, Err(StoreError::Unavailable { .. })), "{name:?}: {error:?}");
    }
}

#[test]
fn a_url_in_the_folder_names_a_blob() {
    let store = LocalStore::new("/data/my drops").unwrap();
    for url in [
        "file:///data/my%20drops/c/run/part-0",
        "file:///data/my drops/c/run/part-0",
        "FILE://localhost/data/my%20drops/c/run%2Fpart-0?x#y",
    ] {
        let blob = store.parse_blob_url(url);
        assert_eq!(blob.map(|blob| blob.to_string()).as_deref(), Some("c/run/part-0"), "{url}");
    }
}

#[test]
fn a_url_elsewhere_or_with_an_unsafe_segment_names_no_blob() {
    let store = LocalStore::new("/data/drops").unwrap();
    for url in [
        "file:///data/drops",
        "file:///data/drops/c",
        "file:///data/drops/c/",
        "file:///data/drops2/c/b",
        "file:///data/other/c/b",
        "file:///data/drops/../secret/c/b",
        "file:///data/drops/%2e%2e/secret/c",
        "file:///data/drops/c/..%2Fb",
        "file:///data//drops/c/b",
        "file://host/data/drops/c/b",
        "file:/data/drops/c/b",
        "/data/drops/c/b",
        "https://localhost/data/drops/c/b",
    ] {
        assert_eq!(store.parse_blob_url(url), None, "{url}");
    }
    assert_eq!(store.parse_blob_url("file:///data/drops/%2e%2e/secret/c"), None);
}

#[test]
fn a_store_is_opened_by_the_url_of_its_folder() {
    let store = LocalStore::from_url("file:///data/my%20drops/").unwrap();
    assert_eq!(&*store.root, Path::new("/data/my drops"));
    assert_eq!(&*LocalStore::from_url("file:///data/my drops").unwrap().root, &*store.root);
    for url in ["file://data/drops", "file:data", "data", "https:///data", "file:///a?b", "file:///a#b", ""] {
        assert!(LocalStore::from_url(url).is_err(), "{url}");
    }
}
