//! Replaying many drops by a plan.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use testkit::receiver::Answer as ReceiverAnswer;

use crate::{
    Answer, client, get, send,
    support::{
        command::{LONG, output_of, vivadrop},
        host::Host,
        scene::{METADATA, Scene, SimulatedDrop},
    },
};

/// Posts to the API for changes, with this `if-match` if there is one.
async fn post(scene: &Scene, host: &Host, path: &str, body: Value, if_match: Option<&str>) -> Answer {
    let mut request = client().request(Method::POST, host.url(&format!("/api/manage/v1/{path}"))).json(&body);
    if let Some(etag) = if_match {
        request = request.header("if-match", etag);
    }
    send(scene, request).await
}

/// Drops of ten rows each that are set aside because the receiver rejects them.
async fn set_aside(scene: &Scene, host: &Host, count: usize) -> Vec<SimulatedDrop> {
    scene.receiver.answer_always(ReceiverAnswer::status(400));
    let mut drops = Vec::new();
    for _ in 0..count {
        let drop = scene.drop(10, 1).await;
        scene.rows_of(&drop).await;
        scene.upload(&drop).await;
        host.trigger(&scene.event(&drop, METADATA)).await;
        drops.push(drop);
    }
    scene.receiver.answer_always(ReceiverAnswer::Accept);
    drops
}

