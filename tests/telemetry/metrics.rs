//! Metrics: their names, units and attributes as documented, their values, and when they are exported.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    time::{Duration, Instant},
};

use testkit::receiver::Answer;
use vivadrop::store::{BlobPath, WriteIf};

use super::{export_to, scene_with_collector};
use crate::support::{
    collector::{Collector, Received, ReceivedMetric},
    host_payloads,
    scene::{ANSWERS_SOON, METADATA, Scene},
};

/// The longest time between an invocation and the export of its metrics, in seconds.
const EXPORTED_WITHIN: u64 = 10;

/// A metric as `docs/telemetry.md` lists it, or as it was exported: its unit and its attributes.
type Listed = BTreeMap<String, (String, BTreeSet<String>)>;

/// The metrics in the table of `docs/telemetry.md`.
fn documented() -> Listed {
    let text = fs::read_to_string("docs/telemetry.md").unwrap();
    let (_, section) = text.split_once("\n## Metrics\n").unwrap();
    let section = section.split("\n## ").next().unwrap();
    let in_backticks = |cell: &str| cell.split('`').skip(1).step_by(2).map(ToOwned::to_owned).collect::<Vec<_>>();
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| {
        let cells: Vec<_> = row.trim_matches('|').split('|').collect();
        let [name, _kind, unit, _meaning, attributes] = cells[..] else { panic!("{row}") };
        // Values of an attribute are in parentheses.
        let names: String = attributes.split('(').map(|part| part.split(')').next_back().unwrap()).collect();
        (in_backticks(name).remove(0), (in_backticks(unit).remove(0), in_backticks(&names).into_iter().collect()))
    })
    .collect()
}

/// The metrics that the collector has received.
fn exported(received: &Received) -> Listed {
    let listed = |(name, metric): (&String, &ReceivedMetric)| {
        let attributes = metric.series.keys().flat_map(|attributes| attributes.keys().cloned()).collect();
        (name.clone(), (metric.unit.clone(), attributes))
    };
    received.metrics.iter().map(listed).collect()
}

/// The value of the only series of `metric` with these attributes.
fn value(received: &Received, metric: &str, attributes: &[(&str, &str)]) -> Option<f64> {
    let attributes = attributes.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    received.metrics.get(metric)?.series.get(&attributes).copied()
}

/// Records when the key of the scene's tenant expires: in a year.
async fn register_key(scene: &Scene) {
    let expires = time::OffsetDateTime::now_utc() + time::Duration::days(365);
    let expires = expires.format(&time::format_description::well_known::Rfc3339).unwrap();
    let record = format!(
        r#"{{"version": 1, "api": "https://api.example", "keyVersion": "", "thumbprint": "", "keyExpires": "{expires}"}}"#
    );
    let path = BlobPath::new("vivadrop-state", format!("tenants/{}.json", scene.tenant));
    scene.store.write(&path, record.into(), WriteIf::Always).await.unwrap();
}

#[tokio::test]
async fn every_metric_and_attribute_is_documented_and_exported() {
    let (mut scene, collector) = scene_with_collector().await;
    scene.set("TELEMETRY_TENANTS", "true");
    scene.set("BAD_ROWS_ALLOWED", "1");
    scene.set("ALLOW_PLAINTEXT", "true");
    let (complete, damaged, host) = (scene.drop(20, 1).await, scene.drop(20, 1).await, scene.host().await);
    scene.rows_of(&complete).await;
    register_key(&scene).await;
    for drop in [&complete, &damaged] {
        scene.upload(drop).await;
    }
    scene.write(&damaged.path, "part-0.json.gz", "not a row\nnor this\n").await;
    scene.receiver.answer_next(1, Answer::status(503));
    for drop in [&complete, &damaged] {
        assert_eq!(host.post(&scene.event(drop, METADATA)).await.status, 200);
    }
    assert_eq!(host.post(&host_payloads::timer_trigger()).await.status, 200);
    // A row that is bad, in a drop that is delivered.
    let plain = scene.drop(2, 1).await;
    scene.upload(&plain).await;
    scene.write(&plain.path, "part-0.json.gz", "{\"MetricDate\":\"x\"}\nnot a row\n").await;
    assert_eq!(host.post(&scene.event(&plain, METADATA)).await.status, 200);

    let tenant = scene.tenant.to_string();
    let bad_rows = [("vivadrop.outcome", "bad"), ("vivadrop.tenant.id", tenant.as_str())];
    let received = collector.wait_for(|received| value(received, "vivadrop.rows", &bad_rows).is_some()).await;
    assert_eq!(exported(&received), documented());
    assert!(received.metrics["vivadrop.key.expiry"].series.keys().all(|of| of["vivadrop.tenant.id"] == tenant));
    let left = received.metrics["vivadrop.key.expiry"].series.values().next().unwrap() / 86_400.0;
    assert!((364.0..366.0).contains(&left), "{left} days");
    let bounds = &received.metrics["vivadrop.delivery.duration"].bounds;
    assert_eq!((bounds.first(), bounds.last()), (Some(&0.05), Some(&240.0)));
}

