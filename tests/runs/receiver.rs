//! A receiver whose answers a test chooses, and what tests of sweeps share.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use vivadrop::{
    message::Message,
    retry::RetryBudget,
    sink::{FailedTry, Sink},
    sweep::SweepMode,
};

use super::{
    process::{Process, Setup},
    world::{STATE_CONTAINER, World},
};
use crate::support::memory_sink::MemorySink;

pub(super) const MINUTE: Duration = Duration::from_secs(60);
pub(super) const HOUR: Duration = Duration::from_secs(3600);
pub(super) const DAY: Duration = Duration::from_secs(24 * 3600);

/// What a receiver answers to a message.
type Rule = dyn Fn(&Value) -> Result<(), FailedTry> + Send + Sync;

/// A receiver that answers by a rule, and passes the messages that it accepts on.
pub(super) struct Receiver {
    inner: Arc<MemorySink>,
    rule: Box<Rule>,
    pub(super) patience: Duration,
    tries: AtomicU64,
}

impl Receiver {
    pub(super) fn new(
        world: &World,
        rule: impl Fn(&Value) -> Result<(), FailedTry> + Send + Sync + 'static,
    ) -> Arc<Self> {
        let (inner, patience) = (Arc::clone(&world.receiver), Duration::from_secs(240));
        Arc::new(Self { inner, rule: Box::new(rule), patience, tries: AtomicU64::new(0) })
    }

    /// How many messages the receiver got, accepted or not.
    pub(super) fn tries(&self) -> u64 {
        self.tries.load(Ordering::SeqCst)
    }
}

impl std::fmt::Debug for Receiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Receiver")
    }
}

#[async_trait]
impl Sink for Receiver {
    async fn try_deliver(&self, message: &Message) -> Result<(), FailedTry> {
        self.tries.fetch_add(1, Ordering::SeqCst);
        (self.rule)(&serde_json::from_slice(&message.body).unwrap())?;
        self.inner.try_deliver(message).await
    }

    fn retry_budget(&self) -> RetryBudget {
        RetryBudget::lasting(self.patience)
    }

    fn name(&self) -> String {
        "a receiver with a rule".into()
    }
}

/// The answer of a receiver that is down.
pub(super) fn down() -> FailedTry {
    FailedTry::transient("HTTP 503")
}

pub(super) fn is_rows(message: &Value) -> bool {
    message["type"] == "viva.insights.rows"
}

/// A process whose only sink is `sink`.
pub(super) fn process(world: &World, sink: &Arc<Receiver>) -> Process {
    Process::with_setup(world, Setup { sink: Arc::clone(sink) as Arc<dyn Sink>, ..Setup::new(world) })
}

/// The endings in the order of their arrival, as sequence and type.
pub(super) fn sequences(world: &World) -> Vec<(u64, String)> {
    world.endings().into_iter().map(|(kind, data)| (data["sequence"].as_u64().unwrap(), kind)).collect()
}

/// Checks that the ending with the highest sequence is `drop.completed`, and that the ledger says the same.
pub(super) async fn assert_last_ending_is_completed(world: &World, case: &str) {
    let endings = sequences(world);
    let (sequence, kind) = endings.iter().max().unwrap();
    assert_eq!(kind, "viva.insights.drop.completed", "{case}: {endings:?}");
    let record = world.record("drop.json").await;
    assert_eq!((&record["status"], &record["sequence"]), (&json!("completed"), &json!(sequence)), "{case}");
    assert_eq!(record["announced"], "done", "{case}");
    let mut distinct: Vec<_> = endings.iter().map(|(sequence, _)| sequence).collect();
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(distinct.len(), endings.len(), "{case}: two endings have the same sequence: {endings:?}");
}

/// The unfinished drops, by path.
pub(super) async fn unfinished(world: &World) -> Vec<String> {
    let blobs = vivadrop::store::list_at_most(&world.storage, STATE_CONTAINER, "unfinished/", 1_000);
    blobs.await.unwrap().unwrap().into_iter().map(|blob| blob.path.name).collect()
}

/// Lets the timer start a sweep every five minutes until `time` has passed.
pub(super) async fn sweep_for(process: &Process, time: Duration) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        sleep(5 * MINUTE).await;
        process.sweep(SweepMode::Timer).await;
    }
}
