//! The directory join: which directory a drop is joined to, and when.

use std::time::Duration;

use futures::TryStreamExt;
use serde_json::{Value, json};
use tokio::time::sleep;
use uuid::Uuid;
use vivadrop::{
    directory::{DirectoryConfig, DirectoryMode},
    drop::DropPath,
    ledger::DropState,
    run::{Outcome, RunError, Trigger},
    store::{BlobPath, Store, WriteIf},
    sweep::SweepMode,
    verdict::Reason,
};

use super::{
    process::{Fault, Process, Setup},
    world::{METADATA, STATE_CONTAINER, TENANT, World, assert_completed, path},
};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

const DIRECTORY_TABLE: &str = "BasicDataSet_v0.User_v1";

/// The directory drop of the pipeline run in the folder `run`.
pub(crate) fn directory_of(run: &str) -> DropPath {
    DropPath::new("datasets", format!("{run}/AADUser/{TENANT}"))
}

/// Writes a blob of a drop.
pub(crate) async fn put_at(world: &World, drop: &DropPath, name: &str, text: impl Into<String>) {
    world.storage.write(&drop.blob(name), text.into().into(), WriteIf::Always).await.unwrap();
}

/// The wrapped Column key of a drop. Every wrapped key unwraps.
pub(crate) fn column_key() -> Value {
    key("Column")
}

/// The wrapped key of a drop for columns or files.
pub(crate) fn key(kind: &str) -> Value {
    let (value, iv) = ("A".repeat(342) + "==", "A".repeat(22) + "==");
    json!({"DecryptionKeyType": kind, "DecryptionKeyValue": value, "DecryptionKeyIV": iv})
}

/// Writes a directory drop with these people.
pub(crate) async fn put_directory(world: &World, drop: &DropPath, people: &[Value]) {
    put_directory_of(world, drop, TENANT, people).await;
}

/// Writes a directory drop whose job metadata names `tenant`.
pub(crate) async fn put_directory_of(world: &World, drop: &DropPath, tenant: &str, people: &[Value]) {
    let metadata = json!({
        "CopyActivityId": "5e8f1d2a-ceef-4c7e-b5e8-b3a83e1c69af",
        "TenantId": tenant,
        "TableName": DIRECTORY_TABLE,
        "NumberOfRowsExtracted": people.len(),
        "DecryptionKeyDetails": [column_key()],
    });
    put_at(world, drop, METADATA, metadata.to_string()).await;
    let rows: String = people.iter().map(|person| format!("{person}\n")).collect();
    put_at(world, drop, "part-0", rows).await;
}

/// A person of a directory.
pub(crate) fn person(number: u128, department: &str) -> Value {
    json!({"id": Uuid::from_u128(number), "mail": format!("p{number}@contoso.example"), "department": department})
}

