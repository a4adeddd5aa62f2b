//! The contract of the ledger, over every store.

use std::sync::Arc;

use futures::future::join_all;
use serde_json::{Value, json};
use tokio::time::Instant;
use vivadrop::{
    batch::BatchLimits,
    drop::{DropPath, FileVersion},
    ledger::{Claim, ClaimedFile, DropRecord, Ending, LEASE_RENEWED_AFTER, Ledger, LedgerError, Scope, Status},
    store::{BlobPath, ETag, Store, WriteIf, read_whole},
    verdict::Reason,
};

use crate::store::StoreFixture;

const FILE: &str = "more/part-0.json.gz";

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

    fn record_path(&self, below: &str) -> BlobPath {
        BlobPath::new(format!("{}-state", self.container), format!("drops/datasets/run/VivaInsights/t/{below}"))
    }

    async fn record(&self, below: &str) -> Value {
        let blob = self.store.find(&self.record_path(below)).await.unwrap().unwrap();
        let text = read_whole(&*self.store, &blob, 10_000).await.unwrap();
        serde_json::from_slice(&text).unwrap()
    }

    async fn let_lease_lapse(&self) {
        self.lapse(&self.record_path("files/more/part-0.json.gz.json")).await;
    }
}

async fn try_claim(ledger: &Ledger, etag: &str) -> Option<Claim> {
    ledger.try_claim(&drop_path(), &file(etag), batch(10)).await.unwrap()
}

