//! Computes cycles within the memory that all passes of the process share.

use std::mem;

use super::{ImportError, Pass, ReadError, Stop, compute::OpenedDrop};
use crate::{
    attributes::{CycleFailure, CycleReport, Definitions, Window},
    memory_budget::Reservation,
    pass_permits::MAX_PASSES,
};

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
        let share = memory.share(MAX_PASSES);
        let reserved = memory.reserve(share).await;
        let computed = self.compute(drop, definitions, window, share).await;
        let is_too_large = |report: &CycleReport<'_>| {
            report.reaches(window) && matches!(report.failure, Some(CycleFailure::TooManyPeople(_)))
        };
        if !matches!(&computed, Ok(Some(report)) if is_too_large(report)) {
            return Ok((computed, reserved));
        }
        mem::drop((computed, reserved));
        let reserved = memory.reserve_large(memory.bytes()).await.ok_or(ImportError::MemoryInUse)?;
        Ok((self.compute(drop, definitions, window, memory.bytes()).await, reserved))
    }
}
