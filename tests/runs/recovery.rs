//! Recovery: what happens to drops that fail, wait, or whose events were lost.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use vivadrop::{
    clock,
    drop::{
        DropPath, TenantId,
        containers::{DropContainer, WatchedContainers},
    },
    ledger::{Announcement, DropState},
    message::Message,
    retry::RetryBudget,
    run::{Outcome, RunLimits, Trigger},
    sink::{FailedTry, Sink, StatusClass},
    store::{BlobPath, Store, WriteIf},
    sweep::{SweepMode, sweep},
    verdict::Reason,
};

use super::{
    directory::{directory_of, person, put_directory},
    process::{Fault, Process, SWEEP_DEADLINE, Setup},
    world::{METADATA, STATE_CONTAINER, TENANT, World, assert_completed, path},
};
use crate::support::memory_sink::MemorySink;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// What a receiver answers to a message.
type Rule = dyn Fn(&Value) -> Result<(), FailedTry> + Send + Sync;

/// A receiver that answers by a rule, and passes the messages that it accepts on.
struct Receiver {
    inner: Arc<MemorySink>,
    rule: Box<Rule>,
    patience: Duration,
    tries: AtomicU64,
}

impl Receiver {
    fn new(world: &World, rule: impl Fn(&Value) -> Result<(), FailedTry> + Send + Sync + 'static) -> Arc<Self> {
        let (inner, patience) = (Arc::clone(&world.receiver), Duration::from_secs(240));
        Arc::new(Self { inner, rule: Box::new(rule), patience, tries: AtomicU64::new(0) })
    }

    /// How many messages the receiver got, accepted or not.
    fn tries(&self) -> u64 {
        self.tries.load(Ordering::SeqCst)
    }
}

impl std::fmt::Debug for Receiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Receiver")
    }
}

#[async_trait]
impl Sink for Receiver {
    async fn try_deliver(&self, message: &Message) -> Result<(), FailedTry> {
        self.tries.fetch_add(1, Ordering::SeqCst);
        (self.rule)(&serde_json::from_slice(&message.body).unwrap())?;
        self.inner.try_deliver(message).await
    }

    fn retry_budget(&self) -> RetryBudget {
        RetryBudget::lasting(self.patience)
    }

    fn name(&self) -> String {
        "a receiver with a rule".into()
    }
}

/// The answer of a receiver that is down.
fn down() -> FailedTry {
    FailedTry::transient("HTTP 503")
}

fn is_rows(message: &Value) -> bool {
    message["type"] == "viva.insights.rows"
}

/// A process whose only sink is `sink`.
fn process(world: &World, sink: &Arc<Receiver>) -> Process {
    Process::with_setup(world, Setup { sink: Arc::clone(sink) as Arc<dyn Sink>, ..Setup::new(world) })
}

/// The endings in the order of their arrival, as sequence and type.
fn sequences(world: &World) -> Vec<(u64, String)> {
    world.endings().into_iter().map(|(kind, data)| (data["sequence"].as_u64().unwrap(), kind)).collect()
}

/// Checks that the ending with the highest sequence is `drop.completed`, and that the ledger says the same.
async fn assert_last_ending_is_completed(world: &World, case: &str) {
    let endings = sequences(world);
    let (sequence, kind) = endings.iter().max().unwrap();
    assert_eq!(kind, "viva.insights.drop.completed", "{case}: {endings:?}");
    let record = world.record("drop.json").await;
    assert_eq!((&record["status"], &record["sequence"]), (&json!("completed"), &json!(sequence)), "{case}");
    assert_eq!(record["announced"], "done", "{case}");
    let mut distinct: Vec<_> = endings.iter().map(|(sequence, _)| sequence).collect();
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(distinct.len(), endings.len(), "{case}: two endings have the same sequence: {endings:?}");
}

/// The unfinished drops, by path.
async fn unfinished(world: &World) -> Vec<String> {
    let blobs = vivadrop::store::list_at_most(&world.storage, STATE_CONTAINER, "unfinished/", 1_000);
    blobs.await.unwrap().unwrap().into_iter().map(|blob| blob.path.name).collect()
}

