//! The permits of passes: how many passes of a process work at once, and when one stops to let others work.
//!
//! A pass waits for its receiver most of the time, and holds memory meanwhile. So several passes work at once, in the
//! order in which they asked for a permit. A pass that has sent messages for a [`TIME_SLICE`] stops if another pass or
//! a run waits for a permit or for memory. It asks again, and continues at the recorded person.

use std::{sync::Arc, time::Duration};

use futures::{FutureExt, future::select_all};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep_until},
};

use crate::{memory_budget::MemoryBudget, waiters::Waiters};

/// How many passes work at once.
pub(crate) const MAX_PASSES: usize = 4;

/// How many of these passes may be for tenants whose last pass has failed: most of those wait for a receiver that is
/// down.
const MAX_FAILING: usize = 2;

/// How long a pass may send while others wait.
const TIME_SLICE: Duration = Duration::from_secs(10);

/// The permits of the passes of a process.
#[derive(Debug, Clone)]
pub struct PassPermits {
    all: Permits,
    failing: Permits,
}

/// A number of permits, and a count of the passes that wait for one.
#[derive(Debug, Clone)]
struct Permits {
    permits: Arc<Semaphore>,
    waiters: Waiters,
}

/// The right to work on the imports of a tenant. Dropping it lets another pass work.
#[derive(Debug)]
pub(crate) struct PassPermit {
    /// When the time slice is over.
    slice_end: Instant,
    /// Counts the runs and passes that wait for a permit or for memory that this pass holds.
    waiters: Vec<Waiters>,
    permits: Vec<OwnedSemaphorePermit>,
}

impl Default for PassPermits {
    fn default() -> Self {
        Self { all: Permits::new(MAX_PASSES), failing: Permits::new(MAX_FAILING) }
    }
}

impl PassPermits {
    /// Waits for a permit. `is_failing` says that the last pass of the tenant has failed.
    pub(crate) async fn begin(&self, is_failing: bool) -> PassPermit {
        let mut permit = PassPermit { slice_end: Instant::now(), waiters: Vec::new(), permits: Vec::new() };
        for permits in is_failing.then_some(&self.failing).into_iter().chain([&self.all]) {
            permit.permits.push(permits.permit().await);
            permit.waiters.push(permits.waiters.clone());
        }
        permit.restart();
        permit
    }
}

impl Permits {
    fn new(number: usize) -> Self {
        Self { permits: Arc::new(Semaphore::new(number)), waiters: Waiters::default() }
    }

    async fn permit(&self) -> OwnedSemaphorePermit {
        if let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() {
            return permit;
        }
        let _waiting = self.waiters.enter();
        Arc::clone(&self.permits).acquire_owned().await.expect("the semaphore is never closed")
    }
}

impl PassPermit {
    /// Begins a new time slice: the pass has computed a cycle and is about to send it.
    pub(crate) fn restart(&mut self) {
        self.slice_end = Instant::now() + TIME_SLICE;
    }

    /// Ends the time slice also for runs and passes that wait for `memory`, of which this pass holds a part.
    pub(crate) fn make_room_in(&mut self, memory: &MemoryBudget) {
        self.waiters.push(memory.waiters().clone());
    }

    /// Returns when the time slice is over and another run or pass waits.
    pub(crate) async fn is_over(&self) {
        sleep_until(self.slice_end).await;
        select_all(self.waiters.iter().map(|waiters| waiters.any().boxed())).await;
    }
}
