//! The commands in the README run as they stand, in one shell, and can be run again.
//!
//! They run in a temporary folder that has what a reader has: the binary, Azurite, and a drop. `npm` and `cargo` have
//! done their work before this test, so they do nothing in it.

#![expect(clippy::unwrap_used, reason = "a failed setup is a failed test")]

mod support;

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
    process::Stdio,
};

use tempfile::TempDir;
use tokio::process::Command;
use yaml_rust2::YamlLoader;

use crate::support::command::{CommandOutput, LONG, output_of, vivadrop};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The shell blocks of the README below the heading `heading`, up to the next heading.
fn blocks(heading: &str) -> Vec<String> {
    let readme = fs::read_to_string(Path::new(ROOT).join("README.md")).unwrap();
    let (_, section) = readme.split_once(&format!("{heading}\n")).expect("the README has the heading");
    let section = section.split("\n#").next().unwrap();
    let mut blocks: Vec<String> =
        section.split("```sh\n").skip(1).map(|block| block.split("```").next().unwrap().into()).collect();
    assert!(!blocks.is_empty(), "{heading}");
    blocks.retain(|block| !block.is_empty());
    blocks
}

/// A folder with what the commands need.
async fn checkout() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    for name in ["target/release", "tests", "bin"] {
        fs::create_dir_all(path(name)).unwrap();
    }
    symlink(env!("CARGO_BIN_EXE_vivadrop"), path("target/release/vivadrop")).unwrap();
    symlink(Path::new(ROOT).join("tests/azurite"), path("tests/azurite")).unwrap();
    for name in ["npm", "cargo"] {
        fs::write(path("bin").join(name), "#!/bin/sh\n").unwrap();
        fs::set_permissions(path("bin").join(name), fs::Permissions::from_mode(0o755)).unwrap();
    }

    let mut simulate = vivadrop();
    simulate.args(["simulate", "--users", "10", "--weeks", "12", "--out"]).arg(path("sim"));
    assert!(simulate.stderr(Stdio::null()).status().await.unwrap().success());
    for (from, to) in [("drop", "DROP"), ("private-key.pem", "tenant.pem"), ("decryption-keys.json", "answer.json")] {
        fs::rename(path("sim").join(from), path(to)).unwrap();
    }
    folder
}

/// Runs `script` in `folder` with bash; a command that fails ends it. It has a network of its own if the system allows
/// that: the commands use the default ports of Azurite.
async fn run(folder: &TempDir, script: &str) -> CommandOutput {
    let own_network = ["unshare", "--user", "--map-root-user", "--net"];
    let lo_up = "ip link set lo up";
    let probe = Command::new(own_network[0]).args(&own_network[1..]).args(["sh", "-c", lo_up]).output().await;
    let has_own_network = probe.is_ok_and(|probe| probe.status.success());
    let begin = if has_own_network { lo_up } else { "true" };
    // Ends what the commands have started, whatever happens.
    let script = format!("set -euo pipefail\n{begin}\ntrap 'kill $(jobs -p) 2> /dev/null || true' EXIT\n{script}");

    let mut command = Command::new(if has_own_network { own_network[0] } else { "bash" });
    if has_own_network {
        command.args(&own_network[1..]).arg("bash");
    }
    let path = format!("{}:{}", folder.path().join("bin").display(), std::env!("PATH"));
    command.args(["-c", &script]).current_dir(folder).env_clear().env("PATH", path).env("HOME", folder.path());
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(LONG, command.output()).await.expect("the commands end").unwrap();
    CommandOutput {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

#[tokio::test]
async fn a_drop_is_decoded_with_the_command_in_the_readme() {
    let folder = checkout().await;
    let ended = run(&folder, &blocks("### Decode a drop that you have").concat()).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(fs::read_to_string(folder.path().join("rows.ndjson")).unwrap().lines().count(), 120);
}

#[tokio::test]
async fn the_handler_delivers_an_uploaded_drop_with_the_commands_in_the_readme_again_and_again() {
    let folder = checkout().await;
    let blocks = blocks("### Run the handler with Azurite").concat();
    let ended = run(&folder, &format!("{blocks}\n{blocks}")).await;
    assert_eq!(ended.code, Some(0), "{}\n{}", ended.stdout, ended.stderr);
    let rows = ended.stdout.matches(r#""type":"viva.insights.rows""#).count();
    let completed = ended.stdout.matches(r#""type":"viva.insights.drop.completed""#).count();
    assert_eq!((rows, completed), (2, 2), "{}\n{}", ended.stdout, ended.stderr);
}

#[tokio::test]
async fn the_compose_file_starts_azurite_then_a_drop_and_then_vivadrop() {
    let text = fs::read_to_string(Path::new(ROOT).join("compose.yaml")).unwrap();
    let compose = &YamlLoader::load_from_str(&text).unwrap()[0];
    let services = &compose["services"];
    assert!(services["azurite"]["image"].as_str().unwrap().ends_with("/azurite"));
    assert_eq!(services["drop"]["depends_on"]["azurite"]["condition"].as_str(), Some("service_healthy"));
    assert_eq!(
        services["vivadrop"]["depends_on"]["drop"]["condition"].as_str(),
        Some("service_completed_successfully")
    );

    let common = &services["vivadrop"]["<<"];
    assert_eq!(common["network_mode"].as_str(), Some("service:azurite"));
    let (folder, mut check) = (tempfile::tempdir().unwrap(), vivadrop());
    for (name, value) in common["environment"].as_hash().unwrap() {
        let value = value.as_str().unwrap().replace("/keys", folder.path().to_str().unwrap());
        check.env(name.as_str().unwrap(), value);
    }
    let checked = output_of(check.args(["check", "--no-send"])).await;
    assert!(checked.stdout.starts_with("ok     settings"), "{}", checked.stdout);
    let script = services["drop"]["command"][2].as_str().unwrap().replace("$$", "$");
    let checked = Command::new("sh").args(["-n", "-c", &script]).output().await.unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
}

#[tokio::test]
async fn every_make_target_in_the_readme_exists() {
    let readme = fs::read_to_string(Path::new(ROOT).join("README.md")).unwrap();
    let commands = readme.split("```sh\n").skip(1).flat_map(|block| block.split("```").next().unwrap().lines());
    for line in commands {
        // An interactive zsh passes comments on as arguments.
        assert!(!line.contains(" #"), "a comment in a shell block: {line}");
        let Some(target) = line.strip_prefix("make ") else { continue };
        let made = Command::new("make").args(["--dry-run", target]).current_dir(ROOT).output().await.unwrap();
        assert!(made.status.success(), "{line}: {}", String::from_utf8_lossy(&made.stderr));
    }
}
