//! Failures to get keys, wrong keys, invalid metadata, damaged files: which are retried and when, and which are set
//! aside.

use std::{
    fs,
    time::{Duration, Instant},
};

use futures::future::join_all;
use testkit::{
    receiver::{Answer, Failed, Received},
    viva_api::Behaviour,
};

use crate::support::{
    host_payloads::timer_trigger,
    scene::{ANSWERS_SOON, METADATA, Scene, SimulatedDrop, assert_complete},
    vectors,
};

/// The only `drop.failed` message that the receiver got about the drop.
fn failure(received: &Received, drop: &SimulatedDrop) -> Failed {
    let drop = &received.drops[&drop.path()];
    assert_eq!((drop.row_count(), &drop.completed[..]), (0, &[][..]));
    let [failed] = &drop.failed[..] else { panic!("expected one failure, found {:?}", drop.failed) };
    failed.clone()
}

/// Posts every event of the drop twice; returns the failure, which must be reported and logged exactly once.
async fn failure_of(scene: &Scene, drop: &SimulatedDrop) -> Failed {
    let host = scene.host().await;
    for name in drop.names().iter().cycle().take(2 * drop.names().len()) {
        let answer = host.post(&scene.event(drop, name)).await;
        assert_eq!(answer.status, 200, "{}", answer.log);
    }
    let received = scene.receiver.received();
    assert_eq!(received.requests, 1, "a failure is reported once");
    let errors = host.stop().iter().filter(|line| line["level"] == "ERROR").count();
    assert_eq!(errors, 1, "a failure is logged once");
    failure(&received, drop)
}

#[tokio::test]
async fn transient_failures_of_the_api_are_retried() {
    let scene = Scene::on_azurite().await;
    let (drop, host) = (scene.drop(10, 1).await, scene.host().await);
    let rows = scene.rows_of(&drop).await;
    scene.upload(&drop).await;
    scene.api.answer_next(1, Behaviour::Throttled { retry_after: "0".into() });
    scene.api.answer_next(1, Behaviour::Status { status: 500, body: "<html>".into() });
    scene.api.answer_next(1, Behaviour::Disconnect);
    scene.api.answer_next(1, Behaviour::Slow(Duration::from_millis(100)));
    assert_eq!(host.post(&scene.event(&drop, METADATA)).await.status, 200);
    assert_eq!(scene.api.requests(), 4);
    assert_complete(&scene.receiver.received(), &drop, &rows);
}

#[tokio::test]
async fn the_five_tries_of_the_host_are_not_over_within_seconds() {
    let scene = Scene::on_azurite().await;
    let host = scene.host().await;
    // As many as a tenant has turns.
    let failing = join_all((0..2).map(|_| scene.drop(10, 1))).await;
    let other = scene.drop(10, 1).await;
    let (path, rows) = (other.path(), scene.rows_of(&other).await);
    scene.receiver.answer_by(move |delivery| if delivery.drop == path { Answer::Accept } else { Answer::status(404) });
    for drop in failing.iter().chain([&other]) {
        scene.upload(drop).await;
    }
    let started = Instant::now();
    let failed = async {
        let events: Vec<_> = failing.iter().map(|drop| scene.event(drop, METADATA)).collect();
        join_all(events.iter().map(async |event| (host.post(event).await.status, started.elapsed()))).await
    };
    let meanwhile = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        let answer = host.post(&scene.event(&other, METADATA)).await;
        assert_eq!(answer.status, 200, "{}", answer.log);
        // The drops of a sweep do not wait either.
        assert_eq!(host.post(&timer_trigger()).await.status, 200);
        started.elapsed()
    };
    let (failed, meanwhile) = futures::join!(failed, meanwhile);
    for (status, after) in &failed {
        assert!(*status == 500 && (10..15).contains(&after.as_secs()), "{failed:?}");
    }
    assert!(meanwhile < Duration::from_secs(8), "waiting answers hold up other events: {meanwhile:?}");
    assert_complete(&scene.receiver.received(), &other, &rows);
}

