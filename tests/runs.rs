//! Runs over a drop, side by side and one after another, by processes that may be killed at any step.
//!
//! Nothing is real here but the code: blobs and messages are in memory, time is paused, a killed process is one whose
//! requests are never answered. What must hold is what a receiver sees: every row, and then one ending.

#![expect(clippy::unwrap_used, reason = "a test says what went wrong by failing")]

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use futures::future::join_all;
use serde_json::{Value, json};
use testkit::plan::Plan;
use tokio::sync::Notify;
use vivadrop::{
    deliver::Limits,
    drop::DropPath,
    keys::{
        KeySource,
        unwrap::{KeyWrap, PemFolder},
        viva_api::VivaApi,
    },
    ledger::blobs::Blobs,
    message::Message,
    pipeline::FileRules,
    run::{Outcome, RunError, Runner},
    sink::{Sink, SinkError},
    stage::{batch::BatchLimits, layout::LayoutRules},
    store::{BlobPath, ReadWindow, Store, WriteIf, read_whole},
    tenant_config::{TenantConfig, TenantConfigs},
    verdict::Reason,
};

use support::{
    faults::{Fault, FaultySink, FaultyStore},
    memory_sink::MemorySink,
    memory_store::MemoryStore,
};

const TENANT: &str = "9f1c7fd3-1a33-4f2b-9d3c-0a8f6f2d7e10";

fn path() -> DropPath {
    DropPath::new("datasets", format!("run/VivaInsights/{TENANT}"))
}

/// A storage account and a receiver, which outlive processes.
#[derive(Clone, Default)]
struct World {
    shelf: MemoryStore,
    receiver: Arc<MemorySink>,
}

impl World {
    /// A drop of `rows` rows, without files yet.
    async fn with_metadata(rows: u64) -> Self {
        let world = Self::default();
        let metadata = json!({"TenantId": TENANT, "NumberOfRowsExtracted": rows});
        world.put("metadata/JobMetadata/Metadata.json", metadata.to_string()).await;
        world
    }

    async fn put(&self, name: &str, text: impl Into<String>) {
        self.shelf.write(&path().blob(name), text.into().into(), WriteIf::Always).await.unwrap();
    }

    async fn put_rows(&self, name: &str, rows: u64) {
        self.put(name, (0..rows).map(|row| format!("{{\"{name}\":{row}}}\n")).collect::<String>()).await;
    }

    /// What came, doubles dropped by id, as type and data.
    fn received(&self) -> Vec<(String, Value)> {
        let parse = |message: Message| {
            let mut json: Value = serde_json::from_slice(&message.body).unwrap();
            (json["type"].as_str().unwrap().to_owned(), json["data"].take())
        };
        self.receiver.distinct().into_iter().map(parse).collect()
    }

    /// The endings that came.
    fn endings(&self) -> Vec<(String, Value)> {
        self.received().into_iter().filter(|(kind, _)| kind != "viva.insights.rows").collect()
    }

    /// How many different rows of each file came.
    fn rows(&self) -> BTreeMap<String, usize> {
        let mut rows = BTreeMap::<_, BTreeSet<u64>>::new();
        for (_, data) in self.received().iter().filter(|(kind, _)| kind == "viva.insights.rows") {
            let range = data["firstRow"].as_u64().unwrap()..data["endRow"].as_u64().unwrap();
            rows.entry(data["file"].as_str().unwrap().to_owned()).or_default().extend(range);
        }
        rows.into_iter().map(|(name, rows)| (name, rows.len())).collect()
    }

    async fn state(&self, below: &str) -> Value {
        let path = BlobPath::new("state", format!("drops/{}/{below}", path()));
        let blob = self.shelf.find(&path).await.unwrap().unwrap();
        serde_json::from_slice(&read_whole(&self.shelf, &blob, 10_000).await.unwrap()).unwrap()
    }
}

