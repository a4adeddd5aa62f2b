//! Reads the ledger.

use futures::TryStreamExt;

use super::{DropDetail, Snapshot, SnapshotBuilder};
use crate::{
    clock,
    drop::{DropPath, tenant::Tenants},
    ledger::{Ledger, LedgerError},
    store::StoreError,
};

/// Reads where every drop and every customer stands. `tenants` are those of `TENANTS`; without them, each tenant that has
/// ever dropped counts as a customer. Costs two listings with blob metadata.
pub async fn load(ledger: &Ledger, tenants: Option<&Tenants>) -> Result<Snapshot, StoreError> {
    let mut builder = SnapshotBuilder::new(clock::whole_seconds(clock::now()));
    let mut entries = ledger.list_entries();
    while let Some(entry) = entries.try_next().await? {
        builder.add_drop(entry);
    }
    let mut customers = ledger.customers();
    while let Some(customer) = customers.try_next().await? {
        builder.add_customer(customer);
    }
    Ok(builder.finish(tenants))
}

/// Reads where a drop and its files stand; `None` if the ledger does not know the drop. Costs three requests, and one for
/// each file, of a thousand files at most.
pub async fn load_drop(ledger: &Ledger, path: &DropPath) -> Result<Option<DropDetail>, LedgerError> {
    let Some(entry) = ledger.list_entry(path).await? else {
        return Ok(None);
    };
    let record = ledger.drop_record(path).await?;
    let files = ledger.files(path, record.replays).await?;
    Ok(Some(DropDetail::new(entry.into(), files)))
}
