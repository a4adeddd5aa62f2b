//! What the ledger records about a tenant's attributes: the definitions in force, and what receivers are to be told.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{Ledger, LedgerError, json, paths};
use crate::{
    attributes::Definitions,
    drop::TenantId,
    store::{BlobPath, ETag, ReadWholeError, StoreError, WriteIf, read_current},
};

/// The largest definitions that are read, in bytes.
const MAX_DEFINITIONS_BYTES: u64 = 1 << 20;

/// The record of a tenant's imports, as it was when it was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TenantImports {
    /// How often the definitions have changed, roles apart.
    pub revision: u64,
    /// How many `completed`, `failed` and `deleted` messages there are: the `sequence` of the last one.
    pub sequence: u64,
    /// The last valid definitions; `None` if there were none.
    pub definitions: Option<AcceptedDefinitions>,
    /// The deletions of attributes that receivers have yet to be told about, in their order.
    pub deletions: Vec<Deletion>,
    /// The version of the record's blob, which a write must overwrite; `None` if there was no record.
    version: Option<ETag>,
}

/// Definitions that were valid when the ledger last looked at them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcceptedDefinitions {
    /// The definitions.
    pub definitions: Definitions,
    /// The version of the blob that they come from.
    pub etag: ETag,
    /// How often definitions were accepted that receivers had to be told about.
    pub number: u64,
    /// Whether receivers were told.
    pub is_announced: bool,
}

/// An attribute whose imported data receivers delete.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deletion {
    /// The name of the attribute.
    pub attribute: String,
    /// The `sequence` of the message.
    pub sequence: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct TenantJson {
    version: u64,
    revision: u64,
    sequence: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    deletions: Vec<Deletion>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    accepted: Option<AcceptedJson>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct AcceptedJson {
    etag: String,
    number: u64,
    announced: bool,
    definitions: Box<RawValue>,
}

impl TenantJson {
    fn of(record: &TenantImports) -> Self {
        let accepted = record.definitions.as_ref().map(|accepted| AcceptedJson {
            etag: accepted.etag.0.clone(),
            number: accepted.number,
            announced: accepted.is_announced,
            definitions: RawValue::from_string(accepted.definitions.to_json()).expect("definitions are valid JSON"),
        });
        let TenantImports { revision, sequence, deletions, .. } = record;
        Self {
            version: json::VERSION,
            revision: *revision,
            sequence: *sequence,
            deletions: deletions.clone(),
            accepted,
        }
    }

    fn record(self, path: &BlobPath, version: ETag) -> Result<TenantImports, LedgerError> {
        let definitions = match self.accepted {
            None => None,
            Some(accepted) => Some(AcceptedDefinitions {
                definitions: Definitions::parse(accepted.definitions.get().as_bytes())
                    .map_err(|error| LedgerError::Invalid { path: path.clone(), problem: error.to_string() })?,
                etag: ETag(accepted.etag),
                number: accepted.number,
                is_announced: accepted.announced,
            }),
        };
        let Self { revision, sequence, deletions, .. } = self;
        Ok(TenantImports { revision, sequence, definitions, deletions, version: Some(version) })
    }
}

impl Ledger {
    /// Reads the record of a tenant's imports. Returns an empty record if there is none.
    pub async fn tenant_imports(&self, tenant: TenantId) -> Result<TenantImports, LedgerError> {
        let path = self.blob(paths::imports(tenant));
        match self.read(&path).await? {
            Some((etag, bytes)) => json::parse_versioned::<TenantJson>(&path, &bytes)?.record(&path, etag),
            None => Ok(TenantImports::default()),
        }
    }

    /// Writes the record of a tenant's imports over the version that was read. Returns whether it was written: if not,
    /// somebody else has written it since.
    pub async fn write_tenant_imports(
        &self,
        tenant: TenantId,
        record: &mut TenantImports,
    ) -> Result<bool, LedgerError> {
        let text = Bytes::from(json::format(&TenantJson::of(record)));
        let version = self.replace(&self.blob(paths::imports(tenant)), text, record.version.as_ref()).await?;
        let is_written = version.is_some();
        record.version = version.or(record.version.take());
        Ok(is_written)
    }

    /// Reads the definitions of a tenant as they are stored, and their version; `None` if there are none.
    pub async fn stored_definitions(&self, tenant: TenantId) -> Result<Option<(ETag, Bytes)>, LedgerError> {
        let path = self.blob(paths::definitions(tenant));
        match read_current(&*self.store, &path, MAX_DEFINITIONS_BYTES).await {
            Ok(current) => Ok(current.map(|(blob, bytes)| (blob.etag, bytes))),
            // Definitions of that size are not valid, whatever they contain.
            Err(ReadWholeError::TooLarge { .. }) => {
                let found = self.store.find(&path).await?;
                Ok(found.map(|blob| (blob.etag, Bytes::from_static(b"too large"))))
            }
            Err(ReadWholeError::Store(error)) => Err(error.into()),
        }
    }

    /// Stores the definitions of a tenant over the version that was read; `None` if there were none. Returns the new
    /// version, or `None` if somebody else has changed them since.
    pub async fn store_definitions(
        &self,
        tenant: TenantId,
        text: Bytes,
        version: Option<&ETag>,
    ) -> Result<Option<ETag>, LedgerError> {
        self.replace(&self.blob(paths::definitions(tenant)), text, version).await
    }

    /// Replaces this version of a record. Returns the new version, or `None` if somebody else has written another text
    /// since.
    pub(super) async fn replace(
        &self,
        path: &BlobPath,
        text: Bytes,
        version: Option<&ETag>,
    ) -> Result<Option<ETag>, LedgerError> {
        let condition = version.cloned().map_or(WriteIf::Absent, WriteIf::Matches);
        match self.store.write(path, text.clone(), condition).await {
            Ok(version) => Ok(Some(version)),
            // Our own write may have succeeded, and its response was lost.
            Err(StoreError::Changed(_)) => {
                let found = self.read(path).await?;
                Ok(found.filter(|(_, found)| *found == text).map(|(version, _)| version))
            }
            Err(error) => Err(error.into()),
        }
    }
}
