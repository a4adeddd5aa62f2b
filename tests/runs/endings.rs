//! The endings of drops: their order, and their announcement while the sink is down.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use vivadrop::{
    drop::DropPath,
    ledger::{Announcement, DropState},
    run::{Outcome, Trigger},
    sink::{FailedTry, StatusClass},
    store::{Store, WriteIf},
    sweep::SweepMode,
    verdict::Reason,
};

use super::{
    directory::{directory_of, person, put_directory},
    process::{Fault, Process},
    receiver::{
        DAY, HOUR, MINUTE, Receiver, assert_last_ending_is_completed, down, is_rows, process, sequences, sweep_for,
        unfinished,
    },
    world::{METADATA, STATE_CONTAINER, World, assert_completed, path},
};

#[tokio::test(start_paused = true)]
async fn metadata_that_is_repaired_while_the_failure_is_being_announced_ends_as_completed() {
    let world = World::with_two_files().await;
    let good = json!({"NumberOfRowsExtracted": 12});
    world.put_metadata(json!({"NumberOfRowsExtracted": 12, "Errors": "no consent"})).await;
    let start = Instant::now();
    // The receiver is down for ten seconds.
    let receiver =
        Receiver::new(&world, move |_| if start.elapsed() < 10 * MINUTE / 60 { Err(down()) } else { Ok(()) });
    let (first, second) = (process(&world, &receiver), process(&world, &receiver));
    let repair = async {
        sleep(Duration::from_secs(3)).await;
        world.put_metadata(good).await;
        second.event(METADATA).await.unwrap().unwrap()
    };
    let (_, outcome) = tokio::join!(first.event(METADATA), repair);
    assert_completed(&outcome);
    assert_last_ending_is_completed(&world, "repaired").await;
    let last = sequences(&world).pop().unwrap();
    assert_eq!(last.1, "viva.insights.drop.completed", "an ending was sent after it was superseded");
    assert_eq!(unfinished(&world).await, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_process_that_stood_still_for_longer_than_a_lease_sends_no_stale_ending() {
    let steps = {
        let world = World::with_two_files().await;
        let process = Process::new(&world);
        process.event(METADATA).await;
        process.faults.steps()
    };
    for step in 0..steps {
        let case = format!("step {step}");
        let world = World::with_two_files().await;
        world.put_metadata(json!({"NumberOfRowsExtracted": 12, "Errors": "no consent"})).await;
        let frozen = Process::with(&world, Some(Fault::Frozen { step, time: Duration::from_secs(20) }), 2);
        let successor = async {
            sleep(Duration::from_secs(1)).await;
            world.put_metadata(json!({"NumberOfRowsExtracted": 12})).await;
            world.deliver_event(Process::new(&world), METADATA).await
        };
        let (_, outcome) = tokio::join!(frozen.event(METADATA), successor);
        assert_completed(&outcome);
        world.deliver_event(Process::new(&world), METADATA).await;
        assert_last_ending_is_completed(&world, &case).await;
    }
}

#[tokio::test(start_paused = true)]
async fn endings_of_two_versions_within_a_second_keep_their_order() {
    let world = World::with_two_files().await;
    world.deliver_event(Process::new(&world), "a").await;
    world.put_rows("b", 5).await;
    world.deliver_event(Process::new(&world), "b").await;
    let completed = "viva.insights.drop.completed".to_owned();
    assert_eq!(sequences(&world), [(1, completed.clone()), (2, completed)]);
}

#[tokio::test(start_paused = true)]
async fn the_ledger_has_that_the_sink_rejected_even_the_message_about_a_failure() {
    let world = World::with_two_files().await;
    world.put_metadata(json!({"NumberOfRowsExtracted": 12, "Errors": "no consent"})).await;
    let rejected = || FailedTry { class: StatusClass::Request, answer: "HTTP 400".into(), retry_after: None };
    let receiver = Receiver::new(&world, move |_| Err(rejected()));
    let outcome = process(&world, &receiver).event(METADATA).await.unwrap().unwrap();
    assert!(matches!(outcome, Outcome::SetAside { reason: Reason::Errors, is_over: true, .. }), "{outcome:?}");
    assert_eq!(world.record("drop.json").await["announced"], "rejected");
    assert_eq!(unfinished(&world).await, [""; 0]);
}

/// A file with two rows and a line that sets it aside.
const BAD_FILE: &str = "{\"row\":0}\n{\"row\":1}\nnot an object\n";

/// The files of the endings in the order of their arrival.
fn files_of_endings(world: &World) -> Vec<Value> {
    world.endings().into_iter().map(|(_, data)| data["file"].clone()).collect()
}

/// A process that is killed if it sends requests without end.
fn bounded_process(world: &World) -> Process {
    Process::with(world, Some(Fault::Kill { step: 300, is_processed: false }), 2)
}

#[tokio::test(start_paused = true)]
async fn two_files_that_were_set_aside_while_the_sink_was_down_are_both_announced() {
    let world = World::with_metadata(12).await;
    world.put("a", BAD_FILE).await;
    world.put("b", BAD_FILE).await;
    let receiver = Receiver::new(&world, |message| if is_rows(message) { Ok(()) } else { Err(down()) });
    assert!(process(&world, &receiver).event(METADATA).await.unwrap().is_err());
    assert!(world.endings().is_empty());
    let outcome = bounded_process(&world).event(METADATA).await.expect("the run ends").unwrap();
    assert!(matches!(outcome, Outcome::SetAside { is_over: true, .. }), "{outcome:?}");
    assert_eq!(files_of_endings(&world), ["a", "b"]);
    assert_eq!(unfinished(&world).await, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_file_that_was_set_aside_is_announced_again_after_a_later_failure_of_the_drop_was_repaired() {
    let good = json!({"NumberOfRowsExtracted": 12});
    for is_sink_down in [false, true] {
        let world = World::with_metadata(12).await;
        world.put("a", BAD_FILE).await;
        Process::new(&world).event("a").await.unwrap().unwrap();
        world.put_metadata(json!({"NumberOfRowsExtracted": 12, "Errors": "no consent"})).await;
        let receiver = Receiver::new(&world, move |_| if is_sink_down { Err(down()) } else { Ok(()) });
        process(&world, &receiver).event(METADATA).await.unwrap().ok();
        world.put_metadata(good.clone()).await;
        let outcome = bounded_process(&world).event(METADATA).await.expect("the run ends").unwrap();
        assert!(matches!(outcome, Outcome::SetAside { reason: Reason::BadRow, is_over: true, .. }), "{outcome:?}");
        let endings: Vec<_> = world.endings().into_iter().map(|(_, data)| data).collect();
        let reasons: Vec<_> = endings.iter().map(|data| data["reason"].as_str().unwrap()).collect();
        let expected: &[_] = if is_sink_down { &["bad-row", "bad-row"] } else { &["bad-row", "errors", "bad-row"] };
        assert_eq!(reasons, expected, "{endings:?}");
        assert!(endings.is_sorted_by_key(|data| data["sequence"].as_u64()), "{endings:?}");
        assert_eq!(unfinished(&world).await, [""; 0]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_file_that_fails_again_in_the_same_way_does_not_hide_another_one_that_was_set_aside() {
    let world = World::with_metadata(12).await;
    world.put("a", BAD_FILE).await;
    Process::new(&world).event("a").await.unwrap().unwrap();
    world.put("a", BAD_FILE).await;
    world.put("b", BAD_FILE).await;
    let outcome = bounded_process(&world).event("b").await.expect("the run ends").unwrap();
    assert!(matches!(outcome, Outcome::SetAside { is_over: true, .. }), "{outcome:?}");
    assert_eq!(files_of_endings(&world), ["a", "b"]);
}

#[tokio::test(start_paused = true)]
async fn the_list_entry_of_a_drop_whose_ending_a_later_run_announces_or_gives_up_has_its_rows() {
    for is_given_up in [false, true] {
        let world = World::with_two_files().await;
        let receiver = Receiver::new(&world, |message| if is_rows(message) { Ok(()) } else { Err(down()) });
        assert!(process(&world, &receiver).event(METADATA).await.unwrap().is_err());
        let later = if is_given_up {
            sleep(30 * DAY).await;
            process(&world, &receiver)
        } else {
            Process::new(&world)
        };
        assert_completed(&later.event(METADATA).await.unwrap().unwrap());
        let entry = later.runner.ledger.list_entry(&path()).await.unwrap().unwrap();
        assert_eq!((entry.state, entry.rows), (DropState::Completed, 12), "given up: {is_given_up}");
        assert_eq!((entry.files_done, entry.files), (2, 2), "given up: {is_given_up}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_ending_that_the_sink_does_not_take_is_tried_hourly_for_30_days() {
    let world = World::with_two_files().await;
    let (start, tries) = (Instant::now(), Arc::new(Mutex::new(Vec::new())));
    let receiver = {
        let tries = Arc::clone(&tries);
        Receiver::new(&world, move |message| {
            if is_rows(message) {
                return Ok(());
            }
            tries.lock().unwrap().push(start.elapsed());
            Err(down())
        })
    };
    let process = process(&world, &receiver);
    assert!(process.event(METADATA).await.unwrap().is_err());
    sweep_for(&process, 3 * DAY).await;
    let longest_wait = tries.lock().unwrap().windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
    assert!((HOUR..HOUR + 10 * MINUTE).contains(&longest_wait), "{longest_wait:?}");
    while start.elapsed() < 31 * DAY {
        sleep(5 * HOUR).await;
        process.sweep(SweepMode::Timer).await;
    }
    let last = *tries.lock().unwrap().last().unwrap();
    assert!((30 * DAY..31 * DAY).contains(&last), "{last:?}");
    assert_eq!(world.record("drop.json").await["announced"], "given-up");
    assert_eq!(unfinished(&world).await, [""; 0]);
}

/// Overwrites the record of the first file of the drop, as if somebody had edited it by hand.
pub(super) async fn invalidate_file_record(world: &World, drop: &DropPath) {
    let folder = format!("drops/{drop}/");
    let records = vivadrop::store::list_at_most(&world.storage, STATE_CONTAINER, &folder, 100).await.unwrap().unwrap();
    let record = records.into_iter().find(|blob| !blob.path.name.ends_with("drop.json")).unwrap();
    world.storage.write(&record.path, "not a record".into(), WriteIf::Always).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_ending_is_announced_or_given_up_although_the_record_of_a_file_is_not_valid() {
    for is_given_up in [false, true] {
        let world = World::with_two_files().await;
        put_directory(&world, &directory_of("run"), &[person(1, "HR"), person(2, "Sales"), person(3, "HR")]).await;
        let drops = [(path(), 12), (directory_of("run"), 3)];
        let receiver = Receiver::new(&world, |message| if is_rows(message) { Ok(()) } else { Err(down()) });
        let first = process(&world, &receiver);
        for (drop, _) in &drops {
            first.runner.run(drop, None, Trigger::Event, None).await.unwrap_err();
            invalidate_file_record(&world, drop).await;
        }
        let later = if is_given_up {
            sleep(30 * DAY).await;
            process(&world, &receiver)
        } else {
            sleep(HOUR).await;
            Process::new(&world)
        };
        later.sweep(SweepMode::Timer).await.unwrap();
        for (drop, rows) in &drops {
            let ending = later.runner.ledger.drop_record(drop).await.unwrap().ending.unwrap();
            assert!(ending.is_announced(), "`{drop}`: {ending:?}");
            assert_eq!(ending.announcement == Announcement::GivenUp, is_given_up, "`{drop}`: {ending:?}");
            let entry = later.runner.ledger.list_entry(drop).await.unwrap().unwrap();
            assert_eq!((entry.state, entry.rows), (DropState::Completed, *rows), "`{drop}`");
        }
        assert_eq!(unfinished(&world).await, [""; 0]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_drop_with_an_invalid_record_of_a_file_that_is_given_up_reports_the_rows_of_the_other_files() {
    let world = World::with_metadata(13).await;
    world.put_rows("a", 7).await;
    world.put_rows("b", 6).await;
    let receiver = Receiver::new(&world, |message| if message["data"]["file"] == "a" { Err(down()) } else { Ok(()) });
    let process = process(&world, &receiver);
    assert!(process.event(METADATA).await.unwrap().is_err());
    process.runner.ledger.flush().await;
    invalidate_file_record(&world, &path()).await;
    sweep_for(&process, 3 * DAY + 2 * HOUR).await;
    let endings = world.endings();
    let [(_, failed)] = &endings[..] else { panic!("{endings:?}") };
    assert_eq!((&failed["reason"], &failed["rowsDelivered"]), (&json!("unavailable"), &json!(6)));
    let entry = process.runner.ledger.list_entry(&path()).await.unwrap().unwrap();
    assert_eq!((entry.state, entry.rows), (DropState::SetAside, 6));
}
