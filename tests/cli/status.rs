//! `vivadrop status`: where every drop stands, and what to do.

use std::{fs, process::Stdio};

use serde_json::{Value, json};
use testkit::receiver::Answer;
use time::{Duration, OffsetDateTime};
use tokio::io::{AsyncBufReadExt, BufReader};
use vivadrop::{
    drop::{DropPath, discover::ListingSummary},
    ledger::{DropState, Ledger, ListEntry},
    verdict::Reason,
};

use crate::support::{
    azurite::Azurite,
    command::{CommandOutput, LONG, output_of, vivadrop},
    scene::{METADATA, Scene, SimulatedDrop},
};

/// Runs `vivadrop status`; its output must contain no secret.
async fn status(scene: &Scene, arguments: &[&str]) -> CommandOutput {
    let ended = output_of(vivadrop().arg("status").args(arguments).envs(&scene.settings)).await;
    scene.secrets.check(&ended.stderr);
    scene.secrets.check(&ended.stdout);
    ended
}

/// The exit code and the JSON output of `vivadrop status`.
async fn json_of(scene: &Scene, arguments: &[&str]) -> (Option<i32>, Value) {
    let ended = status(scene, &[arguments, &["--output", "json"]].concat()).await;
    (ended.code, serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {}", ended.stderr)))
}

/// Delivers a drop, whatever its outcome.
async fn deliver(scene: &Scene, drop: &SimulatedDrop) {
    output_of(vivadrop().arg("deliver").arg(drop.path()).envs(&scene.settings)).await;
}

/// The ledger of the scene.
fn ledger(scene: &Scene) -> Ledger {
    let container = scene.settings.get("STATE_CONTAINER").cloned().unwrap_or("vivadrop-state".into());
    Ledger::new(std::sync::Arc::clone(&scene.store), container)
}

/// The entry of a completed drop that arrived at `arrived`.
fn completed(scene: &Scene, folder: &str, arrived: OffsetDateTime) -> ListEntry {
    ListEntry {
        path: DropPath::new("datasets", folder),
        tenant: scene.tenant,
        state: DropState::Completed,
        rows: 10,
        expected_rows: Some(10),
        files_done: 1,
        files_set_aside: 0,
        files: 1,
        since: arrived,
        attempts: 0,
        next_try: None,
        reason: None,
        message: None,
        is_over: true,
        listing: ListingSummary { blobs: 3, newest: arrived, digest: 7 },
    }
}

#[tokio::test]
async fn a_completed_drop_needs_no_action() {
    for scene in [Scene::on_azurite().await, Scene::in_a_folder().await] {
        let drop = scene.drop(40, 2).await;
        scene.rows_of(&drop).await;
        scene.upload(&drop).await;
        deliver(&scene, &drop).await;
        let (code, json) = json_of(&scene, &[]).await;
        assert_eq!(code, Some(0));
        let [shown] = &json["drops"].as_array().unwrap()[..] else { panic!("{json}") };
        let since = shown["since"].clone();
        assert!(json["asOf"].as_str().unwrap() >= since.as_str().unwrap());
        let expected = json!({
            "tenantId": scene.tenant.to_string(), "path": drop.path(), "state": "completed", "rows": 40, "expectedRows": 40,
            "files": {"done": 2, "setAside": 0, "total": 2}, "since": since, "attempts": 0, "nextTry": null, "reason": null,
            "message": null, "remedy": null
        });
        assert_eq!(*shown, expected);
        let table = status(&scene, &[]).await;
        assert!(table.stdout.starts_with("TENANT"), "{}", table.stdout);
        assert!(table.stdout.contains("completed  40 of 40"), "{}", table.stdout);
    }
}

#[tokio::test]
async fn a_drop_that_was_set_aside_needs_a_person_and_says_what_to_do() {
    let scene = Scene::on_azurite().await;
    let drop = scene.drop(40, 2).await;
    scene.rows_of(&drop).await;
    scene.upload(&drop).await;
    let part = drop.simulated.drop.join("part-1.json.gz");
    let mut bytes = fs::read(&part).unwrap();
    bytes.truncate(bytes.len() / 2);
    scene.write(&drop.path, "part-1.json.gz", bytes).await;
    deliver(&scene, &drop).await;
    let (code, json) = json_of(&scene, &["--state", "set-aside", "--since", "1h"]).await;
    assert_eq!(code, Some(3), "{json}");
    assert_eq!(json["drops"][0]["reason"], "damaged");
    assert!(json["drops"][0]["remedy"].as_str().unwrap().contains("Ask the customer for the drop again"));
    assert_eq!(json_of(&scene, &["--state", "completed"]).await.1["drops"], json!([]));

    let (code, json) = json_of(&scene, &[&drop.path()]).await;
    assert_eq!(code, Some(3), "{json}");
    let files = json["drop"]["fileList"].as_array().unwrap();
    let states: Vec<_> =
        files.iter().map(|file| (file["name"].as_str().unwrap(), file["state"].as_str().unwrap())).collect();
    assert_eq!(states, [("part-0.json.gz", "done"), ("part-1.json.gz", "set-aside")]);
    assert_eq!(files[1]["reason"], "damaged");
    let table = status(&scene, &[&drop.path()]).await;
    assert!(table.stdout.contains("part-1.json.gz  set-aside"), "{}", table.stdout);
}

#[tokio::test]
async fn an_open_drop_and_a_retried_drop_need_no_action_yet() {
    let scene = Scene::in_a_folder().await;
    let (open, retried) = (scene.drop(40, 2).await, scene.drop(20, 1).await);
    scene.rows_of(&open).await;
    scene.put(&open, METADATA).await;
    scene.put(&open, "part-0.json.gz").await;
    deliver(&scene, &open).await;
    scene.receiver.answer_always(Answer::status(404));
    scene.upload(&retried).await;
    deliver(&scene, &retried).await;
    let (code, json) = json_of(&scene, &["--tenant", &scene.tenant.to_string()]).await;
    assert_eq!(code, Some(0), "{json}");
    let drops = json["drops"].as_array().unwrap();
    // The newest change comes first, but both may have happened in the same second.
    let of_state = |state: &str| drops.iter().find(|drop| drop["state"] == state).unwrap();
    let (retrying, open) = (of_state("retrying"), of_state("open"));
    assert_eq!((drops.len(), &retrying["attempts"], &open["rows"]), (2, &json!(1), &json!(20)));
    assert!(retrying["message"].as_str().unwrap().contains("HTTP 404") && retrying["nextTry"].is_string());
}

#[tokio::test]
async fn a_tenant_whose_weekly_drop_is_late_is_overdue() {
    let scene = Scene::in_a_folder().await;
    let (ledger, now) = (ledger(&scene), OffsetDateTime::now_utc());
    for weeks in 2..6 {
        let entry = completed(&scene, &format!("run-{weeks}"), now - Duration::weeks(weeks));
        ledger.write_list_entry(&entry).await.unwrap();
    }
    let (code, json) = json_of(&scene, &["--state", "overdue"]).await;
    assert_eq!(code, Some(3), "{json}");
    let [overdue] = &json["drops"].as_array().unwrap()[..] else { panic!("{json}") };
    assert_eq!((&overdue["path"], &overdue["rows"]), (&Value::Null, &Value::Null));
    assert_eq!(overdue["tenantId"], scene.tenant.to_string());
    let table = status(&scene, &[]).await;
    assert!(table.stdout.contains("has not arrived: ask the customer"), "{}", table.stdout);
}

#[tokio::test]
async fn a_drop_that_the_ledger_does_not_know_is_a_permanent_failure() {
    let scene = Scene::in_a_folder().await;
    let ended = status(&scene, &["datasets/none"]).await;
    assert_eq!(ended.code, Some(3));
    assert!(ended.stderr.contains("the ledger has no drop `datasets/none`"), "{}", ended.stderr);
    let ended = status(&scene, &[]).await;
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), "no drops\n"));
}

