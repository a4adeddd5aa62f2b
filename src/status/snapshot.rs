//! All drops and customers, at one time.

use std::{cmp::Reverse, collections::BTreeMap};

use time::OffsetDateTime;

use super::{Customer, DropStatus, Note, State, interval::Expectation};
use crate::{
    drop::{TenantId, tenant::Tenants},
    ledger::CustomerEntry,
};

/// The maximum memory of the drops of a snapshot, in bytes: enough for a year of weekly drops of 1,000 tenants.
const MAX_MEMORY: usize = 32 << 20;

/// Where every drop and every customer stood at one time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// When the ledger was listed.
    pub as_of: OffsetDateTime,
    /// The drops, and a line for each tenant whose drop is overdue; those that changed last come first.
    pub drops: Vec<DropStatus>,
    /// The customers, sorted by tenant id.
    pub customers: Vec<Customer>,
    /// Notes about tenants; `None` if they were not read.
    pub notes: Option<Vec<Note>>,
    /// How many old drops are left out because of the limit on memory.
    pub omitted: u64,
}

impl Snapshot {
    /// The position of a drop in [`Self::drops`].
    pub fn position_of(drop: &DropStatus) -> (Reverse<OffsetDateTime>, Option<&str>, TenantId) {
        (Reverse(drop.since), drop.path.as_deref(), drop.tenant_id)
    }
}

/// Builds a [`Snapshot`] from the entries of the ledger, in any order.
#[derive(Debug)]
pub struct SnapshotBuilder {
    as_of: OffsetDateTime,
    drops: Vec<DropStatus>,
    customers: BTreeMap<TenantId, CustomerEntry>,
    memory: usize,
    max_memory: usize,
    omitted: u64,
}

impl SnapshotBuilder {
    /// A builder of a snapshot at `as_of`.
    pub fn new(as_of: OffsetDateTime) -> Self {
        let customers = BTreeMap::new();
        Self { as_of, drops: Vec::new(), customers, memory: 0, max_memory: MAX_MEMORY, omitted: 0 }
    }

    /// Adds a drop.
    pub fn add_drop(&mut self, drop: DropStatus) {
        self.memory += drop.memory();
        self.drops.push(drop);
        if self.memory > self.max_memory {
            self.omit_oldest();
        }
    }

    /// Adds a customer.
    pub fn add_customer(&mut self, entry: CustomerEntry) {
        self.customers.insert(entry.tenant, entry);
    }

    /// Completes the snapshot. Its customers are `tenants`, or, without them, all tenants with a drop or with an entry
    /// of a customer. Only customers can be overdue.
    pub fn finish(self, tenants: Option<&Tenants>) -> Snapshot {
        let Self { as_of, mut drops, mut customers, omitted, .. } = self;
        match tenants {
            Some(tenants) => {
                drops.iter_mut().for_each(|drop| drop.compare_with(tenants));
                let tenants = tenants.ids();
                customers.retain(|tenant, _| tenants.contains(tenant));
                for tenant in tenants {
                    customers.entry(tenant).or_insert_with(|| CustomerEntry::new(tenant));
                }
            }
            None => {
                for drop in &drops {
                    customers.entry(drop.tenant_id).or_insert_with(|| CustomerEntry::new(drop.tenant_id));
                }
            }
        }
        let mut by_tenant = BTreeMap::<_, (Vec<(bool, OffsetDateTime)>, Option<&DropStatus>)>::new();
        for drop in &drops {
            let (arrivals, last) = by_tenant.entry(drop.tenant_id).or_default();
            arrivals.push((drop.is_directory(), drop.arrived));
            if last.is_none_or(|last| last.arrived < drop.arrived) {
                *last = Some(drop);
            }
        }
        let mut overdue = Vec::new();
        let customers = customers.into_values().map(|entry| {
            let (arrivals, last) = by_tenant.remove(&entry.tenant).unwrap_or_default();
            // Directories that arrive must not hide that the analytics data is late.
            let are_all_directories = arrivals.iter().all(|(is_directory, _)| *is_directory);
            let counts = arrivals.into_iter().filter(|(is_directory, _)| are_all_directories || !is_directory);
            let expected = Expectation::of(&mut counts.map(|(_, arrived)| arrived).collect::<Vec<_>>());
            if let Some(expected) = expected.filter(|expected| expected.is_overdue(as_of)) {
                overdue.push(DropStatus::overdue(entry.tenant, expected.due));
            }
            let paused = tenants.map(|tenants| tenants.is_paused(entry.tenant));
            Customer::new(entry, paused, last, expected, as_of)
        });
        let customers = customers.collect();
        drops.extend(overdue);
        drops.sort_by(|a, b| Snapshot::position_of(a).cmp(&Snapshot::position_of(b)));
        Snapshot { as_of, drops, customers, notes: None, omitted }
    }

    /// Leaves out a quarter of the drops: the oldest of the completed ones, then the oldest of the others.
    fn omit_oldest(&mut self) {
        self.drops.sort_unstable_by_key(|drop| (drop.state == State::Completed, Reverse(drop.arrived)));
        let kept = self.drops.len() - self.drops.len().div_ceil(4);
        self.omitted += (self.drops.len() - kept) as u64;
        self.drops.truncate(kept);
        self.memory = self.drops.iter().map(DropStatus::memory).sum();
    }
}

#[cfg(test)]
mod tests;
