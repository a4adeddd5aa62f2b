//! Tests of `vivadrop demo`.

use std::{fs, path::Path, process::Stdio, time::Duration};

use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Command,
};

use crate::support::command::{LONG, output_of, vivadrop};

#[tokio::test]
async fn the_demo_delivers_a_drop_and_cleans_up() {
    let folder = tempfile::tempdir().unwrap();
    let ended = output_of(vivadrop().args(["demo", "--rows", "2000"]).env("TMPDIR", folder.path())).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(ended.stderr, "");
    for part in
        ["2,000 rows", "0 bad signatures", "completed `datasets/", "\"ObjectId\"", "\"directory\":{\"mail\":\"person"]
    {
        assert!(ended.stdout.contains(part), "{part}: {}", ended.stdout);
    }
    assert_cleaned_up(folder.path()).await;
}

#[tokio::test]
async fn a_demo_that_is_stopped_cleans_up() {
    let folder = tempfile::tempdir().unwrap();
    let mut demo = vivadrop();
    demo.args(["demo", "--rows", "40000"]).env("TMPDIR", folder.path()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut demo = demo.spawn().unwrap();
    let mut lines = BufReader::new(demo.stdout.take().unwrap()).lines();
    while !lines.next_line().await.unwrap().expect("the demo prints step 4").starts_with("4.") {}
    let killed = Command::new("kill").arg(demo.id().unwrap().to_string()).status().await.unwrap();
    assert!(killed.success());
    let ended = tokio::time::timeout(LONG, demo.wait_with_output()).await.unwrap().unwrap();
    assert_eq!(ended.status.code(), Some(1));
    assert_eq!(String::from_utf8(ended.stderr).unwrap(), "could not finish: stopped by a signal\n");
    assert_cleaned_up(folder.path()).await;
}

#[tokio::test]
async fn a_demo_that_serves_prints_the_settings_of_a_handler_and_the_messages_that_arrive() {
    let folder = tempfile::tempdir().unwrap();
    let mut demo = vivadrop();
    demo.args(["demo", "--serve", "--rows", "200"]).env("TMPDIR", folder.path()).stdout(Stdio::piped());
    let mut demo = demo.stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(demo.stderr.take().unwrap()).lines();
    let first = lines.next_line().await.unwrap().unwrap();
    let path = first.split('`').nth(1).unwrap();
    let mut settings = String::new();
    let mut out = BufReader::new(demo.stdout.take().unwrap()).lines();
    while !settings.contains("WEBHOOK_SECRET=") {
        settings += &(out.next_line().await.unwrap().expect("the demo prints the settings") + "\n");
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), settings).unwrap();

    for arguments in [&["check"][..], &["deliver", path]] {
        let ended = output_of(vivadrop().args(arguments).arg("--env-file").arg(file.path())).await;
        assert_eq!(ended.code, Some(0), "{}{}", ended.stdout, ended.stderr);
    }
    while !lines.next_line().await.unwrap().expect("the demo lists the messages").contains("drop.completed") {}
    assert!(Command::new("kill").arg(demo.id().unwrap().to_string()).status().await.unwrap().success());
    let ended = tokio::time::timeout(LONG, demo.wait()).await.unwrap().unwrap();
    assert_eq!(ended.code(), Some(0));
    assert_cleaned_up(folder.path()).await;
}

#[tokio::test]
async fn the_demo_of_the_page_prints_an_address_and_ends_with_a_signal() {
    let folder = tempfile::tempdir().unwrap();
    let mut demo = vivadrop();
    demo.args(["demo", "--page"]).env("TMPDIR", folder.path()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut demo = demo.spawn().unwrap();
    let mut lines = BufReader::new(demo.stdout.take().unwrap()).lines();
    let address = loop {
        let line = lines.next_line().await.unwrap().expect("the demo prints the address of the page");
        if line.starts_with("http://127.0.0.1:") {
            break line;
        }
    };
    let page = reqwest::get(address.split('#').next().unwrap()).await.unwrap();
    assert!(page.text().await.unwrap().contains("<title>vivadrop</title>"));
    let stopped = Command::new("kill").arg(demo.id().unwrap().to_string()).status().await.unwrap();
    assert!(stopped.success());
    let ended = tokio::time::timeout(LONG, demo.wait_with_output()).await.unwrap().unwrap();
    assert_eq!(ended.status.code(), Some(0));
    assert_cleaned_up(folder.path()).await;
}

/// Checks that `folder` is empty, and that no process has it in its environment.
async fn assert_cleaned_up(folder: &Path) {
    assert_eq!(fs::read_dir(folder).unwrap().count(), 0, "the temporary folder is not empty");
    let name = folder.to_str().unwrap().as_bytes();
    let uses_folder = |process: fs::DirEntry| {
        let environment = fs::read(process.path().join("environ")).unwrap_or_default();
        environment.windows(name.len()).any(|part| part == name)
    };
    // A killed process takes a moment to disappear.
    let gone = async {
        while fs::read_dir("/proc").unwrap().any(|process| process.is_ok_and(uses_folder)) {
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), gone).await.expect("all processes of the demo have exited");
}
