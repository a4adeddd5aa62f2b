//! Processes that run drops, and fail as planned.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use testkit::plan::Plan;
use tokio::{sync::Notify, time::Instant};
use vivadrop::{
    batch::BatchLimits,
    deliver::Limits,
    directory::DirectoryConfig,
    drop::{
        DropPath, TenantId,
        containers::{DropContainer, WatchedContainers},
    },
    keys::{
        KeyError, KeySource, SecretBytes,
        unwrap::{KeyWrap, Padding, PrivateKeys},
        viva_api::VivaApi,
    },
    ledger::Ledger,
    memory_budget::MemoryBudget,
    message::Message,
    pass_permits::PassPermits,
    pipeline::FileRules,
    retry::RetryBudget,
    run::{DueDrops, DueImports, Outcome, Recorded, RunError, RunLimits, Runner, Trigger},
    run_permits::RunPermits,
    sink::{FailedTry, Sink},
    stage::layout::LayoutRules,
    store::{ReadWindow, Store},
    sweep::{Report, SweepMode, sweep},
    tenant_config::{TenantConfig, TenantConfigs},
};

use super::world::{STATE_CONTAINER, TENANT, World, path};
use crate::support::{
    faults::{Fault as CallFault, FaultySink, FaultyStore, Operation, StoreCall},
    memory_sink::MemorySink,
    memory_store::MemoryStore,
};

/// The deadline of a sweep: the default of `DEADLINE`.
pub(crate) const SWEEP_DEADLINE: Duration = Duration::from_secs(25 * 60);

/// What goes wrong in a process, and at which step. A step is a request to the storage or to the receiver.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fault {
    /// The process is killed. The request of that step is still processed if `is_processed`.
    Kill { step: u64, is_processed: bool },
    /// The ledger is unavailable to the process for a time. The process can still read files and send messages.
    ///
    /// File reads do not fail, because tokio does not advance paused time while the pipeline's thread waits for bytes.
    Outage { step: u64, time: Duration },
    /// The process stands still for a time: its requests are made after that time.
    Frozen { step: u64, time: Duration },
    /// One request of the process fails. If `is_processed`, it was processed, and only the response is lost.
    Fails { step: u64, is_processed: bool },
}

impl Fault {
    /// [`Fault::Kill`], for [`at_every_step`].
    pub(crate) fn kill(step: u64, is_processed: bool) -> Self {
        Self::Kill { step, is_processed }
    }

    /// [`Fault::Fails`], for [`at_every_step`].
    pub(crate) fn fail(step: u64, is_processed: bool) -> Self {
        Self::Fails { step, is_processed }
    }
}

/// Runs `scenario` without a fault, then with a fault at each of its steps, whose request is processed or not.
/// `scenario` returns the number of steps of its process.
pub(crate) async fn at_every_step(fault: impl Fn(u64, bool) -> Fault, scenario: impl AsyncFn(Option<Fault>) -> u64) {
    let steps = scenario(None).await;
    assert!(steps > 15, "{steps}");
    for step in 0..steps {
        for is_processed in [false, true] {
            scenario(Some(fault(step, is_processed))).await;
        }
    }
}

/// A process that runs drops.
pub(crate) struct Process {
    pub(crate) runner: Arc<Runner>,
    pub(crate) faults: Arc<Faults>,
    pub(crate) store: Arc<FaultyStore<MemoryStore>>,
}

/// The settings of a process.
pub(crate) struct Setup {
    pub(crate) fault: Option<Fault>,
    pub(crate) batch_rows: usize,
    /// The setting `TENANTS`.
    pub(crate) tenants: String,
    pub(crate) sink: Arc<dyn Sink>,
    /// The sinks of tenants that have their own.
    pub(crate) own_sinks: BTreeMap<TenantId, Arc<dyn Sink>>,
    pub(crate) limits: RunLimits,
    pub(crate) directory: DirectoryConfig,
    pub(crate) attributes_memory: MemoryBudget,
}

impl Setup {
    /// The usual settings: batches of two rows, sent to the world's receiver.
    pub(crate) fn new(world: &World) -> Self {
        Self {
            fault: None,
            batch_rows: 2,
            tenants: TENANT.into(),
            sink: Arc::clone(&world.receiver) as Arc<dyn Sink>,
            own_sinks: BTreeMap::new(),
            limits: RunLimits::default(),
            directory: DirectoryConfig::default(),
            attributes_memory: MemoryBudget::new(1 << 20),
        }
    }
}

