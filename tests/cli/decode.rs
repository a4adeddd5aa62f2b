//! `vivadrop decode`: rows on stdout, everything else on stderr.

use std::{fs, path::Path, process::Stdio};

use testkit::viva_api::{Behaviour, VivaApiStub};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Command,
};

use crate::support::{
    command::{CommandOutput, LONG, output_of, vivadrop},
    json::differences,
    vectors::{Case, case},
};

/// The command `decode` for a case.
fn decode(case: &Case) -> Command {
    decode_folder(&case.drop(), case)
}

/// The command `decode` for a folder, with the keys of a case.
fn decode_folder(folder: &Path, case: &Case) -> Command {
    let mut command = vivadrop();
    command.arg("decode").arg(folder).arg("--private-key").arg(case.private_key());
    if let Some(answer) = case.decryption_keys() {
        command.arg("--decryption-keys").arg(answer);
    }
    command
}

/// Checks the exit code; returns stderr.
fn exits(ended: &CommandOutput, code: i32) -> &str {
    assert_eq!(ended.code, Some(code), "{}", ended.stderr);
    &ended.stderr
}

#[tokio::test]
async fn only_rows_are_on_stdout_and_the_summary_is_on_stderr() {
    let case = case("several-files");
    let ended = output_of(&mut decode(&case)).await;
    let stderr = exits(&ended, 0);
    assert_eq!(differences(case.expected().lines(), ended.stdout.lines()), None);
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    let rows = ended.stdout.lines().count();
    // The fourth file is empty.
    assert!(stderr.starts_with(&format!("{rows} rows of 3 files in ")), "{stderr}");
}

