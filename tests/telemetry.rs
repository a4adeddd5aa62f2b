//! The export of traces and metrics by the built binary, to a collector that decodes OTLP with the official
//! definitions.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod support;

#[path = "telemetry/export.rs"]
mod export;
#[path = "telemetry/metrics.rs"]
mod metrics;
#[path = "telemetry/traces.rs"]
mod traces;

use crate::support::{collector::Collector, scene::Scene};

/// Lets `scene` export to `collector`.
fn export_to(scene: &mut Scene, collector: &Collector) {
    scene.set("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.endpoint());
}

/// A scene whose settings name a collector.
async fn scene_with_collector() -> (Scene, Collector) {
    let mut scene = Scene::in_a_folder().await;
    let collector = Collector::start(&scene.secrets).await;
    export_to(&mut scene, &collector);
    (scene, collector)
}
