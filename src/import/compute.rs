//! Computes a cycle from the rows of a drop.

use std::{sync::Arc, time::Duration};

use futures::StreamExt;

use super::Pass;
use crate::{
    attributes::{CyclePass, CycleReport, Definitions, RowParser, Window},
    directory::{Directory, DirectorySnapshot, is_directory},
    drop::{
        DropPath, TenantId,
        discover::{self, DropContents},
        metadata::{JobMetadata, MetadataError},
        tenant::Refusal,
    },
    keys::KeyError,
    ledger::{ListingFacts, Scope},
    memory_budget::Reservation,
    message::DropFacts,
    pipeline::{self, RowsError},
    run::{AdmittedDrop, RunError},
    stage::decode::Rows,
    store::{StoreError, read},
    tenant_config::TenantConfig,
    verdict::Verdict,
};

/// A drop of the tenant that is still in storage.
pub(super) struct OpenedDrop {
    contents: DropContents,
    metadata: JobMetadata,
    /// The drop, as messages describe it.
    pub(super) facts: DropFacts,
    /// The versions of its files, as a text.
    pub(super) files: String,
    pub(super) listing: ListingFacts,
}

/// Why a path has no drop that attributes of the tenant can be imported from.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotImportable {
    /// There is no job metadata any more.
    #[error("the drop was deleted: there is no job metadata any more")]
    Deleted,
    /// The drop belongs to no tenant that may write there.
    #[error(transparent)]
    Refused(Refusal),
    /// The job metadata cannot be parsed.
    #[error(transparent)]
    Metadata(MetadataError),
    /// The drop belongs to another tenant.
    #[error("the drop belongs to the tenant {0}")]
    OtherTenant(TenantId),
    /// The drop is a directory export.
    #[error("the drop is a directory export, which has no metrics")]
    Directory,
    /// The drop has more blobs than a drop may have.
    #[error("the drop has more than {0} blobs (MAX_FILES)")]
    TooManyFiles(usize),
    /// The drop has no data files.
    #[error("the drop has no data files")]
    NoFiles,
}

/// The directory that people are joined to.
pub(super) struct JoinedDirectory {
    pub(super) snapshot: DirectorySnapshot,
    pub(super) people: Directory,
    /// Memory of the process that the table takes.
    _reservation: Reservation,
}

/// Why a drop cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Its blobs cannot be listed.
    #[error("cannot list it")]
    Store(#[from] StoreError),
    /// Its keys cannot be obtained.
    #[error("cannot get its keys")]
    Keys(#[from] KeyError),
    /// One of its files cannot be read or decoded.
    #[error("cannot read file `{name}`")]
    File {
        /// The name of the file.
        name: String,
        /// Why the file cannot be read.
        source: RowsError,
    },
    /// The directory that its people are joined to cannot be read.
    #[error("cannot read its directory")]
    Directory(#[source] Box<RunError>),
}

impl ReadError {
    /// Whether it can help to read the drop again later.
    pub(super) fn verdict(&self) -> Verdict {
        match self {
            Self::Store(source) => source.verdict(),
            Self::Keys(source) => source.verdict(),
            Self::File { source, .. } => source.verdict(),
            Self::Directory(error) => match &**error {
                RunError::Directory { source, .. } => source.verdict(),
                _ => Verdict::Retry,
            },
        }
    }

    /// Whether the table of the directory only waits for memory that other runs use.
    pub(super) fn is_memory_in_use(&self) -> bool {
        matches!(self, Self::Directory(error) if error.is_memory_in_use())
    }

    /// How long a service asked to wait, if it did.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Keys(source) => source.retry_after(),
            Self::Directory(source) => source.retry_after(),
            Self::Store(_) | Self::File { .. } => None,
        }
    }
}

