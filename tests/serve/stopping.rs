//! SIGTERM: running work gets a few seconds, and the process exits in time, whatever its peers do.

use std::time::{Duration, Instant};

use testkit::receiver::Answer;
use tokio::{io::AsyncWriteExt, net::TcpStream};

use crate::support::{
    azurite::{self, Azurite},
    gateway::{Behaviour, Gateway},
    host::Host,
    scene::{METADATA, Scene, assert_complete},
};

/// The time within which the process exits, whatever storage, receiver and clients do.
const LIMIT: Duration = Duration::from_secs(8);

/// The time within which the process exits if there is no work to finish.
const AT_ONCE: Duration = Duration::from_secs(2);

/// Sends `bytes`, and keeps the connection open.
async fn send(host: &Host, bytes: &str) -> TcpStream {
    let mut stream = TcpStream::connect(host.address()).await.unwrap();
    stream.write_all(bytes.as_bytes()).await.unwrap();
    // The handler should have read the bytes, so that it knows of the request.
    tokio::time::sleep(Duration::from_millis(200)).await;
    stream
}

#[tokio::test]
async fn an_idle_handler_stops_at_once() {
    let scene = Scene::in_a_folder().await;
    let mut host = scene.host().await;
    host.terminate();
    assert_eq!(host.exit_code(AT_ONCE).await, Some(0));
}

#[tokio::test]
async fn a_handler_with_half_a_request_stops_at_once() {
    let scene = Scene::in_a_folder().await;
    for half in [
        "POST /function HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{\"Data\":",
        "POST /function HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n8\r\n{\"Data\":\r\n",
        "POST /function HTTP/1.1\r\nHost: loc",
        "",
    ] {
        let mut host = scene.host().await;
        let _open = send(&host, half).await;
        host.terminate();
        assert_eq!(host.exit_code(AT_ONCE).await, Some(0), "{half:?}");
    }
}

#[tokio::test]
async fn a_stopping_handler_finishes_running_work() {
    let mut scene = Scene::on_azurite().await;
    let (drop, mut host, posted) = scene.deliver_slowly(50).await;
    let rows = scene.rows_of(&drop).await;
    scene.wait_for(|received| received.accepted > 0).await;
    host.terminate();
    assert_eq!(posted.await.unwrap().unwrap().status, 200);
    assert_complete(&scene.receiver.received(), &drop, &rows);
    assert_eq!(host.exit_code(AT_ONCE).await, Some(0));
}

#[tokio::test]
async fn a_change_that_has_arrived_is_answered_although_the_handler_stops() {
    let azurite = azurite::shared();
    let gateway = Gateway::before_blobs(azurite).await;
    let scene = Scene::on(azurite, &gateway.endpoint(&azurite.blob_endpoint())).await;
    let mut host = scene.host().await;
    gateway.answer_always(Behaviour::Slow(Duration::from_millis(200)));
    let change = reqwest::Client::builder()
        .timeout(LIMIT)
        .build()
        .unwrap()
        .put(host.url(&format!("/api/manage/v1/attributes/{}", scene.tenant)))
        .header("if-none-match", "*")
        .json(&serde_json::json!({"version": 1, "attributes": [{"name": "Email hours"}], "programs": []}));
    let before = gateway.requests().len();
    let change = tokio::spawn(change.send());
    while gateway.requests().len() == before {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    host.terminate();
    assert_eq!(change.await.unwrap().unwrap().status(), 200);
    assert_eq!(host.exit_code(LIMIT).await, Some(0));
}

#[tokio::test]
async fn a_handler_stops_in_time_although_the_storage_does_not_answer() {
    let azurite = Azurite::start();
    let mut scene = Scene::on(&azurite, &azurite.blob_endpoint()).await;
    let (_drop, mut host, posted) = scene.deliver_slowly(1_000).await;
    scene.wait_for(|received| received.accepted > 2).await;
    azurite.pause();
    host.terminate();
    assert_eq!(host.exit_code(LIMIT).await, Some(0));
    // Later runs wait until the lease lapses, as after SIGKILL.
    assert!(posted.await.unwrap().is_none_or(|answer| answer.status == 500));
}

#[tokio::test]
async fn a_handler_stops_in_time_although_the_receiver_does_not_answer() {
    let mut scene = Scene::on_azurite().await;
    scene.set("BATCH_ROWS", "5");
    scene.set("IN_FLIGHT", "1");
    let (drop, mut host) = (scene.drop(50, 1).await, scene.host().await);
    let rows = scene.rows_of(&drop).await;
    scene.upload(&drop).await;
    scene.receiver.answer_by(|delivery| match delivery.rows {
        Some((first, _)) if first < 20 => Answer::Accept,
        _ => Answer::Accept.after(Duration::from_secs(3600)),
    });
    let posted = host.begin_post(scene.event(&drop, METADATA));
    scene.wait_for(|received| received.accepted >= 4).await;
    host.terminate();
    assert_eq!(host.exit_code(LIMIT).await, Some(0));
    let answer = posted.await.unwrap().expect("the handler answers before it exits");
    assert_eq!((answer.status, answer.log.contains("stopping")), (500, true), "{}", answer.log);

    // The checkpoint was written and the lease released, so the next process continues there without a wait.
    scene.receiver.answer_always(Answer::Accept);
    let (host, started) = (scene.host().await, Instant::now());
    assert_eq!(host.post(&scene.event(&drop, METADATA)).await.status, 200);
    assert!(started.elapsed() < LIMIT, "{:?}", started.elapsed());
    let received = scene.receiver.received();
    assert_complete(&received, &drop, &rows);
    assert_eq!(received.duplicates, 0, "the last checkpoint was written");
}

#[tokio::test]
async fn a_failed_event_is_answered_at_once_if_the_handler_stops() {
    let scene = Scene::on_azurite().await;
    let (drop, mut host) = (scene.drop(10, 1).await, scene.host().await);
    scene.upload(&drop).await;
    scene.receiver.answer_always(Answer::status(404));
    let posted = host.begin_post(scene.event(&drop, METADATA));
    scene.wait_for(|received| received.requests > 0).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    host.terminate();
    assert_eq!(host.exit_code(AT_ONCE).await, Some(0));
    let answer = posted.await.unwrap().expect("the handler answers before it exits");
    assert_eq!((answer.status, answer.log.contains("HTTP 404")), (500, true), "{}", answer.log);
}