async fn acquire(ledger: &Ledger, etag: &str) -> ClaimedFile {
    match try_claim(ledger, etag).await {
        Some(Claim::Acquired(claimed)) => claimed,
        Some(Claim::Ended(record)) => panic!("the file has ended: {record:?}"),
        Some(Claim::HeldByLiveRun) | None => panic!("another run has claimed the file"),
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
    assert!(matches!(lapsed.confirm().await, Err(LedgerError::LeaseLost(_))));
    let late = lapsed.finish(Status::Done, None).await;
    assert!(matches!(late, Err(LedgerError::LeaseLost(_))), "{late:?}");
    claimed.finish(Status::SetAside(Reason::Damaged), Some("cut short".into())).await.unwrap();

    let records = first.file_records(&drop_path(), &[file("1")]).await.unwrap();
    assert_eq!((records[FILE].status, records[FILE].next_row), (Status::SetAside(Reason::Damaged), 10));
}

async fn later_runs_use_the_batch_limits_of_the_first(fixture: StoreFixture) {
    let ledger = fixture.ledger();
    acquire(&ledger, "1").await.release().await.unwrap();
    let claim = ledger.try_claim(&drop_path(), &file("1"), batch(99)).await.unwrap();
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

    let claimed = acquire(&ledger, "2").await;
    assert_eq!((claimed.record().next_row, claimed.record().attempts), (0, 1));
    assert!(ledger.file_records(&drop_path(), &[file("1")]).await.unwrap().is_empty());
    assert_eq!(ledger.file_records(&drop_path(), &[file("2")]).await.unwrap().len(), 1);
}

async fn a_files_record_is_readable_json(fixture: StoreFixture) {
    let ledger = fixture.ledger();
    let mut claimed = acquire(&ledger, "0x8DE2").await;
    claimed.checkpoint(1500, 3).await.unwrap();
    let message = "row 1501 is not a JSON object";
    claimed.finish(Status::SetAside(Reason::BadRow), Some(message.into())).await.unwrap();
    let mut record = fixture.record("files/more/part-0.json.gz.json").await;
    let updated = record["updated"].take();
    let updated = updated.as_str().unwrap();
    assert!(updated.starts_with("20") && updated.ends_with('Z'), "{updated}");
    let expected = json!({
        "version": 1, "etag": "0x8DE2", "status": "set-aside", "nextRow": 1500, "badRows": 3, "attempts": 1,
        "batchRows": 10, "batchBytes": 1000, "updated": null,
        "reason": "bad-row", "message": message,
    });
    assert_eq!(record, expected);
}

fn completed(etag: &str) -> Ending {
    let metadata = FileVersion { name: "metadata/JobMetadata/Metadata.json".into(), etag: ETag("m".into()) };
    Ending {
        scope: Scope::Files(metadata, vec![file(etag)]),
        reason: None,
        message: None,
        rows: 7,
        bad_rows: 1,
        notification: None,
    }
}

async fn an_ending_overwrites_only_the_record_that_was_read(fixture: StoreFixture) {
    let (ledger, path) = (fixture.ledger(), drop_path());
    let none = ledger.drop_record(&path).await.unwrap();
    assert_eq!(none, DropRecord::default());
    ledger.record_ending(&path, &completed("1"), &none).await.unwrap();
    let first = ledger.drop_record(&path).await.unwrap();
    assert_eq!(first.ending, Some(completed("1")));

    // Two other runs end the drop at the same time: one with the same ending, one with another.
    fixture.ledger().record_ending(&path, &Ending { rows: 8, ..completed("1") }, &none).await.unwrap();
    let conflict = fixture.ledger().record_ending(&path, &completed("2"), &none).await;
    assert!(matches!(conflict, Err(LedgerError::Conflict(_))), "{conflict:?}");
    ledger.record_ending(&path, &completed("2"), &first).await.unwrap();
    assert_eq!(fixture.record("drop.json").await["files"], json!([{"name": FILE, "etag": "2"}]));
}

async fn a_reset_file_starts_at_its_first_row(fixture: StoreFixture) {
    let (ledger, path) = (fixture.ledger(), drop_path());
    let versions = [file("1"), FileVersion { name: "never-claimed".into(), etag: ETag("1".into()) }];
    ledger.reset(&path, &versions, batch(99), true).await.unwrap();
    let mut claimed = acquire(&ledger, "1").await;
    claimed.checkpoint(20, 0).await.unwrap();
    let in_use = fixture.ledger().reset(&path, &versions, batch(99), true).await;
    assert!(matches!(in_use, Err(LedgerError::InUse(_))), "{in_use:?}");
    claimed.finish(Status::SetAside(Reason::Refused), None).await.unwrap();
    let record = ledger.drop_record(&path).await.unwrap();
    ledger.record_ending(&path, &completed("1"), &record).await.unwrap();

    ledger.reset(&path, &versions, batch(99), true).await.unwrap();
    assert_eq!(ledger.drop_record(&path).await.unwrap().ending, None);
    assert_eq!(fixture.record("drop.json").await["status"], "open");
    let claimed = acquire(&ledger, "1").await;
    let record = claimed.record();
    assert_eq!((record.next_row, record.attempts, record.batch), (0, 1, batch(99)));
}

async fn a_lease_that_is_still_held_after_its_time_belongs_to_a_live_run(fixture: StoreFixture) {
    let Some(long_ago) = Instant::now().checked_sub(LEASE_RENEWED_AFTER) else { return };
    let _claimed = acquire(&fixture.ledger(), "1").await;
    let claim = fixture.ledger().claim(&drop_path(), &file("1"), batch(10), long_ago).await;
    assert!(matches!(claim, Ok(Claim::HeldByLiveRun)));
}

async fn an_invalid_record_is_an_error_that_names_it_and_can_be_reset(fixture: StoreFixture) {
    let ledger = fixture.ledger();
    let path = fixture.record_path("files/more/part-0.json.gz.json");
    for (text, expected) in [("{\"version\":2}", "by a newer vivadrop"), ("rows", "is not a valid ledger record")] {
        let store: &Arc<dyn Store> = &fixture.store;
        store.write(&path, text.into(), WriteIf::Always).await.unwrap();
        let Err(error) = ledger.try_claim(&drop_path(), &file("1"), batch(10)).await else { panic!("{text}") };
        assert!(error.to_string().contains(expected) && error.to_string().contains(&path.to_string()), "{error}");
    }
    // The failed claims have released their leases.
    ledger.reset(&drop_path(), &[file("1")], batch(10), true).await.unwrap();
    acquire(&ledger, "1").await;
}

contract![
    a_file_has_one_worker_at_a_time,
    a_dropped_file_is_resumed_from_its_checkpoint,
    a_worker_whose_lease_has_lapsed_is_replaced_and_cannot_write,
    later_runs_use_the_batch_limits_of_the_first,
    a_new_version_starts_at_its_first_row_and_replaces_the_old_one,
    a_files_record_is_readable_json,
    an_ending_overwrites_only_the_record_that_was_read,
    a_reset_file_starts_at_its_first_row,
    a_lease_that_is_still_held_after_its_time_belongs_to_a_live_run,
    an_invalid_record_is_an_error_that_names_it_and_can_be_reset,
];
