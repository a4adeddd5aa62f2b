//! Kills the handler at random instants, with one instance and with three, while the receiver fails at random. In the
//! end the receiver must have exactly the rows of the drop, after deduplication.
//!
//! Random choices are seeded and a failure prints its seed, but the exact instant of a kill depends on the machine.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

#[path = "durability/imports.rs"]
mod imports;

use std::{
    collections::{HashMap, VecDeque},
    hash::{DefaultHasher, Hash, Hasher},
    num::NonZeroUsize,
    ops::Range,
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::Value;
use testkit::receiver::{Answer, Delivery};
use vivadrop::simulate::SimulateOptions;

use support::{
    command::{output_of, vivadrop},
    host::Host,
    host_payloads::blob_trigger,
    scene::{DATA, METADATA, Scene, assert_complete, has_ended},
};

/// The events that no handler has answered with 2xx yet.
#[derive(Default)]
struct EventQueue {
    waiting: VecDeque<Value>,
    in_progress: usize,
}

impl EventQueue {
    /// Takes the next event.
    fn pop(&mut self) -> Option<Value> {
        let event = self.waiting.pop_front()?;
        self.in_progress += 1;
        Some(event)
    }

    /// Ends the processing of an event; a failed event is queued again.
    fn finish(&mut self, failed: Option<Value>) {
        self.in_progress -= 1;
        self.waiting.extend(failed);
    }

    /// Whether every event was answered with 2xx.
    fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.in_progress == 0
    }
}

/// How often handlers were killed, and how often they may be.
struct Kills {
    done: u32,
    allowed: u32,
}

impl Kills {
    /// Takes one of the remaining kills.
    fn take(&mut self) -> bool {
        let is_left = self.done < self.allowed;
        self.done += u32::from(is_left);
        is_left
    }

    /// After how many milliseconds a handler is killed if the event takes longer. The first kill comes soon, so that it
    /// comes before all events have ended.
    fn time(&self) -> Range<u64> {
        if self.done == 0 { 10..60 } else { 10..900 }
    }
}

/// One instance of the app: posts events until the queue is empty. Kills its handler while an event takes long.
async fn run_instance(mut host: Host, queue: Arc<Mutex<EventQueue>>, kills: Arc<Mutex<Kills>>, seed: u64) {
    let mut rng = fastrand::Rng::with_seed(seed);
    loop {
        let Some(event) = queue.lock().unwrap().pop() else {
            if queue.lock().unwrap().is_empty() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        let (client, posted) = (host.client(), event.clone());
        let mut post = tokio::spawn(async move { client.try_post(&posted).await });
        let time_to_kill = Duration::from_millis(rng.u64(kills.lock().unwrap().time()));
        let answer = tokio::select! {
            answer = &mut post => answer.unwrap(),
            () = tokio::time::sleep(time_to_kill) => {
                let is_killed = kills.lock().unwrap().take();
                if is_killed {
                    host.kill_and_restart().await;
                }
                post.await.unwrap()
            }
        };
        let is_handled = answer.is_some_and(|answer| answer.is_success());
        queue.lock().unwrap().finish((!is_handled).then_some(event));
    }
}

/// A receiver's rule that rejects, delays and loses deliveries. The answer is a function of the seed, the message id,
/// and how often the message has arrived.
fn random_answers(seed: u64) -> impl FnMut(&Delivery) -> Answer + Send + 'static {
    let mut arrivals = HashMap::<String, u64>::new();
    move |delivery| {
        let arrival = arrivals.entry(delivery.id.clone()).or_default();
        *arrival += 1;
        let mut hash = DefaultHasher::new();
        (seed, &delivery.id, *arrival).hash(&mut hash);
        match hash.finish() % 100 {
            0..8 => Answer::status(503),
            8..12 => Answer::Disconnect,
            12..16 => Answer::AcceptAndDisconnect,
            16..40 => Answer::Accept.after(Duration::from_millis(60)),
            _ => Answer::Accept.after(Duration::from_millis(5)),
        }
    }
}

/// Delivers a drop with instances that are killed up to `kills` times; the receiver must have every row.
async fn delivers_everything(mut scene: Scene, instances: u64, kills: u32, seed: u64) {
    receive_badly(&mut scene, seed);
    let drop = scene.drop(6_000, 3).await;
    let rows = scene.rows_of(&drop).await;
    scene.upload(&drop).await;

    let events = drop.names().iter().map(|name| scene.event(&drop, name)).collect();
    run_instances(&scene, events, instances, kills, seed).await;
    // All events were answered with 2xx, so everything must have been delivered.
    let received = scene.receiver.received();
    assert!(has_ended(&received, &drop), "all events were answered with 2xx, but the drop has not ended");
    assert_complete(&received, &drop, &rows);
}

/// Small batches, and a receiver that fails at random.
fn receive_badly(scene: &mut Scene, seed: u64) {
    eprintln!("seed {seed}");
    scene.set("BATCH_ROWS", "40");
    scene.set("IN_FLIGHT", "3");
    scene.set("DELIVERY_PATIENCE", "3s");
    scene.receiver.answer_by(random_answers(seed));
}

