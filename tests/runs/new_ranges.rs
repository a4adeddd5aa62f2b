//! New ranges of an attribute: imports that would single people out are refused, and no detour avoids that.

use std::collections::HashSet;

use serde_json::{Value, json};
use time::Date;

use super::{
    process::{Fault, Process, at_every_step},
    survey::{
        BOUNDS, define, definitions_of, deliver, email, of_kind, sweep_later, tenant, today, with_definitions, world,
    },
    world::{World, path},
};

/// Ranges between which and [`BOUNDS`] only person 4 moves.
const CLOSE_BOUNDS: [u64; 3] = [4, 10, 15];

/// Ranges whose first one has everybody.
const FAR_BOUNDS: [u64; 3] = [20, 30, 40];

/// A world with an import with [`BOUNDS`].
async fn world_with_bounds() -> (World, Process) {
    let world = world().await;
    let process = with_definitions(&world).await;
    deliver(&process, &path()).await;
    sweep_later(&world).await;
    assert_eq!(ends(&world), (1, 0));
    (world, process)
}

/// The definitions of [`definitions_of`], with this name of the program.
fn definitions_of_program(program: &str, attributes: Value, end: Date) -> Value {
    let mut definitions = definitions_of(attributes, end);
    definitions["programs"][0]["name"] = json!(program);
    definitions
}

/// How many imports were completed, and how many were refused because they would single people out.
fn ends(world: &World) -> (usize, usize) {
    let failed = of_kind(world, ".failed");
    assert!(failed.iter().all(|failed| failed["reason"] == "would-identify"), "{failed:?}");
    (of_kind(world, ".completed").len(), failed.len())
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
        let revisions: HashSet<_> = of_kind(&world, "").iter().map(|people| people["revision"].clone()).collect();
        assert!(revisions.len() <= 1, "{fault:?}: somebody may have kept the people of an import that did not end");
        killed.faults.steps()
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn new_ranges_that_would_single_people_out_are_refused_after_a_detour() {
    let (world, process) = world_with_bounds().await;
    define(&process, &definitions_of(email(FAR_BOUNDS), today())).await;
    sweep_later(&world).await;
    assert_eq!(ends(&world), (2, 0));
    define(&process, &definitions_of(email(CLOSE_BOUNDS), today())).await;
    sweep_later(&world).await;
    assert_eq!(ends(&world), (2, 1));
    define(&process, &definitions_of(email(BOUNDS), today())).await;
    sweep_later(&world).await;
    assert_eq!(ends(&world), (3, 1), "receivers know these ranges");
}

#[tokio::test(start_paused = true)]
async fn new_ranges_that_would_single_people_out_are_refused_for_another_program_with_the_same_window() {
    let (world, process) = world_with_bounds().await;
    let mut both = definitions_of(email(CLOSE_BOUNDS), today());
    let other = definitions_of_program("Pulse", json!([]), today())["programs"][0].clone();
    both["programs"].as_array_mut().unwrap().push(other);
    define(&process, &both).await;
    sweep_later(&world).await;
    assert_eq!(ends(&world), (1, 2));
    let programs: Vec<_> = of_kind(&world, ".failed").iter().map(|failed| failed["program"].clone()).collect();
    assert_eq!(programs, ["Engagement", "Pulse"]);
}

#[tokio::test(start_paused = true)]
async fn new_ranges_that_would_single_people_out_are_refused_for_a_renamed_program() {
    let (world, process) = world_with_bounds().await;
    define(&process, &definitions_of_program("Pulse", email(CLOSE_BOUNDS), today())).await;
    sweep_later(&world).await;
    assert_eq!(ends(&world), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn new_ranges_that_would_single_people_out_are_refused_although_the_cycle_had_another_window_since() {
    let (world, process) = world_with_bounds().await;
    let week_before = today() - time::Duration::days(7);
    define(&process, &definitions_of(email(FAR_BOUNDS), week_before)).await;
    sweep_later(&world).await;
    assert_eq!(ends(&world), (2, 0));
    define(&process, &definitions_of_program("Pulse", email(CLOSE_BOUNDS), today())).await;
    sweep_later(&world).await;
    assert_eq!(ends(&world), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn ranges_of_a_cycle_with_another_window_are_not_compared() {
    let (world, process) = world_with_bounds().await;
    let week_before = today() - time::Duration::days(7);
    define(&process, &definitions_of_program("Pulse", email(CLOSE_BOUNDS), week_before)).await;
    sweep_later(&world).await;
    assert_eq!(ends(&world), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn new_ranges_that_would_single_people_out_are_refused_for_a_renamed_attribute() {
    let (world, process) = world_with_bounds().await;
    let renamed = json!([{"name": "Mail", "metric": "CollaborationHoursEmails", "max": CLOSE_BOUNDS}]);
    define(&process, &definitions_of(renamed, today())).await;
    sweep_later(&world).await;
    assert_eq!(of_kind(&world, ".deleted").len(), 1);
    assert_eq!(ends(&world), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn an_attribute_that_receivers_have_deleted_can_have_any_ranges() {
    let (world, process) = world_with_bounds().await;
    // The import of the removed program stays at receivers until they delete the attribute.
    define(&process, &definitions_of_program("Pulse", json!([{"name": "Meeting hours"}]), today())).await;
    sweep_later(&world).await;
    assert_eq!(of_kind(&world, ".deleted").len(), 1);
    define(&process, &definitions_of_program("Pulse", email(CLOSE_BOUNDS), today())).await;
    sweep_later(&world).await;
    assert_eq!(ends(&world), (3, 0));
}

#[tokio::test(start_paused = true)]
async fn a_hundred_bounds_are_compared_and_further_ones_are_refused() {
    let (world, process) = world_with_bounds().await;
    let import = async |first: u64| {
        define(&process, &definitions_of(email([first, 500, 1000]), today())).await;
        process.runner.import(tenant(), None).await.unwrap();
    };
    // Everybody is in the first range.
    for first in 101..200 {
        import(first).await;
    }
    assert_eq!(ends(&world), (100, 0));
    import(200).await;
    assert_eq!(ends(&world), (100, 1));
    import(150).await;
    assert_eq!(ends(&world), (101, 1), "receivers know these ranges");
}
