//! Imports that fail: when a cycle or request is given up, and which time does not count.

use serde_json::json;
use tokio::time::sleep;
use vivadrop::{
    directory::{DirectoryConfig, DirectoryMode},
    drop::tenant::Tenants,
    import::{ImportError, ImportRequest, Imported, PassOutcome},
    status::{self, NoteSubject},
};

use super::{
    directory::{column_key, directory_of, person, put_directory},
    import_requests::{request_count, requested_again},
    process::{Process, Setup},
    survey::{
        BOUNDS, DAY, define, definitions_of, deliver, email, kinds, of_kind, put_drop, rows, tenant, today,
        with_definitions, world,
    },
    world::{METADATA, World, path},
};
use crate::support::faults::{Fault as CallFault, Operation, StoreCall};

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

/// The texts of the notes in `vivadrop status`. All of them need a person.
async fn notes_of(process: &Process, is_paused: bool) -> Vec<String> {
    let paused = is_paused.then(tenant).into_iter().collect();
    let tenants = Tenants::new([(tenant(), None)]).with_paused(paused);
    let snapshot = status::load(&process.runner.ledger, Some(&tenants)).await.unwrap();
    let notes = snapshot.notes.unwrap().into_iter().filter(|note| note.about == NoteSubject::Attributes);
    notes.inspect(|note| assert!(note.needs_person, "{note:?}")).map(|note| note.text).collect()
}

#[tokio::test(start_paused = true)]
async fn status_names_the_cycles_that_cannot_be_imported_with_what_to_do() {
    let world = world().await;
    let process = with_definitions(&world).await;
    deliver(&process, &path()).await;
    process.runner.import(tenant(), None).await.unwrap();
    assert_eq!(notes_of(&process, false).await, [""; 0]);

    define(&process, &definitions_of(email([4, 10, 15]), today())).await;
    process.runner.import(tenant(), None).await.unwrap();
    let expected = "cannot import `Engagement` `Now` (would-identify): Choose other bounds.";
    assert_eq!(notes_of(&process, false).await, [expected]);
    assert_eq!(notes_of(&process, true).await, [""; 0]);

    let mut many = definitions_of(email([4, 10, 15]), today());
    let program = many["programs"][0].clone();
    for name in ["Second", "Third", "Fourth"] {
        let program = json!({"name": name, "cycles": program["cycles"]});
        many["programs"].as_array_mut().unwrap().push(program);
    }
    define(&process, &many).await;
    process.runner.import(tenant(), None).await.unwrap();
    let expected = format!("4 survey cycles failed, the first of them: {expected}");
    assert_eq!(notes_of(&process, false).await, [expected]);

    many["programs"] = json!([]);
    define(&process, &many).await;
    assert_eq!(notes_of(&process, false).await, [""; 0], "the cycles are no longer defined");
}

#[tokio::test(start_paused = true)]
async fn status_needs_nobody_for_a_cycle_with_too_few_people() {
    let world = World::default();
    put_drop(&world, &path(), &rows(4), column_key()).await;
    let process = with_definitions(&world).await;
    deliver(&process, &path()).await;
    process.runner.import(tenant(), None).await.unwrap();
    assert_eq!(of_kind(&world, ".failed")[0]["reason"], json!("too-few-people"));
    assert_eq!(notes_of(&process, false).await, [""; 0]);
}
