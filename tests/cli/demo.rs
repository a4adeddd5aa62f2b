//! `vivadrop demo`.

use std::{fs, path::Path, process::Stdio, time::Duration};

use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Command,
};

use crate::support::command::{LONG, output_of, vivadrop};

#[tokio::test]
async fn a_demo_shows_everything_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let ended = output_of(vivadrop().args(["demo", "--rows", "2000"]).env("TMPDIR", folder.path())).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(ended.stderr, "");
    for part in ["2,000 rows", "0 bad signatures", "completed `datasets/", "\"ObjectId\""] {
        assert!(ended.stdout.contains(part), "{part}: {}", ended.stdout);
    }
    assert_nothing_is_left(folder.path()).await;
}

#[tokio::test]
async fn a_demo_that_is_told_to_stop_leaves_nothing_either() {
    let folder = tempfile::tempdir().unwrap();
    let mut demo = vivadrop();
    demo.args(["demo", "--rows", "40000"]).env("TMPDIR", folder.path()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut demo = demo.spawn().unwrap();
    let mut lines = BufReader::new(demo.stdout.take().unwrap()).lines();
    while !lines.next_line().await.unwrap().expect("the demo goes on").starts_with("4.") {}
    let told = Command::new("kill").arg(demo.id().unwrap().to_string()).status().await.unwrap();
    assert!(told.success());
    let ended = tokio::time::timeout(LONG, demo.wait_with_output()).await.unwrap().unwrap();
    assert_eq!(ended.status.code(), Some(1));
    assert_eq!(String::from_utf8(ended.stderr).unwrap(), "could not finish: told to stop\n");
    assert_nothing_is_left(folder.path()).await;
}

/// No file, and no process that was told to keep its files in `folder`.
async fn assert_nothing_is_left(folder: &Path) {
    assert_eq!(fs::read_dir(folder).unwrap().count(), 0, "the temporary folder is not empty");
    let name = folder.to_str().unwrap().as_bytes();
    let is_of_demo = |process: fs::DirEntry| {
        let environment = fs::read(process.path().join("environ")).unwrap_or_default();
        environment.windows(name.len()).any(|part| part == name)
    };
    // What was killed takes a moment to be gone.
    let gone = async {
        while fs::read_dir("/proc").unwrap().any(|process| process.is_ok_and(is_of_demo)) {
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), gone).await.expect("no process is left");
}
