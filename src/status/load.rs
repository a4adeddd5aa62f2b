//! Reads the ledger.

use std::io;

use futures::TryStreamExt;
use time::{Duration, OffsetDateTime};
use tokio::task::spawn_blocking;
use tracing::debug;

use super::{
    DropDetail, DropStatus, Snapshot, SnapshotBuilder,
    copy::{ListCopy, read_copy},
    notes::notes,
};
use crate::{
    clock,
    drop::{DropPath, tenant::Tenants},
    error_chain::error_chain,
    ledger::{Ledger, LedgerError},
    store::StoreError,
};

/// Reads where every drop and every customer stands. `tenants` are those of `TENANTS`; without them, each tenant that
/// has ever dropped counts as a customer. Costs two listings with blob metadata, and those of the [notes](super::Note).
pub async fn load(ledger: &Ledger, tenants: Option<&Tenants>) -> Result<Snapshot, LedgerError> {
    let snapshot = read(ledger, now(), None).await?.finish(tenants);
    with_notes(ledger, tenants, snapshot).await
}

/// As [`load`]; also makes a copy of the entries, for [`load_copy`].
pub async fn load_and_copy(ledger: &Ledger, tenants: Option<&Tenants>) -> Result<(Snapshot, ListCopy), LedgerError> {
    let now = now();
    let mut copy = ListCopy::new(now);
    let builder = read(ledger, now, Some(&mut copy)).await?;
    Ok((with_notes(ledger, tenants, builder.finish(tenants)).await?, copy))
}

async fn with_notes(ledger: &Ledger, tenants: Option<&Tenants>, snapshot: Snapshot) -> Result<Snapshot, LedgerError> {
    let notes = notes(ledger, tenants, &snapshot.customers, snapshot.as_of).await?;
    Ok(Snapshot { notes: Some(notes), ..snapshot })
}

async fn read(
    ledger: &Ledger,
    as_of: OffsetDateTime,
    mut copy: Option<&mut ListCopy>,
) -> Result<SnapshotBuilder, StoreError> {
    let mut builder = SnapshotBuilder::new(as_of);
    let mut drops = ledger.list_entries();
    while let Some(entry) = drops.try_next().await? {
        let drop = DropStatus::from(entry);
        if let Some(copy) = copy.as_deref_mut() {
            copy.add_drop(&drop);
        }
        builder.add_drop(drop);
    }
    let mut customers = ledger.customers();
    while let Some(customer) = customers.try_next().await? {
        if let Some(copy) = copy.as_deref_mut() {
            copy.add_customer(&customer);
        }
        builder.add_customer(customer);
    }
    Ok(builder)
}

/// Reads where every drop and every customer stood when the last copy of the entries was made: the snapshot's time.
/// Reads no notes. `None` if there is no usable copy, or if it is older than `max_age`.
pub async fn load_copy(ledger: &Ledger, tenants: Option<&Tenants>, max_age: Duration) -> Option<Snapshot> {
    let content = match ledger.read_list_copy().await {
        Ok(content) => content?,
        Err(error) => {
            debug!("cannot read the copy of the entries: {}", error_chain(&error));
            return None;
        }
    };
    let tenants = tenants.cloned();
    // A copy from the future was made by a machine whose clock is wrong.
    let is_usable = move |as_of| (Duration::ZERO..=max_age).contains(&(now() - as_of));
    let parsed = spawn_blocking(move || {
        let builder = read_copy(content, is_usable)?;
        Ok(builder.map(|builder| builder.finish(tenants.as_ref())))
    });
    let unreadable = |error: io::Error| debug!("ignored the copy of the entries: {}", error_chain(&error));
    parsed.await.ok()?.map_err(unreadable).ok()?
}

/// The time of a snapshot whose entries are read from now on.
fn now() -> OffsetDateTime {
    clock::whole_seconds(clock::now())
}

/// Reads where a drop and its files stand; `None` if the ledger does not know the drop. `tenants` are those of
/// `TENANTS`, if they are known. Costs three requests, and one for each file, of a thousand files at most.
pub async fn load_drop(
    ledger: &Ledger,
    tenants: Option<&Tenants>,
    path: &DropPath,
) -> Result<Option<DropDetail>, LedgerError> {
    let Some(entry) = ledger.list_entry(path).await? else {
        return Ok(None);
    };
    let record = ledger.drop_record(path).await?;
    let files = ledger.files(path, record.replays).await?;
    let mut drop = DropStatus::from(entry);
    if let Some(tenants) = tenants {
        drop.compare_with(tenants);
    }
    Ok(Some(DropDetail::new(drop, files)))
}