/// Posts every event twice, in random order, to several instances, of which at least one is killed; returns when all
/// events were answered with 2xx.
async fn run_instances(scene: &Scene, events: Vec<Value>, instances: u64, kills: u32, seed: u64) {
    let mut events = [events.clone(), events].concat();
    fastrand::Rng::with_seed(seed).shuffle(&mut events);
    let queue = Arc::new(Mutex::new(EventQueue { waiting: events.into(), in_progress: 0 }));
    let kills = Arc::new(Mutex::new(Kills { done: 0, allowed: kills }));
    let mut running = Vec::new();
    for number in 0..instances {
        let host = scene.host().await;
        running.push(tokio::spawn(run_instance(host, Arc::clone(&queue), Arc::clone(&kills), seed + number)));
    }
    for instance in running {
        instance.await.unwrap();
    }
    assert!(kills.lock().unwrap().done > 0, "no handler was killed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_instances_that_are_killed_repeatedly_join_every_row_to_the_same_directory() {
    let (mut scene, seed) = (Scene::on_azurite().await, 5);
    receive_badly(&mut scene, seed);
    scene.set("DIRECTORY", "join");
    let files = NonZeroUsize::new(3).unwrap();
    let options = SimulateOptions { users: 2_000, weeks: 2, files, directory: true, ..SimulateOptions::default() };
    let drop = scene.drop_like(options).await;
    let rows = scene.joined_rows_of(&drop).await;
    scene.upload(&drop).await;
    let directory = scene.upload_directory(&drop).await;

    let mut events: Vec<_> = drop.names().iter().map(|name| scene.event(&drop, name)).collect();
    events.extend([DATA, METADATA].map(|name| blob_trigger(&scene.address_of(&directory.blob(name)), 1)));
    run_instances(&scene, events, 3, 5, seed).await;
    // A drop that waits for its directory is answered with 2xx. If the process that would have run it was killed, a
    // sweep does.
    for _ in 0..20 {
        if has_ended(&scene.receiver.received(), &drop) {
            break;
        }
        let ended = output_of(vivadrop().arg("sweep").envs(&scene.settings)).await;
        assert!(matches!(ended.code, Some(0 | 1)), "{}", ended.stderr);
    }
    assert_complete(&scene.receiver.received(), &drop, &rows);
}

/// Stops the process (SIGSTOP) or lets it continue (SIGCONT).
fn signal(host: &Host, signal: &str) {
    let sent = std::process::Command::new("kill").args([signal, &host.process().to_string()]).status();
    assert!(sent.unwrap().success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_that_stood_still_for_longer_than_a_lease_sends_no_stale_ending() {
    let mut scene = Scene::on_azurite().await;
    scene.set("BATCH_ROWS", "40");
    let (first, second) = (scene.host().await, scene.host().await);
    let drop = scene.drop(200, 2).await;
    let rows = scene.rows_of(&drop).await;
    scene.upload(&drop).await;
    let good = std::fs::read(drop.simulated.drop.join(METADATA)).unwrap();
    let mut bad: Value = serde_json::from_slice(&good).unwrap();
    bad["Errors"] = "no consent".into();
    scene.write(&drop.path, METADATA, bad.to_string()).await;
    // The receiver is down while the first instance wants to report the failure.
    scene.receiver.answer_always(Answer::status(503));
    let posted = first.begin_post(scene.event(&drop, METADATA));
    scene.wait_for(|received| received.requests >= 2).await;
    signal(&first, "-STOP");

    scene.write(&drop.path, METADATA, good).await;
    scene.receiver.answer_always(Answer::Accept);
    let answers = second.trigger(&scene.event(&drop, METADATA)).await;
    assert_eq!(answers.last().unwrap().status, 200, "{answers:?}");
    tokio::time::sleep(Duration::from_secs(16)).await;
    signal(&first, "-CONT");
    let answer = posted.await.unwrap().expect("the first instance answers");
    assert_eq!(answer.status, 200, "{}", answer.log);

    let received = scene.receiver.received();
    assert_complete(&received, &drop, &rows);
    let last = received.log.iter().filter(|delivery| delivery.sequence.is_some()).max_by_key(|ending| ending.sequence);
    assert_eq!(last.unwrap().kind, "viva.insights.drop.completed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_instance_that_is_killed_repeatedly_loses_no_row() {
    delivers_everything(Scene::in_a_folder().await, 1, 8, 7).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_instances_that_are_killed_repeatedly_lose_no_row() {
    delivers_everything(Scene::in_a_folder().await, 3, 12, 23).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_instance_with_a_storage_account_loses_no_row() {
    delivers_everything(Scene::on_azurite().await, 1, 3, 42).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_instances_with_one_storage_account_lose_no_row() {
    delivers_everything(Scene::on_azurite().await, 3, 5, 99).await;
}
