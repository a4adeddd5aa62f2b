//! The ledger in the storage account: what it holds, and what a restarted handler knows from it.

use std::time::Duration;

use futures::future::join_all;
use serde_json::json;
use testkit::{receiver::Answer, viva_api::Behaviour};
use tokio::time::{sleep, timeout};
use vivadrop::store::WriteIf;

use crate::support::{
    command::LONG,
    scene::{ANSWERS_SOON, METADATA, Scene, assert_complete, has_ended},
    vectors,
};

#[tokio::test]
async fn a_restarted_handler_does_not_repeat_drops_that_have_ended() {
    let scene = Scene::on_azurite().await;
    let mut host = scene.host().await;
    let (complete, failed) = (scene.drop(20, 2).await, scene.drop(20, 2).await);
    let rows = scene.rows_of(&complete).await;
    scene.rows_of(&failed).await;
    scene.write(&failed.path, METADATA, "not metadata").await;
    for drop in [&complete, &failed] {
        for name in ["part-0.json.gz", "part-1.json.gz"] {
            scene.put(drop, name).await;
        }
    }
    scene.put(&complete, METADATA).await;
    for drop in [&complete, &failed] {
        assert_eq!(host.post(&scene.event(drop, METADATA)).await.status, 200);
    }
    let before = scene.receiver.received();
    assert_complete(&before, &complete, &rows);
    assert!(has_ended(&before, &failed));

    host.kill_and_restart().await;
    for (drop, expected) in [(&complete, "already completed"), (&failed, "set aside")] {
        let answer = host.post(&scene.event(drop, METADATA)).await;
        assert_eq!(answer.status, 200);
        assert!(answer.log.contains(expected), "{}", answer.log);
    }
    assert_eq!(scene.receiver.received().requests, before.requests);
}

#[tokio::test]
async fn the_ledger_holds_positions_and_no_secrets() {
    let scene = Scene::on_azurite().await;
    let (drop, damaged, host) = (scene.drop(20, 2).await, scene.drop(5, 1).await, scene.host().await);
    let rows = scene.rows_of(&drop).await;
    scene.rows_of(&damaged).await;
    scene.upload(&drop).await;
    scene.upload(&damaged).await;
    let mut truncated = std::fs::read(damaged.simulated.drop.join("part-0.json.gz")).unwrap();
    truncated.truncate(truncated.len() - 9);
    scene.write(&damaged.path, "part-0.json.gz", truncated).await;
    for drop in [&drop, &damaged] {
        assert_eq!(host.post(&scene.event(drop, METADATA)).await.status, 200);
    }
    assert_complete(&scene.receiver.received(), &drop, &rows);

    let state = &scene.settings["STATE_CONTAINER"];
    let blobs = vivadrop::store::list_at_most(&*scene.store, state, "", 1_000).await.unwrap().unwrap();
    let names: Vec<_> = blobs.iter().map(|blob| blob.path.name.as_str()).collect();
    for (name, count) in [("/drop.json", 2), ("/files/part-0.json.gz.json", 2), ("/files/part-1.json.gz.json", 1)] {
        assert_eq!(names.iter().filter(|record| record.ends_with(name)).count(), count, "{names:?}");
    }
    assert_eq!(names.iter().filter(|name| name.starts_with("list/")).count(), 2, "{names:?}");
    assert_eq!(names.iter().filter(|name| name.starts_with("unfinished/")).count(), 0, "{names:?}");
    for blob in &blobs {
        let text = vivadrop::store::read_whole(&*scene.store, blob, 1 << 20).await.unwrap();
        let text = std::str::from_utf8(&text).unwrap();
        assert!(serde_json::from_str::<serde_json::Value>(text).is_ok(), "{}: {text}", blob.path);
        scene.secrets.check(text);
    }
}

