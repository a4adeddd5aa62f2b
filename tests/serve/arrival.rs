//! Events arrive in any order, repeatedly, all at once, or not at all.

use futures::future::join_all;
use vivadrop::{
    drop::{DropPath, TenantId},
    simulate::SimulateOptions,
};

use crate::support::{
    scene::{METADATA, Scene, assert_complete, has_ended},
    vectors,
};

#[tokio::test]
async fn files_after_their_metadata_are_delivered_as_they_arrive() {
    let scene = Scene::on_azurite().await;
    let (drop, host) = (scene.drop(40, 2).await, scene.host().await);
    let rows = scene.rows_of(&drop).await;
    let mut summaries = Vec::new();
    for name in [METADATA, "part-1.json.gz", "part-0.json.gz"] {
        scene.put(&drop, name).await;
        let answer = host.post(&scene.event(&drop, name)).await;
        assert_eq!(answer.status, 200, "{}", answer.log);
        summaries.push(answer.log);
    }
    let path = drop.path();
    let open = |rows| format!("`{path}` is open: {rows} of 40 rows");
    assert_eq!(summaries, [open(0), open(20), format!("completed `{path}`: 40 rows")]);
    assert_complete(&scene.receiver.received(), &drop, &rows);
}

#[tokio::test]
async fn files_before_their_metadata_wait_for_it() {
    let scene = Scene::on_azurite().await;
    let (drop, host) = (scene.drop(40, 2).await, scene.host().await);
    let rows = scene.rows_of(&drop).await;
    for name in ["part-0.json.gz", "part-1.json.gz"] {
        scene.put(&drop, name).await;
        assert_eq!(host.post(&scene.event(&drop, name)).await.status, 200);
    }
    assert_eq!((scene.receiver.received().requests, scene.api.requests()), (0, 0));
    scene.put(&drop, METADATA).await;
    assert_eq!(host.post(&scene.event(&drop, METADATA)).await.status, 200);
    assert_complete(&scene.receiver.received(), &drop, &rows);
}

#[tokio::test]
async fn one_event_delivers_the_whole_drop() {
    let scene = Scene::on_azurite().await;
    let host = scene.host().await;
    for name in [METADATA, "part-1.json.gz"] {
        let drop = scene.drop(40, 2).await;
        let rows = scene.rows_of(&drop).await;
        scene.upload(&drop).await;
        assert_eq!(host.post(&scene.event(&drop, name)).await.status, 200);
        assert_complete(&scene.receiver.received(), &drop, &rows);
    }
}

#[tokio::test]
async fn many_events_of_a_drop_cause_one_delivery() {
    let mut scene = Scene::on_azurite().await;
    scene.set("BATCH_ROWS", "10");
    let (drop, host) = (scene.drop(200, 4).await, scene.host().await);
    let rows = scene.rows_of(&drop).await;
    scene.upload(&drop).await;
    let events: Vec<_> = drop.names().iter().map(|name| scene.event(&drop, name)).collect();
    let answers = join_all(events.iter().cycle().take(200).map(|event| host.trigger(event))).await;
    assert!(answers.iter().all(|answers| answers.len() == 1 && answers[0].status == 200));

    let received = scene.receiver.received();
    assert_complete(&received, &drop, &rows);
    let row_messages = received.log.iter().filter(|delivery| delivery.rows.is_some()).count();
    assert_eq!(row_messages, 20, "every batch is sent once");
    assert!(scene.api.requests() <= 4, "the keys are requested at most once per file");
}

#[tokio::test]
async fn drops_of_several_tenants_at_once_are_kept_apart() {
    let mut scene = Scene::on_azurite().await;
    let other = TenantId(uuid::Uuid::new_v4());
    scene.set("TENANTS", &format!("{}, {other}", scene.tenant));
    scene.add_private_key(other, &vectors::case("encrypted-ctr").private_key());
    let drops = [
        scene.drop(30, 1).await,
        scene
            .drop_like(SimulateOptions { users: 30, weeks: 1, tenant: Some(other), ..SimulateOptions::default() })
            .await,
    ];
    let host = scene.host().await;
    for drop in &drops {
        scene.upload(drop).await;
    }
    let events = drops.iter().map(|drop| scene.event(drop, METADATA)).collect::<Vec<_>>();
    let answers = join_all(events.iter().map(|event| host.post(event))).await;
    assert!(answers.iter().all(|answer| answer.status == 200), "{answers:?}");
    for drop in &drops {
        let received = scene.receiver.received();
        assert_complete(&received, drop, &scene.rows_of(drop).await);
        let received = &received.drops[&drop.path()];
        assert_eq!(received.tenant_id, drop.simulated.tenant.to_string());
        assert_eq!(received.id, Some(drop.simulated.copy_activity_id.to_string()));
    }
}

