//! The export itself: switched off, to a collector that does not work, and when the process stops.

use std::{
    fs,
    net::{Ipv4Addr, TcpListener},
    time::Duration,
};

use axum::http::StatusCode;
use serde_json::Value;
use testkit::receiver::Answer;
use vivadrop::{drop::DropPath, simulate::SimulateOptions};

use super::{export_to, scene_with_collector};
use crate::support::{
    collector::{Behaviour, Collector},
    command::{output_of, vivadrop},
    host::Host,
    host_payloads::blob_trigger,
    scene::{ANSWERS_SOON, METADATA, Scene, assert_complete},
};

/// The names of the threads of the handler.
fn threads(host: &Host) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{}/task", host.process())).unwrap();
    tasks.filter_map(|task| fs::read_to_string(task.unwrap().path().join("comm")).ok()).collect()
}

/// Whether the handler has threads that export telemetry.
fn has_export_threads(host: &Host) -> bool {
    threads(host).iter().any(|name| name.starts_with("OpenTelemetry") || name.starts_with("telemetry"))
}

/// The log lines about the export.
fn export_failures(lines: &[Value]) -> usize {
    lines.iter().filter(|line| line["message"].as_str().unwrap().starts_with("telemetry was not exported")).count()
}

#[tokio::test]
async fn nothing_is_exported_or_recorded_unless_an_endpoint_is_set() {
    for is_disabled in [false, true] {
        let (mut scene, collector) = scene_with_collector().await;
        if is_disabled {
            scene.set("OTEL_SDK_DISABLED", "true");
        } else {
            scene.settings.remove("OTEL_EXPORTER_OTLP_ENDPOINT");
        }
        let (drop, mut host) = (scene.drop(5, 1).await, scene.host().await);
        scene.upload(&drop).await;
        assert_eq!(host.post(&scene.event(&drop, METADATA)).await.status, 200);
        assert!(!has_export_threads(&host), "{:?}", threads(&host));
        // A process exports what is left when it stops.
        host.terminate();
        assert_eq!(host.exit_code(Duration::from_secs(8)).await, Some(0));
        assert_eq!(collector.received().requests, 0);
        for (name, record) in scene.state() {
            let record = String::from_utf8_lossy(&record).to_lowercase();
            assert!(!record.contains("run\":") && !record.contains("4bf92f35"), "{name}: {record}");
        }
    }
}

#[tokio::test]
async fn headers_and_compression_apply_to_every_request() {
    let (mut scene, collector) = scene_with_collector().await;
    scene.set("OTEL_EXPORTER_OTLP_HEADERS", "api-key=k%20hunter2");
    scene.set("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip");
    scene.secrets.add("the API key", "hunter2");
    let (drop, host) = (scene.drop(5, 1).await, scene.host().await);
    assert!(has_export_threads(&host), "{:?}", threads(&host));
    scene.upload(&drop).await;
    assert_eq!(host.post(&scene.event(&drop, METADATA)).await.status, 200);
    let received = collector.wait_for(|received| !received.named("run").is_empty()).await;
    for headers in received.headers {
        assert_eq!(headers["api-key"], "k hunter2");
        assert_eq!(headers["content-encoding"], "gzip");
    }
}

#[tokio::test]
async fn a_collector_that_does_not_work_loses_only_telemetry_and_one_line_is_logged() {
    for behaviour in [
        Some(Behaviour::Hang),
        Some(Behaviour::Reject(StatusCode::UNAUTHORIZED)),
        Some(Behaviour::Reject(StatusCode::SERVICE_UNAVAILABLE)),
        None,
    ] {
        let mut scene = Scene::in_a_folder().await;
        let collector = Collector::start_with(&scene.secrets, behaviour.unwrap_or(Behaviour::Accept)).await;
        export_to(&mut scene, &collector);
        scene.set("OTEL_METRICS_EXPORTER", "none");
        if behaviour.is_none() {
            // Nothing listens there.
            let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
            scene.set("OTEL_EXPORTER_OTLP_ENDPOINT", &format!("http://127.0.0.1:{port}"));
        }
        let mut host = scene.host().await;
        for _ in 0..3 {
            let drop = scene.drop(5, 1).await;
            let rows = scene.rows_of(&drop).await;
            scene.upload(&drop).await;
            assert_eq!(host.post(&scene.event(&drop, METADATA)).await.status, 200);
            assert_complete(&scene.receiver.received(), &drop, &rows);
        }
        host.terminate();
        assert_eq!(host.exit_code(Duration::from_secs(8)).await, Some(0), "{behaviour:?}");
        let lines = host.stop();
        assert_eq!(export_failures(&lines), 1, "{behaviour:?}: {lines:#?}");
    }
}

