//! The records of a tenant's imports: what receivers get after one is damaged or deleted.

use std::collections::HashSet;

use futures::TryStreamExt;
use serde_json::json;
use tokio::time::sleep;
use vivadrop::{
    attributes::Definitions,
    definitions,
    import::ImportRequest,
    store::{BlobPath, Store, WriteIf},
    sweep::SweepMode,
};

use super::{
    import_requests::requested_again,
    imports::world_with_import,
    process::Process,
    survey::{BOUNDS, HOUR, define, definitions_of, deliver, email, kinds, of_kind, sweep_later, tenant, today, world},
    world::{STATE_CONTAINER, TENANT, path},
};

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
