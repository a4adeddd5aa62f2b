//! Several tenants in one process: one whose receiver is slow does not delay the others.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;
use vivadrop::{
    directory::{DirectoryConfig, DirectoryMode},
    drop::{DropPath, TenantId},
    memory_budget::MemoryBudget,
    message::Message,
    retry::RetryBudget,
    run::{DirectoryError, RunError, Trigger},
    sink::{FailedTry, Sink, StatusClass},
    sweep::SweepMode,
    verdict::Reason,
};

use super::{
    directory::{column_key, person, put_directory_of},
    process::{Process, Setup},
    survey::{BOUNDS, HOUR, MINUTE, define_for, definitions_of, deliver, email, of_kind, put_drop, rows, today},
    world::World,
};
use crate::support::memory_sink::MemorySink;

/// A receiver that delays its answers to messages of one type.
#[derive(Debug)]
struct SlowSink {
    receiver: Arc<MemorySink>,
    kind: &'static str,
    time: Duration,
    /// Whether the delayed answer accepts the message; otherwise it is a transient failure.
    takes: bool,
}

#[async_trait]
impl Sink for SlowSink {
    async fn try_deliver(&self, message: &Message) -> Result<(), FailedTry> {
        if message.kind == self.kind {
            sleep(self.time).await;
            if !self.takes {
                return Err(FailedTry::transient("no answer within 30 s"));
            }
        }
        self.receiver.try_deliver(message).await
    }

    fn retry_budget(&self) -> RetryBudget {
        RetryBudget::lasting(Duration::from_secs(240))
    }

    fn name(&self) -> String {
        "a slow sink".to_owned()
    }
}

fn tenant(number: u128) -> TenantId {
    TenantId(Uuid::from_u128(number))
}

/// The drop of a tenant.
fn path_of(tenant: TenantId) -> DropPath {
    DropPath::new("datasets", format!("run/VivaInsights/{tenant}"))
}

/// A process for the tenants in `own_sinks`, which have receivers of their own, and for the tenant 100, which uses the
/// receiver of `world`. Each tenant has a drop of 20 people that was delivered and is to be imported.
async fn process_with(world: &World, own_sinks: BTreeMap<TenantId, Arc<dyn Sink>>, memory: usize) -> Process {
    let tenants: Vec<TenantId> = own_sinks.keys().copied().chain([tenant(100)]).collect();
    let names = tenants.iter().map(TenantId::to_string).collect::<Vec<_>>().join(",");
    let attributes_memory = MemoryBudget::new(memory);
    let process = Process::with_setup(
        world,
        Setup { batch_rows: 5, tenants: names, own_sinks, attributes_memory, ..Setup::new(world) },
    );
    for tenant in tenants {
        put_drop(world, &path_of(tenant), &rows(20), column_key()).await;
        define_for(&process, tenant, &definitions_of(email(BOUNDS), today())).await;
        deliver(&process, &path_of(tenant)).await;
    }
    process
}

/// A receiver that is slow when it gets people of an import.
fn slow(world: &World, time: Duration, takes: bool) -> Arc<dyn Sink> {
    Arc::new(SlowSink { receiver: Arc::clone(&world.receiver), kind: "viva.insights.attributes", time, takes })
}

/// A receiver that does not answer when it gets rows.
fn hanging_for_rows(world: &World) -> Arc<dyn Sink> {
    let (receiver, kind) = (Arc::clone(&world.receiver), "viva.insights.rows");
    Arc::new(SlowSink { receiver, kind, time: MINUTE / 2, takes: false })
}

/// How many imports were completed.
fn completed(world: &World) -> usize {
    world.receiver.messages().iter().filter(|message| message.kind == "viva.insights.attributes.completed").count()
}

/// Sweeps until this many imports were completed; returns how long that took.
async fn sweep_until_completed(process: &Process, world: &World, imports: usize) -> Duration {
    let started = Instant::now();
    let are_completed = async {
        while completed(world) < imports {
            sleep(Duration::from_millis(500)).await;
        }
    };
    tokio::select! {
        _report = process.sweep(SweepMode::Command) => {}
        () = are_completed => {}
    }
    assert_eq!(completed(world), imports);
    started.elapsed()
}

const MEMORY: usize = 1 << 20;

#[tokio::test(start_paused = true)]
async fn receivers_that_hang_delay_the_import_of_another_tenant_by_seconds() {
    let world = World::default();
    let hanging = (1..=6).map(|number| (tenant(number), slow(&world, MINUTE / 2, false))).collect();
    let process = process_with(&world, hanging, MEMORY).await;
    let time = sweep_until_completed(&process, &world, 1).await;
    assert_eq!(of_kind(&world, ".completed")[0]["tenantId"], tenant(100).to_string());
    assert!(time < Duration::from_secs(25), "{time:?}");
}

