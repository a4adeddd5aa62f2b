//! Tests of the ledger over time: how claims are kept, how they lapse, and what is written when. Time is paused, and
//! blobs are in memory.

#![expect(clippy::unwrap_used, reason = "a panic is a good failure message in a test")]

mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
    time::Duration,
};

use proptest::prelude::*;
use serde_json::json;
use testkit::plan::Plan;
use time::OffsetDateTime;
use tokio::time::{Instant, advance, sleep};
use vivadrop::{
    batch::BatchLimits,
    drop::{DropPath, FileVersion},
    ledger::{
        Announcement, CHECKPOINT_LIMIT, Claim, ClaimRequest, ClaimedFile, DropRecord, Ending, FileProgress, LEASE,
        Ledger, ProgressFlag, Scope, Status, Survey,
    },
    store::{BlobPath, ETag, Store, WriteIf},
    verdict::Reason,
};

use support::{
    faults::{Fault, FaultyStore, Operation, StoreCall},
    memory_store::MemoryStore,
};

const SECOND: Duration = Duration::from_secs(1);

/// A process with a ledger. Its connection to the storage can be cut.
struct Process {
    ledger: Ledger,
    store: Arc<FaultyStore<MemoryStore>>,
    connection: Arc<AtomicU8>,
    writes: Arc<AtomicU64>,
}

const CONNECTED: u8 = 0;
/// Every request fails.
const UNAVAILABLE: u8 = 1;
/// No request is processed or answered, as if the process were killed.
const KILLED: u8 = 2;

impl Process {
    fn new(storage: &MemoryStore) -> Self {
        Self::with_faults(storage, |_| Fault::None)
    }

    /// `faults` chooses the fault of each request from its kind.
    fn with_faults(storage: &MemoryStore, faults: impl Fn(Operation) -> Fault + Send + 'static) -> Self {
        let (connection, writes) = (Arc::new(AtomicU8::new(CONNECTED)), Arc::new(AtomicU64::new(0)));
        let (state, written) = (Arc::clone(&connection), Arc::clone(&writes));
        let plan = Plan::by(move |call: &StoreCall| match state.load(Ordering::SeqCst) {
            CONNECTED => {
                written.fetch_add(u64::from(call.operation == Operation::Write), Ordering::SeqCst);
                faults(call.operation)
            }
            UNAVAILABLE => Fault::Unavailable,
            _ => Fault::KilledBefore,
        });
        let store = Arc::new(FaultyStore::new(storage.clone(), plan));
        let ledger = Ledger::new(Arc::clone(&store) as Arc<dyn Store>, "state");
        Self { ledger, store, connection, writes }
    }

    fn kill(&self) {
        self.connection.store(KILLED, Ordering::SeqCst);
    }

    fn disconnect(&self) {
        self.connection.store(UNAVAILABLE, Ordering::SeqCst);
    }

    fn reconnect(&self) {
        self.connection.store(CONNECTED, Ordering::SeqCst);
    }

    fn writes(&self) -> u64 {
        self.writes.load(Ordering::SeqCst)
    }

    async fn try_claim(&self) -> Option<Claim> {
        self.ledger.try_claim(&request()).await.unwrap()
    }

    async fn claim(&self) -> Claim {
        self.ledger.claim(&request(), Instant::now()).await.unwrap()
    }

    async fn acquire(&self) -> ClaimedFile {
        match self.claim().await {
            Claim::Acquired(claimed) => claimed,
            Claim::Ended(record) => panic!("the file has ended: {record:?}"),
            Claim::HeldByLiveRun | Claim::Outdated => panic!("another run has claimed the file"),
        }
    }
}

fn drop_path() -> DropPath {
    DropPath::new("datasets", "run")
}

fn file() -> FileVersion {
    FileVersion { name: "part-0".into(), etag: ETag("1".into()) }
}

fn request() -> ClaimRequest {
    ClaimRequest {
        drop: drop_path(),
        file: file(),
        batch: batch(),
        replays: 0,
        is_new: false,
        progress: ProgressFlag::default(),
        generation: 0,
        keys: "1".parse().unwrap(),
        run: None,
    }
}

fn batch() -> BatchLimits {
    BatchLimits { rows: 10.try_into().unwrap(), bytes: 1000.try_into().unwrap(), message: None }
}

