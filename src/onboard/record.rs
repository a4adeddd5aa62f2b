//! What is known of a tenant's registration: `tenants/{tenantId}.json` in `STATE_CONTAINER`, for people as well.
//!
//! It is written before the service is told, and again once the service answered: so a run that was cut off is told apart
//! from one that came to its end.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::{
    drop::TenantId,
    store::{BlobPath, ETag, ReadWholeError, Store, StoreError, WriteIf, read_whole},
};

/// The version of the records that this vivadrop writes, and the only one that it reads.
const VERSION: u64 = 1;

/// The largest record that is read: it has some hundred bytes.
const LARGEST: u64 = 64 << 10;

/// Which key of a tenant the service knows, or is about to be told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Registration {
    version: u64,
    /// Where it is registered.
    pub api: String,
    /// Which version of the tenant's key.
    pub key_version: String,
    /// The SHA-256 of its modulus.
    pub thumbprint: String,
    /// Until when the key is of use, as it was made.
    #[serde(default, with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    pub key_expires: Option<OffsetDateTime>,
    /// What the service answered; absent where it was asked and the answer was not recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registered: Option<Registered>,
}

/// What the service said of a registration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Registered {
    /// Since when.
    #[serde(with = "time::serde::rfc3339")]
    pub created_date: OffsetDateTime,
    /// Until when, where it said so.
    #[serde(default, with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    pub expiration_date: Option<OffsetDateTime>,
}

/// Why a record says nothing.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The store did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It is no record, or a later vivadrop's.
    #[error(
        "`{path}` is no record of a registration that this vivadrop reads ({why}): mend it, or delete it and run onboard again"
    )]
    Unreadable {
        /// The record.
        path: BlobPath,
        /// What is wrong with it.
        why: String,
    },
}

impl Registration {
    /// One that the service has not answered yet.
    pub fn begun(api: String, key_version: String, thumbprint: String, key_expires: Option<OffsetDateTime>) -> Self {
        Self { version: VERSION, api, key_version, thumbprint, key_expires, registered: None }
    }
}

/// Where the record of `tenant` lies.
pub fn place(state_container: &str, tenant: TenantId) -> BlobPath {
    BlobPath::new(state_container, format!("tenants/{tenant}.json"))
}

/// What is recorded of `tenant`, with the version of the record.
pub async fn read(
    store: &dyn Store,
    state_container: &str,
    tenant: TenantId,
) -> Result<Option<(ETag, Registration)>, RecordError> {
    let path = place(state_container, tenant);
    let Some(blob) = store.find(&path).await? else {
        return Ok(None);
    };
    let unreadable = |why: String| RecordError::Unreadable { path: path.clone(), why };
    let bytes = match read_whole(store, &blob, LARGEST).await {
        Err(ReadWholeError::Store(error)) => return Err(error.into()),
        bytes => bytes.map_err(|error| unreadable(error.to_string()))?,
    };
    let record: Registration = serde_json::from_slice(&bytes).map_err(|error| unreadable(error.to_string()))?;
    if record.version != VERSION {
        return Err(unreadable(format!("it has version {}", record.version)));
    }
    Ok(Some((blob.etag, record)))
}

/// Records `registration`, over the version of the record that was `read` alone.
pub async fn write(
    store: &dyn Store,
    state_container: &str,
    tenant: TenantId,
    registration: &Registration,
    read: Option<ETag>,
) -> Result<ETag, StoreError> {
    let mut text = serde_json::to_vec_pretty(registration).unwrap_or_default();
    text.push(b'\n');
    let condition = read.map_or(WriteIf::Absent, WriteIf::Matches);
    store.write(&place(state_container, tenant), text.into(), condition).await
}
