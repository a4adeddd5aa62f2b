//! `vivadrop page`: page and API on loopback, behind a key.

use std::process::Stdio;

use reqwest::Method;
use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Child,
};

use crate::{
    client, send,
    support::{command::vivadrop, scene::Scene},
};

/// A running `vivadrop page`.
struct Page {
    _process: Child,
    origin: String,
    token: String,
}

/// Starts `vivadrop page` for the storage of the scene.
async fn page(scene: &Scene) -> Page {
    let storage = scene.settings["DropStorage"].clone();
    let mut command = vivadrop();
    command.args(["page", "--no-open"]).env("DropStorage", storage).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = command.spawn().unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let address = lines.next_line().await.unwrap().unwrap();
    let (page, token) = address.split_once("#token=").unwrap();
    let origin = page.strip_suffix("/api/page").unwrap().to_owned();
    Page { _process: process, origin, token: token.to_owned() }
}

#[tokio::test]
async fn the_token_is_exchanged_once_for_a_key_that_opens_the_data() {
    let scene = Scene::in_a_folder().await;
    let page = page(&scene).await;
    let exchange = async |token: &str| {
        let request = client().request(Method::POST, format!("{}/api/page/session", page.origin));
        send(&scene, request.json(&json!({"token": token}))).await
    };
    assert_eq!(exchange("wrong").await.status, 401);
    let key = exchange(&page.token).await;
    assert_eq!(key.status, 200, "{}", key.json);
    assert_eq!(exchange(&page.token).await.status, 401, "the token works once");

    let drops = format!("{}/api/view/v1/drops", page.origin);
    let opened = client().get(&drops).header("x-functions-key", key.json["key"].as_str().unwrap());
    assert_eq!(send(&scene, opened).await.status, 200);
    assert_eq!(send(&scene, client().get(&drops)).await.status, 401);
    assert_eq!(send(&scene, client().get(&drops).header("x-functions-key", &page.token)).await.status, 401);
    let plans = client().post(format!("{}/api/manage/v1/plans", page.origin)).json(&json!({"state": "open"}));
    assert_eq!(send(&scene, plans).await.status, 401);
    // The page itself has no data.
    assert_eq!(client().get(format!("{}/api/page", page.origin)).send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn requests_of_other_origins_and_for_other_hosts_are_rejected() {
    let scene = Scene::in_a_folder().await;
    let page = page(&scene).await;
    let index = format!("{}/api/page", page.origin);
    let status =
        async |name: &str, value: &str| client().get(&index).header(name, value).send().await.unwrap().status();
    assert_eq!(status("origin", &page.origin).await, 200);
    assert_eq!(status("origin", "https://example.com").await, 403);
    assert_eq!(status("origin", "null").await, 403);
    assert_eq!(status("host", "example.com").await, 403);
    let exchange = client().post(format!("{}/session", index)).header("origin", "https://example.com");
    let answer = exchange.json(&json!({"token": page.token})).send().await.unwrap();
    assert_eq!(answer.status(), 403);
}
