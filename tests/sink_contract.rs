//! The contract of `vivadrop::sink::Sink`, written once and run against every sink.
#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

mod support;

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader},
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
    time::Duration,
};

use async_trait::async_trait;
use futures::future::join_all;
use serde::Deserialize;
use serde_json::value::RawValue;
use testkit::receiver::{Answer, Options, Receiver};
use tokio::task::spawn_blocking;
use vivadrop::{
    message::Message,
    retry::RetryBudget,
    sink::{
        Sink, SinkError,
        memory::{Fate, Faulty, Memory},
        queue::{Queue, QueueConfig},
        stdout::Stdout,
        webhook::{Webhook, WebhookConfig},
    },
    store::azure::Account,
    verdict::{Reason, Verdict},
};

use support::{
    azurite,
    gateway::{self, Gateway},
    message::{facts, rows_message},
    queue::QueueEnd,
};

const HIDDEN: &str = "0e8f6f2d-somebody";
const LAST_ROW: &str = r#"{"last":true}"#;

/// A sink, and the other end of it.
#[async_trait]
trait Keeper: Send + Sync {
    fn sink(&self) -> Arc<dyn Sink>;

    /// The rows that arrived, by their text.
    async fn rows(&self) -> BTreeSet<String>;

    /// Makes the other end refuse what comes; false where it has no way to.
    fn refuse(&self) -> bool;

    /// Takes the other end away.
    async fn go_down(&self);
}

/// Out of patience soon.
const SHORT: RetryBudget = RetryBudget {
    first_wait: Duration::from_millis(1),
    max_wait: Duration::from_millis(1),
    total: Duration::from_millis(50),
};

struct OverHttp {
    sink: Arc<Webhook>,
    receiver: Receiver,
}

impl OverHttp {
    async fn new(gzip: bool) -> Self {
        let receiver = Receiver::start(Options::default()).await.unwrap();
        let mut config = WebhookConfig::new(receiver.url(), Some(receiver.secret())).unwrap();
        config.gzip = gzip;
        config.retry_budget = SHORT;
        let sink = Arc::new(Webhook::new(config).unwrap());
        Self { sink, receiver }
    }
}

#[async_trait]
impl Keeper for OverHttp {
    fn sink(&self) -> Arc<dyn Sink> {
        Arc::<Webhook>::clone(&self.sink)
    }

    async fn rows(&self) -> BTreeSet<String> {
        let received = self.receiver.received();
        received.rows(&facts().path).into_iter().map(str::to_owned).collect()
    }

    fn refuse(&self) -> bool {
        self.receiver.answer_always(Answer::status(400));
        true
    }

    async fn go_down(&self) {
        self.receiver.go_down().await;
    }
}

struct OverQueue {
    sink: Arc<Queue>,
    gateway: Gateway,
    end: QueueEnd,
}

impl OverQueue {
    async fn new() -> Self {
        let (azurite, gateway) = (azurite::shared(), Gateway::before(azurite::shared()).await);
        let end = QueueEnd::fresh(azurite);
        let account = Account::from_connection_string(&gateway.connection_string(azurite)).unwrap();
        let mut config = QueueConfig::new(&account, end.name.parse().unwrap()).unwrap();
        config.retry_budget = SHORT;
        Self { sink: Arc::new(Queue::new(config).unwrap()), gateway, end }
    }
}

#[async_trait]
impl Keeper for OverQueue {
    fn sink(&self) -> Arc<dyn Sink> {
        Arc::<Queue>::clone(&self.sink)
    }

    async fn rows(&self) -> BTreeSet<String> {
        self.end.take_all().await.iter().flat_map(|taken| rows_of(&taken.body)).collect()
    }

    fn refuse(&self) -> bool {
        self.gateway.always(gateway::Fate::Answer(400, "InvalidInput", None));
        true
    }

    async fn go_down(&self) {
        self.gateway.go_down().await;
    }
}

/// Standard output, read by a thread until it comes upon [`LAST_ROW`].
struct OverPipe {
    sink: Arc<Stdout>,
    reader: Mutex<Option<JoinHandle<BTreeSet<String>>>>,
}

impl OverPipe {
    fn new() -> Self {
        let (pipe, out) = std::io::pipe().unwrap();
        let reader = thread::spawn(move || {
            let lines = BufReader::new(pipe).lines().map(Result::unwrap);
            let bodies = lines.take_while(|line| !line.contains(LAST_ROW));
            bodies.flat_map(|line| rows_of(line.as_bytes())).collect()
        });
        Self { sink: Arc::new(Stdout::to(out)), reader: Mutex::new(Some(reader)) }
    }

    /// Ends the reader, and so closes the pipe.
    async fn read(&self) -> BTreeSet<String> {
        self.sink.deliver(&message(0..1, &[LAST_ROW])).await.unwrap();
        let reader = self.reader.lock().unwrap().take().unwrap();
        spawn_blocking(|| reader.join().unwrap()).await.unwrap()
    }
}

#[async_trait]
impl Keeper for OverPipe {
    fn sink(&self) -> Arc<dyn Sink> {
        Arc::<Stdout>::clone(&self.sink)
    }

