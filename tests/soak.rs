//! A long run against everything that goes wrong in production: `make soak`.
//!
//! Three instances of the handler work for many tenants on drops of every kind, while storage, receiver and API fail at random,
//! events get lost and instances are killed. Then the faults end, and every drop must reach the ending that its kind has, with
//! exactly its rows. A report shows rows, duplicates, how long the last drops took, and memory and open handles over time.
//!
//! Random choices are seeded; the instants at which they happen depend on the machine.

#![expect(clippy::unwrap_used, reason = "a soak fails by panicking")]

mod support;

use std::{
    collections::BTreeMap,
    fs,
    num::NonZeroUsize,
    time::{Duration, Instant},
};

use clap::Parser;
use fastrand::Rng;
use serde_json::Value;
use testkit::{
    receiver::{Answer, Received},
    viva_api,
};
use tokio::time::sleep;
use vivadrop::{drop::TenantId, simulate::SimulateOptions};

use support::{
    azurite::Azurite,
    command::{output_of, vivadrop},
    gateway::{Behaviour, Gateway},
    host::{Host, HostClient},
    json::differences,
    scene::{METADATA, Scene, SimulatedDrop},
    vectors,
};

/// Delivers drops while everything fails at random.
#[derive(Parser)]
struct Options {
    /// How long drops keep arriving, in seconds.
    #[arg(long, default_value_t = 1800)]
    seconds: u64,
    /// Repeats the random choices of another run.
    #[arg(long)]
    seed: Option<u64>,
}

const INSTANCES: usize = 3;
const TENANTS: usize = 8;

/// How long the drops may take to end after the last fault.
const CONVERGENCE: Duration = Duration::from_secs(20 * 60);

/// What happens to a drop, and so how it must end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// All blobs arrive in random order.
    Whole,
    /// One data file arrives minutes after the others.
    Late,
    /// A data file arrives damaged, and again whole.
    Repaired,
    /// A data file is damaged and stays so.
    Damaged,
    /// The job metadata says that there is no data.
    WithoutData,
}

impl Kind {
    fn random(rng: &mut Rng) -> Self {
        match rng.u32(..10) {
            0 => Self::Late,
            1 => Self::Repaired,
            2 => Self::Damaged,
            3 => Self::WithoutData,
            _ => Self::Whole,
        }
    }

    /// The reason of the drop's last `drop.failed`; `None` if the drop must complete.
    fn reason(self) -> Option<&'static str> {
        match self {
            Self::Whole | Self::Late | Self::Repaired => None,
            Self::Damaged => Some("damaged"),
            Self::WithoutData => Some("errors"),
        }
    }
}

/// A drop that was uploaded, or is being uploaded.
struct Uploaded {
    drop: SimulatedDrop,
    kind: Kind,
    /// The blobs that arrive later, and when.
    late: Vec<(Instant, String)>,
}

/// Memory and open handles of an instance at one time.
struct Sample {
    after: Duration,
    resident: u64,
    handles: usize,
}

struct Soak {
    scene: Scene,
    gateway: Gateway,
    hosts: Vec<Host>,
    tenants: Vec<TenantId>,
    drops: Vec<Uploaded>,
    samples: Vec<Sample>,
    kills: usize,
    lost_events: usize,
    rng: Rng,
    started: Instant,
}

#[tokio::main(worker_threads = 2)]
async fn main() {
    let options = Options::parse();
    let (seconds, seed) = (options.seconds, options.seed.unwrap_or_else(|| fastrand::u64(..1_000_000)));
    println!("soak: drops arrive for {seconds} s, --seed {seed}");
    let azurite = Azurite::start();
    let mut soak = Soak::start(&azurite, seed).await;
    let end = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < end {
        soak.step().await;
    }
    let converged = soak.converge().await;
    soak.report(converged).await;
}

impl Soak {
    async fn start(azurite: &Azurite, seed: u64) -> Self {
        let gateway = Gateway::before_blobs(azurite).await;
        let mut scene = Scene::on(azurite, &gateway.endpoint(&azurite.blob_endpoint())).await;
        let tenants: Vec<_> = (0..TENANTS).map(|_| TenantId(uuid::Uuid::new_v4())).collect();
        for tenant in &tenants {
            scene.add_private_key(*tenant, &vectors::case("encrypted-ctr").private_key());
        }
        scene.set("TENANTS", &tenants.iter().map(TenantId::to_string).collect::<Vec<_>>().join(","));
        scene.set("BATCH_ROWS", "40");
        scene.set("DELIVERY_PATIENCE", "5s");
        scene.set("DEADLINE", "60s");
        let mut hosts = Vec::new();
        for _ in 0..INSTANCES {
            hosts.push(scene.host().await);
        }
        let mut soak = Self {
            scene,
            gateway,
            hosts,
            tenants,
            drops: Vec::new(),
            samples: Vec::new(),
            kills: 0,
            lost_events: 0,
            rng: Rng::with_seed(seed),
            started: Instant::now(),
        };
        soak.inject_faults();
        soak
    }

