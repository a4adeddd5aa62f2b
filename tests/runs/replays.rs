//! Replay runs of many drops: kills at any step, and two processes at once.

use std::time::Duration;

use serde_json::{Value, json};
use time::format_description::well_known::Rfc3339;
use tokio::time::sleep;
use vivadrop::{
    clock,
    drop::{DropPath, TenantId},
    ledger::{PlanFilter, ReplayRun, ReplayState},
    replay,
    status::{State, load},
    store::{BlobPath, Store, WriteIf, read_whole},
    sweep::SweepMode,
};

use crate::{
    process::{Fault, Process, Setup},
    world::{METADATA, STATE_CONTAINER, TENANT, World},
};

const DROPS: usize = 5;

/// A world with five drops of one row each that are completed.
async fn with_completed_drops() -> World {
    let world = World::default();
    for number in 0..DROPS {
        let drop = DropPath::new("datasets", format!("{number}/{TENANT}"));
        let metadata = json!({"TenantId": TENANT, "NumberOfRowsExtracted": 1}).to_string();
        world.storage.write(&drop.blob(METADATA), metadata.into(), WriteIf::Always).await.unwrap();
        world.storage.write(&drop.blob("part-0"), "{}\n".into(), WriteIf::Always).await.unwrap();
    }
    assert_eq!(Process::new(&world).sweep(SweepMode::Timer).await.unwrap().completed, DROPS);
    sleep(Duration::from_secs(60)).await;
    world
}

/// Creates a plan for all drops and a replay run of it, which pauses after `first` drops; returns the id of both.
async fn create_run(process: &Process, first: Option<u64>) -> String {
    create_run_with_clock(process, first, time::Duration::ZERO).await
}

/// As [`create_run`], in a process whose clock is `ahead` of that of the others.
async fn create_run_with_clock(process: &Process, first: Option<u64>, ahead: time::Duration) -> String {
    let ledger = &process.runner.ledger;
    let snapshot = load(ledger, None).await.unwrap();
    let filter = PlanFilter { state: Some(State::Completed), ..PlanFilter::default() };
    let plan = replay::plan(&snapshot, filter).unwrap();
    ledger.write_plan(&plan).await.unwrap();
    let mut run = ReplayRun::new(&plan, first);
    run.created += ahead;
    ledger.write_replay_run(&mut run, None).await.unwrap().unwrap();
    plan.id
}

/// The recorded replay run.
async fn run_of(process: &Process, id: &str) -> ReplayRun {
    process.runner.ledger.replay_run(id).await.unwrap().unwrap().1
}

/// Changes the record of a replay run.
async fn change_run(world: &World, id: &str, change: impl FnOnce(&mut Value)) {
    let path = BlobPath::new(STATE_CONTAINER, format!("replays/{id}.json"));
    let blob = world.storage.find(&path).await.unwrap().unwrap();
    let mut record: Value = serde_json::from_slice(&read_whole(&world.storage, &blob, 10_000).await.unwrap()).unwrap();
    change(&mut record);
    world.storage.write(&path, record.to_string().into(), WriteIf::Always).await.unwrap();
}

/// How often each drop was replayed.
async fn replays(process: &Process) -> Vec<u32> {
    let mut counts = Vec::new();
    for number in 0..DROPS {
        let drop = DropPath::new("datasets", format!("{number}/{TENANT}"));
        counts.push(process.runner.ledger.drop_record(&drop).await.unwrap().replays);
    }
    counts
}

#[tokio::test(start_paused = true)]
async fn a_replay_run_that_is_killed_at_any_step_replays_every_drop() {
    let mut kills = 0;
    for step in 0.. {
        let world = with_completed_drops().await;
        let process = Process::new(&world);
        let id = create_run(&process, None).await;
        let fault = Some(Fault::Kill { step: 3 * step, is_processed: true });
        let is_killed = Process::with(&world, fault, 2).sweep(SweepMode::Timer).await.is_none();
        for _ in 0..2 {
            sleep(Duration::from_secs(300)).await;
            process.sweep(SweepMode::Timer).await.unwrap();
        }
        let run = run_of(&process, &id).await;
        assert_eq!((run.state, run.done, run.failed), (ReplayState::Done, 5, 0), "step {step}");
        assert!(replays(&process).await.iter().all(|count| (1..=2).contains(count)), "step {step}");
        kills += 1;
        if !is_killed {
            break;
        }
    }
    assert!(kills > 10, "{kills}");
}

#[tokio::test(start_paused = true)]
async fn two_processes_replay_each_drop_once() {
    let world = with_completed_drops().await;
    let (one, other) = (Process::new(&world), Process::new(&world));
    let id = create_run(&one, None).await;
    tokio::join!(one.sweep(SweepMode::Timer), other.sweep(SweepMode::Timer));
    sleep(Duration::from_secs(300)).await;
    one.sweep(SweepMode::Timer).await.unwrap();
    assert_eq!(replays(&one).await, [1; DROPS]);
    assert_eq!(run_of(&one, &id).await.state, ReplayState::Done);
}

