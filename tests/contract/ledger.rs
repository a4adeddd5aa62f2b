//! The contract of the ledger, over every store.

use std::sync::Arc;

use futures::{TryStreamExt, future::join_all};
use serde_json::{Value, json};
use time::macros::datetime;
use tokio::time::Instant;
use vivadrop::{
    batch::BatchLimits,
    directory::{DirectorySnapshot, KnownDirectory},
    drop::{DropPath, FileVersion, TenantId, discover::ListingSummary},
    ledger::{
        Claim, ClaimRequest, ClaimedFile, DropRecord, DropState, FileProgress, LEASE_RENEWED_AFTER, Ledger,
        LedgerError, ListEntry, ProgressFlag, Status, UnfinishedDrop,
    },
    store::{BlobPath, ETag, Store, WriteIf, read_whole},
    verdict::Reason,
};

use crate::store::StoreFixture;

const FILE: &str = "part-0.json.gz";

fn drop_path() -> DropPath {
    DropPath::new("datasets", "run/VivaInsights/t")
}

fn file(etag: &str) -> FileVersion {
    FileVersion { name: FILE.into(), etag: ETag(etag.into()) }
}

fn batch(rows: usize) -> BatchLimits {
    BatchLimits { rows: rows.try_into().unwrap(), bytes: 1000.try_into().unwrap(), message: None }
}

impl StoreFixture {
    /// The ledger as another process sees it.
    fn ledger(&self) -> Ledger {
        Ledger::new(self.another(), format!("{}-state", self.container))
    }

    /// The blob of a record of the drop.
    fn record_path(&self, below: &str) -> BlobPath {
        BlobPath::new(format!("{}-state", self.container), format!("drops/datasets/run/VivaInsights/t/{below}"))
    }

    /// A record of the drop, parsed.
    async fn record(&self, below: &str) -> Value {
        let blob = self.store.find(&self.record_path(below)).await.unwrap().unwrap();
        let text = read_whole(&*self.store, &blob, 10_000).await.unwrap();
        serde_json::from_slice(&text).unwrap()
    }

    /// Writes a version of the data file; returns its ETag.
    async fn put_file(&self) -> String {
        self.store.write(&drop_path().blob(FILE), "rows".into(), WriteIf::Always).await.unwrap().0
    }

    /// Lets the claim on the file lapse without waiting.
    async fn let_lease_lapse(&self) {
        self.lapse(&self.record_path("files/part-0.json.gz.json")).await;
    }
}

/// Claims a version of the file in the first replay of the drop.
fn request(etag: &str) -> ClaimRequest {
    ClaimRequest {
        drop: drop_path(),
        file: file(etag),
        batch: batch(10),
        replays: 0,
        is_new: false,
        progress: ProgressFlag::default(),
        generation: 0,
        keys: "1".parse().unwrap(),
        run: None,
    }
}

/// Tries once to claim this version of the file; `None` if another run has claimed it.
async fn try_claim(ledger: &Ledger, etag: &str) -> Option<Claim> {
    ledger.try_claim(&request(etag)).await.unwrap()
}

/// The recorded progress of this version of the file.
async fn progress(ledger: &Ledger, etag: &str) -> Option<FileProgress> {
    ledger.progress(&drop_path(), &[file(etag)], 0).await.unwrap().remove(FILE)
}

/// Claims this version of the file, which must be free.
async fn acquire(ledger: &Ledger, etag: &str) -> ClaimedFile {
    match try_claim(ledger, etag).await {
        Some(Claim::Acquired(claimed)) => claimed,
        Some(Claim::Ended(record)) => panic!("the file has ended: {record:?}"),
        Some(Claim::HeldByLiveRun | Claim::Outdated) | None => panic!("another run has claimed the file"),
    }
}

async fn a_file_has_one_worker_at_a_time(fixture: StoreFixture) {
    let ledgers: Vec<_> = (0..4).map(|_| fixture.ledger()).collect();
    let claims = join_all(ledgers.iter().map(|ledger| try_claim(ledger, "1"))).await;
    let acquired = claims.iter().flatten().filter(|claim| matches!(claim, Claim::Acquired(_))).count();
    assert_eq!((acquired, claims.iter().filter(|claim| claim.is_none()).count()), (1, 3));
}

