//! The webhook sink against a real HTTP receiver: its requests, its retries, and its permanent failures.
#![expect(clippy::unwrap_used, reason = "a failed setup is a failed test")]

mod support;

use std::{
    io::{self, Write},
    sync::{Arc, Mutex},
    time::{Duration, Instant, SystemTime},
};

use secrecy::ExposeSecret;
use testkit::receiver::{Answer, Options, Received, Receiver};
use url::Url;
use vivadrop::{
    message::Message,
    retry::RetryBudget,
    sink::{
        Sink, SinkError, deliver,
        webhook::{Webhook, WebhookConfig},
    },
    verdict::{Reason, Verdict},
};

use support::message::rows_message;

/// Longer than any test takes.
const LONG: Duration = Duration::from_secs(20);

/// Short waits between retries, for longer than any test takes.
const FAST_RETRIES: RetryBudget =
    RetryBudget { first_wait: Duration::from_millis(1), max_wait: Duration::from_millis(5), total: LONG };

/// Short waits between retries, which end after 100 ms.
const FEW_RETRIES: RetryBudget = RetryBudget { total: Duration::from_millis(100), ..FAST_RETRIES };

async fn receiver() -> Receiver {
    Receiver::start(Options::default()).await.unwrap()
}

/// A sink that delivers to `receiver`; `change` changes its settings.
fn webhook(receiver: &Receiver, change: impl FnOnce(&mut WebhookConfig)) -> Webhook {
    let mut config = WebhookConfig::new(receiver.url(), Some(receiver.secret())).unwrap();
    config.retry_budget = FAST_RETRIES;
    config.timeout = LONG;
    change(&mut config);
    Webhook::new(config).unwrap()
}

