//! What a drop says of itself, and whether that is believed.

use crate::{
    drop::{
        DropPath, FileVersion, TenantId,
        discover::DropContents,
        metadata::{JobMetadata, MetadataError},
        tenant::{Refusal, Tenants},
    },
    message::DropFacts,
    store::{Blob, ReadWholeError, Store, StoreError, read_whole},
};

/// The largest job metadata that is read. Microsoft's have some hundred bytes.
const LARGEST_METADATA: u64 = 1 << 20;

/// A drop that was admitted.
#[derive(Debug)]
pub struct AdmittedDrop {
    /// Where it lies.
    pub path: DropPath,
    /// Whose it is: the metadata's tenant, where TENANTS lets that one write there. Where the metadata cannot be read, the
    /// tenant whose place it is.
    pub tenant: TenantId,
    /// The job metadata, or why it cannot be read.
    pub metadata: Result<JobMetadata, MetadataError>,
    /// The version of the job metadata.
    pub metadata_version: FileVersion,
    /// What messages say of the drop.
    pub facts: DropFacts,
}

impl AdmittedDrop {
    /// Reads the job metadata, and admits the drop or says why it is none of ours. `generation` is the ledger's.
    pub async fn open(
        store: &dyn Store,
        tenants: &Tenants,
        contents: &DropContents,
        generation: u32,
    ) -> Result<Result<Self, Refusal>, StoreError> {
        let metadata = read_metadata(store, &contents.metadata).await?;
        let claimed = match &metadata {
            Ok(metadata) => metadata.tenant_id,
            // What cannot be read claims nothing: the place alone tells whose it is.
            Err(_) => tenants.possible_owners(&contents.path).first().copied(),
        };
        let tenant = match tenants.admit(&contents.path, claimed) {
            Ok(tenant) => tenant,
            Err(foreign) => return Ok(Err(foreign)),
        };
        let known = metadata.as_ref().ok();
        let facts = DropFacts {
            id: known.and_then(|metadata| metadata.copy_activity_id.clone()),
            tenant_id: tenant,
            path: contents.path.to_string(),
            table: known.and_then(|metadata| metadata.table_name.clone()),
            request_start_date: known.and_then(|metadata| metadata.request_start_date.clone()),
            request_end_date: known.and_then(|metadata| metadata.request_end_date.clone()),
            generation,
        };
        let metadata_version = FileVersion {
            name: contents.relative(&contents.metadata).to_owned(),
            etag: contents.metadata.etag.clone(),
        };
        Ok(Ok(Self { path: contents.path.clone(), tenant, metadata, metadata_version, facts }))
    }
}

/// Reads and parses job metadata. One that is too large to be read is none.
pub async fn read_metadata(store: &dyn Store, blob: &Blob) -> Result<Result<JobMetadata, MetadataError>, StoreError> {
    match read_whole(store, blob, LARGEST_METADATA).await {
        Ok(bytes) => Ok(JobMetadata::parse(&bytes)),
        Err(ReadWholeError::TooLarge { .. }) => Ok(Err(MetadataError::TooLarge { limit: LARGEST_METADATA })),
        Err(ReadWholeError::Store(error)) => Err(error),
    }
}