/// The received messages, one per line and sorted, without the times at which they were made.
pub(crate) fn lines_of(world: &World) -> Vec<String> {
    let mut lines: Vec<_> = world
        .receiver
        .distinct()
        .into_iter()
        .map(|message| {
            let text = String::from_utf8(message.body.to_vec()).unwrap();
            let (head, tail) = text.split_once(r#""timestamp":""#).unwrap();
            let (_, tail) = tail.split_once('"').unwrap();
            format!(r#"{head}"timestamp":""{tail}"#)
        })
        .collect();
    lines.sort();
    lines
}

#[tokio::test(start_paused = true)]
async fn a_tenant_that_does_not_join_gets_the_messages_of_version_0_1() {
    let world = World::with_two_files().await;
    put_directory(&world, &directory_of("run"), &[person(1, "HR"), person(2, "Sales"), person(3, "HR")]).await;
    let failed = DropPath::new("datasets", format!("failed/VivaInsights/{TENANT}"));
    put_at(&world, &failed, METADATA, json!({"TenantId": TENANT, "Errors": "no consent"}).to_string()).await;
    for drop in [path(), directory_of("run"), failed] {
        Process::new(&world).runner.run(&drop, None, Trigger::Event, None).await.unwrap();
    }
    let expected: Vec<_> = include_str!("messages.ndjson").lines().collect();
    assert_eq!(lines_of(&world), expected);
}

/// The drop whose rows are joined: 7 rows in the file `a` and 5 in `b`, each about another person.
async fn world() -> World {
    let world = World::default();
    world.put_metadata(json!({"NumberOfRowsExtracted": 12, "DecryptionKeyDetails": [column_key()]})).await;
    for (name, numbers) in [("a", 0..7), ("b", 7..12)] {
        let row = |number: u128| format!("{}\n", json!({"ObjectId": Uuid::from_u128(number), name: number as u64}));
        world.put(name, numbers.map(row).collect::<String>()).await;
    }
    world
}

/// People 0 to 9, so that the rows of people 10 and 11 match no person.
fn people(department: &str) -> Vec<Value> {
    (0..10).map(|number| person(number, department)).collect()
}

/// The usual settings, with this mode of the join.
fn setup(world: &World, mode: DirectoryMode) -> Setup {
    Setup { directory: DirectoryConfig { mode, ..DirectoryConfig::default() }, ..Setup::new(world) }
}

/// A process that joins rows to directories.
fn joining(world: &World) -> Process {
    Process::with_setup(world, setup(world, DirectoryMode::Join))
}

/// Runs the drop as an event does; `None` if the process is killed.
async fn run(process: &Process, drop: &DropPath) -> Option<Result<Outcome, RunError>> {
    tokio::select! {
        result = process.runner.run(drop, None, Trigger::Event, None) => Some(result),
        () = process.faults.killed() => None,
    }
}

/// Runs the drop in a process that is not killed; the run must not fail.
async fn run_to_end(process: &Process, drop: &DropPath) -> Outcome {
    run(process, drop).await.unwrap().unwrap()
}

/// Checks that the drop waits for its directory.
fn assert_waiting(outcome: &Outcome) {
    assert!(matches!(outcome, Outcome::Waiting(_)), "{outcome:?}");
}

/// The `directory` of each message of the drop, and the department of each of its rows, in the order of the rows.
fn joined(world: &World) -> (Vec<Value>, Vec<Value>) {
    let mut batches: Vec<_> =
        world.batches().into_iter().filter(|data| data["drop"]["path"] == path().to_string()).collect();
    batches.sort_by_key(|data| (data["file"].to_string(), data["firstRow"].as_u64()));
    let rows = batches.iter().flat_map(|data| data["rows"].as_array().unwrap());
    let departments = rows.map(|row| row["directory"].get("department").cloned().unwrap_or_default()).collect();
    (batches.iter().map(|data| data["directory"].clone()).collect(), departments)
}

/// Checks that all rows are joined to the directory of `run`, whose people are in `department`.
fn assert_joined_to(world: &World, run: &str, department: &str, case: &str) {
    let (directories, departments) = joined(world);
    let expected = json!({"path": directory_of(run).to_string(), "id": "5e8f1d2a-ceef-4c7e-b5e8-b3a83e1c69af"});
    assert!(directories.iter().all(|directory| *directory == expected), "{case}: {directories:?}");
    let found = departments.iter().filter(|found| *found == department).count();
    assert_eq!((departments.len(), found, &departments[10..]), (12, 10, &[Value::Null, Value::Null][..]), "{case}");
}

/// Checks that no directory is joined: `directory` is null in every message and in every row.
fn assert_joined_to_none(world: &World) {
    let (directories, departments) = joined(world);
    assert!(!directories.is_empty() && directories.iter().all(Value::is_null), "{directories:?}");
    assert_eq!(departments, vec![Value::Null; 12]);
    for batch in world.batches() {
        assert!(batch.as_object().unwrap().contains_key("directory"), "{batch}");
        assert!(batch["rows"].as_array().unwrap().iter().all(|row| row.get("directory") == Some(&Value::Null)));
    }
}

/// Waits, then lets the timer start a sweep.
async fn sweep_after(process: &Process, time: Duration) {
    sleep(time).await;
    process.sweep(SweepMode::Timer).await;
}

#[tokio::test(start_paused = true)]
async fn rows_are_joined_to_the_directory_of_their_run_which_sends_nothing_itself() {
    let world = world().await;
    put_directory(&world, &directory_of("run"), &people("HR")).await;
    let process = joining(&world);
    let outcome = run_to_end(&process, &directory_of("run")).await;
    assert!(matches!(outcome, Outcome::Completed { rows: 10, .. }), "{outcome:?}");
    assert_eq!(world.received(), []);
    assert_completed(&run_to_end(&process, &path()).await);
    world.assert_complete("joined");
    assert_joined_to(&world, "run", "HR", "joined");
    let first = &world.batches()[0]["rows"][0];
    let person = json!({"mail": "p0@contoso.example", "department": "HR", "jobTitle": null, "country": null});
    assert_eq!(*first, json!({"ObjectId": Uuid::from_u128(0), "a": 0, "directory": person}));
    let record = world.record("drop.json").await;
    assert_eq!(
        (&record["version"], &record["directory"]["path"]),
        (&json!(2), &json!(directory_of("run").to_string()))
    );
}

#[tokio::test(start_paused = true)]
async fn with_both_the_directory_is_delivered_as_well() {
    let world = world().await;
    put_directory(&world, &directory_of("run"), &people("HR")).await;
    let process = Process::with_setup(&world, setup(&world, DirectoryMode::Both));
    run_to_end(&process, &directory_of("run")).await;
    let (rows, endings) = (world.batches(), world.endings());
    assert_eq!((rows.len(), endings.len()), (5, 1));
    assert!(rows.iter().all(|data| data.get("directory").is_none()), "{rows:?}");
    run_to_end(&process, &path()).await;
    assert_joined_to(&world, "run", "HR", "both");
}

#[tokio::test(start_paused = true)]
async fn a_drop_waits_for_a_late_directory_which_makes_it_due_at_once() {
    let world = world().await;
    let process = joining(&world);
    assert_waiting(&run_to_end(&process, &path()).await);
    assert_waiting(&run_to_end(&process, &path()).await);
    let mut entries = process.runner.ledger.list_entries();
    let entry = entries.try_next().await.unwrap().unwrap();
    assert_eq!((entry.state, entry.next_try.is_some()), (DropState::Waiting, true));
    sweep_after(&process, 5 * MINUTE).await;
    assert_eq!(world.received(), []);
    put_directory(&world, &directory_of("run"), &people("HR")).await;
    run_to_end(&process, &directory_of("run")).await;
    process.sweep(SweepMode::Timer).await;
    world.assert_complete("late");
    assert_joined_to(&world, "run", "HR", "late");
}

#[tokio::test(start_paused = true)]
async fn a_directory_whose_event_was_lost_is_run_when_its_drop_waits() {
    let world = world().await;
    let process = joining(&world);
    // The hour of the next listing has just begun.
    process.sweep(SweepMode::Timer).await;
    put_directory(&world, &directory_of("run"), &people("HR")).await;
    assert_waiting(&run_to_end(&process, &path()).await);
    for _ in 0..2 {
        sweep_after(&process, 5 * MINUTE).await;
    }
    assert_joined_to(&world, "run", "HR", "lost event");
}

#[tokio::test(start_paused = true)]
async fn a_directory_that_ended_before_directories_were_recorded_is_joined() {
    let world = world().await;
    put_directory(&world, &directory_of("run"), &people("HR")).await;
    let process = joining(&world);
    run_to_end(&process, &directory_of("run")).await;
    let record = BlobPath::new(STATE_CONTAINER, format!("directories/{TENANT}.json"));
    world.storage.delete(&record, None).await.unwrap();
    assert_waiting(&run_to_end(&process, &path()).await);
    for _ in 0..2 {
        sweep_after(&process, 5 * MINUTE).await;
    }
    assert_joined_to(&world, "run", "HR", "not recorded");
}

#[tokio::test(start_paused = true)]
async fn without_a_directory_a_drop_waits_for_an_hour_and_is_joined_to_none() {
    let world = world().await;
    let process = joining(&world);
    assert_waiting(&run_to_end(&process, &path()).await);
    sweep_after(&process, 59 * MINUTE).await;
    assert_eq!(world.received(), []);
    sweep_after(&process, 2 * MINUTE).await;
    world.assert_complete("none");
    assert_joined_to_none(&world);
    // A directory that arrives later sends nothing again; a replay does.
    put_directory(&world, &directory_of("run"), &people("HR")).await;
    run_to_end(&process, &directory_of("run")).await;
    sweep_after(&process, 5 * MINUTE).await;
    assert_completed(&run_to_end(&process, &path()).await);
    world.assert_complete("the directory came too late");
    let before = world.receiver.distinct().len();
    process.replay().await.unwrap().unwrap();
    let again: Vec<_> = world.received().into_iter().skip(before).collect();
    assert_eq!(again.len(), 8, "joined rows have ids of their own");
    assert!(again[0].1["directory"].is_object(), "{again:?}");
}

#[tokio::test(start_paused = true)]
async fn without_a_directory_of_its_run_a_drop_is_joined_to_the_newest_one() {
    let world = world().await;
    let process = joining(&world);
    for (run, department) in [("old", "Old"), ("older-name-newer-time", "New")] {
        put_directory(&world, &directory_of(run), &people(department)).await;
        run_to_end(&process, &directory_of(run)).await;
        sleep(DAY).await;
    }
    assert_waiting(&run_to_end(&process, &path()).await);
    sweep_after(&process, 61 * MINUTE).await;
    assert_joined_to(&world, "older-name-newer-time", "New", "newest");
}

#[tokio::test(start_paused = true)]
async fn the_wait_ends_when_the_directory_is_set_aside_and_its_failure_is_sent() {
    let world = world().await;
    let process = joining(&world);
    assert_waiting(&run_to_end(&process, &path()).await);
    let metadata = json!({"TenantId": TENANT, "TableName": DIRECTORY_TABLE, "Errors": "no permission"});
    put_at(&world, &directory_of("run"), METADATA, metadata.to_string()).await;
    run_to_end(&process, &directory_of("run")).await;
    let endings = world.endings();
    assert_eq!((endings.len(), endings[0].0.as_str()), (1, "viva.insights.drop.failed"));
    process.sweep(SweepMode::Timer).await;
    assert_joined_to_none(&world);
}

#[tokio::test(start_paused = true)]
async fn the_directory_of_another_tenant_is_not_joined() {
    let (world, other) = (world().await, "1b4e28ba-2fa1-41d2-883f-0016d3cca427");
    let foreign = DropPath::new("datasets", format!("run/AADUser/{other}"));
    put_directory_of(&world, &foreign, other, &people("Foreign")).await;
    // The tenant claims a directory at a place where it may not write, and another tenant's directory at its own place.
    let stolen = DropPath::new("datasets", format!("run/AADUser/{other}/x"));
    put_directory(&world, &stolen, &people("Stolen")).await;
    put_directory_of(&world, &directory_of("run"), other, &people("Planted")).await;
    let tenants = format!("{TENANT},{other}");
    let process = Process::with_setup(&world, Setup { tenants, ..setup(&world, DirectoryMode::Join) });
    for drop in [&foreign, &stolen, &directory_of("run")] {
        run(&process, drop).await.unwrap().unwrap();
    }
    assert_waiting(&run_to_end(&process, &path()).await);
    sweep_after(&process, 61 * MINUTE).await;
    assert_joined_to_none(&world);
}

#[tokio::test(start_paused = true)]
async fn without_a_column_key_no_row_is_joined_to_a_person() {
    let world = World::with_two_files().await;
    put_directory(&world, &directory_of("run"), &people("HR")).await;
    let process = joining(&world);
    run_to_end(&process, &directory_of("run")).await;
    assert_completed(&run_to_end(&process, &path()).await);
    assert_joined_to_none(&world);
}

#[tokio::test(start_paused = true)]
async fn a_directory_that_is_too_large_sets_the_drop_aside_with_the_size_that_it_needs() {
    let world = world().await;
    let many: Vec<_> = (0..2_000).map(|number| person(number, "HR")).collect();
    put_directory(&world, &directory_of("run"), &many).await;
    let mut setup = setup(&world, DirectoryMode::Join);
    setup.directory.rules.memory = 20_000;
    let process = Process::with_setup(&world, setup);
    run_to_end(&process, &directory_of("run")).await;
    let outcome = run_to_end(&process, &path()).await;
    assert!(matches!(outcome, Outcome::SetAside { reason: Reason::DirectoryTooLarge, .. }), "{outcome:?}");
    let endings = world.endings();
    let [(_, failed)] = &endings[..] else { panic!("{endings:?}") };
    let message = failed["message"].as_str().unwrap();
    assert!(message.contains("AADUser") && message.contains("needs up to 1 MiB"), "{message}");
    // With that size it fits.
    let process = joining(&world);
    process.replay().await.unwrap().unwrap();
    assert_eq!(world.row_counts(), [("a".into(), 7), ("b".into(), 5)].into());
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_resumed_keeps_its_directory_although_a_newer_one_has_arrived() {
    let expected = {
        let world = world().await;
        let process = joining(&world);
        put_directory(&world, &directory_of("old"), &people("Old")).await;
        run_to_end(&process, &directory_of("old")).await;
        assert_waiting(&run_to_end(&process, &path()).await);
        sweep_after(&process, 61 * MINUTE).await;
        lines_of(&world)
    };
    let mut resumed = 0;
    for step in 0.. {
        let world = world().await;
        let process = joining(&world);
        put_directory(&world, &directory_of("old"), &people("Old")).await;
        run_to_end(&process, &directory_of("old")).await;
        assert_waiting(&run_to_end(&process, &path()).await);
        sleep(61 * MINUTE).await;
        let fault = Some(Fault::Kill { step, is_processed: true });
        let killed = Process::with_setup(&world, Setup { fault, ..setup(&world, DirectoryMode::Join) });
        let is_killed = run(&killed, &path()).await.is_none();
        let is_pinned = process.runner.ledger.drop_record(&path()).await.unwrap().directory.is_some();
        // Now the directory of the run arrives.
        put_directory(&world, &directory_of("run"), &people("Own")).await;
        run_to_end(&process, &directory_of("run")).await;
        sweep_after(&process, HOUR).await;
        if is_pinned {
            assert_eq!(lines_of(&world), expected, "step {step}");
            resumed += u32::from(is_killed);
        } else {
            assert_joined_to(&world, "run", "Own", &format!("step {step}"));
        }
        if !is_killed {
            break;
        }
    }
    assert!(resumed > 10, "{resumed}");
}

#[tokio::test(start_paused = true)]
async fn a_process_that_is_killed_at_any_step_loses_no_wake_up_and_changes_no_message() {
    let directory = directory_of("run");
    let expected = {
        let world = world().await;
        put_directory(&world, &directory, &people("HR")).await;
        run_to_end(&joining(&world), &directory).await;
        run_to_end(&joining(&world), &path()).await;
        lines_of(&world)
    };
    assert_eq!(expected.len(), 8);
    for (first, second) in [(path(), directory.clone()), (directory.clone(), path())] {
        for step in 0.. {
            let world = world().await;
            put_directory(&world, &directory, &people("HR")).await;
            let fault = Some(Fault::Kill { step, is_processed: true });
            let killed = Process::with_setup(&world, Setup { fault, ..setup(&world, DirectoryMode::Join) });
            let is_killed = if run(&killed, &first).await.is_some() {
                run(&killed, &second).await.is_none()
            } else {
                // The event of the other drop reaches another process.
                run_to_end(&joining(&world), &second).await;
                true
            };
            // Leases lapse, and the timer starts sweeps, long before the wait would end. A directory whose event was
            // lost before it was recorded is found by the hourly listing.
            for wait in [5 * MINUTE, 5 * MINUTE, 5 * MINUTE, 50 * MINUTE] {
                if world.endings().is_empty() {
                    sweep_after(&joining(&world), wait).await;
                }
            }
            assert_eq!(lines_of(&world), expected, "step {step} of {first}");
            assert_eq!(world.endings().len(), 1);
            if !is_killed {
                break;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_fails_at_any_step_changes_no_message() {
    let expected = {
        let world = world().await;
        put_directory(&world, &directory_of("run"), &people("HR")).await;
        run_to_end(&joining(&world), &directory_of("run")).await;
        run_to_end(&joining(&world), &path()).await;
        lines_of(&world)
    };
    for (step, is_processed) in (0..).flat_map(|step| [(step, false), (step, true)]) {
        let world = world().await;
        put_directory(&world, &directory_of("run"), &people("HR")).await;
        let fault = Some(Fault::Fails { step, is_processed });
        let process = Process::with_setup(&world, Setup { fault, ..setup(&world, DirectoryMode::Join) });
        // The drop waits, its directory ends, and the drop is resumed. The host repeats events that fail.
        for drop in [path(), directory_of("run")] {
            while run(&process, &drop).await.unwrap().is_err() {
                sleep(Duration::from_secs(10)).await;
            }
        }
        for _ in 0..3 {
            if world.endings().is_empty() {
                sweep_after(&joining(&world), 5 * MINUTE).await;
            }
        }
        assert_eq!(lines_of(&world), expected, "step {step}, processed: {is_processed}");
        if process.faults.steps() <= step {
            break;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn two_processes_that_run_the_drop_at_the_same_time_join_it_to_the_same_directory() {
    let world = world().await;
    put_directory(&world, &directory_of("run"), &people("HR")).await;
    run_to_end(&joining(&world), &directory_of("run")).await;
    let (first, second) = (joining(&world), joining(&world));
    let drop = path();
    tokio::join!(run_to_end(&first, &drop), run_to_end(&second, &drop));
    world.assert_complete("concurrent");
    assert_joined_to(&world, "run", "HR", "concurrent");
}

#[tokio::test(start_paused = true)]
async fn a_join_costs_six_more_storage_requests_and_waiting_thirteen() {
    let requests = async |mode: Option<DirectoryMode>, has_directory: bool| {
        let world = world().await;
        put_directory(&world, &directory_of("run"), &people("HR")).await;
        if has_directory {
            run_to_end(&joining(&world), &directory_of("run")).await;
        }
        let process = Process::with_setup(&world, setup(&world, mode.unwrap_or_default()));
        run_to_end(&process, &path()).await;
        process.store.calls()
    };
    let (plain, joined) = (requests(None, true).await, requests(Some(DirectoryMode::Join), true).await);
    // The directory's record, its listing, its metadata and its file are read, and the choice is recorded.
    assert!(joined - plain <= 6, "{joined} requests instead of {plain}");
    let waiting = requests(Some(DirectoryMode::Join), false).await;
    assert!(waiting <= 13, "{waiting}");
}

#[tokio::test(start_paused = true)]
async fn a_directory_that_ends_at_any_step_of_the_drop_wakes_it() {
    for step in 0.. {
        let world = world().await;
        put_directory(&world, &directory_of("run"), &people("HR")).await;
        // The drop's process stands still while the directory ends.
        let fault = Some(Fault::Frozen { step, time: MINUTE });
        let frozen = Process::with_setup(&world, Setup { fault, ..setup(&world, DirectoryMode::Join) });
        let ends = async {
            sleep(MINUTE / 2).await;
            run_to_end(&joining(&world), &directory_of("run")).await;
        };
        let drop = path();
        let (outcome, ()) = tokio::join!(run_to_end(&frozen, &drop), ends);
        if matches!(outcome, Outcome::Waiting(_)) {
            joining(&world).sweep(SweepMode::Timer).await;
        }
        world.assert_complete(&format!("step {step}"));
        assert_joined_to(&world, "run", "HR", &format!("step {step}"));
        if frozen.faults.steps() <= step {
            break;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn rows_that_are_left_are_joined_to_another_directory_if_the_first_one_has_gone() {
    let mut tested = 0;
    for (step, is_replaced) in (10..40).flat_map(|step| [(step, false), (step, true)]) {
        let world = world().await;
        let process = joining(&world);
        put_directory(&world, &directory_of("old"), &people("Old")).await;
        run_to_end(&process, &directory_of("old")).await;
        sleep(DAY).await;
        put_directory(&world, &directory_of("run"), &people("First")).await;
        run_to_end(&process, &directory_of("run")).await;
        // Killed after some rows.
        let fault = Some(Fault::Kill { step, is_processed: true });
        let killed = Process::with_setup(&world, Setup { fault, ..setup(&world, DirectoryMode::Join) });
        run(&killed, &path()).await;
        if !(1..6).contains(&world.batches().len()) {
            continue;
        }
        tested += 1;
        if is_replaced {
            put_directory(&world, &directory_of("run"), &people("Second")).await;
            run_to_end(&process, &directory_of("run")).await;
        } else {
            for name in [METADATA, "part-0"] {
                world.storage.delete(&directory_of("run").blob(name), None).await.unwrap();
            }
        }
        sweep_after(&process, HOUR).await;
        sweep_after(&process, HOUR).await;
        assert_eq!(world.row_counts(), [("a".into(), 7), ("b".into(), 5)].into(), "replaced: {is_replaced}");
        assert_eq!(world.endings().len(), 1);
        let (_, departments) = joined(&world);
        let later = if is_replaced { "Second" } else { "Old" };
        assert!(departments.iter().any(|found| found == "First"), "{departments:?}");
        assert!(departments.iter().any(|found| found == later), "{departments:?}");
    }
    assert!(tested > 3, "{tested}");
}
