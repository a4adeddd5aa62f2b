//! The outcome of a run, in whichever order metadata and files arrive.

use serde_json::json;
use vivadrop::run::Outcome;

use super::{
    process::Process,
    world::{METADATA, World, assert_completed},
};

#[tokio::test(start_paused = true)]
async fn metadata_that_arrives_last_completes_the_drop() {
    let world = World::default();
    world.put_rows("a", 7).await;
    world.put_rows("b", 5).await;
    assert_eq!(world.deliver_event(Process::new(&world), "a").await, Outcome::NoDrop);
    world.put_metadata(json!({"NumberOfRowsExtracted": 12})).await;
    world.deliver_event(Process::new(&world), METADATA).await;
    world.assert_complete("metadata last");
}

#[tokio::test(start_paused = true)]
async fn a_drop_stays_open_until_its_last_file_arrives() {
    let world = World::with_metadata(12).await;
    world.put_rows("a", 7).await;
    let outcome = world.deliver_event(Process::new(&world), "a").await;
    assert_eq!(outcome, Outcome::Open { rows: 7, of: Some(12) });
    world.put_rows("b", 5).await;
    world.deliver_event(Process::new(&world), "b").await;
    world.assert_complete("the last file");
}

#[tokio::test(start_paused = true)]
async fn a_completed_drop_is_completed_again_when_a_file_is_overwritten() {
    let world = World::with_two_files().await;
    world.deliver_event(Process::new(&world), "a").await;
    world.assert_complete("before");
    world.put_rows("b", 5).await;
    let outcome = world.deliver_event(Process::new(&world), "b").await;
    assert_completed(&outcome);
    assert_eq!(world.endings().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_drop_without_a_row_count_is_not_complete_before_it_has_a_file() {
    let world = World::default();
    world.put_metadata(json!({})).await;
    let outcome = world.deliver_event(Process::new(&world), METADATA).await;
    assert_eq!(outcome, Outcome::Open { rows: 0, of: None });
    assert!(world.endings().is_empty());
}