    async fn rows(&self) -> BTreeSet<String> {
        self.read().await
    }

    fn refuse(&self) -> bool {
        false
    }

    async fn go_down(&self) {
        self.read().await;
    }
}

struct InMemory {
    sink: Arc<Faulty<Memory>>,
    fate: Arc<Mutex<Fate>>,
}

impl InMemory {
    fn new() -> Self {
        let fate = Arc::new(Mutex::new(Fate::Through));
        let now = Arc::clone(&fate);
        let sink = Arc::new(Faulty::by(Memory::new(), move |_, _| *now.lock().unwrap()));
        Self { sink, fate }
    }
}

#[async_trait]
impl Keeper for InMemory {
    fn sink(&self) -> Arc<dyn Sink> {
        Arc::<Faulty<Memory>>::clone(&self.sink)
    }

    async fn rows(&self) -> BTreeSet<String> {
        let messages = self.sink.inner().messages();
        messages.iter().flat_map(|message| rows_of(&message.body)).collect()
    }

    fn refuse(&self) -> bool {
        *self.fate.lock().unwrap() = Fate::Refused;
        true
    }

    async fn go_down(&self) {
        *self.fate.lock().unwrap() = Fate::Unavailable;
    }
}

async fn keepers() -> Vec<(&'static str, Box<dyn Keeper>)> {
    vec![
        ("webhook", Box::new(OverHttp::new(false).await)),
        ("webhook with gzip", Box::new(OverHttp::new(true).await)),
        ("queue", Box::new(OverQueue::new().await)),
        ("stdout", Box::new(OverPipe::new())),
        ("memory", Box::new(InMemory::new())),
    ]
}

fn rows_of(body: &[u8]) -> Vec<String> {
    #[derive(Deserialize)]
    struct Body {
        data: Data,
    }
    #[derive(Deserialize)]
    struct Data {
        rows: Vec<Box<RawValue>>,
    }
    let body: Body = serde_json::from_slice(body).unwrap();
    body.data.rows.iter().map(|row| row.get().to_owned()).collect()
}

fn message(range: std::ops::Range<u64>, rows: &[&str]) -> Message {
    rows_message(range, &rows.join(","))
}

/// `row` with enough of it that a message is written in several pieces.
fn long_row(number: u64) -> String {
    format!(r#"{{"n":{number},"text":"{}"}}"#, "x".repeat(20_000))
}

#[tokio::test]
async fn a_message_arrives_byte_for_byte() {
    for (name, keeper) in keepers().await {
        let rows = [r#"{"a":126.00418432003623,"b":1.50}"#, r#"{"ü":"\u00fc \\ 😀"}"#];
        keeper.sink().deliver(&message(0..2, &rows)).await.unwrap();
        assert_eq!(keeper.rows().await, rows.map(str::to_owned).into(), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_delivered_at_once_arrive_whole() {
    for (name, keeper) in keepers().await {
        let rows: Vec<_> = (0..32).map(long_row).collect();
        let deliveries = rows.iter().zip(0..).map(|(row, number)| {
            let (sink, message) = (keeper.sink(), message(number..number + 1, &[row]));
            tokio::spawn(async move { sink.deliver(&message).await })
        });
        for delivery in join_all(deliveries).await {
            delivery.unwrap().unwrap();
        }
        assert_eq!(keeper.rows().await, rows.into_iter().collect(), "{name}");
    }
}

#[tokio::test]
async fn a_message_may_be_delivered_again() {
    for (name, keeper) in keepers().await {
        let message = message(0..1, &[r#"{"a":1}"#]);
        for _ in 0..3 {
            keeper.sink().deliver(&message).await.unwrap();
        }
        assert_eq!(keeper.rows().await, [r#"{"a":1}"#.to_owned()].into(), "{name}");
    }
}

#[tokio::test]
async fn a_refusal_sets_aside_and_says_which_message() {
    for (name, keeper) in keepers().await {
        let message = message(0..1, &[&format!(r#"{{"a":"{HIDDEN}"}}"#)]);
        if !keeper.refuse() {
            continue;
        }
        let error = keeper.sink().deliver(&message).await.unwrap_err();
        assert_eq!(error.verdict(), Verdict::SetAside(Reason::Refused), "{name}");
        assert_says(&error, &message, name);
        assert!(keeper.rows().await.is_empty(), "{name}");
    }
}

#[tokio::test]
async fn another_end_that_is_gone_is_to_be_tried_again() {
    for (name, keeper) in keepers().await {
        let message = message(0..1, &[&format!(r#"{{"a":"{HIDDEN}"}}"#)]);
        keeper.go_down().await;
        let error = keeper.sink().deliver(&message).await.unwrap_err();
        assert_eq!(error.verdict(), Verdict::Retry, "{name}");
        assert_says(&error, &message, name);
    }
}

/// An error names the message and nothing that is in it.
fn assert_says(error: &SinkError, message: &Message, name: &str) {
    let text = format!("{error} {error:?}");
    assert!(text.contains(message.id.as_str()), "{name}: {text}");
    assert!(!text.contains(HIDDEN), "{name}: {text}");
}