/// Waits until the run has this state; returns it.
async fn wait_for(scene: &Scene, host: &Host, id: &str, state: &str) -> Answer {
    let started = std::time::Instant::now();
    loop {
        let answer = get(scene, host.url(&format!("/api/view/v1/replays/{id}"))).await;
        if answer.json["state"] == state {
            return answer;
        }
        assert!(started.elapsed() < LONG, "{}", answer.json);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test]
async fn a_plan_is_replayed_with_one_drop_first() {
    for scene in [Scene::on_azurite().await, Scene::in_a_folder().await] {
        let host = scene.host().await;
        let drops = set_aside(&scene, &host, 5).await;
        let plan = post(&scene, &host, "plans", json!({"reason": "refused", "state": "set-aside"}), None).await;
        assert_eq!(plan.status, 201, "{}", plan.json);
        let counts = json!({"drops": 5, "matching": 5, "rowsDelivered": 0});
        assert_eq!(plan.json["counts"], counts, "{}", plan.json);
        assert_eq!(scene.receiver.received().row_count(), 0, "a plan replays nothing");
        let id = plan.json["id"].as_str().unwrap();
        let stored = get(&scene, host.url(&format!("/api/view/v1/plans/{id}"))).await;
        assert_eq!(stored.json, plan.json);

        let run = post(&scene, &host, "replays", json!({"plan": id, "first": 1}), None).await;
        assert_eq!((run.status, &run.json["total"]), (202, &json!(5)), "{}", run.json);
        let paused = wait_for(&scene, &host, id, "paused").await;
        assert_eq!((&paused.json["done"], &paused.json["started"]), (&json!(1), &json!(1)));
        assert_eq!(scene.receiver.received().row_count(), 10, "one drop");

        let etag = paused.etag.unwrap();
        let resume = format!("replays/{id}/resume");
        assert_eq!(post(&scene, &host, &resume, json!({}), None).await.status, 428);
        assert_eq!(post(&scene, &host, &resume, json!({}), Some("\"other\"")).await.status, 412);
        assert_eq!(post(&scene, &host, &resume, json!({}), Some(&etag)).await.status, 200);
        let done = wait_for(&scene, &host, id, "done").await;
        assert_eq!((&done.json["done"], &done.json["failed"]), (&json!(5), &json!(0)));
        let received = scene.receiver.received();
        assert_eq!(received.row_count(), 50);
        assert!(drops.iter().all(|drop| received.drops[&drop.path()].completed.len() == 1));
        let runs = get(&scene, host.url("/api/view/v1/replays")).await;
        assert_eq!(runs.json["replays"][0]["id"], id);
        let again = post(&scene, &host, "replays", json!({"plan": id}), None).await;
        assert_eq!(again.status, 409, "a plan is carried out once");
    }
}

#[tokio::test]
async fn a_receiver_that_is_down_stops_a_replay_run_until_it_works_again() {
    let scene = Scene::on_azurite().await;
    let mut host = scene.host().await;
    set_aside(&scene, &host, 5).await;
    scene.receiver.answer_always(ReceiverAnswer::status(404));
    let plan = post(&scene, &host, "plans", json!({"tenant": scene.tenant.to_string()}), None).await;
    let id = plan.json["id"].as_str().unwrap();
    post(&scene, &host, "replays", json!({"plan": id}), None).await;
    let started = std::time::Instant::now();
    loop {
        let status = output_of(vivadrop().args(["status", "--state", "retrying"]).envs(&scene.settings)).await;
        if status.stdout.lines().count() > 3 {
            break;
        }
        assert!(started.elapsed() < LONG, "{}", status.stdout);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let run = get(&scene, host.url(&format!("/api/view/v1/replays/{id}"))).await;
    assert_eq!((&run.json["started"], &run.json["state"]), (&json!(3), &json!("running")), "not all drops are started");

    // The run is continued after a kill, by a sweep.
    host.kill_and_restart().await;
    scene.receiver.answer_always(ReceiverAnswer::Accept);
    let sweep = output_of(vivadrop().arg("sweep").envs(&scene.settings)).await;
    assert_eq!(sweep.code, Some(0), "{}", sweep.stderr);
    let sweep = output_of(vivadrop().arg("sweep").envs(&scene.settings)).await;
    assert_eq!(sweep.code, Some(0), "{}", sweep.stderr);
    let done = get(&scene, host.url(&format!("/api/view/v1/replays/{id}"))).await;
    assert_eq!((&done.json["done"], &done.json["state"]), (&json!(5), &json!("done")));
    assert_eq!(scene.receiver.received().row_count(), 50);
}

#[tokio::test]
async fn a_cancelled_run_starts_no_more_drops() {
    let scene = Scene::in_a_folder().await;
    let host = scene.host().await;
    set_aside(&scene, &host, 2).await;
    let plan = post(&scene, &host, "plans", json!({"since": "1h", "limit": 2}), None).await;
    let id = plan.json["id"].as_str().unwrap();
    post(&scene, &host, "replays", json!({"plan": id, "first": 1}), None).await;
    let paused = wait_for(&scene, &host, id, "paused").await;
    let etag = paused.etag.unwrap();
    let cancelled = post(&scene, &host, &format!("replays/{id}/cancel"), json!({}), Some(&etag)).await;
    assert_eq!((cancelled.status, &cancelled.json["state"]), (200, &json!("cancelled")));
    let etag = cancelled.etag.unwrap();
    assert_eq!(post(&scene, &host, &format!("replays/{id}/resume"), json!({}), Some(&etag)).await.status, 409);
    assert_eq!(output_of(vivadrop().arg("sweep").envs(&scene.settings)).await.code, Some(0));
    assert_eq!(scene.receiver.received().row_count(), 10);
}

#[tokio::test]
async fn an_empty_filter_is_an_error_and_so_is_every_other_mistake() {
    let scene = Scene::in_a_folder().await;
    let host = scene.host().await;
    let mistakes = [
        json!({}),
        json!({"limit": 5}),
        json!({"tenant": null}),
        json!({"state": "fine"}),
        json!({"since": "yesterday"}),
        json!({"limit": 0, "state": "open"}),
        json!({"everything": true}),
        json!([]),
    ];
    for body in mistakes {
        let answer = post(&scene, &host, "plans", body.clone(), None).await;
        assert_eq!((answer.status, &*answer.content_type), (400, "application/problem+json"), "{body}");
    }
    assert_eq!(post(&scene, &host, "replays", json!({"plan": "../x"}), None).await.status, 404);
    assert_eq!(post(&scene, &host, "replays/none/cancel", json!({}), Some("\"x\"")).await.status, 404);
    let url = host.url("/api/manage/v1/plans");
    let text = client().post(&url).header("content-type", "text/plain").body("{}");
    assert_eq!(send(&scene, text).await.status, 415);
    let large = client().post(&url).json(&json!({"since": "x".repeat(70_000)}));
    assert_eq!(send(&scene, large).await.status, 413);
}

#[tokio::test]
async fn a_plan_is_made_and_carried_out_on_the_command_line() {
    let scene = Scene::on_azurite().await;
    let host = scene.host().await;
    set_aside(&scene, &host, 3).await;
    let replay =
        async |arguments: &[&str]| output_of(vivadrop().arg("replay").args(arguments).envs(&scene.settings)).await;
    let empty = replay(&[]).await;
    assert_eq!(empty.code, Some(2), "{}", empty.stderr);
    assert!(empty.stderr.contains("expected the path of a drop, or --tenant"), "{}", empty.stderr);
    assert_eq!(replay(&["--reason", "damaged"]).await.code, Some(3));

    let plan = replay(&["--reason", "refused", "--limit", "2"]).await;
    assert_eq!(plan.code, Some(0), "{}", plan.stderr);
    assert!(plan.stdout.contains("drops   2 of 3 that match"), "{}", plan.stdout);
    let id = plan.stdout.split_whitespace().nth(1).unwrap().trim_end_matches(',');
    let first = replay(&["--run", id, "--first", "1"]).await;
    assert_eq!(first.code, Some(0), "{}", first.stderr);
    assert!(first.stderr.contains("paused: 1 of 2 drops started: 1 completed, 0 failed"), "{}", first.stderr);
    let rest = replay(&["--run", id]).await;
    assert_eq!(rest.code, Some(0), "{}", rest.stderr);
    assert!(rest.stderr.contains("done: 2 of 2 drops started: 2 completed, 0 failed"), "{}", rest.stderr);
    assert_eq!(scene.receiver.received().row_count(), 20);
    assert_eq!(replay(&["--run", id]).await.code, Some(3), "a plan is carried out once");
    assert_eq!(replay(&["--cancel", id]).await.code, Some(3));
}