#[tokio::test(start_paused = true)]
async fn tenants_whose_imports_have_failed_leave_room_for_the_others() {
    let world = World::default();
    let hanging = (1..=20).map(|number| (tenant(number), slow(&world, MINUTE / 2, false))).collect();
    let process = process_with(&world, hanging, MEMORY).await;
    process.sweep(SweepMode::Timer).await.unwrap();
    let before = completed(&world);
    put_drop(&world, &path_of(tenant(100)), &rows(25), column_key()).await;
    deliver(&process, &path_of(tenant(100))).await;
    sleep(5 * MINUTE).await;
    let time = sweep_until_completed(&process, &world, before + 1).await;
    assert!(time < Duration::from_secs(1), "{time:?}");
}

#[tokio::test(start_paused = true)]
async fn slow_receivers_take_turns_until_all_have_their_imports() {
    let world = World::default();
    // Four messages of people, two at a time, for six seconds: longer than a turn.
    let receivers = (1..=8).map(|number| (tenant(number), slow(&world, Duration::from_secs(6), true))).collect();
    let process = process_with(&world, receivers, MEMORY).await;
    let report = timeout(20 * MINUTE, process.sweep(SweepMode::Timer)).await.unwrap().unwrap();
    assert_eq!(report.failed_imports, []);
    assert_eq!(completed(&world), 9);
}

#[tokio::test(start_paused = true)]
async fn a_table_that_needs_more_than_a_share_gets_all_of_the_memory() {
    for (memory, imported) in [(400 << 10, 1), (100 << 10, 0)] {
        let world = World::default();
        let process = process_with(&world, BTreeMap::new(), memory).await;
        process.sweep(SweepMode::Timer).await.unwrap();
        assert_eq!(completed(&world), imported);
        let failures = of_kind(&world, ".failed");
        assert_eq!(failures.len(), 1 - imported);
        for failed in failures {
            let message = failed["message"].as_str().unwrap();
            assert!(message.contains(&format!("{memory} bytes")), "{message}");
        }
    }
}

/// A process with tenants whose rows and people are joined to a directory, and the first tenant's own receiver. Each
/// has a directory, which was delivered, and a drop.
async fn joining_process_with<const N: usize>(
    world: &World,
    tenants: [TenantId; N],
    receiver: Arc<dyn Sink>,
) -> Process {
    joining_process_within(256 << 10, world, tenants, receiver).await
}

/// A [`joining_process_with`] this `DIRECTORY_MEMORY`.
async fn joining_process_within<const N: usize>(
    memory: usize,
    world: &World,
    tenants: [TenantId; N],
    receiver: Arc<dyn Sink>,
) -> Process {
    let mut directory = DirectoryConfig { mode: DirectoryMode::Join, ..DirectoryConfig::default() };
    directory.rules.memory = memory;
    let setup = Setup {
        batch_rows: 10,
        tenants: tenants.map(|tenant| tenant.to_string()).join(","),
        own_sinks: [(tenants[0], receiver)].into(),
        directory,
        ..Setup::new(world)
    };
    let process = Process::with_setup(world, setup);
    for tenant in tenants {
        put_drop(world, &path_of(tenant), &rows(20), column_key()).await;
        deliver_directory(&process, world, tenant, 1).await;
    }
    process
}

/// Writes the directory of `tenant`, with this many people, and delivers it.
async fn deliver_directory(process: &Process, world: &World, tenant: TenantId, people: u128) {
    deliver_directory_of(process, world, "run", tenant, people).await;
}

/// Writes the directory of `tenant` in the pipeline run in the folder `run`, with this many people, and delivers it.
async fn deliver_directory_of(process: &Process, world: &World, run: &str, tenant: TenantId, people: u128) {
    let directory = DropPath::new("datasets", format!("{run}/AADUser/{tenant}"));
    let people: Vec<_> = (0..people).map(|number| person(number, "HR")).collect();
    put_directory_of(world, &directory, &tenant.to_string(), &people).await;
    deliver(process, &directory).await;
}

/// Waits a second, then delivers the drop of `tenant`; returns how long the delivery took.
async fn delivery_time(process: &Process, tenant: TenantId) -> Duration {
    sleep(Duration::from_secs(1)).await;
    let started = Instant::now();
    deliver(process, &path_of(tenant)).await;
    started.elapsed()
}