#[tokio::test]
async fn a_record_with_a_row_beyond_the_end_of_its_file_completes_nothing() {
    let mut scene = Scene::on_azurite().await;
    scene.set("DEADLINE", ANSWERS_SOON);
    let (drop, host) = (scene.drop(20, 1).await, scene.host().await);
    let rows = scene.rows_of(&drop).await;
    scene.upload(&drop).await;
    let etag = scene.put(&drop, "part-0.json.gz").await;
    // A run that fails creates the record.
    scene.receiver.answer_always(Answer::status(404));
    assert_eq!(host.post(&scene.event(&drop, METADATA)).await.status, 500);
    scene.receiver.answer_always(Answer::Accept);
    let state = &scene.settings["STATE_CONTAINER"];
    let blobs = vivadrop::store::list_at_most(&*scene.store, state, "drops/", 100).await.unwrap().unwrap();
    let path = blobs.into_iter().map(|blob| blob.path).find(|path| path.name.ends_with("part-0.json.gz.json")).unwrap();
    let name = path.name.clone();
    let before = scene.receiver.received().requests;
    let write_record = async |next_row: u64| {
        let record = json!({
            "version": 2, "etag": etag.0, "status": "running", "nextRow": next_row, "badRows": 0, "attempts": 1,
            "batchRows": 500, "batchBytes": 1_048_576, "updated": "2026-11-22T03:12:45.120Z",
        });
        scene.store.write(&path, record.to_string().into(), WriteIf::Always).await.unwrap();
    };
    write_record(500).await;
    let answer = host.post(&scene.event(&drop, METADATA)).await;
    assert_eq!(answer.status, 500, "{}", answer.log);
    for part in ["has 20 rows", "`nextRow` 500", &name, "delete it"] {
        assert!(answer.log.contains(part), "{part}: {}", answer.log);
    }
    assert_eq!(scene.receiver.received().requests, before, "nothing is reported");

    write_record(0).await;
    assert_eq!(host.post(&scene.event(&drop, METADATA)).await.status, 200);
    assert_complete(&scene.receiver.received(), &drop, &rows);
}

#[tokio::test]
async fn concurrent_events_report_a_failed_drop_once() {
    let scene = Scene::on_azurite().await;
    let (drop, host) = (scene.drop(20, 4).await, scene.host().await);
    scene.add_private_key(scene.tenant, &vectors::case("refuse-wrong-private-key").private_key());
    scene.upload(&drop).await;
    let events: Vec<_> = drop.names().iter().map(|name| scene.event(&drop, name)).collect();
    let answers = join_all(events.iter().cycle().take(40).map(|event| host.trigger(event))).await;
    assert!(answers.iter().all(|answers| answers.last().is_some_and(|answer| answer.status == 200)), "{answers:?}");
    let received = scene.receiver.received();
    assert_eq!(received.drops[&drop.path()].failed.len(), 1);
    assert_eq!((received.row_count(), received.drops[&drop.path()].completed.len()), (0, 0));
}

#[tokio::test]
async fn a_restarted_handler_requests_the_keys_of_an_interrupted_run_again() {
    let scene = Scene::on_azurite().await;
    let (drop, mut host) = (scene.drop(20, 1).await, scene.host().await);
    let rows = scene.rows_of(&drop).await;
    scene.upload(&drop).await;
    scene.api.answer_always(Behaviour::Disconnect);
    let posted = host.begin_post(scene.event(&drop, METADATA));
    let has_asked_again = async {
        while scene.api.requests() < 2 {
            sleep(Duration::from_millis(25)).await;
        }
    };
    timeout(LONG, has_asked_again).await.expect("the run asks the API again");
    // The instance is killed while it waits for the API.
    host.kill_and_restart().await;
    assert_eq!(posted.await.unwrap(), None, "a killed handler does not answer");
    scene.api.answer_always(Behaviour::Normal);
    let answers = host.trigger(&scene.event(&drop, METADATA)).await;
    assert_eq!(answers.last().unwrap().status, 200, "{answers:?}");
    assert_complete(&scene.wait_for(|received| has_ended(received, &drop)).await, &drop, &rows);
}
