//! Survey attributes: drops with people, definitions, and the messages about them.

use std::time::Duration;

use serde_json::{Value, json};
use time::Date;
use tokio::time::sleep;
use uuid::Uuid;
use vivadrop::{
    clock, definitions,
    drop::{DropPath, TenantId},
    run::{Outcome, Trigger},
    sweep::SweepMode,
};

use super::{
    directory::{column_key, lines_of, put_at},
    process::Process,
    world::{METADATA, TENANT, World, path},
};

pub(crate) const MINUTE: Duration = Duration::from_secs(60);
pub(crate) const HOUR: Duration = Duration::from_secs(3600);
pub(crate) const DAY: Duration = Duration::from_secs(24 * 3600);

pub(crate) fn tenant() -> TenantId {
    TENANT.parse().unwrap()
}

pub(crate) fn today() -> Date {
    clock::now().date()
}

/// The last Sunday before `end`.
pub(crate) fn window_end(end: Date) -> Date {
    let day = end.previous_day().unwrap();
    day - time::Duration::days(day.weekday().number_days_from_sunday().into())
}

/// The rows of `people` people in the twelve weeks before the cycle that ends today: person n has n hours of e-mail a
/// week.
pub(crate) fn rows(people: u128) -> String {
    let weeks = (1..=12).map(|week| window_end(today()) - time::Duration::days(7 * week));
    let row = |(number, date): (u128, Date)| {
        let row = json!({"ObjectId": Uuid::from_u128(number), "MetricDate": date.to_string(),
            "CollaborationHoursEmails": number as u64, "CollaborationHoursMeetings": 1});
        format!("{row}\n")
    };
    (0..people).flat_map(|number| weeks.clone().map(move |date| (number, date))).map(row).collect()
}

/// Writes a drop of the tenant that its path ends with.
pub(crate) async fn put_drop(world: &World, drop: &DropPath, rows: &str, key: Value) {
    let metadata = json!({"TenantId": drop.folder.rsplit('/').next(), "CopyActivityId": "4f5d0b34-5a3d-4b4b-9d3c-0a8f6f2d7e10",
        "NumberOfRowsExtracted": rows.lines().count(), "DecryptionKeyDetails": [key]});
    put_at(world, drop, METADATA, metadata.to_string()).await;
    put_at(world, drop, "part-0", rows).await;
}

/// A storage with a drop of 20 people, five of them in each range of `Email hours` with [`BOUNDS`].
pub(crate) async fn world() -> World {
    let world = World::default();
    put_drop(&world, &path(), &rows(20), column_key()).await;
    world
}

pub(crate) const BOUNDS: [u64; 3] = [5, 10, 15];

/// Definitions with these attributes, and a program with one cycle that ends at `end`.
pub(crate) fn definitions_of(attributes: Value, end: Date) -> Value {
    let start = end - time::Duration::days(7);
    let cycle = json!({"name": "Now", "start": start.to_string(), "end": end.to_string()});
    json!({"attributes": attributes, "programs": [{"name": "Engagement", "cycles": [cycle]}]})
}

/// The attribute `Email hours` with these bounds.
pub(crate) fn email(bounds: [u64; 3]) -> Value {
    json!([{"name": "Email hours", "max": bounds}])
}

/// Stores the definitions of [`TENANT`].
pub(crate) async fn define(process: &Process, definitions: &Value) -> definitions::Saved {
    define_for(process, tenant(), definitions).await
}

/// Stores the definitions of a tenant.
pub(crate) async fn define_for(process: &Process, tenant: TenantId, definitions: &Value) -> definitions::Saved {
    let ledger = &process.runner.ledger;
    let etag = definitions::load(ledger, tenant).await.unwrap().etag;
    definitions::save(ledger, tenant, definitions.to_string().as_bytes(), etag.as_ref()).await.unwrap()
}

/// A process with definitions of `Email hours` for a cycle that ends today.
pub(crate) async fn with_definitions(world: &World) -> Process {
    let process = Process::new(world);
    define(&process, &definitions_of(email(BOUNDS), today())).await;
    process
}

/// Runs a drop, which must be completed.
pub(crate) async fn deliver(process: &Process, drop: &DropPath) {
    let outcome = process.runner.run(drop, None, Trigger::Event, None).await.unwrap();
    assert!(matches!(outcome, Outcome::Completed { .. }), "{outcome:?}");
}

/// Waits, then lets the timer start a sweep in a new process.
pub(crate) async fn sweep_later(world: &World) {
    sleep(2 * MINUTE).await;
    Process::new(world).sweep(SweepMode::Timer).await.unwrap();
}

/// The distinct messages about attributes, without the prefix of their types.
pub(crate) fn received(world: &World) -> Vec<(String, Value)> {
    let messages = world.received().into_iter();
    messages
        .filter_map(|(kind, data)| Some((kind.strip_prefix("viva.insights.attributes")?.to_owned(), data)))
        .collect()
}

/// The types of the messages about attributes in the order of arrival, without consecutive repetitions.
pub(crate) fn kinds(world: &World) -> Vec<String> {
    let mut kinds: Vec<String> = received(world).into_iter().map(|(kind, _)| kind).collect();
    kinds.dedup();
    kinds
}

/// The messages of this kind.
pub(crate) fn of_kind(world: &World, kind: &str) -> Vec<Value> {
    received(world).into_iter().filter(|(other, _)| other == kind).map(|(_, data)| data).collect()
}

/// The messages about attributes, without the times at which they were made.
pub(crate) fn lines(world: &World) -> Vec<String> {
    lines_of(world).into_iter().filter(|line| line.contains("viva.insights.attributes")).collect()
}
