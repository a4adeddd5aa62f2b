//! Receivers that are slow, fail, reject messages or are down.

use std::time::Duration;

use axum::http::header::CONTENT_ENCODING;
use serde_json::Value;
use testkit::receiver::Answer;

use crate::support::{
    command::{output_of, vivadrop},
    host::Host,
    scene::{ANSWERS_SOON, METADATA, Scene, SimulatedDrop, assert_complete},
};

/// Sets up a drop of 40 rows that is delivered in batches of 5. Returns its rows and a host, too.
async fn set_up(change: impl FnOnce(&mut Scene)) -> (Scene, SimulatedDrop, Vec<String>, Host) {
    let mut scene = Scene::on_azurite().await;
    scene.set("BATCH_ROWS", "5");
    scene.set("DELIVER_TO", &format!("{}?code=receivers-code", scene.receiver.url()));
    scene.secrets.add("the receiver's code", "receivers-code");
    change(&mut scene);
    let (drop, host) = (scene.drop(40, 1).await, scene.host().await);
    let rows = scene.rows_of(&drop).await;
    scene.upload(&drop).await;
    (scene, drop, rows, host)
}

/// A change for [`set_up`] in tests of failing events.
fn answers_soon(scene: &mut Scene) {
    scene.set("DEADLINE", ANSWERS_SOON);
}

/// As [`answers_soon`], and the retry budget of a message is a second.
fn gives_up_soon(scene: &mut Scene) {
    answers_soon(scene);
    scene.set("DELIVERY_PATIENCE", "1s");
}

#[tokio::test]
async fn a_receiver_with_transient_failures_gets_every_row() {
    let (scene, drop, rows, host) = set_up(|_| ()).await;
    scene.receiver.answer_next(2, Answer::status(503));
    scene.receiver.answer_next(1, Answer::Accept);
    scene.receiver.answer_next(1, Answer::retry_after(429, "1"));
    scene.receiver.answer_next(1, Answer::Disconnect);
    scene.receiver.answer_next(1, Answer::AcceptAndDisconnect);
    scene.receiver.answer_next(1, Answer::status(500).after(Duration::from_millis(50)));
    assert_eq!(host.post(&scene.event(&drop, METADATA)).await.status, 200);
    let received = scene.receiver.received();
    assert_complete(&received, &drop, &rows);
    assert!(received.duplicates <= 1, "only the message whose response was lost may arrive twice");
}

#[tokio::test]
async fn an_event_before_the_time_that_a_receiver_asked_for_is_logged_and_sends_nothing() {
    let (scene, drop, _, host) = set_up(gives_up_soon).await;
    scene.receiver.answer_always(Answer::retry_after(429, "600"));
    assert_eq!(host.post(&scene.event(&drop, METADATA)).await.status, 500);
    let requests = scene.receiver.received().requests;
    assert_eq!(host.post(&scene.event(&drop, METADATA)).await.status, 200);
    assert_eq!(scene.receiver.received().requests, requests);
    let says = |line: &Value| line["message"].as_str().unwrap().contains("is retried at");
    assert!(host.stop().iter().any(says), "one line in the log says so");
}

#[tokio::test]
async fn messages_may_be_gzipped() {
    let (scene, drop, rows, host) = set_up(|scene| scene.set("WEBHOOK_GZIP", "true")).await;
    assert_eq!(host.post(&scene.event(&drop, METADATA)).await.status, 200);
    let received = scene.receiver.received();
    assert_complete(&received, &drop, &rows);
    assert!(received.log.iter().all(|delivery| delivery.headers[CONTENT_ENCODING] == "gzip"));
}

