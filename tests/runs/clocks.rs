//! Times that a process with a wrong clock has recorded.

use std::time::Duration;

use futures::TryStreamExt;
use serde_json::json;
use time::format_description::well_known::Rfc3339;
use tokio::time::sleep;
use vivadrop::{
    clock,
    drop::TenantId,
    ledger::{DropRecord, Failing},
    store::{Store, WriteIf},
    sweep::SweepMode,
};

use super::{
    process::Process,
    survey::{self, deliver, kinds, with_definitions},
    world::{METADATA, STATE_CONTAINER, TENANT, World, assert_completed, path},
};

/// How fast the wrong clock is. The times that it records are further in the future than any wait.
const FAST: Duration = Duration::from_secs(6 * 3600);

fn tenant() -> TenantId {
    TENANT.parse().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_drop_that_a_fast_clock_has_postponed_is_run_by_the_next_sweep() {
    let world = World::with_two_files().await;
    let process = Process::new(&world);
    process.runner.ledger.mark_unfinished(&path(), tenant(), clock::now() + FAST).await.unwrap();
    process.sweep(SweepMode::Timer).await;
    world.assert_complete("postponed by a fast clock");
}

#[tokio::test(start_paused = true)]
async fn an_event_runs_a_drop_that_a_fast_clock_has_postponed_for_a_receiver() {
    let world = World::with_two_files().await;
    let process = Process::new(&world);
    let fast = clock::now() + FAST;
    let failing = Failing {
        since: fast,
        waited: Duration::ZERO,
        waits_for_memory: false,
        attempts: 1,
        last: fast,
        not_before: fast + Duration::from_secs(60),
        retry_after: true,
        is_denied: false,
        error: "HTTP 429".into(),
    };
    let mut record = DropRecord::default();
    record.failing = Some(failing);
    process.runner.ledger.write_drop_record(&path(), tenant(), &mut record).await.unwrap();
    assert_completed(&process.event(METADATA).await.unwrap().unwrap());
}

#[tokio::test(start_paused = true)]
async fn containers_are_listed_although_a_fast_clock_has_recorded_the_last_listing() {
    let world = World::default();
    Process::new(&world).sweep(SweepMode::Timer).await;
    let record = world.storage.list(STATE_CONTAINER, "periodic/").try_next().await.unwrap().unwrap();
    let text = json!({"done": (clock::now() + FAST).format(&Rfc3339).unwrap()});
    world.storage.write(&record.path, text.to_string().into(), WriteIf::Always).await.unwrap();
    world.put_metadata(json!({"NumberOfRowsExtracted": 12})).await;
    world.put_rows("a", 7).await;
    world.put_rows("b", 5).await;
    sleep(Duration::from_secs(3600)).await;
    Process::new(&world).sweep(SweepMode::Timer).await;
    world.assert_complete("listed");
}

#[tokio::test(start_paused = true)]
async fn an_import_that_a_fast_clock_has_postponed_is_made_by_the_next_sweep() {
    let world = survey::world().await;
    let process = with_definitions(&world).await;
    deliver(&process, &path()).await;
    let ledger = &process.runner.ledger;
    ledger.mark_imports_due(tenant(), clock::now()).await.unwrap();
    let mut entry = ledger.imports_entry(tenant()).await.unwrap().unwrap();
    (entry.attempts, entry.not_before) = (1, Some(clock::now() + FAST));
    ledger.rewrite_imports_entry(&entry, Some(&entry.version)).await.unwrap();
    process.runner.due_imports.take();
    process.sweep(SweepMode::Timer).await;
    assert_eq!(kinds(&world), [".defined", "", ".completed"]);
}
