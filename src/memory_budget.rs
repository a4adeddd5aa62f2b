//! A bound on the memory that all runs and passes of the process share.

use std::{iter, sync::Arc, time::Duration};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use crate::waiters::Waiters;

/// The bytes of one permit.
const UNIT: usize = 1 << 10;

/// How long a table waits for memory. If it needs more than a share, the tables after it may wait as well, even if a
/// share is free for them.
const MAX_WAIT: Duration = Duration::from_secs(15);

/// Bounds the memory that the tables of all runs and passes take together. A run that needs more than is free waits
/// until others free theirs. Requests are served in order, so a large request delays those after it.
///
/// Several large reservations together take five eighths at most, because they may be held for a long time: three
/// eighths are left for the tables that need no more than a share. A single large reservation may take everything.
#[derive(Debug, Clone)]
pub struct MemoryBudget {
    permits: Arc<Semaphore>,
    /// The permits that large reservations need in addition: five eighths of `units`.
    large: Arc<Semaphore>,
    units: u32,
    waiters: Waiters,
}

/// A reserved part of a [`MemoryBudget`]; dropping it frees the memory.
#[derive(Debug)]
pub struct Reservation {
    permits: OwnedSemaphorePermit,
    /// `None` if the reservation is not large.
    large: Option<OwnedSemaphorePermit>,
}

impl MemoryBudget {
    /// A budget of `bytes`: at least the size of the largest table.
    pub fn new(bytes: usize) -> Self {
        let units = units(bytes);
        let [permits, large] = [units, large_units(units)].map(|units| Arc::new(Semaphore::new(units as usize)));
        Self { permits, large, units, waiters: Waiters::default() }
    }

    /// The size of the whole budget, in bytes.
    pub fn bytes(&self) -> usize {
        self.units as usize * UNIT
    }

    /// The share of one table, in bytes, if this number of `tables` divides the budget equally.
    pub(crate) fn share(&self, tables: usize) -> usize {
        self.bytes() / tables
    }

    /// Waits until `bytes` are free, and reserves them. Reserves the whole budget if `bytes` is larger.
    pub async fn reserve(&self, bytes: usize) -> Reservation {
        let permits = self.acquire(&self.permits, units(bytes).min(self.units)).await;
        Reservation { permits, large: None }
    }

    /// Reserves as [`reserve`](Self::reserve) does. Returns `None` if the memory is not free within [`MAX_WAIT`].
    pub(crate) async fn reserve_soon(&self, bytes: usize) -> Option<Reservation> {
        timeout(MAX_WAIT, self.reserve(bytes)).await.ok()
    }

    /// Reserves more than a share, within the part of the budget that large reservations can have together. Returns
    /// `None` if that part, or then the memory, is not free within [`MAX_WAIT`].
    pub(crate) async fn reserve_large(&self, bytes: usize) -> Option<Reservation> {
        let large = self.acquire(&self.large, units(bytes).min(large_units(self.units)));
        let large = timeout(MAX_WAIT, large).await.ok();
        Some(Reservation { large: Some(large?), ..self.reserve_soon(bytes).await? })
    }

    /// Waits until this many permits are free, and takes them.
    async fn acquire(&self, semaphore: &Arc<Semaphore>, units: u32) -> OwnedSemaphorePermit {
        if let Ok(permits) = Arc::clone(semaphore).try_acquire_many_owned(units) {
            return permits;
        }
        let _waiting = self.waiters.enter();
        let permits = Arc::clone(semaphore).acquire_many_owned(units).await;
        permits.expect("the semaphore is never closed")
    }

    /// The counter of the runs and passes that wait for memory.
    pub(crate) fn waiters(&self) -> &Waiters {
        &self.waiters
    }
}

impl Reservation {
    /// Its size in bytes.
    pub fn bytes(&self) -> usize {
        self.permits.num_permits() * UNIT
    }

    /// Frees the reserved memory except for `bytes`.
    pub fn shrink_to(&mut self, bytes: usize) {
        for permits in iter::once(&mut self.permits).chain(&mut self.large) {
            let excess = permits.num_permits().saturating_sub(units(bytes) as usize);
            drop(permits.split(excess));
        }
    }
}

fn units(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX)
}

/// How much of a budget of `units` the large reservations can have together, so that three shares are left if eight
/// tables share the budget.
fn large_units(units: u32) -> u32 {
    units - units / 8 * 3
}

#[cfg(test)]
mod tests {
    use tokio::time::sleep;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_table_waits_until_there_is_room_for_it() {
        let memory = MemoryBudget::new(100 << 20);
        let mut first = memory.reserve(60 << 20).await;
        let wait = Duration::from_secs(1);
        assert!(timeout(wait, memory.reserve(60 << 20)).await.is_err());
        first.shrink_to(40 << 20);
        let second = timeout(wait, memory.reserve(60 << 20)).await.unwrap();
        assert!(timeout(wait, memory.reserve(1)).await.is_err());
        drop((first, second));
        // A table that is larger than the budget gets all of it.
        drop(timeout(wait, memory.reserve(usize::MAX)).await.unwrap());
        memory.reserve(1).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_table_that_waited_for_other_large_ones_waits_in_line_for_the_rest() {
        let memory = MemoryBudget::new(256 << 20);
        let first = memory.reserve_large(100 << 20).await.unwrap();
        let others = async {
            sleep(Duration::from_secs(9)).await;
            let small = memory.reserve(memory.share(8)).await;
            sleep(Duration::from_secs(1)).await;
            drop(first);
            sleep(Duration::from_secs(10)).await;
            drop(small);
        };
        let (whole, ()) = tokio::join!(memory.reserve_large(usize::MAX), others);
        assert_eq!(whole.unwrap().bytes(), memory.bytes());
    }

    #[tokio::test(start_paused = true)]
    async fn large_tables_leave_room_for_three_shares_unless_one_alone_needs_everything() {
        let memory = MemoryBudget::new(256 << 20);
        let share = memory.share(8);
        let mut tables = Vec::new();
        for bytes in [100 << 20, 60 << 20] {
            tables.push(memory.reserve_large(bytes).await.unwrap());
        }
        assert!(memory.reserve_large(share + 1).await.is_none());
        for _ in 0..3 {
            tables.push(timeout(Duration::from_secs(1), memory.reserve(share)).await.unwrap());
        }
        drop(tables);
        let mut whole = memory.reserve_large(usize::MAX).await.unwrap();
        assert_eq!(whole.bytes(), memory.bytes());
        whole.shrink_to(100 << 20);
        assert!(memory.reserve_large(100 << 20).await.is_none());
        assert!(memory.reserve_large(60 << 20).await.is_some());
    }
}
