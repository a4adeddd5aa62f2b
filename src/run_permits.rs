//! The permits of runs: how many drops a process runs at once, and how many of one tenant.
//!
//! Events, the queue and sweeps share the permits. So a tenant whose drops are large, or whose receiver is slow, has at
//! most two runs in all, and leaves permits to the others.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use crate::drop::TenantId;

/// How many drops a process runs at once, which bounds its memory.
pub(crate) const MAX_RUNS: usize = 4;

/// How many drops of a tenant run at once.
const MAX_PER_TENANT: usize = 2;

/// The permits of the runs of a process. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct RunPermits(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    running: Mutex<BTreeMap<TenantId, usize>>,
    released: Notify,
}

/// The right to run a drop of a tenant. Dropping it ends the run.
#[derive(Debug)]
pub struct RunPermit {
    permits: RunPermits,
    tenant: TenantId,
}

impl RunPermits {
    /// A permit for a run of `tenant`; `None` if the tenant must wait. The last permit is only for a tenant that has no
    /// other run.
    pub fn try_acquire(&self, tenant: TenantId) -> Option<RunPermit> {
        let mut running = self.running();
        let (all, own) = (running.values().sum::<usize>(), running.get(&tenant).copied().unwrap_or_default());
        let is_free = if own == 0 { all < MAX_RUNS } else { own < MAX_PER_TENANT && all + 1 < MAX_RUNS };
        is_free.then(|| {
            *running.entry(tenant).or_default() += 1;
            RunPermit { permits: self.clone(), tenant }
        })
    }

    /// Whether no tenant can get a permit.
    pub fn are_all_taken(&self) -> bool {
        self.running().values().sum::<usize>() >= MAX_RUNS
    }

    /// Waits until not all permits are taken.
    pub async fn wait_for_one(&self) {
        loop {
            let released = self.0.released.notified();
            if !self.are_all_taken() {
                return;
            }
            released.await;
        }
    }

    fn running(&self) -> MutexGuard<'_, BTreeMap<TenantId, usize>> {
        self.0.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for RunPermit {
    fn drop(&mut self) {
        let mut running = self.permits.running();
        if let Some(own) = running.get_mut(&self.tenant) {
            *own -= 1;
            if *own == 0 {
                running.remove(&self.tenant);
            }
        }
        drop(running);
        self.permits.0.released.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn tenant(number: u128) -> TenantId {
        TenantId(Uuid::from_u128(number))
    }

    fn take(permits: &RunPermits, tenants: &[u128]) -> Vec<RunPermit> {
        tenants.iter().filter_map(|&number| permits.try_acquire(tenant(number))).collect()
    }

    #[test]
    fn a_tenant_gets_two_permits_whoever_asks() {
        let permits = RunPermits::default();
        let taken = take(&permits, &[1, 1]);
        assert_eq!((taken.len(), take(&permits.clone(), &[1]).len()), (2, 0));
        assert_eq!(take(&permits, &[2]).len(), 1);
        drop(taken);
        assert_eq!(take(&permits, &[1]).len(), 1);
    }

    #[test]
    fn two_busy_tenants_leave_a_permit_to_a_third() {
        let permits = RunPermits::default();
        let taken = take(&permits, &[1, 1, 2, 2]);
        assert_eq!(taken.len(), 3);
        let last = permits.try_acquire(tenant(3)).unwrap();
        assert!(permits.are_all_taken() && permits.try_acquire(tenant(4)).is_none());
        drop(last);
        assert!(!permits.are_all_taken());
    }
}
