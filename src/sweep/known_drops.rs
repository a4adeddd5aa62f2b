//! The drops that the ledger knows, as `list/` has them.

use std::collections::{BTreeMap, HashMap};

use futures::TryStreamExt;

use super::inventory;
use crate::{
    clock,
    drop::{DropPath, TenantId, discover::ListingSummary},
    ledger::{Ledger, LedgerError},
    status::ListCopy,
};

/// A drop that the ledger does not know is not started if its newest blob is older than this.
const MAX_AGE: time::Duration = time::Duration::days(30);

/// The drops that the ledger knows.
pub(super) struct KnownDrops {
    /// By a hash of the drop path, because there may be many.
    drops: HashMap<u64, KnownDrop>,
    /// By tenant: the sum of the hashes of its delivered drops.
    pub(super) delivered: BTreeMap<TenantId, u64>,
}

struct KnownDrop {
    is_over: bool,
    listing: ListingSummary,
}

impl KnownDrops {
    /// Reads `list/`. Adds every entry to `copy`.
    pub(super) async fn load(ledger: &Ledger, copy: &mut ListCopy) -> Result<Self, LedgerError> {
        let mut known = Self { drops: HashMap::new(), delivered: BTreeMap::new() };
        let mut entries = ledger.list_entries();
        while let Some(entry) = entries.try_next().await? {
            let sum = known.delivered.entry(entry.tenant).or_default();
            *sum = sum.wrapping_add(entry.delivery_hash());
            known.drops.insert(key(&entry.path), KnownDrop { is_over: entry.is_over, listing: entry.listing });
            copy.add_drop(&entry.into());
        }
        Ok(known)
    }

    /// Whether a drop that was found in a container, and is not in the index, has to be run.
    pub(super) fn is_news(&self, path: &DropPath, listing: &ListingSummary) -> bool {
        match self.drops.get(&key(path)) {
            // The drop was set aside because of too many blobs, and still has too many.
            Some(known) if known.is_over && known.listing.blobs == 0 && listing.blobs == 0 => false,
            Some(known) if known.is_over => listing.has_news_since(&known.listing),
            // The drop is not over, so the index has lost its entry.
            Some(_) => true,
            None => clock::now() - listing.newest <= MAX_AGE,
        }
    }
}

/// Identifies a drop among many.
pub(super) fn key(path: &DropPath) -> u64 {
    inventory::hash(&path.to_string())
}

/// Adds the customers to `copy` and stores it, so that the first view of the operator's page need not list the entries.
pub(super) async fn store_copy(ledger: &Ledger, mut copy: ListCopy) -> Result<(), LedgerError> {
    let mut customers = ledger.customers();
    while let Some(customer) = customers.try_next().await? {
        copy.add_customer(&customer);
    }
    match copy.finish() {
        Some(content) => ledger.write_list_copy(content).await,
        None => Ok(()),
    }
}
