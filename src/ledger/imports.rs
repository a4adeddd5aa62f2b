//! The ledger's record of a tenant's attributes: the definitions in force, requests for imports, and the deletions that
//! receivers have yet to be told about.

use std::collections::BTreeSet;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use time::OffsetDateTime;

use super::{Ledger, LedgerError, ListingFacts, json, paths};
use crate::{
    attributes::{Definitions, DropDates},
    drop::{DropPath, TenantId},
    store::{BlobPath, ETag, ReadWholeError, StoreError, WriteIf, read_current},
};

/// The largest definitions that are read, in bytes.
const MAX_DEFINITIONS_BYTES: u64 = 1 << 20;

/// The maximum number of drops whose dates are kept: those that were read last.
const MAX_EXAMINED: usize = 500;

/// The record of a tenant's imports, as it was when it was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TenantImports {
    /// How often the definitions have changed, not counting changes of roles.
    pub revision: u64,
    /// How many `completed`, `failed` and `deleted` messages there are: the `sequence` of the last one.
    pub sequence: u64,
    /// The end of the import that `sequence` was given to; `None` if it was given to a deletion.
    pub numbered: Option<String>,
    /// The last valid definitions; `None` if there were none.
    pub definitions: Option<AcceptedDefinitions>,
    /// The definitions of an earlier record that was deleted, as far as they are known.
    pub(crate) lost: LostDefinitions,
    /// The deletions of attributes that receivers have yet to be told about, in their order.
    pub deletions: Vec<Deletion>,
    /// How many imports people have asked for.
    pub requested: u32,
    /// The imports that people have asked for and that are not done, in their order.
    pub requests: Vec<RequestedImport>,
    /// The dates of the rows of drops that were read.
    pub examined: Vec<ExaminedDrop>,
    /// The version of the record's blob, which a write must overwrite; `None` if there was no record.
    pub(super) version: Option<ETag>,
}

/// The facts that remain of the definitions in a record that a person has deleted. The next valid definitions clear
/// them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LostDefinitions {
    /// A number that is above that of all lost definitions.
    pub(crate) number: u64,
    /// The names of the attributes that receivers may have.
    pub(crate) attributes: BTreeSet<String>,
}

impl LostDefinitions {
    /// The names of the attributes that `new` does not have.
    pub(crate) fn attributes_missing_in(&self, new: &Definitions) -> impl Iterator<Item = &str> {
        let is_missing = |name: &&str| !new.attributes.iter().any(|attribute| attribute.name == **name);
        self.attributes.iter().map(String::as_str).filter(is_missing)
    }
}

/// An import that a person has asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestedImport {
    /// Distinguishes it from the others.
    pub id: String,
    /// Its number among the requests of the tenant, from 1: part of the ids of messages that are sent again.
    pub number: u32,
    /// The drop.
    #[serde(with = "drop_path")]
    pub path: DropPath,
    /// Only this program.
    #[serde(default)]
    pub program: Option<String>,
    /// Only this cycle of the program.
    #[serde(default)]
    pub cycle: Option<String>,
    /// Whether cycles that were imported before are imported again.
    pub again: bool,
    /// Since when the drop cannot be read, not counting pauses of the tenant; `None` if the last try could read it.
    #[serde(
        rename = "failingSince",
        default,
        with = "time::serde::rfc3339::option",
        skip_serializing_if = "Option::is_none"
    )]
    pub failing_since: Option<OffsetDateTime>,
}

/// The dates of a drop that was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExaminedDrop {
    /// The drop path.
    #[serde(with = "drop_path")]
    pub path: DropPath,
    /// Its blobs at that time.
    pub listing: ListingFacts,
    /// The dates of its rows.
    #[serde(flatten)]
    pub dates: DropDates,
}

impl TenantImports {
    /// Whether the ledger has the record.
    pub fn is_stored(&self) -> bool {
        self.version.is_some()
    }

    /// The recorded dates of a drop with these blobs; `None` if it was not read, or was read with other blobs.
    pub fn examined(&self, path: &DropPath, listing: ListingFacts) -> Option<&ExaminedDrop> {
        self.examined.iter().find(|examined| examined.path == *path && examined.listing == listing)
    }

    /// Records the dates of a drop. Replaces earlier dates of the same drop.
    pub fn remember(&mut self, examined: ExaminedDrop) {
        self.examined.retain(|other| other.path != examined.path);
        self.examined.push(examined);
        self.examined.drain(..self.examined.len().saturating_sub(MAX_EXAMINED));
    }
}

mod drop_path {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::{super::json::DropPathJson, DropPath};

    pub(super) fn serialize<S: Serializer>(path: &DropPath, serializer: S) -> Result<S::Ok, S::Error> {
        DropPathJson(path.clone()).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<DropPath, D::Error> {
        DropPathJson::deserialize(deserializer).map(|path| path.0)
    }
}

/// Definitions that were valid when the ledger last looked at them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcceptedDefinitions {
    /// The definitions.
    pub definitions: Definitions,
    /// The version of the blob that they come from.
    pub etag: ETag,
    /// How often accepted definitions differed from those before. Each time receivers have to be told.
    pub number: u64,
    /// Whether receivers were told about these definitions.
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    numbered: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    deletions: Vec<Deletion>,
    #[serde(default)]
    requested: u32,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    requests: Vec<RequestedImport>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    examined: Vec<ExaminedDrop>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    accepted: Option<AcceptedJson>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lost: Option<LostDefinitions>,
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
        let record = record.clone();
        Self {
            version: json::VERSION,
            revision: record.revision,
            sequence: record.sequence,
            numbered: record.numbered,
            deletions: record.deletions,
            requested: record.requested,
            requests: record.requests,
            examined: record.examined,
            accepted,
            lost: Some(record.lost).filter(|lost| *lost != LostDefinitions::default()),
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
        Ok(TenantImports {
            revision: self.revision,
            sequence: self.sequence,
            numbered: self.numbered,
            definitions,
            lost: self.lost.unwrap_or_default(),
            deletions: self.deletions,
            requested: self.requested,
            requests: self.requests,
            examined: self.examined,
            version: Some(version),
        })
    }
}

impl Ledger {
    /// Reads the record of a tenant's imports. Returns an empty record if the tenant never had one. If a person has
    /// deleted it, returns a record whose numbers continue above those of the deleted one.
    pub async fn tenant_imports(&self, tenant: TenantId) -> Result<TenantImports, LedgerError> {
        let path = self.blob(paths::imports(tenant));
        match self.read(&path).await? {
            Some((etag, bytes)) => json::parse_versioned::<TenantJson>(&path, &bytes)?.record(&path, etag),
            None => self.salvaged_imports(tenant).await,
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

    /// The version of the stored definitions; `None` if there are none. Costs one request.
    pub async fn definitions_version(&self, tenant: TenantId) -> Result<Option<ETag>, LedgerError> {
        Ok(self.store.find(&self.blob(paths::definitions(tenant))).await?.map(|blob| blob.etag))
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
