//! Admission of a drop: reads its job metadata, and checks that its tenant may write where it lies.

use tracing::{debug, warn};

use super::{Outcome, Run, RunError, Runner, Step, Trigger, backoff::MAX_WAIT};
use crate::{
    clock,
    drop::{
        DropPath, TenantId,
        discover::DropContents,
        metadata::{JobMetadata, MetadataError},
        tenant::{Refusal, Tenants},
    },
    message::DropFacts,
    store::{Blob, ReadWholeError, Store, StoreError, read_whole},
    telemetry::is_first_occurrence,
};

/// The largest job metadata that is read, in bytes. Microsoft's has some hundred bytes.
const MAX_METADATA_BYTES: u64 = 1 << 20;

/// A drop of one of our tenants, at a place where that tenant may write.
#[derive(Debug)]
pub struct AdmittedDrop {
    /// The drop path.
    pub path: DropPath,
    /// The tenant: the one in the job metadata, if `TENANTS` lets it write there. If the metadata cannot be parsed, the
    /// tenant that may write there.
    pub tenant: TenantId,
    /// The job metadata, or why it cannot be parsed.
    pub metadata: Result<JobMetadata, MetadataError>,
    /// The description of the drop in messages.
    pub facts: DropFacts,
}

impl AdmittedDrop {
    /// Reads the job metadata, and admits or refuses the drop. `generation` comes from the ledger.
    pub async fn admit(
        store: &dyn Store,
        tenants: &Tenants,
        contents: &DropContents,
        generation: u32,
    ) -> Result<Result<Self, Refusal>, StoreError> {
        let metadata = read_metadata(store, &contents.metadata).await?;
        let claimed = match &metadata {
            Ok(metadata) => metadata.tenant_id,
            // Invalid metadata names no tenant, so the tenant follows from the drop path alone.
            Err(_) => tenants.possible_owners(&contents.path).first().copied(),
        };
        let tenant = match tenants.admit(&contents.path, claimed) {
            Ok(tenant) => tenant,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let mut facts = DropFacts::new(tenant, &contents.path, generation);
        if let Ok(metadata) = &metadata {
            facts.id.clone_from(&metadata.copy_activity_id);
            facts.table.clone_from(&metadata.table_name);
            facts.request_start_date.clone_from(&metadata.request_start_date);
            facts.request_end_date.clone_from(&metadata.request_end_date);
        }
        Ok(Ok(Self { path: contents.path.clone(), tenant, metadata, facts }))
    }
}

/// Reads and parses job metadata. Metadata of more than 1 MiB is invalid, and is not read.
pub async fn read_metadata(store: &dyn Store, blob: &Blob) -> Result<Result<JobMetadata, MetadataError>, StoreError> {
    match read_whole(store, blob, MAX_METADATA_BYTES).await {
        Ok(bytes) => Ok(JobMetadata::parse(&bytes)),
        Err(ReadWholeError::TooLarge { .. }) => Ok(Err(MetadataError::TooLarge { limit: MAX_METADATA_BYTES })),
        Err(ReadWholeError::Store(error)) => Err(error),
    }
}

impl Run<'_> {
    /// Reads the job metadata, and checks that its tenant may write at the drop path.
    pub(super) async fn admit(&self, contents: &DropContents) -> Result<Result<AdmittedDrop, Refusal>, RunError> {
        let Runner { store, tenants, .. } = self.runner;
        // Where no tenant may write, the job metadata is not read, because it could be unreadable on purpose so that
        // the event is repeated. A command reads it to tell a person what it says.
        if self.trigger != Trigger::Command && tenants.possible_owners(self.path).is_empty() {
            return Ok(Err(Refusal::NoTenantMayWrite));
        }
        Ok(AdmittedDrop::admit(&**store, tenants, contents, self.record.generation).await?)
    }

    /// Ends the run of a drop that was not admitted.
    pub(super) async fn refuse(&self, refusal: Refusal) -> Result<Step, RunError> {
        log_refusal(self.path, &refusal);
        let ledger = &self.runner.ledger;
        match (self.record.tenant, &self.entry) {
            // TENANTS may be changed back. Until then, sweeps look at the drop once an hour.
            (Some(tenant), Some(entry)) => ledger.postpone(self.path, tenant, clock::now() + MAX_WAIT, entry).await?,
            // The drop was recorded for the tenant of its folder before its job metadata was read.
            (None, Some(entry)) => ledger.remove_unfinished(self.path, entry).await?,
            (_, None) => {}
        }
        Ok(Step::End(Outcome::Refused(refusal)))
    }
}

/// Logs a refusal as a warning only the first time, because every sweep finds the same drop again.
fn log_refusal(path: &DropPath, refusal: &Refusal) {
    let line = format!("did not admit `{path}`: {refusal}");
    if is_first_occurrence(&line) {
        warn!(drop.path = %path, "{line}");
    } else {
        debug!(drop.path = %path, "{line}");
    }
}
