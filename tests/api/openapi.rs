//! The OpenAPI document.

use std::{fs, path::Path};

use serde_json::Value;
use vivadrop::api::openapi::document;

use crate::{get, support::scene::Scene};

#[tokio::test]
async fn the_document_is_served_and_is_the_one_in_the_repository() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("schema/openapi.v1.json");
    if fs::read_to_string(&path).unwrap_or_default() != document() {
        fs::write(&path, document()).unwrap();
        panic!("the API has changed: schema/openapi.v1.json was written again; compare it and commit it");
    }
    let scene = Scene::in_a_folder().await;
    let host = scene.host().await;
    let served = get(&scene, host.url("/api/view/v1/openapi.json")).await;
    assert_eq!(served.json, serde_json::from_str::<Value>(&document()).unwrap());
}

#[test]
fn view_only_reads_and_every_operation_has_a_description_and_a_problem() {
    let document: Value = serde_json::from_str(&document()).unwrap();
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            assert!(!path.starts_with("/api/view/") || method == "get", "{method} {path}");
            assert!(operation["summary"].is_string(), "{method} {path}");
            let problem = &operation["responses"]["503"]["content"];
            assert!(problem["application/problem+json"].is_object(), "{method} {path}");
        }
    }
}
