//! The contract of [`Sink`] as tests: each is written once and runs against every implementation. One call makes one
//! try; [`deliver`] adds the retries.
#![expect(clippy::unwrap_used, reason = "a failed setup is a failed test")]

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
use testkit::{
    plan::Plan,
    receiver::{Answer, Options, Receiver},
};
use tokio::{task::spawn_blocking, time::timeout};
use vivadrop::{
    message::Message,
    retry::RetryBudget,
    sink::{
        FailedTry, Sink, SinkError, StatusClass, deliver,
        queue::{Queue, QueueConfig},
        service_bus::{EntityAddress, ServiceBus, ServiceBusConfig, SharedAccessKey},
        stdout::Stdout,
        webhook::{Webhook, WebhookConfig},
    },
    store::azure::Account,
    verdict::{Reason, Verdict},
};

use support::{
    azurite,
    credential::Credential,
    faults::{Fault, FaultySink},
    gateway::{self, Gateway},
    memory_sink::MemorySink,
    message::{facts, rows_message},
    queue::QueueConsumer,
    service_bus::{self, Entity, Namespace, Rights},
    tls::Certificate,
};

/// A row value that no error may contain.
const ROW_VALUE: &str = "0e8f6f2d-somebody";

/// The row after which the reader of standard output stops.
const LAST_ROW: &str = r#"{"last":true}"#;

/// A sink and the destination that it delivers to.
#[async_trait]
trait Destination: Send + Sync {
    fn sink(&self) -> Arc<dyn Sink>;

    /// The JSON text of the rows that arrived.
    async fn rows(&self) -> BTreeSet<String>;

    /// Makes the next try fail transiently; returns false if it cannot.
    fn fail_once(&self) -> bool;

    /// Makes the destination reject messages permanently; returns false if it cannot.
    fn reject(&self) -> bool;

    /// Makes the destination reject every message, as if the address were wrong; returns false if it cannot.
    fn misconfigure(&self) -> bool;

    /// Makes the destination unreachable.
    async fn stop(&self);
}

/// A budget for retries that is used up quickly.
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
impl Destination for OverHttp {
    fn sink(&self) -> Arc<dyn Sink> {
        Arc::<Webhook>::clone(&self.sink)
    }

    async fn rows(&self) -> BTreeSet<String> {
        let received = self.receiver.received();
        received.rows(&facts().path).into_iter().map(str::to_owned).collect()
    }

    fn fail_once(&self) -> bool {
        self.receiver.answer_next(1, Answer::retry_after(503, "7"));
        true
    }

    fn reject(&self) -> bool {
        self.receiver.answer_always(Answer::status(400));
        true
    }

    fn misconfigure(&self) -> bool {
        self.receiver.answer_always(Answer::status(404));
        true
    }

    async fn stop(&self) {
        self.receiver.stop().await;
    }
}

struct OverServiceBus {
    sink: Arc<ServiceBus>,
    namespace: Namespace,
}

impl OverServiceBus {
    async fn new() -> Self {
        let certificate = Certificate::new();
        let namespace = Namespace::start(&certificate, None).await;
        namespace.create("rows", Entity::default());
        let address: EntityAddress = namespace.deliver_to("rows").trim_start_matches("servicebus://").parse().unwrap();
        let key = SharedAccessKey::new(&namespace.connection_string(Rights::Send), &address).unwrap();
        let mut config = ServiceBusConfig::new(address, Some(key));
        config.retry_budget = SHORT;
        let sink = ServiceBus::with_http_client(certificate.client(), config, Arc::new(Credential(None)));
        Self { sink: Arc::new(sink), namespace }
    }
}

#[async_trait]
impl Destination for OverServiceBus {
    fn sink(&self) -> Arc<dyn Sink> {
        Arc::<ServiceBus>::clone(&self.sink)
    }

    async fn rows(&self) -> BTreeSet<String> {
        self.namespace.messages("rows").iter().flat_map(|message| rows_of(&message.body)).collect()
    }

    fn fail_once(&self) -> bool {
        self.namespace.script([service_bus::Behaviour::Status(503, "ServerBusy", Some("7"))]);
        true
    }

    fn reject(&self) -> bool {
        self.namespace.answer_always(service_bus::Behaviour::Status(400, "A property is malformed.", None));
        true
    }

    fn misconfigure(&self) -> bool {
        self.namespace.answer_always(service_bus::Behaviour::Status(410, "No such entity.", None));
        true
    }

    async fn stop(&self) {
        self.namespace.stop().await;
    }
}

struct OverQueue {
    sink: Arc<Queue>,
    gateway: Gateway,
    end: QueueConsumer,
}

impl OverQueue {
    async fn new() -> Self {
        let (azurite, gateway) = (azurite::shared(), Gateway::before(azurite::shared()).await);
        let end = QueueConsumer::new(azurite);
        let account = Account::from_connection_string(&gateway.connection_string(azurite)).unwrap();
        let mut config = QueueConfig::new(&account, end.name.parse().unwrap()).unwrap();
        config.retry_budget = SHORT;
        Self { sink: Arc::new(Queue::new(config).unwrap()), gateway, end }
    }
}

