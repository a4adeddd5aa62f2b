//! Records of the ledger: a parsed record that is written again is the same; an error names the invalid record; a
//! replay replaces it.

use std::{num::NonZeroUsize, sync::Arc};

use bytes::Bytes;
use tokio::runtime::Builder;
use vivadrop::{
    batch::BatchLimits,
    drop::{DropPath, FileVersion, TenantId},
    ledger::{Claim, ClaimRequest, FileRecord, KeysVersion, Ledger, LedgerError, ProgressFlag, Status},
    store::{BlobPath, ETag, Store, WriteIf},
};

use super::memory_store::MemoryStore;

/// The version of the file in the seeds.
const ETAG: &str = "0x8DE2";

/// Parses the bytes as the record of a drop, and as the record of a file.
pub fn check(bytes: &[u8]) {
    let runtime = Builder::new_current_thread().enable_time().build().expect("a runtime with a clock starts");
    runtime.block_on(async {
        let store = MemoryStore::default();
        let ledger = Ledger::new(Arc::new(store.clone()), "vivadrop-state");
        for name in ["drop.json", "files/part-0.json.gz.json"] {
            let path = BlobPath::new("vivadrop-state", format!("drops/{}/{name}", drop_path()));
            store
                .write(&path, Bytes::copy_from_slice(bytes), WriteIf::Always)
                .await
                .expect("memory accepts all writes");
        }
        check_drop_record(&ledger).await;
        check_file_record(&ledger).await;
        check_replay(&ledger).await;
        ledger.flush().await;
    });
}

fn drop_path() -> DropPath {
    DropPath::new("datasets", "run")
}

fn file() -> FileVersion {
    FileVersion { name: "part-0.json.gz".into(), etag: ETag(ETAG.into()) }
}

fn tenant() -> TenantId {
    "9f1c7fd3-1a33-4f2b-9d3c-0a8f6f2d7e10".parse().expect("a GUID")
}

fn request(replays: u32) -> ClaimRequest {
    ClaimRequest {
        drop: drop_path(),
        file: file(),
        batch: batch(),
        replays,
        is_new: false,
        progress: ProgressFlag::default(),
        generation: 0,
        keys: keys(),
        run: None,
    }
}

fn keys() -> KeysVersion {
    "1".parse().expect("a number")
}

fn batch() -> BatchLimits {
    BatchLimits { rows: NonZeroUsize::MIN, bytes: NonZeroUsize::MIN, message: None }
}

async fn check_drop_record(ledger: &Ledger) {
    match ledger.drop_record(&drop_path()).await {
        Ok(record) => {
            let copy = DropPath::new("datasets", "copy");
            let mut written = ledger.drop_record(&copy).await.expect("there is no record");
            (written.ending, written.failing) = (record.ending.clone(), record.failing.clone());
            ledger.write_drop_record(&copy, tenant(), &mut written).await.expect("a parsed record can be written");
            let copied = ledger.drop_record(&copy).await.expect("a written record can be read");
            assert_eq!(copied.ending.map(|ending| ending.scope), record.ending.map(|ending| ending.scope));
        }
        Err(error) => assert_names_record(&error),
    }
}

async fn check_file_record(ledger: &Ledger) {
    let record = match ledger.file_record(&drop_path(), &file().name).await {
        Ok(record) => record.filter(|record| record.file == file()),
        Err(error) => {
            assert_names_record(&error);
            let claim = ledger.try_claim(&request(0)).await;
            return assert_names_record(&claim.err().expect("a file with an invalid record cannot be claimed"));
        }
    };
    if let Some(record) = &record {
        assert!(record.bad_rows <= record.next_row, "more bad rows than rows");
    }
    match ledger.try_claim(&request(record.as_ref().map_or(0, |record| record.replays))).await {
        Ok(Some(Claim::Acquired(mut claimed))) => {
            let found = claimed.record().clone();
            if let Some(before) = record {
                assert!(!before.progress().has_ended(keys()), "a file that has ended cannot be claimed");
                let attempts = before.attempts.saturating_add(1);
                let mut expected = FileRecord { attempts, keys: Some(keys()), updated: found.updated, ..before };
                if let Status::SetAside(_) = expected.status {
                    (expected.status, expected.panics, expected.message) = (Status::Running, 0, None);
                    if expected.bad_rows > 0 {
                        (expected.next_row, expected.bad_rows) = (0, 0);
                    }
                }
                assert_eq!(found, expected);
            } else {
                assert_eq!((found.next_row, found.bad_rows), (0, 0), "another version starts at its first row");
            }
            claimed.release().await.expect("memory accepts all writes");
        }
        Ok(Some(Claim::Ended(found))) => assert_eq!(Some(found), record),
        // The record is about another version than the one that is listed.
        Ok(Some(Claim::Outdated)) => assert_eq!(record, None),
        Ok(Some(Claim::HeldByLiveRun) | None) => panic!("no other run works on the file"),
        Err(error) => panic!("a file with a valid record can be claimed: {error}"),
    }
}

async fn check_replay(ledger: &Ledger) {
    for new_ids in [false, true] {
        match ledger.replay(&drop_path(), tenant(), new_ids).await {
            Ok(()) => {}
            Err(error) => return assert_names_record(&error),
        }
    }
    let record = ledger.drop_record(&drop_path()).await.expect("a written record can be read");
    assert!(record.ending.is_none(), "a replayed drop has an ending");
}

fn assert_names_record(error: &LedgerError) {
    let _verdict = error.verdict();
    assert!(matches!(error, LedgerError::Invalid { .. } | LedgerError::NewerVersion { .. }), "{error:?}");
    assert!(error.to_string().contains("`vivadrop-state/drops/datasets/run/"), "{error}");
}
