//! `vivadrop decode`.

use std::{fs, path::Path, process::Stdio};

use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Command,
};

use crate::support::{
    command::{CommandOutput, LONG, output_of, vivadrop},
    json::differences,
    vectors::{Case, case},
};

fn decode(case: &Case) -> Command {
    decode_folder(&case.drop(), case)
}

/// `decode` of a folder, with the keys of a case.
fn decode_folder(folder: &Path, case: &Case) -> Command {
    let mut command = vivadrop();
    command.arg("decode").arg(folder).arg("--private-key").arg(case.private_key());
    if let Some(answer) = case.decryption_keys() {
        command.arg("--decryption-keys").arg(answer);
    }
    command
}

fn exits(ended: &CommandOutput, code: i32) -> &str {
    assert_eq!(ended.code, Some(code), "{}", ended.stderr);
    &ended.stderr
}

#[tokio::test]
async fn rows_alone_are_on_stdout_and_the_summary_is_on_stderr() {
    let case = case("several-files");
    let ended = output_of(&mut decode(&case)).await;
    let said = exits(&ended, 0);
    assert_eq!(differences(case.expected().lines(), ended.stdout.lines()), None);
    assert_eq!(said.lines().count(), 1, "{said}");
    let rows = ended.stdout.lines().count();
    // The fourth is empty.
    assert!(said.starts_with(&format!("{rows} rows of 3 files in ")), "{said}");
}

#[tokio::test]
async fn one_file_is_decoded_whatever_the_row_count() {
    let case = case("several-files");
    let whole = output_of(&mut decode(&case)).await;
    let mut rows = String::new();
    for number in 0..4 {
        let ended = output_of(decode(&case).args(["--file", &format!("part-{number}.json.gz")])).await;
        assert!(exits(&ended, 0).contains("of 1 files"), "{}", ended.stderr);
        rows += &ended.stdout;
    }
    assert_eq!(rows, whole.stdout);
    for name in ["part-9.json.gz", "../drop/part-0.json.gz", "/etc/passwd", ""] {
        let ended = output_of(decode(&case).args(["--file", name])).await;
        exits(&ended, 2);
        assert_eq!(ended.stdout, "");
    }
}

#[tokio::test]
async fn flags_go_before_the_environment() {
    let case = case("plain-allowed");
    let setting = |value: &str| {
        let mut command = decode(&case);
        command.env("ALLOW_PLAINTEXT", value);
        command
    };
    exits(&output_of(&mut decode(&case)).await, 3);
    exits(&output_of(&mut setting("true")).await, 0);
    exits(&output_of(setting("true").args(["--allow-plaintext", "false"])).await, 3);
    exits(&output_of(setting("false").args(["--allow-plaintext", "true"])).await, 0);
}

#[tokio::test]
async fn settings_that_are_not_usable_are_named_together() {
    let case = case("encrypted-ctr");
    let mut command = decode(&case);
    command.args(["--file-layout", "zip", "--max-row-bytes", "0"]).env("KEY_WRAP", "none");
    let ended = output_of(&mut command).await;
    let said = exits(&ended, 2);
    for part in ["3 settings", "FILE_LAYOUT is `zip`", "MAX_ROW_BYTES is `0`", "KEY_WRAP is `none`"] {
        assert!(said.contains(part), "{said}");
    }
}

#[tokio::test]
async fn settings_of_other_commands_are_not_asked_for_and_do_not_matter() {
    let case = case("encrypted-ctr");
    let ended = output_of(decode(&case).env("IN_FLIGHT", "many").env("TENANTS", "nobody")).await;
    exits(&ended, 0);
}

#[tokio::test]
async fn what_is_wrong_with_the_call_is_usage() {
    let case = case("encrypted-ctr");
    let nowhere = Path::new("/nowhere/at/all");
    let ended = output_of(&mut decode_folder(nowhere, &case)).await;
    assert!(exits(&ended, 2).contains("/nowhere/at/all"), "{}", ended.stderr);

    exits(&output_of(vivadrop().arg("decode").arg(case.drop())).await, 2);
    exits(&output_of(decode(&case).arg("--private-keys")).await, 2);
    exits(&output_of(&mut vivadrop()).await, 2);
    let mut command = vivadrop();
    command.arg("decode").arg(case.drop()).arg("--private-key").arg(case.private_key());
    exits(&output_of(command.arg("--decryption-keys").arg(nowhere)).await, 2);
    let mut command = vivadrop();
    command.arg("decode").arg(case.drop()).arg("--private-key").arg(nowhere);
    let ended = output_of(command.arg("--decryption-keys").arg(case.decryption_keys().unwrap())).await;
    assert!(ended.stderr.contains("/nowhere/at/all"), "{}", ended.stderr);
    assert_ne!(ended.code, Some(0));
}

#[tokio::test]
async fn a_file_in_the_place_of_the_folder_is_usage() {
    let case = case("encrypted-ctr");
    let file = case.drop().join("part-0.json");
    let ended = output_of(&mut decode_folder(&file, &case)).await;
    assert!(exits(&ended, 2).contains("expected the folder of a drop"), "{}", ended.stderr);
}

#[tokio::test]
async fn help_and_version_are_answers_and_not_complaints() {
    for (arguments, part) in [
        (&["--help"][..], "decode"),
        (&["decode", "--help"], "--private-key"),
        (&["--version"], env!("CARGO_PKG_VERSION")),
    ] {
        let ended = output_of(vivadrop().args(arguments)).await;
        exits(&ended, 0);
        assert!(ended.stdout.contains(part), "{}", ended.stdout);
        assert_eq!(ended.stderr, "");
    }
}

#[tokio::test]
async fn a_reader_that_has_enough_is_not_a_failure_of_ours() {
    let case = case("several-files");
    // Many times the file, so that no pipe holds all of its rows.
    let folder = tempfile::tempdir().unwrap();
    let metadata = folder.path().join("metadata/JobMetadata");
    fs::create_dir_all(&metadata).unwrap();
    fs::copy(case.drop().join("metadata/JobMetadata/Metadata.json"), metadata.join("Metadata.json")).unwrap();
    for number in 0..200 {
        fs::copy(case.drop().join("part-0.json.gz"), folder.path().join(format!("part-{number}.json.gz"))).unwrap();
    }
    let mut command = decode_folder(folder.path(), &case);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.next_line().await.unwrap().unwrap().starts_with('{'));
    drop(lines);
    let ended = tokio::time::timeout(LONG, child.wait_with_output()).await.unwrap().unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    assert!(!said.contains("panicked"), "{said}");
    assert_eq!(ended.status.code(), Some(1), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}

#[tokio::test]
async fn a_full_disk_behind_stdout_is_told() {
    let case = case("several-files");
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let child = decode(&case).stdout(full).stderr(Stdio::piped()).spawn().unwrap();
    let ended = tokio::time::timeout(LONG, child.wait_with_output()).await.unwrap().unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(1), "{said}");
    assert!(said.contains("cannot write the rows"), "{said}");
}
