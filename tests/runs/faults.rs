//! A process is killed, or loses its connection to the ledger, at any step.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use serde_json::json;
use vivadrop::{run::Outcome, verdict::Reason};

use super::{
    process::{Fault, Process, at_every_step},
    world::{METADATA, World, assert_completed},
};

#[tokio::test(start_paused = true)]
async fn a_process_killed_at_any_step_loses_no_row_and_no_ending() {
    at_every_step(Fault::kill, async |fault| {
        let world = World::with_two_files().await;
        let process = Process::with(&world, fault, 2);
        let faults = Arc::clone(&process.faults);
        let outcome = world.deliver_event(process, METADATA).await;
        assert_completed(&outcome);
        world.assert_complete(&format!("{fault:?}"));

        let messages = world.receiver.messages().len();
        assert_completed(&Process::new(&world).event("a").await.unwrap().unwrap());
        assert_eq!(world.receiver.messages().len(), messages, "a late event sends no message");
        faults.steps()
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn one_of_three_concurrent_processes_may_be_killed_at_any_step() {
    at_every_step(Fault::kill, async |fault| {
        let world = World::with_two_files().await;
        let killed = Process::with(&world, fault, 2);
        let faults = Arc::clone(&killed.faults);
        tokio::join!(
            world.deliver_event(killed, "a"),
            world.deliver_event(Process::new(&world), "b"),
            world.deliver_event(Process::new(&world), METADATA),
        );
        world.assert_complete(&format!("{fault:?}"));
        faults.steps()
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_process_that_outlives_its_lease_does_no_harm() {
    let steps = {
        let world = World::with_two_files().await;
        let process = Process::new(&world);
        let faults = Arc::clone(&process.faults);
        world.deliver_event(process, "a").await;
        faults.steps()
    };
    // An outage shorter than a lease, and one that is long enough for another process to take over.
    for time in [10, 20].map(Duration::from_secs) {
        for step in 0..steps {
            let world = World::with_two_files().await;
            let fault = Some(Fault::Outage { step, time });
            tokio::join!(
                world.deliver_event(Process::with(&world, fault, 2), "a"),
                world.deliver_event(Process::new(&world), "b"),
            );
            world.assert_complete(&format!("{fault:?}"));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_file_is_reported_as_set_aside_once_wherever_a_process_is_killed() {
    at_every_step(Fault::kill, async |fault| {
        let world = World::with_metadata(12).await;
        world.put_rows("a", 7).await;
        world.put("b", "{\"b\":0}\n{\"b\":1}\nnot an object\n").await;
        let process = Process::with(&world, fault, 2);
        let faults = Arc::clone(&process.faults);
        let outcome = world.deliver_event(process, "b").await;
        assert!(matches!(outcome, Outcome::SetAside { reason: Reason::BadRow, .. }), "{fault:?}: {outcome:?}");
        assert_eq!(world.row_counts(), [("a".into(), 7), ("b".into(), 2)].into(), "{fault:?}");
        let endings = world.endings();
        let [(_, failed)] = &endings[..] else { panic!("{fault:?}: {endings:?}") };
        assert_eq!((&failed["file"], &failed["rowsDelivered"]), (&json!("b"), &json!(2)), "{fault:?}");

        let messages = world.receiver.messages().len();
        assert_eq!(Process::new(&world).event("a").await.unwrap().unwrap(), outcome);
        assert_eq!(world.receiver.messages().len(), messages, "a late event sends no message");
        let (file, drop) = (world.record("files/b.json").await, world.record("drop.json").await);
        assert_eq!((&file["status"], &file["reason"]), (&json!("set-aside"), &json!("bad-row")));
        assert_eq!((&drop["status"], &drop["message"]), (&json!("set-aside"), &file["message"]));
        faults.steps()
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn batches_of_a_file_keep_their_size_if_the_setting_changes_between_two_runs() {
    for step in 0..30 {
        let world = World::with_two_files().await;
        let fault = Some(Fault::Kill { step, is_processed: true });
        Process::with(&world, fault, 2).event("a").await;
        world.deliver_event(Process::with(&world, None, 3), "a").await;
        world.assert_complete(&format!("{fault:?}"));

        let mut sizes = BTreeMap::<_, BTreeSet<u64>>::new();
        for batch in world.batches() {
            let file = batch["file"].as_str().unwrap();
            let (first, end) = (batch["firstRow"].as_u64().unwrap(), batch["endRow"].as_u64().unwrap());
            // The last batch of a file may be shorter.
            if end < if file == "a" { 7 } else { 5 } {
                sizes.entry(file.to_owned()).or_default().insert(end - first);
            }
        }
        assert!(sizes.values().all(|sizes| sizes.len() == 1), "{fault:?}: {sizes:?}");
    }
}
