//! Requests to the handler: the payload of every trigger is understood, and no request brings the handler down.

use std::time::Duration;

use bytes::Bytes;
use futures::stream;
use reqwest::Method;
use serde_json::{Value, json};
use testkit::receiver::Answer;
use tokio::{io::AsyncWriteExt, net::TcpStream};

use crate::support::{
    host_payloads::{
        blob_trigger_with_content, cloud_event, event_grid_event, event_grid_trigger, event_grid_trigger_many,
        http_trigger, in_json, queue_trigger,
    },
    scene::{METADATA, Scene, assert_complete, has_ended},
};

/// The name of a trigger, and its payload for the blob at a URL.
type Payload<'a> = (&'a str, &'a dyn Fn(&str) -> Value);

#[tokio::test]
async fn the_payload_of_every_trigger_is_understood() {
    let scene = Scene::on_azurite().await;
    let host = scene.host().await;
    let event = |url: &str| event_grid_event(url, "PutBlockList");
    let payloads: [Payload<'_>; 11] = [
        ("Event Grid", &|url| event_grid_trigger(&event(url))),
        ("CloudEvents", &|url| event_grid_trigger(&cloud_event(url, "FlushWithClose"))),
        ("Event Grid, several", &|url| event_grid_trigger_many(&[event(url), event(url)])),
        ("an event in a queue", &|url| queue_trigger(&event(url).to_string())),
        ("a list of events in a queue", &|url| queue_trigger(&json!([event(url)]).to_string())),
        ("an event in a request", &|url| http_trigger(&event(url).to_string())),
        ("an event that is encoded twice", &|url| json!({"Data": {"event": in_json(&event(url).to_string())}})),
        ("a bare event", &|url| event(url)),
        ("a bare list of events", &|url| json!([cloud_event(url, "PutBlob")])),
        ("the content of a blob", &|url| blob_trigger_with_content(url, b"content")),
        ("a URL as documented", &|url| {
            let mut payload = blob_trigger_with_content(url, b"content");
            payload["Metadata"]["Uri"] = url.into();
            payload
        }),
    ];
    for (name, payload) in payloads {
        let drop = scene.drop(3, 1).await;
        let rows = scene.rows_of(&drop).await;
        scene.upload(&drop).await;
        let answer = host.post(&payload(&scene.url(&drop, METADATA))).await;
        assert_eq!(answer.status, 200, "{name}: {}", answer.log);
        assert!(scene.receiver.received().drops.contains_key(&drop.path()), "{name}: {}", answer.log);
        assert_complete(&scene.receiver.received(), &drop, &rows);
    }
}

#[tokio::test]
async fn a_large_blob_in_a_payload_takes_no_memory() {
    const CONTENT: usize = 64 << 20;
    const CHUNK: usize = 64 << 10;
    let scene = Scene::on_azurite().await;
    let (drop, host) = (scene.drop(10, 1).await, scene.host().await);
    let rows = scene.rows_of(&drop).await;
    scene.upload(&drop).await;

    let payload = blob_trigger_with_content(&scene.url(&drop, METADATA), b"here").to_string();
    let (head, tail) = payload.split_once("aGVyZQ==").unwrap();
    let content = std::iter::repeat_n(Bytes::from(vec![b'A'; CHUNK]), CONTENT / CHUNK);
    let chunks: Vec<_> = std::iter::once(Bytes::copy_from_slice(head.as_bytes()))
        .chain(content)
        .chain([Bytes::copy_from_slice(tail.as_bytes())])
        .collect();
    assert_eq!(host.post_stream(stream::iter(chunks)).await.status, 200);

    assert_complete(&scene.receiver.received(), &drop, &rows);
    let peak = host.peak_memory();
    assert!(peak < 64 << 10, "{peak} KiB");
    let has_warned =
        host.stop().iter().any(|line| line["level"] == "WARN" && line.to_string().contains("supportsDeferredBinding"));
    assert!(has_warned, "expected a warning about deferred binding");
}

