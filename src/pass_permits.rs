//! The turns of passes: how many passes of a process work at once, and when one stops to let others work.
//!
//! A pass waits for its receiver most of the time, and holds memory meanwhile. So several passes work at once, in the
//! order in which they asked for a turn. A pass that has sent messages for a [`TIME_SLICE`] loses its turn if another
//! pass or a run waits for one, or for memory. It asks again, and continues at the recorded person.

use std::{sync::Arc, time::Duration};

use futures::{FutureExt, future::select_all};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep_until},
};

use crate::{memory_budget::MemoryBudget, waiters::Waiters};

/// How many passes work at once.
pub(crate) const MAX_TURNS: usize = 4;

/// How many of these passes may be for tenants whose last pass has failed: most of those wait for a receiver that is
/// down.
const MAX_FAILING: usize = 2;

/// For how long a pass sends before it loses its turn to others.
const TIME_SLICE: Duration = Duration::from_secs(10);

/// The turns of the passes of a process.
#[derive(Debug, Clone)]
pub struct PassTurns {
    all: Turns,
    failing: Turns,
}

/// A number of turns, and a count of the passes that wait for one.
#[derive(Debug, Clone)]
struct Turns {
    permits: Arc<Semaphore>,
    waiters: Waiters,
}

/// The right to work on the imports of a tenant. Dropping it ends the turn.
#[derive(Debug)]
pub(super) struct PassTurn {
    /// When the time slice is over.
    slice_end: Instant,
    /// Counts the runs and passes that wait for a permit or for memory that this pass holds.
    waiters: Vec<Waiters>,
    permits: Vec<OwnedSemaphorePermit>,
}

impl Default for PassTurns {
    fn default() -> Self {
        Self { all: Turns::new(MAX_TURNS), failing: Turns::new(MAX_FAILING) }
    }
}

impl PassTurns {
    /// Waits for a turn. `is_failing` says that the last pass of the tenant has failed.
    pub(super) async fn begin(&self, is_failing: bool) -> PassTurn {
        let mut turn = PassTurn { slice_end: Instant::now(), waiters: Vec::new(), permits: Vec::new() };
        for turns in is_failing.then_some(&self.failing).into_iter().chain([&self.all]) {
            turn.permits.push(turns.permit().await);
            turn.waiters.push(turns.waiters.clone());
        }
        turn.restart();
        turn
    }
}

impl Turns {
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

impl PassTurn {
    /// Begins a new time slice: the pass has computed a cycle and is about to send it.
    pub(super) fn restart(&mut self) {
        self.slice_end = Instant::now() + TIME_SLICE;
    }

    /// Ends the turn also for runs and passes that wait for `memory`, of which this pass holds a part.
    pub(super) fn make_room_in(&mut self, memory: &MemoryBudget) {
        self.waiters.push(memory.waiters().clone());
    }

    /// Returns when the time slice is over and another run or pass waits.
    pub(super) async fn is_over(&self) {
        sleep_until(self.slice_end).await;
        select_all(self.waiters.iter().map(|waiters| waiters.any().boxed())).await;
    }
}