async fn a_dropped_file_is_resumed_from_its_checkpoint(fixture: StoreFixture) {
    let (first, second) = (fixture.ledger(), fixture.ledger());
    let mut claimed = acquire(&first, "1").await;
    claimed.checkpoint(20, 2).await.unwrap();
    drop(claimed);
    first.flush().await;

    let claimed = acquire(&second, "1").await;
    let record = claimed.record();
    assert_eq!((record.next_row, record.bad_rows, record.attempts), (20, 2, 2));
}

async fn a_worker_whose_lease_has_lapsed_is_replaced_and_cannot_write(fixture: StoreFixture) {
    let (first, second) = (fixture.ledger(), fixture.ledger());
    let mut lapsed = acquire(&first, "1").await;
    lapsed.checkpoint(20, 0).await.unwrap();
    assert!(try_claim(&second, "1").await.is_none());
    fixture.let_lease_lapse().await;

    let mut claimed = acquire(&second, "1").await;
    assert_eq!(claimed.record().attempts, 2);
    claimed.checkpoint(10, 0).await.unwrap();
    let late = lapsed.finish(Status::Done, None).await;
    assert!(matches!(late, Err(LedgerError::LeaseLost(_))), "{late:?}");
    claimed.finish(Status::SetAside(Reason::Damaged), Some("cut short".into())).await.unwrap();

    let recorded = progress(&first, "1").await.unwrap();
    assert_eq!((recorded.status, recorded.next_row), (Status::SetAside(Reason::Damaged), 10));
    let record = first.file_record(&drop_path(), FILE).await.unwrap().unwrap();
    assert_eq!(record.message.as_deref(), Some("cut short"));
}

async fn later_runs_use_the_batch_limits_of_the_first(fixture: StoreFixture) {
    let ledger = fixture.ledger();
    acquire(&ledger, "1").await.release().await.unwrap();
    let claim = ledger.try_claim(&ClaimRequest { batch: batch(99), ..request("1") }).await.unwrap();
    let Some(Claim::Acquired(claimed)) = claim else { panic!("another run has claimed the file") };
    assert_eq!(claimed.record().batch, batch(10));
}

async fn a_new_version_starts_at_its_first_row_and_replaces_the_old_one(fixture: StoreFixture) {
    let ledger = fixture.ledger();
    let mut claimed = acquire(&ledger, "1").await;
    claimed.checkpoint(20, 0).await.unwrap();
    claimed.finish(Status::Done, None).await.unwrap();
    let Some(Claim::Ended(record)) = try_claim(&ledger, "1").await else { panic!("the file has ended") };
    assert_eq!((record.status, record.next_row), (Status::Done, 20));

    let newest = fixture.put_file().await;
    let claimed = acquire(&ledger, &newest).await;
    assert_eq!((claimed.record().next_row, claimed.record().attempts), (0, 1));
    assert_eq!(progress(&ledger, "1").await, None);
    assert!(progress(&ledger, &newest).await.is_some());
}

async fn a_run_that_waited_for_a_claim_does_not_replace_the_record_of_a_newer_version(fixture: StoreFixture) {
    let ledger = fixture.ledger();
    let [old, newest] = [fixture.put_file().await, fixture.put_file().await];
    acquire(&ledger, &newest).await.finish(Status::Done, None).await.unwrap();
    assert!(matches!(try_claim(&ledger, &old).await, Some(Claim::Outdated)));
    assert_eq!(progress(&ledger, &newest).await.unwrap().status, Status::Done);
}

async fn a_files_record_is_readable_json(fixture: StoreFixture) {
    let ledger = fixture.ledger();
    let mut claimed = acquire(&ledger, "0x8DE2").await;
    claimed.checkpoint(1500, 3).await.unwrap();
    let message = "row 1501 is not a JSON object";
    claimed.finish(Status::SetAside(Reason::BadRow), Some(message.into())).await.unwrap();
    let mut record = fixture.record("files/part-0.json.gz.json").await;
    let updated = record["updated"].take();
    let updated = updated.as_str().unwrap();
    assert!(updated.starts_with("20") && updated.ends_with('Z'), "{updated}");
    let expected = json!({
        "version": 2, "name": "part-0.json.gz", "etag": "0x8DE2", "status": "set-aside", "nextRow": 1500, "badRows": 3, "attempts": 1,
        "keys": "0000000000000001", "batchRows": 10, "batchBytes": 1000, "updated": null,
        "reason": "bad-row", "message": message,
    });
    assert_eq!(record, expected);
}

fn tenant() -> TenantId {
    "9f1c7fd3-1a33-4f2b-9d3c-0a8f6f2d7e10".parse().unwrap()
}