#[async_trait]
impl Destination for OverQueue {
    fn sink(&self) -> Arc<dyn Sink> {
        Arc::<Queue>::clone(&self.sink)
    }

    async fn rows(&self) -> BTreeSet<String> {
        self.end.receive_all().await.iter().flat_map(|message| rows_of(&message.body)).collect()
    }

    fn fail_once(&self) -> bool {
        self.gateway.script([gateway::Behaviour::Status(503, "ServerBusy", Some("7"))]);
        true
    }

    fn reject(&self) -> bool {
        self.gateway.answer_always(gateway::Behaviour::Status(400, "InvalidInput", None));
        true
    }

    fn misconfigure(&self) -> bool {
        self.gateway.answer_always(gateway::Behaviour::Status(404, "ResourceNotFound", None));
        true
    }

    async fn stop(&self) {
        self.gateway.stop().await;
    }
}

/// A pipe in place of standard output, read by a thread until [`LAST_ROW`].
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

    /// Ends the reader, which closes the pipe; returns the rows that it read.
    async fn read(&self) -> BTreeSet<String> {
        deliver(&*self.sink, &message(0..1, &[LAST_ROW])).await.unwrap();
        let reader = self.reader.lock().unwrap().take().unwrap();
        spawn_blocking(|| reader.join().unwrap()).await.unwrap()
    }
}

#[async_trait]
impl Destination for OverPipe {
    fn sink(&self) -> Arc<dyn Sink> {
        Arc::<Stdout>::clone(&self.sink)
    }

    async fn rows(&self) -> BTreeSet<String> {
        self.read().await
    }

    fn fail_once(&self) -> bool {
        false
    }

    fn reject(&self) -> bool {
        false
    }

    fn misconfigure(&self) -> bool {
        false
    }

    async fn stop(&self) {
        self.read().await;
    }
}

struct InMemory(Arc<FaultySink<MemorySink>>);

impl InMemory {
    fn new() -> Self {
        Self(Arc::new(FaultySink { inner: MemorySink::default(), plan: Plan::always(Fault::None) }))
    }
}

#[async_trait]
impl Destination for InMemory {
    fn sink(&self) -> Arc<dyn Sink> {
        Arc::<FaultySink<MemorySink>>::clone(&self.0)
    }

    async fn rows(&self) -> BTreeSet<String> {
        let messages = self.0.inner.messages();
        messages.iter().flat_map(|message| rows_of(&message.body)).collect()
    }

    fn fail_once(&self) -> bool {
        self.0.plan.script([Fault::Unavailable]);
        true
    }

    fn reject(&self) -> bool {
        self.0.plan.set_always(Fault::Rejected);
        true
    }

    fn misconfigure(&self) -> bool {
        false
    }

    async fn stop(&self) {
        self.0.plan.set_always(Fault::Unavailable);
    }
}

/// One destination for each implementation of [`Sink`].
async fn destinations() -> Vec<(&'static str, Box<dyn Destination>)> {
    vec![
        ("webhook", Box::new(OverHttp::new(false).await)),
        ("webhook with gzip", Box::new(OverHttp::new(true).await)),
        ("queue", Box::new(OverQueue::new().await)),
        ("Service Bus", Box::new(OverServiceBus::new().await)),
        ("stdout", Box::new(OverPipe::new())),
        ("memory", Box::new(InMemory::new())),
    ]
}

/// The JSON text of the rows of a message.
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

/// A message with these rows.
fn message(range: std::ops::Range<u64>, rows: &[&str]) -> Message {
    rows_message(range, &rows.join(","))
}

