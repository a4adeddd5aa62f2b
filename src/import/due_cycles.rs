//! Chooses the drop of each cycle that is due, and imports it.
//!
//! A cycle is imported from the first drop that reaches its last week, and again from the same drop if its files or the
//! definitions change. The dates of a drop are recorded when the drop is first read, so that it is not read again for
//! cycles that it does not reach.

use std::{collections::HashMap, sync::Arc};

use futures::TryStreamExt;

use super::{ImportError, Pass, ReadError, Stop, compute::NotImportable, cycle::NoImport};
use crate::{
    attributes::{Definitions, DueCycle},
    clock,
    directory::is_directory,
    drop::DropPath,
    error_chain::error_chain,
    ledger::{CycleImport, DropState, ExaminedDrop, ImportState, LedgerError, ListEntry, ListingFacts},
};

/// How many delivered drops can be imported: those that were completed last. The bound keeps a customer with drops
/// without end from filling the memory.
const MAX_DROPS: usize = 10_000;

/// The result of importing a cycle again from its drop.
enum Again {
    /// The import has ended, as completed or failed.
    Ended,
    /// The drop has the same files as before, and so does the import.
    Same,
    /// The drop has no import of the cycle any more.
    Gone(NoImport),
}

/// Sorts drops by the time of their completion, and keeps the last [`MAX_DROPS`].
fn keep_last(drops: &mut Vec<ListEntry>) {
    drops.sort_by(|a, b| (a.since, &a.path).cmp(&(b.since, &b.path)));
    drops.drain(..drops.len().saturating_sub(MAX_DROPS));
}

