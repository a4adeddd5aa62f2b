//! A bound on the memory that all runs and passes of the process share.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use crate::waiters::Waiters;

/// The bytes of one permit.
const UNIT: usize = 1 << 10;

/// How long a table that is larger than a share waits for memory. The tables after it wait as well, even if a share is
/// free for them.
const MAX_WAIT: Duration = Duration::from_secs(15);

/// Bounds the memory that the tables of all runs and passes take together. A run that needs more than is free waits
/// until others free theirs. Requests are served in order, so a large request delays those after it.
#[derive(Debug, Clone)]
pub struct MemoryBudget {
    permits: Arc<Semaphore>,
    units: u32,
    waiters: Waiters,
}

/// A reserved part of a [`MemoryBudget`]; dropping it frees the memory.
#[derive(Debug)]
pub struct Reservation(OwnedSemaphorePermit);

impl MemoryBudget {
    /// A budget of `bytes`: at least the size of the largest table.
    pub fn new(bytes: usize) -> Self {
        let units = units(bytes);
        Self { permits: Arc::new(Semaphore::new(units as usize)), units, waiters: Waiters::default() }
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
        let units = units(bytes).min(self.units);
        if let Ok(permits) = Arc::clone(&self.permits).try_acquire_many_owned(units) {
            return Reservation(permits);
        }
        let _waiting = self.waiters.enter();
        let permits = Arc::clone(&self.permits).acquire_many_owned(units).await;
        Reservation(permits.expect("the semaphore is never closed"))
    }

    /// Reserves more than a share, as [`reserve`](Self::reserve) does. Returns `None` if the memory is not free within
    /// [`MAX_WAIT`].
    pub(crate) async fn reserve_large(&self, bytes: usize) -> Option<Reservation> {
        timeout(MAX_WAIT, self.reserve(bytes)).await.ok()
    }

    /// The counter of the runs and passes that wait for memory.
    pub(crate) fn waiters(&self) -> &Waiters {
        &self.waiters
    }
}

impl Reservation {
    /// Its size in bytes.
    pub fn bytes(&self) -> usize {
        self.0.num_permits() * UNIT
    }

    /// Frees the reserved memory except for `bytes`.
    pub fn shrink_to(&mut self, bytes: usize) {
        let excess = self.0.num_permits().saturating_sub(units(bytes) as usize);
        drop(self.0.split(excess));
    }
}

fn units(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
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
}
