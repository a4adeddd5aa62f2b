//! A storage account that stops answering.

use std::{num::NonZeroUsize, time::Duration};

use testkit::receiver::Answer;
use vivadrop::{simulate::SimulateOptions, stage::layout::LayoutName};

use crate::support::{
    azurite::Azurite,
    scene::{ANSWERS_SOON, METADATA, Scene, assert_complete},
};

#[tokio::test]
async fn a_file_is_completed_after_the_account_pauses() {
    let azurite = Azurite::start();
    let mut scene = Scene::on(&azurite, &azurite.blob_endpoint()).await;
    scene.set("IN_FLIGHT", "1");
    // Not compressed, so that the file is far larger than the read-ahead.
    let drop = scene.drop_like(SimulateOptions {
        users: 12_000,
        weeks: 1,
        files: NonZeroUsize::MIN,
        layout: LayoutName::Encrypted,
        ..SimulateOptions::default()
    });
    let (drop, host) = (drop.await, scene.host().await);
    let rows = scene.rows_of(&drop).await;
    scene.upload(&drop).await;

    scene.receiver.answer_always(Answer::Accept.after(Duration::from_millis(100)));
    let client = host.client();
    let event = scene.event(&drop, METADATA);
    let posted = tokio::spawn(async move { client.trigger(&event).await });
    scene.wait_for(|received| received.accepted > 0).await;
    azurite.pause();
    scene.receiver.answer_always(Answer::Accept);
    let stalled = scene.receiver.wait_for(Duration::from_secs(3), |received| received.row_count() == 12_000).await;
    assert!(stalled.is_err(), "the whole file was read before the pause");
    azurite.resume();
    let answers = posted.await.unwrap();
    assert_eq!(answers.last().unwrap().status, 200, "{answers:?}");
    assert_complete(&scene.receiver.received(), &drop, &rows);
}

#[tokio::test]
async fn an_event_fails_while_the_account_is_unavailable_and_succeeds_afterwards() {
    let azurite = Azurite::start();
    let mut scene = Scene::on(&azurite, &azurite.blob_endpoint()).await;
    scene.set("DEADLINE", ANSWERS_SOON);
    let (drop, host) = (scene.drop(10, 1).await, scene.host().await);
    let rows = scene.rows_of(&drop).await;
    scene.upload(&drop).await;
    azurite.stop();
    let answer = host.post(&scene.event(&drop, METADATA)).await;
    assert_eq!(answer.status, 500, "{}", answer.log);
    azurite.restart();
    assert_eq!(host.post(&scene.event(&drop, METADATA)).await.status, 200);
    assert_complete(&scene.receiver.received(), &drop, &rows);
}