#[tokio::test]
async fn rows_that_the_receiver_rejects_are_set_aside() {
    for status in ["400", "413", "415", "422"] {
        let (scene, drop, _, host) = set_up(|_| ()).await;
        let answer = Answer::status(status.parse().unwrap());
        scene.receiver.answer_by(move |delivery| match delivery.rows {
            Some((15, _)) => answer.clone(),
            _ => Answer::Accept,
        });
        let first = host.post(&scene.event(&drop, METADATA)).await;
        assert_eq!(first.status, 200, "{}", first.log);
        let received = scene.receiver.received();
        let of_drop = &received.drops[&drop.path()];
        let [failed] = &of_drop.failed[..] else { panic!("{status}: {:?}", of_drop.failed) };
        assert_eq!((failed.reason.as_str(), failed.file.as_deref()), ("refused", Some("part-0.json.gz")));
        assert_eq!(failed.rows_delivered, 15);
        assert!(failed.message.contains(status), "{}", failed.message);

        assert_eq!(host.post(&scene.event(&drop, METADATA)).await, first);
        assert_eq!(
            scene.receiver.received().requests,
            received.requests,
            "a drop that is set aside is not delivered again"
        );
    }
}

#[tokio::test]
async fn a_webhook_that_answers_404_for_a_while_sets_nothing_aside_and_gets_every_row_later() {
    // Fewer than the host's five, because each takes some seconds.
    const TRIES: u64 = 2;
    let gets_every_row = async |status, fix| {
        let (scene, drop, rows, host) = set_up(answers_soon).await;
        scene.receiver.answer_by(move |delivery| match delivery.rows {
            Some((first, _)) if first < 15 => Answer::Accept,
            _ => Answer::status(status),
        });
        let expected = format!("HTTP {status}");
        for _try in 0..TRIES {
            let answer = host.post(&scene.event(&drop, METADATA)).await;
            assert_eq!(answer.status, 500, "{}", answer.log);
            let parts = ["will be retried", &expected, fix];
            assert!(parts.iter().all(|part| answer.log.contains(part)), "{}", answer.log);
        }
        let before = scene.receiver.received();
        assert_eq!(before.rows(&drop.path()).len(), 15);
        assert!(before.drops[&drop.path()].failed.is_empty(), "nothing is set aside");
        assert!(before.requests <= 3 + TRIES * 8, "{} requests: a run does not repeat a message", before.requests);

        // The partner corrects the receiver, and does nothing else.
        scene.receiver.answer_always(Answer::Accept);
        let swept = output_of(vivadrop().arg("sweep").envs(&scene.settings)).await;
        assert!(swept.stderr.starts_with("swept 1 drops: 1 completed"), "{}", swept.stderr);
        let received = scene.receiver.received();
        assert_complete(&received, &drop, &rows);
        assert_eq!(received.duplicates, 0);
    };
    futures::join!(gets_every_row(404, "check DELIVER_TO"), gets_every_row(401, "check WEBHOOK_SECRET"));
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let (scene, drop, rows, host) = set_up(answers_soon).await;
    scene.receiver.answer_always(Answer::Redirect(scene.receiver.not_found_url()));
    assert_eq!(host.post(&scene.event(&drop, METADATA)).await.status, 500);
    let received = scene.receiver.received();
    assert_eq!((received.not_found, received.accepted), (0, 0));
    scene.receiver.answer_always(Answer::Accept);
    assert_eq!(host.post(&scene.event(&drop, METADATA)).await.status, 200);
    assert_complete(&scene.receiver.received(), &drop, &rows);
}

#[tokio::test]
async fn a_receiver_that_answers_404_to_the_ending_gets_it_later() {
    let (scene, drop, rows, host) = set_up(answers_soon).await;
    scene.receiver.answer_by(|delivery| if delivery.rows.is_some() { Answer::Accept } else { Answer::status(404) });
    let answer = host.post(&scene.event(&drop, METADATA)).await;
    assert_eq!(answer.status, 500, "{}", answer.log);
    scene.receiver.answer_always(Answer::Accept);
    assert_eq!(host.post(&scene.event(&drop, METADATA)).await.status, 200);
    let received = scene.receiver.received();
    assert_complete(&received, &drop, &rows);
    assert_eq!(received.duplicates, 0, "no row is delivered again");
}

