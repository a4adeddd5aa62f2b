//! The storage account and the receiver, and processes that run drops and fail as planned.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use serde_json::{Value, json};
use tokio::{
    sync::Notify,
    time::{Instant, sleep},
};
use vivadrop::{
    deliver::Limits,
    drop::DropPath,
    keys::{
        KeySource,
        unwrap::{KeyWrap, PemFolder},
        viva_api::VivaApi,
    },
    ledger::Ledger,
    message::Message,
    pipeline::FileRules,
    run::{Outcome, RunError, Runner},
    sink::{Sink, SinkError, memory::Memory},
    stage::{batch::BatchLimits, layout::LayoutRules},
    store::{
        BlobPath, ReadWindow, Store, WriteIf,
        memory::{Fate, Faulty, MemoryStore},
        read_whole,
    },
    tenant_config::{TenantConfig, TenantConfigs},
};

const TENANT: &str = "9f1c7fd3-1a33-4f2b-9d3c-0a8f6f2d7e10";

const STATE_CONTAINER: &str = "state";

pub(crate) const METADATA: &str = "metadata/JobMetadata/Metadata.json";

pub(crate) fn path() -> DropPath {
    DropPath::new("datasets", format!("run/VivaInsights/{TENANT}"))
}

/// A storage account with one drop, and a receiver. They outlive processes.
#[derive(Clone, Default)]
pub(crate) struct World {
    pub(crate) storage: MemoryStore,
    pub(crate) receiver: Arc<Memory>,
}

impl World {
    /// A drop of `rows` rows that has only its metadata.
    pub(crate) async fn with_metadata(rows: u64) -> Self {
        let world = Self::default();
        world.put_metadata(json!({"NumberOfRowsExtracted": rows})).await;
        world
    }

    /// A drop of 12 rows in the files `a` (7 rows) and `b` (5 rows).
    pub(crate) async fn with_two_files() -> Self {
        let world = Self::with_metadata(12).await;
        world.put_rows("a", 7).await;
        world.put_rows("b", 5).await;
        world
    }

    pub(crate) async fn put_metadata(&self, mut metadata: Value) {
        metadata["TenantId"] = TENANT.into();
        self.put(METADATA, metadata.to_string()).await;
    }

    pub(crate) async fn put(&self, name: &str, text: impl Into<String>) {
        self.storage.write(&path().blob(name), text.into().into(), WriteIf::Always).await.unwrap();
    }

    pub(crate) async fn put_rows(&self, name: &str, rows: u64) {
        self.put(name, (0..rows).map(|row| format!("{{\"{name}\":{row}}}\n")).collect::<String>()).await;
    }

    /// The received messages without duplicates, as type and data.
    pub(crate) fn received(&self) -> Vec<(String, Value)> {
        let parse = |message: Message| {
            let mut json: Value = serde_json::from_slice(&message.body).unwrap();
            (json["type"].as_str().unwrap().to_owned(), json["data"].take())
        };
        self.receiver.distinct().into_iter().map(parse).collect()
    }

    /// The data of the received `rows` messages.
    pub(crate) fn batches(&self) -> Vec<Value> {
        let messages = self.received().into_iter();
        messages.filter(|(kind, _)| kind == "viva.insights.rows").map(|(_, data)| data).collect()
    }

    /// The received messages other than `rows`.
    pub(crate) fn endings(&self) -> Vec<(String, Value)> {
        self.received().into_iter().filter(|(kind, _)| kind != "viva.insights.rows").collect()
    }

    /// How many different rows of each file were received.
    pub(crate) fn row_counts(&self) -> BTreeMap<String, usize> {
        let mut rows = BTreeMap::<_, BTreeSet<u64>>::new();
        for batch in self.batches() {
            let range = batch["firstRow"].as_u64().unwrap()..batch["endRow"].as_u64().unwrap();
            rows.entry(batch["file"].as_str().unwrap().to_owned()).or_default().extend(range);
        }
        rows.into_iter().map(|(name, rows)| (name, rows.len())).collect()
    }

    /// A record of the ledger.
    pub(crate) async fn record(&self, below: &str) -> Value {
        let path = BlobPath::new(STATE_CONTAINER, format!("drops/{}/{below}", path()));
        let blob = self.storage.find(&path).await.unwrap().unwrap();
        serde_json::from_slice(&read_whole(&self.storage, &blob, 10_000).await.unwrap()).unwrap()
    }

    /// Checks that every row of the two files was received, and after them exactly one `drop.completed`.
    pub(crate) fn assert_complete(&self, case: &str) {
        assert_eq!(self.row_counts(), [("a".into(), 7), ("b".into(), 5)].into(), "{case}");
        let endings = self.endings();
        let [(kind, ending)] = &endings[..] else { panic!("{case}: {endings:?}") };
        assert_eq!((kind.as_str(), &ending["rows"]), ("viva.insights.drop.completed", &json!(12)), "{case}");
        let (last, _) = self.received().pop().unwrap();
        assert_eq!(last, "viva.insights.drop.completed", "{case}: rows were received after drop.completed");
    }

    /// Repeats an event until it is answered 2xx, as the host does. If the process is killed, another instance gets the event.
    pub(crate) async fn deliver_event(&self, mut process: Process, name: &str) -> Outcome {
        for _ in 0..5 {
            match process.event(name).await {
                Some(Ok(outcome)) => return outcome,
                Some(Err(_)) => sleep(Duration::from_secs(10)).await,
                None => process = Process::new(self),
            }
        }
        panic!("the host gave up on `{name}`")
    }
}

/// What goes wrong in a process, and at which step. A step is a request to the storage or to the receiver.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fault {
    /// The process is killed. The request of that step is still processed if `is_processed`.
    Kill { step: u64, is_processed: bool },
    /// The ledger is unavailable to the process for a time. The process can still read files and send messages.
    ///
    /// File reads do not fail, because tokio does not advance paused time while the pipeline's thread waits for bytes.
    Outage { step: u64, time: Duration },
}

