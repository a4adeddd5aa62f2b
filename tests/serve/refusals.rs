//! Drops and events that are not ours: refused and answered 2xx, before anything is read, requested or delivered.

use reqwest::Method;
use serde_json::Value;
use vivadrop::{
    drop::{DropPath, TenantId},
    simulate::SimulateOptions,
};

use crate::support::{
    azurite::{self, ACCOUNT},
    gateway::{Behaviour, Gateway},
    host_payloads::{blob_trigger, cloud_event, event_grid_trigger},
    scene::{METADATA, Scene, assert_complete},
    vectors,
};

/// The messages of all warnings in a log.
fn warnings(log: &[Value]) -> Vec<&str> {
    log.iter().filter(|line| line["level"] == "WARN").map(|line| line["message"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_drop_of_another_tenant_is_refused() {
    let mut scene = Scene::on_azurite().await;
    let (other_tenant, unknown_tenant) = (TenantId(uuid::Uuid::new_v4()), TenantId(uuid::Uuid::new_v4()));
    scene.set("TENANTS", &format!("{},{other_tenant}", scene.tenant));
    scene.add_private_key(other_tenant, &vectors::case("encrypted-ctr").private_key());
    let host = scene.host().await;

    let of = |tenant| SimulateOptions { users: 5, weeks: 1, tenant: Some(tenant), ..SimulateOptions::default() };
    let unknown = scene.drop_like(of(unknown_tenant)).await;
    let mut spoofed = scene.drop(5, 1).await;
    spoofed.path = DropPath::new(&scene.container, format!("run/VivaInsights/{other_tenant}"));
    let mut inside = scene.drop_like(of(other_tenant)).await;
    inside.path = DropPath::new(&scene.container, format!("run/{}/x/{other_tenant}", scene.tenant));
    let mut nowhere = scene.drop(5, 1).await;
    nowhere.path = DropPath::new(&scene.container, "run/VivaInsights");

    for drop in [&unknown, &spoofed, &inside, &nowhere] {
        scene.upload(drop).await;
        for name in drop.names() {
            let answer = host.post(&scene.event(drop, &name)).await;
            assert_eq!(answer.status, 200);
            assert!(answer.log.starts_with("did not admit"), "{}", answer.log);
        }
    }
    assert_eq!((scene.receiver.received().requests, scene.api.requests()), (0, 0));
    assert_eq!(warnings(&host.stop()).len(), 4, "one warning per drop");
}

/// A customer with a SAS URL for the whole container could make blobs there unreadable.
#[tokio::test]
async fn an_event_outside_of_every_tenants_place_is_not_held_although_its_metadata_cannot_be_read() {
    let azurite = azurite::shared();
    let gateway = Gateway::before_blobs(azurite).await;
    let mut scene = Scene::on(azurite, &gateway.endpoint(&azurite.blob_endpoint())).await;
    scene.set("TENANTS", &format!("{}={}/prefix", scene.tenant, scene.container));
    let mut drop = scene.drop(5, 1).await;
    drop.path = DropPath::new(&scene.container, "elsewhere");
    scene.upload(&drop).await;
    let host = scene.host().await;
    gateway.answer_by(|method, uri| {
        let is_metadata = method == Method::GET && uri.path().ends_with("Metadata.json");
        if is_metadata { Behaviour::Status(409, "BlobArchived", None) } else { Behaviour::Forward }
    });
    let answer = host.post(&scene.event(&drop, METADATA)).await;
    assert_eq!(answer.status, 200);
    assert!(answer.log.starts_with("did not admit"), "{}", answer.log);
}

#[tokio::test]
async fn a_request_that_a_web_page_makes_a_browser_send_is_rejected() {
    let scene = Scene::on_azurite().await;
    let (drop, host) = (scene.drop(5, 1).await, scene.host().await);
    scene.upload(&drop).await;
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let post = async |name: &str, value: &str| {
        let request = client.post(host.url("/function")).header(name, value);
        request.body(scene.event(&drop, METADATA).to_string()).send().await.unwrap().status()
    };
    assert_eq!(post("origin", "https://attacker.example").await, 403);
    assert_eq!(post("host", "attacker.example").await, 403);
    assert_eq!(scene.receiver.received().requests, 0);
    assert_eq!(post("content-type", "application/json").await, 200);
}

#[tokio::test]
async fn a_url_outside_the_watched_container_is_refused() {
    let scene = Scene::on_azurite().await;
    let (drop, host) = (scene.drop(5, 1).await, scene.host().await);
    let rows = scene.rows_of(&drop).await;
    scene.upload(&drop).await;
    let ours = scene.url(&drop, METADATA);
    let (start, blob) = ours.split_at(ours.find(&scene.container).unwrap());
    let in_container = &blob[scene.container.len()..];
    let foreign = [
        format!("https://{ACCOUNT}.blob.core.windows.net/{blob}"),
        format!("https://{ACCOUNT}.dfs.core.windows.net/{blob}"),
        ours.replace("127.0.0.1", "127.0.0.2"),
        ours.replace("127.0.0.1", "127.0.0.1.example.com"),
        ours.replace("127.0.0.1", "127.0.0.1@example.com"),
        ours.replace("127.0.0.1", "example.com:80@127.0.0.1"),
        ours.replace(ACCOUNT, "devstoreaccount2"),
        ours.replace(":", "%3A"),
        format!("{start}other{in_container}"),
        format!("{start}{}x{in_container}", scene.container),
        format!("{start}other/../{blob}"),
        format!("{start}other/%2e%2e/{blob}"),
        format!("{start}other/%2E./{blob}"),
        format!("{start}other/..%2f{blob}"),
        format!("{start}{}/../{blob}", scene.container),
        format!("{start}{}/x/%2e%2e{in_container}", scene.container),
        format!("{start}/{blob}"),
        format!("file:///{blob}"),
        format!("/{blob}"),
        format!("https://example.com/{blob}?sv=2024&sig=secret"),
        blob.to_owned(),
        String::from("not a URL"),
    ];
    for url in &foreign {
        for event in [blob_trigger(url, 1), event_grid_trigger(&cloud_event(url, "PutBlob"))] {
            let answer = host.post(&event).await;
            assert_eq!(answer.status, 200, "{url}");
            assert!(answer.log.starts_with("did not admit"), "{url}: {}", answer.log);
        }
    }
    assert_eq!((scene.receiver.received().requests, scene.api.requests()), (0, 0));

    assert_eq!(host.post(&blob_trigger(&format!("{ours}?sv=2024&sig=secret"), 1)).await.status, 200);
    assert_complete(&scene.receiver.received(), &drop, &rows);
    assert_eq!(warnings(&host.stop()).len(), 2 * foreign.len());
}

#[tokio::test]
async fn events_of_the_state_container_are_ignored_silently() {
    let scene = Scene::on_azurite().await;
    let (drop, host) = (scene.drop(5, 1).await, scene.host().await);
    let state = &scene.settings["STATE_CONTAINER"];
    for name in [format!("drops/{}/drop.json", drop.path()), METADATA.into(), format!("{}/{METADATA}", scene.tenant)] {
        let path = DropPath::new(state, "");
        scene.write(&path, &name, std::fs::read(drop.simulated.drop.join(METADATA)).unwrap()).await;
        let url = scene.address_of(&path.blob(&name));
        for event in [blob_trigger(&url, 1), event_grid_trigger(&cloud_event(&url, "PutBlob"))] {
            let answer = host.post(&event).await;
            assert_eq!((answer.status, &*answer.log), (200, "nothing to do"));
        }
    }
    assert_eq!((scene.receiver.received().requests, scene.api.requests()), (0, 0));
    let log = host.stop();
    assert_eq!(log.len(), 1, "only the line that it listens: {log:?}");
}

#[tokio::test]
async fn other_blobs_in_and_around_a_drop_are_ignored() {
    let scene = Scene::on_azurite().await;
    let (drop, host) = (scene.drop(5, 1).await, scene.host().await);
    let rows = scene.rows_of(&drop).await;
    scene.upload(&drop).await;
    for name in ["_SUCCESS", "_temporary/0/part-1.json.gz", ".part-0.json.gz.crc", "metadata/UserMetadata/x.json"] {
        scene.write(&drop.path, name, "not a row").await;
    }
    scene.write(&drop.path, "part-9.json.gz", "").await;
    let outside = DropPath::new(&scene.container, "");
    scene.write(&outside, "elsewhere/part-0.json.gz", "not part of a drop").await;
    let answer = host.post(&blob_trigger(&scene.address_of(&outside.blob("elsewhere/part-0.json.gz")), 1)).await;
    assert_eq!((answer.status, scene.receiver.received().requests), (200, 0));
    for name in
        ["_SUCCESS", "_temporary/0/part-1.json.gz", "metadata/UserMetadata/x.json", "part-9.json.gz", "gone.json"]
    {
        assert_eq!(host.post(&scene.event(&drop, name)).await.status, 200, "{name}");
    }
    assert_complete(&scene.receiver.received(), &drop, &rows);
}