/// When a process is killed: at which of its steps, and whether that one is still done.
#[derive(Debug, Clone, Copy)]
struct Death {
    at: u64,
    is_done: bool,
}

/// A process that works on drops, until its death.
struct Process {
    runner: Runner,
    life: Arc<Life>,
}

struct Life {
    death: Option<Death>,
    steps: AtomicU64,
    is_over: AtomicBool,
    ended: Notify,
}

impl Life {
    fn step(&self) -> Fault {
        if self.is_over.load(Ordering::SeqCst) {
            return Fault::KilledBefore;
        }
        let step = self.steps.fetch_add(1, Ordering::SeqCst);
        let Some(death) = self.death.filter(|death| step >= death.at) else {
            return Fault::None;
        };
        self.is_over.store(true, Ordering::SeqCst);
        self.ended.notify_one();
        if death.is_done { Fault::KilledAfter } else { Fault::KilledBefore }
    }
}

impl Process {
    fn new(world: &World) -> Self {
        Self::with(world, None, 2, Arc::clone(&world.receiver) as Arc<dyn Sink>)
    }

    fn with(world: &World, death: Option<Death>, batch_rows: usize, sink: Arc<dyn Sink>) -> Self {
        let life = Life { death, steps: AtomicU64::new(0), is_over: AtomicBool::new(false), ended: Notify::new() };
        let life = Arc::new(life);
        let [store_life, sink_life] = [(); 2].map(|()| Arc::clone(&life));
        let store = FaultyStore::new(world.shelf.clone(), Plan::by(move |_| store_life.step()));
        let store: Arc<dyn Store> = Arc::new(store);
        let one = 1.try_into().unwrap();
        let rules = FileRules {
            layout: LayoutRules { allow_plaintext: true, ..LayoutRules::default() },
            ..FileRules::default()
        };
        let limits = Limits {
            batch: BatchLimits { rows: batch_rows.try_into().unwrap(), bytes: 1000.try_into().unwrap(), message: None },
            in_flight: 2.try_into().unwrap(),
            decoders: one,
            bad_rows_allowed: 0,
        };
        let sink = Arc::new(FaultySink { inner: sink, plan: Plan::by(move |_| sink_life.step()) });
        let runner = Runner {
            ledger: Arc::new(Blobs::new(Arc::clone(&store), "state")),
            store,
            tenants: TENANT.parse().unwrap(),
            keys: KeySource {
                private_keys: Arc::new(PemFolder::new("/nowhere")),
                wrap: KeyWrap::Auto,
                api: VivaApi::new(&"http://127.0.0.1:1".parse().unwrap(), None, String::new()).unwrap(),
                may_be_missing: true,
            },
            tenant_configs: TenantConfigs { common: TenantConfig::new(sink, rules, limits), own: BTreeMap::new() },
            window: ReadWindow::default(),
        };
        Self { runner, life }
    }

    /// A run for the event of a blob. `None` where the process was killed.
    async fn event(&self, name: &str) -> Option<Result<Outcome, RunError>> {
        let (drop, blob) = (path(), path().blob(name));
        tokio::select! {
            end = self.runner.run(&drop, Some(&blob)) => Some(end),
            () = self.life.ended.notified() => None,
        }
    }
}

/// What the host does: it repeats an event, in the end on another instance, until it is answered 2xx.
async fn answered(world: &World, mut process: Process, name: &str) -> Outcome {
    for _ in 0..5 {
        match process.event(name).await {
            Some(Ok(outcome)) => return outcome,
            Some(Err(_)) => {}
            None => process = Process::new(world),
        }
    }
    panic!("the host gave up on `{name}`")
}

