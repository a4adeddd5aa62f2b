//! Drops without events: notifications by a pipeline, and sweeps.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use testkit::receiver::Answer;
use vivadrop::{drop::TenantId, simulate::SimulateOptions};

use crate::support::{
    command::{output_of, vivadrop},
    host_payloads::{http_trigger, timer_trigger},
    scene::{METADATA, Scene, assert_complete, has_ended},
};

#[tokio::test]
async fn a_pipeline_may_announce_a_drop_itself() {
    let scene = Scene::on_azurite().await;
    let host = scene.host().await;
    for is_wrapped in [false, true] {
        let drop = scene.drop(10, 1).await;
        let rows = scene.rows_of(&drop).await;
        let notification = json!({"path": drop.path()});
        let post = if is_wrapped { http_trigger(&notification.to_string()) } else { notification };
        let notify = async || host.forward(Method::POST, "/api/notify", &post).await;
        assert_eq!(notify().await.0, 404, "the drop does not exist yet");
        scene.upload(&drop).await;
        let (status, answer) = notify().await;
        assert_eq!((status, &answer["path"]), (202, &Value::from(drop.path())));
        assert_complete(&scene.wait_for(|received| has_ended(received, &drop)).await, &drop, &rows);
    }
}

#[tokio::test]
async fn a_notification_of_a_path_that_is_not_a_drop_is_rejected() {
    let scene = Scene::on_azurite().await;
    let (drop, host) = (scene.drop(10, 1).await, scene.host().await);
    scene.upload(&drop).await;
    let path = drop.path();
    let state = &scene.settings["STATE_CONTAINER"];
    for (path, status) in [
        (json!("elsewhere/run"), 404),
        (json!(format!("{}/elsewhere", scene.container)), 404),
        (json!(format!("elsewhere/../{path}")), 400),
        (json!(format!("{path}/metadata")), 404),
        (json!(state), 404),
        (json!(""), 400),
        (json!(7), 400),
    ] {
        let (answered, answer) = host.forward(Method::POST, "/api/notify", &json!({"path": path})).await;
        assert_eq!(answered, status, "{path}");
        assert!(answer["message"].is_string(), "{path}: {answer}");
    }
    assert_eq!(scene.receiver.received().requests, 0);
}

#[tokio::test]
async fn only_notifications_are_accepted_as_requests_of_http_functions() {
    let scene = Scene::in_a_folder().await;
    let (drop, host) = (scene.drop(10, 1).await, scene.host().await);
    scene.upload(&drop).await;
    for payload in [timer_trigger(), scene.event(&drop, METADATA)] {
        let (status, _) = host.forward(Method::POST, "/api/renamed", &payload).await;
        assert_eq!(status, 400, "{payload}");
    }
    assert_eq!(scene.receiver.received().requests, 0);
}

#[tokio::test]
async fn a_drop_that_is_notified_again_and_again_has_one_run_at_a_time() {
    let mut scene = Scene::on_azurite().await;
    scene.set("IN_FLIGHT", "1");
    let (drop, host) = (scene.drop(20, 2).await, scene.host().await);
    let rows = scene.rows_of(&drop).await;
    for name in [METADATA, "part-0.json.gz"] {
        scene.put(&drop, name).await;
    }
    scene.receiver.answer_always(Answer::Accept.after(Duration::from_secs(2)));
    let notification = json!({"path": drop.path()});
    let notify = async || {
        let (status, answer) = host.forward(Method::POST, "/api/notify", &notification).await;
        assert_eq!((status, &answer["path"]), (202, &Value::from(drop.path())));
    };
    for _ in 0..20 {
        notify().await;
    }
    scene.wait_for(|received| received.requests > 0).await;
    scene.put(&drop, "part-1.json.gz").await;
    for _ in 0..20 {
        notify().await;
    }
    assert_complete(&scene.wait_for(|received| has_ended(received, &drop)).await, &drop, &rows);
    // The run that the last notifications cause finds that the drop has ended.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let log = host.stop();
    let count =
        |part: &str| log.iter().filter(|line| line["message"].as_str().is_some_and(|it| it.contains(part))).count();
    assert_eq!((count("is open"), count("received a notification")), (0, 1), "{log:?}");
}

#[tokio::test]
async fn a_sweep_delivers_drops_without_events() {
    let scene = Scene::on_azurite().await;
    let host = scene.host().await;
    let drops = [scene.drop(10, 1).await, scene.drop(10, 2).await];
    let half = scene.drop(10, 2).await;
    for drop in &drops {
        scene.upload(drop).await;
    }
    scene.put(&half, METADATA).await;
    scene.put(&half, "part-0.json.gz").await;
    let answer = host.post(&timer_trigger()).await;
    assert_eq!(answer.status, 200);
    assert!(answer.log.starts_with("swept 3 drops: 2 completed, 1 open"), "{}", answer.log);
    let received = scene.receiver.received();
    for drop in &drops {
        assert_complete(&received, drop, &scene.rows_of(drop).await);
    }

    // The next tick of the timer would list the containers in an hour. A person's sweep lists them at once.
    scene.put(&half, "part-1.json.gz").await;
    assert_eq!(output_of(vivadrop().arg("sweep").envs(&scene.settings)).await.code, Some(0));
    assert_complete(&scene.receiver.received(), &half, &scene.rows_of(&half).await);
    let requests = scene.receiver.received().requests;
    assert_eq!(host.post(&timer_trigger()).await.status, 200);
    assert_eq!(scene.receiver.received().requests, requests, "ended drops are not delivered again");
}

#[tokio::test]
async fn a_refused_drop_is_logged_once_however_often_it_is_swept() {
    let scene = Scene::in_a_folder().await;
    let of_unknown_tenant = SimulateOptions {
        users: 3,
        weeks: 1,
        tenant: Some(TenantId(uuid::Uuid::new_v4())),
        ..SimulateOptions::default()
    };
    let drop = scene.drop_like(of_unknown_tenant).await;
    scene.upload(&drop).await;
    let host = scene.host().await;
    for _ in 0..3 {
        let answer = host.post(&timer_trigger()).await;
        assert!(answer.log.ends_with("1 not admitted, 0 will be retried"), "{}", answer.log);
        // As if an hour had passed.
        std::fs::remove_dir_all(scene.state_folder().join("periodic")).unwrap();
    }
    let log = host.stop();
    let refusals =
        log.iter().filter(|line| line["message"].as_str().is_some_and(|said| said.starts_with("did not admit")));
    assert_eq!(refusals.count(), 1, "{log:?}");
}
