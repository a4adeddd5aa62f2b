//! Keeps the last snapshot for some seconds: the views of a page that is loaded share one listing.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::{
    sync::Mutex,
    time::{Instant, sleep, timeout},
};

use super::problem::Problem;
use crate::{
    drop::tenant::Tenants,
    ledger::Ledger,
    status::{Snapshot, load},
};

/// How old a snapshot may be.
const FRESH_FOR: Duration = Duration::from_secs(10);

/// When the memory of a snapshot is freed.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(60);

/// How long the ledger may take. An answer of the Functions host must come within 230 s.
const LOAD_LIMIT: Duration = Duration::from_secs(100);

type Current = Mutex<Option<(Instant, Arc<Snapshot>)>>;

/// The last snapshot. One request loads it, and the others wait for it.
#[derive(Debug)]
pub(super) struct SnapshotCache {
    ledger: Ledger,
    tenants: Option<Tenants>,
    current: Arc<Current>,
}

impl SnapshotCache {
    pub(super) fn new(ledger: Ledger, tenants: Option<Tenants>) -> Self {
        Self { ledger, tenants, current: Arc::default() }
    }

    /// The tenants of `TENANTS`, if it is set.
    pub(super) fn tenants(&self) -> Option<&Tenants> {
        self.tenants.as_ref()
    }

    /// A snapshot that is at most ten seconds old.
    pub(super) async fn get(&self) -> Result<Arc<Snapshot>, Problem> {
        let mut current = self.current.lock().await;
        if let Some((loaded, snapshot)) = &*current
            && loaded.elapsed() < FRESH_FOR
        {
            return Ok(Arc::clone(snapshot));
        }
        // Two snapshots at once would need twice the memory.
        *current = None;
        let loaded = timeout(LOAD_LIMIT, load(&self.ledger, self.tenants.as_ref())).await;
        let snapshot = loaded.map_err(|_| {
            Problem::new(
                axum::http::StatusCode::SERVICE_UNAVAILABLE,
                "the storage account takes too long to list the ledger",
            )
        })??;
        let snapshot = Arc::new(snapshot);
        *current = Some((Instant::now(), Arc::clone(&snapshot)));
        tokio::spawn(forget(Arc::downgrade(&self.current), Arc::downgrade(&snapshot)));
        Ok(snapshot)
    }
}

/// Frees the snapshot later, unless a newer one has replaced it.
async fn forget(current: Weak<Current>, snapshot: Weak<Snapshot>) {
    sleep(FORGOTTEN_AFTER).await;
    if let Some(current) = current.upgrade() {
        current.lock().await.take_if(|(_, kept)| Weak::ptr_eq(&Arc::downgrade(kept), &snapshot));
    }
}
