//! Tests the containers: those that hold drops, and the state container.

use std::time::Duration;

use bytes::Bytes;
use uuid::Uuid;

use super::{Finding, Severity};
use crate::{
    drop::tenant::Tenants,
    store::{BlobPath, Store, StoreError, WriteIf, list_at_most},
};

/// Duration of the probe's lease: the shortest that Azure Storage grants.
const LEASE: Duration = Duration::from_secs(15);

/// How many blobs of a container are counted.
const MAX_LISTED: usize = 5_000;

/// Tests whether the blobs in `container` can be listed.
pub(super) async fn drops_are_listed(store: &dyn Store, container: &str) -> Finding {
    let test = format!("listed `{container}`");
    match list_at_most(store, container, "", MAX_LISTED).await {
        Ok(None) => return Finding::ok("drops", format!("{test}: more than {MAX_LISTED} blobs")),
        Ok(Some(blobs)) if !blobs.is_empty() => {
            return Finding::ok("drops", format!("{test}: {} blobs", blobs.len()));
        }
        Ok(Some(_none)) => {}
        Err(error) => return Finding::of_store_error("drops", &test, &error),
    }
    match store.has_container(container).await {
        Ok(true) => Finding::ok("drops", format!("{test}: no blobs yet")),
        Ok(false) => Finding::fix("drops", format!("{test}: there is no such container")).todo(
            "run `vivadrop onboard --tenant ID`, which creates a customer's container, or check DROP_CONTAINER and TENANTS",
        ),
        Err(error) => Finding::of_store_error("drops", &test, &error),
    }
}

/// Reports places in `TENANTS` that are outside of `containers`: drops there are not admitted.
pub(super) fn unreachable_places(tenants: &Tenants, containers: &[String]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (tenant, place) in tenants.prefixes_outside(containers) {
        let text = format!(
            "TENANTS allows drops of {tenant} in `{place}`, which DROP_CONTAINER does not include: they are not admitted"
        );
        findings.push(Finding::fix("tenants", text).todo("set DROP_CONTAINER=*, or fix the place in TENANTS"));
    }
    findings
}

/// Reports a container in which several tenants may drop: a SAS applies to a whole container, so each of them can write
/// drops in another's name.
pub(super) fn is_shared_by_tenants(tenants: &Tenants, container: &str) -> Option<Finding> {
    let writers = tenants.writers_in_container(container);
    if writers.len() <= 1 {
        return None;
    }
    let text = format!("TENANTS allows drops of {} tenants in `{container}`", writers.len());
    Some(Finding::fix("tenants", text).todo(
        "give each customer who holds a SAS a container of its own (`tenantId=container` in TENANTS, DROP_CONTAINER=*; \
         `vivadrop onboard` creates it): in a shared container each customer can write drops in another's name",
    ))
}

/// Tests whether a blob can be written, leased and deleted in the state container.
pub(super) async fn state_is_writable(store: &dyn Store, container: &str) -> Finding {
    let test = format!("looked up `{container}`");
    match store.has_container(container).await {
        Ok(true) => {}
        Ok(false) => {
            return Finding::new(Severity::Note, "state", format!("{test}: it does not exist yet"))
                .todo("nothing: the first run creates it");
        }
        Err(error) => return Finding::of_store_error("state", &test, &error),
    }
    let probe = BlobPath::new(container, format!("check-{}", Uuid::new_v4()));
    let written = write_and_lease(store, &probe).await;
    // The probe may exist even if a step failed, so it is always deleted.
    let deleted = store.delete(&probe, None).await.map_err(|error| ("deleted", error));
    match written.and(deleted) {
        Ok(()) => Finding::ok("state", format!("wrote, leased and deleted a probe in `{container}`: it works")),
        Err((step, error)) => Finding::of_store_error("state", &format!("{step} the probe `{probe}`"), &error),
    }
}

/// Writes, leases and releases the probe. An error has the step that failed.
async fn write_and_lease(store: &dyn Store, probe: &BlobPath) -> Result<(), (&'static str, StoreError)> {
    let text = Bytes::from_static(b"`vivadrop check` writes this and deletes it again\n");
    store.write(probe, text, WriteIf::Absent).await.map_err(|error| ("wrote", error))?;
    let lease = store.lease(probe, LEASE).await.map_err(|error| ("leased", error))?;
    // The probe's name is random, so no other process can have leased it.
    let lease = lease.ok_or_else(|| ("leased", StoreError::LeaseConflict(probe.clone())))?;
    store.release(probe, &lease).await.map_err(|error| ("released", error))
}