/// The fault of a process, and what has happened so far.
pub(crate) struct Faults {
    fault: Option<Fault>,
    steps: AtomicU64,
    is_killed: AtomicBool,
    killed: Notify,
    start: Instant,
    /// Whether the receiver is down.
    is_sink_down: AtomicBool,
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
            is_sink_down: AtomicBool::new(false),
            outage_start: AtomicU64::new(u64::MAX),
        }
    }

    /// Makes the receiver unavailable, or available again.
    pub(crate) fn outage_of_sink(&self, is_down: bool) {
        self.is_sink_down.store(is_down, Ordering::SeqCst);
    }

    /// Decides what happens to a message.
    fn message(&self) -> CallFault {
        if self.is_sink_down.load(Ordering::SeqCst) { CallFault::Unavailable } else { self.request() }
    }

    /// How many steps there were.
    pub(crate) fn steps(&self) -> u64 {
        self.steps.load(Ordering::SeqCst)
    }

    /// Returns once the process is killed.
    pub(crate) async fn killed(&self) {
        self.killed.notified().await;
    }

    /// Decides what happens to a request to a container of the storage.
    fn storage_request(&self, call: &StoreCall) -> CallFault {
        let container = call.path.container.as_str();
        let this_step = self.steps();
        let fault = self.request();
        // Paused time does not advance while a thread of the pipeline waits for bytes.
        let is_data = container != STATE_CONTAINER && call.operation == Operation::Read;
        if is_data && matches!(self.fault, Some(Fault::Fails { .. })) {
            return CallFault::None;
        }
        if let Some(Fault::Frozen { step, time }) = self.fault {
            return self.frozen(this_step, step, time);
        }
        let Some(Fault::Outage { step, time }) = self.fault else {
            return fault;
        };
        if this_step < step || container != STATE_CONTAINER {
            return fault;
        }
        let now = self.start.elapsed().as_millis() as u64;
        let outage_start = self.outage_start.fetch_min(now, Ordering::SeqCst).min(now);
        if now < outage_start + time.as_millis() as u64 { CallFault::Unavailable } else { fault }
    }

    /// Counts a request, and decides whether the process is killed at it.
    fn request(&self) -> CallFault {
        if self.is_killed.load(Ordering::SeqCst) {
            return CallFault::KilledBefore;
        }
        let this_step = self.steps.fetch_add(1, Ordering::SeqCst);
        match self.fault {
            Some(Fault::Kill { step, is_processed }) if this_step >= step => {
                self.is_killed.store(true, Ordering::SeqCst);
                self.killed.notify_one();
                if is_processed { CallFault::KilledAfter } else { CallFault::KilledBefore }
            }
            Some(Fault::Fails { step, is_processed }) if this_step == step => {
                if is_processed {
                    CallFault::ResponseLost
                } else {
                    CallFault::Unavailable
                }
            }
            Some(Fault::Frozen { step, time }) => self.frozen(this_step, step, time),
            _ => CallFault::None,
        }
    }

    /// Delays requests until the process has stood still for `time`, from `step` on.
    fn frozen(&self, this_step: u64, step: u64, time: Duration) -> CallFault {
        if this_step < step {
            return CallFault::None;
        }
        let now = self.start.elapsed().as_millis() as u64;
        let end = self.outage_start.fetch_min(now, Ordering::SeqCst).min(now) + time.as_millis() as u64;
        if now < end { CallFault::Delayed(Duration::from_millis(end - now)) } else { CallFault::None }
    }
}

impl Process {
    pub(crate) fn new(world: &World) -> Self {
        Self::with(world, None, 2)
    }

    /// A process that delivers batches of `batch_rows` rows and has this fault.
    pub(crate) fn with(world: &World, fault: Option<Fault>, batch_rows: usize) -> Self {
        Self::with_setup(world, Setup { fault, batch_rows, ..Setup::new(world) })
    }

    /// A process whose first message waits at `gate`.
    pub(crate) fn with_gate(world: &World, gate: &Arc<Gate>) -> Self {
        Self::with_setup(world, Setup { sink: Arc::clone(gate) as Arc<dyn Sink>, ..Setup::new(world) })
    }

