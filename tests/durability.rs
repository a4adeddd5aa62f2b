//! The handler killed at random instants, on one instance and on three, before a receiver that fails at random: what the
//! receiver has in the end, doubles dropped, is exactly the drop.
//!
//! Chance is seeded: a failure names its seed, though when exactly a process dies is the machine's to say.

#![expect(clippy::unwrap_used, reason = "a test says what went wrong by failing")]

mod support;

use std::{
    collections::VecDeque,
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::Value;
use testkit::receiver::{Answer, Delivery};

use support::{
    host::Host,
    scene::{Scene, assert_complete, has_ended},
};

/// The events that the host has not got rid of, and how many are with a handler.
#[derive(Default)]
struct Queue {
    waiting: VecDeque<Value>,
    under_way: usize,
}

impl Queue {
    fn take(&mut self) -> Option<Value> {
        let event = self.waiting.pop_front()?;
        self.under_way += 1;
        Some(event)
    }

    fn give_back(&mut self, event: Option<Value>) {
        self.under_way -= 1;
        self.waiting.extend(event);
    }

    fn is_over(&self) -> bool {
        self.waiting.is_empty() && self.under_way == 0
    }
}

/// One instance of the app: takes events and posts them, and is killed now and then while it works on one.
async fn instance(mut host: Host, queue: Arc<Mutex<Queue>>, kills: Arc<Mutex<u32>>, seed: u64) {
    let mut chance = fastrand::Rng::with_seed(seed);
    loop {
        let Some(event) = queue.lock().unwrap().take() else {
            if queue.lock().unwrap().is_over() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        let (line, posted) = (host.client(), event.clone());
        let mut answer = tokio::spawn(async move { line.try_post(&posted).await });
        let death = Duration::from_millis(chance.u64(10..900));
        let answered = tokio::select! {
            answer = &mut answer => answer.unwrap(),
            () = tokio::time::sleep(death) => {
                let dies = { let mut left = kills.lock().unwrap(); let dies = *left > 0; *left -= u32::from(dies); dies };
                if dies {
                    host.kill_and_restart().await;
                }
                answer.await.unwrap()
            }
        };
        let is_done_with = answered.is_some_and(|answer| answer.is_success());
        queue.lock().unwrap().give_back((!is_done_with).then_some(event));
    }
}

/// What the receiver does with a delivery: much goes wrong, by seed, message and how often it came.
fn judge(seed: u64) -> impl Fn(&Delivery) -> Answer + Send + Sync + 'static {
    let seen = Mutex::new(std::collections::HashMap::<String, u64>::new());
    move |delivery| {
        let mut seen = seen.lock().unwrap();
        let times = seen.entry(delivery.id.clone()).or_default();
        *times += 1;
        let mut hash = DefaultHasher::new();
        (seed, &delivery.id, *times).hash(&mut hash);
        match hash.finish() % 100 {
            0..8 => Answer::status(503),
            8..12 => Answer::Disconnect,
            12..16 => Answer::AcceptAndDisconnect,
            16..40 => Answer::Accept.after(Duration::from_millis(60)),
            _ => Answer::Accept.after(Duration::from_millis(5)),
        }
    }
}

async fn survives(mut scene: Scene, instances: u64, kills: u32, seed: u64) {
    eprintln!("seed {seed}");
    scene.set("BATCH_ROWS", "40");
    scene.set("IN_FLIGHT", "3");
    scene.set("DELIVERY_PATIENCE", "3s");
    let drop = scene.drop(6_000, 3).await;
    let rows = scene.rows_of(&drop).await;
    scene.upload(&drop).await;
    scene.receiver.answer_by(judge(seed));

    // Every event comes twice, in some order.
    let mut events: Vec<_> =
        drop.names().iter().flat_map(|name| [scene.event(&drop, name), scene.event(&drop, name)]).collect();
    fastrand::Rng::with_seed(seed).shuffle(&mut events);
    let queue = Arc::new(Mutex::new(Queue { waiting: events.into(), under_way: 0 }));
    let kills = Arc::new(Mutex::new(kills));
    let mut running = Vec::new();
    for number in 0..instances {
        let host = scene.host().await;
        running.push(tokio::spawn(instance(host, Arc::clone(&queue), Arc::clone(&kills), seed + number)));
    }
    for instance in running {
        instance.await.unwrap();
    }
    // Every event was answered for: so everything is there, with nothing left to wait for.
    let received = scene.receiver.received();
    assert!(has_ended(&received, &drop), "every event was answered 2xx, and the drop has not ended");
    assert_complete(&received, &drop, &rows);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_instance_that_is_killed_again_and_again_loses_nothing() {
    survives(Scene::in_a_folder().await, 1, 8, 7).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_instances_that_are_killed_again_and_again_lose_nothing() {
    survives(Scene::in_a_folder().await, 3, 12, 23).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_instance_on_a_storage_account_loses_nothing() {
    survives(Scene::on_azurite().await, 1, 3, 42).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_instances_on_one_storage_account_lose_nothing() {
    survives(Scene::on_azurite().await, 3, 5, 99).await;
}
