//! Claims over time: how they are kept, how they lapse, and what is written when.

use std::sync::{
    Arc,
    atomic::{AtomicU8, AtomicU64, Ordering},
};

use proptest::prelude::*;
use tokio::time::{advance, sleep};

use super::{blobs::Blobs, *};
use crate::store::{
    ETag, Store,
    memory::{Fate, Faulty, MemoryStore, Step},
    read_whole,
};

const SECOND: Duration = Duration::from_secs(1);

/// A process with a ledger, whose store can be taken away.
struct Process {
    ledger: Blobs,
    store: Arc<Faulty<MemoryStore>>,
    down: Arc<AtomicU8>,
    writes: Arc<AtomicU64>,
}

impl Process {
    fn new(shelf: &MemoryStore) -> Self {
        Self::meeting(shelf, |_, _| Fate::Through)
    }

    /// Its store fails as `plan` says, which is given each step and its number.
    fn meeting(shelf: &MemoryStore, plan: impl Fn(Step, u64) -> Fate + Send + Sync + 'static) -> Self {
        let (down, writes) = (Arc::new(AtomicU8::new(0)), Arc::new(AtomicU64::new(0)));
        let (is_down, written) = (Arc::clone(&down), Arc::clone(&writes));
        let store = Faulty::by(shelf.clone(), move |step, _, number| match is_down.load(Ordering::SeqCst) {
            0 => {
                written.fetch_add(u64::from(step == Step::Write), Ordering::SeqCst);
                plan(step, number)
            }
            1 => Fate::Unavailable,
            _ => Fate::Never,
        });
        let store = Arc::new(store);
        Self { ledger: Blobs::new(Arc::clone(&store) as Arc<dyn Store>, "state"), store, down, writes }
    }

    /// Nothing that it asks for from now on is done or answered.
    fn kill(&self) {
        self.down.store(2, Ordering::SeqCst);
    }

    fn take_store_away(&self) {
        self.down.store(1, Ordering::SeqCst);
    }

    fn give_store_back(&self) {
        self.down.store(0, Ordering::SeqCst);
    }

    async fn asked(&self) -> Option<Claim> {
        self.ledger.try_claim(&drop_path(), &file("1"), batch()).await.unwrap()
    }

    async fn claimed(&self) -> Claim {
        self.ledger.claim(&drop_path(), &file("1"), batch(), Instant::now()).await.unwrap()
    }

    async fn held(&self) -> Box<dyn Work> {
        held(self.claimed().await)
    }
}

fn held(claim: Claim) -> Box<dyn Work> {
    match claim {
        Claim::Held(work) => work,
        Claim::Ended(record) => panic!("the file has ended: {record:?}"),
        Claim::AnsweredByAnother => panic!("another run has the file"),
    }
}

fn drop_path() -> DropPath {
    DropPath::new("datasets", "run")
}

fn file(etag: &str) -> FileVersion {
    FileVersion { name: "part-0".into(), etag: ETag(etag.into()) }
}

fn batch() -> BatchLimits {
    BatchLimits { rows: 10.try_into().unwrap(), bytes: 1000.try_into().unwrap(), message: None }
}