#[tokio::test]
async fn no_payload_brings_the_handler_down() {
    let scene = Scene::on_azurite().await;
    let mut host = scene.host().await;
    let repeated = |text: &str, times: usize| text.repeat(times).into_bytes();
    let payloads: [(&str, Vec<u8>, u16); 17] = [
        ("nothing", vec![], 400),
        ("not JSON", b"drop it".to_vec(), 400),
        ("truncated JSON", br#"{"Data":{"blob":"#.to_vec(), 400),
        ("not text", vec![0xff, 0xfe, 0x00], 400),
        ("not UTF-8", b"{\"a\":\"\xff\"}".to_vec(), 400),
        ("NUL", vec![0], 400),
        ("deep lists", repeated("[", 200_000), 400),
        ("deep objects", repeated(r#"{"a":"#, 100_000), 400),
        ("too many numbers", [b"[".to_vec(), repeated("1,", 2 << 20), b"1]".to_vec()].concat(), 413),
        ("one long number", repeated("9", 2 << 20), 413),
        ("only whitespace", repeated(" ", 2 << 20), 413),
        ("null", b"null".to_vec(), 200),
        ("an empty object", b"{}".to_vec(), 200),
        ("an empty list", b"[]".to_vec(), 200),
        ("a string", br#""https://example.com/a""#.to_vec(), 200),
        ("data that is not an object", br#"{"Data":7,"Metadata":[]}"#.to_vec(), 200),
        ("an invalid URL", br#"{"Data":{"blob":null},"Metadata":{"Uri":"\"\\u0000\"","Properties":{}}}"#.to_vec(), 200),
    ];
    for (name, payload, status) in payloads {
        let answer = host.post_bytes(payload).await;
        assert_eq!(answer.status, status, "{name}: {}", answer.log);
        assert!(host.is_alive().await, "after {name}");
    }
    assert!(host.peak_memory() < 64 << 10);
    assert_eq!(scene.receiver.received().requests, 0);
}

#[tokio::test]
async fn every_response_is_an_object() {
    let scene = Scene::in_a_folder().await;
    let host = scene.host().await;
    for (method, path) in [
        (Method::POST, "/"),
        (Method::GET, "/function"),
        (Method::PUT, "/function"),
        (Method::GET, "/api/nothing"),
        (Method::POST, "/a/b"),
        (Method::POST, "/%ff"),
        (Method::DELETE, "/"),
    ] {
        let answer = host.request(method.clone(), path).await;
        assert!(!answer.log.is_empty(), "{method} {path}: {}", answer.status);
    }
}

#[tokio::test]
async fn a_function_may_have_any_name() {
    let scene = Scene::in_a_folder().await;
    let host = scene.host().await;
    let answer = host.request(Method::POST, "/Renamed-Function_2").await;
    assert!(answer.log.contains("Renamed-Function_2"), "{answer:?}");
}

#[tokio::test]
async fn an_interrupted_request_does_not_affect_others() {
    let scene = Scene::in_a_folder().await;
    let mut host = scene.host().await;
    let head = "POST /function HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n10\r\n{\"Data\":";
    for written in [&head[..30], head] {
        let mut connection = TcpStream::connect(host.address()).await.unwrap();
        connection.write_all(written.as_bytes()).await.unwrap();
        drop(connection);
    }
    assert!(host.is_alive().await);
}

#[tokio::test]
async fn work_continues_if_the_host_closes_the_connection() {
    let mut scene = Scene::on_azurite().await;
    scene.set("BATCH_ROWS", "5");
    scene.set("IN_FLIGHT", "1");
    let (drop, host) = (scene.drop(50, 1).await, scene.host().await);
    let rows = scene.rows_of(&drop).await;
    scene.upload(&drop).await;
    scene.receiver.answer_always(Answer::Accept.after(Duration::from_millis(50)));
    let posted = host.begin_post(scene.event(&drop, METADATA));
    scene.wait_for(|received| received.accepted > 0).await;
    posted.abort();
    assert_complete(&scene.wait_for(|received| has_ended(received, &drop)).await, &drop, &rows);
}
