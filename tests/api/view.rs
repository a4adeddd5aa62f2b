//! Reading.

use bytes::Bytes;
use reqwest::Method;
use serde_json::{Value, json};
use time::{Duration, OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::time::{sleep, timeout};
use vivadrop::{status::ListCopy, verdict::Reason};

use crate::{
    client, entry, get, ledger, send,
    support::{
        command::{LONG, output_of, vivadrop},
        host_payloads::timer_trigger,
        scene::{METADATA, Scene},
    },
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
async fn a_customer_without_a_key_is_shown_as_such() {
    let mut scene = Scene::in_a_folder().await;
    let other = "00000000-0000-4000-8000-000000000000";
    scene.set("TENANTS", &format!("{},{other}", scene.tenant));
    let drop = scene.drop(20, 1).await;
    scene.upload(&drop).await;
    let swept = output_of(vivadrop().arg("sweep").envs(&scene.settings)).await;
    assert_eq!(swept.code, Some(0), "{}", swept.stderr);
    let host = scene.host().await;
    let current = client().get(host.url("/api/view/v1/customers")).header("cache-control", "no-cache");
    let answer = send(&scene, current).await;
    let [without_key, with_key] = &answer.json["customers"].as_array().unwrap()[..] else { panic!("two customers") };
    assert_eq!((&without_key["tenantId"], &without_key["keyMissing"]), (&json!(other), &json!(true)));
    assert_eq!((&with_key["keyMissing"], &with_key["unregistered"]), (&json!(false), &json!(true)));
    assert!(with_key["lastDrop"]["arrived"].is_string(), "{with_key}");
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
    let answer = get(&scene, host.url("/api/view/v1/plans/%ff")).await;
    assert_eq!((answer.status, &*answer.content_type), (400, "application/problem+json"));
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

/// A copy of the entries in which no drop was set aside.
fn copy_of_completed(scene: &Scene, as_of: OffsetDateTime) -> Bytes {
    let mut copy = ListCopy::new(as_of);
    copy.add_drop(&entry(scene, "run", None, as_of).into());
    copy.finish().unwrap()
}

/// The current time in whole seconds, as answers contain it.
fn this_second() -> OffsetDateTime {
    OffsetDateTime::now_utc().replace_nanosecond(0).unwrap()
}

/// When the ledger was read, and the state of the only drop.
fn facts(answer: &Value) -> (OffsetDateTime, &str) {
    let as_of = OffsetDateTime::parse(answer["asOf"].as_str().unwrap(), &Rfc3339).unwrap();
    (as_of, answer["drops"][0]["state"].as_str().unwrap())
}

#[tokio::test]
async fn the_first_answer_may_be_older_and_says_so_and_the_current_state_can_be_asked_for() {
    let mut scene = Scene::in_a_folder().await;
    scene.set("TENANTS", &scene.tenant.to_string());
    let now = this_second();
    let (ledger, old) = (ledger(&scene), now - Duration::hours(1));
    ledger.write_list_copy(copy_of_completed(&scene, old)).await.unwrap();
    ledger.write_list_entry(&entry(&scene, "run", Some(Reason::Damaged), now)).await.unwrap();

    let host = scene.host().await;
    let url = host.url("/api/view/v1/drops");
    let first = get(&scene, url.clone()).await.json;
    assert_eq!(facts(&first), (old, "completed"));
    let current = client().request(Method::GET, url.clone()).header("cache-control", "no-cache");
    let current = send(&scene, current).await.json;
    assert!(facts(&current).0 >= now && facts(&current).1 == "set-aside", "{current}");
    let next = get(&scene, url).await.json;
    assert_eq!(facts(&next), facts(&current));
}

#[tokio::test]
async fn a_plan_is_made_from_the_current_state() {
    let mut scene = Scene::in_a_folder().await;
    scene.set("TENANTS", &scene.tenant.to_string());
    let (ledger, now) = (ledger(&scene), this_second());
    ledger.write_list_copy(copy_of_completed(&scene, now)).await.unwrap();
    ledger.write_list_entry(&entry(&scene, "run", Some(Reason::Damaged), now)).await.unwrap();

    let host = scene.host().await;
    let first = get(&scene, host.url("/api/view/v1/drops")).await.json;
    assert_eq!(facts(&first).1, "completed");
    let plan = client().request(Method::POST, host.url("/api/manage/v1/plans")).json(&json!({"state": "set-aside"}));
    let plan = send(&scene, plan).await;
    assert_eq!((plan.status, &plan.json["drops"][0]["path"]), (201, &json!("datasets/run")), "{}", plan.json);
}

#[tokio::test]
async fn a_copy_that_is_old_or_damaged_or_from_the_future_is_ignored() {
    let scene = Scene::in_a_folder().await;
    let (ledger, now) = (ledger(&scene), OffsetDateTime::now_utc());
    ledger.write_list_entry(&entry(&scene, "run", Some(Reason::Damaged), now)).await.unwrap();
    let copies = [
        copy_of_completed(&scene, now - Duration::hours(2)),
        copy_of_completed(&scene, now + Duration::HOUR),
        copy_of_completed(&scene, now).slice(..40),
        Bytes::from_static(b"{}"),
    ];
    for copy in copies {
        ledger.write_list_copy(copy).await.unwrap();
        let host = scene.host().await;
        let drops = get(&scene, host.url("/api/view/v1/drops")).await.json;
        assert_eq!(facts(&drops).1, "set-aside");
    }
}

#[tokio::test]
async fn a_sweep_and_a_view_store_the_copy_for_the_next_process() {
    let scene = Scene::on_azurite().await;
    let drop = scene.drop(40, 2).await;
    scene.rows_of(&drop).await;
    scene.upload(&drop).await;
    let ledger = ledger(&scene);
    let host = scene.host().await;
    host.trigger(&scene.event(&drop, METADATA)).await;
    assert!(ledger.read_list_copy().await.unwrap().is_none());
    host.post(&timer_trigger()).await;
    ledger.read_list_copy().await.unwrap().expect("the sweep has stored a copy");
    let damaged = Bytes::from_static(b"{}");
    ledger.write_list_copy(damaged.clone()).await.unwrap();
    let next = scene.host().await;
    let first = get(&scene, next.url("/api/view/v1/drops")).await.json;
    assert_eq!(facts(&first).1, "completed");
    let has_replaced_copy = async {
        while ledger.read_list_copy().await.unwrap() == Some(damaged.clone()) {
            sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    timeout(LONG, has_replaced_copy).await.expect("the view stores a copy");
}

#[tokio::test]
async fn a_web_page_whose_name_resolves_to_this_machine_gets_no_data() {
    let scene = Scene::in_a_folder().await;
    let host = scene.host().await;
    let drops = host.url("/api/view/v1/drops");
    let own = drops.split('/').nth(2).unwrap().to_owned();
    let port = own.rsplit_once(':').unwrap().1;
    let status = async |name: &str| send(&scene, client().get(&drops).header("host", name)).await.status;
    assert_eq!(status(&format!("attacker.example:{port}")).await, 403);
    assert_eq!(status(&own).await, 200);
    assert_eq!(status(&format!("localhost:{port}")).await, 200);
    // The Functions host passes on the name by which it was called.
    for name in ["vivadrop.azurewebsites.net", "localhost:7071", "operations.example.com:8443"] {
        assert_eq!(status(name).await, 200, "{name}");
    }
}