#[tokio::test]
async fn rows_messages_and_drops_are_counted_without_tenant_ids() {
    let (mut scene, collector) = scene_with_collector().await;
    scene.set("BATCH_ROWS", "5");
    scene.set("DEADLINE", ANSWERS_SOON);
    let (drop, host) = (scene.drop(20, 2).await, scene.host().await);
    scene.upload(&drop).await;
    for _ in 0..3 {
        // The events after the first one have nothing to do, and count nothing.
        assert_eq!(host.post(&scene.event(&drop, METADATA)).await.status, 200);
    }
    let rejected = scene.drop(5, 1).await;
    scene.upload(&rejected).await;
    scene.receiver.answer_always(Answer::status(404));
    assert_eq!(host.post(&scene.event(&rejected, METADATA)).await.status, 500);

    let outcome = |outcome| [("vivadrop.outcome", outcome)];
    let received =
        collector.wait_for(|received| value(received, "vivadrop.drops", &outcome("retrying")).is_some()).await;
    assert_eq!(value(&received, "vivadrop.rows", &outcome("delivered")), Some(20.0));
    assert_eq!(value(&received, "vivadrop.drops", &outcome("completed")), Some(1.0));
    assert_eq!(value(&received, "vivadrop.drop.age", &outcome("completed")), Some(1.0));
    for (kind, result, count) in [
        ("viva.insights.rows", "delivered", 4.0),
        ("viva.insights.drop.completed", "delivered", 1.0),
        ("viva.insights.rows", "misconfigured", 1.0),
    ] {
        let attributes = [("vivadrop.message.type", kind), ("vivadrop.outcome", result)];
        assert_eq!(value(&received, "vivadrop.messages", &attributes), Some(count), "{kind} {result}");
    }
    assert!(value(&received, "vivadrop.bytes", &[("vivadrop.direction", "read")]).unwrap() > 100.0);
    let attributes: BTreeSet<_> =
        exported(&received).into_values().flat_map(|(_unit, attributes)| attributes).collect();
    assert!(!attributes.contains("vivadrop.tenant.id"), "{attributes:?}");
    assert!(!received.metrics.contains_key("vivadrop.unfinished"), "there was no sweep");
}

#[tokio::test]
async fn requests_to_the_storage_account_are_measured() {
    let mut scene = Scene::on_azurite().await;
    let collector = Collector::start(&scene.secrets).await;
    export_to(&mut scene, &collector);
    let (drop, host) = (scene.drop(5, 1).await, scene.host().await);
    scene.rows_of(&drop).await;
    scene.upload(&drop).await;
    assert_eq!(host.post(&scene.event(&drop, METADATA)).await.status, 200);
    let received = collector.wait_for(|received| received.metrics.contains_key("vivadrop.drops")).await;
    let requests = received.metrics["http.client.request.duration"].series.keys();
    let requests: BTreeSet<_> =
        requests.map(|of| (of["http.request.method"].as_str(), of["http.response.status_code"].as_str())).collect();
    for (method, status) in [("GET", "200"), ("GET", "206"), ("PUT", "201")] {
        assert!(requests.contains(&(method, status)), "{requests:?}");
    }
}

#[tokio::test]
async fn the_number_of_unfinished_drops_is_that_of_the_last_sweep() {
    let (mut scene, collector) = scene_with_collector().await;
    scene.set("DEADLINE", ANSWERS_SOON);
    let (drop, mut host) = (scene.drop(20, 1).await, scene.host().await);
    scene.upload(&drop).await;
    scene.receiver.answer_always(Answer::status(404));
    assert_eq!(host.post(&scene.event(&drop, METADATA)).await.status, 500);
    assert_eq!(host.post(&host_payloads::timer_trigger()).await.status, 200);
    let unfinished = |received: &Received| value(received, "vivadrop.unfinished", &[]);
    assert_eq!(unfinished(&collector.wait_for(|received| unfinished(received).is_some()).await), Some(1.0));

    scene.receiver.answer_always(Answer::Accept);
    assert_eq!(host.post(&scene.event(&drop, METADATA)).await.status, 200);
    assert_eq!(host.post(&host_payloads::timer_trigger()).await.status, 200);
    host.terminate();
    assert_eq!(host.exit_code(Duration::from_secs(8)).await, Some(0));
    assert_eq!(unfinished(&collector.received()), Some(0.0));
}

#[tokio::test]
async fn the_exports_of_many_invocations_are_coalesced() {
    let (scene, collector) = scene_with_collector().await;
    let (drop, mut host, started) = (scene.drop(5, 1).await, scene.host().await, Instant::now());
    scene.upload(&drop).await;
    for _ in 0..20 {
        assert_eq!(host.post(&scene.event(&drop, METADATA)).await.status, 200);
    }
    host.terminate();
    assert_eq!(host.exit_code(Duration::from_secs(8)).await, Some(0));
    let exports = collector.received().metric_exports as u64;
    // The first one, one more for each interval, and the last one.
    assert!(exports <= 2 + started.elapsed().as_secs() / EXPORTED_WITHIN, "{exports} exports");
}