/// A row that is so long that a message is written in several pieces.
fn long_row(number: u64) -> String {
    format!(r#"{{"n":{number},"text":"{}"}}"#, "x".repeat(20_000))
}

#[tokio::test]
async fn a_message_arrives_byte_for_byte() {
    for (name, destination) in destinations().await {
        let rows = [r#"{"a":126.00418432003623,"b":1.50}"#, r#"{"ü":"\u00fc \\ 😀"}"#];
        deliver(&*destination.sink(), &message(0..2, &rows)).await.unwrap();
        assert_eq!(destination.rows().await, rows.map(str::to_owned).into(), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_delivered_concurrently_are_not_mixed() {
    for (name, destination) in destinations().await {
        let rows: Vec<_> = (0..32).map(long_row).collect();
        let deliveries = rows.iter().zip(0..).map(|(row, number)| {
            let (sink, message) = (destination.sink(), message(number..number + 1, &[row]));
            tokio::spawn(async move { deliver(&*sink, &message).await })
        });
        for delivery in join_all(deliveries).await {
            delivery.unwrap().unwrap();
        }
        assert_eq!(destination.rows().await, rows.into_iter().collect(), "{name}");
    }
}

#[tokio::test]
async fn the_same_message_may_be_delivered_again() {
    for (name, destination) in destinations().await {
        let message = message(0..1, &[r#"{"a":1}"#]);
        for _ in 0..3 {
            deliver(&*destination.sink(), &message).await.unwrap();
        }
        assert_eq!(destination.rows().await, [r#"{"a":1}"#.to_owned()].into(), "{name}");
    }
}

#[tokio::test]
async fn one_call_makes_one_try() {
    for (name, destination) in destinations().await {
        let message = message(0..1, &[r#"{"a":1}"#]);
        if !destination.fail_once() {
            continue;
        }
        let failed = destination.sink().try_deliver(&message).await.unwrap_err();
        assert_eq!(failed.class, StatusClass::Transient, "{name}");
        if name != "memory" {
            assert_eq!(failed.retry_after, Some(Duration::from_secs(7)), "{name}");
        }
        destination.sink().try_deliver(&message).await.unwrap();
        assert_eq!(destination.rows().await, [r#"{"a":1}"#.to_owned()].into(), "{name}");
    }
}

#[tokio::test]
async fn a_failed_try_is_about_the_message_or_about_every_message() {
    for (name, destination) in destinations().await {
        let message = message(0..1, &[&format!(r#"{{"a":"{ROW_VALUE}"}}"#)]);
        let faults = [(destination.reject(), StatusClass::Request), (destination.misconfigure(), StatusClass::Service)];
        // The last fault that the destination can have is in effect.
        let Some((_, class)) = faults.into_iter().rfind(|(can, _)| *can) else { continue };
        let failed = destination.sink().try_deliver(&message).await.unwrap_err();
        assert_eq!(failed.class, class, "{name}: {failed:?}");
        assert!(!format!("{failed:?}").contains(ROW_VALUE), "{name}: {failed:?}");
    }
}

#[tokio::test]
async fn a_rejection_sets_aside_and_names_the_message() {
    for (name, destination) in destinations().await {
        let message = message(0..1, &[&format!(r#"{{"a":"{ROW_VALUE}"}}"#)]);
        if !destination.reject() {
            continue;
        }
        let error = deliver(&*destination.sink(), &message).await.unwrap_err();
        assert_eq!(error.verdict(), Verdict::SetAside(Reason::Refused), "{name}");
        assert_names_only(&error, &message, name);
        assert!(destination.rows().await.is_empty(), "{name}");
    }
}

#[tokio::test]
async fn a_destination_that_rejects_every_message_sets_nothing_aside() {
    for (name, destination) in destinations().await {
        let message = message(0..1, &[&format!(r#"{{"a":"{ROW_VALUE}"}}"#)]);
        if !destination.misconfigure() {
            continue;
        }
        let error = deliver(&*destination.sink(), &message).await.unwrap_err();
        assert_eq!(error.verdict(), Verdict::Retry, "{name}: {error}");
        assert_names_only(&error, &message, name);
        assert!(destination.rows().await.is_empty(), "{name}");
    }
}

#[tokio::test]
async fn an_unreachable_destination_is_retried_later() {
    for (name, destination) in destinations().await {
        let message = message(0..1, &[&format!(r#"{{"a":"{ROW_VALUE}"}}"#)]);
        destination.stop().await;
        let error = deliver(&*destination.sink(), &message).await.unwrap_err();
        assert_eq!(error.verdict(), Verdict::Retry, "{name}");
        assert_names_only(&error, &message, name);
    }
}

/// Checks that an error contains the message's id, and no row value.
fn assert_names_only(error: &SinkError, message: &Message, name: &str) {
    let text = format!("{error} {error:?}");
    assert!(text.contains(message.id.as_str()), "{name}: {text}");
    assert!(!text.contains(ROW_VALUE), "{name}: {text}");
}

#[tokio::test(start_paused = true)]
async fn injected_faults_happen_before_or_after_the_call() {
    let sink = FaultySink { inner: MemorySink::default(), plan: Plan::always(Fault::None) };
    sink.plan.script([
        Fault::Unavailable,
        Fault::Rejected,
        Fault::ResponseLost,
        Fault::KilledBefore,
        Fault::KilledAfter,
    ]);
    let message = message(0..1, &["{}"]);

    let class = async || sink.try_deliver(&message).await.map_err(|FailedTry { class, .. }| class);
    assert_eq!(class().await, Err(StatusClass::Transient));
    assert_eq!(class().await, Err(StatusClass::Request));
    assert_eq!(sink.inner.messages().len(), 0);
    assert_eq!(class().await, Err(StatusClass::Transient));
    assert_eq!(sink.inner.messages().len(), 1);
    for delivered in [1, 2] {
        assert!(
            timeout(Duration::from_secs(3600), sink.try_deliver(&message)).await.is_err(),
            "a killed process waits forever"
        );
        assert_eq!(sink.inner.messages().len(), delivered);
    }
    sink.try_deliver(&message).await.unwrap();
    assert_eq!(sink.inner.messages().len(), 3);
    assert_eq!(sink.inner.distinct(), [message]);
}
