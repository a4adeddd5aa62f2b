//! Delivery to a storage queue that throttles, and a kill during delivery.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::{sleep, timeout};

use crate::support::{
    azurite,
    command::LONG,
    gateway::{Behaviour, Gateway},
    queue::{QueueConsumer, QueueMessage},
    scene::{ANSWERS_SOON, METADATA, Scene, assert_complete},
};

/// A scene that delivers to a queue behind a gateway.
async fn scene() -> (Scene, QueueConsumer, Gateway) {
    let azurite = azurite::shared();
    let (mut scene, gateway) = (Scene::on_azurite().await, Gateway::before(azurite).await);
    let end = QueueConsumer::new(azurite);
    scene.set("DELIVER_TO", &end.deliver_to());
    scene.set("SinkStorage", &gateway.connection_string(azurite));
    (scene, end, gateway)
}

#[tokio::test]
async fn a_queue_with_transient_failures_gets_every_row() {
    let (scene, end, gateway) = scene().await;
    let (drop, host) = (scene.drop(1000, 1).await, scene.host().await);
    let rows = scene.rows_of(&drop).await;
    scene.upload(&drop).await;
    let busy = |retry_after| Behaviour::Status(503, "ServerBusy", retry_after);
    gateway.script([
        busy(None),
        busy(Some("1")),
        Behaviour::Forward,
        Behaviour::LoseResponse,
        Behaviour::Status(500, "InternalError", None),
    ]);
    let answer = host.post(&scene.event(&drop, METADATA)).await;
    assert_eq!(answer.status, 200, "{}", answer.log);
    end.forward_to(&scene.receiver, &end.receive_all().await).await;
    assert_complete(&scene.receiver.received(), &drop, &rows);
}

#[tokio::test]
async fn rows_are_delivered_after_throttling_longer_than_the_retry_budget() {
    let (mut scene, end, gateway) = scene().await;
    scene.set("DELIVERY_PATIENCE", "1s");
    scene.set("DEADLINE", ANSWERS_SOON);
    let (drop, host) = (scene.drop(100, 1).await, scene.host().await);
    let rows = scene.rows_of(&drop).await;
    scene.upload(&drop).await;
    gateway.answer_always(Behaviour::Status(503, "ServerBusy", None));
    let answer = host.post(&scene.event(&drop, METADATA)).await;
    assert_eq!(answer.status, 500);
    assert!(answer.log.contains("HTTP 503 ServerBusy"), "{}", answer.log);
    gateway.answer_always(Behaviour::Forward);
    assert_eq!(host.post(&scene.event(&drop, METADATA)).await.status, 200);
    end.forward_to(&scene.receiver, &end.receive_all().await).await;
    assert_complete(&scene.receiver.received(), &drop, &rows);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_handler_delivers_every_row_under_the_same_ids() {
    let (scene, end, gateway) = scene().await;
    let (drop, mut host) = (scene.drop(6000, 1).await, scene.host().await);
    let rows = scene.rows_of(&drop).await;
    scene.upload(&drop).await;

    gateway.answer_always(Behaviour::Slow(Duration::from_millis(30)));
    let posted = host.begin_post(scene.event(&drop, METADATA));
    let has_sent_messages = async {
        while gateway.requests().len() < 40 {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(LONG, has_sent_messages).await.expect("the handler sends 40 requests to the queue");
    host.kill_and_restart().await;
    assert_eq!(posted.await.unwrap(), None);

    gateway.answer_always(Behaviour::Forward);
    let answers = host.trigger(&scene.event(&drop, METADATA)).await;
    assert_eq!(answers.last().unwrap().status, 200, "{answers:?}");
    let taken = end.receive_all().await;
    let ranges = taken.iter().map(QueueMessage::json).filter(|json| json["type"] == "viva.insights.rows").map(|json| {
        let row = |name: &str| json["data"][name].as_u64().unwrap();
        (row("firstRow"), (row("endRow"), json["id"].clone()))
    });
    let mut ids = BTreeMap::new();
    for (first, rest) in ranges {
        assert_eq!(ids.entry(first).or_insert_with(|| rest.clone()), &rest, "the same rows have different ids");
    }
    end.forward_to(&scene.receiver, &taken).await;
    let received = scene.receiver.received();
    assert!(received.duplicates > 0, "expected the messages in flight to be repeated");
    assert_complete(&received, &drop, &rows);
}