#[tokio::test]
async fn a_receiver_that_answers_404_to_the_failure_message_gets_it_later() {
    let (scene, drop, _, host) = set_up(answers_soon).await;
    let rejects_rows = |otherwise: Answer| {
        move |rows: Option<(u64, u64)>| if rows.is_some() { Answer::status(400) } else { otherwise.clone() }
    };
    let answer_to = rejects_rows(Answer::status(404));
    scene.receiver.answer_by(move |delivery| answer_to(delivery.rows));
    let answer = host.post(&scene.event(&drop, METADATA)).await;
    assert_eq!(answer.status, 500, "{}", answer.log);
    assert!(answer.log.contains("the notification failed and will be retried"), "{}", answer.log);
    assert_eq!(scene.receiver.received().accepted, 0);

    let answer_to = rejects_rows(Answer::Accept);
    scene.receiver.answer_by(move |delivery| answer_to(delivery.rows));
    assert_eq!(host.post(&scene.event(&drop, METADATA)).await.status, 200);
    let failed = &scene.receiver.received().drops[&drop.path()].failed;
    assert_eq!(failed.iter().map(|failed| failed.reason.as_str()).collect::<Vec<_>>(), ["refused"]);
}

#[tokio::test]
async fn a_receiver_that_also_rejects_the_failure_message_changes_nothing() {
    let (scene, drop, _, host) = set_up(|_| ()).await;
    scene.receiver.answer_always(Answer::status(400));
    let answer = host.post(&scene.event(&drop, METADATA)).await;
    assert_eq!(answer.status, 200);
    assert!(answer.log.contains("refused"), "{}", answer.log);
    let requests = scene.receiver.received().requests;
    assert_eq!(host.post(&scene.event(&drop, METADATA)).await, answer);
    assert_eq!(scene.receiver.received().requests, requests);
    let log = host.stop();
    assert_eq!(log.iter().filter(|line| line["level"] == "ERROR").count(), 1, "{log:?}");
}

#[tokio::test]
async fn rows_are_delivered_after_an_outage_longer_than_the_retry_budget() {
    let (scene, drop, rows, host) = set_up(gives_up_soon).await;
    scene.receiver.stop().await;
    let answer = host.post(&scene.event(&drop, METADATA)).await;
    assert_eq!(answer.status, 500, "{}", answer.log);
    scene.receiver.restart().await.unwrap();
    assert_eq!(host.post(&scene.event(&drop, METADATA)).await.status, 200);
    assert_complete(&scene.receiver.received(), &drop, &rows);
}

#[tokio::test]
async fn a_receiver_that_never_answers_times_out() {
    let short_limits = |scene: &mut Scene| {
        scene.set("WEBHOOK_TIMEOUT", "200ms");
        gives_up_soon(scene);
    };
    let (scene, drop, rows, host) = set_up(short_limits).await;
    scene.receiver.answer_always(Answer::Accept.after(Duration::from_secs(3600)));
    assert_eq!(host.post(&scene.event(&drop, METADATA)).await.status, 500);
    scene.receiver.answer_always(Answer::Accept);
    assert_eq!(host.post(&scene.event(&drop, METADATA)).await.status, 200);
    assert_complete(&scene.receiver.received(), &drop, &rows);
}

#[tokio::test]
async fn a_receiver_that_fails_midway_gets_the_rest_later() {
    let (scene, drop, rows, host) = set_up(gives_up_soon).await;
    scene.receiver.answer_by(|delivery| match delivery.rows {
        Some((first, _)) if first < 20 => Answer::Accept,
        _ => Answer::status(503),
    });
    assert_eq!(host.post(&scene.event(&drop, METADATA)).await.status, 500);
    let before = scene.receiver.received();
    assert_eq!(before.rows(&drop.path()).len(), 20);
    scene.receiver.answer_always(Answer::Accept);
    assert_eq!(host.post(&scene.event(&drop, METADATA)).await.status, 200);
    assert_complete(&scene.receiver.received(), &drop, &rows);
}

#[tokio::test]
async fn a_receiver_that_misses_only_the_ending_gets_it_later() {
    let (scene, drop, rows, host) = set_up(gives_up_soon).await;
    scene.receiver.answer_by(|delivery| if delivery.rows.is_some() { Answer::Accept } else { Answer::status(503) });
    assert_eq!(host.post(&scene.event(&drop, METADATA)).await.status, 500);
    scene.receiver.answer_always(Answer::Accept);
    assert_eq!(host.post(&scene.event(&drop, "part-0.json.gz")).await.status, 200);
    let received = scene.receiver.received();
    assert_complete(&received, &drop, &rows);
    assert_eq!(received.duplicates, 0, "no row is delivered again");
}
