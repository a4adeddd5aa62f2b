//! `vivadrop deliver`: delivers one drop as an event would; the exit code depends on the outcome.

use std::fs;

use testkit::receiver::Answer;
use vivadrop::{drop::TenantId, simulate::SimulateOptions};

use crate::support::{
    azurite::Azurite,
    command::{CommandOutput, output_of, vivadrop},
    scene::{METADATA, Scene, SimulatedDrop, assert_complete},
};

/// Delivers a drop; the output must contain no secret.
async fn deliver(scene: &Scene, path: &str) -> CommandOutput {
    let ended = output_of(vivadrop().arg("deliver").arg(path).envs(&scene.settings)).await;
    scene.secrets.check(&ended.stderr);
    scene.secrets.check(&ended.stdout);
    ended
}

/// Delivers the drop; checks the exit code, and that stderr contains `part`.
async fn expect_exit(scene: &Scene, drop: &SimulatedDrop, code: i32, part: &str) {
    let ended = deliver(scene, &drop.path()).await;
    assert_eq!(ended.code, Some(code), "{}", ended.stderr);
    assert!(ended.stderr.contains(part), "{}", ended.stderr);
    assert_eq!(ended.stdout, "");
}

#[tokio::test]
async fn a_complete_drop_is_delivered_from_an_account_or_a_folder() {
    for scene in [Scene::on_azurite().await, Scene::in_a_folder().await] {
        let drop = scene.drop(40, 2).await;
        let rows = scene.rows_of(&drop).await;
        scene.upload(&drop).await;
        expect_exit(&scene, &drop, 0, "40 rows").await;
        assert_complete(&scene.receiver.received(), &drop, &rows);
    }
}

#[tokio::test]
async fn a_drop_with_missing_rows_may_be_retried() {
    let scene = Scene::in_a_folder().await;
    let drop = scene.drop(40, 2).await;
    scene.rows_of(&drop).await;
    scene.put(&drop, METADATA).await;
    scene.put(&drop, "part-1.json.gz").await;
    expect_exit(&scene, &drop, 1, "20 rows of 40").await;
    assert_eq!(scene.receiver.received().row_count(), 20);
}

#[tokio::test]
async fn a_webhook_that_answers_404_sets_nothing_aside_and_the_command_says_how_to_continue() {
    let scene = Scene::in_a_folder().await;
    let drop = scene.drop(40, 2).await;
    let rows = scene.rows_of(&drop).await;
    scene.upload(&drop).await;
    scene.receiver.answer_always(Answer::status(404));
    expect_exit(&scene, &drop, 1, "HTTP 404 Not Found: check DELIVER_TO").await;
    let continues = format!("the drop is unfinished, and `vivadrop deliver {}` continues it", drop.path());
    expect_exit(&scene, &drop, 1, &continues).await;
    scene.receiver.answer_always(Answer::Accept);
    expect_exit(&scene, &drop, 0, "40 rows").await;
    assert_complete(&scene.receiver.received(), &drop, &rows);
}

#[tokio::test]
async fn a_drop_that_is_set_aside_or_refused_is_a_permanent_failure() {
    let scene = Scene::in_a_folder().await;
    let drop = scene.drop(10, 1).await;
    scene.rows_of(&drop).await;
    expect_exit(&scene, &drop, 3, "not a drop").await;

    scene.upload(&drop).await;
    fs::remove_file(scene.private_key(scene.tenant)).unwrap();
    for which in ["first run", "second run"] {
        let ended = deliver(&scene, &drop.path()).await;
        assert_eq!(ended.code, Some(3), "{which}: {}", ended.stderr);
        let (last_line, path) = (ended.stderr.lines().last().unwrap(), drop.path());
        let begin = "permanent failure: set aside: no-key: there is no private key for tenant";
        let end = format!("; `vivadrop replay {path}` delivers it again");
        assert!(last_line.starts_with(begin) && last_line.ends_with(&end), "{which}: {last_line}");
        // The path is in the hint, and in a log line also in the field `drop.path`.
        for line in ended.stderr.lines() {
            assert!(line.matches(&path).count() <= 1 + usize::from(line.contains("drop.path")), "{which}: {line}");
        }
    }
    assert_eq!(scene.receiver.received().drops[&drop.path()].failed.len(), 1);

    let stranger = Some(TenantId(uuid::Uuid::new_v4()));
    let of_stranger = SimulateOptions { users: 3, weeks: 1, tenant: stranger, ..SimulateOptions::default() };
    let foreign = scene.drop_like(of_stranger).await;
    scene.upload(&foreign).await;
    expect_exit(&scene, &foreign, 3, "not in TENANTS").await;

    let state = deliver(&scene, "vivadrop-state/drops").await;
    assert_eq!(state.code, Some(3), "{}", state.stderr);
    assert_eq!(scene.receiver.received().accepted, 1);
}

#[tokio::test]
async fn an_invalid_drop_path_is_a_usage_error() {
    let scene = Scene::in_a_folder().await;
    for path in ["", "/", "datasets/../other", "datasets//run"] {
        assert_eq!(deliver(&scene, path).await.code, Some(2), "{path}");
    }
    let ended = output_of(vivadrop().args(["deliver", "datasets/run"])).await;
    assert_eq!(ended.code, Some(2));
    for name in ["DropStorage", "TENANTS", "PRIVATE_KEYS", "DELIVER_TO"] {
        assert!(ended.stderr.contains(&format!("{name} is not set")), "{}", ended.stderr);
    }
}

#[tokio::test]
async fn an_outage_may_be_retried() {
    let azurite = Azurite::start();
    let mut scene = Scene::on(&azurite, &azurite.blob_endpoint()).await;
    scene.set("DELIVERY_PATIENCE", "500ms");
    let drop = scene.drop(10, 1).await;
    let rows = scene.rows_of(&drop).await;
    scene.upload(&drop).await;

    scene.receiver.answer_always(Answer::status(503));
    expect_exit(&scene, &drop, 1, "HTTP 503").await;
    azurite.stop();
    expect_exit(&scene, &drop, 1, "did not answer").await;

    azurite.restart();
    scene.receiver.answer_always(Answer::Accept);
    expect_exit(&scene, &drop, 0, "10 rows").await;
    assert_complete(&scene.receiver.received(), &drop, &rows);
}

#[tokio::test]
async fn messages_may_go_to_stdout_one_per_line() {
    let mut scene = Scene::in_a_folder().await;
    scene.set("DELIVER_TO", "stdout:");
    let drop = scene.drop(10, 1).await;
    scene.upload(&drop).await;
    let ended = deliver(&scene, &drop.path()).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let types: Vec<_> = ended
        .stdout
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["type"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(types, ["viva.insights.rows", "viva.insights.drop.completed"]);
}