    /// Lets storage, receiver and API fail at random.
    fn inject_faults(&mut self) {
        let mut rng = self.rng.fork();
        self.gateway.answer_by(move || match rng.u32(..200) {
            0..2 => Behaviour::Status(503, "ServerBusy", None),
            2 => Behaviour::LoseResponse,
            3..6 => Behaviour::Slow(Duration::from_millis(rng.u64(50..3000))),
            _ => Behaviour::Forward,
        });
        let mut rng = self.rng.fork();
        self.scene.receiver.answer_by(move |_| match rng.u32(..200) {
            0..10 => Answer::status(503),
            10 => Answer::status(401),
            11 => Answer::retry_after(429, "2"),
            12..16 => Answer::Disconnect,
            16..20 => Answer::AcceptAndDisconnect,
            20..40 => Answer::Accept.after(Duration::from_millis(rng.u64(10..2000))),
            _ => Answer::Accept,
        });
    }

    /// Does one thing that happens in production, and waits for a moment.
    async fn step(&mut self) {
        match self.rng.u32(..20) {
            0..5 => self.begin_drop().await,
            5 => {
                let host = self.rng.usize(..self.hosts.len());
                self.hosts[host].kill_and_restart().await;
                self.kills += 1;
            }
            6 => self.sweep().await,
            7 => self.fail_api(),
            _ => {}
        }
        self.upload_late_blobs().await;
        self.sample();
        sleep(Duration::from_millis(self.rng.u64(100..1000))).await;
    }

    /// Uploads a drop in random order, and posts its events to random instances.
    async fn begin_drop(&mut self) {
        let rng = &mut self.rng;
        let (tenant, kind) = (*rng.choice(&self.tenants).unwrap(), Kind::random(rng));
        let files = NonZeroUsize::new(rng.usize(1..4)).unwrap();
        let options = SimulateOptions {
            users: rng.u64(10..400),
            weeks: 1,
            files,
            tenant: Some(tenant),
            ..SimulateOptions::default()
        };
        let drop = self.scene.drop_like(options).await;
        let mut names = drop.names();
        self.rng.shuffle(&mut names);
        let data = names.iter().find(|name| *name != METADATA).unwrap().clone();
        let mut late = Vec::new();
        if matches!(kind, Kind::Late | Kind::Repaired) {
            late.push((Instant::now() + Duration::from_secs(self.rng.u64(5..120)), data.clone()));
        }
        for name in names {
            match kind {
                Kind::Late if name == data => continue,
                Kind::Damaged | Kind::Repaired if name == data => {
                    let mut bytes = fs::read(drop.simulated.drop.join(&name)).unwrap();
                    let middle = bytes.len() / 2;
                    bytes[middle..].iter_mut().for_each(|byte| *byte ^= 0x5a);
                    self.scene.write(&drop.path, &name, bytes).await;
                }
                Kind::WithoutData if name == METADATA => {
                    let text = fs::read(drop.simulated.drop.join(&name)).unwrap();
                    let mut metadata: Value = serde_json::from_slice(&text).unwrap();
                    metadata["Errors"] = "no consent".into();
                    self.scene.write(&drop.path, &name, metadata.to_string()).await;
                }
                _ => {
                    self.scene.put(&drop, &name).await;
                }
            }
            self.post_event(&drop, &name);
        }
        self.drops.push(Uploaded { drop, kind, late });
    }

    async fn upload_late_blobs(&mut self) {
        let now = Instant::now();
        for number in 0..self.drops.len() {
            let (due, later) = std::mem::take(&mut self.drops[number].late).into_iter().partition(|(at, _)| *at <= now);
            self.drops[number].late = later;
            let due: Vec<(Instant, String)> = due;
            for (_, name) in due {
                self.scene.put(&self.drops[number].drop, &name).await;
                let drop = &self.drops[number].drop;
                let (event, client) = (self.scene.event(drop, &name), self.any_client());
                tokio::spawn(async move { post(&client, &event).await });
            }
        }
    }

    /// Posts the event of a blob as the host does. Some events get lost.
    fn post_event(&mut self, drop: &SimulatedDrop, name: &str) {
        if self.rng.u32(..20) == 0 {
            self.lost_events += 1;
            return;
        }
        let (event, client) = (self.scene.event(drop, name), self.any_client());
        tokio::spawn(async move { post(&client, &event).await });
    }

    fn any_client(&mut self) -> HostClient {
        let host = self.rng.usize(..self.hosts.len());
        self.hosts[host].client()
    }

    /// A person's sweep: it lists the containers each time.
    async fn sweep(&mut self) {
        let ended = output_of(vivadrop().arg("sweep").envs(&self.scene.settings)).await;
        assert!(matches!(ended.code, Some(0 | 1)), "sweep: {:?} {}", ended.code, ended.stderr);
    }

