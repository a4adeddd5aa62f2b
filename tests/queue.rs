//! The queue sink against Azurite's queue service: what it puts there, what it tries again, and what it gives up on.
#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

mod support;

use std::time::{Duration, Instant};

use axum::http::Method;
use futures::{StreamExt, TryStreamExt, stream};
use vivadrop::{
    message::Message,
    retry::RetryBudget,
    sink::{
        Sink, SinkError,
        queue::{Queue, QueueConfig},
    },
    store::azure::Account,
    verdict::{Reason, Verdict},
};

use support::{
    azurite::{self, Azurite},
    gateway::{Behaviour, Gateway},
    message::of_rows,
    queue::QueueConsumer,
};

const MOMENT: Duration = Duration::from_millis(1);
const LONG: Duration = Duration::from_secs(20);

/// Waits that a test can wait for, for longer than any test takes.
const BRISK: RetryBudget = RetryBudget { first: MOMENT, longest: Duration::from_millis(5), total: LONG };

/// The same, and out of it at once.
const SHORT: RetryBudget = RetryBudget { total: Duration::from_millis(100), ..BRISK };

/// A queue, its sink, and the gateway between them.
struct Line {
    sink: Queue,
    gateway: Gateway,
    end: QueueConsumer,
}

impl Line {
    async fn with(patience: RetryBudget) -> Self {
        let (azurite, gateway) = (azurite::shared(), Gateway::before(azurite::shared()).await);
        let end = QueueConsumer::new(azurite);
        let sink = sink(&gateway.connection_string(azurite), &end, patience);
        Self { sink, gateway, end }
    }

    /// How many messages were sent, and how many queues made, or tried to.
    fn requests(&self) -> (usize, usize) {
        let seen = self.gateway.requests();
        let count = |method: &Method| seen.iter().filter(|(seen, _)| seen == method).count();
        (count(&Method::POST), count(&Method::PUT))
    }
}

fn sink(account: &str, end: &QueueConsumer, patience: RetryBudget) -> Queue {
    let account = Account::from_connection_string(account).unwrap();
    let mut config = QueueConfig::new(&account, end.name.parse().unwrap()).unwrap();
    config.patience = patience;
    Queue::new(config).unwrap()
}

