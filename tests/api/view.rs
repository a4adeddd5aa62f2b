//! Reading.

use serde_json::json;
use time::{Duration, OffsetDateTime};
use vivadrop::verdict::Reason;

use crate::{
    client, entry, get, ledger,
    support::scene::{METADATA, Scene},
};

#[tokio::test]
async fn drops_are_listed_page_by_page_and_filtered() {
    let scene = Scene::in_a_folder().await;
    let (ledger, now) = (ledger(&scene), OffsetDateTime::now_utc());
    for number in 0..7 {
        let reason = (number % 3 == 0).then_some(Reason::Damaged);
        let entry = entry(&scene, &format!("run-{number}"), reason, now - Duration::hours(number));
        ledger.write_list_entry(&entry).await.unwrap();
    }
    let host = scene.host().await;
    let mut paths = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = get(&scene, host.url(&format!("/api/view/v1/drops?limit=3{cursor}"))).await;
        assert_eq!(page.status, 200, "{}", page.json);
        let drops = page.json["drops"].as_array().unwrap();
        paths.extend(drops.iter().map(|drop| drop["path"].as_str().unwrap().to_owned()));
        match page.json["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(paths, (0..7).map(|number| format!("datasets/run-{number}")).collect::<Vec<_>>());

    let filter = "state=set-aside&reason=damaged&since=4h";
    let filtered = get(&scene, host.url(&format!("/api/view/v1/drops?{filter}&tenant={}", scene.tenant))).await;
    let shown: Vec<_> = filtered.json["drops"].as_array().unwrap().iter().map(|drop| drop["path"].clone()).collect();
    assert_eq!(shown, ["datasets/run-0", "datasets/run-3"]);

    let groups = get(&scene, host.url("/api/view/v1/groups")).await.json;
    let [group] = &groups["groups"].as_array().unwrap()[..] else { panic!("{groups}") };
    assert_eq!(
        (&group["drops"], &group["rowsDelivered"], &group["reason"]),
        (&json!(3), &json!(30), &json!("damaged"))
    );

    let weeks = get(&scene, host.url("/api/view/v1/weeks?weeks=2")).await.json;
    let cells = weeks["tenants"][0]["cells"].as_array().unwrap();
    let count = |state: &str| cells.iter().map(|cell| cell[state].as_u64().unwrap()).sum::<u64>();
    assert_eq!((weeks["weeks"].as_array().unwrap().len(), count("completed"), count("setAside")), (2, 4, 3));
}

#[tokio::test]
async fn what_was_delivered_can_be_seen_and_no_answer_contains_a_value_of_a_row() {
    let scene = Scene::on_azurite().await;
    let drop = scene.drop(40, 2).await;
    scene.rows_of(&drop).await;
    scene.upload(&drop).await;
    let host = scene.host().await;
    host.trigger(&scene.event(&drop, METADATA)).await;
    let path: String = url::form_urlencoded::byte_serialize(drop.path().as_bytes()).collect();
    let answer = get(&scene, host.url(&format!("/api/view/v1/drop?path={path}"))).await;
    assert_eq!(answer.status, 200, "{}", answer.json);
    assert_eq!((&answer.json["drop"]["state"], &answer.json["drop"]["rows"]), (&json!("completed"), &json!(40)));
    let files = answer.json["drop"]["fileList"].as_array().unwrap();
    assert_eq!(files.iter().map(|file| &file["nextRow"]).collect::<Vec<_>>(), [20, 20]);
    for resource in ["drops", "groups", "weeks", "customers", "replays"] {
        let answer = get(&scene, host.url(&format!("/api/view/v1/{resource}"))).await;
        assert_eq!((answer.status, answer.json["asOf"].is_string()), (200, true), "{resource}: {}", answer.json);
    }
    let customers = get(&scene, host.url("/api/view/v1/customers")).await.json;
    assert_eq!(customers["customers"][0]["lastDrop"]["path"], drop.path());
}

#[tokio::test]
async fn every_mistake_of_a_request_is_named_as_a_problem() {
    let scene = Scene::in_a_folder().await;
    let host = scene.host().await;
    let answer = get(&scene, host.url("/api/view/v1/drops?limit=0&state=fine&sort=x&cursor=!")).await;
    assert_eq!((answer.status, &*answer.content_type), (400, "application/problem+json"));
    let fields: Vec<_> = answer.json["errors"].as_array().unwrap().iter().map(|error| error["field"].clone()).collect();
    assert_eq!(fields, ["state", "limit", "cursor", "sort"]);
    let answer = get(&scene, host.url("/api/view/v1/drop?path=datasets/none")).await;
    assert_eq!((answer.status, &answer.json["title"]), (404, &json!("Not Found")));
    assert_eq!(get(&scene, host.url("/api/view/v1/nothing")).await.status, 404);
    // The host accepts its key in the query, too.
    assert_eq!(get(&scene, host.url("/api/view/v1/drops?code=key")).await.status, 200);
}

#[tokio::test]
async fn view_and_page_only_read() {
    let scene = Scene::in_a_folder().await;
    let host = scene.host().await;
    for path in ["/api/view/v1/drops", "/api/view/v1/groups", "/api/page"] {
        assert_eq!(client().head(host.url(path)).send().await.unwrap().status(), 200, "{path}");
        for method in [reqwest::Method::PUT, reqwest::Method::DELETE, reqwest::Method::PATCH] {
            let answer = client().request(method.clone(), host.url(path)).send().await.unwrap();
            assert_eq!(answer.status(), 405, "{method} {path}");
            assert!(answer.headers()["allow"].to_str().unwrap().contains("GET"));
        }
    }
    let answer = client().post(host.url("/api/view/v1/drops")).body("{}").send().await.unwrap();
    assert_eq!(answer.status(), 405);
}
