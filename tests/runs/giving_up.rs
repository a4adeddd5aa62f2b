//! When a drop that fails or stays open is set aside.

use serde_json::json;
use tokio::time::{Instant, sleep};
use vivadrop::{
    run::Outcome,
    sink::{FailedTry, StatusClass},
    store::Store,
    sweep::SweepMode,
    verdict::Reason,
};

use super::{
    process::Process,
    receiver::{DAY, HOUR, Receiver, assert_last_ending_is_completed, down, is_rows, process, sweep_for, unfinished},
    world::{METADATA, World, assert_completed, path},
};

#[tokio::test(start_paused = true)]
async fn the_time_of_a_pause_does_not_count_for_a_drop_that_failed_before_it() {
    let world = World::with_two_files().await;
    let process = Process::new(&world);
    process.faults.outage_of_sink(true);
    assert!(process.event(METADATA).await.unwrap().is_err());
    let paused = Process::paused(&world);
    for _ in 0..4 {
        sleep(DAY).await;
        paused.sweep(SweepMode::Timer).await.unwrap();
    }
    // The failures after the pause are a series of their own.
    for attempts in 1..=2 {
        sleep(HOUR).await;
        process.sweep(SweepMode::Timer).await.unwrap();
        let failing = process.runner.ledger.drop_record(&path()).await.unwrap().failing.unwrap();
        assert_eq!(failing.attempts, attempts);
    }
    process.faults.outage_of_sink(false);
    sweep_for(&process, HOUR).await;
    assert_last_ending_is_completed(&world, "after the pause").await;
}

#[tokio::test(start_paused = true)]
async fn a_file_that_panics_in_five_runs_is_set_aside() {
    let world = World::with_two_files().await;
    let receiver = Receiver::new(&world, |message| {
        assert!(message["data"]["file"] != "b" || !is_rows(message), "a defect");
        Ok(())
    });
    let process = process(&world, &receiver);
    for _ in 0..4 {
        assert!(process.event(METADATA).await.unwrap().is_err());
    }
    let outcome = process.event(METADATA).await.unwrap().unwrap();
    assert!(matches!(outcome, Outcome::SetAside { reason: Reason::Internal, .. }), "{outcome:?}");
    let endings = world.endings();
    let [(_, failed)] = &endings[..] else { panic!("{endings:?}") };
    assert_eq!((&failed["file"], &failed["reason"]), (&json!("b"), &json!("internal")));
}

#[tokio::test(start_paused = true)]
async fn a_drop_that_fails_for_three_days_is_set_aside_and_the_sink_is_told_when_it_is_back() {
    for (class, expected) in [(StatusClass::Transient, "unavailable"), (StatusClass::Service, "refused")] {
        let world = World::with_two_files().await;
        let start = Instant::now();
        let receiver = Receiver::new(&world, move |_| {
            if start.elapsed() > 4 * DAY {
                return Ok(());
            }
            Err(FailedTry { class, answer: "no".into(), retry_after: None })
        });
        let process = process(&world, &receiver);
        assert!(process.event(METADATA).await.unwrap().is_err());
        sweep_for(&process, 3 * DAY + 2 * HOUR).await;
        let record = world.record("drop.json").await;
        assert_eq!((&record["status"], &record["reason"]), (&json!("set-aside"), &json!(expected)));
        assert_eq!(record["announced"], "pending");
        sweep_for(&process, DAY).await;
        let endings = world.endings();
        let [(_, failed)] = &endings[..] else { panic!("{endings:?}") };
        assert_eq!(failed["reason"], expected);
        assert!(failed["message"].as_str().unwrap().contains("no"), "{failed}");
        assert_eq!(unfinished(&world).await, [""; 0]);
    }
}

#[tokio::test(start_paused = true)]
async fn progress_resets_the_time_after_which_a_drop_is_given_up() {
    let world = World::with_two_files().await;
    // One more row is accepted each day.
    let start = Instant::now();
    let receiver = Receiver::new(&world, move |message| {
        let day = start.elapsed().as_secs() / DAY.as_secs();
        if !is_rows(message) || message["data"]["endRow"].as_u64().unwrap() <= day { Ok(()) } else { Err(down()) }
    });
    let process = process(&world, &receiver);
    assert!(process.event(METADATA).await.unwrap().is_err());
    sweep_for(&process, 9 * DAY).await;
    world.assert_complete("a slow receiver");
}

#[tokio::test(start_paused = true)]
async fn a_drop_whose_rows_are_missing_for_30_days_is_set_aside() {
    let world = World::with_metadata(12).await;
    world.put_rows("a", 7).await;
    let process = Process::new(&world);
    process.event("a").await.unwrap().unwrap();
    for day in 0..31 {
        assert!(world.endings().is_empty() || day > 29, "day {day}");
        sleep(DAY).await;
        process.sweep(SweepMode::Timer).await;
    }
    let endings = world.endings();
    let [(_, failed)] = &endings[..] else { panic!("{endings:?}") };
    assert_eq!((&failed["reason"], &failed["rowsDelivered"]), (&json!("row-count"), &json!(7)));
    assert!(failed["message"].as_str().unwrap().contains("7 of 12 rows"), "{failed}");
    // The missing file arrives after all.
    world.put_rows("b", 5).await;
    assert_completed(&process.event("b").await.unwrap().unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_change_of_the_key_details_runs_a_drop_that_was_set_aside_again() {
    let world = World::with_two_files().await;
    let details = "metadata/MoreMetadata/EncryptedDatasets/encryptionKeyDetails.json";
    world.put(details, "not key details").await;
    let process = Process::new(&world);
    let outcome = process.event(METADATA).await.unwrap().unwrap();
    assert!(matches!(outcome, Outcome::SetAside { .. }), "{outcome:?}");
    world.put(details, "not key details").await;
    process.event(details).await.unwrap().unwrap();
    assert_eq!(process.runner.ledger.drop_record(&path()).await.unwrap().sequence, 1, "it says the same");
    world.storage.delete(&path().blob(details), None).await.unwrap();
    assert_completed(&process.event(METADATA).await.unwrap().unwrap());
}
