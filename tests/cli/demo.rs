//! `vivadrop demo`.

use std::fs;

use crate::support::command::{end_of, vivadrop};

#[tokio::test]
async fn a_demo_shows_everything_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let ended = end_of(vivadrop().args(["demo", "--rows", "2000"]).env("TMPDIR", folder.path())).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(ended.stderr, "");
    for part in ["2,000 rows", "0 bad signatures", "completed `datasets/", "\"ObjectId\""] {
        assert!(ended.stdout.contains(part), "{part}: {}", ended.stdout);
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "the temporary folder is not empty");

    let name = folder.path().to_str().unwrap().as_bytes();
    let left = fs::read_dir("/proc").unwrap().filter_map(|process| fs::read(process.ok()?.path().join("environ")).ok());
    let left = left.filter(|environment| environment.windows(name.len()).any(|part| part == name)).count();
    assert_eq!(left, 0, "a process is left");
}