/// What is recorded, as it lies in the store.
async fn recorded(shelf: &MemoryStore) -> FileRecord {
    let path = BlobPath::new("state", "drops/datasets/run/files/part-0.json");
    let blob = shelf.find(&path).await.unwrap().unwrap();
    record::file(&path, "part-0", &read_whole(shelf, &blob, 10_000).await.unwrap()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_second_event_for_a_file_that_is_worked_on_waits_and_is_answered_by_the_first() {
    let shelf = MemoryStore::default();
    let (first, second) = (Process::new(&shelf), Process::new(&shelf));
    let mut work = first.held().await;
    let begun = Instant::now();
    assert!(matches!(second.claimed().await, Claim::AnsweredByAnother));
    assert!((LEASE..LEASE + 4 * SECOND).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    work.checkpoint(10, 0).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_run_of_the_same_process_is_known_to_live() {
    let process = Process::new(&MemoryStore::default());
    let _work = process.held().await;
    let begun = Instant::now();
    assert!(matches!(process.claimed().await, Claim::AnsweredByAnother));
    assert_eq!(begun.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_run_that_lets_go_is_not_taken_for_alive() {
    let shelf = MemoryStore::default();
    let process = Process::new(&shelf);
    let mut work = process.held().await;
    work.checkpoint(10, 0).await.unwrap();
    drop(work);
    // What it let go of may still be being written: the repeated event must not be answered by a run that is gone.
    let work = process.held().await;
    assert_eq!((work.record().next_row, work.record().attempts), (10, 2));
}

#[tokio::test(start_paused = true)]
async fn a_killed_worker_is_replaced_once_its_claim_has_lapsed() {
    let shelf = MemoryStore::default();
    let (first, second) = (Process::new(&shelf), Process::new(&shelf));
    let mut work = first.held().await;
    work.checkpoint(10, 1).await.unwrap();
    sleep(2 * SECOND).await;
    work.checkpoint(20, 1).await.unwrap();
    first.kill();
    let begun = Instant::now();
    let record = second.held().await.record().clone();
    assert!(begun.elapsed() <= LEASE + SECOND, "{:?}", begun.elapsed());
    assert_eq!((record.next_row, record.bad_rows, record.attempts), (10, 1, 2));
}

#[tokio::test(start_paused = true)]
async fn a_file_that_ends_while_it_is_waited_for_has_ended() {
    let shelf = MemoryStore::default();
    let (first, second) = (Process::new(&shelf), Process::new(&shelf));
    let mut work = first.held().await;
    let waiting = tokio::spawn(async move { second.claimed().await });
    sleep(3 * SECOND).await;
    work.checkpoint(10, 0).await.unwrap();
    work.finish(Status::Done, None).await.unwrap();
    let Claim::Ended(record) = waiting.await.unwrap() else { panic!("the file has ended") };
    assert_eq!((record.status, record.next_row), (Status::Done, 10));
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_claim_is_given_up() {
    let shelf = MemoryStore::default();
    let first = Process::new(&shelf);
    for polls in 0..4 {
        let (path, file) = (drop_path(), file("1"));
        let mut claiming = first.ledger.try_claim(&path, &file, batch());
        for _ in 0..polls {
            assert!(futures::poll!(&mut claiming).is_pending());
        }
        drop(claiming);
    }
    first.ledger.settle().await;
    assert!(matches!(Process::new(&shelf).asked().await, Some(Claim::Held(_))));
}

#[tokio::test(start_paused = true)]
async fn positions_are_written_once_a_second_at_most_and_no_later_than_that() {
    let shelf = MemoryStore::default();
    let process = Process::new(&shelf);
    let mut work = process.held().await;
    let before = process.writes.load(Ordering::SeqCst);
    for row in 1..=1000 {
        work.checkpoint(row, 0).await.unwrap();
        sleep(Duration::from_millis(10)).await;
        assert!(recorded(&shelf).await.next_row + 101 >= row);
    }
    assert!((9..=11).contains(&(process.writes.load(Ordering::SeqCst) - before)));

    // The sink may stand still behind the last one.
    sleep(SECOND).await;
    assert_eq!(recorded(&shelf).await.next_row, 1000);
    let before = process.store.steps();
    sleep(60 * SECOND).await;
    assert_eq!(process.store.steps() - before, 12, "a claim that has nothing to write is renewed every 5 s");
}

#[tokio::test(start_paused = true)]
async fn an_undisturbed_file_costs_a_handful_of_requests() {
    let process = Process::new(&MemoryStore::default());
    let mut work = process.held().await;
    work.checkpoint(10, 0).await.unwrap();
    work.finish(Status::Done, None).await.unwrap();
    assert_eq!((process.writes.load(Ordering::SeqCst), process.store.steps()), (2, 6));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_down_for_a_moment_is_borne() {
    let shelf = MemoryStore::default();
    let process = Process::new(&shelf);
    let mut work = process.held().await;
    process.take_store_away();
    for row in 1..=12 {
        work.checkpoint(row, 0).await.unwrap();
        sleep(SECOND).await;
    }
    process.give_store_back();
    sleep(2 * SECOND).await;
    assert_eq!(recorded(&shelf).await.next_row, 12);
    work.finish(Status::Done, None).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_cannot_be_renewed_is_lost_and_its_worker_told() {
    let shelf = MemoryStore::default();
    let (first, second) = (Process::new(&shelf), Process::new(&shelf));
    let mut zombie = first.held().await;
    first.take_store_away();
    let mut work = second.held().await;
    work.checkpoint(7, 0).await.unwrap();
    first.give_store_back();
    sleep(10 * SECOND).await;
    assert!(zombie.confirm().await.is_err());
    assert!(zombie.checkpoint(99, 0).await.is_err());
    assert!(zombie.finish(Status::Done, None).await.is_err());
    assert_eq!((recorded(&shelf).await.next_row, recorded(&shelf).await.status), (7, Status::Running));
    work.finish(Status::Done, None).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_write_whose_answer_was_lost_is_known_as_our_own() {
    for fate in [Fate::AnswerLost, Fate::DoneUnheard, Fate::Unavailable] {
        let shelf = MemoryStore::default();
        let writes = AtomicU64::new(0);
        let process = Process::meeting(&shelf, move |step, _| {
            let is_hit = step == Step::Write && writes.fetch_add(1, Ordering::SeqCst) % 3 == 1;
            if is_hit { fate } else { Fate::Through }
        });
        let mut work = process.held().await;
        for row in 1..=5 {
            work.checkpoint(row, 0).await.unwrap();
            sleep(3 * SECOND).await;
        }
        work.finish(Status::Done, None).await.unwrap();
        assert_eq!((recorded(&shelf).await.next_row, recorded(&shelf).await.status), (5, Status::Done), "{fate:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_end_that_cannot_be_written_is_an_error_and_the_file_stays_open() {
    let shelf = MemoryStore::default();
    let process = Process::new(&shelf);
    let mut work = process.held().await;
    process.take_store_away();
    assert!(work.finish(Status::Done, None).await.is_err());
    assert_eq!(recorded(&shelf).await.status, Status::Running);
}

/// What happens to a file.
#[derive(Debug, Clone)]
enum Event {
    /// The sink takes some more rows.
    Taken(u64),
    /// Time passes.
    Passes(Duration),
    /// The process is killed.
    Killed,
    /// The run is cancelled, or stops.
    Dropped,
    /// The store goes down for a time.
    StoreDown(Duration),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let some_time = (1_u64..20_000).prop_map(Duration::from_millis);
    let event = prop_oneof![
        4 => (1_u64..50).prop_map(Event::Taken),
        4 => some_time.clone().prop_map(Event::Passes),
        1 => Just(Event::Killed),
        1 => Just(Event::Dropped),
        1 => some_time.prop_map(Event::StoreDown),
    ];
    prop::collection::vec(event, 1..25)
}

/// Plays `events`; after each the recorded position is one that was taken, and what a killed run had taken a second before
/// its end is not forgotten.
async fn play(events: Vec<Event>) {
    let shelf = MemoryStore::default();
    let mut process = Process::new(&shelf);
    let mut work = process.held().await;
    let (mut taken, mut safe) = (0, 0);
    for event in events {
        match event {
            Event::Taken(rows) => {
                let next = work.record().next_row + rows;
                // Where the claim is lost its rows were taken all the same.
                taken = taken.max(next);
                if work.checkpoint(next, 0).await.is_err() {
                    work = process.held().await;
                }
            }
            Event::Passes(time) => {
                advance_in_steps(time).await;
                if time > 2 * SECOND {
                    safe = recorded(&shelf).await.next_row.max(safe);
                }
            }
            Event::Killed => {
                process.kill();
                process = Process::new(&shelf);
                work = process.held().await;
            }
            Event::Dropped => {
                let newest = work.record().next_row;
                drop(work);
                work = process.held().await;
                assert!(work.record().next_row <= taken);
                safe = safe.max(work.record().next_row.min(newest));
            }
            Event::StoreDown(time) => {
                process.take_store_away();
                advance_in_steps(time).await;
                process.give_store_back();
            }
        }
        let position = recorded(&shelf).await.next_row;
        assert!(position <= taken, "row {position} is recorded, and {taken} are taken");
        assert!(position >= safe, "row {position} is recorded, and {safe} were before");
        assert!(work.record().next_row <= taken);
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
    fn no_position_passes_a_row_that_was_not_taken_or_goes_back(events in events()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(play(events));
    }
}
