//! The imports of survey attributes that a sweep makes: those that have failed, those of cycles that have ended, those
//! after an edit of the definitions by hand, and those that were not made because a process was killed after it had
//! delivered a drop.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use futures::{StreamExt, TryStreamExt, stream::FuturesUnordered};
use tokio::time::Instant;
use tracing::{debug, error};

use super::{Sweep, SweepMode};
use crate::{clock, drop::TenantId, error_chain::error_chain, ledger::ImportsEntry, run::MAX_WAIT, store::StoreError};

impl Sweep<'_> {
    /// Imports for the tenants that are due, until `end`. If no time is left, leaves all to the next
    /// sweep.
    pub(super) async fn run_imports(&mut self, end: Instant) {
        let mut due = match self.tenants_with_imports_due().await {
            Ok(due) => due,
            Err(error) => {
                error!("cannot list the imports of attributes: {}", error_chain(&error));
                return;
            }
        };
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            debug!("no time is left for imports of attributes: the next sweep makes those that are due");
            return;
        }
        // The runs of this sweep have completed drops.
        due.extend(self.runner.due_imports.take());
        let passes = due.into_iter().map(async |tenant| (tenant, self.runner.import(tenant, Some(left)).await));
        let mut passes: FuturesUnordered<_> = passes.collect();
        while let Some((tenant, result)) = passes.next().await {
            match result {
                Ok(outcome) => debug!(tenant.id = %tenant, ?outcome, "made a pass over the imports of {tenant}"),
                Err(error) => self.report.failed_imports.push((tenant, error_chain(&error))),
            }
        }
    }

    /// Our tenants with definitions that have changed, or whose entry in the index is due. Costs two listings.
    async fn tenants_with_imports_due(&self) -> Result<BTreeSet<TenantId>, StoreError> {
        let ledger = &self.runner.ledger;
        let definitions: BTreeMap<TenantId, _> = ledger.definitions_versions().try_collect().await?;
        if definitions.is_empty() {
            return Ok(BTreeSet::new());
        }
        let entries: Vec<ImportsEntry> = ledger.imports_entries().try_collect().await?;
        let entries: BTreeMap<TenantId, ImportsEntry> =
            entries.into_iter().map(|entry| (entry.tenant, entry)).collect();
        let tenants = self.watched.tenants.ids();
        let is_due = |(tenant, version): &(TenantId, _)| {
            tenants.contains(tenant)
                && entries.get(tenant).is_none_or(|entry| {
                    let is_failing = entry.attempts > 0 && self.mode == SweepMode::Command;
                    let is_edited = entry.definitions.as_ref() != Some(version);
                    let has_drops = self
                        .delivered
                        .as_ref()
                        .is_some_and(|sums| sums.get(tenant).copied().unwrap_or(0) != entry.drops);
                    is_failing
                        || (entry.attempts == 0 && (is_edited || has_drops))
                        || entry.not_before.is_some_and(|time| {
                            // After a success, this is the end of the next cycle, which may be months ahead.
                            let longest = if entry.attempts > 0 { MAX_WAIT } else { Duration::MAX };
                            clock::has_passed(time, longest)
                        })
                })
        };
        Ok(definitions.into_iter().filter(is_due).map(|(tenant, _)| tenant).collect())
    }
}
