//! The queue sink against Azurite's queue service: the messages it puts, its retries, and its permanent failures.
#![expect(clippy::unwrap_used, reason = "a failed setup is a failed test")]

mod support;

use std::time::{Duration, Instant};

use axum::http::Method;
use futures::{StreamExt, TryStreamExt, stream};
use vivadrop::{
    message::Message,
    retry::RetryBudget,
    sink::{
        Sink, SinkError, deliver,
        queue::{Queue, QueueConfig},
    },
    store::azure::Account,
    verdict::{Reason, Verdict},
};

use support::{
    azurite::{self, Azurite},
    gateway::{Behaviour, Gateway},
    message::rows_message,
    queue::QueueConsumer,
};

/// Longer than any test takes.
const LONG: Duration = Duration::from_secs(20);

/// Short waits between retries, for longer than any test takes.
const FAST_RETRIES: RetryBudget =
    RetryBudget { first_wait: Duration::from_millis(1), max_wait: Duration::from_millis(5), total: LONG };

/// Short waits between retries, which end after 100 ms.
const FEW_RETRIES: RetryBudget = RetryBudget { total: Duration::from_millis(100), ..FAST_RETRIES };

/// A sink, its queue, and the gateway between them, which can inject faults.
struct Setup {
    sink: Queue,
    gateway: Gateway,
    queue: QueueConsumer,
}

impl Setup {
    async fn new(retry_budget: RetryBudget) -> Self {
        let (azurite, gateway) = (azurite::shared(), Gateway::before(azurite::shared()).await);
        let queue = QueueConsumer::new(azurite);
        let sink = sink(&gateway.connection_string(azurite), &queue, retry_budget);
        Self { sink, gateway, queue }
    }

    /// The number of requests that put a message, and of those that create the queue.
    fn requests(&self) -> (usize, usize) {
        let seen = self.gateway.requests();
        let count = |method: &Method| seen.iter().filter(|(seen, _)| seen == method).count();
        (count(&Method::POST), count(&Method::PUT))
    }
}

/// A sink that delivers to `queue` in the account of this connection string.
fn sink(account: &str, queue: &QueueConsumer, retry_budget: RetryBudget) -> Queue {
    let account = Account::from_connection_string(account).unwrap();
    let mut config = QueueConfig::new(&account, queue.name.parse().unwrap()).unwrap();
    config.retry_budget = retry_budget;
    Queue::new(config).unwrap()
}

