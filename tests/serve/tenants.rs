//! Settings per tenant.

use std::time::{Duration, Instant};

use futures::{StreamExt, stream};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use testkit::receiver::{Answer, Options, Receiver};
use vivadrop::{drop::TenantId, simulate::SimulateOptions};

use crate::support::{
    command::{LONG, output_of, vivadrop},
    host::Host,
    host_payloads::timer_trigger,
    scene::{METADATA, Scene, SimulatedDrop, assert_complete},
    vectors,
};

#[tokio::test]
async fn a_tenant_may_have_its_own_webhook_secret_columns_and_limits() {
    let mut scene = Scene::on_azurite().await;
    let other = TenantId(uuid::Uuid::new_v4());
    scene.add_private_key(other, &vectors::case("encrypted-ctr").private_key());
    let receiver = Receiver::start(Options::default()).await.unwrap();
    let own = json!({
        "DELIVER_TO": receiver.url().as_str(),
        "WEBHOOK_SECRET": receiver.secret().expose_secret(),
        "ROW_COLUMNS": "ObjectId,MetricDate",
        "BATCH_ROWS": 4,
    });
    let tenants = tempfile::NamedTempFile::new().unwrap();
    let text = json!({scene.tenant.to_string(): {}, other.to_string(): own}).to_string();
    std::fs::write(tenants.path(), text).unwrap();
    scene.set("TENANTS", &format!("@{}", tenants.path().display()));
    let options = SimulateOptions { users: 30, weeks: 1, tenant: Some(other), ..SimulateOptions::default() };
    let (common, own) = (scene.drop(30, 1).await, scene.drop_like(options).await);
    let host = scene.host().await;
    for drop in [&common, &own] {
        scene.upload(drop).await;
        let answer = host.post(&scene.event(drop, METADATA)).await;
        assert_eq!(answer.status, 200, "{}", answer.log);
    }

    assert_complete(&scene.receiver.received(), &common, &scene.rows_of(&common).await);
    assert!(!scene.receiver.received().drops.contains_key(&own.path()));
    let received = receiver.received();
    let rows: Vec<String> = scene.rows_of(&own).await.iter().map(|row| two_columns(row)).collect();
    assert_complete(&received, &own, &rows);
    assert_eq!(received.drops.len(), 1);
    assert!(received.log.iter().filter_map(|delivery| delivery.rows).all(|(first, end)| end - first <= 4));
}

#[tokio::test]
async fn a_misspelled_column_sets_the_file_aside_before_its_first_row_and_a_replay_delivers_it() {
    let mut scene = Scene::on_azurite().await;
    scene.set("ROW_COLUMNS", "ObjectID,MetricDate");
    let (drop, host) = (scene.drop(30, 1).await, scene.host().await);
    scene.upload(&drop).await;
    let answer = host.post(&scene.event(&drop, METADATA)).await;
    assert_eq!(answer.status, 200, "{}", answer.log);
    let received = scene.receiver.received();
    let failed = &received.drops[&drop.path()].failed[0];
    assert_eq!((received.row_count(), &*failed.reason), (0, "bad-row"));
    assert!(failed.message.contains("`ObjectID` in ROW_COLUMNS (the nearest is `ObjectId`)"), "{}", failed.message);

    scene.set("ROW_COLUMNS", "ObjectId,MetricDate,Wellbeing?");
    let ended = output_of(vivadrop().arg("replay").arg(drop.path()).envs(&scene.settings)).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let rows: Vec<String> = scene.rows_of(&drop).await.iter().map(|row| two_columns(row)).collect();
    assert_eq!(scene.receiver.received().row_count(), rows.len() as u64);
}

#[tokio::test]
async fn the_drops_of_a_paused_tenant_wait_until_a_sweep_without_the_pause() {
    let mut scene = Scene::on_azurite().await;
    scene.set("TENANTS", &json!({scene.tenant.to_string(): {"paused": true}}).to_string());
    let drop = scene.drop(30, 1).await;
    let host = scene.host().await;
    scene.upload(&drop).await;
    let answer = host.post(&scene.event(&drop, METADATA)).await;
    assert_eq!((answer.status, answer.log.contains("its tenant is paused")), (200, true), "{}", answer.log);
    host.stop();
    let run =
        async |scene: &Scene, arguments: &[&str]| output_of(vivadrop().args(arguments).envs(&scene.settings)).await;
    assert_eq!(run(&scene, &["sweep"]).await.code, Some(0));
    let ended = run(&scene, &["deliver", &drop.path()]).await;
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("its tenant is paused in TENANTS"), "{}", ended.stderr);
    assert_eq!((scene.receiver.received().requests, scene.api.requests()), (0, 0));
    let status = run(&scene, &["status"]).await.stdout;
    assert!(status.contains("waiting") && status.contains("paused in TENANTS, so its drops wait"), "{status}");

    scene.set("TENANTS", &scene.tenant.to_string());
    let ended = run(&scene, &["sweep"]).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_complete(&scene.receiver.received(), &drop, &scene.rows_of(&drop).await);
}