#[tokio::test]
async fn a_container_may_be_a_drop() {
    let mut scene = Scene::on_azurite().await;
    scene.set("DROP_CONTAINER", "*");
    scene.set("TENANTS", &format!("{}={}", scene.tenant, scene.container));
    let mut drop = scene.drop(10, 1).await;
    drop.path = DropPath::new(&scene.container, "");
    let (rows, host) = (scene.rows_of(&drop).await, scene.host().await);
    scene.upload(&drop).await;
    assert_eq!(host.post(&scene.event(&drop, "part-0.json.gz")).await.status, 200);
    assert_complete(&scene.receiver.received(), &drop, &rows);
}

#[tokio::test]
async fn a_repeated_event_of_a_completed_drop_changes_nothing() {
    let scene = Scene::on_azurite().await;
    let (drop, host) = (scene.drop(10, 1).await, scene.host().await);
    let rows = scene.rows_of(&drop).await;
    scene.upload(&drop).await;
    assert_eq!(host.post(&scene.event(&drop, METADATA)).await.status, 200);
    let requests = scene.receiver.received().requests;
    for name in drop.names() {
        let answer = host.post(&scene.event(&drop, &name)).await;
        assert_eq!(answer.status, 200);
        assert!(answer.log.contains("was already completed on"), "{}", answer.log);
    }
    let received = scene.receiver.received();
    assert_eq!(received.requests, requests);
    assert_complete(&received, &drop, &rows);
}

#[tokio::test]
async fn an_overwritten_file_is_delivered_again_and_the_drop_completed_again() {
    let scene = Scene::on_azurite().await;
    let (drop, host) = (scene.drop(40, 2).await, scene.host().await);
    let rows = scene.rows_of(&drop).await;
    scene.upload(&drop).await;
    assert_eq!(host.post(&scene.event(&drop, METADATA)).await.status, 200);
    assert_complete(&scene.receiver.received(), &drop, &rows);

    scene.put(&drop, "part-1.json.gz").await;
    assert_eq!(host.post(&scene.event(&drop, "part-1.json.gz")).await.status, 200);
    let received = scene.receiver.received();
    let of_file = |file: &str| received.log.iter().filter(|delivery| delivery.file.as_deref() == Some(file)).count();
    assert_eq!((of_file("part-0.json.gz"), of_file("part-1.json.gz")), (1, 2));
    let completed: Vec<_> = received.drops[&drop.path()].completed.iter().map(|c| (c.files, c.rows)).collect();
    assert_eq!(completed, [(2, 40), (2, 40)]);
    assert_eq!(received.duplicates, 0, "the ids of a new version differ");
}

#[tokio::test]
async fn a_file_may_have_any_name() {
    let scene = Scene::on_azurite().await;
    let (drop, host) = (scene.drop(10, 1).await, scene.host().await);
    let rows = scene.rows_of(&drop).await;
    let name = "2026/a b/ü+&%41?#'.json.gz";
    scene.put(&drop, METADATA).await;
    scene.write(&drop.path, name, std::fs::read(drop.simulated.drop.join("part-0.json.gz")).unwrap()).await;
    assert_eq!(host.post(&scene.event(&drop, name)).await.status, 200);
    let received = scene.receiver.received();
    assert_complete(&received, &drop, &rows);
    assert!(received.drops[&drop.path()].files.contains_key(name), "{:?}", received.drops);
}

#[tokio::test]
async fn events_that_reach_two_instances_cause_one_delivery() {
    let mut scene = Scene::on_azurite().await;
    scene.set("BATCH_ROWS", "10");
    let drop = scene.drop(200, 4).await;
    let hosts = [scene.host().await, scene.host().await];
    let rows = scene.rows_of(&drop).await;
    scene.upload(&drop).await;
    let events: Vec<_> = drop.names().iter().map(|name| scene.event(&drop, name)).collect();
    let posts = (0..20).map(|number| hosts[number % 2].trigger(&events[number % events.len()]));
    let answers = join_all(posts).await;
    assert!(answers.iter().all(|answers| answers.last().is_some_and(|answer| answer.status == 200)), "{answers:?}");
    assert_complete(&scene.wait_for(|received| has_ended(received, &drop)).await, &drop, &rows);
}