/// Every row of the two files came, and then one `drop.completed`.
fn assert_complete(world: &World, what: &str) {
    assert_eq!(world.rows(), [("a".into(), 7), ("b".into(), 5)].into(), "{what}");
    let endings = world.endings();
    assert_eq!(endings.len(), 1, "{what}: {endings:?}");
    assert_eq!((endings[0].0.as_str(), &endings[0].1["rows"]), ("viva.insights.drop.completed", &json!(12)), "{what}");
    let first = world.received().iter().position(|(kind, _)| kind == "viva.insights.drop.completed").unwrap();
    assert_eq!(first, world.received().len() - 1, "{what}: rows came after the drop was completed");
}

async fn two_files() -> World {
    let world = World::with_metadata(12).await;
    world.put_rows("a", 7).await;
    world.put_rows("b", 5).await;
    world
}

/// Every step of an undisturbed run, and each of them done and not done.
async fn deaths(undisturbed: impl AsyncFn(Option<Death>) -> u64) -> Vec<Death> {
    let steps = undisturbed(None).await;
    assert!(steps > 15, "{steps}");
    (0..steps).flat_map(|at| [false, true].map(|is_done| Death { at, is_done })).collect()
}

#[tokio::test(start_paused = true)]
async fn a_process_killed_at_any_step_loses_no_row_and_no_ending() {
    let play = async |death| {
        let world = two_files().await;
        let process = Process::with(&world, death, 2, Arc::clone(&world.receiver) as Arc<dyn Sink>);
        let life = Arc::clone(&process.life);
        let outcome = answered(&world, process, "metadata/JobMetadata/Metadata.json").await;
        assert_eq!(outcome, Outcome::Completed { rows: 12, bad_rows: 0 }, "{death:?}");
        assert_complete(&world, &format!("{death:?}"));

        let before = world.receiver.messages().len();
        let again = Process::new(&world).event("a").await.unwrap().unwrap();
        assert_eq!(again, outcome);
        assert_eq!(world.receiver.messages().len(), before, "an event that comes late is answered quietly");
        life.steps.load(Ordering::SeqCst)
    };
    for death in deaths(play).await {
        play(Some(death)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn of_two_instances_at_once_one_may_be_killed_at_any_step() {
    let play = async |death| {
        let world = two_files().await;
        let mortal = Process::with(&world, death, 2, Arc::clone(&world.receiver) as Arc<dyn Sink>);
        let life = Arc::clone(&mortal.life);
        tokio::join!(
            answered(&world, mortal, "a"),
            answered(&world, Process::new(&world), "b"),
            answered(&world, Process::new(&world), "metadata/JobMetadata/Metadata.json"),
        );
        assert_complete(&world, &format!("{death:?}"));
        life.steps.load(Ordering::SeqCst)
    };
    for death in deaths(play).await {
        play(Some(death)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_file_that_is_set_aside_is_told_once_at_whatever_step_a_process_is_killed() {
    let play = async |death| {
        let world = World::with_metadata(12).await;
        world.put_rows("a", 7).await;
        world.put("b", "{\"b\":0}\n{\"b\":1}\nno object\n").await;
        let process = Process::with(&world, death, 2, Arc::clone(&world.receiver) as Arc<dyn Sink>);
        let life = Arc::clone(&process.life);
        let outcome = answered(&world, process, "b").await;
        assert!(matches!(outcome, Outcome::SetAside { reason: Reason::BadRow, .. }), "{death:?}: {outcome:?}");
        assert_eq!(world.rows(), [("a".into(), 7), ("b".into(), 2)].into(), "{death:?}");
        let endings = world.endings();
        assert_eq!(endings.len(), 1, "{death:?}: {endings:?}");
        assert_eq!((&endings[0].1["file"], &endings[0].1["rowsDelivered"]), (&json!("b"), &json!(2)), "{death:?}");

        let before = world.receiver.messages().len();
        assert_eq!(Process::new(&world).event("a").await.unwrap().unwrap(), outcome);
        assert_eq!(world.receiver.messages().len(), before, "an event that comes late is answered quietly");
        let (file, drop) = (world.state("files/b.json").await, world.state("drop.json").await);
        assert_eq!((&file["status"], &file["reason"]), (&json!("set-aside"), &json!("bad-row")));
        assert_eq!((&drop["status"], &drop["message"]), (&json!("set-aside"), &file["message"]));
        life.steps.load(Ordering::SeqCst)
    };
    for death in deaths(play).await {
        play(Some(death)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn batches_keep_their_ends_and_ids_when_the_setting_was_changed_in_between() {
    for at in 0..30 {
        let world = two_files().await;
        let receiver = || Arc::clone(&world.receiver) as Arc<dyn Sink>;
        let killed = Process::with(&world, Some(Death { at, is_done: true }), 2, receiver());
        killed.event("a").await;
        answered(&world, Process::with(&world, None, 3, receiver()), "a").await;
        assert_complete(&world, &format!("killed at step {at}"));

        let mut sizes = BTreeMap::<_, BTreeSet<u64>>::new();
        for (_, data) in world.received().iter().filter(|(kind, _)| kind == "viva.insights.rows") {
            let (file, first, end) = (data["file"].as_str().unwrap(), &data["firstRow"], data["endRow"].as_u64());
            let (end, whole) = (end.unwrap(), if file == "a" { 7 } else { 5 });
            if end < whole {
                sizes.entry(file.to_owned()).or_default().insert(end - first.as_u64().unwrap());
            }
        }
        assert!(sizes.values().all(|sizes| sizes.len() == 1), "killed at step {at}: {sizes:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn metadata_that_comes_last_completes_the_drop() {
    let world = World::default();
    world.put_rows("a", 7).await;
    world.put_rows("b", 5).await;
    assert_eq!(answered(&world, Process::new(&world), "a").await, Outcome::NoDrop);
    let metadata = json!({"TenantId": TENANT, "NumberOfRowsExtracted": 12});
    world.put("metadata/JobMetadata/Metadata.json", metadata.to_string()).await;
    answered(&world, Process::new(&world), "metadata/JobMetadata/Metadata.json").await;
    assert_complete(&world, "metadata last");
}

#[tokio::test(start_paused = true)]
async fn a_drop_stays_open_until_its_last_file_and_completes_anew_when_one_is_overwritten() {
    let world = World::with_metadata(12).await;
    world.put_rows("a", 7).await;
    assert_eq!(answered(&world, Process::new(&world), "a").await, Outcome::Open { rows: 7, of: Some(12) });
    world.put_rows("b", 5).await;
    answered(&world, Process::new(&world), "b").await;
    assert_complete(&world, "the last file");

    world.put_rows("b", 5).await;
    assert_eq!(answered(&world, Process::new(&world), "b").await, Outcome::Completed { rows: 12, bad_rows: 0 });
    assert_eq!(world.endings().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_drop_without_a_row_count_is_not_complete_before_it_has_a_file() {
    let world = World::default();
    world.put("metadata/JobMetadata/Metadata.json", json!({"TenantId": TENANT}).to_string()).await;
    let outcome = answered(&world, Process::new(&world), "metadata/JobMetadata/Metadata.json").await;
    assert_eq!(outcome, Outcome::Open { rows: 0, of: None });
    assert!(world.endings().is_empty());
}

/// Holds the first message back until told otherwise.
#[derive(Debug)]
struct Gate {
    to: Arc<MemorySink>,
    is_shut: AtomicBool,
    reached: Notify,
    open: Notify,
}

impl Gate {
    fn before(to: &Arc<MemorySink>) -> Arc<Self> {
        let (reached, open) = (Notify::new(), Notify::new());
        Arc::new(Self { to: Arc::clone(to), is_shut: AtomicBool::new(true), reached, open })
    }
}

#[async_trait]
impl Sink for Gate {
    async fn deliver(&self, message: &Message) -> Result<(), SinkError> {
        if self.is_shut.swap(false, Ordering::SeqCst) {
            self.reached.notify_one();
            self.open.notified().await;
        }
        self.to.deliver(message).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_file_that_is_overwritten_while_it_is_delivered_is_not_left_to_an_event_that_was_answered() {
    for is_same_process in [true, false] {
        let world = two_files().await;
        let gate = Gate::before(&world.receiver);
        let busy = Process::with(&world, None, 2, Arc::clone(&gate) as Arc<dyn Sink>);
        let other = Process::new(&world);
        let first = busy.event("a");
        let second = async {
            gate.reached.notified().await;
            world.put_rows("a", 7).await;
            let process = if is_same_process { &busy } else { &other };
            let outcome = process.event("a").await.unwrap().unwrap();
            gate.open.notify_one();
            outcome
        };
        let (first, second) = tokio::join!(first, second);
        // The second event was answered by the run that had the file: so that run must see the new version.
        assert!(matches!(second, Outcome::Open { .. }), "{second:?}");
        assert_eq!(first.unwrap().unwrap(), Outcome::Completed { rows: 12, bad_rows: 0 });
        let last = world.endings();
        assert_eq!((last.len(), &last[0].1["rows"]), (1, &json!(12)));
        let newest = world.shelf.find(&path().blob("a")).await.unwrap().unwrap().etag;
        assert_eq!(world.state("drop.json").await["files"][0], json!({"name": "a", "etag": newest.0}));
        assert_eq!(world.state("files/a.json").await["etag"], newest.0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_does_not_wait_for_files_of_others_while_there_are_free_ones() {
    let world = World::with_metadata(20).await;
    for name in ["a", "b", "c", "d"] {
        world.put_rows(name, 5).await;
    }
    let gate = Gate::before(&world.receiver);
    let busy = Process::with(&world, None, 2, Arc::clone(&gate) as Arc<dyn Sink>);
    let other = Process::new(&world);
    let second = async {
        gate.reached.notified().await;
        let begun = tokio::time::Instant::now();
        let outcome = other.event("d").await.unwrap().unwrap();
        gate.open.notify_one();
        assert!(begun.elapsed().as_secs() < 20, "{:?}", begun.elapsed());
        outcome
    };
    let (first, second) = tokio::join!(busy.event("a"), second);
    // All but the first two batches of `a`, which the other has.
    assert_eq!(second, Outcome::Open { rows: 15, of: Some(20) });
    assert_eq!(first.unwrap().unwrap(), Outcome::Completed { rows: 20, bad_rows: 0 });
}

#[tokio::test(start_paused = true)]
async fn a_drop_is_not_over_while_another_run_has_a_file_of_it_though_one_was_set_aside() {
    let world = World::with_metadata(12).await;
    world.put_rows("a", 7).await;
    world.put("b", "no object\n").await;
    let gate = Gate::before(&world.receiver);
    let busy = Process::with(&world, None, 2, Arc::clone(&gate) as Arc<dyn Sink>);
    let other = Process::new(&world);
    let meanwhile = async {
        gate.reached.notified().await;
        let outcome = other.event("b").await.unwrap().unwrap();
        gate.open.notify_one();
        outcome
    };
    let (last, meanwhile) = tokio::join!(busy.event("a"), meanwhile);
    // A sweep comes back to what is not over.
    for (outcome, expected) in [(meanwhile, false), (last.unwrap().unwrap(), true)] {
        assert!(matches!(outcome, Outcome::SetAside { is_over, .. } if is_over == expected), "{outcome:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn many_events_at_once_in_one_process_complete_the_drop_once() {
    let world = two_files().await;
    let process = Process::new(&world);
    let names = ["a", "b", "metadata/JobMetadata/Metadata.json", "a", "b"];
    let outcomes = join_all(names.map(async |name| process.runner.run(&path(), Some(&path().blob(name))).await)).await;
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    assert_complete(&world, "many events");
    let rows = world.receiver.messages().iter().filter(|m| !m.body.windows(9).any(|w| w == b"completed")).count();
    assert_eq!(rows, 4 + 3, "no batch is sent twice");
}