#[tokio::test(start_paused = true)]
async fn each_drop_is_replayed_once_although_the_clock_of_the_process_that_created_the_run_is_wrong() {
    for ahead in [time::Duration::HOUR, -time::Duration::HOUR] {
        let world = with_completed_drops().await;
        let process = Process::new(&world);
        let id = create_run_with_clock(&process, None, ahead).await;
        for _ in 0..3 {
            process.sweep(SweepMode::Timer).await.unwrap();
            sleep(Duration::from_secs(300)).await;
        }
        assert_eq!(replays(&process).await, [1; DROPS], "{ahead}");
        let run = run_of(&process, &id).await;
        assert_eq!((run.state, run.done), (ReplayState::Done, DROPS as u64), "{ahead}");
    }
}

/// The field `replaysbefore` of replay runs is missing if an older vivadrop wrote the record.
#[tokio::test(start_paused = true)]
async fn a_run_that_an_older_version_has_started_is_continued() {
    let world = with_completed_drops().await;
    let process = Process::new(&world);
    let id = create_run(&process, None).await;
    change_run(&world, &id, |record| (record["started"], record["pending"]) = (3.into(), "0,1,2".into())).await;
    for _ in 0..4 {
        sleep(Duration::from_secs(120)).await;
        process.sweep(SweepMode::Timer).await.unwrap();
    }
    assert_eq!(replays(&process).await, [1; DROPS]);
    let run = run_of(&process, &id).await;
    assert_eq!((run.state, run.done), (ReplayState::Done, DROPS as u64));
}

/// The machine was stopped after it had claimed three drops, and before it replayed them.
#[tokio::test(start_paused = true)]
async fn drops_that_a_machine_with_a_fast_clock_has_claimed_are_replayed() {
    let world = with_completed_drops().await;
    let process = Process::new(&world);
    let id = create_run(&process, None).await;
    let updated = clock::now() + time::Duration::hours(6);
    change_run(&world, &id, |record| {
        (record["started"], record["pending"]) = (3.into(), "0,1,2".into());
        (record["replaysbefore"], record["updated"]) = ("0:0,1:0,2:0".into(), updated.format(&Rfc3339).unwrap().into());
    })
    .await;
    for _ in 0..4 {
        sleep(Duration::from_secs(300)).await;
        process.sweep(SweepMode::Timer).await.unwrap();
    }
    let run = run_of(&process, &id).await;
    assert_eq!((run.state, run.done), (ReplayState::Done, DROPS as u64));
}

#[tokio::test(start_paused = true)]
async fn a_run_pauses_after_its_first_drop() {
    let world = with_completed_drops().await;
    let process = Process::new(&world);
    let id = create_run(&process, Some(1)).await;
    process.sweep(SweepMode::Timer).await.unwrap();
    let run = run_of(&process, &id).await;
    assert_eq!((run.state, run.started, run.done), (ReplayState::Paused, 1, 1));
    assert_eq!(replays(&process).await.iter().sum::<u32>(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_deleted_drop_fails_and_drops_of_a_tenant_that_is_not_configured_here_are_left_alone() {
    let world = with_completed_drops().await;
    let process = Process::new(&world);
    let id = create_run(&process, None).await;
    let deleted = DropPath::new("datasets", format!("1/{TENANT}"));
    world.storage.delete(&deleted.blob(METADATA), None).await.unwrap();
    process.sweep(SweepMode::Timer).await.unwrap();
    let run = run_of(&process, &id).await;
    assert_eq!((run.state, run.done, run.failed), (ReplayState::Done, 4, 1));

    let id = create_run(&process, None).await;
    let tenants = TenantId(uuid::Uuid::from_u128(1)).to_string();
    let foreign = Process::with_setup(&world, Setup { tenants, ..Setup::new(&world) });
    foreign.sweep(SweepMode::Timer).await.unwrap();
    assert_eq!(run_of(&process, &id).await.failed, 0, "the process that has the tenant replays them");
}

#[tokio::test(start_paused = true)]
async fn a_tenant_that_has_left_tenants_does_not_stop_the_replay_run_of_the_others() {
    let world = with_completed_drops().await;
    let other: TenantId = "00000000-0000-0000-0000-000000000001".parse().unwrap();
    let drop = DropPath::new("datasets", format!("5/{other}"));
    let metadata = json!({"TenantId": other, "NumberOfRowsExtracted": 0}).to_string();
    world.storage.write(&drop.blob(METADATA), metadata.into(), WriteIf::Always).await.unwrap();
    let both = Process::with_setup(&world, Setup { tenants: format!("{TENANT},{other}"), ..Setup::new(&world) });
    both.sweep(SweepMode::Command).await.unwrap();
    sleep(Duration::from_secs(60)).await;
    let id = create_run(&both, None).await;

    let process = Process::new(&world);
    process.sweep(SweepMode::Timer).await.unwrap();
    assert_eq!(run_of(&process, &id).await.started, 0, "another process may have the tenant");
    for _ in 0..14 {
        sleep(Duration::from_secs(300)).await;
        process.sweep(SweepMode::Timer).await.unwrap();
    }
    let run = run_of(&process, &id).await;
    assert_eq!((run.state, run.done, run.failed), (ReplayState::Done, 5, 1));
}
