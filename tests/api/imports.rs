//! Imports of survey cycles: where they stand, and asking for one.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use vivadrop::{clock, simulate::SimulateOptions};

use crate::{
    Answer, client, get, send,
    support::{command::LONG, host::Host, scene::Scene},
};

/// Asks for an import.
async fn ask(scene: &Scene, host: &Host, body: Value) -> Answer {
    send(scene, client().post(host.url("/api/manage/v1/imports")).json(&body)).await
}

/// Waits until the first import of the tenant has this state, and was recorded after `after`; returns it.
async fn wait_for(scene: &Scene, host: &Host, state: &str, after: &str) -> Value {
    let started = Instant::now();
    loop {
        let answer = get(scene, host.url(&format!("/api/view/v1/attributes/{}", scene.tenant))).await;
        let import = &answer.json["imports"][0];
        if import["state"] == state && import["updated"].as_str().unwrap_or_default() > after {
            return import.clone();
        }
        assert!(started.elapsed() < LONG, "{}", answer.json);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test]
async fn an_import_is_shown_with_its_counts_and_is_repeated_when_somebody_asks() {
    let scene = Scene::on_azurite().await;
    let drop = scene.drop_like(SimulateOptions { users: 300, weeks: 13, ..SimulateOptions::default() }).await;
    scene.rows_of(&drop).await;
    let host = scene.host().await;
    let today = clock::now().date();
    let monday = today - time::Duration::days(today.weekday().number_days_from_monday().into());
    let cycle =
        json!({"name": "Now", "start": (monday - time::Duration::days(7)).to_string(), "end": monday.to_string()});
    let definitions = json!({
        "version": 1, "attributes": [{"name": "Email hours"}], "programs": [{"name": "Engagement", "cycles": [cycle]}]
    });
    let url = host.url(&format!("/api/manage/v1/attributes/{}", scene.tenant));
    let saved = send(&scene, client().put(url).json(&definitions).header("if-none-match", "*")).await;
    assert_eq!(saved.status, 200, "{}", saved.json);
    scene.upload(&drop).await;
    for name in drop.names() {
        host.post(&scene.event(&drop, &name)).await;
    }
    let import = wait_for(&scene, &host, "completed", "").await;
    let path = drop.path();
    assert_eq!(
        (&import["program"], &import["cycle"], &import["path"]),
        (&json!("Engagement"), &json!("Now"), &json!(path))
    );
    assert_eq!((&import["people"], &import["window"]["weeks"]), (&json!(300), &json!(12)));
    assert_eq!(import["counts"]["Email hours"].as_array().unwrap().len(), 4);
    assert_eq!(import["labels"]["Email hours"][0], "0 to less than 3");

    let again = json!({"path": path, "program": "Engagement", "cycle": "Now", "again": true});
    let answer = ask(&scene, &host, again).await;
    assert_eq!((answer.status, &answer.json["tenantId"]), (202, &json!(scene.tenant.to_string())), "{}", answer.json);
    wait_for(&scene, &host, "completed", import["updated"].as_str().unwrap()).await;
}

#[tokio::test]
async fn an_import_needs_a_drop_and_a_cycle() {
    let scene = Scene::in_a_folder().await;
    let host = scene.host().await;
    let drop = scene.drop(10, 1).await;
    scene.rows_of(&drop).await;
    scene.upload(&drop).await;
    assert_eq!(ask(&scene, &host, json!({"path": "datasets/none"})).await.status, 404);
    assert_eq!(ask(&scene, &host, json!({"path": drop.path()})).await.status, 409, "the tenant has no definitions");
    assert_eq!(ask(&scene, &host, json!({"path": "a/../b"})).await.status, 400);
    assert_eq!(ask(&scene, &host, json!({"path": drop.path(), "cycle": "Now"})).await.status, 400);
    assert_eq!(ask(&scene, &host, json!({"program": "x"})).await.status, 400);
}

#[tokio::test]
async fn there_is_no_drop_in_a_container_with_an_impossible_name() {
    let scene = Scene::on_azurite().await;
    let host = scene.host().await;
    let long = "x".repeat(64);
    for container in ["Not_A_Container", "a--b", "x", &long] {
        let answer = ask(&scene, &host, json!({"path": format!("{container}/{}", scene.tenant)})).await;
        assert_eq!(answer.status, 404, "{container}: {}", answer.json);
    }
}
