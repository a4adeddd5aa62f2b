//! Computes cycles within the memory that all passes of the process share.

use std::{mem, time::Duration};

use tokio::time::timeout;

use super::{ImportError, Pass, ReadError, Stop, compute::OpenedDrop, turn::MAX_TURNS};
use crate::{
    attributes::{CycleFailure, CycleReport, Definitions, Window},
    memory_budget::Reservation,
};

/// How long a pass waits for all of the memory. Meanwhile the passes that need a share of it have to wait as well, so
/// this is not much longer than a turn.
const MAX_MEMORY_WAIT: Duration = Duration::from_secs(15);

impl Pass<'_> {
    /// Computes a cycle with a share of the memory, so that the cycles of several tenants can be computed at once. If
    /// the table of people needs more, computes the cycle again with all of the memory. Also returns the reservation.
    pub(super) async fn compute_within_memory<'d>(
        &self,
        drop: &OpenedDrop,
        definitions: &'d Definitions,
        window: Window,
    ) -> Result<(Result<Option<CycleReport<'d>>, ReadError>, Reservation), Stop> {
        let memory = &self.runner.attributes_memory;
        let share = memory.share(MAX_TURNS);
        let reserved = memory.reserve(share).await;
        let computed = self.compute(drop, definitions, window, share).await;
        let is_too_large = |report: &CycleReport<'_>| {
            report.reaches(window) && matches!(report.failure, Some(CycleFailure::TooManyPeople(_)))
        };
        if !matches!(&computed, Ok(Some(report)) if is_too_large(report)) {
            return Ok((computed, reserved));
        }
        mem::drop((computed, reserved));
        let reserved = timeout(MAX_MEMORY_WAIT, memory.reserve(memory.bytes())).await;
        let reserved = reserved.map_err(|_elapsed| ImportError::MemoryInUse)?;
        Ok((self.compute(drop, definitions, window, memory.bytes()).await, reserved))
    }
}