async fn the_record_of_a_drop_overwrites_only_the_version_that_was_read(fixture: StoreFixture) {
    let (ledger, path) = (fixture.ledger(), drop_path());
    let mut record = ledger.drop_record(&path).await.unwrap();
    assert_eq!(record, DropRecord::default());
    ledger.write_drop_record(&path, tenant(), &mut record).await.unwrap();
    assert_eq!(ledger.drop_record(&path).await.unwrap().tenant, Some(tenant()));

    let mut other = record.clone();
    other.sequence = 1;
    fixture.ledger().write_drop_record(&path, tenant(), &mut other).await.unwrap();
    record.sequence = 2;
    let conflict = ledger.write_drop_record(&path, tenant(), &mut record).await;
    assert!(matches!(conflict, Err(LedgerError::Conflict(_))), "{conflict:?}");
    assert_eq!(ledger.drop_record(&path).await.unwrap().sequence, 1);
}

async fn a_replayed_file_starts_at_its_first_row_even_if_a_run_works_on_it(fixture: StoreFixture) {
    let (ledger, path) = (fixture.ledger(), drop_path());
    let mut claimed = acquire(&ledger, "1").await;
    claimed.checkpoint(20, 0).await.unwrap();
    ledger.replay(&path, tenant(), false).await.unwrap();
    claimed.finish(Status::Done, None).await.unwrap();

    let record = ledger.drop_record(&path).await.unwrap();
    assert_eq!((record.replays, record.generation), (1, 0));
    assert!(ledger.progress(&path, &[file("1")], record.replays).await.unwrap().is_empty());
    let again = ClaimRequest { batch: batch(99), replays: 1, ..request("1") };
    let Some(Claim::Acquired(mut claimed)) = ledger.try_claim(&again).await.unwrap() else {
        panic!("the file is free")
    };
    let record = claimed.record();
    // The messages keep their ids, so the batches keep their limits.
    assert_eq!((record.next_row, record.attempts, record.batch), (0, 1, batch(10)));
    claimed.release().await.unwrap();
    // A run that has read the record of the drop before the replay.
    assert!(matches!(try_claim(&ledger, "1").await, Some(Claim::Outdated)));
}

async fn a_replay_with_new_ids_uses_the_current_batch_limits(fixture: StoreFixture) {
    let (ledger, path) = (fixture.ledger(), drop_path());
    acquire(&ledger, "1").await.finish(Status::SetAside(Reason::Refused), None).await.unwrap();
    ledger.replay(&path, tenant(), true).await.unwrap();
    let again = ClaimRequest { batch: batch(99), replays: 1, generation: 1, ..request("1") };
    let Some(Claim::Acquired(claimed)) = ledger.try_claim(&again).await.unwrap() else { panic!("the file is free") };
    assert_eq!(claimed.record().batch, batch(99));
}

async fn a_file_that_was_set_aside_is_claimed_again_with_new_keys(fixture: StoreFixture) {
    let ledger = fixture.ledger();
    let set_aside = async |mut claimed: ClaimedFile, rows, bad_rows| {
        claimed.checkpoint(rows, bad_rows).await.unwrap();
        claimed.finish(Status::SetAside(Reason::BadRow), Some("a bad row".into())).await.unwrap();
    };
    let with_keys = async |keys: &str| {
        let request = ClaimRequest { keys: keys.parse().unwrap(), ..request("1") };
        match ledger.try_claim(&request).await.unwrap() {
            Some(Claim::Acquired(claimed)) => Some(claimed),
            Some(Claim::Ended(_)) => None,
            _ => panic!("the file is free"),
        }
    };
    set_aside(acquire(&ledger, "1").await, 20, 0).await;
    assert!(with_keys("1").await.is_none(), "nothing has changed");
    let claimed = with_keys("2").await.unwrap();
    let record = claimed.record();
    assert_eq!((record.status, record.next_row, &record.message), (Status::Running, 20, &None));
    set_aside(claimed, 30, 5).await;
    let mut claimed = with_keys("1").await.unwrap();
    let record = claimed.record();
    assert_eq!((record.next_row, record.bad_rows, record.batch), (0, 0, batch(10)), "the keys may have made rows bad");
    claimed.finish(Status::Done, None).await.unwrap();
    assert!(with_keys("3").await.is_none(), "every row was delivered");
}

