//! Records that a drop is to be delivered again.

use super::{AdmittedDrop, Outcome, RunError, Runner, snapshot::versions_of};
use crate::{
    clock,
    drop::{DropPath, TenantId, discover},
    store::ETag,
};

impl Runner {
    /// Records that the drop at `path` is to be delivered again from its first row, even if it has ended. Rows keep
    /// their message ids unless `new_ids` is set. The drop is then in the index of unfinished drops, so that a sweep
    /// delivers it if nothing else does.
    pub async fn record_replay(&self, path: &DropPath, new_ids: bool) -> Result<Recorded, RunError> {
        let Some(contents) = discover::list_contents(&*self.store, path, self.limits.max_files).await? else {
            return Ok(Recorded::Nothing(Outcome::NoDrop));
        };
        let admitted = match AdmittedDrop::admit(&*self.store, &self.tenants, &contents, 0).await? {
            Ok(admitted) => admitted,
            Err(refusal) => return Ok(Recorded::Nothing(Outcome::Refused(refusal))),
        };
        let tenant = admitted.tenant;
        let entry = self.ledger.mark_unfinished(path, tenant, clock::now()).await?;
        // First, because a record that is not valid would stop every run of the recorded replay.
        self.ledger.delete_invalid_records(path, &versions_of(&contents)).await?;
        self.ledger.replay(path, tenant, new_ids).await?;
        Ok(Recorded::Replay { tenant, entry })
    }
}

/// The result of [`Runner::record_replay`].
#[derive(Debug)]
pub enum Recorded {
    /// The replay is recorded.
    Replay {
        /// The tenant that the drop belongs to.
        tenant: TenantId,
        /// The version of the drop's entry in the index of unfinished drops.
        entry: ETag,
    },
    /// There is no drop, or it is refused.
    Nothing(Outcome),
}
