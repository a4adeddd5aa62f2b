//! The attributes pass: what receivers get, when, and after which failures.

use std::{collections::HashSet, time::Duration};

use futures::TryStreamExt;
use serde_json::{Value, json};
use time::Weekday;
use tokio::time::sleep;
use uuid::Uuid;
use vivadrop::{
    attributes::Definitions,
    clock, definitions,
    directory::{DirectoryConfig, DirectoryMode},
    drop::DropPath,
    import::{ImportError, ImportRequest, Imported, PassOutcome},
    run::Trigger,
    store::{BlobPath, Store, WriteIf},
    sweep::{SweepMode, sweep},
};

use super::{
    directory::{column_key, directory_of, key, person, put_directory},
    process::{Fault, Gate, Process, Setup, at_every_step},
    survey::{
        BOUNDS, DAY, HOUR, define, definitions_of, deliver, email, kinds, lines, of_kind, put_drop, rows, sweep_later,
        tenant, today, window_end, with_definitions, world,
    },
    world::{METADATA, STATE_CONTAINER, TENANT, World, path},
};
use crate::support::faults::{Fault as CallFault, Operation, StoreCall};

#[tokio::test(start_paused = true)]
async fn a_cycle_is_imported_once_after_the_drop_that_reaches_it() {
    let world = world().await;
    let process = with_definitions(&world).await;
    deliver(&process, &path()).await;
    process.sweep(SweepMode::Timer).await.unwrap();
    assert_eq!(kinds(&world), [".defined", "", ".completed"]);
    let defined = &of_kind(&world, ".defined")[0];
    let expected = json!({"tenantId": TENANT, "revision": 1, "attributes": [{"name": "Email hours", "unit": "Hour",
        "ranges": [{"label": "0 to less than 5", "min": 0, "max": 5}, {"label": "5 to less than 10", "min": 5, "max": 10},
            {"label": "10 to less than 15", "min": 10, "max": 15}, {"label": "15 or more", "min": 15, "max": null}],
        "roles": {}}]});
    assert_eq!(*defined, expected);
    let batches = of_kind(&world, "");
    let people: Vec<&Value> = batches.iter().flat_map(|batch| batch["people"].as_array().unwrap()).collect();
    assert_eq!(people.len(), 20);
    for (number, person) in people.into_iter().enumerate() {
        let range = number / 5 + 1;
        let label = &expected["attributes"][0]["ranges"][range - 1]["label"];
        let expected = json!({"ObjectId": Uuid::from_u128(number as u128), "directory": null, "weeks": 12,
            "attributes": {"Email hours": {"range": range, "label": label}}});
        assert_eq!(*person, expected);
    }
    let completed = &of_kind(&world, ".completed")[0];
    assert_eq!((&completed["people"], &completed["sequence"]), (&json!(20), &json!(1)));
    assert_eq!(completed["counts"], json!({"Email hours": [5, 5, 5, 5]}));
    assert_eq!(completed["window"]["weeks"], json!(12));
    assert_eq!((&completed["program"], &completed["cycle"]), (&json!("Engagement"), &json!("Now")));
    assert_eq!(completed["importId"], batches[0]["importId"]);

    let before = world.receiver.messages().len();
    let other = DropPath::new("datasets", format!("later/VivaInsights/{TENANT}"));
    put_drop(&world, &other, &rows(20), column_key()).await;
    deliver(&process, &other).await;
    sweep_later(&world).await;
    let later = world.receiver.messages().split_off(before);
    assert!(later.iter().all(|message| !message.kind.contains("attributes")), "another drop reaches the cycle as well");
}

/// A world whose drop was delivered and imported without a fault.
async fn world_with_import() -> World {
    let world = world().await;
    let process = with_definitions(&world).await;
    deliver(&process, &path()).await;
    process.sweep(SweepMode::Timer).await.unwrap();
    world
}