impl Pass<'_> {
    /// Handles the requests for imports, and then imports every cycle that is due, unless that was done. A drop that
    /// cannot be read delays only the cycles that need it.
    pub(super) async fn import_due_cycles(&mut self, definitions: &Arc<Definitions>) -> Result<(), Stop> {
        let mut first_error = None;
        self.handle_requests(definitions, &mut first_error).await?;
        let mut imports = self.imports().await?;
        let drops = self.delivered_drops().await?;
        self.forget_drops_except(&drops).await?;
        for due in definitions.due_cycles(self.today) {
            let import = imports.remove(&(due.program.name.clone(), due.cycle.name.clone()));
            let result = self.import_cycle(definitions, &due, import, &drops).await;
            tolerate(result, &mut first_error)?;
        }
        first_error.map_or(Ok(()), |error| Err(Stop::Failed(error)))
    }

    /// The records of the tenant's imports, by program and cycle. Takes the ranges that receivers may have from them.
    /// The pass need not add its own to these, because all cycles have the same ranges until it reads the records
    /// again.
    pub(super) async fn imports(&mut self) -> Result<HashMap<(String, String), CycleImport>, LedgerError> {
        let imports = self.runner.ledger.cycle_imports(self.tenant).await?;
        self.known_ranges = imports.iter().flat_map(CycleImport::known_ranges_with_windows).collect();
        Ok(imports.into_iter().map(|import| ((import.program.clone(), import.cycle.clone()), import)).collect())
    }

    /// The last [`MAX_DROPS`] drops of the tenant that were delivered, in the order in which they were completed.
    async fn delivered_drops(&mut self) -> Result<Vec<ListEntry>, LedgerError> {
        let mut drops = Vec::new();
        self.delivered = 0;
        let mut entries = self.runner.ledger.list_entries();
        while let Some(entry) = entries.try_next().await? {
            let is_delivered = entry.tenant == self.tenant && entry.state == DropState::Completed;
            if is_delivered && !is_directory(&entry.path, None) {
                self.delivered = self.delivered.wrapping_add(entry.delivery_hash());
                drops.push(entry);
            }
            if drops.len() == 2 * MAX_DROPS {
                keep_last(&mut drops);
            }
        }
        keep_last(&mut drops);
        Ok(drops)
    }

    async fn import_cycle(
        &mut self,
        definitions: &Arc<Definitions>,
        due: &DueCycle<'_>,
        import: Option<CycleImport>,
        drops: &[ListEntry],
    ) -> Result<(), Stop> {
        let Some(mut import) = import else {
            return match self.import_first(definitions, due, drops, None).await {
                Err(Stop::Failed(ImportError::Drop { path, source })) if matches!(*source, ReadError::Directory(_)) => {
                    self.note_first_failure(definitions, due, path, source).await
                }
                result => result.map(|_| ()),
            };
        };
        let has_new_rules = import.rules != definitions.rules_of(due.cycle);
        if !has_new_rules && import.state != ImportState::Running && !import.announced {
            return self.announce_end(&mut import).await;
        }
        let listed = drops.iter().find(|drop| drop.path.to_string() == import.drop.path);
        let has_changed = listed.is_some_and(|drop| ListingFacts::from(drop.listing) != import.listing);
        if !has_new_rules && !has_changed && import.state != ImportState::Running {
            return Ok(());
        }
        let result = self.import_again(definitions, due, &import, has_new_rules).await;
        match result {
            Ok(Again::Ended) => Ok(()),
            Ok(Again::Gone(why)) if has_new_rules || import.state == ImportState::Running => {
                // Another drop may reach the cycle.
                if self.import_first(definitions, due, drops, Some(&import)).await? {
                    return Ok(());
                }
                import.rules = definitions.rules_of(due.cycle);
                import.failing_since = None;
                if import.state == ImportState::Running {
                    let message = format!("{why}: the import had not ended, and no other drop reaches the cycle");
                    return self.fail(&mut import, why.reason(), message).await;
                }
                import.message = Some(format!("revision {} was not imported: {why}", self.record.revision));
                Ok(self.runner.ledger.write_cycle_import(self.tenant, &mut import).await?)
            }
            Ok(Again::Same | Again::Gone(_)) => {
                // The data files are the same, or some were deleted after the import: the import stays valid.
                import.listing = listed.map_or(import.listing, |drop| drop.listing.into());
                import.failing_since = None;
                Ok(self.runner.ledger.write_cycle_import(self.tenant, &mut import).await?)
            }
            Err(Stop::Failed(ImportError::Drop { path, source })) => self.note_failure(import, path, source).await,
            Err(stop @ Stop::Failed(ImportError::MemoryInUse)) => self.note_wait_for_memory(import, stop).await,
            Err(stop) => Err(stop),
        }
    }

    /// Imports a cycle again from its drop.
    async fn import_again(
        &mut self,
        definitions: &Arc<Definitions>,
        due: &DueCycle<'_>,
        import: &CycleImport,
        has_new_rules: bool,
    ) -> Result<Again, Stop> {
        let Ok(path) = import.drop.path.parse::<DropPath>() else {
            return Ok(Again::Gone(NotImportable::Deleted.into()));
        };
        let drop = match self.open(&path).await.map_err(|error| Stop::cannot_read(&path, error))? {
            Ok(drop) => drop,
            Err(why) => return Ok(Again::Gone(why.into())),
        };
        if !has_new_rules && import.state != ImportState::Running && drop.files == import.files {
            return Ok(Again::Same);
        }
        let imported = self.import(definitions, due, &drop, import.run, Some(import)).await?;
        Ok(imported.map_or_else(Again::Gone, |()| Again::Ended))
    }

    /// Imports a cycle from the first drop that reaches it. Returns false if none does.
    async fn import_first(
        &mut self,
        definitions: &Arc<Definitions>,
        due: &DueCycle<'_>,
        drops: &[ListEntry],
        earlier: Option<&CycleImport>,
    ) -> Result<bool, Stop> {
        let mut first_error = None;
        for listed in drops {
            // A drop that was written before the last week began has no rows of it.
            let may_reach = listed.listing.newest.date() >= due.window.last_week();
            let examined = self.record.examined(&listed.path, listed.listing.into());
            if !may_reach || examined.is_some_and(|examined| !examined.dates.reaches(due.window)) {
                continue;
            }
            let result = self.import_from(definitions, due, &listed.path, earlier).await;
            match result {
                Ok(Ok(())) => return Ok(true),
                result => tolerate(result.map(drop), &mut first_error)?,
            }
        }
        first_error.map_or(Ok(false), |error| Err(Stop::Failed(error)))
    }

    async fn import_from(
        &mut self,
        definitions: &Arc<Definitions>,
        due: &DueCycle<'_>,
        path: &DropPath,
        earlier: Option<&CycleImport>,
    ) -> Result<Result<(), NoImport>, Stop> {
        let run = earlier.map_or(0, |earlier| earlier.run);
        match self.open(path).await.map_err(|error| Stop::cannot_read(path, error))? {
            Ok(drop) => self.import(definitions, due, &drop, run, earlier).await,
            Err(why) => Ok(Err(why.into())),
        }
    }

    /// Records that the directory of the drop that reaches a cycle cannot be read. The cycle has no record yet.
    async fn note_first_failure(
        &mut self,
        definitions: &Definitions,
        due: &DueCycle<'_>,
        path: DropPath,
        source: Box<ReadError>,
    ) -> Result<(), Stop> {
        let opened = self.open(&path).await.map_err(|error| Stop::cannot_read(&path, error))?;
        let Ok(drop) = opened else { return Err(Stop::Failed(ImportError::Drop { path, source })) };
        let import = self.begin(definitions, due, &drop, 0, None, None);
        self.note_failure(import, path, source).await
    }

    /// Records that the drop of an import cannot be read. After `GIVE_UP_AFTER` the import fails.
    async fn note_failure(
        &mut self,
        mut import: CycleImport,
        path: DropPath,
        source: Box<ReadError>,
    ) -> Result<(), Stop> {
        if source.is_memory_in_use() {
            let stop = Stop::Failed(ImportError::Drop { path, source });
            return self.note_wait_for_memory(import, stop).await;
        }
        let now = clock::now();
        let since = *import.failing_since.get_or_insert(now);
        if now - since >= self.runner.limits.give_up_after {
            return self.fail(&mut import, "unavailable", error_chain(&*source)).await;
        }
        import.message = Some(error_chain(&*source));
        self.runner.ledger.write_cycle_import(self.tenant, &mut import).await?;
        Err(Stop::Failed(ImportError::Drop { path, source }))
    }

    /// Records that the drop of an import could be read, but the import waits for memory: that ends the series of
    /// failures after which the import fails. Returns `stop`.
    async fn note_wait_for_memory(&mut self, mut import: CycleImport, stop: Stop) -> Result<(), Stop> {
        if import.failing_since.take().is_some() {
            self.runner.ledger.write_cycle_import(self.tenant, &mut import).await?;
        }
        Err(stop)
    }

    /// Forgets the dates of drops that were deleted.
    async fn forget_drops_except(&mut self, drops: &[ListEntry]) -> Result<(), LedgerError> {
        let is_known = |examined: &ExaminedDrop| drops.iter().any(|drop| drop.path == examined.path);
        if self.record.examined.iter().all(is_known) {
            return Ok(());
        }
        self.update_record(|record| record.examined.retain(is_known)).await
    }
}

/// Keeps the first error about a drop, so that the pass goes on with the next one. Returns all other errors.
pub(super) fn tolerate(result: Result<(), Stop>, first_error: &mut Option<ImportError>) -> Result<(), Stop> {
    match result {
        Err(Stop::Failed(error @ ImportError::Drop { .. })) => {
            first_error.get_or_insert(error);
            Ok(())
        }
        result => result,
    }
}
