//! A bound on the memory that all runs and passes of the process share.

use std::{iter, sync::Arc, time::Duration};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout},
};

use crate::waiters::Waiters;

/// The bytes of one permit.
const UNIT: usize = 1 << 10;

/// How long a table waits for memory. If it needs more than a share, the tables after it may wait as well, even if a
/// share is free for them.
const MAX_WAIT: Duration = Duration::from_secs(15);

/// How many shares, each an eighth of the largest table, the large tables together leave free.
const SHARES_LEFT: u32 = 3;

/// Bounds the memory that the tables of all runs and passes take together. A run that needs more than is free waits
/// until others free theirs. Requests are served in order, so a large request delays those after it.
///
/// A large table may be held for a long time. So all large tables together take no more than the largest one may, and
/// there are three eighths more for the tables that need no more than a share. No reservation waits for more memory
/// while it holds some, so reservations cannot wait for each other.
#[derive(Debug, Clone)]
pub struct MemoryBudget {
    permits: Arc<Semaphore>,
    /// The permits that large reservations need in addition.
    large: Arc<Semaphore>,
    /// The size of the largest table, in units.
    units: u32,
    waiters: Waiters,
    /// Those of the waiters that wait until other large reservations are dropped.
    large_waiters: Waiters,
}

/// A reserved part of a [`MemoryBudget`]; dropping it frees the memory.
#[derive(Debug)]
pub struct Reservation {
    permits: OwnedSemaphorePermit,
    /// `None` if the reservation is not large.
    large: Option<LargePart>,
}

/// The part of a large reservation that other large ones wait for.
#[derive(Debug)]
struct LargePart {
    permits: OwnedSemaphorePermit,
    since: Instant,
    waiters: Waiters,
}

impl MemoryBudget {
    /// A budget for tables of at most `bytes` each.
    pub fn new(bytes: usize) -> Self {
        let units = units(bytes);
        let [permits, large] = [with_shares(units), units].map(|units| Arc::new(Semaphore::new(units as usize)));
        Self { permits, large, units, waiters: Waiters::default(), large_waiters: Waiters::default() }
    }

    /// The size of the largest table, in bytes.
    pub fn bytes(&self) -> usize {
        self.units as usize * UNIT
    }

    /// The share of one table, in bytes, if this number of `tables` divides the size of the largest one equally.
    pub(crate) fn share(&self, tables: usize) -> usize {
        self.bytes() / tables
    }

    /// Waits until `bytes` are free, and reserves them. Reserves the whole budget if `bytes` is larger.
    pub async fn reserve(&self, bytes: usize) -> Reservation {
        let permits = acquire(&self.permits, units(bytes).min(with_shares(self.units)), &[&self.waiters]).await;
        Reservation { permits, large: None }
    }

    /// Reserves as [`reserve`](Self::reserve) does. Returns `None` if the memory is not free within [`MAX_WAIT`].
    pub(crate) async fn reserve_soon(&self, bytes: usize) -> Option<Reservation> {
        timeout(MAX_WAIT, self.reserve(bytes)).await.ok()
    }

    /// Reserves more than a share, but at most the size of the largest table. Returns `None` if the part of the budget
    /// that large reservations can have together, or then the memory, is not free within [`MAX_WAIT`].
    pub(crate) async fn reserve_large(&self, bytes: usize) -> Option<Reservation> {
        let bytes = bytes.min(self.bytes());
        let waiters = [&self.waiters, &self.large_waiters];
        let permits = timeout(MAX_WAIT, acquire(&self.large, units(bytes), &waiters)).await.ok()?;
        let reserved = self.reserve_soon(bytes).await?;
        let large = LargePart { permits, since: Instant::now(), waiters: self.large_waiters.clone() };
        Some(Reservation { large: Some(large), ..reserved })
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

    /// Whether it is a large one that is older than `turn`, while others wait for a large one.
    pub(crate) fn is_overdue(&self, turn: Duration) -> bool {
        self.large.as_ref().is_some_and(|large| large.since.elapsed() >= turn && large.waiters.are_there())
    }

    /// Frees the reserved memory except for `bytes`.
    pub fn shrink_to(&mut self, bytes: usize) {
        let large = self.large.as_mut().map(|large| &mut large.permits);
        for permits in iter::once(&mut self.permits).chain(large) {
            let excess = permits.num_permits().saturating_sub(units(bytes) as usize);
            drop(permits.split(excess));
        }
    }
}

fn units(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX)
}

/// The units of a budget whose largest table takes this number of `units`.
fn with_shares(units: u32) -> u32 {
    units.saturating_add(units.div_ceil(8).saturating_mul(SHARES_LEFT))
}

/// Waits until this many permits are free, and takes them. Counts itself in `waiters` meanwhile.
async fn acquire(semaphore: &Arc<Semaphore>, units: u32, waiters: &[&Waiters]) -> OwnedSemaphorePermit {
    if let Ok(permits) = Arc::clone(semaphore).try_acquire_many_owned(units) {
        return permits;
    }
    let _waiting: Vec<_> = waiters.iter().map(|waiters| waiters.enter()).collect();
    let permits = Arc::clone(semaphore).acquire_many_owned(units).await;
    permits.expect("the semaphore is never closed")
}

#[cfg(test)]
mod tests {
    use tokio::time::sleep;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_table_waits_until_there_is_room_for_it() {
        let memory = MemoryBudget::new(80 << 20);
        let mut first = memory.reserve(70 << 20).await;
        let wait = Duration::from_secs(1);
        assert!(timeout(wait, memory.reserve(60 << 20)).await.is_err());
        first.shrink_to(50 << 20);
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
            let small = memory.reserve(4 * memory.share(8)).await;
            sleep(Duration::from_secs(1)).await;
            drop(first);
            sleep(Duration::from_secs(10)).await;
            drop(small);
        };
        let (whole, ()) = tokio::join!(memory.reserve_large(usize::MAX), others);
        assert_eq!(whole.unwrap().bytes(), memory.bytes());
    }

    #[tokio::test(start_paused = true)]
    async fn large_tables_leave_room_for_three_shares() {
        for bytes in [256 << 20, (1 << 20) - 1, 4 << 10] {
            let memory = MemoryBudget::new(bytes);
            let mut tables = vec![memory.reserve_large(usize::MAX).await.unwrap()];
            assert_eq!(tables[0].bytes(), memory.bytes());
            for _ in 0..3 {
                tables.push(timeout(Duration::from_secs(1), memory.reserve(memory.share(8))).await.unwrap());
            }
            tables[0].shrink_to(bytes / 2);
            assert!(memory.reserve_large(bytes).await.is_none());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_large_table_is_overdue_after_its_turn_if_another_large_one_waits() {
        let (memory, turn) = (MemoryBudget::new(256 << 20), Duration::from_secs(30));
        let [large, small] = [memory.reserve_large(200 << 20).await.unwrap(), memory.reserve(1).await];
        let waiting = timeout(Duration::from_secs(2), memory.reserve_large(100 << 20));
        let not_in_turn = async {
            sleep(Duration::from_secs(1)).await;
            assert!(!large.is_overdue(turn));
        };
        assert!(tokio::join!(waiting, not_in_turn).0.is_err());
        sleep(turn).await;
        assert!(!large.is_overdue(turn));
        let waiting = timeout(Duration::from_secs(2), memory.reserve_large(100 << 20));
        let after_turn = async {
            sleep(Duration::from_secs(1)).await;
            assert!(large.is_overdue(turn) && !small.is_overdue(turn));
        };
        assert!(tokio::join!(waiting, after_turn).0.is_err());
    }
}