#[tokio::test]
async fn a_drop_is_set_aside_if_the_api_rejects_the_request_for_its_keys() {
    let scene = Scene::on_azurite().await;
    let drop = scene.drop(10, 1).await;
    scene.upload(&drop).await;
    scene.api.answer_always(Behaviour::Status { status: 400, body: r#"{"error":{"code":"BadRequest"}}"#.into() });
    let failed = failure_of(&scene, &drop).await;
    assert_eq!((failed.reason.as_str(), failed.file), ("no-key", None), "{}", failed.message);
    let requests = scene.api.key_requests();
    assert_eq!(requests.len(), 1, "a rejected request is not retried");
    assert_eq!(requests[0].request_id, drop.simulated.copy_activity_id.to_string());
    assert_eq!(requests[0].scope_id, scene.tenant.to_string());
}

#[tokio::test]
async fn an_api_that_denies_access_sets_nothing_aside() {
    let mut scene = Scene::on_azurite().await;
    scene.set("DEADLINE", ANSWERS_SOON);
    let (drop, host) = (scene.drop(10, 1).await, scene.host().await);
    let rows = scene.rows_of(&drop).await;
    scene.upload(&drop).await;
    for (status, fix) in [(401, "check PARTNER_TENANT_ID"), (403, "consented"), (405, "check VIVA_API_URL")] {
        scene.api.answer_always(Behaviour::Status { status, body: String::new() });
        let answer = host.post(&scene.event(&drop, METADATA)).await;
        assert_eq!(answer.status, 500, "{}", answer.log);
        assert!(answer.log.contains(&format!("HTTP {status}")) && answer.log.contains(fix), "{}", answer.log);
    }
    assert_eq!(scene.api.requests(), 3, "a run asks once");
    assert_eq!(scene.receiver.received().requests, 0, "the drop is not set aside");
    scene.api.answer_always(Behaviour::Normal);
    assert_eq!(host.post(&scene.event(&drop, METADATA)).await.status, 200);
    assert_complete(&scene.receiver.received(), &drop, &rows);
}

#[tokio::test]
async fn a_drop_without_a_private_key_is_set_aside() {
    let scene = Scene::on_azurite().await;
    let drop = scene.drop(10, 1).await;
    scene.upload(&drop).await;
    fs::remove_file(scene.private_key(scene.tenant)).unwrap();
    let failed = failure_of(&scene, &drop).await;
    assert_eq!((failed.reason.as_str(), failed.file), ("no-key", None), "{}", failed.message);
    assert!(failed.message.contains(&scene.tenant.to_string()), "{}", failed.message);
}

#[tokio::test]
async fn a_drop_is_set_aside_if_its_keys_are_wrapped_for_another_private_key() {
    let scene = Scene::on_azurite().await;
    let drop = scene.drop(10, 1).await;
    scene.upload(&drop).await;
    scene.add_private_key(scene.tenant, &vectors::case("refuse-wrong-private-key").private_key());
    let failed = failure_of(&scene, &drop).await;
    assert_eq!((failed.reason.as_str(), failed.file), ("wrong-key", None), "{}", failed.message);
}

#[tokio::test]
async fn a_drop_with_the_keys_of_another_drop_is_set_aside_until_its_metadata_is_written_again() {
    let scene = Scene::on_azurite().await;
    let (drop, other) = (scene.drop(10, 1).await, scene.drop(10, 1).await);
    let rows = scene.rows_of(&drop).await;
    scene.upload(&drop).await;
    let add_keys_of = |source: &SimulatedDrop| {
        let keys = serde_json::from_slice(&fs::read(&source.simulated.decryption_keys).unwrap()).unwrap();
        scene.api.add_keys(&drop.simulated.copy_activity_id.to_string(), scene.tenant.0, keys);
    };
    add_keys_of(&other);
    let failed = failure_of(&scene, &drop).await;
    assert_eq!(
        (failed.reason.as_str(), failed.file.as_deref()),
        ("wrong-key", Some("part-0.json.gz")),
        "{}",
        failed.message
    );

    add_keys_of(&drop);
    scene.put(&drop, METADATA).await;
    assert_eq!(scene.host().await.post(&scene.event(&drop, METADATA)).await.status, 200);
    let received = scene.receiver.received();
    assert_eq!(received.rows(&drop.path()).len(), rows.len());
    assert_eq!(received.drops[&drop.path()].completed.len(), 1);
}

#[tokio::test]
async fn a_drop_with_invalid_metadata_is_set_aside_until_the_metadata_is_overwritten() {
    let scene = Scene::on_azurite().await;
    let drop = scene.drop(10, 1).await;
    let rows = scene.rows_of(&drop).await;
    scene.upload(&drop).await;
    scene.write(&drop.path, METADATA, "{\"TenantId\": \"cut sho").await;
    let failed = failure_of(&scene, &drop).await;
    assert_eq!((failed.reason.as_str(), failed.file), ("metadata", None), "{}", failed.message);
    assert!(!failed.message.contains("cut sho"), "{}", failed.message);

    scene.put(&drop, METADATA).await;
    let host = scene.host().await;
    assert_eq!(host.post(&scene.event(&drop, METADATA)).await.status, 200);
    let received = scene.receiver.received();
    assert_eq!(received.rows(&drop.path()).len(), rows.len());
    assert_eq!(received.drops[&drop.path()].completed.len(), 1);
}

#[tokio::test]
async fn a_damaged_file_does_not_stop_the_files_after_it() {
    let scene = Scene::on_azurite().await;
    let (drop, host) = (scene.drop(30, 3).await, scene.host().await);
    scene.rows_of(&drop).await;
    scene.upload(&drop).await;
    let file = fs::read(drop.simulated.drop.join("part-1.json.gz")).unwrap();
    scene.write(&drop.path, "part-1.json.gz", file[..file.len() - 9].to_vec()).await;
    assert_eq!(host.post(&scene.event(&drop, METADATA)).await.status, 200);

    let received = scene.receiver.received();
    let path = drop.path();
    let counts: Vec<_> = received.drops[&path].files.iter().map(|(name, file)| (name.as_str(), file.count)).collect();
    assert!(counts.contains(&("part-0.json.gz", 10)) && counts.contains(&("part-2.json.gz", 10)), "{counts:?}");
    let [failed] = &received.drops[&path].failed[..] else { panic!("{:?}", received.drops[&path].failed) };
    assert_eq!((failed.reason.as_str(), failed.file.as_deref()), ("damaged", Some("part-1.json.gz")));
    assert!(received.drops[&path].completed.is_empty());

    // The customer's pipeline runs again and overwrites the file.
    scene.put(&drop, "part-1.json.gz").await;
    assert_eq!(host.post(&scene.event(&drop, "part-1.json.gz")).await.status, 200);
    let received = scene.receiver.received();
    assert_eq!((received.rows(&path).len(), received.drops[&path].completed.len()), (30, 1));
}

#[tokio::test]
async fn a_drop_with_a_wrong_row_count_is_completed_when_its_metadata_is_corrected() {
    let scene = Scene::on_azurite().await;
    let (drop, host) = (scene.drop(40, 2).await, scene.host().await);
    let rows = scene.rows_of(&drop).await;
    scene.upload(&drop).await;
    let metadata = fs::read_to_string(drop.simulated.drop.join(METADATA)).unwrap();
    let wrong = metadata.replace("\"NumberOfRowsExtracted\":40", "\"NumberOfRowsExtracted\":39");
    assert_ne!(wrong, metadata);
    scene.write(&drop.path, METADATA, wrong).await;
    assert_eq!(host.post(&scene.event(&drop, METADATA)).await.status, 200);
    let before = scene.receiver.received();
    let [failed] = &before.drops[&drop.path()].failed[..] else { panic!("{:?}", before.drops) };
    assert_eq!((failed.reason.as_str(), failed.file.as_deref(), failed.rows_delivered), ("row-count", None, 40));

    scene.put(&drop, METADATA).await;
    assert_eq!(host.post(&scene.event(&drop, METADATA)).await.status, 200);
    let received = scene.receiver.received();
    assert_eq!(received.rows(&drop.path()), rows);
    assert_eq!(received.drops[&drop.path()].completed.len(), 1);
    assert_eq!(received.accepted, before.accepted + 1, "no row is sent twice");
}

#[tokio::test]
async fn an_extra_file_sets_a_completed_drop_aside() {
    let scene = Scene::on_azurite().await;
    let (drop, host) = (scene.drop(10, 1).await, scene.host().await);
    let rows = scene.rows_of(&drop).await;
    scene.upload(&drop).await;
    assert_eq!(host.post(&scene.event(&drop, METADATA)).await.status, 200);
    assert_complete(&scene.receiver.received(), &drop, &rows);

    let extra = fs::read(drop.simulated.drop.join("part-0.json.gz")).unwrap();
    scene.write(&drop.path, "part-1.json.gz", extra).await;
    assert_eq!(host.post(&scene.event(&drop, "part-1.json.gz")).await.status, 200);
    let received = scene.receiver.received();
    let [failed] = &received.drops[&drop.path()].failed[..] else { panic!("{:?}", received.drops) };
    assert_eq!((failed.reason.as_str(), failed.rows_delivered), ("row-count", 20));
}
