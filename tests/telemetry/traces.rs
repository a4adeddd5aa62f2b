//! Spans: their trace, their tree, and their links.

use std::time::Duration;

use testkit::receiver::Answer;

use super::scene_with_collector;
use crate::support::{
    host_payloads,
    scene::{ANSWERS_SOON, METADATA, has_ended},
};

#[tokio::test]
async fn the_hosts_trace_is_continued_although_the_host_marks_it_as_not_sampled() {
    let (scene, collector) = scene_with_collector().await;
    let (drop, host) = (scene.drop(20, 1).await, scene.host().await);
    scene.rows_of(&drop).await;
    scene.upload(&drop).await;
    assert_eq!(host.post(&scene.event(&drop, METADATA)).await.status, 200);

    let received = collector.wait_for(|received| received.spans.len() == 3).await;
    let (run, keys, file) = (received.only("run"), received.only("keys"), received.only("file"));
    assert_eq!(run.parent, "00f067aa0ba902b7");
    for span in [run, keys, file] {
        assert_eq!(span.trace, "4bf92f3577b34da6a3ce929d0e0e4736", "{span:?}");
        assert!(!span.is_error, "{span:?}");
    }
    assert_eq!((&keys.parent, &file.parent), (&run.id, &run.id));
    for (name, value) in [
        ("vivadrop.drop.path", drop.path().as_str()),
        ("vivadrop.drop.id", &drop.simulated.copy_activity_id.to_string()),
        ("vivadrop.tenant.id", &scene.tenant.to_string()),
        ("vivadrop.trigger", "event"),
        ("vivadrop.outcome", "completed"),
    ] {
        assert_eq!(run.attributes[name], value);
    }
    assert_eq!(keys.attributes["vivadrop.identified"], "true");
    assert_eq!(file.attributes["vivadrop.file.name"], "part-0.json.gz");
    assert_eq!(file.attributes["vivadrop.file.next_row"], "20");
    assert_eq!(received.resource["service.name"], "vivadrop");
}

#[tokio::test]
async fn without_a_valid_header_a_new_trace_begins() {
    let (scene, collector) = scene_with_collector().await;
    let host = scene.host().await;
    for (number, header) in [None, Some("no trace"), Some("00-0-0-00")].into_iter().enumerate() {
        let drop = scene.drop(5, 1).await;
        scene.upload(&drop).await;
        assert_eq!(host.post_traced(&scene.event(&drop, METADATA), header).await.status, 200);
        let received = collector.wait_for(|received| received.named("run").len() == number + 1).await;
        let run = received.named("run")[number];
        assert_eq!(run.parent, "");
        assert!(received.spans.iter().filter(|span| span.trace == run.trace).count() >= 2, "{received:#?}");
    }
}

#[tokio::test]
async fn the_runs_of_a_sweep_belong_to_the_trace_of_the_timer() {
    let (scene, collector) = scene_with_collector().await;
    let host = scene.host().await;
    for _ in 0..2 {
        scene.upload(&scene.drop(5, 1).await).await;
    }
    assert_eq!(host.post(&host_payloads::timer_trigger()).await.status, 200);
    let received = collector.wait_for(|received| received.named("run").len() == 2).await;
    for run in received.named("run") {
        assert_eq!((run.parent.as_str(), run.attributes["vivadrop.trigger"].as_str()), ("00f067aa0ba902b7", "sweep"));
    }
}

#[tokio::test]
async fn a_later_run_links_to_the_first() {
    let (mut scene, collector) = scene_with_collector().await;
    scene.set("DEADLINE", ANSWERS_SOON);
    scene.set("DELIVERY_PATIENCE", "1s");
    let (drop, host) = (scene.drop(20, 1).await, scene.host().await);
    scene.upload(&drop).await;
    scene.receiver.answer_always(Answer::status(404));
    assert_eq!(host.post(&scene.event(&drop, METADATA)).await.status, 500);
    let received = collector.wait_for(|received| !received.named("run").is_empty()).await;
    let first = received.only("run").clone();
    assert!(first.is_error);
    assert_eq!((first.attributes["vivadrop.outcome"].as_str(), first.links.as_slice()), ("retrying", &[][..]));

    scene.receiver.answer_always(Answer::Accept);
    assert_eq!(host.post_traced(&scene.event(&drop, METADATA), None).await.status, 200);
    let received = collector.wait_for(|received| received.named("run").len() == 2).await;
    let second = received.named("run")[1];
    assert_eq!(second.links, [("first-run".to_owned(), format!("{}-{}", first.trace, first.id))]);
    assert_ne!(second.trace, first.trace);
    // The first run ended by itself.
    let file = received.named("file")[1];
    assert!(file.links.is_empty() && !file.attributes.contains_key("vivadrop.previous_run.killed"), "{file:?}");
}

#[tokio::test]
async fn the_run_after_a_killed_run_shows_that_and_links_to_it() {
    let (mut scene, collector) = scene_with_collector().await;
    scene.set("BATCH_ROWS", "5");
    scene.set("IN_FLIGHT", "1");
    let (drop, mut host) = (scene.drop(100, 1).await, scene.host().await);
    scene.upload(&drop).await;
    scene.receiver.answer_always(Answer::Accept.after(Duration::from_millis(200)));
    let posted = host.begin_post(scene.event(&drop, METADATA));
    scene.wait_for(|received| received.accepted > 2).await;
    host.kill_and_restart().await;
    assert_eq!(posted.await.unwrap(), None);

    scene.receiver.answer_always(Answer::Accept);
    host.trigger(&scene.event(&drop, METADATA)).await;
    scene.wait_for(|received| has_ended(received, &drop)).await;
    let received = collector.wait_for(|received| !received.named("run").is_empty()).await;
    let (run, file) = (received.only("run"), received.only("file"));
    assert_eq!(run.events, ["the previous run was killed"]);
    assert_eq!(file.attributes["vivadrop.previous_run.killed"], "true");
    assert_eq!(file.attributes["vivadrop.file.attempts"], "2");
    let [(relation, first)] = &run.links[..] else { panic!("{run:?}") };
    assert_eq!(relation, "first-run");
    // The killed run was the first one. Its span was never exported.
    assert_eq!(file.links, [("killed-run".to_owned(), first.clone())]);
}

#[tokio::test]
async fn a_webhook_gets_the_trace_context_only_if_that_is_set() {
    for (setting, is_sent) in [("false", false), ("true", true)] {
        let (mut scene, collector) = scene_with_collector().await;
        scene.set("WEBHOOK_TRACEPARENT", setting);
        let (drop, host) = (scene.drop(5, 1).await, scene.host().await);
        scene.upload(&drop).await;
        assert_eq!(host.post(&scene.event(&drop, METADATA)).await.status, 200);
        let received = collector.wait_for(|received| received.spans.len() == 3).await;
        let (run, file) = (received.only("run"), received.only("file"));
        let log = scene.receiver.received().log;
        let sent: Vec<_> = log
            .iter()
            .map(|delivery| delivery.headers.get("traceparent").map(|value| value.to_str().unwrap()))
            .collect();
        let header = |id: &str| format!("00-{}-{id}-01", run.trace);
        let expected = [header(&file.id), header(&run.id)];
        let expected = expected.each_ref().map(|header| is_sent.then_some(header.as_str()));
        assert_eq!(sent, expected);
    }
}
