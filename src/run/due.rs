//! The drops and imports that runs of this process have made due, so that the process need not wait for a sweep.

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
};

use tokio::sync::Notify;

use crate::{
    drop::{DropPath, TenantId},
    store::ETag,
};

/// How many drops are kept. Sweeps find the others in the index.
const MAX_DROPS: usize = 1_000;

/// A drop whose entry in the index was made due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueDrop {
    /// The tenant.
    pub tenant: TenantId,
    /// The drop path.
    pub path: DropPath,
    /// The version of its entry in the index.
    pub entry: ETag,
}

/// The drops that runs have made due, until the process takes them to run them.
#[derive(Debug, Default)]
pub struct DueDrops(Mutex<Vec<DueDrop>>);

impl DueDrops {
    pub(super) fn add(&self, drop: DueDrop) {
        let mut drops = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if drops.len() < MAX_DROPS {
            drops.push(drop);
        }
    }

    /// Takes all drops.
    pub fn take(&self) -> Vec<DueDrop> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The tenants whose imports of attributes are due, until the process takes them to make a pass for each.
#[derive(Debug, Default)]
pub struct DueImports {
    tenants: Mutex<BTreeSet<TenantId>>,
    added: Notify,
}

impl DueImports {
    /// Adds a tenant.
    pub fn add(&self, tenant: TenantId) {
        self.tenants.lock().unwrap_or_else(PoisonError::into_inner).insert(tenant);
        self.added.notify_one();
    }

    /// Takes all tenants.
    pub fn take(&self) -> BTreeSet<TenantId> {
        std::mem::take(&mut *self.tenants.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until there is a tenant, and takes all.
    pub async fn next(&self) -> BTreeSet<TenantId> {
        loop {
            let tenants = self.take();
            if !tenants.is_empty() {
                return tenants;
            }
            self.added.notified().await;
        }
    }
}