async fn an_entry_that_an_event_has_rewritten_is_not_removed(fixture: StoreFixture) {
    let (ledger, path) = (fixture.ledger(), drop_path());
    let unfinished = async || ledger.unfinished().try_collect::<Vec<UnfinishedDrop>>().await.unwrap();
    assert_eq!(unfinished().await, []);
    let first = ledger.mark_unfinished(&path, tenant(), datetime!(2026-11-22 12:00 UTC)).await.unwrap();
    let listed = UnfinishedDrop {
        path: path.clone(),
        tenant: tenant(),
        not_before: datetime!(2026-11-22 12:00 UTC),
        version: first.clone(),
    };
    assert_eq!(unfinished().await, [listed]);

    let second = ledger.mark_unfinished(&path, tenant(), datetime!(2026-11-22 13:00 UTC)).await.unwrap();
    ledger.postpone(&path, tenant(), datetime!(2026-11-30 12:00 UTC), &first).await.unwrap();
    ledger.remove_unfinished(&path, &first).await.unwrap();
    assert_eq!(unfinished().await[0].not_before, datetime!(2026-11-22 13:00 UTC));
    ledger.remove_unfinished(&path, &second).await.unwrap();
    assert_eq!(unfinished().await, []);
}

async fn a_list_entry_is_read_as_it_was_written(fixture: StoreFixture) {
    let ledger = fixture.ledger();
    let entry = ListEntry {
        path: DropPath::new("datasets", "run/ü b%c"),
        tenant: tenant(),
        state: DropState::SetAside,
        rows: 500,
        expected_rows: Some(1000),
        files_done: 1,
        files_set_aside: 1,
        files: 3,
        since: datetime!(2026-11-22 12:00 UTC),
        attempts: 2,
        next_try: None,
        reason: Some(Reason::TooManyFiles),
        message: Some("the drop has 20,001 “files”".into()),
        is_over: true,
        listing: ListingSummary { blobs: 4, newest: datetime!(2026-11-22 11:00 UTC), digest: u64::MAX },
    };
    ledger.write_list_entry(&entry).await.unwrap();
    assert_eq!(ledger.list_entries().try_collect::<Vec<ListEntry>>().await.unwrap(), std::slice::from_ref(&entry));

    // The fields of this entry do not fit in the blob metadata that Azure allows.
    let path = DropPath::new("datasets", "\u{6F22}".repeat(400));
    let long = ListEntry { path, message: Some("\u{6F22}".repeat(500)), ..entry.clone() };
    ledger.write_list_entry(&long).await.unwrap();
    let entries: Vec<ListEntry> = ledger.list_entries().try_collect().await.unwrap();
    assert!(entries.len() == 2 && entries.contains(&entry) && entries.contains(&long), "{entries:?}");
}

async fn directories_that_end_at_the_same_time_are_all_recorded_and_each_drop_once(fixture: StoreFixture) {
    let directory = |folder: &str, versions: &str, hour| KnownDirectory {
        snapshot: DirectorySnapshot {
            path: DropPath::new("datasets", folder),
            id: Some("5e8f1d2a".into()),
            versions: versions.into(),
        },
        is_complete: versions != "failed",
        ended: datetime!(2026-11-22 00:00 UTC) + time::Duration::hours(hour),
    };
    let ledger = fixture.ledger();
    assert_eq!(ledger.directories(tenant()).await.unwrap(), []);
    let (one, other, newer) = (directory("a", "1", 2), directory("b", "failed", 1), directory("a", "2", 3));
    let processes = [fixture.ledger(), fixture.ledger()];
    let (first, second) =
        tokio::join!(processes[0].record_directory(tenant(), &one), processes[1].record_directory(tenant(), &other));
    first.and(second).unwrap();
    assert_eq!(ledger.directories(tenant()).await.unwrap(), [other.clone(), one]);
    ledger.record_directory(tenant(), &newer).await.unwrap();
    assert_eq!(ledger.directories(tenant()).await.unwrap(), [other, newer.clone()]);
    // A record that somebody has damaged is replaced.
    let path = BlobPath::new(format!("{}-state", fixture.container), format!("directories/{}.json", tenant()));
    fixture.store.write(&path, "{".into(), WriteIf::Always).await.unwrap();
    assert!(matches!(ledger.directories(tenant()).await, Err(LedgerError::Invalid { .. })));
    ledger.record_directory(tenant(), &newer).await.unwrap();
    assert_eq!(ledger.directories(tenant()).await.unwrap(), [newer]);
}

