//! A cache of the last snapshot: the views of a page share one listing of the ledger.
//!
//! A listing takes seconds if there are many drops. A view therefore shows an older snapshot at once, with its true
//! time, while the listing runs in the background. The older snapshot is the last one of this process, or the copy of
//! the entries in storage. Sweeps renew that copy once an hour, and this cache renews it after a listing.

use std::{
    sync::{Arc, Mutex as SyncMutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use axum::http::{HeaderMap, StatusCode, header};
use tokio::{
    sync::Mutex,
    time::{Instant, sleep, timeout},
};
use tracing::debug;
use utoipa::IntoParams;

use super::problem::Problem;
use crate::{
    drop::tenant::Tenants,
    error_chain::error_chain,
    ledger::Ledger,
    status::{ListCopy, Snapshot, load_and_copy, load_copy},
};

/// The maximum age of a snapshot that counts as the current state.
const CURRENT_FOR: Duration = Duration::from_secs(10);

/// The time after which a snapshot is removed from the cache, to free its memory.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(60);

/// How old the copy of the entries may be. Sweeps renew it once an hour; this leaves time for one that is late.
const MAX_COPY_AGE: time::Duration = time::Duration::minutes(90);

/// How often a process renews the copy.
const COPY_EVERY: Duration = Duration::from_secs(60);

/// The time limit of one listing. An answer of the Functions host must come within 230 s.
const LOAD_LIMIT: Duration = Duration::from_secs(100);

/// A snapshot with more drops is freed before the next one is loaded, because both would need too much memory.
const MAX_DROPS_KEPT: usize = 20_000;

/// Which snapshot a request wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// The newest one that is available without waiting.
    Newest,
    /// One that is at most ten seconds old.
    Current,
}

/// In the OpenAPI document: the header that chooses between them.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "only describes requests")]
pub(super) struct CacheControl {
    /// `no-cache` waits for the current state. Otherwise the answer may have an older state, which the server has at
    /// once: up to 90 minutes for the first requests, then up to a minute. `asOf` is its time.
    #[param(rename = "Cache-Control")]
    cache_control: Option<String>,
}

impl Wanted {
    /// Reads the headers of a request: `Cache-Control: no-cache` asks for the current state.
    pub(super) fn by(headers: &HeaderMap) -> Self {
        let mut directives = headers.get_all(header::CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
        let is_no_cache = |directive: &str| directive.trim().eq_ignore_ascii_case("no-cache");
        if directives.any(|value| value.split(',').any(is_no_cache)) { Self::Current } else { Self::Newest }
    }
}

/// The last snapshot. A clone is a handle to the same cache.
#[derive(Debug, Clone)]
pub(super) struct SnapshotCache(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    ledger: Ledger,
    tenants: Option<Tenants>,
    last: SyncMutex<Option<Kept>>,
    /// Held while the copy is read: one request reads it, and the others wait for it.
    reading_copy: Mutex<()>,
    /// Held while the entries are listed. The time is that of the last copy.
    loading: Mutex<Option<Instant>>,
}

#[derive(Debug)]
struct Kept {
    snapshot: Arc<Snapshot>,
    /// When the entries were listed; `None` if the snapshot is a copy.
    loaded: Option<Instant>,
}

impl Kept {
    fn is_current(&self) -> bool {
        self.loaded.is_some_and(|loaded| loaded.elapsed() < CURRENT_FOR)
    }
}

impl SnapshotCache {
    pub(super) fn new(ledger: Ledger, tenants: Option<Tenants>) -> Self {
        let (last, reading_copy, loading) = (SyncMutex::default(), Mutex::default(), Mutex::default());
        Self(Arc::new(Inner { ledger, tenants, last, reading_copy, loading }))
    }

    /// The tenants of `TENANTS`, if it is set.
    pub(super) fn tenants(&self) -> Option<&Tenants> {
        self.0.tenants.as_ref()
    }

    /// Returns the wanted snapshot. Waits for a listing if the request asks for the current state, or if there is no
    /// snapshot yet.
    pub(super) async fn get(&self, wanted: Wanted) -> Result<Arc<Snapshot>, Problem> {
        if wanted == Wanted::Newest
            && let Some(snapshot) = self.newest().await
        {
            return Ok(snapshot);
        }
        self.current().await
    }

    /// Returns the last snapshot, or else the stored copy, and starts a listing in the background. `None` if there is
    /// neither.
    async fn newest(&self) -> Option<Arc<Snapshot>> {
        let mut last = self.last();
        if last.is_none() {
            let _reading = self.0.reading_copy.lock().await;
            last = self.last();
            if last.is_none() {
                // While a listing runs, the caller waits for it instead: both at once would need too much memory.
                let _loading = self.0.loading.try_lock().ok()?;
                let snapshot = Arc::new(load_copy(&self.0.ledger, self.tenants(), MAX_COPY_AGE).await?);
                last = Some(self.keep_copy(snapshot));
            }
        }
        let (snapshot, is_current) = last?;
        if !is_current {
            self.renew();
        }
        Some(snapshot)
    }

    /// The last snapshot, and whether it is at most ten seconds old.
    fn last(&self) -> Option<(Arc<Snapshot>, bool)> {
        self.lock_last().as_ref().map(|kept| (Arc::clone(&kept.snapshot), kept.is_current()))
    }

    fn lock_last(&self) -> MutexGuard<'_, Option<Kept>> {
        self.0.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lists the entries in the background, unless a listing runs already.
    fn renew(&self) {
        if self.0.loading.try_lock().is_ok() {
            let cache = self.clone();
            tokio::spawn(async move {
                if let Err(problem) = cache.current().await {
                    debug!("cannot renew the snapshot: {problem:?}");
                }
            });
        }
    }

    /// A snapshot that is at most ten seconds old. One request loads it, and the others wait for it.
    async fn current(&self) -> Result<Arc<Snapshot>, Problem> {
        let too_slow =
            || Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the storage account takes too long to list the ledger");
        let mut copied = timeout(LOAD_LIMIT, self.0.loading.lock()).await.map_err(|_| too_slow())?;
        if let Some((snapshot, true)) = self.last() {
            return Ok(snapshot);
        }
        self.lock_last().take_if(|kept| kept.snapshot.drops.len() > MAX_DROPS_KEPT);
        let loaded = timeout(LOAD_LIMIT, load_and_copy(&self.0.ledger, self.tenants())).await;
        let (snapshot, copy) = loaded.map_err(|_| too_slow())??;
        let snapshot = Arc::new(snapshot);
        self.keep(Kept { snapshot: Arc::clone(&snapshot), loaded: Some(Instant::now()) });
        if copied.is_none_or(|copied| copied.elapsed() >= COPY_EVERY) {
            *copied = Some(Instant::now());
            tokio::spawn(write_copy(self.0.ledger.clone(), copy));
        }
        Ok(snapshot)
    }

    /// Keeps a copy, unless the entries were listed in the meantime; returns what is kept.
    fn keep_copy(&self, snapshot: Arc<Snapshot>) -> (Arc<Snapshot>, bool) {
        self.last().unwrap_or_else(|| {
            self.keep(Kept { snapshot: Arc::clone(&snapshot), loaded: None });
            (snapshot, false)
        })
    }

    /// Keeps a snapshot, and frees it later, unless a newer one has replaced it.
    fn keep(&self, kept: Kept) {
        let (cache, snapshot) = (Arc::downgrade(&self.0), Arc::downgrade(&kept.snapshot));
        *self.lock_last() = Some(kept);
        tokio::spawn(async move {
            sleep(FORGOTTEN_AFTER).await;
            if let Some(cache) = cache.upgrade() {
                let is_same = |kept: &mut Kept| Weak::ptr_eq(&Arc::downgrade(&kept.snapshot), &snapshot);
                Self(cache).lock_last().take_if(is_same);
            }
        });
    }
}

/// Renews the copy. The operator of `vivadrop page` may not be permitted to write.
async fn write_copy(ledger: Ledger, copy: ListCopy) {
    if let Some(content) = copy.finish()
        && let Err(error) = ledger.write_list_copy(content).await
    {
        debug!("cannot write the copy of the entries: {}", error_chain(&error));
    }
}