#[tokio::test]
async fn status_needs_no_settings_but_the_storage() {
    let scene = Scene::in_a_folder().await;
    let mut entry = completed(&scene, "run", OffsetDateTime::now_utc());
    (entry.state, entry.reason, entry.message) = (DropState::SetAside, Some(Reason::Errors), Some("a\nb".into()));
    ledger(&scene).write_list_entry(&entry).await.unwrap();
    let storage = scene.settings["DropStorage"].clone();
    let ended = output_of(vivadrop().arg("status").env("DropStorage", storage)).await;
    assert_eq!(ended.code, Some(3), "{}", ended.stderr);
    assert_eq!(ended.stdout.lines().count(), 2, "{}", ended.stdout);
}

#[tokio::test]
async fn on_a_machine_without_ca_certificates_the_error_names_them() {
    let mut command = vivadrop();
    command.arg("status").env("DropStorage", "UseDevelopmentStorage=true");
    let ended = output_of(command.env("SSL_CERT_FILE", "/dev/null").env("SSL_CERT_DIR", "/nonexistent")).await;
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    assert!(ended.stderr.contains("are the system's CA certificates installed?"), "{}", ended.stderr);
}

#[tokio::test]
async fn watching_goes_on_while_the_storage_does_not_answer() {
    let azurite = Azurite::start();
    let scene = Scene::on(&azurite, &azurite.blob_endpoint()).await;
    azurite.stop();
    let mut command = vivadrop();
    command.args(["status", "--watch"]).envs(&scene.settings).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    loop {
        let line = tokio::time::timeout(LONG, lines.next_line()).await.unwrap().unwrap();
        let line = line.expect("the command goes on");
        assert!(!line.starts_with("could not finish"), "{line}");
        if line.contains("tried again in 10 s") {
            break;
        }
    }
}