impl Pass<'_> {
    /// The drop at `path`, or why nothing can be imported from there.
    pub(super) async fn open(&self, path: &DropPath) -> Result<Result<OpenedDrop, NotImportable>, ReadError> {
        let runner = self.runner;
        let max_files = runner.limits.max_files;
        let Some(contents) = discover::list_contents(&*runner.store, path, max_files).await? else {
            return Ok(Err(NotImportable::Deleted));
        };
        let admitted = match AdmittedDrop::admit(&*runner.store, &runner.tenants, &contents, 0).await? {
            Ok(admitted) => admitted,
            Err(refusal) => return Ok(Err(NotImportable::Refused(refusal))),
        };
        let AdmittedDrop { tenant, metadata, facts, .. } = admitted;
        if tenant != self.tenant {
            return Ok(Err(NotImportable::OtherTenant(tenant)));
        }
        let metadata = match metadata {
            Ok(metadata) => metadata,
            Err(error) => return Ok(Err(NotImportable::Metadata(error))),
        };
        if is_directory(path, facts.table.as_deref()) {
            return Ok(Err(NotImportable::Directory));
        }
        if contents.too_many_blobs {
            return Ok(Err(NotImportable::TooManyFiles(max_files)));
        }
        if contents.files.is_empty() {
            return Ok(Err(NotImportable::NoFiles));
        }
        let files = Scope::of(&contents).files.unwrap_or_default();
        let listing = contents.listing.into();
        Ok(Ok(OpenedDrop { contents, metadata, facts, files, listing }))
    }

    /// The directory that the rows of the drop were joined to; `None` if the tenant joins no directories, or if the
    /// directory was deleted or overwritten.
    pub(super) async fn directory_of(&self, path: &DropPath) -> Result<Option<JoinedDirectory>, ReadError> {
        let runner = self.runner;
        if !runner.tenant_configs.of(self.tenant).directory.joins() {
            return Ok(None);
        }
        let record =
            runner.ledger.drop_record(path).await.map_err(|error| ReadError::Directory(Box::new(error.into())))?;
        let Some(snapshot) = record.directory.and_then(|pinned| pinned.snapshot) else { return Ok(None) };
        let loaded = runner.load_table(&snapshot, self.tenant).await;
        let loaded = loaded.map_err(|error| ReadError::Directory(Box::new(error)))?;
        Ok(loaded.map(|(people, reservation)| JoinedDirectory { snapshot, people, _reservation: reservation }))
    }

    /// Computes the cycle whose rows lie in `window`; `None` if rows of the drop are missing, because files were
    /// deleted.
    pub(super) async fn compute<'d>(
        &self,
        drop: &OpenedDrop,
        definitions: &'d Definitions,
        window: Window,
        memory: usize,
    ) -> Result<Option<CycleReport<'d>>, ReadError> {
        let runner = self.runner;
        let OpenedDrop { contents, metadata, .. } = drop;
        let keys = runner.keys.keys_of(&*runner.store, contents, metadata, self.tenant).await?;
        let TenantConfig { rules, limits, .. } = runner.tenant_configs.of(self.tenant);
        let rules = rules.clone().for_attributes(RowParser::columns(definitions));
        let mut pass = CyclePass::new(definitions, window, memory);
        let parser = Arc::new(RowParser::new(definitions, window));
        let mut row_count = 0;
        for file in &contents.files {
            let bytes = read(Arc::clone(&runner.store), file.clone(), runner.window);
            let parser = Arc::clone(&parser);
            let parse = move |rows: &Rows| parser.parse(rows);
            let mut blocks =
                pipeline::parsed_rows(bytes, &keys, &rules, limits.decoders, limits.bad_rows_allowed, parse);
            while let Some(block) = blocks.next().await {
                let name = || contents.relative(file).to_owned();
                let (rows, parsed) = block.map_err(|source| ReadError::File { name: name(), source })?;
                pass.push(&parsed);
                row_count += rows.count();
            }
        }
        if metadata.rows_extracted.is_some_and(|expected| expected != row_count) {
            return Ok(None);
        }
        Ok(Some(pass.finish(keys.column.is_some())))
    }
}