#[tokio::test]
async fn one_file_is_decoded_without_a_check_of_the_row_count() {
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
async fn flags_override_the_environment() {
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
async fn all_problems_with_settings_are_reported_together() {
    let case = case("encrypted-ctr");
    let mut command = decode(&case);
    command.args(["--file-layout", "zip", "--max-row-bytes", "0"]).env("KEY_WRAP", "none");
    let ended = output_of(&mut command).await;
    let stderr = exits(&ended, 2);
    for part in ["3 settings", "FILE_LAYOUT is `zip`", "MAX_ROW_BYTES is `0`", "KEY_WRAP is `none`"] {
        assert!(stderr.contains(part), "{stderr}");
    }
}

#[tokio::test]
async fn a_column_that_no_row_has_fails_with_the_nearest_name() {
    let case = case("encrypted-ctr");
    let rows_of = async |flag: &str, names: &str| output_of(decode(&case).args([flag, names])).await;
    for (flag, names, nearest) in [
        ("--row-columns", "objectid", "`objectid` in ROW_COLUMNS (the nearest is `ObjectId`)"),
        ("--encrypted-columns", "objectID", "`objectID` in ENCRYPTED_COLUMNS (the nearest is `ObjectId`)"),
        ("--row-columns", "objectid?", "`objectid` in ROW_COLUMNS (the nearest is `ObjectId`)"),
        ("--encrypted-columns", "objectid?", "`objectid` in ENCRYPTED_COLUMNS (the nearest is `ObjectId`)"),
        ("--row-columns", "Wellbeing", "`Wellbeing` in ROW_COLUMNS"),
    ] {
        let ended = rows_of(flag, names).await;
        assert!(exits(&ended, 3).contains(nearest), "{}", ended.stderr);
        assert_eq!(ended.stdout, "", "{names}");
    }
    let ended = rows_of("--row-columns", "ObjectId,Wellbeing").await;
    assert!(exits(&ended, 3).contains("`Wellbeing` in ROW_COLUMNS"), "{}", ended.stderr);
    exits(&rows_of("--row-columns", "ObjectId,Wellbeing?").await, 0);
    let ended = rows_of("--row-columns", "Wellbeing?").await;
    assert!(exits(&ended, 3).contains("has none of the columns in `ROW_COLUMNS`"), "{}", ended.stderr);
    assert_eq!(ended.stdout, "");
}

#[tokio::test]
async fn settings_of_other_commands_are_not_read() {
    let case = case("encrypted-ctr");
    let ended = output_of(decode(&case).env("IN_FLIGHT", "many").env("TENANTS", "nobody")).await;
    exits(&ended, 0);
}

#[tokio::test]
async fn invalid_arguments_are_a_usage_error() {
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
async fn a_private_key_that_is_neither_a_file_nor_a_vault_says_what_is_expected() {
    let case = case("encrypted-ctr");
    let folder = case.drop();
    for wrong in [
        "http://contoso.vault.azure.net",
        "file:///keys",
        "https://contoso.vault.azure.net/keys",
        folder.to_str().unwrap(),
    ] {
        let ended = output_of(vivadrop().arg("decode").arg(case.drop()).args(["--private-key", wrong])).await;
        for part in ["a PEM file", "https://{vault}.vault.azure.net"] {
            assert!(exits(&ended, 2).contains(part), "{wrong}: {}", ended.stderr);
        }
    }
}

#[tokio::test]
async fn a_drop_without_keys_says_how_to_give_them() {
    let case = case("encrypted-ctr");
    let mut command = vivadrop();
    command.arg("decode").arg(case.drop()).arg("--private-key").arg(case.private_key());
    let ended = output_of(&mut command).await;
    for part in ["there is no File key for it", "--decryption-keys", "PARTNER_…", "VIVA_API_URL"] {
        assert!(exits(&ended, 3).contains(part), "{part}: {}", ended.stderr);
    }
}

#[tokio::test]
async fn decode_says_that_it_waits_for_an_api_that_does_not_answer() {
    let case = case("encrypted-ctr");
    let api = VivaApiStub::start([]).await.unwrap();
    api.answer_always(Behaviour::Status { status: 503, body: String::new() });
    let mut command = vivadrop();
    command.arg("decode").arg(case.drop()).arg("--private-key").arg(case.private_key());
    command.env("VIVA_API_URL", api.url().as_str()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let line = tokio::time::timeout(LONG, lines.next_line()).await.unwrap().unwrap().unwrap();
    assert!(line.contains("waiting for the Viva Insights API at `http://127.0.0.1:"), "{line}");
}

#[tokio::test]
async fn a_file_instead_of_the_drop_folder_is_a_usage_error() {
    let case = case("encrypted-ctr");
    let file = case.drop().join("part-0.json");
    let ended = output_of(&mut decode_folder(&file, &case)).await;
    assert!(exits(&ended, 2).contains("expected the folder of a drop"), "{}", ended.stderr);
}

#[tokio::test]
async fn help_and_version_are_printed_on_stdout() {
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
async fn each_command_prints_examples_and_completions_are_scripts() {
    let help = output_of(vivadrop().arg("--help")).await.stdout;
    assert!(help.contains("Example") && help.contains("vivadrop check"), "{help}");
    let (_, commands) = help.split_once("Commands:\n").unwrap();
    let commands = commands.lines().map_while(|line| line.split_whitespace().next());
    for command in commands.filter(|command| *command != "help") {
        let help = output_of(vivadrop().args([command, "--help"])).await.stdout;
        assert!(help.contains("Example") && help.contains(&format!("vivadrop {command}")), "{help}");
    }
    for (shell, part) in [
        ("bash", "complete -F"),
        ("zsh", "#compdef vivadrop"),
        ("fish", "complete -c vivadrop"),
        ("PowerShell", "Register-ArgumentCompleter"),
    ] {
        let ended = output_of(vivadrop().args(["completions", shell])).await;
        exits(&ended, 0);
        assert!(ended.stdout.contains(part) && ended.stdout.contains("private-key"), "{shell}");
    }
}

#[tokio::test]
async fn settings_may_come_from_a_file_and_the_environment_overrides_it() {
    let (case, file) = (case("plain-allowed"), tempfile::NamedTempFile::new().unwrap());
    fs::write(file.path(), "# sample data\nALLOW_PLAINTEXT=true\n").unwrap();
    let with_file = || {
        let mut command = decode(&case);
        command.arg("--env-file").arg(file.path());
        command
    };
    exits(&output_of(&mut with_file()).await, 0);
    exits(&output_of(with_file().env("ALLOW_PLAINTEXT", "false")).await, 3);
    fs::write(file.path(), "WEBHOOK_SECRET hidden\n").unwrap();
    let ended = output_of(&mut with_file()).await;
    assert!(exits(&ended, 2).contains("line 1: expected NAME=value"), "{}", ended.stderr);
    assert!(!ended.stderr.contains("hidden"), "{}", ended.stderr);
}

#[tokio::test]
async fn a_closed_pipe_ends_the_command_without_an_error() {
    let case = case("several-files");
    // Many copies of the file: their rows do not fit into the buffer of a pipe.
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
    let stderr = String::from_utf8(ended.stderr).unwrap();
    assert_eq!((ended.status.code(), &*stderr), (Some(0), ""));
}

#[tokio::test]
async fn the_exit_code_does_not_depend_on_whether_stderr_can_be_written() {
    let case = case("several-files");
    let full = || fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let status = decode(&case).stdout(Stdio::null()).stderr(full()).status().await.unwrap();
    assert_eq!(status.code(), Some(0));
    let status = decode_folder(Path::new("nothing"), &case).stderr(full()).status().await.unwrap();
    assert_eq!(status.code(), Some(2));
}

#[tokio::test]
async fn a_full_disk_behind_stdout_is_reported() {
    let case = case("several-files");
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let child = decode(&case).stdout(full).stderr(Stdio::piped()).spawn().unwrap();
    let ended = tokio::time::timeout(LONG, child.wait_with_output()).await.unwrap().unwrap();
    let stderr = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("cannot write the rows"), "{stderr}");
}