#[tokio::test(start_paused = true)]
async fn an_import_whose_receiver_hangs_delays_no_rows_that_are_joined_to_a_directory() {
    let (world, [hanging, other]) = (World::default(), [tenant(1), tenant(2)]);
    let process = joining_process_with(&world, [hanging, other], slow(&world, MINUTE / 2, false)).await;
    define_for(&process, hanging, &definitions_of(email(BOUNDS), today())).await;
    deliver(&process, &path_of(hanging)).await;
    let (_, time) = tokio::join!(process.runner.import(hanging, None), delivery_time(&process, other));
    assert!(time < Duration::from_secs(1), "{time:?}");
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_takes_no_rows_delays_no_rows_of_others_that_are_joined_to_a_directory() {
    let (world, [hanging, other]) = (World::default(), [tenant(1), tenant(2)]);
    let process = joining_process_with(&world, [hanging, other], hanging_for_rows(&world)).await;
    let (drop, trigger) = (path_of(hanging), Trigger::Event);
    let (_, time) = tokio::join!(process.runner.run(&drop, None, trigger, None), delivery_time(&process, other));
    assert!(time < Duration::from_secs(1), "{time:?}");
}

#[tokio::test(start_paused = true)]
async fn a_directory_that_is_larger_than_a_share_of_the_memory_delays_the_rows_of_others_by_seconds() {
    let (world, [hanging, large, other]) = (World::default(), [tenant(1), tenant(2), tenant(3)]);
    let process = joining_process_with(&world, [hanging, large, other], hanging_for_rows(&world)).await;
    deliver_directory(&process, &world, hanging, 600).await;
    deliver_directory(&process, &world, large, 1_900).await;
    let (of_hanging, of_large) = (path_of(hanging), path_of(large));
    let run_of_large = async {
        sleep(Duration::from_millis(500)).await;
        process.runner.run(&of_large, None, Trigger::Event, None).await
    };
    let run_of_hanging = process.runner.run(&of_hanging, None, Trigger::Event, None);
    let (_, ended, time) = tokio::join!(run_of_hanging, run_of_large, delivery_time(&process, other));
    assert!(time < Duration::from_secs(1), "{time:?}");
    let Err(RunError::Directory { source, .. }) = &ended else { panic!("{ended:?}") };
    assert!(matches!(**source, DirectoryError::MemoryInUse), "{source}");
    // The memory is free now.
    deliver(&process, &of_large).await;
}

#[tokio::test(start_paused = true)]
async fn a_directory_that_takes_all_of_the_memory_delays_no_rows_of_others() {
    let (world, [hanging, other]) = (World::default(), [tenant(1), tenant(2)]);
    // The table takes 180 KiB of 200 KiB, so that less than a share would be left.
    let process = joining_process_within(200 << 10, &world, [hanging, other], hanging_for_rows(&world)).await;
    deliver_directory(&process, &world, hanging, 1_900).await;
    let drop = path_of(hanging);
    let run = process.runner.run(&drop, None, Trigger::Event, None);
    let (_, time) = tokio::join!(run, delivery_time(&process, other));
    assert!(time < Duration::from_secs(1), "{time:?}");
}

#[tokio::test(start_paused = true)]
async fn two_large_directories_that_a_slow_receiver_keeps_in_memory_delay_no_rows_of_others() {
    let (world, [slow, other]) = (World::default(), [tenant(1), tenant(2)]);
    let (receiver, kind) = (Arc::clone(&world.receiver), "viva.insights.rows");
    let receiver = Arc::new(SlowSink { receiver, kind, time: MINUTE, takes: true });
    let process = joining_process_with(&world, [slow, other], receiver).await;
    let (first, second) = (path_of(slow), DropPath::new("datasets", format!("later/VivaInsights/{slow}")));
    put_drop(&world, &second, &rows(20), column_key()).await;
    // The first table takes 180 of 256 KiB, and the second one asks for 110 KiB.
    deliver_directory(&process, &world, slow, 1_900).await;
    deliver_directory_of(&process, &world, "later", slow, 800).await;
    let run_of_second = async {
        sleep(Duration::from_millis(500)).await;
        process.runner.run(&second, None, Trigger::Event, None).await
    };
    let run_of_first = process.runner.run(&first, None, Trigger::Event, None);
    let (_, ended, time) = tokio::join!(run_of_first, run_of_second, delivery_time(&process, other));
    assert!(time < Duration::from_secs(20), "{time:?}");
    let Err(RunError::Directory { source, .. }) = &ended else { panic!("{ended:?}") };
    assert!(matches!(**source, DirectoryError::MemoryInUse), "{source}");
    // The memory is free now.
    deliver(&process, &second).await;
}

#[tokio::test(start_paused = true)]
async fn a_directory_that_needs_two_shares_of_the_memory_waits_for_no_other_table() {
    let (world, [hanging, large]) = (World::default(), [tenant(1), tenant(2)]);
    let process = joining_process_with(&world, [hanging, large], hanging_for_rows(&world)).await;
    deliver_directory(&process, &world, large, 400).await;
    let of_hanging = path_of(hanging);
    let run_of_hanging = process.runner.run(&of_hanging, None, Trigger::Event, None);
    let (_, time) = tokio::join!(run_of_hanging, delivery_time(&process, large));
    assert!(time < Duration::from_secs(1), "{time:?}");
}

/// A receiver that rejects every message.
#[derive(Debug)]
struct DenyingSink;

#[async_trait]
impl Sink for DenyingSink {
    async fn try_deliver(&self, _message: &Message) -> Result<(), FailedTry> {
        Err(FailedTry { class: StatusClass::Service, answer: "HTTP 403".to_owned(), retry_after: None })
    }

    fn retry_budget(&self) -> RetryBudget {
        RetryBudget::ONE_ATTEMPT
    }

    fn name(&self) -> String {
        "a sink that denies access".to_owned()
    }
}

#[tokio::test(start_paused = true)]
async fn a_drop_that_fails_for_three_days_is_set_aside_although_it_waits_for_memory_now_and_then() {
    let (world, denied) = (World::default(), tenant(1));
    let process = joining_process_with(&world, [denied], Arc::new(DenyingSink)).await;
    deliver_directory(&process, &world, denied, 1_500).await;
    for hour in 0..96 {
        let is_memory_held = hour % 10 >= 8;
        let held = if is_memory_held { Some(process.runner.directory_memory.reserve(250 << 10).await) } else { None };
        process.sweep(SweepMode::Timer).await.unwrap();
        drop(held);
        let record = process.runner.ledger.drop_record(&path_of(denied)).await.unwrap();
        if let Some(ending) = record.ending {
            assert_eq!(ending.reason, Some(Reason::Refused), "{ending:?}");
            assert!(hour > 72 && !is_memory_held, "given up after {hour} hours");
            return;
        }
        sleep(HOUR).await;
    }
    panic!("not given up");
}

#[tokio::test(start_paused = true)]
async fn a_drop_with_a_small_directory_that_finds_no_free_memory_has_not_failed() {
    let (world, [small]) = (World::default(), [tenant(1)]);
    let process = joining_process_with(&world, [small], Arc::clone(&world.receiver) as Arc<dyn Sink>).await;
    deliver_directory(&process, &world, small, 1).await;
    let held = process.runner.directory_memory.reserve(usize::MAX).await;
    let ended = process.runner.run(&path_of(small), None, Trigger::Event, Some(5 * MINUTE)).await;
    let Err(RunError::Directory { source, .. }) = &ended else { panic!("{ended:?}") };
    assert!(matches!(**source, DirectoryError::MemoryInUse), "{source}");
    let record = process.runner.ledger.drop_record(&path_of(small)).await.unwrap();
    assert_eq!(record.failing.unwrap().attempts, 0);
    drop(held);
    deliver(&process, &path_of(small)).await;
}

#[tokio::test(start_paused = true)]
async fn a_drop_that_waits_for_the_memory_of_others_is_not_given_up() {
    let (world, [hanging, large]) = (World::default(), [tenant(1), tenant(2)]);
    let process = joining_process_with(&world, [hanging, large], Arc::clone(&world.receiver) as Arc<dyn Sink>).await;
    deliver_directory(&process, &world, large, 1_500).await;
    define_for(&process, large, &definitions_of(email(BOUNDS), today())).await;
    let held = process.runner.directory_memory.reserve(250 << 10).await;
    let of_large = path_of(large);
    for _ in 0..5 {
        let ended = process.runner.run(&of_large, None, Trigger::Event, None).await;
        let Err(RunError::Directory { source, .. }) = &ended else { panic!("{ended:?}") };
        assert!(matches!(**source, DirectoryError::MemoryInUse), "{source}");
        sleep(Duration::from_secs(24 * 3600)).await;
    }
    drop(held);
    deliver(&process, &of_large).await;
    let held = process.runner.directory_memory.reserve(250 << 10).await;
    for _ in 0..5 {
        process.runner.import(large, None).await.unwrap_err();
        sleep(Duration::from_secs(24 * 3600)).await;
    }
    drop(held);
    process.runner.import(large, None).await.unwrap();
    assert_eq!(of_kind(&world, ".failed").len(), 0);
    assert_eq!(completed(&world), 1);
}
