//! Tests of `vivadrop simulate`.

use std::{fs, path::Path};

use tokio::process::Command;

use crate::support::{
    command::{CommandOutput, output_of, vivadrop},
    scene::Scene,
    vectors::{case, contents},
};

/// A command that simulates a small drop of the tenant of `scene` with its private key.
fn simulate(out: &Path, scene: &Scene) -> Command {
    simulate_people(out, scene, "10", "2")
}

/// A command that simulates a drop of this many people and weeks.
fn simulate_people(out: &Path, scene: &Scene, users: &str, weeks: &str) -> Command {
    let mut command = vivadrop();
    command.args(["simulate", "--users", users, "--weeks", weeks, "--files", "2", "--keys-in-drop", "--out"]).arg(out);
    command.args(["--tenant", &scene.tenant.to_string()]);
    command.arg("--private-key").arg(case("encrypted-ctr").private_key());
    command
}

/// Delivers a drop.
async fn deliver(scene: &Scene, path: &str) -> CommandOutput {
    output_of(vivadrop().args(["deliver", path]).envs(&scene.settings)).await
}

#[tokio::test]
async fn a_simulated_drop_can_be_decoded() {
    let (scene, folder) = (Scene::in_a_folder().await, tempfile::tempdir().unwrap());
    let out = folder.path().join("a/new one");
    let ended =
        output_of(simulate(&out, &scene).args(["--file-layout", "gzip-encrypted", "--file-cipher", "cbc"])).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stderr.contains("20 rows"), "{}", ended.stderr);
    assert_eq!(ended.stdout, "");
    for use_api_response in [false, true] {
        let mut decode = vivadrop();
        decode.arg("decode").arg(out.join("drop")).arg("--private-key").arg(out.join("private-key.pem"));
        if use_api_response {
            decode.arg("--decryption-keys").arg(out.join("decryption-keys.json"));
        }
        let ended = output_of(&mut decode).await;
        assert_eq!((ended.code, ended.stdout.lines().count()), (Some(0), 20), "{}", ended.stderr);
    }
}

#[tokio::test]
async fn the_directory_of_the_same_people_can_be_joined() {
    let (scene, folder) = (Scene::in_a_folder().await, tempfile::tempdir().unwrap());
    let out = folder.path().join("out");
    let ended = output_of(simulate_people(&out, &scene, "200", "1").arg("--directory")).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let mut decode = vivadrop();
    decode.arg("decode").arg(out.join("drop")).arg("--private-key").arg(out.join("private-key.pem"));
    decode.args(["--directory-columns", "mail,department,manager", "--directory"]).arg(out.join("directory"));
    let ended = output_of(&mut decode).await;
    assert_eq!((ended.code, ended.stdout.lines().count()), (Some(0), 200), "{}", ended.stderr);
    let count = |text: &str| ended.stdout.lines().filter(|line| line.contains(text)).count();
    assert_eq!(count("\"directory\":null"), 4, "one in 50 people is missing");
    assert_eq!((count("@contoso.example"), count("\"manager\":{\"id\":"), count("Interns")), (196, 195, 0));
}

#[tokio::test]
async fn an_uploaded_drop_can_be_delivered() {
    for scene in [Scene::on_azurite().await, Scene::in_a_folder().await] {
        let folder = tempfile::tempdir().unwrap();
        let ended = output_of(simulate(folder.path(), &scene).arg("--upload").envs(&scene.settings)).await;
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        let path = ended.stdout.trim();
        assert!(path.starts_with(&scene.container) && path.ends_with(&scene.tenant.to_string()), "{path}");

        let ended = deliver(&scene, path).await;
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        let received = scene.receiver.received();
        assert_eq!((received.row_count(), received.drops[path].completed.len()), (20, 1));
    }
}

#[tokio::test]
async fn existing_files_are_not_overwritten() {
    let (scene, folder) = (Scene::in_a_folder().await, tempfile::tempdir().unwrap());
    fs::write(folder.path().join("notes"), "mine").unwrap();
    let ended = output_of(&mut simulate(folder.path(), &scene)).await;
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    assert!(ended.stderr.contains("is not empty"), "{}", ended.stderr);
    assert_eq!(contents(folder.path()).keys().collect::<Vec<_>>(), ["notes"]);
}

#[tokio::test]
async fn an_upload_without_storage_fails_before_anything_is_written() {
    let (scene, folder) = (Scene::in_a_folder().await, tempfile::tempdir().unwrap());
    let out = folder.path().join("out");
    let ended = output_of(simulate(&out, &scene).arg("--upload")).await;
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    assert!(ended.stderr.contains("DropStorage is not set"), "{}", ended.stderr);
    assert!(!out.exists());
}

#[tokio::test]
async fn a_private_key_that_cannot_be_read_is_a_usage_error() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let mut command = vivadrop();
    command.args(["simulate", "--users", "1", "--private-key", "/nowhere/tenant.pem", "--out"]).arg(&out);
    let ended = output_of(&mut command).await;
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    assert!(ended.stderr.contains("cannot read `/nowhere/tenant.pem`"), "{}", ended.stderr);
    assert!(!out.exists());
}