#[tokio::test]
async fn neither_answers_nor_the_end_of_the_process_wait_for_a_collector_that_hangs() {
    let mut scene = Scene::in_a_folder().await;
    let collector = Collector::start_with(&scene.secrets, Behaviour::Hang).await;
    export_to(&mut scene, &collector);
    scene.set("OTEL_EXPORTER_OTLP_TIMEOUT", "600000");
    let mut host = scene.host().await;
    for _ in 0..3 {
        let drop = scene.drop(5, 1).await;
        scene.upload(&drop).await;
        assert_eq!(host.post(&scene.event(&drop, METADATA)).await.status, 200);
    }
    collector.wait_for(|received| received.requests > 0).await;
    host.terminate();
    assert_eq!(host.exit_code(Duration::from_secs(8)).await, Some(0));
}

#[tokio::test]
async fn the_spans_of_the_last_runs_are_exported_when_the_process_stops() {
    let (mut scene, collector) = scene_with_collector().await;
    let (_drop, mut host, posted) = scene.deliver_slowly(1_000).await;
    scene.wait_for(|received| received.accepted > 0).await;
    host.terminate();
    assert_eq!(posted.await.unwrap().unwrap().status, 500);
    assert_eq!(host.exit_code(Duration::from_secs(8)).await, Some(0));
    // The run was cancelled, so it has no outcome. It ended by itself, so the next run does not take it for killed.
    let run = collector.received().only("run").clone();
    assert!(!run.attributes.contains_key("vivadrop.outcome"), "{run:?}");
    let records = scene.state();
    let (_, record) = records.iter().find(|(name, _)| name.ends_with("files/part-0.json.gz.json")).unwrap();
    assert!(!String::from_utf8_lossy(record).contains("\"run\""));
}

#[tokio::test]
async fn nothing_exported_contains_a_key_a_row_or_a_person() {
    let (mut scene, collector) = scene_with_collector().await;
    for (name, value) in [("DIRECTORY", "both"), ("TELEMETRY_TENANTS", "true"), ("DEADLINE", ANSWERS_SOON)] {
        scene.set(name, value);
    }
    scene.secrets.add("the path of the webhook", scene.receiver.url().path());
    let options = SimulateOptions { users: 60, weeks: 1, directory: true, ..SimulateOptions::default() };
    let (drop, host) = (scene.drop_like(options).await, scene.host().await);
    let directory = DropPath::new(&drop.path.container, drop.path.folder.replace("VivaInsights", "AADUser"));
    for name in ["part-0.json.gz", METADATA] {
        let bytes = fs::read(drop.simulated.directory.as_ref().unwrap().join(name)).unwrap();
        scene.write(&directory, name, bytes).await;
    }
    scene.upload(&drop).await;
    let event = blob_trigger(&scene.address_of(&directory.blob(METADATA)), 1);
    assert_eq!(host.post(&event).await.status, 200);
    // A receiver that rejects everything, and then a file that cannot be decrypted.
    scene.receiver.answer_next(3, Answer::status(404));
    assert_eq!(host.post(&scene.event(&drop, METADATA)).await.status, 500);
    scene.receiver.answer_always(Answer::Accept);
    assert_eq!(host.post(&scene.event(&drop, METADATA)).await.status, 200);
    let damaged = scene.drop(5, 1).await;
    scene.upload(&damaged).await;
    scene.secrets.add("the content of a file", "canary-7f3a");
    scene.write(&damaged.path, "part-0.json.gz", "canary-7f3a").await;
    host.post(&scene.event(&damaged, METADATA)).await;

    let mut people = 0;
    for body in scene.receiver.received().bodies {
        let message: Value = serde_json::from_slice(&body).unwrap();
        for row in message["data"]["rows"].as_array().into_iter().flatten() {
            for value in [&row["ObjectId"], &row["id"], &row["mail"], &row["displayName"], &row["directory"]["mail"]] {
                if let Some(text) = value.as_str() {
                    scene.secrets.add("a value of a row", text);
                    people += 1;
                }
            }
        }
    }
    assert!(people > 100, "{people}");
    // The collector searches what it has received when it is dropped.
    collector.wait_for(|received| received.named("run").len() >= 4 && received.metric_exports >= 2).await;
}

#[tokio::test]
async fn a_command_exports_before_it_ends() {
    let (scene, collector) = scene_with_collector().await;
    let drop = scene.drop(5, 1).await;
    scene.upload(&drop).await;
    let ended = output_of(vivadrop().args(["deliver", &drop.path()]).envs(&scene.settings)).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let run = collector.received().only("run").clone();
    assert_eq!((run.parent.as_str(), run.attributes["vivadrop.trigger"].as_str()), ("", "command"));
}