/// A message with the rows `first..first + 2`.
fn message(first: u64) -> Message {
    let rows = format!(r#"{{"n":{first}}},{{"n":{}}}"#, first + 1);
    rows_message(first..first + 2, &rows)
}

/// The header `name` of the request `number`.
fn header(received: &Received, number: usize, name: &str) -> Option<String> {
    let value = received.log[number].headers.get(name)?;
    Some(value.to_str().unwrap().to_owned())
}

/// The last answer and the number of tries of an `Unavailable` error.
fn unavailable(error: SinkError) -> (String, u32) {
    match error {
        SinkError::Unavailable { answer, tries, .. } => (answer, tries),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_message_is_sent_as_signed_json_with_its_id() {
    let receiver = receiver().await;
    deliver(&webhook(&receiver, |_| ()), &message(0)).await.unwrap();

    let received = receiver.received();
    assert_eq!((received.accepted, received.bad_signatures), (1, 0));
    assert_eq!(header(&received, 0, "webhook-id").unwrap(), message(0).id.as_str());
    assert_eq!(header(&received, 0, "content-type").unwrap(), "application/json");
    assert_eq!(header(&received, 0, "user-agent").unwrap(), concat!("vivadrop/", env!("CARGO_PKG_VERSION")));
    assert!(header(&received, 0, "webhook-signature").unwrap().starts_with("v1,"));
    assert_eq!(header(&received, 0, "content-encoding"), None);
}

#[tokio::test]
async fn the_signature_of_a_compressed_message_covers_its_json() {
    let receiver = receiver().await;
    let webhook = webhook(&receiver, |config| config.gzip = true);
    receiver.answer_next(1, Answer::status(503));
    deliver(&webhook, &message(0)).await.unwrap();

    let received = receiver.received();
    assert_eq!(received.rows("datasets/run"), [r#"{"n":0}"#, r#"{"n":1}"#]);
    assert_eq!(header(&received, 0, "content-encoding").unwrap(), "gzip");
    assert_eq!(received.bad_signatures, 0);
}

#[tokio::test]
async fn a_message_signed_with_another_secret_is_not_accepted_and_sets_nothing_aside() {
    let (one, other) = (receiver().await, receiver().await);
    let config = WebhookConfig::new(one.url(), Some(other.secret())).unwrap();
    let error = deliver(&Webhook::new(config).unwrap(), &message(0)).await.unwrap_err();
    assert_eq!(error.verdict(), Verdict::Retry);
    assert!(error.to_string().contains("HTTP 401 Unauthorized: check WEBHOOK_SECRET"), "{error}");
    assert_eq!(one.received().bad_signatures, 1);
    assert_eq!(one.received().accepted, 0);
}

#[tokio::test]
async fn a_message_to_loopback_is_unsigned_if_there_is_no_secret() {
    let options = Options { signed: false, ..Options::default() };
    let receiver = Receiver::start(options).await.unwrap();
    let config = WebhookConfig::new(receiver.url(), None).unwrap();
    deliver(&Webhook::new(config).unwrap(), &message(0)).await.unwrap();

    let received = receiver.received();
    assert_eq!(header(&received, 0, "webhook-signature"), None);
    assert_eq!(header(&received, 0, "webhook-id").unwrap(), message(0).id.as_str());
}

#[tokio::test]
async fn a_transient_failure_is_retried_until_the_message_is_acknowledged() {
    let receiver = receiver().await;
    let webhook = webhook(&receiver, |_| ());
    for (number, status) in [408, 425, 429, 500, 502, 503, 504].into_iter().enumerate() {
        receiver.answer_next(2, Answer::status(status));
        deliver(&webhook, &message(2 * number as u64)).await.unwrap();
    }
    assert_eq!(receiver.received().requests, 7 * 3);
    assert_eq!(receiver.received().accepted, 7);
}

#[tokio::test]
async fn every_try_has_the_same_id_and_a_new_timestamp() {
    let receiver = receiver().await;
    // Timestamps are in seconds: after a wait of one second, the second try has another timestamp.
    receiver.answer_next(1, Answer::retry_after(503, "1"));
    deliver(&webhook(&receiver, |_| ()), &message(0)).await.unwrap();

    let log = receiver.received().log;
    assert_eq!(log[0].id, log[1].id);
    assert!(log[0].timestamp < log[1].timestamp, "{log:?}");
    assert_ne!(log[0].headers["webhook-signature"], log[1].headers["webhook-signature"]);
}

#[tokio::test]
async fn a_retry_after_date_is_honoured() {
    let receiver = receiver().await;
    // A date has whole seconds, so this one is between one and two seconds away.
    let date = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(2));
    receiver.answer_next(1, Answer::retry_after(429, date));
    let begun = Instant::now();
    deliver(&webhook(&receiver, |_| ()), &message(0)).await.unwrap();
    assert!(begun.elapsed() > Duration::from_millis(500));
}

#[tokio::test]
async fn a_retry_after_beyond_the_retry_budget_is_not_waited_for() {
    let receiver = receiver().await;
    receiver.answer_always(Answer::retry_after(503, "60"));
    let begun = Instant::now();
    let error = deliver(&webhook(&receiver, |_| ()), &message(0)).await.unwrap_err();
    assert_eq!(error.verdict(), Verdict::Retry);
    assert_eq!(error.retry_after(), Some(Duration::from_secs(60)));
    assert_eq!(unavailable(error), ("HTTP 503 Service Unavailable".into(), 1));
    assert!(begun.elapsed() < LONG);
}

#[tokio::test]
async fn a_webhook_that_rejects_the_message_sets_it_aside() {
    let receiver = receiver().await;
    let webhook = webhook(&receiver, |_| ());
    for (status, answer) in [
        (400, "HTTP 400 Bad Request"),
        (413, "HTTP 413 Payload Too Large: lower BATCH_BYTES"),
        (415, "HTTP 415 Unsupported Media Type: "),
        (422, "HTTP 422 Unprocessable Entity"),
    ] {
        let before = receiver.received().requests;
        receiver.answer_always(Answer::status(status));
        let error = deliver(&webhook, &message(0)).await.unwrap_err();
        assert_eq!(error.verdict(), Verdict::SetAside(Reason::Refused), "{error}");
        assert!(error.to_string().contains(answer), "{error}");
        assert_eq!(receiver.received().requests, before + 1, "not retried: {answer}");
    }
}

#[tokio::test]
async fn a_webhook_that_answers_404_sets_nothing_aside() {
    let receiver = receiver().await;
    let webhook = webhook(&receiver, |_| ());
    for (status, answer) in [
        (301, "HTTP 301 Moved Permanently: redirects are not followed, set DELIVER_TO"),
        (304, "HTTP 304 Not Modified: redirects are not followed"),
        (401, "HTTP 401 Unauthorized: check WEBHOOK_SECRET"),
        (403, "HTTP 403 Forbidden: check WEBHOOK_SECRET"),
        (404, "HTTP 404 Not Found: check DELIVER_TO"),
        (405, "HTTP 405 Method Not Allowed: check DELIVER_TO"),
        (407, "HTTP 407 Proxy Authentication Required: check HTTPS_PROXY"),
        (410, "HTTP 410 Gone: check DELIVER_TO"),
        (418, "HTTP 418 I'm a teapot: check DELIVER_TO"),
    ] {
        let before = receiver.received().requests;
        receiver.answer_always(Answer::status(status));
        let error = deliver(&webhook, &message(0)).await.unwrap_err();
        assert_eq!(error.verdict(), Verdict::Retry, "{error}");
        assert!(error.to_string().contains(answer), "{error}");
        assert_eq!(receiver.received().requests, before + 1, "not retried in the run: {answer}");
    }
    receiver.answer_always(Answer::Accept);
    deliver(&webhook, &message(0)).await.unwrap();
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let receiver = receiver().await;
    receiver.answer_always(Answer::Redirect(receiver.not_found_url()));
    let error = deliver(&webhook(&receiver, |_| ()), &message(0)).await.unwrap_err();
    assert_eq!(error.verdict(), Verdict::Retry);
    assert!(error.to_string().contains("HTTP 307 Temporary Redirect: redirects are not followed"), "{error}");
    assert_eq!(receiver.received().not_found, 0);
}

#[tokio::test]
async fn a_message_with_a_lost_response_is_retried_and_deduplicated() {
    let receiver = receiver().await;
    receiver.answer_next(1, Answer::AcceptAndDisconnect);
    deliver(&webhook(&receiver, |_| ()), &message(0)).await.unwrap();
    let received = receiver.received();
    assert_eq!((received.accepted, received.duplicates), (1, 1));
    assert_eq!(received.row_count(), 2);
}

#[tokio::test]
async fn a_broken_connection_is_retried() {
    let receiver = receiver().await;
    receiver.answer_next(3, Answer::Disconnect);
    deliver(&webhook(&receiver, |_| ()), &message(0)).await.unwrap();
    let received = receiver.received();
    assert_eq!((received.requests, received.accepted), (4, 1));
}

#[tokio::test]
async fn a_response_that_does_not_come_times_out() {
    let receiver = receiver().await;
    receiver.answer_always(Answer::Accept.after(LONG));
    let webhook = webhook(&receiver, |config| {
        config.timeout = Duration::from_millis(200);
        config.retry_budget = FEW_RETRIES;
    });
    let error = deliver(&webhook, &message(0)).await.unwrap_err();
    assert_eq!(unavailable(error), ("timed out after 0.2 s".into(), 1));
}

#[tokio::test]
async fn a_slow_response_is_awaited() {
    let receiver = receiver().await;
    receiver.answer_next(1, Answer::Accept.after(Duration::from_millis(300)));
    deliver(&webhook(&receiver, |_| ()), &message(0)).await.unwrap();
    assert_eq!(receiver.received().requests, 1);
}

#[tokio::test]
async fn a_receiver_that_is_down_is_retried_until_it_is_up() {
    let receiver = receiver().await;
    let webhook = webhook(&receiver, |_| ());
    deliver(&webhook, &message(0)).await.unwrap();
    receiver.stop().await;
    let (delivered, ()) = tokio::join!(async { deliver(&webhook, &message(2)).await }, async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        receiver.restart().await.unwrap();
    });
    delivered.unwrap();
    assert_eq!(receiver.received().accepted, 2);
}

#[tokio::test]
async fn after_the_retry_budget_the_error_has_the_last_answer() {
    let receiver = receiver().await;
    let webhook = webhook(&receiver, |config| config.retry_budget = FEW_RETRIES);
    receiver.answer_always(Answer::status(503));
    let error = deliver(&webhook, &message(0)).await.unwrap_err();
    assert_eq!((error.verdict(), error.retry_after()), (Verdict::Retry, None));
    let (answer, tries) = unavailable(error);
    assert_eq!(answer, "HTTP 503 Service Unavailable");
    assert_eq!(u64::from(tries), receiver.received().requests);

    receiver.stop().await;
    let error = deliver(&webhook, &message(0)).await.unwrap_err();
    assert_eq!(unavailable(error).0, "connection refused");
}

#[tokio::test]
async fn a_failed_tls_handshake_is_transient() {
    let receiver = receiver().await;
    let url = Url::parse(&receiver.url().as_str().replacen("http://", "https://", 1)).unwrap();
    let mut config = WebhookConfig::new(url, Some(receiver.secret())).unwrap();
    config.retry_budget = FEW_RETRIES;
    let error = deliver(&Webhook::new(config).unwrap(), &message(0)).await.unwrap_err();
    assert_eq!(error.verdict(), Verdict::Retry);
    let (answer, _) = unavailable(error);
    assert!(answer.contains("corrupt message"), "{answer}");
}

#[tokio::test]
async fn connections_are_reused() {
    let receiver = receiver().await;
    let webhook = webhook(&receiver, |_| ());
    receiver.answer_next(3, Answer::status(503));
    for number in 0..10 {
        deliver(&webhook, &message(2 * number)).await.unwrap();
    }
    assert_eq!(receiver.received().connections, 1);
}

/// A writer that keeps the logs in memory.
#[derive(Debug, Clone, Default)]
struct Logs(Arc<Mutex<Vec<u8>>>);

impl Write for Logs {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn logs_and_errors_contain_neither_secret_nor_path_nor_query_string() {
    let (receiver, logs) = (receiver().await, Logs::default());
    let origin = receiver.url().origin().ascii_serialization();
    let mut url = receiver.url();
    url.set_path("services/hidden");
    url.set_query(Some("code=hidden"));
    let mut config = WebhookConfig::new(url, Some(receiver.secret())).unwrap();
    config.retry_budget = FEW_RETRIES;
    let debug_of_config = format!("{config:?}");
    let webhook = Webhook::new(config).unwrap();
    receiver.stop().await;

    let kept = logs.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::DEBUG)
        .with_env_filter("vivadrop=debug")
        .with_ansi(false)
        .with_writer(move || kept.clone())
        .finish();
    let subscribed = tracing::subscriber::set_default(subscriber);
    let error = deliver(&webhook, &message(0)).await.unwrap_err();
    drop(subscribed);

    let logs = String::from_utf8(logs.0.lock().unwrap().clone()).unwrap();
    let id = message(0).id;
    let warning = format!("WARN vivadrop::sink::delivery: `{id}` was not delivered to the webhook {origin}, retrying");
    assert_eq!(logs.matches("WARN").count(), 1, "{logs}");
    assert!(logs.contains(&warning) && logs.contains("in try 2: connection refused"), "{logs}");

    let secret = receiver.secret().expose_secret().trim_start_matches("whsec_");
    let output = format!("{logs} {webhook:?} {debug_of_config} {} {error} {error:?} {receiver:?}", webhook.name());
    assert!(!output.contains("hidden") && !output.contains(secret), "{output}");
}
