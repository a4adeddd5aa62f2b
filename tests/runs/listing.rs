//! What a sweep finds in the containers, and what becomes of drops whose blobs disappear.

use serde_json::json;
use tokio::time::{Instant, sleep};
use vivadrop::{
    drop::containers::{DropContainer, WatchedContainers},
    run::{Outcome, RunLimits},
    store::{BlobPath, Store},
    sweep::{SweepMode, sweep},
    verdict::Reason,
};

use super::{
    process::{Process, SWEEP_DEADLINE, Setup},
    receiver::{DAY, HOUR, MINUTE, Receiver, down, process, sweep_for, unfinished},
    recovery::{is_completed, put_drop_in, put_other_drop, requests, tenant},
    world::{METADATA, STATE_CONTAINER, World, assert_completed, path},
};
use crate::support::faults::Fault as CallFault;

/// A world with a drop that has failed, because its receiver was down.
async fn with_failed_drop() -> World {
    let world = World::with_two_files().await;
    let receiver = Receiver::new(&world, |_| Err(down()));
    assert!(process(&world, &receiver).event(METADATA).await.unwrap().is_err());
    world
}

#[tokio::test(start_paused = true)]
async fn a_completed_drop_stays_completed_when_its_files_are_deleted() {
    let world = World::with_two_files().await;
    world.deliver_event(Process::new(&world), METADATA).await;
    world.storage.delete(&path().blob("b"), None).await.unwrap();
    let process = Process::new(&world);
    process.sweep(SweepMode::Command).await;
    assert_completed(&process.event(METADATA).await.unwrap().unwrap());
    assert_eq!(world.endings().len(), 1);
    assert_eq!(unfinished(&world).await, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn an_unfinished_drop_is_found_although_its_newest_blob_was_deleted() {
    let world = World::with_two_files().await;
    world.put_rows("c", 1).await;
    let receiver = Receiver::new(&world, |_| Err(down()));
    assert!(process(&world, &receiver).event("c").await.unwrap().is_err());
    world.storage.delete(&path().blob("c"), None).await.unwrap();
    sleep(HOUR).await;
    Process::new(&world).sweep(SweepMode::Timer).await;
    world.assert_complete("without the newest blob");
}

#[tokio::test(start_paused = true)]
async fn the_job_metadata_of_an_unfinished_drop_may_disappear_for_a_while() {
    let world = with_failed_drop().await;
    world.storage.delete(&path().blob(METADATA), None).await.unwrap();
    let process = Process::new(&world);
    sweep_for(&process, 2 * HOUR).await;
    assert_eq!(unfinished(&world).await.len(), 1);
    assert_eq!(world.received(), []);
    world.put_metadata(json!({"NumberOfRowsExtracted": 12})).await;
    sweep_for(&process, HOUR).await;
    world.assert_complete("the metadata is back");
}

#[tokio::test(start_paused = true)]
async fn a_drop_with_more_blobs_than_allowed_is_set_aside_until_they_are_deleted() {
    let world = World::with_two_files().await;
    world.put("_extra", "x").await;
    let limits = RunLimits { max_files: 3, ..RunLimits::default() };
    let process = Process::with_setup(&world, Setup { limits, ..Setup::new(&world) });
    let outcome = process.event(METADATA).await.unwrap().unwrap();
    assert!(matches!(outcome, Outcome::SetAside { reason: Reason::TooManyFiles, .. }), "{outcome:?}");
    world.storage.delete(&path().blob("_extra"), None).await.unwrap();
    assert_completed(&process.event(METADATA).await.unwrap().unwrap());
}

/// A process whose drops may have three blobs.
fn process_with_three_blobs(world: &World) -> Process {
    let limits = RunLimits { max_files: 3, ..RunLimits::default() };
    Process::with_setup(world, Setup { limits, ..Setup::new(world) })
}

/// Lets sweeps find too many blobs, whose events were lost: the first one sets the drop aside, the next one skips it.
async fn assert_sweeps_set_it_aside_once(process: &Process, world: &World) {
    let report = process.sweep(SweepMode::Timer).await.unwrap();
    assert_eq!((report.drops, report.set_aside), (1, 1), "{report}");
    assert_eq!(world.endings().pop().unwrap().1["reason"], "too-many-files");
    sleep(HOUR).await;
    assert_eq!(process.sweep(SweepMode::Timer).await.unwrap().drops, 0);
}

#[tokio::test(start_paused = true)]
async fn a_drop_with_more_blobs_than_allowed_whose_events_were_lost_is_found_by_a_sweep() {
    let world = World::with_two_files().await;
    world.put("_extra", "x").await;
    assert_sweeps_set_it_aside_once(&process_with_three_blobs(&world), &world).await;
}

#[tokio::test(start_paused = true)]
async fn a_completed_drop_that_gets_more_blobs_than_allowed_is_found_by_a_sweep() {
    let world = World::with_two_files().await;
    let process = process_with_three_blobs(&world);
    assert_completed(&process.event(METADATA).await.unwrap().unwrap());
    sleep(HOUR).await;
    world.put("_extra", "x").await;
    assert_sweeps_set_it_aside_once(&process, &world).await;
}

#[tokio::test(start_paused = true)]
async fn a_container_that_cannot_be_listed_does_not_stop_the_unfinished_drops() {
    let world = with_failed_drop().await;
    sleep(HOUR).await;
    let process = Process::new(&world);
    process.store.plan.set_rule(|call| {
        let is_listing = call.path.container == "datasets" && call.path.name.is_empty();
        if is_listing { CallFault::Rejected } else { CallFault::None }
    });
    let report = process.sweep(SweepMode::Timer).await.unwrap();
    assert_eq!((report.completed, report.not_listed.len()), (1, 1), "{report}");
    world.assert_complete("one container denied");
}

#[tokio::test(start_paused = true)]
async fn a_listing_that_takes_longer_than_the_sweep_delays_no_drop_that_is_due() {
    let world = with_failed_drop().await;
    sleep(HOUR).await;
    let process = Process::new(&world);
    process.store.plan.set_rule(|call| {
        let is_of_container = call.path == BlobPath::new("datasets", "");
        if is_of_container { CallFault::Delayed(100 * DAY) } else { CallFault::None }
    });
    let start = Instant::now();
    let report = process.sweep(SweepMode::Timer).await.unwrap();
    world.assert_complete("the listing takes long");
    assert_eq!(report.not_listed.len(), 1, "{report}");
    assert!(start.elapsed() <= SWEEP_DEADLINE, "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_container_that_cannot_be_listed_does_not_hide_the_drops_of_other_containers() {
    let world = World::default();
    let (a, b) = (tenant(1), tenant(2));
    let drops = [put_drop_in(&world, "alpha", a, "1").await, put_drop_in(&world, "beta", b, "2").await];
    let tenants = format!("{a}=alpha/1,{b}=beta/2");
    let process = Process::with_setup(&world, Setup { tenants, ..Setup::new(&world) });
    process.store.plan.set_rule(|call| {
        let is_listing = call.path.container == "alpha" && call.path.name.is_empty();
        if is_listing { CallFault::Rejected } else { CallFault::None }
    });
    let watched = WatchedContainers { drop_container: DropContainer::PerTenant, ..process.watched() };
    let report = sweep(&process.runner, &watched, SweepMode::Timer, SWEEP_DEADLINE).await.unwrap();
    assert_eq!((report.completed, report.not_listed.len()), (1, 1), "{report}");
    assert_eq!(drops.each_ref().map(|drop| is_completed(&world, drop)), [false, true]);
    // The container can be listed again: the next sweep lists it, whenever the other one was listed.
    process.store.plan.set_rule(|_| CallFault::None);
    sleep(HOUR).await;
    sweep(&process.runner, &watched, SweepMode::Timer, SWEEP_DEADLINE).await.unwrap();
    assert_eq!(drops.each_ref().map(|drop| is_completed(&world, drop)), [true, true]);
}

#[tokio::test(start_paused = true)]
async fn a_sweep_with_nothing_to_do_costs_a_few_requests_however_many_drops_have_ended() {
    let world = World::default();
    for number in 0..40 {
        put_other_drop(&world, tenant(1), &format!("{number}")).await;
    }
    let process = Process::with_setup(&world, Setup { tenants: tenant(1).to_string(), ..Setup::new(&world) });
    assert_eq!(process.sweep(SweepMode::Timer).await.unwrap().completed, 40);
    let before = requests(&process);
    assert_eq!(process.sweep(SweepMode::Timer).await.unwrap().drops, 0);
    assert!(requests(&process) - before <= 4, "{} requests", requests(&process) - before);
    // With a listing, and a new copy of the entries: one request for each page, and none for a drop.
    sleep(HOUR + MINUTE).await;
    let before = requests(&process);
    assert_eq!(process.sweep(SweepMode::Timer).await.unwrap().drops, 0);
    assert!((5..=9).contains(&(requests(&process) - before)), "{} requests", requests(&process) - before);
}

#[tokio::test(start_paused = true)]
async fn an_old_drop_is_not_sent_again_because_the_ledger_has_forgotten_it() {
    let world = World::with_two_files().await;
    world.deliver_event(Process::new(&world), METADATA).await;
    sleep(31 * DAY).await;
    let state = vivadrop::store::list_at_most(&world.storage, STATE_CONTAINER, "", 1_000).await.unwrap().unwrap();
    for blob in state {
        world.storage.delete(&blob.path, None).await.unwrap();
    }
    let report = Process::new(&world).sweep(SweepMode::Command).await.unwrap();
    assert_eq!(report.drops, 0, "{report}");
    world.assert_complete("before");
}

#[tokio::test(start_paused = true)]
async fn a_lost_entry_of_an_unfinished_drop_is_found_by_the_hourly_listing() {
    let world = with_failed_drop().await;
    for name in unfinished(&world).await {
        world.storage.delete(&BlobPath::new(STATE_CONTAINER, name), None).await.unwrap();
    }
    sleep(HOUR).await;
    Process::new(&world).sweep(SweepMode::Timer).await;
    world.assert_complete("the entry was lost");
}
