//! The ledger's record of the import of a survey cycle. It holds counts and reasons, and nothing about people.

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::{CONCURRENT_READS, Ledger, LedgerError, json, paths};
use crate::{
    attributes::RANGES,
    clock,
    drop::{TenantId, discover::ListingSummary},
    message::{DropFacts, ImportFacts, WindowFacts},
    store::{BlobPath, ETag},
};

/// Where the import of a cycle stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ImportState {
    /// The attributes are being computed, or people are being sent.
    Running,
    /// All people were sent.
    Completed,
    /// The cycle cannot be imported.
    Failed,
}

/// The import of a survey cycle, as it was when it was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CycleImport {
    /// The survey program.
    pub program: String,
    /// The cycle.
    pub cycle: String,
    /// The drop that the attributes are computed from.
    pub drop: DropFacts,
    /// A hash of the names and versions of the drop's files.
    pub files: String,
    /// The summary of the drop's blobs. If the drop's entry in lists still has the same one, the files have not
    /// changed.
    pub listing: ListingFacts,
    /// The revision of the definitions.
    pub revision: u64,
    /// The definitions that apply to the cycle, as a text. If the current text differs, the cycle is imported again.
    /// Empty if an attribute was deleted since.
    pub rules: String,
    /// How often a person has asked for this import again.
    #[serde(default)]
    pub run: u32,
    /// The id of the import.
    pub import_id: String,
    /// Where it stands.
    pub state: ImportState,
    /// The `sequence` of the message about the end of the import; `None` until it is recorded.
    #[serde(default)]
    pub sequence: Option<u64>,
    /// Whether receivers were told about the end.
    pub announced: bool,
    /// The sink has acknowledged all people before this one.
    pub next_person: u64,
    /// The days whose rows count; `None` until they are known.
    #[serde(default)]
    pub window: Option<WindowFacts>,
    /// The number of people; `None` until it is known.
    #[serde(default)]
    pub people: Option<u64>,
    /// The attributes with the number of people in each range.
    #[serde(default)]
    pub attributes: Vec<ImportedAttribute>,
    /// The ranges that receivers may ever have had: those of every import of the cycle whose people may have been sent.
    /// Ranges are removed when receivers have deleted the attribute, and not before: whoever kept an import can compare
    /// it with a later one.
    #[serde(default)]
    pub known_ranges: Vec<KnownRanges>,
    /// Why the cycle cannot be imported, as a code such as `not-weekly`.
    #[serde(default)]
    pub reason: Option<String>,
    /// Why the cycle cannot be imported, or the last failure, for people.
    #[serde(default)]
    pub message: Option<String>,
    /// Since when the import has failed without progress; `None` if it does not fail.
    #[serde(default, with = "time::serde::rfc3339::option")]
    pub failing_since: Option<OffsetDateTime>,
    /// When the record was written.
    #[serde(with = "time::serde::rfc3339")]
    pub updated: OffsetDateTime,
    /// The version of the record's blob, which a write must overwrite; `None` if there was no record.
    #[serde(skip)]
    pub(super) version: Option<ETag>,
}

/// An attribute and the number of people in each of its ranges.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportedAttribute {
    /// Its name.
    pub name: String,
    /// The columns that may have the metric.
    pub columns: Vec<String>,
    /// The upper bounds of its first three ranges, in millionths.
    pub bounds: [u64; RANGES - 1],
    /// The names of its ranges.
    pub labels: [String; RANGES],
    /// The number of people in each range; `None` if it is withheld.
    pub counts: [Option<u64>; RANGES],
}

/// The ranges of a metric that receivers know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownRanges {
    /// The name of the attribute; empty in records of older versions.
    #[serde(default)]
    pub name: String,
    /// The columns that may have the metric.
    pub columns: Vec<String>,
    /// The upper bounds of the first three ranges, in millionths.
    pub bounds: [u64; RANGES - 1],
    /// The end of the window whose people were imported; `None` in records of older versions.
    #[serde(default)]
    pub window_end: Option<String>,
}

impl KnownRanges {
    /// Whether these are ranges of one of the `columns`.
    pub fn have_any_of(&self, columns: &[&str]) -> bool {
        self.columns.iter().any(|column| columns.contains(&column.as_str()))
    }
}

/// The blobs of a drop: a [`ListingSummary`] without the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListingFacts {
    /// The number of blobs.
    pub blobs: u64,
    /// A digest of their names and versions.
    pub digest: u64,
}

impl From<ListingSummary> for ListingFacts {
    fn from(ListingSummary { blobs, digest, .. }: ListingSummary) -> Self {
        Self { blobs, digest }
    }
}

#[derive(Serialize, Deserialize)]
struct RecordJson<T> {
    version: u64,
    #[serde(flatten)]
    record: T,
}

