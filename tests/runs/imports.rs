//! The attributes pass: which cycles it imports and when, and what receivers get, also from processes that are killed.

use std::time::Duration;

use serde_json::{Value, json};
use time::Weekday;
use tokio::time::sleep;
use uuid::Uuid;
use vivadrop::{
    clock, definitions,
    directory::{DirectoryConfig, DirectoryMode},
    drop::DropPath,
    import::{ImportError, ImportRequest, PassOutcome},
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
    world::{STATE_CONTAINER, TENANT, World, path},
};

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
pub(super) async fn world_with_import() -> World {
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
