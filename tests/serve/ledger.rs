//! What the handler remembers of drops, in the account, over its own end.

use futures::future::join_all;
use testkit::viva_api::Behaviour;

use crate::support::{
    scene::{METADATA, Scene, assert_complete, has_ended},
    vectors,
};

#[tokio::test]
async fn what_has_ended_is_remembered_over_a_restart() {
    let scene = Scene::on_azurite().await;
    let mut host = scene.host().await;
    let (complete, refused) = (scene.drop(20, 2).await, scene.drop(20, 2).await);
    let rows = scene.rows_of(&complete).await;
    scene.rows_of(&refused).await;
    scene.write(&refused.path, METADATA, "no metadata at all").await;
    let mut first = Vec::new();
    for drop in [&complete, &refused] {
        for name in ["part-0.json.gz", "part-1.json.gz"] {
            scene.put(drop, name).await;
        }
    }
    scene.put(&complete, METADATA).await;
    for drop in [&complete, &refused] {
        first.push(host.post(&scene.event(drop, METADATA)).await);
    }
    let before = scene.receiver.received();
    assert_complete(&before, &complete, &rows);
    assert!(has_ended(&before, &refused));

    host.kill_and_restart().await;
    for (drop, first) in [&complete, &refused].into_iter().zip(first) {
        assert_eq!(host.post(&scene.event(drop, METADATA)).await, first);
    }
    assert_eq!(scene.receiver.received().requests, before.requests);
}

#[tokio::test]
async fn the_state_in_the_account_shows_positions_and_nothing_secret() {
    let scene = Scene::on_azurite().await;
    let (drop, refused, host) = (scene.drop(20, 2).await, scene.drop(5, 1).await, scene.host().await);
    let rows = scene.rows_of(&drop).await;
    scene.rows_of(&refused).await;
    scene.upload(&drop).await;
    scene.upload(&refused).await;
    let mut cut = std::fs::read(refused.simulated.drop.join("part-0.json.gz")).unwrap();
    cut.truncate(cut.len() - 9);
    scene.write(&refused.path, "part-0.json.gz", cut).await;
    for drop in [&drop, &refused] {
        assert_eq!(host.post(&scene.event(drop, METADATA)).await.status, 200);
    }
    assert_complete(&scene.receiver.received(), &drop, &rows);

    let state = &scene.settings["STATE_CONTAINER"];
    let blobs = scene.store.list(state, "").await.unwrap();
    let names: Vec<_> = blobs.iter().map(|blob| blob.path.name.as_str()).collect();
    for name in ["drop.json", "files/part-0.json.gz.json", "files/part-1.json.gz.json"] {
        assert!(names.contains(&&*format!("drops/{}/{name}", drop.path())), "{names:?}");
    }
    for blob in &blobs {
        let text = vivadrop::store::read_whole(&*scene.store, blob, 1 << 20).await.unwrap();
        let text = std::str::from_utf8(&text).unwrap();
        assert!(serde_json::from_str::<serde_json::Value>(text).is_ok(), "{}: {text}", blob.path);
        scene.secrets.check(text);
    }
}

#[tokio::test]
async fn a_drop_that_many_events_set_aside_at_once_is_one_failure() {
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
async fn keys_that_come_late_are_asked_for_again_by_the_next_run() {
    let scene = Scene::on_azurite().await;
    let (drop, mut host) = (scene.drop(20, 1).await, scene.host().await);
    let rows = scene.rows_of(&drop).await;
    scene.upload(&drop).await;
    scene.api.answer_always(Behaviour::Disconnect);
    let (line, event) = (host.client(), scene.event(&drop, METADATA));
    let posted = tokio::spawn(async move { line.try_post(&event).await });
    while scene.api.requests() < 2 {
        tokio::time::sleep(std::time::Duration::from_millis(25)).await;
    }
    // The host gave up on this instance in the meantime.
    host.kill_and_restart().await;
    assert_eq!(posted.await.unwrap(), None);
    scene.api.answer_always(Behaviour::Normal);
    let answers = host.trigger(&scene.event(&drop, METADATA)).await;
    assert_eq!(answers.last().unwrap().status, 200, "{answers:?}");
    assert_complete(&scene.wait_for(|received| has_ended(received, &drop)).await, &drop, &rows);
}
