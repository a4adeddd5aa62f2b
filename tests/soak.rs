//! A long run against everything that goes wrong in production: `make soak`.
//!
//! Three instances of the handler work for many tenants on drops of every kind, while storage, receiver and API fail at
//! random, events get lost, clocks jump, people edit definitions of attributes, and instances are killed. Then the
//! faults end, and every drop must reach the ending that its kind has, with exactly its rows, and every receiver must
//! have the attributes that `preview` computes. A report shows rows, duplicates, how long the last drops took, and
//! memory and open handles over time.
//!
//! Random choices are seeded; the instants at which they happen depend on the machine.

#![expect(clippy::unwrap_used, reason = "a soak fails by panicking")]

mod support;

#[path = "soak/clock.rs"]
mod clock;
#[path = "soak/definitions.rs"]
mod definitions;
#[path = "soak/drops.rs"]
mod drops;
#[path = "soak/report.rs"]
mod report;

use std::time::{Duration, Instant};

use clap::Parser;
use fastrand::Rng;
use testkit::{receiver::Answer, viva_api};
use tokio::time::sleep;
use vivadrop::drop::TenantId;

use clock::Clock;
use drops::Uploaded;
use report::Figures;
use support::{
    azurite::Azurite,
    command::{output_of, vivadrop},
    gateway::{Behaviour, Gateway},
    host::Host,
    scene::Scene,
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

/// How many of the tenants have directories that rows are joined to.
const JOINING: usize = 3;

/// How long the drops may take to end after the last fault.
const CONVERGENCE: Duration = Duration::from_secs(20 * 60);

/// An instance of the handler, and its clock.
struct Instance {
    host: Host,
    clock: Clock,
}

impl Drop for Instance {
    fn drop(&mut self) {
        Clock::clean_up(self.host.process());
    }
}

struct Soak {
    scene: Scene,
    gateway: Gateway,
    instances: Vec<Instance>,
    tenants: Vec<TenantId>,
    drops: Vec<Uploaded>,
    figures: Figures,
    rng: Rng,
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
    /// Starts the instances, for tenants of which some join rows to directories.
    async fn start(azurite: &Azurite, seed: u64) -> Self {
        let gateway = Gateway::before_blobs(azurite).await;
        let mut scene = Scene::on(azurite, &gateway.endpoint(&azurite.blob_endpoint())).await;
        let tenants: Vec<_> = (0..TENANTS).map(|_| TenantId(uuid::Uuid::new_v4())).collect();
        for tenant in &tenants {
            scene.add_private_key(*tenant, &vectors::case("encrypted-ctr").private_key());
        }
        // A directory always arrives, so nothing waits for as long as `DIRECTORY_WAIT`, even if clocks jump by hours.
        let join = serde_json::json!({"DIRECTORY": "join", "DIRECTORY_WAIT": "3d"});
        let settings = |(number, tenant): (usize, &TenantId)| {
            (tenant.to_string(), if number < JOINING { join.clone() } else { serde_json::json!({}) })
        };
        let settings: serde_json::Map<_, _> = tenants.iter().enumerate().map(settings).collect();
        scene.set("TENANTS", &serde_json::Value::from(settings).to_string());
        scene.set("BATCH_ROWS", "40");
        scene.set("DELIVERY_PATIENCE", "5s");
        scene.set("DEADLINE", "60s");
        let mut instances = Vec::new();
        for _ in 0..INSTANCES {
            let clock = Clock::right();
            let settings = scene.settings.clone().into_iter().chain(clock.settings()).collect();
            instances.push(Instance { host: Host::start(settings, scene.secrets.clone()).await, clock });
        }
        let (rng, figures) = (Rng::with_seed(seed), Figures::default());
        let mut soak = Self { scene, gateway, instances, tenants, drops: Vec::new(), figures, rng };
        soak.inject_faults();
        soak
    }

    /// Lets storage and receiver fail at random. [`Self::fail_api`] does this to the API.
    fn inject_faults(&mut self) {
        let mut rng = self.rng.fork();
        self.gateway.answer_by(move |_, _| match rng.u32(..200) {
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
        match self.rng.u32(..28) {
            0..5 => self.begin_drop().await,
            5 => self.kill_an_instance().await,
            6 => self.sweep().await,
            7 => self.fail_api(),
            8..13 => self.edit_definitions().await,
            13 => self.let_a_clock_jump(),
            _ => {}
        }
        self.upload_late_blobs().await;
        self.sample();
        sleep(Duration::from_millis(self.rng.u64(100..1000))).await;
    }

    /// Kills an instance and starts it again, in half of the cases with another clock.
    async fn kill_an_instance(&mut self) {
        let number = self.rng.usize(..INSTANCES);
        if self.rng.bool() {
            self.instances[number].clock.jump(&mut self.rng);
        }
        let instance = &mut self.instances[number];
        Clock::clean_up(instance.host.process());
        instance.host.kill_and_restart().await;
        self.figures.kills += 1;
    }

    /// Changes the clock of an instance while it runs.
    fn let_a_clock_jump(&mut self) {
        let number = self.rng.usize(..INSTANCES);
        self.instances[number].clock.jump(&mut self.rng);
        self.figures.clock_jumps += 1;
    }

    /// A person's sweep: it lists the containers each time.
    async fn sweep(&mut self) {
        let ended = output_of(vivadrop().arg("sweep").envs(&self.scene.settings)).await;
        assert!(matches!(ended.code, Some(0 | 1)), "sweep: {:?} {}", ended.code, ended.stderr);
    }

    /// Lets the next requests to the API fail, all in the same way.
    fn fail_api(&mut self) {
        let behaviour = match self.rng.u32(..4) {
            0 => viva_api::Behaviour::Disconnect,
            1 => viva_api::Behaviour::Throttled { retry_after: "1".into() },
            2 => viva_api::Behaviour::Slow(Duration::from_secs(3)),
            _ => viva_api::Behaviour::Status { status: 503, body: String::new() },
        };
        self.scene.api.answer_next(self.rng.usize(1..5), behaviour);
    }

    /// Ends all faults and sweeps until nothing is missing; returns how long that took.
    async fn converge(&mut self) -> Duration {
        self.gateway.answer_always(Behaviour::Forward);
        self.scene.receiver.answer_always(Answer::Accept);
        self.scene.api.answer_always(viva_api::Behaviour::Normal);
        self.instances.iter_mut().for_each(|instance| instance.clock.set(0));
        self.drops.iter_mut().for_each(Uploaded::make_due);
        self.upload_late_blobs().await;
        let started = Instant::now();
        loop {
            self.sweep().await;
            self.sample();
            let mut missing = self.missing_endings();
            if missing.is_empty() {
                missing = self.missing_imports().await;
            }
            if missing.is_empty() {
                return started.elapsed();
            }
            assert!(started.elapsed() < CONVERGENCE, "this is missing:\n{}", missing.join("\n"));
            sleep(Duration::from_secs(1)).await;
        }
    }
}