/// The record of the file, as it is in the storage.
async fn recorded(storage: &MemoryStore) -> FileProgress {
    let ledger = Ledger::new(Arc::new(storage.clone()), "state");
    ledger.progress(&drop_path(), &[file()], 0).await.unwrap().remove("part-0").unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_second_event_for_a_claimed_file_waits_until_the_lease_must_have_been_renewed() {
    let storage = MemoryStore::default();
    let (first, second) = (Process::new(&storage), Process::new(&storage));
    let mut claimed = first.acquire().await;
    let start = Instant::now();
    assert!(matches!(second.claim().await, Claim::HeldByLiveRun));
    assert!((LEASE..LEASE + 4 * SECOND).contains(&start.elapsed()), "{:?}", start.elapsed());
    claimed.checkpoint(10, 0).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_claim_in_the_same_process_is_known_to_be_live_without_a_wait() {
    let process = Process::new(&MemoryStore::default());
    let _claimed = process.acquire().await;
    let start = Instant::now();
    assert!(matches!(process.claim().await, Claim::HeldByLiveRun));
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_claim_does_not_count_as_live_while_its_lease_is_being_released() {
    let process = Process::new(&MemoryStore::default());
    let mut claimed = process.acquire().await;
    claimed.checkpoint(10, 0).await.unwrap();
    drop(claimed);
    let claimed = process.acquire().await;
    assert_eq!((claimed.record().next_row, claimed.record().attempts), (10, 2));
}

#[tokio::test(start_paused = true)]
async fn a_killed_worker_is_replaced_when_its_lease_lapses() {
    let storage = MemoryStore::default();
    let (first, second) = (Process::new(&storage), Process::new(&storage));
    let mut claimed = first.acquire().await;
    claimed.checkpoint(10, 1).await.unwrap();
    sleep(2 * SECOND).await;
    claimed.checkpoint(20, 1).await.unwrap();
    first.kill();
    let start = Instant::now();
    let record = second.acquire().await.record().clone();
    assert!(start.elapsed() <= LEASE + SECOND, "{:?}", start.elapsed());
    assert_eq!((record.next_row, record.bad_rows, record.attempts), (10, 1, 2));
}

#[tokio::test(start_paused = true)]
async fn a_run_that_waits_for_a_claim_learns_that_the_file_has_ended() {
    let storage = MemoryStore::default();
    let (first, second) = (Process::new(&storage), Process::new(&storage));
    let mut claimed = first.acquire().await;
    let waiting = tokio::spawn(async move { second.claim().await });
    sleep(3 * SECOND).await;
    claimed.checkpoint(10, 0).await.unwrap();
    claimed.finish(Status::Done, None).await.unwrap();
    let Claim::Ended(record) = waiting.await.unwrap() else { panic!("the file has ended") };
    assert_eq!((record.status, record.next_row), (Status::Done, 10));
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_acquisition_releases_its_lease() {
    let storage = MemoryStore::default();
    let first = Process::new(&storage);
    for polls in 0..4 {
        let request = request();
        let mut acquisition = Box::pin(first.ledger.try_claim(&request));
        for _ in 0..polls {
            assert!(futures::poll!(&mut acquisition).is_pending());
        }
        drop(acquisition);
    }
    first.ledger.flush().await;
    assert!(matches!(Process::new(&storage).try_claim().await, Some(Claim::Acquired(_))));
}

#[tokio::test(start_paused = true)]
async fn checkpoints_are_written_once_a_second() {
    let storage = MemoryStore::default();
    let process = Process::new(&storage);
    let mut claimed = process.acquire().await;
    let writes = process.writes();
    for row in 1..=1000 {
        claimed.checkpoint(row, 0).await.unwrap();
        sleep(Duration::from_millis(10)).await;
        assert!(recorded(&storage).await.next_row + 101 >= row);
    }
    assert!((9..=11).contains(&(process.writes() - writes)));

    // The last checkpoint is written even if no other follows.
    sleep(SECOND).await;
    assert_eq!(recorded(&storage).await.next_row, 1000);
    let requests = process.store.calls();
    sleep(60 * SECOND).await;
    assert_eq!(process.store.calls() - requests, 12, "without checkpoints, the lease is renewed every 5 s");
}

#[tokio::test(start_paused = true)]
async fn a_file_without_faults_costs_six_requests() {
    let process = Process::new(&MemoryStore::default());
    let mut claimed = process.acquire().await;
    claimed.checkpoint(10, 0).await.unwrap();
    claimed.finish(Status::Done, None).await.unwrap();
    assert_eq!((process.writes(), process.store.calls()), (2, 6));
}

#[tokio::test(start_paused = true)]
async fn an_outage_shorter_than_the_lease_does_not_cost_the_claim() {
    let storage = MemoryStore::default();
    let process = Process::new(&storage);
    let mut claimed = process.acquire().await;
    process.disconnect();
    for row in 1..=12 {
        claimed.checkpoint(row, 0).await.unwrap();
        sleep(SECOND).await;
    }
    process.reconnect();
    sleep(2 * SECOND).await;
    assert_eq!(recorded(&storage).await.next_row, 12);
    claimed.finish(Status::Done, None).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_worker_whose_lease_has_lapsed_gets_errors_and_writes_nothing() {
    let storage = MemoryStore::default();
    let (first, second) = (Process::new(&storage), Process::new(&storage));
    let mut lapsed = first.acquire().await;
    first.disconnect();
    let mut claimed = second.acquire().await;
    claimed.checkpoint(7, 0).await.unwrap();
    first.reconnect();
    sleep(10 * SECOND).await;
    assert!(lapsed.checkpoint(99, 0).await.is_err());
    assert!(lapsed.finish(Status::Done, None).await.is_err());
    assert_eq!((recorded(&storage).await.next_row, recorded(&storage).await.status), (7, Status::Running));
    claimed.finish(Status::Done, None).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_write_whose_response_is_lost_is_recognized_as_our_own() {
    for fault in [Fault::ResponseLost, Fault::KilledAfter, Fault::Unavailable] {
        let storage = MemoryStore::default();
        let writes = AtomicU64::new(0);
        let process = Process::with_faults(&storage, move |operation| {
            let fails = operation == Operation::Write && writes.fetch_add(1, Ordering::SeqCst) % 3 == 1;
            if fails { fault } else { Fault::None }
        });
        let mut claimed = process.acquire().await;
        for row in 1..=5 {
            claimed.checkpoint(row, 0).await.unwrap();
            sleep(3 * SECOND).await;
        }
        claimed.finish(Status::Done, None).await.unwrap();
        assert_eq!(
            (recorded(&storage).await.next_row, recorded(&storage).await.status),
            (5, Status::Done),
            "{fault:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_file_stays_open_if_its_end_cannot_be_written() {
    let storage = MemoryStore::default();
    let process = Process::new(&storage);
    let mut claimed = process.acquire().await;
    process.disconnect();
    assert!(claimed.finish(Status::Done, None).await.is_err());
    assert_eq!(recorded(&storage).await.status, Status::Running);
}

/// Sets a checkpoint each second for a minute, and checks each time that the lease is still held.
async fn work_for_a_minute(claimed: &mut ClaimedFile, another: &Process) {
    for row in 1..=60 {
        claimed.checkpoint(row, 0).await.unwrap();
        sleep(SECOND).await;
        assert!(another.try_claim().await.is_none(), "another process took the file after {row} s");
    }
}

#[tokio::test(start_paused = true)]
async fn a_live_run_keeps_its_file_while_record_writes_hang() {
    let storage = MemoryStore::default();
    let (process, another) = (Process::new(&storage), Process::new(&storage));
    let mut claimed = process.acquire().await;
    let hang = |call: &StoreCall| if call.operation == Operation::Write { Fault::KilledBefore } else { Fault::None };
    process.store.plan.set_rule(hang);
    work_for_a_minute(&mut claimed, &another).await;
    process.store.plan.set_always(Fault::None);
    claimed.finish(Status::Done, None).await.unwrap();
    assert_eq!((recorded(&storage).await.next_row, recorded(&storage).await.status), (60, Status::Done));
}

#[tokio::test(start_paused = true)]
async fn a_live_run_keeps_its_file_while_record_writes_take_almost_their_time_limit() {
    let storage = MemoryStore::default();
    let (process, another) = (Process::new(&storage), Process::new(&storage));
    let mut claimed = process.acquire().await;
    // Each write conflicts with an earlier one whose response was lost, so it takes three calls.
    let mut writes = 0;
    process.store.plan.set_rule(move |call| match call.operation {
        Operation::Write => {
            writes += 1;
            if writes % 3 == 1 { Fault::ResponseLost } else { Fault::Delayed(Duration::from_millis(4900)) }
        }
        Operation::Find => Fault::Delayed(Duration::from_millis(4900)),
        _ => Fault::None,
    });
    work_for_a_minute(&mut claimed, &another).await;
    process.store.plan.set_always(Fault::None);
    claimed.finish(Status::Done, None).await.unwrap();
    assert_eq!((recorded(&storage).await.next_row, recorded(&storage).await.status), (60, Status::Done));
}

#[tokio::test(start_paused = true)]
async fn a_run_gets_its_file_from_a_store_that_takes_four_seconds_for_each_request() {
    let storage = MemoryStore::default();
    let process = Process::with_faults(&storage, |_| Fault::Delayed(4 * SECOND));
    process.acquire().await.release().await.unwrap();
    let mut claimed = process.acquire().await;
    assert_eq!(claimed.record().attempts, 2);
    claimed.checkpoint(10, 0).await.unwrap();
    claimed.finish(Status::Done, None).await.unwrap();
    assert_eq!((recorded(&storage).await.next_row, recorded(&storage).await.status), (10, Status::Done));
}

#[tokio::test(start_paused = true)]
async fn a_run_that_lost_its_lease_stops_while_its_record_writes_hang() {
    let storage = MemoryStore::default();
    let (process, another) = (Process::new(&storage), Process::new(&storage));
    let mut lapsed = process.acquire().await;
    process.store.plan.set_rule(|call| match call.operation {
        Operation::Write => Fault::KilledBefore,
        _ => Fault::Unavailable,
    });
    lapsed.checkpoint(1, 0).await.unwrap();
    let mut claimed = another.acquire().await;
    process.store.plan.set_always(Fault::None);
    sleep(6 * SECOND).await;
    assert!(lapsed.checkpoint(2, 0).await.is_err());
    claimed.checkpoint(7, 0).await.unwrap();
    claimed.finish(Status::Done, None).await.unwrap();
    assert_eq!(recorded(&storage).await.next_row, 7);
}

#[tokio::test(start_paused = true)]
async fn a_run_stops_if_no_checkpoint_was_written_for_two_minutes() {
    let storage = MemoryStore::default();
    let process = Process::new(&storage);
    let mut claimed = process.acquire().await;
    let denied = |call: &StoreCall| if call.operation == Operation::Write { Fault::Rejected } else { Fault::None };
    process.store.plan.set_rule(denied);
    let start = Instant::now();
    while claimed.checkpoint(1, 0).await.is_ok() {
        sleep(SECOND).await;
    }
    assert!((CHECKPOINT_LIMIT..CHECKPOINT_LIMIT + 5 * SECOND).contains(&start.elapsed()), "{:?}", start.elapsed());
    assert!(matches!(Process::new(&storage).try_claim().await, Some(Claim::Acquired(_))), "the lease is released");
}

#[tokio::test]
async fn a_survey_counts_every_record() {
    let store = Arc::new(MemoryStore::default());
    let ledger = Ledger::new(Arc::clone(&store) as Arc<dyn Store>, "state");
    assert_eq!(ledger.survey().await.unwrap(), Survey::default());

    let tenant = "9f1c7fd3-1a33-4f2b-9d3c-0a8f6f2d7e10".parse().unwrap();
    for (folder, reason) in [("a", None), ("b", Some(Reason::Errors))] {
        let scope = Scope { metadata: "m@1".into(), key_details: None, files: None, file_count: 0 };
        let ending = Ending {
            scope,
            reason,
            file: None,
            message: None,
            rows: 0,
            bad_rows: 0,
            recorded: OffsetDateTime::UNIX_EPOCH,
            announcement: Announcement::Done(None),
            is_final: true,
        };
        let mut record = DropRecord::default();
        record.ending = Some(ending);
        ledger.write_drop_record(&DropPath::new("datasets", folder), tenant, &mut record).await.unwrap();
    }
    ledger.replay(&DropPath::new("datasets", "c"), tenant, false).await.unwrap();
    let mut running = json!({
        "version": 1, "etag": "1", "status": "running", "nextRow": 0, "badRows": 0, "attempts": 1,
        "batchRows": 7, "batchBytes": 100, "updated": "2026-11-22T00:00:00Z",
    });
    // The record of a file that is named `drop`.
    write(&store, "drops/datasets/b/files/drop.json", &running.to_string()).await;
    running["status"] = "set-aside".into();
    running["reason"] = "damaged".into();
    write(&store, "drops/datasets/b/files/part-0.gz.json", &running.to_string()).await;
    write(&store, "drops/datasets/d/drop.json", "not a record").await;
    write(&store, "drops/datasets/d/files/x.json", r#"{"version":3}"#).await;
    write(&store, "drops/letter", "not a blob of the ledger").await;
    // An account with a hierarchical namespace lists folders as empty blobs.
    for folder in ["drops", "drops/datasets/b", "drops/datasets/b/files", "drops/datasets/b/files/hashed"] {
        write(&store, folder, "").await;
    }

    let survey = ledger.survey().await.unwrap();
    assert_eq!((survey.completed, survey.set_aside, survey.open, survey.files_set_aside), (1, 1, 1, 1));
    assert_eq!(survey.unreadable.len(), 2);
    assert!(survey.unreadable[0].contains("state/drops/datasets/d/drop.json"), "{:?}", survey.unreadable);
    assert!(survey.unreadable[1].contains("a newer vivadrop"), "{:?}", survey.unreadable);
}

async fn write(store: &MemoryStore, name: &str, text: &str) {
    store.write(&BlobPath::new("state", name), text.to_owned().into(), WriteIf::Absent).await.unwrap();
}

/// Something that happens while a file is delivered.
#[derive(Debug, Clone)]
enum Event {
    /// The sink acknowledges some more rows.
    Acknowledge(u64),
    /// Time passes.
    Wait(Duration),
    /// The process is killed.
    Kill,
    /// The run is cancelled, or stops.
    Drop,
    /// The storage is unavailable for a time.
    Outage(Duration),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let some_time = (1_u64..20_000).prop_map(Duration::from_millis);
    let event = prop_oneof![
        4 => (1_u64..50).prop_map(Event::Acknowledge),
        4 => some_time.clone().prop_map(Event::Wait),
        1 => Just(Event::Kill),
        1 => Just(Event::Drop),
        1 => some_time.prop_map(Event::Outage),
    ];
    prop::collection::vec(event, 1..25)
}

/// Plays `events`, and after each checks two things: the recorded checkpoint does not pass a row that was not
/// acknowledged, and it never goes back.
async fn play(events: Vec<Event>) {
    let storage = MemoryStore::default();
    let mut process = Process::new(&storage);
    let mut claimed = process.acquire().await;
    let (mut acknowledged, mut written) = (0, 0);
    for event in events {
        match event {
            Event::Acknowledge(rows) => {
                let next_row = claimed.record().next_row + rows;
                // The rows are acknowledged even if the claim is lost.
                acknowledged = acknowledged.max(next_row);
                if claimed.checkpoint(next_row, 0).await.is_err() {
                    claimed = process.acquire().await;
                }
            }
            Event::Wait(time) => {
                advance_in_steps(time).await;
                if time > 2 * SECOND {
                    written = recorded(&storage).await.next_row.max(written);
                }
            }
            Event::Kill => {
                process.kill();
                process = Process::new(&storage);
                claimed = process.acquire().await;
            }
            Event::Drop => {
                let newest = claimed.record().next_row;
                drop(claimed);
                claimed = process.acquire().await;
                assert!(claimed.record().next_row <= acknowledged);
                written = written.max(claimed.record().next_row.min(newest));
            }
            Event::Outage(time) => {
                process.disconnect();
                advance_in_steps(time).await;
                process.reconnect();
            }
        }
        let checkpoint = recorded(&storage).await.next_row;
        assert!(checkpoint <= acknowledged, "the checkpoint is {checkpoint}, but {acknowledged} rows are acknowledged");
        assert!(checkpoint >= written, "the checkpoint is {checkpoint}, but it was {written}");
        assert!(claimed.record().next_row <= acknowledged);
    }
}

async fn advance_in_steps(time: Duration) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        advance((end - Instant::now()).min(SECOND / 2)).await;
        sleep(Duration::from_millis(1)).await;
    }
}

proptest! {
    #[test]
    fn a_checkpoint_never_passes_an_unacknowledged_row_or_goes_back(events in events()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(play(events));
    }
}
