//! The directory join, from the events to the receiver.

use vivadrop::simulate::SimulateOptions;

use crate::support::{
    host_payloads::blob_trigger,
    scene::{METADATA, Scene, assert_complete, has_ended},
};

#[tokio::test]
async fn a_drop_waits_for_its_directory_and_is_delivered_as_soon_as_that_is_complete() {
    let mut scene = Scene::on_azurite().await;
    scene.set("DIRECTORY", "join");
    let options = SimulateOptions { users: 120, weeks: 2, directory: true, ..SimulateOptions::default() };
    let drop = scene.drop_like(options).await;
    let rows = scene.joined_rows_of(&drop).await;
    assert_eq!(rows.iter().filter(|row| row.ends_with(r#""directory":null}"#)).count(), 4, "two people are missing");
    let host = scene.host().await;
    scene.upload(&drop).await;
    let answer = host.post(&scene.event(&drop, METADATA)).await;
    assert_eq!(answer.status, 200, "{}", answer.log);
    assert!(answer.log.contains("waits for the directory of its run"), "{}", answer.log);
    assert_eq!(scene.receiver.received().requests, 0);

    // No sweep: the process that completes the directory runs the drop.
    let directory = scene.upload_directory(&drop).await;
    let answer = host.post(&blob_trigger(&scene.address_of(&directory.blob(METADATA)), 1)).await;
    assert_eq!(answer.status, 200, "{}", answer.log);
    let received = scene.wait_for(|received| has_ended(received, &drop)).await;
    assert_complete(&received, &drop, &rows);
    assert_eq!(received.drops.len(), 1, "the directory itself is not delivered");
    let named = received.bodies.iter().map(|body| serde_json::from_slice::<serde_json::Value>(body).unwrap());
    let named: Vec<_> = named.filter(|message| message["type"] == "viva.insights.rows").collect();
    assert!(named.iter().all(|message| message["data"]["directory"]["path"] == directory.to_string()));
    assert!(!named.is_empty());
}
