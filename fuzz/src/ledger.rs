//! Records of the ledger: what one says, written again, is the same; what cannot be read is named, and may be begun afresh.

use std::{num::NonZeroUsize, sync::Arc};

use bytes::Bytes;
use tokio::runtime::Builder;
use vivadrop::{
    drop::{DropPath, FileVersion},
    ledger::{Claim, Known, Ledger, LedgerError, Status, blobs::Blobs},
    stage::batch::BatchLimits,
    store::{BlobPath, ETag, Store, WriteIf},
};

use super::memory_store::MemoryStore;

/// The version of the file in the seeds.
const ETAG: &str = "0x8DE2";

/// Takes the bytes for the record of a drop, and for that of a file.
pub fn check(bytes: &[u8]) {
    let runtime = Builder::new_current_thread().enable_time().build().expect("a runtime with a clock starts");
    runtime.block_on(async {
        let store = MemoryStore::default();
        let ledger = Blobs::new(Arc::new(store.clone()), "vivadrop-state");
        for name in ["drop.json", "files/part-0.json.gz.json"] {
            let path = BlobPath::new("vivadrop-state", format!("drops/{}/{name}", there()));
            store.write(&path, Bytes::copy_from_slice(bytes), WriteIf::Always).await.expect("memory takes all");
        }
        of_a_drop(&ledger).await;
        of_a_file(&ledger).await;
        is_begun_afresh(&ledger).await;
        ledger.settle().await;
    });
}

fn there() -> DropPath {
    DropPath::new("datasets", "run")
}

fn file() -> FileVersion {
    FileVersion { name: "part-0.json.gz".into(), etag: ETag(ETAG.into()) }
}

fn batch() -> BatchLimits {
    BatchLimits { rows: NonZeroUsize::MIN, bytes: NonZeroUsize::MIN, message: None }
}

async fn of_a_drop(ledger: &Blobs) {
    match ledger.known(&there()).await {
        Ok(Known { ending: Some(ending), .. }) => {
            let elsewhere = DropPath::new("datasets", "elsewhere");
            ledger.end(&elsewhere, &ending, &Known::default()).await.expect("an ending can be written");
            let again = ledger.known(&elsewhere).await.expect("what was written can be read");
            assert_eq!(again.ending.as_ref(), Some(&ending));
            assert!(again.ending.is_some_and(|again| again.agrees_with(&ending)), "does not agree with itself");
        }
        Ok(Known { ending: None, .. }) => {}
        Err(error) => is_named(&error),
    }
}

async fn of_a_file(ledger: &Blobs) {
    let record = match ledger.files(&there(), &[file()]).await {
        Ok(mut records) => records.remove(&file().name),
        Err(error) => {
            is_named(&error);
            let claim = ledger.try_claim(&there(), &file(), batch()).await;
            return is_named(&claim.err().expect("what cannot be read cannot be claimed"));
        }
    };
    if let Some(record) = &record {
        assert!(record.bad_rows <= record.next_row, "more bad rows than rows");
    }
    match ledger.try_claim(&there(), &file(), batch()).await {
        Ok(Some(Claim::Held(mut work))) => {
            let mut found = work.record().clone();
            if let Some(before) = record {
                assert_eq!(before.status, Status::Running, "what has ended is not worked on");
                assert_eq!(found.attempts, before.attempts.saturating_add(1));
                (found.attempts, found.updated) = (before.attempts, before.updated);
                assert_eq!(found, before);
            } else {
                assert_eq!((found.next_row, found.bad_rows), (0, 0), "another version does not go on");
            }
            work.release().await.expect("memory takes all");
        }
        Ok(Some(Claim::Ended(found))) => assert_eq!(Some(found), record),
        Ok(Some(Claim::AnsweredByAnother) | None) => panic!("nobody else works on it"),
        Err(error) => panic!("what can be read can be claimed: {error}"),
    }
    let again = ledger.files(&there(), &[file()]).await.expect("what was written can be read");
    assert!(again.contains_key(&file().name), "the record is gone");
}

async fn is_begun_afresh(ledger: &Blobs) {
    for new_ids in [false, true] {
        ledger.reopen(&there(), &[file()], batch(), new_ids).await.expect("anything can be begun afresh");
    }
    let known = ledger.known(&there()).await.expect("what was written can be read");
    assert!(known.ending.is_none(), "begun afresh, and has ended");
    let records = ledger.files(&there(), &[file()]).await.expect("what was written can be read");
    assert_eq!(records[&file().name].next_row, 0);
}

/// Whether an error says which record is meant.
fn is_named(error: &LedgerError) {
    let _verdict = error.verdict();
    assert!(matches!(error, LedgerError::Unreadable { .. } | LedgerError::Later { .. }), "{error:?}");
    assert!(error.to_string().contains("`vivadrop-state/drops/datasets/run/"), "{error}");
}