/// Lets the timer start a sweep every five minutes until `time` has passed.
async fn sweep_for(process: &Process, time: Duration) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        sleep(5 * MINUTE).await;
        process.sweep(SweepMode::Timer).await;
    }
}

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
async fn put_other_drop(world: &World, tenant: TenantId, name: &str) -> DropPath {
    put_drop_in(world, "datasets", tenant, name).await
}

/// As [`put_other_drop`], in another container.
async fn put_drop_in(world: &World, container: &str, tenant: TenantId, name: &str) -> DropPath {
    let drop = DropPath::new(container, format!("{name}/{tenant}"));
    let metadata = json!({"TenantId": tenant, "NumberOfRowsExtracted": 5}).to_string();
    world.storage.write(&drop.blob(METADATA), metadata.into(), WriteIf::Always).await.unwrap();
    let rows: String = (0..5).map(|row| format!("{{\"row\":{row}}}\n")).collect();
    world.storage.write(&drop.blob("part-0"), rows.into(), WriteIf::Always).await.unwrap();
    drop
}

fn tenant(number: u128) -> TenantId {
    TenantId(uuid::Uuid::from_u128(number))
}

/// Whether the receiver has the `drop.completed` of the drop.
fn is_completed(world: &World, drop: &DropPath) -> bool {
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
async fn invalidate_file_record(world: &World, drop: &DropPath) {
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
    let permits = Arc::clone(&process.runner.run_permits);
    let all = u32::try_from(permits.available_permits()).unwrap();
    let taken = permits.try_acquire_many_owned(all).unwrap();
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
    let world = World::with_two_files().await;
    let receiver = Receiver::new(&world, |_| Err(down()));
    assert!(process(&world, &receiver).event(METADATA).await.unwrap().is_err());
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
    let world = World::with_two_files().await;
    let receiver = Receiver::new(&world, |_| Err(down()));
    assert!(process(&world, &receiver).event(METADATA).await.unwrap().is_err());
    sleep(HOUR).await;
    let process = Process::new(&world);
    process.store.plan.set_rule(|call| {
        let is_listing = call.path.container == "datasets" && call.path.name.is_empty();
        if is_listing { crate::support::faults::Fault::Rejected } else { crate::support::faults::Fault::None }
    });
    let report = process.sweep(SweepMode::Timer).await.unwrap();
    assert_eq!((report.completed, report.not_listed.len()), (1, 1), "{report}");
    world.assert_complete("one container denied");
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
        if is_listing { crate::support::faults::Fault::Rejected } else { crate::support::faults::Fault::None }
    });
    let watched = WatchedContainers { drop_container: DropContainer::PerTenant, ..process.watched() };
    let report = sweep(&process.runner, &watched, SweepMode::Timer, SWEEP_DEADLINE).await.unwrap();
    assert_eq!((report.completed, report.not_listed.len()), (1, 1), "{report}");
    assert_eq!(drops.each_ref().map(|drop| is_completed(&world, drop)), [false, true]);
    // The container can be listed again: the next sweep lists it, whenever the other one was listed.
    process.store.plan.set_rule(|_| crate::support::faults::Fault::None);
    sleep(HOUR).await;
    sweep(&process.runner, &watched, SweepMode::Timer, SWEEP_DEADLINE).await.unwrap();
    assert_eq!(drops.each_ref().map(|drop| is_completed(&world, drop)), [true, true]);
}

/// The number of storage requests of a process, including those that read data files.
fn requests(process: &Process) -> u64 {
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
    let world = World::with_two_files().await;
    let receiver = Receiver::new(&world, |_| Err(down()));
    assert!(process(&world, &receiver).event(METADATA).await.unwrap().is_err());
    for name in unfinished(&world).await {
        world.storage.delete(&BlobPath::new(STATE_CONTAINER, name), None).await.unwrap();
    }
    sleep(HOUR).await;
    Process::new(&world).sweep(SweepMode::Timer).await;
    world.assert_complete("the entry was lost");
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
