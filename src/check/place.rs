//! The containers: where drops lie, and where our own state does.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use uuid::Uuid;

use super::{Finding, State};
use crate::{
    drop::{DropPath, TenantId, tenant::Tenants},
    ledger::{Ledger, Survey},
    store::{BlobPath, Store, StoreError, WriteIf},
};

/// The shortest lease that there is.
const LEASE: Duration = Duration::from_secs(15);

/// How many unreadable records are named.
const NAMED: usize = 5;

/// Whether the drops in `container` can be listed.
pub(super) async fn drops(store: &dyn Store, container: &str) -> Finding {
    let tried = format!("listed `{container}`");
    let blobs = match store.list(container, "").await {
        Ok(blobs) => blobs,
        Err(error) => return Finding::of_store("drops", &tried, &error),
    };
    if !blobs.is_empty() {
        return Finding::well("drops", format!("{tried}: {} blobs", blobs.len()));
    }
    match store.has_container(container).await {
        Ok(true) => Finding::well("drops", format!("{tried}: no blobs yet")),
        Ok(false) => Finding::mend("drops", format!("{tried}: there is no such container"))
            .todo("run `vivadrop onboard --tenant ID`, which makes a customer's container, or check DROP_CONTAINER and TENANTS"),
        Err(error) => Finding::of_store("drops", &tried, &error),
    }
}

/// The places of tenants where no drop is looked at, since none of `containers` has them.
pub(super) fn passed_over(tenants: &Tenants, containers: &[String]) -> Vec<Finding> {
    let told = |(tenant, place): (TenantId, &DropPath)| {
        let text =
            format!("TENANTS lets {tenant} drop in `{place}`, and DROP_CONTAINER does not: its drops are refused");
        Finding::mend("tenants", text).todo("set DROP_CONTAINER=*, or mend the place")
    };
    tenants.places_outside(containers).map(told).collect()
}

/// Whose container it is, where it is several tenants'.
pub(super) fn owners(tenants: &Tenants, container: &str) -> Option<Finding> {
    let writers = tenants.writers(container);
    (writers.len() > 1).then(|| {
        let text = format!("TENANTS lets {} tenants drop in `{container}`", writers.len());
        Finding::mend("tenants", text).todo(
            "give each customer who holds a SAS a container of its own (`tenantId=container` in TENANTS, DROP_CONTAINER=*; \
             `vivadrop onboard` makes it): in a shared one each can drop in another's name",
        )
    })
}

/// Whether a blob can be written, leased and deleted in the state container.
pub(super) async fn state(store: &dyn Store, container: &str) -> Finding {
    match store.has_container(container).await {
        Ok(true) => {}
        Ok(false) => {
            return Finding::new(State::Note, "state", format!("looked for `{container}`: it is not there yet"))
                .todo("nothing: the first run makes it");
        }
        Err(error) => return Finding::of_store("state", &format!("looked for `{container}`"), &error),
    }
    let probe = BlobPath::new(container, format!("check-{}", Uuid::new_v4()));
    let tried = try_out(store, &probe).await;
    // Whatever came of it: what may have been written is taken away.
    let deleted = store.delete(&probe).await.map_err(|error| ("deleted", error));
    match tried.and(deleted) {
        Ok(()) => Finding::well("state", format!("wrote, leased and deleted a probe in `{container}`: it works")),
        Err((step, error)) => Finding::of_store("state", &format!("{step} the probe `{probe}`"), &error),
    }
}

async fn try_out(store: &dyn Store, probe: &BlobPath) -> Result<(), (&'static str, StoreError)> {
    let text = Bytes::from_static(b"`vivadrop check` writes this and deletes it again\n");
    store.write(probe, text, WriteIf::Absent).await.map_err(|error| ("wrote", error))?;
    let lease = store.lease(probe, LEASE).await.map_err(|error| ("leased", error))?;
    // Nobody else knows the probe's name, so nobody else has leased it.
    let lease = lease.ok_or_else(|| ("leased", StoreError::NotHeld(probe.clone())))?;
    store.release(probe, &lease).await.map_err(|error| ("released", error))
}

/// What the ledger says.
pub(super) async fn ledger(store: &Arc<dyn Store>, container: &str) -> Vec<Finding> {
    let tried = format!("read the ledger in `{container}`");
    let survey = match Ledger::new(Arc::clone(store), container).survey().await {
        Ok(survey) => survey,
        Err(error) => return vec![Finding::of_store("ledger", &tried, &error)],
    };
    let Survey { completed, set_aside, reset, files_set_aside, unreadable, unread } = &survey;
    let mut text = format!(
        "{tried}: completed drops: {completed}, set-aside drops: {set_aside}, set-aside files: {files_set_aside}"
    );
    if *reset > 0 {
        text += &format!(", drops begun afresh: {reset}");
    }
    if *unread > 0 {
        text += &format!("; {unread} older records were left unread");
    }
    let is_aside = set_aside + files_set_aside > 0;
    let counts = if is_aside {
        Finding::new(State::Note, "ledger", text)
            .todo("their records say why; once that is mended, `vivadrop replay DROP_PATH`")
    } else {
        Finding::well("ledger", text)
    };
    let broken = unreadable.iter().take(NAMED).map(|why| Finding::mend("ledger", format!("{tried}: {why}")));
    let more = unreadable.len().saturating_sub(NAMED);
    let more = (more > 0).then(|| Finding::mend("ledger", format!("{tried}: {more} more records cannot be read")));
    std::iter::once(counts).chain(broken).chain(more).collect()
}
