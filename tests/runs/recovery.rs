//! Recovery: what happens to drops that fail or wait, and to runs and replays that are killed.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use vivadrop::{
    clock,
    drop::{DropPath, TenantId},
    run::{Outcome, Trigger},
    sink::{FailedTry, Sink, StatusClass},
    store::{Store, WriteIf},
    sweep::SweepMode,
};

use super::{
    endings::invalidate_file_record,
    process::{Fault, Process, SWEEP_DEADLINE, Setup},
    receiver::{HOUR, MINUTE, Receiver, assert_last_ending_is_completed, down, process, sweep_for, unfinished},
    world::{METADATA, TENANT, World, assert_completed, path},
};

#[tokio::test(start_paused = true)]
async fn a_request_that_fails_at_any_step_needs_no_manual_action() {
    let steps = {
        let world = World::with_two_files().await;
        let process = Process::new(&world);
        process.event(METADATA).await;
        process.faults.steps()
    };
    assert!(steps > 20, "{steps}");
    for step in 0..steps {
        for is_processed in [false, true] {
            let case = format!("step {step}, processed: {is_processed}");
            let world = World::with_two_files().await;
            let process = Process::with(&world, Some(Fault::Fails { step, is_processed }), 2);
            let outcome = world.deliver_event(process, METADATA).await;
            assert_completed(&outcome);
            world.assert_complete(&case);
            // What the run could not tidy up, a sweep does.
            sleep(HOUR + MINUTE).await;
            Process::new(&world).sweep(SweepMode::Timer).await;
            assert_eq!(unfinished(&world).await, [""; 0], "{case}");
            assert_eq!(world.endings().len(), 1, "{case}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_is_down_for_two_hours_gets_every_drop_without_manual_action() {
    let world = World::with_two_files().await;
    let start = Instant::now();
    let receiver = Receiver::new(&world, move |_| if start.elapsed() < 2 * HOUR { Err(down()) } else { Ok(()) });
    let process = process(&world, &receiver);
    for _ in 0..5 {
        assert!(process.event(METADATA).await.unwrap().is_err());
    }
    // The last try of a sweep comes some minutes after its start.
    sweep_for(&process, HOUR + 45 * MINUTE).await;
    assert!(world.received().is_empty());
    let record = world.record("drop.json").await;
    assert!(record["attempts"].as_u64().unwrap() > 3, "{record}");
    assert!(record["lastError"].as_str().unwrap().contains("HTTP 503"), "{record}");
    sweep_for(&process, HOUR + 25 * MINUTE).await;
    world.assert_complete("after the outage");
    assert_eq!(unfinished(&world).await, [""; 0]);
    assert!(receiver.tries() < 2_000, "{} tries: the waits grow", receiver.tries());
}

/// The drop of another tenant, with one file of five rows.
pub(super) async fn put_other_drop(world: &World, tenant: TenantId, name: &str) -> DropPath {
    put_drop_in(world, "datasets", tenant, name).await
}

/// As [`put_other_drop`], in another container.
pub(super) async fn put_drop_in(world: &World, container: &str, tenant: TenantId, name: &str) -> DropPath {
    let drop = DropPath::new(container, format!("{name}/{tenant}"));
    let metadata = json!({"TenantId": tenant, "NumberOfRowsExtracted": 5}).to_string();
    world.storage.write(&drop.blob(METADATA), metadata.into(), WriteIf::Always).await.unwrap();
    let rows: String = (0..5).map(|row| format!("{{\"row\":{row}}}\n")).collect();
    world.storage.write(&drop.blob("part-0"), rows.into(), WriteIf::Always).await.unwrap();
    drop
}

pub(super) fn tenant(number: u128) -> TenantId {
    TenantId(uuid::Uuid::from_u128(number))
}

/// Whether the receiver has the `drop.completed` of the drop.
pub(super) fn is_completed(world: &World, drop: &DropPath) -> bool {
    let is_it = |data: &Value| data["drop"]["path"] == drop.to_string() && data["rows"] == 5;
    world.endings().iter().any(|(kind, data)| kind == "viva.insights.drop.completed" && is_it(data))
}

#[tokio::test(start_paused = true)]
async fn a_sweep_with_fewer_tenants_loses_no_drop_of_the_others() {
    let world = World::default();
    let (a, b, c) = (tenant(1), tenant(2), tenant(3));
    let of = |tenants: &[TenantId]| {
        let tenants = tenants.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        Process::with_setup(&world, Setup { tenants, ..Setup::new(&world) })
    };
    let drops = [
        put_other_drop(&world, a, "1").await,
        put_other_drop(&world, b, "2").await,
        put_other_drop(&world, c, "3").await,
    ];
    // An operator sweeps for one customer, with only that customer in TENANTS.
    of(&[b]).sweep(SweepMode::Command).await;
    assert_eq!(drops.each_ref().map(|drop| is_completed(&world, drop)), [false, true, false]);
    // The app knew two customers when the third one was added.
    of(&[a, b]).sweep(SweepMode::Timer).await;
    assert_eq!(drops.each_ref().map(|drop| is_completed(&world, drop)), [true, true, false]);
    of(&[a, b, c]).sweep(SweepMode::Timer).await;
    assert_eq!(drops.each_ref().map(|drop| is_completed(&world, drop)), [true, true, true]);
    assert_eq!(world.endings().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn the_unfinished_drop_of_a_tenant_that_is_not_configured_here_is_left_alone() {
    let world = World::default();
    let (a, b) = (tenant(1), tenant(2));
    let drop = put_other_drop(&world, a, "1").await;
    let receiver = Receiver::new(&world, |_| Err(down()));
    let sink = Arc::clone(&receiver) as Arc<dyn Sink>;
    let first = Process::with_setup(&world, Setup { tenants: a.to_string(), sink, ..Setup::new(&world) });
    assert!(first.runner.run(&drop, None, Trigger::Event, None).await.is_err());
    let other = Process::with_setup(&world, Setup { tenants: b.to_string(), ..Setup::new(&world) });
    sleep(2 * HOUR).await;
    assert_eq!(other.sweep(SweepMode::Command).await.unwrap().drops, 0);
    assert_eq!(unfinished(&world).await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn seven_drops_behind_a_dead_webhook_do_not_delay_the_drop_of_another_tenant() {
    let world = World::default();
    let (dead, healthy) = (tenant(1), tenant(2));
    for number in 0..7 {
        put_other_drop(&world, dead, &format!("{number}")).await;
    }
    let drop = put_other_drop(&world, healthy, "9").await;
    let receiver = Receiver::new(&world, |_| Err(down()));
    let own_sinks = BTreeMap::from([(dead, Arc::clone(&receiver) as Arc<dyn Sink>)]);
    let tenants = format!("{dead},{healthy}");
    let process = Process::with_setup(&world, Setup { tenants, own_sinks, ..Setup::new(&world) });
    let start = Instant::now();
    let delivered = async {
        while !is_completed(&world, &drop) {
            sleep(Duration::from_millis(100)).await;
        }
        start.elapsed()
    };
    let (report, delay) = tokio::join!(process.sweep(SweepMode::Timer), delivered);
    assert!(delay < Duration::from_secs(5), "the healthy tenant waited {delay:?}");
    let report = report.unwrap();
    assert_eq!((report.completed, report.failed.len() + report.left), (1, 7), "{report}");
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_asks_to_wait_for_ten_minutes_is_left_alone_until_then() {
    let world = World::with_two_files().await;
    let start = Instant::now();
    let receiver = Receiver::new(&world, move |_| {
        let waits = 10 * MINUTE;
        if start.elapsed() >= waits {
            return Ok(());
        }
        let retry_after = Some(waits - start.elapsed());
        Err(FailedTry { class: StatusClass::Transient, answer: "HTTP 429".into(), retry_after })
    });
    let process = process(&world, &receiver);
    assert!(process.event("a").await.unwrap().is_err());
    let tries = receiver.tries();
    assert!(tries <= 4, "{tries}: the run ends at once");
    // The host repeats the event at once.
    for _ in 0..4 {
        let outcome = process.event("a").await.unwrap().unwrap();
        assert!(matches!(outcome, Outcome::Postponed(_)), "{outcome:?}");
    }
    process.sweep(SweepMode::Timer).await;
    assert_eq!(receiver.tries(), tries, "the receiver was asked again although it wants to be left alone");
    sleep(10 * MINUTE).await;
    process.sweep(SweepMode::Timer).await;
    world.assert_complete("after the wait");
}

#[tokio::test(start_paused = true)]
async fn the_files_after_one_whose_receiver_asks_to_wait_are_not_sent() {
    let world = World::with_two_files().await;
    let receiver = Receiver::new(&world, move |message| match message["data"]["file"].as_str() {
        Some("a") => {
            let retry_after = Some(10 * MINUTE);
            Err(FailedTry { class: StatusClass::Transient, answer: "HTTP 429".into(), retry_after })
        }
        _ => Ok(()),
    });
    process(&world, &receiver).event("a").await.unwrap().unwrap_err();
    assert_eq!(world.received(), []);
}

#[tokio::test(start_paused = true)]
async fn a_drop_that_waited_and_is_then_not_admitted_stays_in_no_index() {
    let world = World::with_two_files().await;
    let stranger = tenant(7);
    world.put(METADATA, json!({"TenantId": stranger, "NumberOfRowsExtracted": 12}).to_string()).await;
    let process = Process::new(&world);
    // Events write the entry before the job metadata is read.
    process.runner.ledger.mark_unfinished(&path(), TENANT.parse().unwrap(), clock::now()).await.unwrap();
    assert_eq!(process.sweep(SweepMode::Timer).await.unwrap().refused, 1);
    assert_eq!(unfinished(&world).await, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_file_that_fails_does_not_stop_the_files_after_it() {
    let world = World::with_two_files().await;
    let receiver = Receiver::new(&world, |message| match message["data"]["file"].as_str() {
        Some("a") => Err(down()),
        _ => Ok(()),
    });
    let error = process(&world, &receiver).event(METADATA).await.unwrap().unwrap_err();
    assert!(error.to_string().contains("`a`"), "{error}");
    assert_eq!(world.row_counts(), [("b".into(), 5)].into());
}

#[tokio::test(start_paused = true)]
async fn a_sweep_of_a_pause_costs_no_request_for_each_drop() {
    let mut steps = [0, 0];
    for (steps, drops) in steps.iter_mut().zip([1, 50]) {
        let world = World::default();
        let process = Process::paused(&world);
        let tenant = TENANT.parse().unwrap();
        for number in 0..drops {
            let drop = DropPath::new("datasets", format!("run-{number}/VivaInsights/{TENANT}"));
            process.runner.ledger.mark_unfinished(&drop, tenant, clock::now()).await.unwrap();
        }
        process.sweep(SweepMode::Timer).await.unwrap();
        let before = process.faults.steps();
        process.sweep(SweepMode::Timer).await.unwrap();
        *steps = process.faults.steps() - before;
    }
    assert_eq!(steps[0], steps[1]);
}

#[tokio::test(start_paused = true)]
async fn a_replay_of_a_drop_with_an_invalid_record_of_a_file_that_is_killed_at_any_step_is_resumed() {
    for step in 0.. {
        let world = World::with_two_files().await;
        world.deliver_event(Process::new(&world), METADATA).await;
        invalidate_file_record(&world, &path()).await;
        let before = world.receiver.messages().len();
        let replaying = Process::with(&world, Some(Fault::Kill { step, is_processed: true }), 2);
        let is_killed = replaying.replay().await.is_none();
        sleep(HOUR).await;
        if Process::new(&world).runner.ledger.drop_record(&path()).await.unwrap().replays == 0 {
            Process::new(&world).replay().await.unwrap().unwrap();
        }
        Process::new(&world).sweep(SweepMode::Timer).await;
        assert!(world.receiver.messages().len() - before >= 8, "step {step}");
        assert_last_ending_is_completed(&world, &format!("step {step}")).await;
        assert_eq!(unfinished(&world).await, [""; 0], "step {step}");
        if !is_killed {
            break;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_sweep_that_gets_no_slot_in_time_leaves_its_drops_to_the_next_one() {
    let world = World::with_two_files().await;
    let process = Process::new(&world);
    let permits = &process.runner.run_permits;
    let taken: Vec<_> = (0..4).filter_map(|number| permits.try_acquire(tenant(number))).collect();
    assert!(permits.are_all_taken());
    let others = async {
        sleep(SWEEP_DEADLINE).await;
        drop(taken);
    };
    let (report, ()) = tokio::join!(process.sweep(SweepMode::Timer), others);
    let report = report.unwrap();
    assert_eq!((report.drops, report.left), (1, 1), "{report}");
    assert_eq!(world.received(), []);
    process.sweep(SweepMode::Timer).await.unwrap();
    world.assert_complete("the next sweep");
}

/// Kills a replay at each of its steps; later another process calls `resume`.
async fn assert_a_killed_replay_is_resumed(resume: impl AsyncFn(Process)) {
    let mut resumed = 0;
    for step in 0.. {
        let world = World::with_two_files().await;
        world.deliver_event(Process::new(&world), METADATA).await;
        let before = world.receiver.messages().len();
        let replaying = Process::with(&world, Some(Fault::Kill { step, is_processed: true }), 2);
        let is_killed = replaying.replay().await.is_none();
        let is_recorded = Process::new(&world).runner.ledger.drop_record(&path()).await.unwrap().replays == 1;
        sleep(HOUR).await;
        resume(Process::new(&world)).await;
        let sent = world.receiver.messages().len() - before;
        assert!(!is_recorded || sent >= 8, "step {step}: only {sent} messages were sent again");
        assert_last_ending_is_completed(&world, &format!("step {step}")).await;
        // A command leaves the entry of a drop that had ended already to the next sweep.
        sleep(MINUTE).await;
        Process::new(&world).sweep(SweepMode::Timer).await;
        assert_eq!(unfinished(&world).await, [""; 0], "step {step}");
        resumed += u32::from(is_killed && is_recorded);
        if !is_killed {
            break;
        }
    }
    assert!(resumed > 10, "{resumed}");
}

#[tokio::test(start_paused = true)]
async fn a_replay_that_is_killed_at_any_step_is_resumed_by_the_next_sweep() {
    assert_a_killed_replay_is_resumed(async |process| {
        process.sweep(SweepMode::Timer).await.unwrap();
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn deliver_does_not_report_a_replay_that_was_killed_at_any_step_as_completed_but_resumes_it() {
    assert_a_killed_replay_is_resumed(async |process| {
        assert_completed(&process.runner.run(&path(), None, Trigger::Command, None).await.unwrap());
    })
    .await;
}

/// The number of storage requests of a process, including those that read data files.
pub(super) fn requests(process: &Process) -> u64 {
    process.store.calls()
}

#[tokio::test(start_paused = true)]
async fn a_drop_costs_ten_storage_requests_and_a_file_fifteen() {
    for files in [1, 2, 5, 20] {
        let world = World::with_metadata(files * 3).await;
        for file in 0..files {
            world.put_rows(&format!("part-{file}"), 3).await;
        }
        let process = Process::new(&world);
        let data_reads = files;
        process.runner.run(&path(), None, Trigger::Event, None).await.unwrap();
        let cost = requests(&process) - data_reads;
        assert!(cost <= 10 + 15 * files, "{files} files in one run: {cost} requests");

        // The same with an event for each blob, in the order in which they are written.
        let world = World::with_metadata(files * 3).await;
        let process = Process::new(&world);
        process.event(METADATA).await.unwrap().unwrap();
        for file in 0..files {
            let name = format!("part-{file}");
            world.put_rows(&name, 3).await;
            process.event(&name).await.unwrap().unwrap();
        }
        let cost = requests(&process) - data_reads;
        assert!(cost <= 10 + 15 * files, "{files} files, each with its event: {cost} requests");
        assert_eq!(world.endings().len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_sweep_that_is_killed_at_any_step_loses_no_row_and_no_ending() {
    for step in 0.. {
        let world = World::with_two_files().await;
        let killed = Process::with(&world, Some(Fault::Kill { step, is_processed: step % 2 == 0 }), 2);
        let is_killed = killed.sweep(SweepMode::Timer).await.is_none();
        sleep(HOUR).await;
        Process::new(&world).sweep(SweepMode::Timer).await;
        world.assert_complete(&format!("step {step}"));
        assert_last_ending_is_completed(&world, &format!("step {step}")).await;
        assert_eq!(unfinished(&world).await, [""; 0], "step {step}");
        if !is_killed {
            assert!(step > 20, "{step}");
            break;
        }
    }
}
