//! The contract of the ledger, over every store.

use std::sync::Arc;

use futures::future::join_all;
use serde_json::{Value, json};
use tokio::time::Instant;
use vivadrop::{
    batch::BatchLimits,
    drop::{DropPath, FileVersion},
    ledger::{Claim, Ending, Known, Ledger, LedgerError, Scope, Status, Work, blobs::Blobs},
    store::{BlobPath, ETag, Store, read_whole},
    verdict::Reason,
};

use crate::store::StoreFixture as Keeper;

fn drop_path() -> DropPath {
    DropPath::new("datasets", "run/VivaInsights/t")
}

fn file(etag: &str) -> FileVersion {
    FileVersion { name: "more/part-0.json.gz".into(), etag: ETag(etag.into()) }
}

fn batch(rows: usize) -> BatchLimits {
    BatchLimits { rows: rows.try_into().unwrap(), bytes: 1000.try_into().unwrap(), message: None }
}

impl Keeper {
    /// The ledger of a process of its own.
    fn ledger(&self) -> Blobs {
        Blobs::new(self.another(), format!("{}-state", self.container))
    }

    fn at(&self, below: &str) -> BlobPath {
        BlobPath::new(format!("{}-state", self.container), format!("drops/datasets/run/VivaInsights/t/{below}"))
    }

    async fn json(&self, below: &str) -> Value {
        let blob = self.store.find(&self.at(below)).await.unwrap().unwrap();
        let text = read_whole(&*self.store, &blob, 10_000).await.unwrap();
        serde_json::from_slice(&text).unwrap()
    }

    async fn lapse_claim(&self) {
        self.lapse(&self.at("files/more/part-0.json.gz.json")).await;
    }
}

async fn asked(ledger: &Blobs, etag: &str) -> Option<Claim> {
    ledger.try_claim(&drop_path(), &file(etag), batch(10)).await.unwrap()
}

async fn held(ledger: &Blobs, etag: &str) -> Box<dyn Work> {
    match asked(ledger, etag).await {
        Some(Claim::Held(work)) => work,
        Some(Claim::Ended(record)) => panic!("the file has ended: {record:?}"),
        Some(Claim::AnsweredByAnother) | None => panic!("the file is not free"),
    }
}

async fn a_file_has_one_worker_at_a_time(keeper: Keeper) {
    let ledgers: Vec<_> = (0..4).map(|_| keeper.ledger()).collect();
    let claims = join_all(ledgers.iter().map(|ledger| asked(ledger, "1"))).await;
    let held = claims.iter().flatten().filter(|claim| matches!(claim, Claim::Held(_))).count();
    assert_eq!((held, claims.iter().filter(|claim| claim.is_none()).count()), (1, 3));
}

async fn what_a_worker_lets_go_of_another_goes_on_with(keeper: Keeper) {
    let (first, second) = (keeper.ledger(), keeper.ledger());
    let mut work = held(&first, "1").await;
    work.checkpoint(20, 2).await.unwrap();
    drop(work);
    first.settle().await;

    let work = held(&second, "1").await;
    let record = work.record();
    assert_eq!((record.next_row, record.bad_rows, record.attempts), (20, 2, 2));
}

async fn a_worker_that_was_killed_is_replaced_and_cannot_come_back(keeper: Keeper) {
    let (first, second) = (keeper.ledger(), keeper.ledger());
    let mut killed = held(&first, "1").await;
    killed.checkpoint(20, 0).await.unwrap();
    assert!(asked(&second, "1").await.is_none());
    keeper.lapse_claim().await;

    let mut work = held(&second, "1").await;
    assert_eq!(work.record().attempts, 2);
    work.checkpoint(10, 0).await.unwrap();
    assert!(matches!(killed.confirm().await, Err(LedgerError::Lost(_))));
    let late = killed.finish(Status::Done, None).await;
    assert!(matches!(late, Err(LedgerError::Lost(_))), "{late:?}");
    work.finish(Status::SetAside(Reason::Damaged), Some("cut short".into())).await.unwrap();

    let records = first.files(&drop_path(), &[file("1")]).await.unwrap();
    let record = &records["more/part-0.json.gz"];
    assert_eq!((record.status, record.next_row), (Status::SetAside(Reason::Damaged), 10));
}

async fn the_batches_of_the_first_run_count_for_all_later_ones(keeper: Keeper) {
    let ledger = keeper.ledger();
    held(&ledger, "1").await.release().await.unwrap();
    let again = ledger.try_claim(&drop_path(), &file("1"), batch(99)).await.unwrap();
    let Some(Claim::Held(work)) = again else { panic!("the file is not free") };
    assert_eq!(work.record().batch, batch(10));
}

async fn a_new_version_begins_afresh_and_counts_alone(keeper: Keeper) {
    let ledger = keeper.ledger();
    let mut work = held(&ledger, "1").await;
    work.checkpoint(20, 0).await.unwrap();
    work.finish(Status::Done, None).await.unwrap();
    let Some(Claim::Ended(record)) = asked(&ledger, "1").await else { panic!("the file has ended") };
    assert_eq!((record.status, record.next_row), (Status::Done, 20));

    let work = held(&ledger, "2").await;
    assert_eq!((work.record().next_row, work.record().attempts), (0, 1));
    assert!(ledger.files(&drop_path(), &[file("1")]).await.unwrap().is_empty());
    assert_eq!(ledger.files(&drop_path(), &[file("2")]).await.unwrap().len(), 1);
}