/// A message of one row with a text of about `bytes` bytes.
fn message_of_size(row: u64, bytes: usize) -> Message {
    let text = format!(r#"{{"row":{row},"text":"{}"}}"#, "ü<&>".repeat(bytes / 5));
    rows_message(row..row + 1, &text)
}

/// A small message of one row.
fn message(row: u64) -> Message {
    message_of_size(row, 0)
}

/// The last answer and the number of tries of an `Unavailable` error.
fn unavailable(error: SinkError) -> (String, u32) {
    match error {
        SinkError::Unavailable { answer, tries, .. } => (answer, tries),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_message_is_the_same_json_as_on_a_webhook_in_base64_and_never_expires() {
    let setup = Setup::new(FAST_RETRIES).await;
    let message = message_of_size(0, 1000);
    deliver(&setup.sink, &message).await.unwrap();

    let [received] = &setup.queue.receive_all().await[..] else { panic!("one message") };
    assert_eq!(received.body, message.body);
    assert_eq!(received.json()["id"], message.id.as_str());
    assert!(received.expires.contains(" 9999 "), "{}", received.expires);
}

#[tokio::test]
async fn a_message_may_be_exactly_as_large_as_the_limit() {
    let setup = Setup::new(FAST_RETRIES).await;
    let largest = setup.sink.largest_message().unwrap().get();
    let filler = message_of_size(0, 45_000).body.len();
    let mut message = message_of_size(0, 45_000);
    message.body = [&message.body[..], &b" ".repeat(largest - filler)].concat().into();
    deliver(&setup.sink, &message).await.unwrap();
    assert_eq!(setup.queue.receive_all().await[0].base64.len(), 64 << 10);

    message.body = [&message.body[..], b" "].concat().into();
    let before = setup.requests();
    let error = deliver(&setup.sink, &message).await.unwrap_err();
    assert_eq!(error.verdict(), Verdict::SetAside(Reason::Refused));
    assert!(error.to_string().ends_with("it has 49153 bytes; the limit of a queue is 49152"), "{error}");
    assert_eq!(setup.requests(), before, "a message that is too large is not sent");
}

#[tokio::test]
async fn a_missing_or_deleted_queue_is_created() {
    let setup = Setup::new(FAST_RETRIES).await;
    deliver(&setup.sink, &message(0)).await.unwrap();
    deliver(&setup.sink, &message(1)).await.unwrap();
    assert_eq!(setup.requests(), (3, 1));

    setup.queue.delete().await;
    deliver(&setup.sink, &message(2)).await.unwrap();
    assert_eq!(setup.requests(), (5, 2));
    assert_eq!(setup.queue.receive_all().await.len(), 1);
}

#[tokio::test]
async fn concurrent_deliveries_to_a_missing_queue_all_arrive() {
    let setup = Setup::new(FAST_RETRIES).await;
    let messages: Vec<_> = (0..20).map(message).collect();
    let deliveries = messages.iter().map(|message| deliver(&setup.sink, message));
    stream::iter(deliveries).buffer_unordered(8).try_collect::<()>().await.unwrap();
    assert_eq!(setup.queue.receive_all().await.len(), 20);
}

#[tokio::test]
async fn a_transient_failure_is_retried_until_the_message_is_accepted() {
    let setup = Setup::new(FAST_RETRIES).await;
    deliver(&setup.sink, &message(0)).await.unwrap();
    for (status, code) in [
        (503, "ServerBusy"),
        (500, "OperationTimedOut"),
        (429, "TooManyRequests"),
        (408, "RequestTimeout"),
        (409, "QueueBeingDeleted"),
    ] {
        let (before, _) = setup.requests();
        setup.gateway.script([Behaviour::Status(status, code, None), Behaviour::Status(status, code, None)]);
        deliver(&setup.sink, &message(1)).await.unwrap();
        assert_eq!(setup.requests().0, before + 3, "{code}: only the sink retries, not the SDK");
    }
    assert_eq!(setup.queue.receive_all().await.len(), 6);
}

#[tokio::test]
async fn a_retry_after_is_honoured() {
    let setup = Setup::new(FAST_RETRIES).await;
    setup.gateway.script([Behaviour::Status(503, "ServerBusy", Some("1"))]);
    let begun = Instant::now();
    deliver(&setup.sink, &message(0)).await.unwrap();
    assert!(begun.elapsed() >= Duration::from_secs(1));

    let begun = Instant::now();
    setup.gateway.script([Behaviour::Status(503, "ServerBusy", Some("60"))]);
    let error = deliver(&setup.sink, &message(1)).await.unwrap_err();
    assert_eq!(error.retry_after(), Some(Duration::from_secs(60)));
    assert_eq!(unavailable(error), ("HTTP 503 ServerBusy".into(), 1), "a wait beyond the retry budget is not started");
    assert!(begun.elapsed() < LONG);
}

#[tokio::test]
async fn a_message_that_the_queue_rejects_is_set_aside_and_the_error_names_the_code() {
    let setup = Setup::new(FAST_RETRIES).await;
    for (status, code) in [(400, "InvalidInput"), (413, "RequestBodyTooLarge")] {
        let (before, _) = setup.requests();
        setup.gateway.script([Behaviour::Status(status, code, None)]);
        let error = deliver(&setup.sink, &message(0)).await.unwrap_err();
        assert_eq!(error.verdict(), Verdict::SetAside(Reason::Refused));
        assert!(error.to_string().ends_with(&format!("HTTP {status} {code}")), "{error}");
        assert_eq!(setup.requests().0, before + 1);
    }
}

#[tokio::test]
async fn a_queue_that_denies_access_sets_nothing_aside() {
    let setup = Setup::new(FAST_RETRIES).await;
    deliver(&setup.sink, &message(0)).await.unwrap();
    for (status, code, fix) in [
        // A role applies only some minutes after it was granted.
        (403, "AuthorizationPermissionMismatch", "the role Storage Queue Data Contributor"),
        (401, "NoAuthenticationInformation", "the role Storage Queue Data Contributor"),
        (400, "InvalidAuthenticationInfo", "the role Storage Queue Data Contributor"),
        (404, "ResourceNotFound", "check DELIVER_TO and SinkStorage"),
        (405, "UnsupportedHttpVerb", "check DELIVER_TO and SinkStorage"),
    ] {
        let (before, _) = setup.requests();
        setup.gateway.script([Behaviour::Status(status, code, None)]);
        let error = deliver(&setup.sink, &message(1)).await.unwrap_err();
        assert_eq!(error.verdict(), Verdict::Retry, "{error}");
        let text = error.to_string();
        assert!(text.contains(&format!("HTTP {status} {code}: ")) && text.contains(fix), "{text}");
        assert_eq!(setup.requests().0, before + 1, "not retried in the run: {code}");
    }
    deliver(&setup.sink, &message(1)).await.unwrap();
    assert_eq!(setup.queue.receive_all().await.len(), 2);
}

#[tokio::test]
async fn after_the_retry_budget_the_error_has_the_last_answer() {
    let setup = Setup::new(FEW_RETRIES).await;
    setup.gateway.answer_always(Behaviour::Status(503, "ServerBusy", None));
    let error = deliver(&setup.sink, &message(0)).await.unwrap_err();
    assert_eq!(error.verdict(), Verdict::Retry);
    let (answer, tries) = unavailable(error);
    assert_eq!(answer, "HTTP 503 ServerBusy");
    assert_eq!(tries as usize, setup.requests().0);

    setup.gateway.stop().await;
    let error = deliver(&setup.sink, &message(0)).await.unwrap_err();
    assert!(unavailable(error).0.contains("onnection"), "the error describes what happened to the connection");
}

#[tokio::test]
async fn a_lost_response_puts_the_message_twice_with_the_same_id() {
    let setup = Setup::new(FAST_RETRIES).await;
    deliver(&setup.sink, &message(0)).await.unwrap();
    setup.gateway.script([Behaviour::LoseResponse]);
    deliver(&setup.sink, &message(1)).await.unwrap();
    let received = setup.queue.receive_all().await;
    assert_eq!(received.len(), 3);
    assert_eq!(received[1].body, received[2].body);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_service_that_is_down_is_retried_until_it_is_up() {
    let azurite = Azurite::start();
    let queue = QueueConsumer::new(&azurite);
    let sink =
        sink(&azurite.connection_string(), &queue, RetryBudget { total: Duration::from_secs(60), ..FAST_RETRIES });
    azurite.stop();
    let message = message(0);
    let (delivered, ()) = tokio::join!(deliver(&sink, &message), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        tokio::task::block_in_place(|| azurite.restart());
    });
    delivered.unwrap();
    assert_eq!(queue.receive_all().await.len(), 1);
}

#[tokio::test]
async fn connections_are_reused() {
    let setup = Setup::new(FAST_RETRIES).await;
    setup.gateway.script([Behaviour::Status(503, "ServerBusy", None), Behaviour::Status(500, "InternalError", None)]);
    let messages: Vec<_> = (0..40).map(message).collect();
    let deliveries = messages.iter().map(|message| deliver(&setup.sink, message));
    stream::iter(deliveries).buffered(4).try_collect::<()>().await.unwrap();
    assert!(setup.gateway.connections() <= 8, "{} connections", setup.gateway.connections());
}

#[tokio::test]
async fn debug_output_and_errors_contain_no_credentials() {
    let setup = Setup::new(FEW_RETRIES).await;
    setup.gateway.answer_always(Behaviour::Status(503, "ServerBusy", None));
    let throttled = deliver(&setup.sink, &message(0)).await.unwrap_err();
    setup.gateway.stop().await;
    let unreachable = deliver(&setup.sink, &message(0)).await.unwrap_err();
    let output = format!("{:?} {throttled:?} {throttled} {unreachable:?} {unreachable}", setup.sink);
    assert!(!output.contains("sig=") && !output.contains(azurite::KEY) && !output.contains("hidden"), "{output}");
}