/// The columns `ObjectId` and `MetricDate` of a row.
fn two_columns(row: &str) -> String {
    let row: Value = serde_json::from_str(row).unwrap();
    format!(r#"{{"ObjectId":{},"MetricDate":{}}}"#, row["ObjectId"], row["MetricDate"])
}

#[tokio::test]
async fn a_tenant_without_its_own_destination_uses_the_common_one() {
    let mut scene = Scene::on_azurite().await;
    scene.set("TENANTS", &json!({scene.tenant.to_string(): {"IN_FLIGHT": 1}}).to_string());
    let (drop, host) = (scene.drop(30, 1).await, scene.host().await);
    scene.upload(&drop).await;
    assert_eq!(host.post(&scene.event(&drop, METADATA)).await.status, 200);
    assert_complete(&scene.receiver.received(), &drop, &scene.rows_of(&drop).await);
}

/// Posts events as the host does, four at a time; returns when each was answered.
async fn post_through_the_gate(host: &Host, events: Vec<Value>) -> Vec<Duration> {
    let started = Instant::now();
    let answers = events.into_iter().map(async |event| {
        let answer = host.post(&event).await;
        assert_eq!(answer.status, 200, "{}", answer.log);
        started.elapsed()
    });
    let answers: Vec<_> = answers.collect();
    stream::iter(answers).buffered(4).collect().await
}

#[tokio::test]
async fn a_tenant_whose_receiver_hangs_delays_the_drops_of_another_by_seconds_at_most() {
    let mut scene = Scene::on_azurite().await;
    let other = TenantId(uuid::Uuid::new_v4());
    scene.add_private_key(other, &vectors::case("encrypted-ctr").private_key());
    let hanging = Receiver::start(Options::default()).await.unwrap();
    hanging.answer_always(Answer::Accept.after(Duration::from_secs(600)));
    let own = json!({
        "DELIVER_TO": hanging.url().as_str(),
        "WEBHOOK_SECRET": hanging.secret().expose_secret(),
        "WEBHOOK_TIMEOUT": "5s",
        "DELIVERY_PATIENCE": "20s",
    });
    scene.set("TENANTS", &json!({scene.tenant.to_string(): {}, other.to_string(): own}).to_string());
    let options = SimulateOptions { users: 1, weeks: 1, tenant: Some(other), ..SimulateOptions::default() };
    let mut blocked = Vec::new();
    for _ in 0..6 {
        blocked.push(scene.drop_like(options.clone()).await);
    }
    let healthy = scene.drop(20, 1).await;
    let rows = scene.rows_of(&healthy).await;
    for drop in &blocked {
        scene.upload(drop).await;
    }
    let host = scene.host().await;
    let events = |drops: &[SimulatedDrop]| drops.iter().map(|drop| scene.event(drop, METADATA)).collect::<Vec<_>>();
    let post = |event| {
        let client = host.client();
        tokio::spawn(async move { client.try_post(&event).await })
    };
    // Two of the tenant's drops run, and the others wait. Their events must not keep the gate shut.
    let posts: Vec<_> = events(&blocked).into_iter().map(post).collect();
    tokio::time::sleep(Duration::from_millis(500)).await;
    // Nor does a sweep run more of them.
    let _sweep = post(timer_trigger());
    tokio::time::sleep(Duration::from_secs(2)).await;
    scene.upload(&healthy).await;
    let delays = post_through_the_gate(&host, events(std::slice::from_ref(&healthy))).await;
    assert!(delays[0] < Duration::from_secs(4), "the healthy tenant waited {delays:?}");
    assert_complete(&scene.receiver.received(), &healthy, &rows);
    let answered = posts.iter().filter(|post| post.is_finished()).count();
    assert!(answered >= 4, "only {answered} of six events were answered: the host sends four at a time");

    // The receiver recovers. No event is left, so the process has to work on the waiting drops by itself.
    hanging.answer_always(Answer::Accept);
    hanging.wait_for(LONG, |received| received.drops.len() >= 4).await.unwrap();
}

#[tokio::test]
async fn a_tenant_whose_runs_fail_at_once_does_not_hold_all_events_of_the_host() {
    let mut scene = Scene::on_azurite().await;
    let other = TenantId(uuid::Uuid::new_v4());
    scene.add_private_key(other, &vectors::case("encrypted-ctr").private_key());
    let moved = Receiver::start(Options::default()).await.unwrap();
    moved.answer_always(Answer::status(404));
    let own = json!({"DELIVER_TO": moved.url().as_str(), "WEBHOOK_SECRET": moved.secret().expose_secret()});
    scene.set("TENANTS", &json!({scene.tenant.to_string(): {}, other.to_string(): own}).to_string());
    let options = SimulateOptions { users: 1, weeks: 1, tenant: Some(other), ..SimulateOptions::default() };
    let mut drops = Vec::new();
    for _ in 0..4 {
        drops.push(scene.drop_like(options.clone()).await);
        scene.upload(&drops[drops.len() - 1]).await;
    }
    let host = scene.host().await;
    let mut posts = Vec::new();
    for (number, drop) in drops.iter().enumerate() {
        let (client, event) = (host.client(), scene.event(drop, METADATA));
        posts.push(tokio::spawn(async move { client.try_post(&event).await }));
        moved.wait_for(LONG, |received| received.requests > number as u64).await.unwrap();
        // Its run ends.
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    // The host sends four events at a time, and the answer to an event that failed waits for ten seconds.
    let held = posts.iter().filter(|post| !post.is_finished()).count();
    assert!(held <= 2, "{held} held events would delay those of other tenants");
}
