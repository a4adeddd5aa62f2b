//! Reading and replacing the definitions of attributes.

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    Answer, client, get, send,
    support::{host::Host, scene::Scene},
};

/// Replaces the definitions of the tenant; `condition` is a header, such as `if-match`.
async fn put(scene: &Scene, host: &Host, query: &str, body: &Value, condition: Option<(&str, &str)>) -> Answer {
    let url = host.url(&format!("/api/manage/v1/attributes/{}{query}", scene.tenant));
    let mut request = client().request(Method::PUT, url).json(body);
    if let Some((name, value)) = condition {
        request = request.header(name, value);
    }
    send(scene, request).await
}

/// Reads the definitions of the tenant.
async fn definitions(scene: &Scene, host: &Host) -> Answer {
    get(scene, host.url(&format!("/api/view/v1/attributes/{}", scene.tenant))).await
}

/// Definitions with these default attributes.
fn with(names: &[&str]) -> Value {
    let attributes: Vec<_> = names.iter().map(|name| json!({"name": name})).collect();
    json!({"version": 1, "attributes": attributes, "programs": []})
}

#[tokio::test]
async fn definitions_are_created_and_changed_under_their_etag() {
    for scene in [Scene::on_azurite().await, Scene::in_a_folder().await] {
        let host = scene.host().await;
        let none = definitions(&scene, &host).await;
        assert_eq!((none.status, none.etag, &none.json["definitions"]), (200, None, &Value::Null));
        let catalogue = none.json["catalogue"].as_array().unwrap();
        assert_eq!(catalogue[0], json!({"name": "Email hours", "unit": "Hour", "max": [3, 6, 8]}));
        assert_eq!(catalogue.len(), 10);

        let first = with(&["Email hours", "Meeting hours"]);
        let absent = Some(("if-none-match", "*"));
        assert_eq!(put(&scene, &host, "", &first, None).await.status, 428);
        let tried = put(&scene, &host, "?dryRun=true", &first, absent).await;
        assert_eq!((tried.status, &tried.json["revision"]), (200, &json!(0)), "{}", tried.json);
        assert_eq!(definitions(&scene, &host).await.etag, None, "a dry run stores nothing");
        let saved = put(&scene, &host, "", &first, absent).await;
        assert_eq!((saved.status, &saved.json["revision"]), (200, &json!(1)), "{}", saved.json);
        assert_eq!(put(&scene, &host, "", &with(&["Call hours"]), absent).await.status, 412);

        let current = definitions(&scene, &host).await;
        assert_eq!(current.etag, saved.etag);
        assert_eq!(current.json["definitions"]["attributes"][1]["name"], "Meeting hours");
        let etag = current.etag.unwrap();
        let fewer = with(&["Email hours"]);
        let tried = put(&scene, &host, "?dryRun=true", &fewer, Some(("if-match", &etag))).await;
        assert!(tried.json["consequences"].to_string().contains("Meeting hours"), "{}", tried.json);
        let saved = put(&scene, &host, "", &fewer, Some(("if-match", &etag))).await;
        assert_eq!((saved.status, &saved.json["revision"]), (200, &json!(2)), "{}", saved.json);
        assert_eq!(put(&scene, &host, "", &first, Some(("if-match", &etag))).await.status, 412);
        assert_eq!(put(&scene, &host, "?dryRun=true", &first, Some(("if-match", &etag))).await.status, 412);

        let tenants = get(&scene, host.url("/api/view/v1/attributes")).await.json;
        let expected = json!({
            "tenantId": scene.tenant.to_string(), "revision": 2, "attributes": 1, "programs": 0, "problems": 0,
            "failing": false, "failedImports": 0
        });
        assert_eq!(tenants["tenants"], json!([expected]));
    }
}

#[tokio::test]
async fn every_mistake_in_definitions_is_reported_and_nothing_is_stored() {
    let scene = Scene::in_a_folder().await;
    let host = scene.host().await;
    let body =
        json!({"version": 1, "attributes": [{"name": "Email hours", "max": [3, 2, 1]}, {"nome": "x"}], "programs": 7});
    let answer = put(&scene, &host, "", &body, Some(("if-none-match", "*"))).await;
    assert_eq!((answer.status, &*answer.content_type), (400, "application/problem+json"));
    assert!(answer.json["errors"].as_array().unwrap().len() >= 3, "{}", answer.json);
    assert_eq!(definitions(&scene, &host).await.etag, None);
    let unknown = get(&scene, host.url("/api/view/v1/attributes/00000000-0000-4000-8000-000000000000")).await;
    assert_eq!(unknown.status, 404);
    assert_eq!(put(&scene, &host, "?dryRun=maybe", &body, Some(("if-none-match", "*"))).await.status, 400);
}

#[tokio::test]
async fn an_edit_by_hand_that_is_not_valid_is_noted_beside_the_drops_and_not_discarded_without_a_word() {
    let scene = Scene::in_a_folder().await;
    let host = scene.host().await;
    let saved = put(&scene, &host, "", &with(&["Email hours"]), Some(("if-none-match", "*"))).await;
    assert_eq!(saved.status, 200, "{}", saved.json);
    std::fs::write(scene.state_folder().join(format!("attributes/{}.json", scene.tenant)), "{").unwrap();

    let groups = get(&scene, host.url("/api/view/v1/groups")).await;
    let note = &groups.json["notes"][0];
    assert_eq!((&note["about"], &note["needsPerson"]), (&json!("attributes"), &json!(true)), "{}", groups.json);
    assert_eq!(note["tenantId"], json!(scene.tenant.to_string()));

    let etag = definitions(&scene, &host).await.etag.unwrap();
    let tried = put(&scene, &host, "?dryRun=true", &with(&["Email hours"]), Some(("if-match", &etag))).await;
    let expected = "discards an edit of the stored definitions that is not valid";
    assert_eq!(tried.json["consequences"][0], json!(expected), "{}", tried.json);
}

#[tokio::test]
async fn an_import_record_that_is_not_valid_does_not_hide_the_other_tenants() {
    let mut scene = Scene::in_a_folder().await;
    let other = "00000000-0000-4000-8000-000000000000";
    scene.set("TENANTS", &format!("{},{other}", scene.tenant));
    let host = scene.host().await;
    for tenant in [scene.tenant.to_string(), other.to_owned()] {
        let url = host.url(&format!("/api/manage/v1/attributes/{tenant}"));
        let request = client().put(url).json(&with(&["Email hours"])).header("if-none-match", "*");
        let saved = send(&scene, request).await;
        assert_eq!(saved.status, 200, "{}", saved.json);
    }
    let record = scene.state_folder().join(format!("imports/{other}/tenant.json"));
    assert!(record.exists());
    let cycle = scene.state_folder().join(format!("imports/{other}/cycles/x.json"));
    std::fs::create_dir_all(cycle.parent().unwrap()).unwrap();
    for (record, text) in [(&cycle, "x"), (&record, "x"), (&record, r#"{"version": 1000}"#)] {
        std::fs::write(record, text).unwrap();
        let listed = get(&scene, host.url("/api/view/v1/attributes")).await;
        assert_eq!(listed.status, 200, "{}", listed.json);
        let tenants = listed.json["tenants"].as_array().unwrap();
        let problems = |id: &str| tenants.iter().find(|tenant| tenant["tenantId"] == id).unwrap()["problems"].clone();
        let problems = [problems(&scene.tenant.to_string()), problems(other)];
        assert_eq!((tenants.len(), problems), (2, [json!(0), json!(1)]), "{text}");
        if record == &cycle {
            std::fs::remove_file(&cycle).unwrap();
        }
    }
}
