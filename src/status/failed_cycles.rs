//! The survey cycles of a tenant that cannot be imported.

use futures::{StreamExt, TryStreamExt, stream};
use time::Date;

use crate::{
    attributes::Definitions,
    drop::TenantId,
    ledger::{CONCURRENT_READS, CycleImport, ImportState, Ledger, LedgerError},
};

/// The imports that have failed for good, of the cycles that `definitions` import on the day `today`: the two latest
/// ones of each program. Costs one read for each of these cycles.
pub(super) async fn failed_cycles(
    ledger: &Ledger,
    tenant: TenantId,
    definitions: &Definitions,
    today: Date,
) -> Result<Vec<CycleImport>, LedgerError> {
    let due = definitions.due_cycles(today);
    let reads = due.iter().map(|due| ledger.cycle_import(tenant, &due.program.name, &due.cycle.name));
    let imports = stream::iter(reads.collect::<Vec<_>>()).buffered(CONCURRENT_READS);
    let has_failed = |import: &CycleImport| import.state == ImportState::Failed;
    imports.try_filter_map(async |import| Ok(import.filter(has_failed))).try_collect().await
}