/// A process that runs drops.
pub(crate) struct Process {
    pub(crate) runner: Runner,
    pub(crate) faults: Arc<Faults>,
}

/// The fault of a process, and what has happened so far.
pub(crate) struct Faults {
    fault: Option<Fault>,
    steps: AtomicU64,
    is_killed: AtomicBool,
    killed: Notify,
    start: Instant,
    /// When the outage started, in milliseconds since `start`.
    outage_start: AtomicU64,
}

impl Faults {
    fn new(fault: Option<Fault>) -> Self {
        Self {
            fault,
            steps: AtomicU64::new(0),
            is_killed: AtomicBool::new(false),
            killed: Notify::new(),
            start: Instant::now(),
            outage_start: AtomicU64::new(u64::MAX),
        }
    }

    /// How many steps there were.
    pub(crate) fn steps(&self) -> u64 {
        self.steps.load(Ordering::SeqCst)
    }

    /// Decides what happens to a request to a container of the storage.
    fn storage_request(&self, container: &str) -> Fate {
        let this_step = self.steps();
        let fate = self.request();
        let Some(Fault::Outage { step, time }) = self.fault else {
            return fate;
        };
        if this_step < step || container != STATE_CONTAINER {
            return fate;
        }
        let now = self.start.elapsed().as_millis() as u64;
        let outage_start = self.outage_start.fetch_min(now, Ordering::SeqCst).min(now);
        if now < outage_start + time.as_millis() as u64 { Fate::Unavailable } else { fate }
    }

    /// Counts a request, and decides whether the process is killed at it.
    fn request(&self) -> Fate {
        if self.is_killed.load(Ordering::SeqCst) {
            return Fate::Never;
        }
        let this_step = self.steps.fetch_add(1, Ordering::SeqCst);
        match self.fault {
            Some(Fault::Kill { step, is_processed }) if this_step >= step => {
                self.is_killed.store(true, Ordering::SeqCst);
                self.killed.notify_one();
                if is_processed { Fate::DoneUnheard } else { Fate::Never }
            }
            _ => Fate::Through,
        }
    }
}

/// The connection of one process to the receiver.
struct Connection {
    faults: Arc<Faults>,
    receiver: Arc<dyn Sink>,
}

#[async_trait]
impl Sink for Connection {
    async fn deliver(&self, message: &Message) -> Result<(), SinkError> {
        let fate = self.faults.request();
        if fate != Fate::Never {
            self.receiver.deliver(message).await?;
        }
        if fate == Fate::Through { Ok(()) } else { std::future::pending().await }
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Connection")
    }
}

impl Process {
    pub(crate) fn new(world: &World) -> Self {
        Self::with(world, None, 2)
    }

    /// Delivers batches of `batch_rows` rows, and fails as `fault` says.
    pub(crate) fn with(world: &World, fault: Option<Fault>, batch_rows: usize) -> Self {
        Self::with_sink(world, fault, batch_rows, Arc::clone(&world.receiver) as Arc<dyn Sink>)
    }

    /// Its first message waits at `gate`.
    pub(crate) fn behind(world: &World, gate: &Arc<Gate>) -> Self {
        Self::with_sink(world, None, 2, Arc::clone(gate) as Arc<dyn Sink>)
    }

    fn with_sink(world: &World, fault: Option<Fault>, batch_rows: usize, receiver: Arc<dyn Sink>) -> Self {
        let faults = Arc::new(Faults::new(fault));
        let of_storage = Arc::clone(&faults);
        let store: Arc<dyn Store> =
            Arc::new(Faulty::by(world.storage.clone(), move |_, path, _| of_storage.storage_request(&path.container)));
        let rules = FileRules {
            layout: LayoutRules { allow_plaintext: true, ..LayoutRules::default() },
            ..FileRules::default()
        };
        let limits = Limits {
            batch: BatchLimits { rows: batch_rows.try_into().unwrap(), bytes: 1000.try_into().unwrap(), message: None },
            in_flight: 2.try_into().unwrap(),
            decoders: 1.try_into().unwrap(),
            bad_rows_allowed: 0,
        };
        let sink = Arc::new(Connection { faults: Arc::clone(&faults), receiver });
        let runner = Runner {
            ledger: Ledger::new(Arc::clone(&store), STATE_CONTAINER),
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
        Self { runner, faults }
    }

    /// Runs the drop for the event of a blob; `None` if the process is killed.
    pub(crate) async fn event(&self, name: &str) -> Option<Result<Outcome, RunError>> {
        let (drop, blob) = (path(), path().blob(name));
        tokio::select! {
            result = self.runner.run(&drop, Some(&blob)) => Some(result),
            () = self.faults.killed.notified() => None,
        }
    }
}

/// Holds back the first message until it is opened.
#[derive(Debug)]
pub(crate) struct Gate {
    receiver: Arc<Memory>,
    is_shut: AtomicBool,
    pub(crate) reached: Notify,
    pub(crate) open: Notify,
}

impl Gate {
    pub(crate) fn before(receiver: &Arc<Memory>) -> Arc<Self> {
        let (reached, open) = (Notify::new(), Notify::new());
        Arc::new(Self { receiver: Arc::clone(receiver), is_shut: AtomicBool::new(true), reached, open })
    }
}

#[async_trait]
impl Sink for Gate {
    async fn deliver(&self, message: &Message) -> Result<(), SinkError> {
        if self.is_shut.swap(false, Ordering::SeqCst) {
            self.reached.notify_one();
            self.open.notified().await;
        }
        self.receiver.deliver(message).await
    }
}