#[tokio::test(start_paused = true)]
async fn an_import_that_is_killed_at_any_step_resumes_with_the_same_messages() {
    let expected = lines(&world_with_import().await);
    assert!(expected.len() > 8, "{expected:#?}");
    at_every_step(Fault::kill, async |fault| {
        let world = world().await;
        deliver(&with_definitions(&world).await, &path()).await;
        let killed = Process::with(&world, fault, 2);
        tokio::select! {
            _ended = killed.runner.import(tenant(), None) => {}
            () = killed.faults.killed() => {}
        }
        sweep_later(&world).await;
        assert_eq!(lines(&world), expected, "{fault:?}");
        killed.faults.steps()
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_drop_whose_process_is_killed_at_any_step_is_imported_all_the_same() {
    at_every_step(Fault::kill, async |fault| {
        let world = world().await;
        with_definitions(&world).await;
        let killed = Process::with(&world, fault, 200);
        let drop = path();
        tokio::select! {
            _ended = killed.runner.run(&drop, None, Trigger::Event, None) => {}
            () = killed.faults.killed() => {}
        }
        sweep_later(&world).await;
        sleep(HOUR).await;
        sweep_later(&world).await;
        assert_eq!(of_kind(&world, ".completed").len(), 1, "{fault:?}");
        killed.faults.steps()
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_request_that_fails_at_any_step_costs_nothing_but_time() {
    let expected = lines(&world_with_import().await);
    at_every_step(Fault::fail, async |fault| {
        let world = world().await;
        deliver(&with_definitions(&world).await, &path()).await;
        let failing = Process::with(&world, fault, 2);
        let _result = failing.runner.import(tenant(), None).await;
        sweep_later(&world).await;
        assert_eq!(lines(&world), expected, "{fault:?}");
        failing.faults.steps()
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_deleted_attribute_is_deleted_at_receivers_and_not_imported_again() {
    let world = world().await;
    let process = Process::new(&world);
    let both = json!([{"name": "Email hours", "max": BOUNDS}, {"name": "Meeting hours"}]);
    define(&process, &definitions_of(both, today())).await;
    deliver(&process, &path()).await;
    sweep_later(&world).await;
    define(&process, &definitions_of(json!([{"name": "Meeting hours"}]), today())).await;
    sweep_later(&world).await;
    assert_eq!(kinds(&world), [".defined", "", ".completed", ".defined", ".deleted", "", ".completed"]);
    let deleted = &of_kind(&world, ".deleted")[0];
    assert_eq!(*deleted, json!({"tenantId": TENANT, "sequence": 2, "attribute": "Email hours"}));
    let [first, second] = &of_kind(&world, ".completed")[..] else { panic!("two imports") };
    assert_eq!((&first["sequence"], &second["sequence"]), (&json!(1), &json!(3)));
    assert_eq!((&second["revision"], &second["counts"]), (&json!(2), &json!({"Meeting hours": [20, 0, 0, 0]})));
    assert_ne!(first["importId"], second["importId"]);
}

#[tokio::test(start_paused = true)]
async fn roles_are_sent_and_import_nothing_again() {
    let world = world().await;
    let process = with_definitions(&world).await;
    deliver(&process, &path()).await;
    sweep_later(&world).await;
    let roles = json!([{"name": "Email hours", "max": BOUNDS, "roles": {"Manager": ["report-filters"]}}]);
    assert_eq!(define(&process, &definitions_of(roles, today())).await.revision, 1);
    sweep_later(&world).await;
    assert_eq!(kinds(&world), [".defined", "", ".completed", ".defined"]);
    assert_eq!(of_kind(&world, ".defined")[1]["attributes"][0]["roles"], json!({"Manager": ["report-filters"]}));
}

#[tokio::test(start_paused = true)]
async fn new_ranges_that_would_single_people_out_are_refused() {
    let world = world().await;
    let process = with_definitions(&world).await;
    deliver(&process, &path()).await;
    sweep_later(&world).await;
    // Person 4 would move to the second range.
    define(&process, &definitions_of(email([4, 10, 15]), today())).await;
    sweep_later(&world).await;
    let failed = &of_kind(&world, ".failed")[0];
    assert_eq!((&failed["reason"], &failed["revision"]), (&json!("would-identify"), &json!(2)));
    // All five people of the third range move.
    define(&process, &definitions_of(email([5, 15, 20]), today())).await;
    sweep_later(&world).await;
    assert_eq!(of_kind(&world, ".completed")[1]["counts"], json!({"Email hours": [5, 10, 5, 0]}));
}

#[tokio::test(start_paused = true)]
async fn new_ranges_that_would_single_people_out_are_refused_if_the_process_was_killed_at_any_step() {
    at_every_step(Fault::kill, async |fault| {
        let world = world().await;
        let process = with_definitions(&world).await;
        deliver(&process, &path()).await;
        let killed = Process::with(&world, fault, 2);
        tokio::select! {
            _ended = killed.runner.import(tenant(), None) => {}
            () = killed.faults.killed() => {}
        }
        define(&process, &definitions_of(email([4, 10, 15]), today())).await;
        sweep_later(&world).await;
        // The receiver has one of the two imports, and was told if it does not get the other one.
        let (completed, failed) = (of_kind(&world, ".completed").len(), of_kind(&world, ".failed").len());
        assert!(completed <= 1 && completed + failed >= 1, "{fault:?}: {completed} completed, {failed} failed");
        killed.faults.steps()
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_drop_that_cannot_be_reported_fails_the_cycle_with_its_reason() {
    let monthly_and_not =
        rows(20).replacen(&(window_end(today()) - time::Duration::days(7)).to_string(), "2024-10-08", 1);
    let unreadable = rows(20).replace("MetricDate\":\"", "MetricDate\":\"on ");
    let cases = [
        (rows(4), column_key(), "too-few-people"),
        (rows(20), key("File"), "not-identified"),
        (monthly_and_not, column_key(), "not-weekly"),
        (unreadable, column_key(), "not-weekly"),
    ];
    for (rows, key, reason) in cases {
        let world = World::default();
        put_drop(&world, &path(), &rows, key).await;
        deliver(&with_definitions(&world).await, &path()).await;
        sweep_later(&world).await;
        sweep_later(&world).await;
        assert_eq!(kinds(&world), [".defined", ".failed"], "{reason}");
        let failed = &of_kind(&world, ".failed")[0];
        assert_eq!((&failed["reason"], &failed["sequence"]), (&json!(reason), &json!(1)), "{}", failed["message"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_drop_of_another_dataset_is_left_alone() {
    let world = World::default();
    let rows: String = (0..20).map(|number| format!("{}\n", json!({"ObjectId": Uuid::from_u128(number)}))).collect();
    put_drop(&world, &path(), &rows, column_key()).await;
    deliver(&with_definitions(&world).await, &path()).await;
    sweep_later(&world).await;
    assert_eq!(kinds(&world), [".defined"]);
}

/// Waits until neither today nor tomorrow is a Sunday. Then the next window ends later, and cycles that end today and
/// tomorrow have the same window.
async fn wait_until_no_window_ends_soon() {
    while [today(), today().next_day().unwrap()].iter().any(|day| day.weekday() == Weekday::Sunday) {
        sleep(DAY).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_cycle_is_imported_as_soon_as_it_has_ended() {
    wait_until_no_window_ends_soon().await;
    let world = world().await;
    let process = Process::new(&world);
    let end = window_end(today()) + time::Duration::days(7);
    define(&process, &definitions_of(email(BOUNDS), end)).await;
    deliver(&process, &path()).await;
    sweep_later(&world).await;
    assert_eq!(kinds(&world), [".defined"]);
    while today() < end {
        sleep(DAY).await;
    }
    sweep_later(&world).await;
    assert_eq!(kinds(&world), [".defined", "", ".completed"]);
}

#[tokio::test(start_paused = true)]
async fn a_cycle_that_ends_at_midnight_while_a_pass_works_is_imported_by_the_next_pass() {
    wait_until_no_window_ends_soon().await;
    let world = world().await;
    let process = Process::new(&world);
    let tomorrow = today().next_day().unwrap();
    let mut definitions = definitions_of(email(BOUNDS), today());
    let next = json!({"name": "Next", "start": today().to_string(), "end": tomorrow.to_string()});
    definitions["programs"][0]["cycles"].as_array_mut().unwrap().push(next);
    define(&process, &definitions).await;
    process.runner.import(tenant(), None).await.unwrap();
    deliver(&process, &path()).await;
    // The definitions were sent, so the next message has people.
    let gate = Gate::before(&world.receiver);
    let slow = Process::with_gate(&world, &gate);
    let midnight = async {
        gate.reached.notified().await;
        while today() < tomorrow {
            sleep(HOUR).await;
        }
        gate.open.notify_one();
    };
    let (imported, ()) = tokio::join!(slow.runner.import(tenant(), None), midnight);
    imported.unwrap();
    assert_eq!(of_kind(&world, ".completed").len(), 1);
    sweep_later(&world).await;
    assert_eq!(of_kind(&world, ".completed").len(), 2);
}

#[tokio::test(start_paused = true)]
async fn definitions_that_change_while_a_pass_works_replace_the_unfinished_import() {
    let world = world().await;
    let process = with_definitions(&world).await;
    process.runner.import(tenant(), None).await.unwrap();
    deliver(&process, &path()).await;
    // The definitions were sent, so the next message has people.
    let gate = Gate::before(&world.receiver);
    let slow = Process::with_gate(&world, &gate);
    let meanwhile = async {
        gate.reached.notified().await;
        let both = json!([{"name": "Email hours", "max": BOUNDS}, {"name": "Meeting hours"}]);
        define(&process, &definitions_of(both, today())).await;
        gate.open.notify_one();
    };
    let (imported, ()) = tokio::join!(slow.runner.import(tenant(), None), meanwhile);
    imported.unwrap();
    sweep_later(&world).await;
    assert_eq!(kinds(&world), [".defined", "", ".defined", "", ".completed"]);
    let completed = &of_kind(&world, ".completed")[0];
    assert_eq!((&completed["revision"], completed["counts"].as_object().unwrap().len()), (&json!(2), 2));
}

#[tokio::test(start_paused = true)]
async fn definitions_that_come_after_the_drop_import_it() {
    let world = world().await;
    deliver(&Process::new(&world), &path()).await;
    sweep_later(&world).await;
    // An edit by hand, which the next sweep notices.
    let text = definitions_of(email(BOUNDS), today()).to_string();
    let blob = BlobPath::new(STATE_CONTAINER, format!("attributes/{TENANT}.json"));
    world.storage.write(&blob, text.into(), WriteIf::Always).await.unwrap();
    sweep_later(&world).await;
    assert_eq!(kinds(&world), [".defined", "", ".completed"]);
    world.storage.write(&blob, "{}".into(), WriteIf::Always).await.unwrap();
    sweep_later(&world).await;
    assert_eq!(kinds(&world), [".defined", "", ".completed"]);
    let loaded = definitions::load(&Process::new(&world).runner.ledger, tenant()).await.unwrap();
    assert_eq!((loaded.revision, loaded.problems.len()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_drop_is_imported_again_if_its_files_change_and_not_if_they_are_deleted() {
    let world = world().await;
    let process = with_definitions(&world).await;
    deliver(&process, &path()).await;
    sweep_later(&world).await;
    put_drop(&world, &path(), &rows(25), column_key()).await;
    deliver(&process, &path()).await;
    // Another process notices it when it lists the drops.
    sleep(HOUR).await;
    sweep_later(&world).await;
    let completed = of_kind(&world, ".completed");
    assert_eq!(completed.iter().map(|data| data["people"].as_u64().unwrap()).collect::<Vec<_>>(), [20, 25]);

    world.storage.delete(&path().blob("part-0"), None).await.unwrap();
    sleep(DAY).await;
    sweep_later(&world).await;
    define(&process, &definitions_of(json!([{"name": "Meeting hours"}]), today())).await;
    sweep_later(&world).await;
    assert_eq!(of_kind(&world, ".completed").len(), 2, "the rows are not in storage any more");
    assert_eq!(of_kind(&world, ".failed").len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_person_can_ask_for_an_import_again() {
    let world = world().await;
    let process = with_definitions(&world).await;
    deliver(&process, &path()).await;
    sweep_later(&world).await;
    let request = |again| ImportRequest { path: path(), program: None, cycle: None, again };
    process.runner.request_import(&request(false)).await.unwrap();
    assert_eq!(process.runner.import(tenant(), None).await.unwrap(), PassOutcome::Done(vec![]));
    process.runner.request_import(&request(true)).await.unwrap();
    let PassOutcome::Done(imported) = process.runner.import(tenant(), None).await.unwrap() else { panic!("busy") };
    assert_eq!(imported[0].result, Ok(20));
    sweep_later(&world).await;
    let [first, second] = &of_kind(&world, ".completed")[..] else { panic!("two imports") };
    assert_ne!(first["importId"], second["importId"]);
    let other = ImportRequest { program: Some("Pulse".into()), ..request(true) };
    process.runner.request_import(&other).await.unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn a_person_can_import_another_drop_after_the_import_of_the_first_one_failed() {
    let world = world().await;
    let process = with_definitions(&world).await;
    put_drop(&world, &path(), &rows(3), column_key()).await;
    deliver(&process, &path()).await;
    process.sweep(SweepMode::Timer).await.unwrap();
    assert_eq!(of_kind(&world, ".failed")[0]["reason"], json!("too-few-people"));
    let other = DropPath::new("datasets", format!("later/VivaInsights/{TENANT}"));
    put_drop(&world, &other, &rows(3), column_key()).await;
    deliver(&process, &other).await;
    // Each request has one import, also if the second drop fails as the first one did.
    for (drop, failures) in [(&other, 2), (&other, 2), (&path(), 3)] {
        ask(&process, drop.clone()).await;
        sweep_later(&world).await;
        assert_eq!(of_kind(&world, ".failed").len(), failures, "{drop}");
    }
    put_drop(&world, &other, &rows(20), column_key()).await;
    deliver(&process, &other).await;
    for _ in 0..2 {
        ask(&process, other.clone()).await;
        sweep_later(&world).await;
        assert_eq!(of_kind(&world, ".completed").len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn people_are_joined_to_the_directory_of_their_drop() {
    let world = world().await;
    let directory = DirectoryConfig { mode: DirectoryMode::Join, ..DirectoryConfig::default() };
    let process = Process::with_setup(&world, Setup { directory, ..Setup::new(&world) });
    define(&process, &definitions_of(email(BOUNDS), today())).await;
    put_directory(&world, &directory_of("run"), &[person(0, "HR"), person(1, "Sales")]).await;
    deliver(&process, &directory_of("run")).await;
    deliver(&process, &path()).await;
    process.runner.import(tenant(), None).await.unwrap();
    let batches = of_kind(&world, "");
    assert_eq!(batches[0]["people"][1]["directory"]["department"], json!("Sales"));
    assert_eq!(batches[1]["people"][0]["directory"], Value::Null);
}

/// A world whose drop was joined to a directory and delivered, and the settings of its processes.
async fn joined_world() -> (World, DirectoryConfig) {
    let world = world().await;
    let directory = DirectoryConfig { mode: DirectoryMode::Join, ..DirectoryConfig::default() };
    let process = process_with(&world, &directory);
    define(&process, &definitions_of(email(BOUNDS), today())).await;
    let people: Vec<_> = (0..2_000).map(|number| person(number, "HR")).collect();
    put_directory(&world, &directory_of("run"), &people).await;
    deliver(&process, &directory_of("run")).await;
    deliver(&process, &path()).await;
    (world, directory)
}

fn process_with(world: &World, directory: &DirectoryConfig) -> Process {
    Process::with_setup(world, Setup { directory: directory.clone(), ..Setup::new(world) })
}

#[tokio::test(start_paused = true)]
async fn a_directory_that_no_longer_fits_into_its_memory_fails_the_cycle() {
    let (world, mut directory) = joined_world().await;
    directory.rules.memory = 20_000;
    let process = process_with(&world, &directory);
    for _ in 0..2 {
        process.runner.import(tenant(), None).await.unwrap();
        assert_eq!(kinds(&world), [".defined", ".failed"]);
    }
    let failed = &of_kind(&world, ".failed")[0];
    assert_eq!(failed["reason"], json!("directory-too-large"), "{failed}");
    // With more memory, a person asks for the import again.
    directory.rules.memory = 4 << 20;
    let process = process_with(&world, &directory);
    let request = ImportRequest { path: path(), program: None, cycle: None, again: true };
    process.runner.request_import(&request).await.unwrap();
    process.runner.import(tenant(), None).await.unwrap();
    assert_eq!(of_kind(&world, ".completed").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_directory_that_cannot_be_read_for_long_fails_the_cycle_that_has_no_import_yet() {
    let (world, directory) = joined_world().await;
    let process = process_with(&world, &directory);
    let folder = directory_of("run").folder;
    let denied = move |call: &StoreCall| {
        if call.path.name.starts_with(&folder) { CallFault::Rejected } else { CallFault::None }
    };
    process.store.plan.set_rule(denied);
    process.runner.import(tenant(), None).await.unwrap_err();
    sleep(2 * DAY).await;
    process.runner.import(tenant(), None).await.unwrap_err();
    assert_eq!(kinds(&world), [".defined"]);
    sleep(2 * DAY).await;
    process.runner.import(tenant(), None).await.unwrap();
    assert_eq!(kinds(&world), [".defined", ".failed"]);
    assert_eq!(of_kind(&world, ".failed")[0]["reason"], json!("unavailable"));
}

#[tokio::test(start_paused = true)]
async fn a_request_whose_directory_cannot_be_read_for_long_ends() {
    let (world, directory) = joined_world().await;
    let process = process_with(&world, &directory);
    process.runner.import(tenant(), None).await.unwrap();
    assert_eq!(kinds(&world), [".defined", "", ".completed"]);
    let folder = directory_of("run").folder;
    let denied = move |call: &StoreCall| {
        if call.path.name.starts_with(&folder) { CallFault::Rejected } else { CallFault::None }
    };
    process.store.plan.set_rule(denied);
    let request = ImportRequest { path: path(), program: None, cycle: None, again: true };
    process.runner.request_import(&request).await.unwrap();
    for _ in 0..2 {
        process.runner.import(tenant(), None).await.unwrap_err();
        sleep(2 * DAY).await;
    }
    let PassOutcome::Done(imported) = process.runner.import(tenant(), None).await.unwrap() else { panic!("busy") };
    let [Imported { result: Err(why), .. }] = &imported[..] else { panic!("{imported:?}") };
    assert!(why.starts_with("given up: cannot read its directory"), "{why}");
    let PassOutcome::Done(imported) = process.runner.import(tenant(), None).await.unwrap() else { panic!("busy") };
    assert!(imported.is_empty(), "the request is over: {imported:?}");
    assert_eq!(kinds(&world), [".defined", "", ".completed"]);
}

/// Makes listings of the drop fail, or succeed again.
fn fail_listings(process: &Process, are_failing: bool) {
    let rule = move |call: &StoreCall| {
        let is_of_drop = call.operation == Operation::List && call.path.name.starts_with(&path().folder);
        if are_failing && is_of_drop { CallFault::Rejected } else { CallFault::None }
    };
    process.store.plan.set_rule(rule);
}

/// Makes a pass that fails because the drop cannot be read.
async fn import_unreadable(process: &Process) {
    fail_listings(process, true);
    let error = process.runner.import(tenant(), None).await.unwrap_err();
    assert!(matches!(error, ImportError::Drop { .. }), "{error:?}");
    fail_listings(process, false);
}

/// Makes passes for four days that read the drop, and then fail because the receiver is down.
async fn import_for_days_without_receiver(process: &Process) {
    process.faults.outage_of_sink(true);
    for _ in 0..2 {
        sleep(2 * DAY).await;
        let error = process.runner.import(tenant(), None).await.unwrap_err();
        assert!(matches!(error, ImportError::Sink(_)), "{error:?}");
    }
}

/// Makes two passes with a pause of the tenant, four days apart. The second one writes nothing about imports.
async fn pause_for_days(world: &World) {
    let process = Process::paused(world);
    assert_eq!(process.runner.import(tenant(), None).await.unwrap(), PassOutcome::Done(vec![]));
    sleep(4 * DAY).await;
    let refuse_writes = |call: &StoreCall| {
        if call.operation == Operation::Write { CallFault::Rejected } else { CallFault::None }
    };
    process.store.plan.set_rule(refuse_writes);
    assert_eq!(process.runner.import(tenant(), None).await.unwrap(), PassOutcome::Done(vec![]));
}

/// Asks for an import of the drop again, after it was imported.
async fn requested_again(world: &World) -> Process {
    let process = with_definitions(world).await;
    deliver(&process, &path()).await;
    process.runner.import(tenant(), None).await.unwrap();
    let request = ImportRequest { path: path(), program: None, cycle: None, again: true };
    process.runner.request_import(&request).await.unwrap();
    process
}

/// How many requests of the tenant wait.
async fn request_count(process: &Process) -> usize {
    process.runner.ledger.tenant_imports(tenant()).await.unwrap().requests.len()
}

#[tokio::test(start_paused = true)]
async fn a_request_does_not_end_at_a_failure_days_after_another_if_its_drop_could_be_read_in_between() {
    let world = world().await;
    let process = requested_again(&world).await;
    import_unreadable(&process).await;
    import_for_days_without_receiver(&process).await;
    import_unreadable(&process).await;
    assert_eq!(request_count(&process).await, 1);
    Process::new(&world).runner.import(tenant(), None).await.unwrap();
    assert_eq!((request_count(&process).await, of_kind(&world, ".completed").len()), (0, 2));
}

#[tokio::test(start_paused = true)]
async fn the_time_of_a_pause_does_not_count_for_a_request_whose_drop_cannot_be_read() {
    let world = world().await;
    let process = requested_again(&world).await;
    import_unreadable(&process).await;
    pause_for_days(&world).await;
    import_unreadable(&process).await;
    process.runner.import(tenant(), None).await.unwrap();
    assert_eq!(of_kind(&world, ".completed").len(), 2);
}

/// A process whose import has begun, and was not finished because the receiver was down.
async fn with_begun_import(world: &World) -> Process {
    let process = with_definitions(world).await;
    process.runner.import(tenant(), None).await.unwrap();
    deliver(&process, &path()).await;
    process.faults.outage_of_sink(true);
    process.runner.import(tenant(), None).await.unwrap_err();
    process
}

#[tokio::test(start_paused = true)]
async fn a_cycle_does_not_fail_at_a_failure_days_after_another_if_its_drop_could_be_read_in_between() {
    let world = world().await;
    let process = with_begun_import(&world).await;
    import_unreadable(&process).await;
    import_for_days_without_receiver(&process).await;
    import_unreadable(&process).await;
    Process::new(&world).runner.import(tenant(), None).await.unwrap();
    assert_eq!(kinds(&world), [".defined", "", ".completed"]);
}

#[tokio::test(start_paused = true)]
async fn the_time_of_a_pause_does_not_count_for_a_cycle_whose_drop_cannot_be_read() {
    let world = world().await;
    let process = with_begun_import(&world).await;
    import_unreadable(&process).await;
    pause_for_days(&world).await;
    import_unreadable(&process).await;
    Process::new(&world).runner.import(tenant(), None).await.unwrap();
    assert_eq!(kinds(&world), [".defined", "", ".completed"]);
}

#[tokio::test(start_paused = true)]
async fn the_sweeps_of_a_pause_succeed_although_a_record_of_an_import_is_not_valid() {
    let world = world().await;
    let process = requested_again(&world).await;
    world.storage.write(&imports_record("tenant.json"), "{".into(), WriteIf::Always).await.unwrap();
    process.runner.import(tenant(), None).await.unwrap_err();
    let process = Process::paused(&world);
    sleep(HOUR).await;
    let report = process.sweep(SweepMode::Timer).await.unwrap();
    assert!(report.failed_imports.is_empty(), "{report:?}");
}

/// A record of the tenant's imports.
fn imports_record(name: &str) -> BlobPath {
    BlobPath::new(STATE_CONTAINER, format!("imports/{TENANT}/{name}"))
}

#[tokio::test(start_paused = true)]
async fn receivers_take_everything_that_is_sent_after_the_record_of_a_tenants_imports_was_deleted() {
    let world = world().await;
    let process = Process::new(&world);
    let both = json!([{"name": "Email hours", "max": BOUNDS}, {"name": "Meeting hours"}]);
    define(&process, &definitions_of(both, today())).await;
    deliver(&process, &path()).await;
    sweep_later(&world).await;
    let earlier = world.receiver.messages();
    world.storage.delete(&imports_record("tenant.json"), None).await.unwrap();

    let remaining = definitions_of(json!([{"name": "Meeting hours"}]), today());
    let new = Definitions::parse(remaining.to_string().as_bytes()).unwrap();
    let consequences = definitions::preview(&process.runner.ledger, tenant(), &new).await.unwrap();
    assert!(consequences[0].starts_with("deletes `Email hours`"), "{consequences:?}");
    let definitions = BlobPath::new(STATE_CONTAINER, format!("attributes/{TENANT}.json"));
    world.storage.write(&definitions, remaining.to_string().into(), WriteIf::Always).await.unwrap();
    sweep_later(&world).await;
    let later = world.receiver.messages().split_off(earlier.len());
    assert!(later.iter().all(|message| earlier.iter().all(|other| other.id != message.id)));
    assert_eq!(kinds(&world), [".defined", "", ".completed", ".defined", ".deleted", "", ".completed"]);
    assert_eq!(of_kind(&world, ".deleted")[0]["attribute"], json!("Email hours"));
    let [first, second] = &of_kind(&world, ".completed")[..] else { panic!("two imports") };
    let numbers = [&first["sequence"], &of_kind(&world, ".deleted")[0]["sequence"], &second["sequence"]];
    assert!(numbers.map(|number| number.as_u64().unwrap()).is_sorted(), "{numbers:?}");
    assert!(first["revision"].as_u64() < second["revision"].as_u64());

    let request = ImportRequest { path: path(), program: None, cycle: None, again: true };
    process.runner.request_import(&request).await.unwrap();
    process.runner.import(tenant(), None).await.unwrap();
    assert_eq!(of_kind(&world, ".completed").len(), 3);
}

#[tokio::test(start_paused = true)]
async fn receivers_delete_an_attribute_after_the_record_was_deleted_although_the_last_import_failed() {
    let world = world().await;
    let process = Process::new(&world);
    let with_meetings = |bounds: [u64; 3]| json!([{"name": "Email hours", "max": bounds}, {"name": "Meeting hours"}]);
    define(&process, &definitions_of(with_meetings(BOUNDS), today())).await;
    deliver(&process, &path()).await;
    sweep_later(&world).await;
    define(&process, &definitions_of(with_meetings([4, 10, 15]), today())).await;
    sweep_later(&world).await;
    assert_eq!(of_kind(&world, ".failed")[0]["reason"], json!("would-identify"));
    world.storage.delete(&imports_record("tenant.json"), None).await.unwrap();

    let definitions = BlobPath::new(STATE_CONTAINER, format!("attributes/{TENANT}.json"));
    let remaining = definitions_of(email([5, 15, 20]), today()).to_string();
    world.storage.write(&definitions, remaining.into(), WriteIf::Always).await.unwrap();
    sweep_later(&world).await;
    assert_eq!(of_kind(&world, ".deleted")[0]["attribute"], json!("Meeting hours"));
}

#[tokio::test(start_paused = true)]
async fn an_import_after_the_record_of_its_cycle_was_deleted_has_messages_with_new_ids() {
    let world = world_with_import().await;
    let process = Process::new(&world);
    let earlier = world.receiver.messages();
    let folder = format!("imports/{TENANT}/cycles/");
    let records: Vec<_> = world.storage.list(STATE_CONTAINER, &folder).try_collect().await.unwrap();
    world.storage.delete(&records[0].path, None).await.unwrap();
    let request = ImportRequest { path: path(), program: None, cycle: None, again: true };
    process.runner.request_import(&request).await.unwrap();
    process.runner.import(tenant(), None).await.unwrap();
    let later = world.receiver.messages().split_off(earlier.len());
    assert_eq!(later.iter().map(|message| message.kind).filter(|kind| kind.ends_with(".completed")).count(), 1);
    assert!(later.iter().all(|message| earlier.iter().all(|other| other.id != message.id)));
}

#[tokio::test(start_paused = true)]
async fn receivers_take_definitions_after_the_record_was_deleted_although_no_cycle_was_imported() {
    let world = world().await;
    let process = Process::new(&world);
    let tomorrow = today() + time::Duration::days(1);
    for bounds in [[1, 2, 3], [2, 3, 4]] {
        define(&process, &definitions_of(email(bounds), tomorrow)).await;
        sweep_later(&world).await;
    }
    world.storage.delete(&imports_record("tenant.json"), None).await.unwrap();
    define(&process, &definitions_of(email([3, 4, 5]), tomorrow)).await;
    sweep_later(&world).await;
    let messages = world.receiver.messages();
    assert_eq!(of_kind(&world, ".defined").len(), 3);
    let defined = messages.iter().filter(|message| message.kind.ends_with(".defined"));
    let ids: HashSet<_> = defined.map(|message| &message.id).collect();
    assert_eq!(ids.len(), 3, "every message has an id of its own");
    let revisions: Vec<_> = of_kind(&world, ".defined").iter().map(|data| data["revision"].as_u64().unwrap()).collect();
    assert!(revisions.is_sorted(), "{revisions:?}");
}

#[tokio::test(start_paused = true)]
async fn the_failures_before_a_pause_are_forgotten() {
    let world = world().await;
    let process = requested_again(&world).await;
    process.faults.outage_of_sink(true);
    process.runner.import(tenant(), None).await.unwrap_err();
    let entry = async || process.runner.ledger.imports_entry(tenant()).await.unwrap().unwrap();
    assert!(entry().await.since.is_some());
    let paused = Process::paused(&world);
    paused.runner.import(tenant(), None).await.unwrap();
    let entry = entry().await;
    assert_eq!((entry.attempts, entry.since, entry.error), (0, None, None));
}

#[tokio::test(start_paused = true)]
async fn an_import_that_a_person_asks_for_ends_with_the_cause_if_its_drop_cannot_be_decoded() {
    let world = world().await;
    let process = requested_again(&world).await;
    world.put("part-0", "no rows\n").await;
    let why = rejection(&process).await;
    assert_eq!(why, "cannot read file `part-0`: is encrypted, and there is no File key for it");
}

#[tokio::test(start_paused = true)]
async fn an_import_with_a_misspelled_metric_says_that_nobody_has_a_number() {
    let world = world().await;
    let process = Process::new(&world);
    let misspelled = json!([{"name": "Email", "metric": "collaborationHoursEmails", "max": BOUNDS}]);
    define(&process, &definitions_of(misspelled, today())).await;
    deliver(&process, &path()).await;
    process.runner.import(tenant(), None).await.unwrap();
    let imports = process.runner.ledger.cycle_imports(tenant()).await.unwrap();
    let message = "nobody has a number for `Email`, from `collaborationHoursEmails` (Viva Insights has a metric \
        `CollaborationHoursEmails`)";
    assert_eq!(imports[0].message.as_deref(), Some(message));
}

#[tokio::test(start_paused = true)]
async fn an_import_whose_drop_becomes_unusable_fails_with_the_cause() {
    let world = world().await;
    let process = with_begun_import(&world).await;
    world.put(METADATA, "not JSON").await;
    process.faults.outage_of_sink(false);
    process.runner.import(tenant(), None).await.unwrap();
    let failed = &of_kind(&world, ".failed")[0];
    let message = "the job metadata does not begin with a JSON object: the import had not ended, and no other drop reaches the cycle";
    assert_eq!((&failed["reason"], &failed["message"]), (&json!("metadata"), &json!(message)));
}

#[tokio::test(start_paused = true)]
async fn the_time_that_an_import_waits_for_memory_does_not_count_although_its_directory_could_not_be_read_before() {
    let (world, directory) = joined_world().await;
    let process = process_with(&world, &directory);
    let folder = directory_of("run").folder;
    let deny = move |are_denied: bool| {
        let folder = folder.clone();
        move |call: &StoreCall| {
            let is_denied = are_denied && call.path.name.starts_with(&folder);
            if is_denied { CallFault::Rejected } else { CallFault::None }
        }
    };
    process.store.plan.set_rule(deny(true));
    process.runner.import(tenant(), None).await.unwrap_err();
    process.store.plan.set_rule(deny(false));
    let held = process.runner.directory_memory.reserve(usize::MAX).await;
    sleep(4 * DAY).await;
    process.runner.import(tenant(), None).await.unwrap_err();
    drop(held);
    process.store.plan.set_rule(deny(true));
    process.runner.import(tenant(), None).await.unwrap_err();
    process.store.plan.set_rule(deny(false));
    process.runner.import(tenant(), None).await.unwrap();
    assert_eq!(kinds(&world), [".defined", "", ".completed"]);
}

/// Asks for an import of the drop at `path`.
async fn ask(process: &Process, path: DropPath) {
    let request = ImportRequest { path, program: None, cycle: None, again: false };
    process.runner.request_import(&request).await.unwrap();
}

/// Makes a pass that ends the only request; returns why nothing was imported.
async fn rejection(process: &Process) -> String {
    let PassOutcome::Done(imported) = process.runner.import(tenant(), None).await.unwrap() else { panic!("busy") };
    let [Imported { cycle: None, result: Err(why), .. }] = &imported[..] else { panic!("{imported:?}") };
    assert_eq!(request_count(process).await, 0, "the request is over");
    why.clone()
}

#[tokio::test(start_paused = true)]
async fn a_request_for_a_path_without_a_drop_to_import_ends_and_says_why() {
    let world = world().await;
    let process = with_definitions(&world).await;
    put_directory(&world, &directory_of("run"), &[person(0, "HR")]).await;
    ask(&process, directory_of("run")).await;
    assert_eq!(rejection(&process).await, "the drop is a directory export, which has no metrics");

    ask(&process, path()).await;
    world.put(METADATA, "not JSON").await;
    assert_eq!(rejection(&process).await, "the job metadata does not begin with a JSON object");

    ask(&process, path()).await;
    let other = "00000000-0000-4000-8000-000000000000";
    world.put(METADATA, json!({"TenantId": other}).to_string()).await;
    assert_eq!(rejection(&process).await, format!("it names the tenant {other}, which is not in TENANTS"));

    world.put_metadata(json!({})).await;
    ask(&process, path()).await;
    world.storage.delete(&path().blob("part-0"), None).await.unwrap();
    assert_eq!(rejection(&process).await, "the drop has no data files");

    ask(&process, path()).await;
    world.storage.delete(&path().blob(METADATA), None).await.unwrap();
    assert_eq!(rejection(&process).await, "the drop was deleted: there is no job metadata any more");
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_is_down_delays_the_import_and_not_the_rows() {
    let world = world().await;
    deliver(&with_definitions(&world).await, &path()).await;
    let process = Process::new(&world);
    process.faults.outage_of_sink(true);
    let error = process.runner.import(tenant(), None).await.unwrap_err();
    assert!(matches!(error, ImportError::Sink(_)), "{error:?}");
    let entry = process.runner.ledger.imports_entry(tenant()).await.unwrap().unwrap();
    assert!(entry.attempts == 1 && entry.not_before.is_some_and(|time| time > clock::now()), "{entry:?}");
    sweep_later(&world).await;
    assert_eq!(kinds(&world), [".defined", "", ".completed"]);
}

#[tokio::test(start_paused = true)]
async fn a_sweep_without_time_for_imports_leaves_them_to_the_next_one() {
    let world = world().await;
    let process = with_definitions(&world).await;
    deliver(&process, &path()).await;
    let report = sweep(&process.runner, &process.watched(), SweepMode::Timer, Duration::ZERO).await.unwrap();
    assert!(report.has_no_errors(), "{:?}", report.failed_imports);
    assert_eq!(kinds(&world), [""; 0]);
    let due: Vec<_> = process.runner.due_imports.take().into_iter().collect();
    assert_eq!(due, [tenant()]);
    process.runner.due_imports.add(tenant());
    process.sweep(SweepMode::Timer).await.unwrap();
    assert_eq!(kinds(&world), [".defined", "", ".completed"]);
}

#[tokio::test(start_paused = true)]
async fn two_processes_do_not_import_at_the_same_time() {
    let world = world().await;
    deliver(&with_definitions(&world).await, &path()).await;
    let (first, second) = (Process::new(&world), Process::new(&world));
    let (first, second) = tokio::join!(first.runner.import(tenant(), None), second.runner.import(tenant(), None));
    let busy = [first.unwrap(), second.unwrap()].into_iter().filter(|outcome| *outcome == PassOutcome::Busy).count();
    assert_eq!(busy, 1);
    assert_eq!(world.receiver.messages().len(), world.receiver.distinct().len());
}

#[tokio::test(start_paused = true)]
async fn a_drop_that_is_delivered_while_another_process_imports_is_imported_by_the_next_sweep() {
    let world = world().await;
    let process = with_definitions(&world).await;
    process.runner.import(tenant(), None).await.unwrap();
    deliver(&process, &path()).await;
    // The definitions were sent, so the next message has people.
    let gate = Gate::before(&world.receiver);
    let (first, second) = (Process::with_gate(&world, &gate), Process::new(&world));
    let meanwhile = async {
        gate.reached.notified().await;
        put_drop(&world, &path(), &rows(25), column_key()).await;
        deliver(&second, &path()).await;
        assert_eq!(second.runner.import(tenant(), None).await.unwrap(), PassOutcome::Busy);
        gate.open.notify_one();
    };
    let (imported, ()) = tokio::join!(first.runner.import(tenant(), None), meanwhile);
    imported.unwrap();
    sweep_later(&world).await;
    let people: Vec<_> = of_kind(&world, ".completed").iter().map(|data| data["people"].as_u64().unwrap()).collect();
    assert_eq!(people, [20, 25]);
}

/// Definitions with a cycle `Past` that ended a year ago, and, if `with_now`, with the one that ends today.
fn definitions_with_past(with_now: bool) -> Value {
    let mut definitions = definitions_of(email(BOUNDS), today());
    let [start, end] = [372, 365].map(|days| (today() - time::Duration::days(days)).to_string());
    let cycles = definitions["programs"][0]["cycles"].as_array_mut().unwrap();
    cycles.push(json!({"name": "Past", "start": start, "end": end}));
    if !with_now {
        cycles.remove(0);
    }
    definitions
}

/// Asks for an import of the drop, and makes it; returns the name of each cycle, with its people or its error.
async fn import_of(process: &Process, cycle: Option<&str>) -> Vec<(Option<String>, Result<u64, String>)> {
    let (program, cycle) = (cycle.map(|_| "Engagement".to_owned()), cycle.map(str::to_owned));
    let request = ImportRequest { path: path(), program, cycle, again: false };
    process.runner.request_import(&request).await.unwrap();
    let PassOutcome::Done(imported) = process.runner.import(tenant(), None).await.unwrap() else { panic!("busy") };
    imported.into_iter().map(|imported| (imported.cycle.map(|(_, cycle)| cycle), imported.result)).collect()
}

#[tokio::test(start_paused = true)]
async fn a_cycle_that_the_drop_does_not_reach_is_an_error_if_it_is_named_or_the_only_one() {
    let world = world().await;
    let process = Process::new(&world);
    define(&process, &definitions_with_past(true)).await;
    deliver(&process, &path()).await;
    assert_eq!(import_of(&process, None).await, [(Some("Now".to_owned()), Ok(20))]);
    assert!(import_of(&process, None).await.is_empty(), "everything was imported");
    let why = "the drop has no rows of the last week of this cycle".to_owned();
    assert_eq!(import_of(&process, Some("Past")).await, [(Some("Past".to_owned()), Err(why))]);

    let world = self::world().await;
    let process = Process::new(&world);
    define(&process, &definitions_with_past(false)).await;
    deliver(&process, &path()).await;
    let why = "the drop has no rows of the last week of a cycle that is imported".to_owned();
    assert_eq!(import_of(&process, None).await, [(None, Err(why))]);
}

#[tokio::test(start_paused = true)]
async fn the_last_attribute_is_deleted_at_receivers_and_imported_again_if_it_is_defined_again() {
    let world = world().await;
    let process = with_definitions(&world).await;
    deliver(&process, &path()).await;
    sweep_later(&world).await;
    define(&process, &definitions_of(json!([]), today())).await;
    sweep_later(&world).await;
    assert_eq!(kinds(&world), [".defined", "", ".completed", ".defined", ".deleted"]);
    let request = ImportRequest { path: path(), program: None, cycle: None, again: true };
    process.runner.request_import(&request).await.unwrap_err();

    define(&process, &definitions_of(email(BOUNDS), today())).await;
    sweep_later(&world).await;
    let [first, second] = &of_kind(&world, ".completed")[..] else { panic!("two imports") };
    assert_eq!((&first["sequence"], &second["sequence"]), (&json!(1), &json!(3)));
}

#[tokio::test(start_paused = true)]
async fn an_attribute_that_is_deleted_and_defined_again_between_two_passes_is_imported_again() {
    let world = world().await;
    let process = with_definitions(&world).await;
    deliver(&process, &path()).await;
    sweep_later(&world).await;
    for attributes in [json!([{"name": "Meeting hours"}]), email(BOUNDS)] {
        define(&process, &definitions_of(attributes, today())).await;
    }
    sweep_later(&world).await;
    let completed = of_kind(&world, ".completed");
    assert_eq!((completed.len(), &completed[1]["counts"]), (2, &json!({"Email hours": [5, 5, 5, 5]})));
}