impl CycleImport {
    /// The record of an import that begins in place of `earlier`. The parameters are the fields of the same names.
    /// Keeps `known_ranges`, because receivers may still have the ranges of earlier imports.
    pub fn begin(
        (program, cycle): (&str, &str),
        (drop, files, listing): (DropFacts, String, ListingFacts),
        (revision, rules, run, import_id): (u64, String, u32, String),
        earlier: Option<&Self>,
    ) -> Self {
        Self {
            program: program.to_owned(),
            cycle: cycle.to_owned(),
            drop,
            files,
            listing,
            revision,
            rules,
            run,
            import_id,
            state: ImportState::Running,
            sequence: None,
            announced: false,
            next_person: 0,
            window: None,
            people: None,
            attributes: Vec::new(),
            known_ranges: earlier.map(|earlier| earlier.known_ranges.clone()).unwrap_or_default(),
            reason: None,
            message: None,
            failing_since: None,
            updated: clock::now(),
            version: earlier.and_then(|earlier| earlier.version.clone()),
        }
    }

    /// The names of the attributes that receivers may have from this import or from earlier ones of its cycle.
    pub fn known_attributes(&self) -> impl Iterator<Item = &str> {
        let own = self.attributes.iter().map(|attribute| &*attribute.name);
        own.chain(self.known_ranges.iter().map(|ranges| &*ranges.name)).filter(|name| !name.is_empty())
    }

    /// The import as messages of `tenant` describe it; `None` as long as its window is not known.
    pub fn facts(&self, tenant: TenantId) -> Option<ImportFacts> {
        Some(ImportFacts {
            tenant_id: tenant,
            drop: self.drop.clone(),
            import_id: self.import_id.clone(),
            program: self.program.clone(),
            cycle: self.cycle.clone(),
            revision: self.revision,
            window: self.window.clone()?,
        })
    }

    /// Adds the ranges of this import to those that receivers may have. To be recorded before people are sent: a
    /// receiver may keep them although the import does not complete.
    pub fn add_known_ranges(&mut self) {
        let window_end = self.window.as_ref().map(|window| window.end.clone());
        for ImportedAttribute { name, columns, bounds, .. } in &self.attributes {
            let (name, columns, window_end) = (name.clone(), columns.clone(), window_end.clone());
            let ranges = KnownRanges { name, columns, bounds: *bounds, window_end };
            if !self.known_ranges.contains(&ranges) {
                self.known_ranges.push(ranges);
            }
        }
    }

    /// The ranges that receivers may have. Where the window was not recorded with the ranges, it is that of the import.
    pub fn known_ranges_with_windows(&self) -> impl Iterator<Item = KnownRanges> {
        let own_end = self.window.as_ref().map(|window| &window.end);
        self.known_ranges.iter().map(move |known| {
            let window_end = known.window_end.as_ref().or(own_end).cloned();
            KnownRanges { window_end, ..known.clone() }
        })
    }

    /// Whether the import has ended and receivers were told.
    pub fn is_over(&self) -> bool {
        self.state != ImportState::Running && self.announced
    }
}

impl Ledger {
    /// Reads the records of all imports of a tenant, in no particular order.
    pub async fn cycle_imports(&self, tenant: TenantId) -> Result<Vec<CycleImport>, LedgerError> {
        let folder = paths::cycle_imports(tenant);
        let listed = self.store.list(&self.container, &folder).map_err(LedgerError::from);
        let records = listed.map_ok(async |blob| self.read_cycle_import(&blob.path).await);
        records.try_buffered(CONCURRENT_READS).try_filter_map(async |record| Ok(record)).boxed().try_collect().await
    }

    /// Reads the record of the import of a cycle; `None` if there is none. Costs one request.
    pub async fn cycle_import(
        &self,
        tenant: TenantId,
        program: &str,
        cycle: &str,
    ) -> Result<Option<CycleImport>, LedgerError> {
        self.read_cycle_import(&self.blob(paths::cycle_import(tenant, program, cycle))).await
    }

    async fn read_cycle_import(&self, path: &BlobPath) -> Result<Option<CycleImport>, LedgerError> {
        let Some((version, bytes)) = self.read(path).await? else { return Ok(None) };
        let RecordJson { mut record, .. } = json::parse_versioned::<RecordJson<CycleImport>>(path, &bytes)?;
        record.version = Some(version);
        Ok(Some(record))
    }

    /// Writes the record of an import over the version that was read. Fails with [`LedgerError::ImportConflict`] if
    /// somebody else has written it since.
    pub async fn write_cycle_import(&self, tenant: TenantId, record: &mut CycleImport) -> Result<(), LedgerError> {
        record.updated = clock::now();
        let text = Bytes::from(json::format(&RecordJson { version: json::VERSION, record: &*record }));
        let path = self.blob(paths::cycle_import(tenant, &record.program, &record.cycle));
        let version = self.replace(&path, text, record.version.as_ref()).await?;
        record.version = Some(version.ok_or(LedgerError::ImportConflict(path))?);
        Ok(())
    }
}