    pub(crate) fn with_setup(world: &World, setup: Setup) -> Self {
        let Setup { fault, batch_rows, tenants, sink, own_sinks, limits: run_limits, directory, attributes_memory } =
            setup;
        let faults = Arc::new(Faults::new(fault));
        let [of_storage, of_sink] = [(); 2].map(|()| Arc::clone(&faults));
        let plan = Plan::by(move |call: &StoreCall| of_storage.storage_request(call));
        let faulty_store = Arc::new(FaultyStore::new(world.storage.clone(), plan));
        let store = Arc::clone(&faulty_store) as Arc<dyn Store>;
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
        let sink = Arc::new(FaultySink { inner: sink, plan: Plan::by(move |_| of_sink.message()) });
        let own_config =
            |(tenant, sink)| (tenant, TenantConfig::new(sink, rules.clone(), limits).with_directory(directory.clone()));
        let overrides = own_sinks.into_iter().map(own_config).collect();
        let default = TenantConfig::new(sink, rules.clone(), limits).with_directory(directory.clone());
        let tenant_configs = TenantConfigs { default, overrides };
        let runner = Runner {
            ledger: Ledger::new(Arc::clone(&store), STATE_CONTAINER),
            store,
            tenants: tenants.parse().unwrap(),
            keys: KeySource {
                private_keys: Arc::new(EveryKey),
                wrap: KeyWrap::Auto,
                api: VivaApi::new(&"http://127.0.0.1:1".parse().unwrap(), None, String::new()).unwrap(),
                may_be_missing: true,
            },
            directory_memory: tenant_configs.directory_memory(),
            attributes_memory,
            due_drops: DueDrops::default(),
            due_imports: DueImports::default(),
            pass_permits: PassPermits::default(),
            tenant_configs,
            window: ReadWindow::default(),
            limits: run_limits,
            run_permits: RunPermits::default(),
        };
        Self { runner: Arc::new(runner), faults, store: faulty_store }
    }

    /// A process in whose `TENANTS` the tenant is paused.
    pub(crate) fn paused(world: &World) -> Self {
        let mut process = Self::new(world);
        let runner = Arc::get_mut(&mut process.runner).unwrap();
        runner.tenants = runner.tenants.clone().with_paused([TENANT.parse().unwrap()].into());
        process
    }

    /// Replays the drop; `None` if the process is killed.
    pub(crate) async fn replay(&self) -> Option<Result<Outcome, RunError>> {
        let drop = path();
        tokio::select! {
            result = self.replay_to_end(&drop) => Some(result),
            () = self.faults.killed.notified() => None,
        }
    }

    async fn replay_to_end(&self, drop: &DropPath) -> Result<Outcome, RunError> {
        match self.runner.record_replay(drop, false).await? {
            Recorded::Replay { .. } => self.runner.run(drop, None, Trigger::Command, None).await,
            Recorded::Nothing(outcome) => Ok(outcome),
        }
    }

    /// The containers of the process.
    pub(crate) fn watched(&self) -> WatchedContainers {
        WatchedContainers {
            store: Arc::clone(&self.runner.store),
            drop_container: DropContainer::Named("datasets".into()),
            state_container: STATE_CONTAINER.into(),
            tenants: self.runner.tenants.clone(),
        }
    }

    /// A sweep, as the timer or a person starts it; `None` if the process is killed.
    pub(crate) async fn sweep(&self, mode: SweepMode) -> Option<Report> {
        let watched = self.watched();
        tokio::select! {
            report = sweep(&self.runner, &watched, mode, SWEEP_DEADLINE) => Some(report.unwrap()),
            () = self.faults.killed.notified() => None,
        }
    }

    /// Runs the drop for the event of a blob; `None` if the process is killed.
    pub(crate) async fn event(&self, name: &str) -> Option<Result<Outcome, RunError>> {
        let (drop, blob) = (path(), path().blob(name));
        tokio::select! {
            result = self.runner.run(&drop, Some(&blob), Trigger::Event, None) => Some(result),
            () = self.faults.killed.notified() => None,
        }
    }
}

/// Unwraps every key to the same bytes.
#[derive(Debug)]
struct EveryKey;

#[async_trait]
impl PrivateKeys for EveryKey {
    async fn decrypt(
        &self,
        _tenant: TenantId,
        _version: Option<&str>,
        _padding: Padding,
        _wrapped: &[u8],
    ) -> Result<Option<SecretBytes>, KeyError> {
        Ok(Some(SecretBytes::new(vec![7; 32])))
    }
}

/// Holds back the first message until it is opened.
#[derive(Debug)]
pub(crate) struct Gate {
    receiver: Arc<MemorySink>,
    is_shut: AtomicBool,
    pub(crate) reached: Notify,
    pub(crate) open: Notify,
}

impl Gate {
    /// A gate in front of `receiver`.
    pub(crate) fn before(receiver: &Arc<MemorySink>) -> Arc<Self> {
        let (reached, open) = (Notify::new(), Notify::new());
        Arc::new(Self { receiver: Arc::clone(receiver), is_shut: AtomicBool::new(true), reached, open })
    }
}

#[async_trait]
impl Sink for Gate {
    async fn try_deliver(&self, message: &Message) -> Result<(), FailedTry> {
        if self.is_shut.swap(false, Ordering::SeqCst) {
            self.reached.notify_one();
            self.open.notified().await;
        }
        self.receiver.try_deliver(message).await
    }

    fn retry_budget(&self) -> RetryBudget {
        self.receiver.retry_budget()
    }

    fn name(&self) -> String {
        self.receiver.name()
    }
}