/// A message of one row, whose text has so many bytes.
fn message_of(row: u64, bytes: usize) -> Message {
    let text = format!(r#"{{"row":{row},"text":"{}"}}"#, "ü<&>".repeat(bytes / 5));
    of_rows(row..row + 1, &text)
}

fn message(row: u64) -> Message {
    message_of(row, 0)
}

fn answer_of(error: SinkError) -> (String, u32) {
    match error {
        SinkError::Unavailable { answer, tries, .. } => (answer, tries),
        SinkError::Refused { answer, .. } => panic!("refused: {answer}"),
    }
}

#[tokio::test]
async fn a_message_is_the_webhooks_json_as_base64_and_never_expires() {
    let line = Line::with(BRISK).await;
    let message = message_of(0, 1000);
    line.sink.deliver(&message).await.unwrap();

    let [taken] = &line.end.receive_all().await[..] else { panic!("one message") };
    assert_eq!(taken.body, message.body);
    assert_eq!(taken.json()["id"], message.id.as_str());
    assert!(taken.expires.contains(" 9999 "), "{}", taken.expires);
}

#[tokio::test]
async fn a_message_may_fill_the_queue_to_the_byte() {
    let line = Line::with(BRISK).await;
    let largest = line.sink.largest_message().unwrap().get();
    let filler = message_of(0, 45_000).body.len();
    let mut message = message_of(0, 45_000);
    message.body = [&message.body[..], &b" ".repeat(largest - filler)].concat().into();
    line.sink.deliver(&message).await.unwrap();
    assert_eq!(line.end.receive_all().await[0].base64.len(), 64 << 10);

    message.body = [&message.body[..], b" "].concat().into();
    let before = line.requests();
    let error = line.sink.deliver(&message).await.unwrap_err();
    assert_eq!(error.verdict(), Verdict::SetAside(Reason::Refused));
    assert!(error.to_string().ends_with("it has 49153 bytes, and a queue takes 49152"), "{error}");
    assert_eq!(line.requests(), before, "what cannot fit is not sent");
}

#[tokio::test]
async fn a_queue_is_made_where_there_is_none_and_again_where_it_was_deleted() {
    let line = Line::with(BRISK).await;
    line.sink.deliver(&message(0)).await.unwrap();
    line.sink.deliver(&message(1)).await.unwrap();
    assert_eq!(line.requests(), (3, 1));

    line.end.delete().await;
    line.sink.deliver(&message(2)).await.unwrap();
    assert_eq!(line.requests(), (5, 2));
    assert_eq!(line.end.receive_all().await.len(), 1);
}

#[tokio::test]
async fn many_who_find_no_queue_make_one() {
    let line = Line::with(BRISK).await;
    let messages: Vec<_> = (0..20).map(message).collect();
    let deliveries = messages.iter().map(|message| line.sink.deliver(message));
    stream::iter(deliveries).buffer_unordered(8).try_collect::<()>().await.unwrap();
    assert_eq!(line.end.receive_all().await.len(), 20);
}

#[tokio::test]
async fn what_may_pass_is_tried_until_it_is_taken() {
    let line = Line::with(BRISK).await;
    line.sink.deliver(&message(0)).await.unwrap();
    for (status, code) in [
        (503, "ServerBusy"),
        (500, "OperationTimedOut"),
        (429, "TooManyRequests"),
        (408, "RequestTimeout"),
        (409, "QueueBeingDeleted"),
        // A role counts some minutes after it was given.
        (403, "AuthorizationPermissionMismatch"),
        (401, "InvalidAuthenticationInfo"),
    ] {
        let (before, _) = line.requests();
        line.gateway.script([Behaviour::Status(status, code, None), Behaviour::Status(status, code, None)]);
        line.sink.deliver(&message(1)).await.unwrap();
        assert_eq!(line.requests().0, before + 3, "{code}: our tries, and none of the SDK's own");
    }
    assert_eq!(line.end.receive_all().await.len(), 8);
}

#[tokio::test]
async fn a_retry_after_is_honoured() {
    let line = Line::with(BRISK).await;
    line.gateway.script([Behaviour::Status(503, "ServerBusy", Some("1"))]);
    let begun = Instant::now();
    line.sink.deliver(&message(0)).await.unwrap();
    assert!(begun.elapsed() >= Duration::from_secs(1));

    let begun = Instant::now();
    line.gateway.script([Behaviour::Status(503, "ServerBusy", Some("60"))]);
    let error = line.sink.deliver(&message(1)).await.unwrap_err();
    assert_eq!(answer_of(error), ("HTTP 503 ServerBusy".into(), 1), "beyond patience");
    assert!(begun.elapsed() < LONG);
}

#[tokio::test]
async fn what_cannot_pass_is_refused_at_once_by_the_services_code() {
    let line = Line::with(BRISK).await;
    for (status, code) in [(400, "InvalidInput"), (404, "ResourceNotFound"), (413, "RequestBodyTooLarge")] {
        let (before, _) = line.requests();
        line.gateway.script([Behaviour::Status(status, code, None)]);
        let error = line.sink.deliver(&message(0)).await.unwrap_err();
        assert_eq!(error.verdict(), Verdict::SetAside(Reason::Refused));
        assert!(error.to_string().ends_with(&format!("HTTP {status} {code}")), "{error}");
        assert_eq!(line.requests().0, before + 1);
    }
}

#[tokio::test]
async fn out_of_patience_the_last_answer_is_told() {
    let line = Line::with(SHORT).await;
    line.gateway.answer_always(Behaviour::Status(503, "ServerBusy", None));
    let error = line.sink.deliver(&message(0)).await.unwrap_err();
    assert_eq!(error.verdict(), Verdict::TryAgain);
    let (answer, tries) = answer_of(error);
    assert_eq!(answer, "HTTP 503 ServerBusy");
    assert_eq!(tries as usize, line.requests().0);

    line.gateway.stop().await;
    let error = line.sink.deliver(&message(0)).await.unwrap_err();
    assert!(answer_of(error).0.contains("onnection"), "it says what happened to the connection");
}

#[tokio::test]
async fn a_lost_answer_puts_the_message_there_twice_by_one_id() {
    let line = Line::with(BRISK).await;
    line.sink.deliver(&message(0)).await.unwrap();
    line.gateway.script([Behaviour::LoseResponse]);
    line.sink.deliver(&message(1)).await.unwrap();
    let taken = line.end.receive_all().await;
    assert_eq!(taken.len(), 3);
    assert_eq!(taken[1].body, taken[2].body);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_service_that_is_down_is_tried_until_it_is_up() {
    let azurite = Azurite::start();
    let end = QueueConsumer::new(&azurite);
    let sink = sink(&azurite.connection_string(), &end, RetryBudget { total: Duration::from_secs(60), ..BRISK });
    azurite.stop();
    let message = message(0);
    let (delivered, ()) = tokio::join!(sink.deliver(&message), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        tokio::task::block_in_place(|| azurite.restart());
    });
    delivered.unwrap();
    assert_eq!(end.receive_all().await.len(), 1);
}

#[tokio::test]
async fn connections_are_used_again() {
    let line = Line::with(BRISK).await;
    line.gateway
        .script([Behaviour::Status(503, "ServerBusy", None), Behaviour::Status(403, "AuthorizationFailure", None)]);
    let messages: Vec<_> = (0..40).map(message).collect();
    let deliveries = messages.iter().map(|message| line.sink.deliver(message));
    stream::iter(deliveries).buffered(4).try_collect::<()>().await.unwrap();
    assert!(line.gateway.connections() <= 8, "{} connections", line.gateway.connections());
}

#[tokio::test]
async fn what_is_shown_of_a_queue_has_no_signature() {
    let line = Line::with(SHORT).await;
    line.gateway.answer_always(Behaviour::Status(503, "ServerBusy", None));
    let throttled = line.sink.deliver(&message(0)).await.unwrap_err();
    line.gateway.stop().await;
    let unreachable = line.sink.deliver(&message(0)).await.unwrap_err();
    let shown = format!("{:?} {throttled:?} {throttled} {unreachable:?} {unreachable}", line.sink);
    assert!(!shown.contains("sig=") && !shown.contains(azurite::KEY) && !shown.contains("hidden"), "{shown}");
}
