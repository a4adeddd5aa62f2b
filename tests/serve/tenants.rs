//! Settings per tenant.

use secrecy::ExposeSecret;
use serde_json::{Value, json};
use testkit::receiver::{Options, Receiver};
use vivadrop::{drop::TenantId, simulate::SimulateOptions};

use crate::support::{
    scene::{METADATA, Scene, assert_complete},
    vectors,
};

#[tokio::test]
async fn a_tenant_may_have_its_own_webhook_secret_columns_and_limits() {
    let mut scene = Scene::on_azurite().await;
    let other = TenantId(uuid::Uuid::new_v4());
    scene.add_private_key(other, &vectors::case("encrypted-ctr").private_key());
    let receiver = Receiver::start(Options::default()).await.unwrap();
    let own = json!({
        "DELIVER_TO": receiver.url().as_str(),
        "WEBHOOK_SECRET": receiver.secret().expose_secret(),
        "ROW_COLUMNS": "ObjectId,MetricDate",
        "BATCH_ROWS": 4,
    });
    let tenants = tempfile::NamedTempFile::new().unwrap();
    let text = json!({scene.tenant.to_string(): {}, other.to_string(): own}).to_string();
    std::fs::write(tenants.path(), text).unwrap();
    scene.set("TENANTS", &format!("@{}", tenants.path().display()));
    let options = SimulateOptions { users: 30, weeks: 1, tenant: Some(other), ..SimulateOptions::default() };
    let (common, own) = (scene.drop(30, 1).await, scene.drop_like(options).await);
    let host = scene.host().await;
    for drop in [&common, &own] {
        scene.upload(drop).await;
        let answer = host.post(&scene.event(drop, METADATA)).await;
        assert_eq!(answer.status, 200, "{}", answer.log);
    }

    assert_complete(&scene.receiver.received(), &common, &scene.rows_of(&common).await);
    assert!(!scene.receiver.received().drops.contains_key(&own.path()));
    let received = receiver.received();
    let rows: Vec<String> = scene.rows_of(&own).await.iter().map(|row| two_columns(row)).collect();
    assert_complete(&received, &own, &rows);
    assert_eq!(received.drops.len(), 1);
    assert!(received.log.iter().filter_map(|delivery| delivery.rows).all(|(first, end)| end - first <= 4));
}

/// The columns `ObjectId` and `MetricDate` of a row.
fn two_columns(row: &str) -> String {
    let row: Value = serde_json::from_str(row).unwrap();
    format!(r#"{{"ObjectId":{},"MetricDate":{}}}"#, row["ObjectId"], row["MetricDate"])
}

#[tokio::test]
async fn a_tenant_without_its_own_destination_uses_the_common_one() {
    let mut scene = Scene::on_azurite().await;
    scene.set("TENANTS", &json!({scene.tenant.to_string(): {"IN_FLIGHT": 1}}).to_string());
    let (drop, host) = (scene.drop(30, 1).await, scene.host().await);
    scene.upload(&drop).await;
    assert_eq!(host.post(&scene.event(&drop, METADATA)).await.status, 200);
    assert_complete(&scene.receiver.received(), &drop, &scene.rows_of(&drop).await);
}
