//! The record of a tenant's registration: `tenants/{tenantId}.json` in `STATE_CONTAINER`.
//!
//! It is written before the API is called, and completed with the API's response. A record without a response therefore
//! shows that onboarding was interrupted.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::{
    drop::TenantId,
    store::{BlobPath, ETag, ReadWholeError, Store, StoreError, WriteIf, read_whole},
};

/// The version of the record format. A record of another version is an error.
const VERSION: u64 = 1;

/// Size limit for a record. A record has some hundred bytes.
const MAX_RECORD_BYTES: u64 = 64 << 10;

/// The key that is registered for a tenant, or is about to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Registration {
    version: u64,
    /// The API's origin.
    pub api: String,
    /// The version of the tenant's key.
    pub key_version: String,
    /// The SHA-256 of the key's modulus.
    pub thumbprint: String,
    /// When the key expires, as far as known when it was registered.
    #[serde(default, with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    pub key_expires: Option<OffsetDateTime>,
    /// The API's response; absent until it is recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registered: Option<RegistrationDates>,
}

/// The validity of a registration, as the API states it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RegistrationDates {
    /// When it begins.
    #[serde(with = "time::serde::rfc3339")]
    pub created_date: OffsetDateTime,
    /// When it ends, if the API states it.
    #[serde(default, with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    pub expiration_date: Option<OffsetDateTime>,
}

/// Why a record cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The store denies access or did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The blob cannot be parsed, or a later version of vivadrop wrote it.
    #[error(
        "`{path}` is not a record of a registration that this version of vivadrop can read ({why}): fix it, or delete it and run onboard again"
    )]
    Unreadable {
        /// The record.
        path: BlobPath,
        /// The reason: it cannot be parsed, is too large, or has an unknown version.
        why: String,
    },
}

impl Registration {
    /// A registration without the API's response.
    pub fn new(api: String, key_version: String, thumbprint: String, key_expires: Option<OffsetDateTime>) -> Self {
        Self { version: VERSION, api, key_version, thumbprint, key_expires, registered: None }
    }
}

/// The path of the tenant's record.
pub fn path(state_container: &str, tenant: TenantId) -> BlobPath {
    BlobPath::new(state_container, format!("tenants/{tenant}.json"))
}

/// Reads the tenant's record, with the ETag of its blob. `None` if there is no record.
pub async fn read(
    store: &dyn Store,
    state_container: &str,
    tenant: TenantId,
) -> Result<Option<(ETag, Registration)>, RecordError> {
    let path = path(state_container, tenant);
    let Some(blob) = store.find(&path).await? else {
        return Ok(None);
    };
    let unreadable = |why: String| RecordError::Unreadable { path: path.clone(), why };
    let bytes = match read_whole(store, &blob, MAX_RECORD_BYTES).await {
        Err(ReadWholeError::Store(error)) => return Err(error.into()),
        bytes => bytes.map_err(|error| unreadable(error.to_string()))?,
    };
    let record: Registration = serde_json::from_slice(&bytes).map_err(|error| unreadable(error.to_string()))?;
    if record.version != VERSION {
        return Err(unreadable(format!("it has version {}", record.version)));
    }
    Ok(Some((blob.etag, record)))
}

/// Writes the tenant's record; returns its new ETag. Fails if the record is not the one with the ETag `replaced`, or if
/// `replaced` is `None` and a record exists.
pub async fn write(
    store: &dyn Store,
    state_container: &str,
    tenant: TenantId,
    registration: &Registration,
    replaced: Option<ETag>,
) -> Result<ETag, StoreError> {
    let mut text = serde_json::to_vec_pretty(registration).expect("strings and RFC 3339 dates serialize to JSON");
    text.push(b'\n');
    let condition = replaced.map_or(WriteIf::Absent, WriteIf::Matches);
    store.write(&path(state_container, tenant), text.into(), condition).await
}