    fn fail_api(&mut self) {
        let behaviour = match self.rng.u32(..4) {
            0 => viva_api::Behaviour::Disconnect,
            1 => viva_api::Behaviour::Throttled { retry_after: "1".into() },
            2 => viva_api::Behaviour::Slow(Duration::from_secs(3)),
            _ => viva_api::Behaviour::Status { status: 503, body: String::new() },
        };
        self.scene.api.answer_next(self.rng.usize(1..5), behaviour);
    }

    fn sample(&mut self) {
        let due = self.samples.last().is_none_or(|last| self.started.elapsed() - last.after > Duration::from_secs(10));
        if due {
            let processes = self.hosts.iter().map(Host::process);
            let samples = processes.map(|process| Sample {
                after: self.started.elapsed(),
                resident: resident_memory(process),
                handles: fs::read_dir(format!("/proc/{process}/fd")).map_or(0, Iterator::count),
            });
            self.samples.extend(samples.max_by_key(|sample| sample.resident));
        }
    }

    /// Ends all faults and sweeps until every drop has its ending; returns how long that took.
    async fn converge(&mut self) -> Duration {
        self.gateway.answer_always(Behaviour::Forward);
        self.scene.receiver.answer_always(Answer::Accept);
        self.scene.api.answer_always(viva_api::Behaviour::Normal);
        for uploaded in &mut self.drops {
            uploaded.late.iter_mut().for_each(|(at, _)| *at = Instant::now());
        }
        self.upload_late_blobs().await;
        let started = Instant::now();
        loop {
            self.sweep().await;
            self.sample();
            let received = self.scene.receiver.received();
            let open: Vec<_> = self.drops.iter().filter(|uploaded| !uploaded.has_its_ending(&received)).collect();
            if open.is_empty() {
                return started.elapsed();
            }
            if started.elapsed() > CONVERGENCE {
                let open: Vec<_> =
                    open.iter().map(|uploaded| format!("{:?} {}", uploaded.kind, uploaded.drop.path())).collect();
                panic!("these drops did not reach their ending:\n{}", open.join("\n"));
            }
            sleep(Duration::from_secs(1)).await;
        }
    }

    /// Checks every row, and prints the figures.
    async fn report(self, converged: Duration) {
        let received = self.scene.receiver.received();
        let (mut rows, mut kinds) = (0, BTreeMap::<Kind, usize>::new());
        for Uploaded { drop, kind, .. } in &self.drops {
            *kinds.entry(*kind).or_default() += 1;
            if kind.reason().is_none() {
                let expected = self.scene.rows_of(drop).await;
                let path = drop.path();
                assert_eq!(differences(expected.iter().map(String::as_str), received.rows(&path)), None, "{path}");
                rows += expected.len();
            }
        }
        assert_eq!((received.bad_signatures, received.malformed, received.not_found), (0, 0, 0));
        let (first, last) = (self.samples.first().unwrap(), self.samples.last().unwrap());
        let peak = self.samples.iter().map(|sample| sample.resident).max().unwrap();
        let handles = self.samples.iter().map(|sample| sample.handles).max().unwrap();
        println!("drops         {} of {TENANTS} tenants: {kinds:?}", self.drops.len());
        println!("rows          {rows} delivered exactly, in {} messages", received.accepted);
        println!("duplicates    {} messages, which receivers drop by their ids", received.duplicates);
        println!(
            "faults        {} kills, {} lost events, {} requests to storage",
            self.kills,
            self.lost_events,
            self.gateway.requests().len()
        );
        println!("converged     {:.0} s after the last fault", converged.as_secs_f64());
        println!("memory        {} KiB at first, {} KiB at last, at most {peak} KiB", first.resident, last.resident);
        println!("open handles  {} at first, {} at last, at most {handles}", first.handles, last.handles);
        let minutes = self.samples.iter().step_by((self.samples.len() / 20).max(1));
        for Sample { after, resident, handles } in minutes {
            println!("  after {:4} s: {resident} KiB, {handles} open handles", after.as_secs());
        }
    }
}

impl Uploaded {
    /// Whether the ending with the highest sequence is the one that the drop must have.
    fn has_its_ending(&self, received: &Received) -> bool {
        let path = self.drop.path();
        let endings = received.log.iter().filter(|delivery| delivery.drop == path && delivery.sequence.is_some());
        let last = endings.max_by_key(|ending| ending.sequence);
        let failed = received.drops.get(&path).map(|drop| drop.failed.as_slice()).unwrap_or_default();
        match (last.map(|ending| ending.kind.as_str()), self.kind.reason()) {
            (Some("viva.insights.drop.completed"), None) => self.late.is_empty(),
            (Some("viva.insights.drop.failed"), Some(reason)) => {
                failed.last().is_some_and(|last| last.reason == reason)
            }
            _ => false,
        }
    }
}

/// Posts an event up to five times, as the host does. The instance may be killed meanwhile.
async fn post(client: &HostClient, event: &Value) {
    for _ in 0..5 {
        if client.try_post(event).await.is_some_and(|answer| answer.is_success()) {
            return;
        }
    }
}

/// The resident memory of a process, in KiB; 0 if it has exited.
fn resident_memory(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}