async fn a_record_that_version_1_kept_at_another_path_is_continued(fixture: StoreFixture) {
    let ledger = fixture.ledger();
    let nested = FileVersion { name: "more/part-0.json.gz".into(), etag: ETag("1".into()) };
    let record = json!({
        "version": 1, "etag": "1", "status": "running", "nextRow": 20, "badRows": 2, "attempts": 1,
        "batchRows": 7, "batchBytes": 100, "updated": "2026-11-22T00:00:00Z",
    });
    let path = fixture.record_path("files/more/part-0.json.gz.json");
    fixture.store.write(&path, record.to_string().into(), WriteIf::Absent).await.unwrap();
    let before = ledger.progress(&drop_path(), std::slice::from_ref(&nested), 0).await.unwrap();
    assert_eq!(before[&nested.name].next_row, 20);
    let claim = ledger.try_claim(&ClaimRequest { file: nested, ..request("1") }).await.unwrap();
    let Some(Claim::Acquired(claimed)) = claim else { panic!("the file is free") };
    assert_eq!((claimed.record().next_row, claimed.record().batch.rows.get()), (20, 7));
}

async fn a_file_and_a_drop_whose_records_collided_in_version_1_have_their_own(fixture: StoreFixture) {
    let (ledger, inner) = (fixture.ledger(), DropPath::new("datasets", "run/VivaInsights/t/files/b"));
    let mut record = DropRecord::default();
    ledger.write_drop_record(&inner, tenant(), &mut record).await.unwrap();
    let file = FileVersion { name: "b/drop".into(), etag: ETag("1".into()) };
    let claim = ledger.try_claim(&ClaimRequest { file, ..request("1") }).await.unwrap();
    assert!(matches!(claim, Some(Claim::Acquired(_))));
    assert_eq!(ledger.drop_record(&inner).await.unwrap().tenant, Some(tenant()));
}

async fn a_lease_that_is_still_held_after_its_time_belongs_to_a_live_run(fixture: StoreFixture) {
    let long_ago = Instant::now().checked_sub(LEASE_RENEWED_AFTER);
    let long_ago = long_ago.expect("the machine has run for longer than a lease");
    let _claimed = acquire(&fixture.ledger(), "1").await;
    let claim = fixture.ledger().claim(&request("1"), long_ago).await;
    assert!(matches!(claim, Ok(Claim::HeldByLiveRun)));
}

async fn an_invalid_record_is_an_error_that_names_it_until_it_is_deleted(fixture: StoreFixture) {
    let ledger = fixture.ledger();
    let path = fixture.record_path("files/part-0.json.gz.json");
    for (text, expected) in [("{\"version\":3}", "by a newer vivadrop"), ("rows", "is not a valid ledger record")] {
        let store: &Arc<dyn Store> = &fixture.store;
        store.write(&path, text.into(), WriteIf::Always).await.unwrap();
        let Err(error) = ledger.try_claim(&request("1")).await else { panic!("{text}") };
        assert!(error.to_string().contains(expected) && error.to_string().contains(&path.to_string()), "{error}");
    }
    // The failed claims have released their leases.
    ledger.delete_invalid_records(&drop_path(), &[file("1")]).await.unwrap();
    acquire(&ledger, "1").await;
}

contract![
    a_file_has_one_worker_at_a_time,
    a_dropped_file_is_resumed_from_its_checkpoint,
    a_worker_whose_lease_has_lapsed_is_replaced_and_cannot_write,
    later_runs_use_the_batch_limits_of_the_first,
    a_new_version_starts_at_its_first_row_and_replaces_the_old_one,
    a_files_record_is_readable_json,
    a_run_that_waited_for_a_claim_does_not_replace_the_record_of_a_newer_version,
    the_record_of_a_drop_overwrites_only_the_version_that_was_read,
    a_replayed_file_starts_at_its_first_row_even_if_a_run_works_on_it,
    a_replay_with_new_ids_uses_the_current_batch_limits,
    a_file_that_was_set_aside_is_claimed_again_with_new_keys,
    an_entry_that_an_event_has_rewritten_is_not_removed,
    a_list_entry_is_read_as_it_was_written,
    directories_that_end_at_the_same_time_are_all_recorded_and_each_drop_once,
    a_record_that_version_1_kept_at_another_path_is_continued,
    a_file_and_a_drop_whose_records_collided_in_version_1_have_their_own,
    a_lease_that_is_still_held_after_its_time_belongs_to_a_live_run,
    an_invalid_record_is_an_error_that_names_it_until_it_is_deleted,
];
