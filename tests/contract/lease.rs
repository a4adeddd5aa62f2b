//! The contract of leases.

use std::time::Duration;

use futures::future::join_all;
use vivadrop::store::{BlobPath, LeaseId, StoreError, WriteIf};

use crate::store::StoreFixture;

const LEASE_TIME: Duration = Duration::from_secs(15);

impl StoreFixture {
    /// Writes a blob and leases it.
    async fn put_leased(&self, name: &str) -> (BlobPath, LeaseId) {
        let path = self.put(name, "1").await.path;
        let lease = self.store.lease(&path, LEASE_TIME).await.unwrap().unwrap();
        (path, lease)
    }
}

/// Whether a call failed because of a lease.
fn is_lease_conflict<T: std::fmt::Debug>(result: Result<T, StoreError>) -> bool {
    matches!(result, Err(StoreError::LeaseConflict(_)))
}

async fn a_blob_has_one_lease_at_a_time(fixture: StoreFixture) {
    let (path, lease) = fixture.put_leased("state").await;
    let another = fixture.another();
    assert_eq!(fixture.store.lease(&path, LEASE_TIME).await.unwrap(), None);
    assert_eq!(another.lease(&path, LEASE_TIME).await.unwrap(), None);
    fixture.store.renew(&path, &lease).await.unwrap();
    assert_eq!(another.lease(&path, LEASE_TIME).await.unwrap(), None);

    fixture.store.release(&path, &lease).await.unwrap();
    let next = another.lease(&path, LEASE_TIME).await.unwrap().unwrap();
    assert_ne!(next, lease);
    assert!(is_lease_conflict(fixture.store.renew(&path, &lease).await));
    assert!(is_lease_conflict(fixture.store.release(&path, &lease).await));
    another.renew(&path, &next).await.unwrap();
}

async fn one_of_several_concurrent_leases_is_granted(fixture: StoreFixture) {
    let path = fixture.put("state", "1").await.path;
    let others: Vec<_> = (0..5).map(|_| fixture.another()).collect();
    let leases = join_all(others.iter().map(|store| store.lease(&path, LEASE_TIME))).await;
    assert_eq!(leases.into_iter().filter_map(Result::unwrap).count(), 1);
}

async fn a_missing_blob_cannot_be_leased(fixture: StoreFixture) {
    let missing = fixture.store.lease(&fixture.path("state"), LEASE_TIME).await;
    assert!(matches!(missing, Err(StoreError::Missing(_))), "{missing:?}");
    fixture.put("other", "1").await;
    let missing = fixture.store.lease(&fixture.path("state"), LEASE_TIME).await;
    assert!(matches!(missing, Err(StoreError::Missing(_))), "{missing:?}");
}

async fn a_leased_blob_is_readable_and_only_the_holder_can_write_it(fixture: StoreFixture) {
    let (_, lease) = fixture.put_leased("state").await;
    let blob = fixture.find("state").await.unwrap();
    assert_eq!(fixture.range(&blob, 0..1).await.unwrap(), "1");
    for condition in [WriteIf::Always, WriteIf::Matches(blob.etag.clone())] {
        assert!(is_lease_conflict(fixture.write("state", "2", condition).await));
    }
    let (_, other) = fixture.put_leased("other").await;
    assert!(is_lease_conflict(fixture.write("state", "2", WriteIf::Leased(blob.etag.clone(), other)).await));

    let etag = fixture.write("state", "2", WriteIf::Leased(blob.etag.clone(), lease.clone())).await.unwrap();
    let stale = fixture.write("state", "3", WriteIf::Leased(blob.etag, lease.clone())).await;
    assert!(matches!(stale, Err(StoreError::Changed(_))), "{stale:?}");
    fixture.write("state", "3", WriteIf::Leased(etag, lease.clone())).await.unwrap();
    // The lease stays on the blob when its version changes.
    assert_eq!(fixture.another().lease(&fixture.path("state"), LEASE_TIME).await.unwrap(), None);
}

async fn a_lapsed_lease_protects_nothing_and_permits_nothing(fixture: StoreFixture) {
    let (path, lease) = fixture.put_leased("state").await;
    let etag = fixture.find("state").await.unwrap().etag;
    fixture.lapse(&path).await;
    assert!(is_lease_conflict(fixture.write("state", "late", WriteIf::Leased(etag.clone(), lease.clone())).await));

    let another = fixture.another();
    let next = another.lease(&path, LEASE_TIME).await.unwrap().unwrap();
    assert!(is_lease_conflict(fixture.write("state", "late", WriteIf::Leased(etag.clone(), lease.clone())).await));
    assert!(is_lease_conflict(fixture.store.renew(&path, &lease).await));
    let etag = another.write(&path, "2".into(), WriteIf::Leased(etag, next.clone())).await.unwrap();
    another.release(&path, &next).await.unwrap();
    assert!(is_lease_conflict(fixture.write("state", "late", WriteIf::Leased(etag.clone(), lease)).await));
    fixture.write("state", "3", WriteIf::Matches(etag)).await.unwrap();
}

async fn a_leased_blob_cannot_be_deleted(fixture: StoreFixture) {
    let (path, lease) = fixture.put_leased("state").await;
    assert!(is_lease_conflict(fixture.store.delete(&path, None).await));
    assert!(fixture.find("state").await.is_some());
    fixture.store.release(&path, &lease).await.unwrap();
    fixture.store.delete(&path, None).await.unwrap();
    assert_eq!(fixture.find("state").await, None);
}

contract![
    a_blob_has_one_lease_at_a_time,
    one_of_several_concurrent_leases_is_granted,
    a_missing_blob_cannot_be_leased,
    a_leased_blob_is_readable_and_only_the_holder_can_write_it,
    a_lapsed_lease_protects_nothing_and_permits_nothing,
    a_leased_blob_cannot_be_deleted,
];
