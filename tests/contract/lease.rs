//! The contract of leases on blobs.

use std::time::Duration;

use futures::future::join_all;
use vivadrop::store::{BlobPath, LeaseId, StoreError, WriteIf};

use crate::store::Keeper;

const TIME: Duration = Duration::from_secs(15);

impl Keeper {
    async fn leased(&self, name: &str) -> (BlobPath, LeaseId) {
        let path = self.put(name, "1").await.path;
        let lease = self.store.lease(&path, TIME).await.unwrap().unwrap();
        (path, lease)
    }
}

fn is_not_held<T: std::fmt::Debug>(answer: Result<T, StoreError>) -> bool {
    matches!(answer, Err(StoreError::LeaseConflict(_)))
}

async fn a_blob_has_one_lease_at_a_time(keeper: Keeper) {
    let (path, lease) = keeper.leased("state").await;
    let another = keeper.another();
    assert_eq!(keeper.store.lease(&path, TIME).await.unwrap(), None);
    assert_eq!(another.lease(&path, TIME).await.unwrap(), None);
    keeper.store.renew(&path, &lease).await.unwrap();
    assert_eq!(another.lease(&path, TIME).await.unwrap(), None);

    keeper.store.release(&path, &lease).await.unwrap();
    let next = another.lease(&path, TIME).await.unwrap().unwrap();
    assert_ne!(next, lease);
    assert!(is_not_held(keeper.store.renew(&path, &lease).await));
    assert!(is_not_held(keeper.store.release(&path, &lease).await));
    another.renew(&path, &next).await.unwrap();
}

async fn one_of_many_who_lease_at_once_gets_it(keeper: Keeper) {
    let path = keeper.put("state", "1").await.path;
    let others: Vec<_> = (0..5).map(|_| keeper.another()).collect();
    let leases = join_all(others.iter().map(|store| store.lease(&path, TIME))).await;
    assert_eq!(leases.into_iter().filter_map(Result::unwrap).count(), 1);
}

async fn what_is_not_there_cannot_be_leased(keeper: Keeper) {
    let missing = keeper.store.lease(&keeper.path("state"), TIME).await;
    assert!(matches!(missing, Err(StoreError::Missing(_))), "{missing:?}");
    keeper.put("other", "1").await;
    let missing = keeper.store.lease(&keeper.path("state"), TIME).await;
    assert!(matches!(missing, Err(StoreError::Missing(_))), "{missing:?}");
}

async fn a_leased_blob_is_read_by_all_and_written_with_its_lease_alone(keeper: Keeper) {
    let (_, lease) = keeper.leased("state").await;
    let blob = keeper.find("state").await.unwrap();
    assert_eq!(keeper.range(&blob, 0..1).await.unwrap(), "1");
    for condition in [WriteIf::Always, WriteIf::Matches(blob.etag.clone())] {
        assert!(is_not_held(keeper.write("state", "2", condition).await));
    }
    let (_, other) = keeper.leased("other").await;
    assert!(is_not_held(keeper.write("state", "2", WriteIf::Leased(blob.etag.clone(), other)).await));

    let etag = keeper.write("state", "2", WriteIf::Leased(blob.etag.clone(), lease.clone())).await.unwrap();
    let stale = keeper.write("state", "3", WriteIf::Leased(blob.etag, lease.clone())).await;
    assert!(matches!(stale, Err(StoreError::Changed(_))), "{stale:?}");
    keeper.write("state", "3", WriteIf::Leased(etag, lease.clone())).await.unwrap();
    // The lease is on the blob, whichever version that is.
    assert_eq!(keeper.another().lease(&keeper.path("state"), TIME).await.unwrap(), None);
}

async fn a_lease_that_lapsed_guards_nothing_and_is_worth_nothing(keeper: Keeper) {
    let (path, lease) = keeper.leased("state").await;
    let etag = keeper.find("state").await.unwrap().etag;
    keeper.lapse(&path).await;
    assert!(is_not_held(keeper.write("state", "late", WriteIf::Leased(etag.clone(), lease.clone())).await));

    let another = keeper.another();
    let next = another.lease(&path, TIME).await.unwrap().unwrap();
    assert!(is_not_held(keeper.write("state", "late", WriteIf::Leased(etag.clone(), lease.clone())).await));
    assert!(is_not_held(keeper.store.renew(&path, &lease).await));
    let etag = another.write(&path, "2".into(), WriteIf::Leased(etag, next.clone())).await.unwrap();
    another.release(&path, &next).await.unwrap();
    assert!(is_not_held(keeper.write("state", "late", WriteIf::Leased(etag.clone(), lease)).await));
    keeper.write("state", "3", WriteIf::Matches(etag)).await.unwrap();
}

async fn a_leased_blob_is_not_deleted(keeper: Keeper) {
    let (path, lease) = keeper.leased("state").await;
    assert!(is_not_held(keeper.store.delete(&path).await));
    assert!(keeper.find("state").await.is_some());
    keeper.store.release(&path, &lease).await.unwrap();
    keeper.store.delete(&path).await.unwrap();
    assert_eq!(keeper.find("state").await, None);
}

contract![
    a_blob_has_one_lease_at_a_time,
    one_of_many_who_lease_at_once_gets_it,
    what_is_not_there_cannot_be_leased,
    a_leased_blob_is_read_by_all_and_written_with_its_lease_alone,
    a_lease_that_lapsed_guards_nothing_and_is_worth_nothing,
    a_leased_blob_is_not_deleted,
];
