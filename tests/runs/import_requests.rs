//! Imports that a person asks for.

use serde_json::{Value, json};
use vivadrop::{
    drop::DropPath,
    import::{ImportRequest, Imported, PassOutcome},
    store::Store,
    sweep::SweepMode,
};

use super::{
    directory::{column_key, directory_of, person, put_directory},
    process::Process,
    survey::{
        BOUNDS, define, definitions_of, deliver, email, of_kind, put_drop, rows, sweep_later, tenant, today,
        with_definitions, world,
    },
    world::{METADATA, TENANT, World, path},
};

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

/// Asks for an import of the drop again, after it was imported.
pub(super) async fn requested_again(world: &World) -> Process {
    let process = with_definitions(world).await;
    deliver(&process, &path()).await;
    process.runner.import(tenant(), None).await.unwrap();
    let request = ImportRequest { path: path(), program: None, cycle: None, again: true };
    process.runner.request_import(&request).await.unwrap();
    process
}

/// How many requests of the tenant wait.
pub(super) async fn request_count(process: &Process) -> usize {
    process.runner.ledger.tenant_imports(tenant()).await.unwrap().requests.len()
}

#[tokio::test(start_paused = true)]
async fn an_import_that_a_person_asks_for_ends_with_the_cause_if_its_drop_cannot_be_decoded() {
    let world = world().await;
    let process = requested_again(&world).await;
    world.put("part-0", "no rows\n").await;
    let why = rejection(&process).await;
    assert_eq!(why, "cannot read file `part-0`: is encrypted, and there is no File key for it");
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
