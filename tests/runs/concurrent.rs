//! Several runs of one drop at the same time, and files that change during a run.

use std::time::Duration;

use futures::future::join_all;
use serde_json::json;
use tokio::time::Instant;
use vivadrop::{
    run::{Outcome, Trigger},
    store::Store,
};

use super::{
    process::{Gate, Process},
    world::{METADATA, World, assert_completed, path},
};

#[tokio::test(start_paused = true)]
async fn a_file_that_arrives_during_a_run_is_found_by_the_runs_last_snapshot() {
    let world = World::with_metadata(12).await;
    world.put_rows("a", 7).await;
    let gate = Gate::before(&world.receiver);
    let (busy, other) = (Process::with_gate(&world, &gate), Process::new(&world));
    let second = async {
        gate.reached.notified().await;
        world.put_rows("b", 5).await;
        let outcome = other.event("b").await.unwrap().unwrap();
        gate.open.notify_one();
        outcome
    };
    let (first, second) = tokio::join!(busy.event("a"), second);
    // The event of `b` was answered while `a` was in progress, so no event is left to complete the drop.
    assert_eq!(second, Outcome::Open { rows: 5, of: Some(12) });
    assert_completed(&first.unwrap().unwrap());
    world.assert_complete("a new file");
}

#[tokio::test(start_paused = true)]
async fn a_file_that_is_overwritten_during_its_delivery_is_delivered_again_by_the_same_run() {
    for is_same_process in [true, false] {
        let world = World::with_two_files().await;
        let gate = Gate::before(&world.receiver);
        let (busy, other) = (Process::with_gate(&world, &gate), Process::new(&world));
        let second = async {
            gate.reached.notified().await;
            world.put_rows("a", 7).await;
            let process = if is_same_process { &busy } else { &other };
            let outcome = process.event("a").await.unwrap().unwrap();
            gate.open.notify_one();
            outcome
        };
        let (first, second) = tokio::join!(busy.event("a"), second);
        // The event of the new version was answered while the old one was in progress, so no event is left to deliver
        // it.
        assert!(matches!(second, Outcome::Open { .. }), "{second:?}");
        assert_completed(&first.unwrap().unwrap());
        let endings = world.endings();
        assert_eq!((endings.len(), &endings[0].1["rows"]), (1, &json!(12)));
        let newest = world.storage.find(&path().blob("a")).await.unwrap().unwrap().etag;
        assert_eq!(world.record("files/a.json").await["etag"], newest.0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_delivers_free_files_before_it_waits_for_a_held_one() {
    let world = World::with_metadata(20).await;
    for name in ["a", "b", "c", "d"] {
        world.put_rows(name, 5).await;
    }
    let gate = Gate::before(&world.receiver);
    let (busy, other) = (Process::with_gate(&world, &gate), Process::new(&world));
    let second = async {
        gate.reached.notified().await;
        let start = Instant::now();
        let outcome = other.event("d").await.unwrap().unwrap();
        gate.open.notify_one();
        assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
        outcome
    };
    let (first, second) = tokio::join!(busy.event("a"), second);
    // All files except `a`, which the first run holds.
    assert_eq!(second, Outcome::Open { rows: 15, of: Some(20) });
    assert_eq!(first.unwrap().unwrap(), Outcome::Completed { rows: 20, bad_rows: 0, earlier: None });
}

#[tokio::test(start_paused = true)]
async fn a_drop_with_a_file_set_aside_is_not_over_while_another_run_holds_a_file() {
    let world = World::with_metadata(12).await;
    world.put_rows("a", 7).await;
    world.put("b", "not an object\n").await;
    let gate = Gate::before(&world.receiver);
    let (busy, other) = (Process::with_gate(&world, &gate), Process::new(&world));
    let second = async {
        gate.reached.notified().await;
        let outcome = other.event("b").await.unwrap().unwrap();
        gate.open.notify_one();
        outcome
    };
    let (first, second) = tokio::join!(busy.event("a"), second);
    // A sweep runs a drop again until it is over.
    for (outcome, expected) in [(second, false), (first.unwrap().unwrap(), true)] {
        assert!(matches!(outcome, Outcome::SetAside { is_over, .. } if is_over == expected), "{outcome:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn concurrent_events_in_one_process_complete_the_drop_once() {
    let world = World::with_two_files().await;
    let process = Process::new(&world);
    let names = ["a", "b", METADATA, "a", "b"];
    let outcomes = join_all(
        names.map(async |name| process.runner.run(&path(), Some(&path().blob(name)), Trigger::Event, None).await),
    )
    .await;
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    world.assert_complete("concurrent events");
    let messages = world.receiver.messages();
    let is_batch = |body: &[u8]| str::from_utf8(body).unwrap().contains("viva.insights.rows");
    let batches = messages.iter().filter(|message| is_batch(&message.body)).count();
    assert_eq!(batches, 4 + 3, "no batch is sent twice");
}