async fn a_record_is_for_people_too(keeper: Keeper) {
    let ledger = keeper.ledger();
    let mut work = held(&ledger, "0x8DE2").await;
    work.checkpoint(1500, 3).await.unwrap();
    work.finish(Status::SetAside(Reason::BadRow), Some("row 1501 is not a JSON object".into())).await.unwrap();
    let mut record = keeper.json("files/more/part-0.json.gz.json").await;
    let updated = record["updated"].take();
    let updated = updated.as_str().unwrap();
    assert!(updated.starts_with("20") && updated.ends_with('Z'), "{updated}");
    let expected = json!({
        "version": 1, "etag": "0x8DE2", "status": "set-aside", "nextRow": 1500, "badRows": 3, "attempts": 1,
        "batchRows": 10, "batchBytes": 1000, "updated": null,
        "reason": "bad-row", "message": "row 1501 is not a JSON object",
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
        announced: None,
    }
}

async fn an_ending_is_recorded_over_what_was_known_alone(keeper: Keeper) {
    let (ledger, path) = (keeper.ledger(), drop_path());
    let nothing = ledger.known(&path).await.unwrap();
    assert_eq!(nothing, Known::default());
    ledger.end(&path, &completed("1"), &nothing).await.unwrap();
    let first = ledger.known(&path).await.unwrap();
    assert_eq!(first.ending, Some(completed("1")));

    // Another run that came to the same end at the same time, and one that came to another.
    keeper.ledger().end(&path, &Ending { rows: 8, ..completed("1") }, &nothing).await.unwrap();
    let overtaken = keeper.ledger().end(&path, &completed("2"), &nothing).await;
    assert!(matches!(overtaken, Err(LedgerError::Overtaken(_))), "{overtaken:?}");
    ledger.end(&path, &completed("2"), &first).await.unwrap();
    assert_eq!(keeper.json("drop.json").await["files"], json!([{"name": "more/part-0.json.gz", "etag": "2"}]));
}

async fn what_is_reopened_begins_at_its_first_row(keeper: Keeper) {
    let (ledger, path) = (keeper.ledger(), drop_path());
    let versions = [file("1"), FileVersion { name: "never-seen".into(), etag: ETag("1".into()) }];
    ledger.reopen(&path, &versions, batch(99), true).await.unwrap();
    let mut work = held(&ledger, "1").await;
    work.checkpoint(20, 0).await.unwrap();
    let in_use = keeper.ledger().reopen(&path, &versions, batch(99), true).await;
    assert!(matches!(in_use, Err(LedgerError::InUse(_))), "{in_use:?}");
    work.finish(Status::SetAside(Reason::Refused), None).await.unwrap();
    let known = ledger.known(&path).await.unwrap();
    ledger.end(&path, &completed("1"), &known).await.unwrap();

    ledger.reopen(&path, &versions, batch(99), true).await.unwrap();
    assert_eq!(ledger.known(&path).await.unwrap().ending, None);
    assert_eq!(keeper.json("drop.json").await["status"], "open");
    let work = held(&ledger, "1").await;
    let record = work.record();
    assert_eq!((record.next_row, record.attempts, record.batch), (0, 1, batch(99)));
}

async fn a_claim_that_is_still_held_after_its_time_is_a_living_runs(keeper: Keeper) {
    let Some(long_ago) = Instant::now().checked_sub(vivadrop::ledger::LEASE_RENEWED_AFTER) else { return };
    let _work = held(&keeper.ledger(), "1").await;
    let claim = keeper.ledger().claim(&drop_path(), &file("1"), batch(10), long_ago).await;
    assert!(matches!(claim, Ok(Claim::AnsweredByAnother)));
}

async fn a_record_that_cannot_be_read_is_named_and_keeps_nobody_waiting(keeper: Keeper) {
    let ledger = keeper.ledger();
    let path = keeper.at("files/more/part-0.json.gz.json");
    for (text, expected) in [("{\"version\":2}", "by a later vivadrop"), ("rows", "is no record of the ledger")] {
        let store: &Arc<dyn Store> = &keeper.store;
        store.write(&path, text.into(), vivadrop::store::WriteIf::Always).await.unwrap();
        let Err(error) = ledger.try_claim(&drop_path(), &file("1"), batch(10)).await else { panic!("{text}") };
        assert!(error.to_string().contains(expected) && error.to_string().contains(&path.to_string()), "{error}");
    }
    ledger.reopen(&drop_path(), &[file("1")], batch(10), true).await.unwrap();
    held(&ledger, "1").await;
}

contract![
    a_file_has_one_worker_at_a_time,
    what_a_worker_lets_go_of_another_goes_on_with,
    a_worker_that_was_killed_is_replaced_and_cannot_come_back,
    the_batches_of_the_first_run_count_for_all_later_ones,
    a_new_version_begins_afresh_and_counts_alone,
    a_record_is_for_people_too,
    an_ending_is_recorded_over_what_was_known_alone,
    what_is_reopened_begins_at_its_first_row,
    a_claim_that_is_still_held_after_its_time_is_a_living_runs,
    a_record_that_cannot_be_read_is_named_and_keeps_nobody_waiting,
];
