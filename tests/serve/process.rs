//! The process: start, stop, kill and restart.

use std::{
    net::{Ipv4Addr, TcpListener},
    time::{Duration, Instant},
};

use testkit::receiver::Answer;

use crate::support::{
    command::{output_of, vivadrop},
    host::Settings,
    scene::{METADATA, Scene, assert_complete, has_ended},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_that_is_killed_loses_no_row() {
    let mut scene = Scene::on_azurite().await;
    scene.set("BATCH_ROWS", "100");
    let (drop, mut host) = (scene.drop(20_000, 1).await, scene.host().await);
    let rows = scene.rows_of(&drop).await;
    scene.upload(&drop).await;

    scene.receiver.answer_always(Answer::Accept.after(Duration::from_millis(30)));
    let posted = host.begin_post(scene.event(&drop, METADATA));
    let before = scene.wait_for(|received| received.accepted > 50).await;
    host.kill_and_restart().await;
    assert_eq!(posted.await.unwrap(), None);
    assert!(!has_ended(&before, &drop));

    scene.receiver.answer_always(Answer::Accept);
    let answers = host.trigger(&scene.event(&drop, METADATA)).await;
    assert_eq!(answers.last().unwrap().status, 200, "{answers:?}");
    assert_complete(&scene.wait_for(|received| has_ended(received, &drop)).await, &drop, &rows);
}

#[tokio::test]
async fn work_unfinished_at_the_deadline_is_retried() {
    let mut scene = Scene::on_azurite().await;
    scene.set("DEADLINE", "2s");
    scene.set("BATCH_ROWS", "5");
    scene.set("IN_FLIGHT", "1");
    let (drop, host) = (scene.drop(100, 1).await, scene.host().await);
    let rows = scene.rows_of(&drop).await;
    scene.upload(&drop).await;
    scene.receiver.answer_always(Answer::Accept.after(Duration::from_millis(200)));
    let start = Instant::now();
    let answer = host.post(&scene.event(&drop, METADATA)).await;
    assert_eq!(answer.status, 500, "{}", answer.log);
    assert!(answer.log.contains("DEADLINE"), "{}", answer.log);
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());

    scene.receiver.answer_always(Answer::Accept);
    let answers = host.trigger(&scene.event(&drop, METADATA)).await;
    assert_eq!(answers.last().unwrap().status, 200, "{answers:?}");
    let received = scene.receiver.received();
    assert_complete(&received, &drop, &rows);
    assert!(received.log.len() < 30, "expected it to resume from its checkpoint: {} messages", received.log.len());
}

#[tokio::test]
async fn a_deadline_that_the_host_would_not_let_pass_is_reported_with_the_other_settings() {
    // The working directory of the tests has a host.json with a functionTimeout of 30 minutes.
    let ended = output_of(vivadrop().arg("serve").env("DEADLINE", "30m")).await;
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    for part in ["DEADLINE is 30m: expected less than functionTimeout in host.json (1800 s)", "DELIVER_TO is not set"] {
        assert!(ended.stderr.contains(part), "{}", ended.stderr);
    }
}

#[tokio::test]
async fn all_invalid_settings_are_reported_before_a_port_is_bound() {
    // The port is in use, so binding it would be reported.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let settings = [
        ("FUNCTIONS_CUSTOMHANDLER_PORT", listener.local_addr().unwrap().port().to_string()),
        ("DropStorage", "AccountName=a;AccountKey=c2VjcmV0LWtleQ==;BlobEndpoint=ftp://a".into()),
        ("IN_FLIGHT", "many".into()),
        ("DEADLINE", "soon".into()),
        ("DELIVER_TO", "https://user:hunter22@example.com/?code=secret".into()),
        ("WEBHOOK_SECRET", "whsec_not-base64!".into()),
        ("PARTNER_APP_SECRET", "partner-secret".into()),
        ("FILE_LAYOUT", "zip".into()),
    ];
    let settings: Settings = settings.map(|(name, value)| (name.into(), value)).into();
    let ended = output_of(vivadrop().arg("serve").envs(&settings)).await;
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    for name in [
        "DropStorage",
        "TENANTS is not set",
        "PRIVATE_KEYS is not set",
        "IN_FLIGHT is `many`",
        "DEADLINE is `soon`",
        "DELIVER_TO",
        "WEBHOOK_SECRET",
        "PARTNER_TENANT_ID",
        "PARTNER_APP_ID",
        "FILE_LAYOUT is `zip`",
    ] {
        assert!(ended.stderr.contains(name), "{name}: {}", ended.stderr);
    }
    for secret in ["c2VjcmV0", "hunter22", "code=secret", "not-base64", "partner-secret"] {
        assert!(!ended.stderr.contains(secret), "{secret}: {}", ended.stderr);
    }
    assert_eq!(ended.stdout, "");
    assert!(!ended.stderr.contains("listen"), "{}", ended.stderr);
}

#[tokio::test]
async fn missing_settings_are_reported() {
    let ended = output_of(vivadrop().arg("serve")).await;
    assert_eq!(ended.code, Some(2));
    for name in ["FUNCTIONS_CUSTOMHANDLER_PORT", "DropStorage", "TENANTS", "PRIVATE_KEYS", "DELIVER_TO"] {
        assert!(ended.stderr.contains(&format!("{name} is not set")), "{name}: {}", ended.stderr);
    }
}

#[tokio::test]
async fn a_port_in_use_is_an_error() {
    let scene = Scene::in_a_folder().await;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let ended =
        output_of(vivadrop().arg("serve").envs(&scene.settings).env("FUNCTIONS_CUSTOMHANDLER_PORT", &port)).await;
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains(&port), "{}", ended.stderr);
}
