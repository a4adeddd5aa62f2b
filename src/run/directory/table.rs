//! Loads the directory that the rows of a run are joined to.

use std::{sync::Arc, time::Duration};

use futures::StreamExt;
use tracing::{info, warn};

use super::{
    super::{Run, RunError, Runner, Snapshot, Stopped},
    DirectoryContents,
};
use crate::{
    deliver::Join,
    directory::{Directory, DirectoryBuilder, DirectoryRules, DirectorySnapshot, DirectoryTooLarge},
    drop::{DropPath, TenantId},
    error_chain::error_chain,
    keys::KeyError,
    ledger::PinnedDirectory,
    memory_budget::Reservation,
    message::JoinFacts,
    pass_permits::MAX_PASSES,
    pipeline::{self, RowsError},
    run_permits::MAX_RUNS,
    store::{StoreError, read},
    tenant_config::TenantConfig,
    verdict::{Reason, Verdict},
};

/// How many unknown columns are logged.
const MAX_WARNINGS: usize = 5;

/// How long a directory that is larger than a share of the memory may be read while others wait for such memory. The
/// largest ones that are usual are read in less time.
const LARGE_TURN: Duration = Duration::from_secs(30);

/// A directory in memory.
pub(super) struct Loaded {
    pinned: PinnedDirectory,
    is_identified: bool,
    join: Join,
    /// Memory of the process that the table takes.
    _reservation: Option<Reservation>,
}

/// Why a directory cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
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
    /// It needs more memory than `DIRECTORY_MEMORY`.
    #[error("it needs up to {} MiB of memory, and DIRECTORY_MEMORY is {limit} bytes", .needed.div_ceil(1 << 20))]
    TooLarge {
        /// A bound that is large enough, in bytes.
        needed: u64,
        /// The bound in bytes.
        limit: usize,
    },
    /// Other runs held the memory for too long, or they waited for it longer than the directory may be read then. The
    /// drop is retried.
    #[error("other runs use the memory that its table needs: the drop is retried")]
    MemoryInUse,
}

impl DirectoryError {
    /// The verdict on the drop or the cycle that is to be joined.
    pub(crate) fn verdict(&self) -> Verdict {
        match self {
            Self::Keys(source) => source.verdict(),
            Self::File { source, .. } => source.verdict(),
            Self::TooLarge { .. } => Verdict::SetAside(Reason::DirectoryTooLarge),
            Self::MemoryInUse => Verdict::Retry,
        }
    }

    /// How long a service asked to wait before the next run, if it did.
    pub(in crate::run) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Keys(source) => source.retry_after(),
            Self::File { .. } | Self::TooLarge { .. } | Self::MemoryInUse => None,
        }
    }

    /// Whether a blob of the directory has been deleted or overwritten while it was read.
    fn is_gone(&self) -> bool {
        let Self::File { source: RowsError::Read { source, .. }, .. } = self else { return false };
        matches!(source, StoreError::Changed(_) | StoreError::Missing(_))
    }
}

impl Run<'_> {
    /// The directory that the rows are joined to; `None` if they are not joined. Loads the directory unless that was
    /// done. Without a Column key the table is empty, because the customer has not consented to identification.
    pub(in crate::run) async fn load_directory(&mut self, snapshot: &Snapshot) -> Result<Option<Join>, Stopped> {
        if !self.is_joined(&snapshot.admitted) {
            return Ok(None);
        }
        let pinned = self.record.directory.clone().expect("the directory was chosen before the claim");
        let (_, keys) = self.keys.as_ref().expect("the keys were requested before");
        let is_identified = keys.column.is_some();
        let is_loaded = |loaded: &&Loaded| loaded.pinned == pinned && loaded.is_identified == is_identified;
        if let Some(loaded) = self.directory.loaded.as_ref().filter(is_loaded) {
            return Ok(Some(loaded.join.clone()));
        }
        self.directory.loaded = None;
        let config = self.directory_config(&snapshot.admitted);
        let mut reservation = None;
        let (facts, people) = match &pinned.snapshot {
            Some(directory) if is_identified => {
                // Blobs are read only in the versions that were listed, so this run need not list them again.
                let contents = match self.directory.chosen.take().filter(|(chosen, _)| chosen == directory) {
                    Some((_, contents)) => Some(contents),
                    None => self.runner.contents_of(directory, snapshot.admitted.tenant).await?,
                };
                let Some(contents) = contents else { return Err(self.choose_again(directory)) };
                let (people, reserved) = match self.runner.read_table(&contents, snapshot.admitted.tenant).await {
                    Ok(table) => table,
                    Err(error) if error.is_gone() => return Err(self.choose_again(directory)),
                    Err(error) => return Err(stopped(&directory.path, error)),
                };
                reservation = Some(reserved);
                let (path, count) = (self.path, people.len());
                info!(drop.path = %path, people = count, "joining `{path}` to the directory `{}`", directory.path);
                (JoinFacts { snapshot: Some(directory.clone()) }, people)
            }
            _ => (JoinFacts { snapshot: None }, DirectoryBuilder::new(&config.rules).finish()),
        };
        let join = Join { facts, people: Arc::new(people) };
        let loaded = Loaded { pinned, is_identified, join: join.clone(), _reservation: reservation };
        self.directory.loaded = Some(loaded);
        Ok(Some(join))
    }

    /// Unpins a directory that was deleted or overwritten, so that the run chooses another one for the remaining rows.
    fn choose_again(&mut self, directory: &DirectorySnapshot) -> Stopped {
        let path = self.path;
        warn!(drop.path = %path, "the directory `{}` that `{path}` is joined to has changed or was deleted: choosing again",
            directory.path);
        self.directory.gone.insert(directory.clone());
        self.record.directory = None;
        Stopped::ChooseAgain
    }

    /// Frees the table.
    pub(in crate::run) fn unload_directory(&mut self) {
        self.directory.loaded = None;
    }
}

impl Runner {
    /// The people of a directory, and the memory that they take; `None` if this version of the directory was deleted or
    /// overwritten.
    pub(crate) async fn load_table(
        &self,
        directory: &DirectorySnapshot,
        tenant: TenantId,
    ) -> Result<Option<(Directory, Reservation)>, RunError> {
        let Some(contents) = self.contents_of(directory, tenant).await? else { return Ok(None) };
        match self.read_table(&contents, tenant).await {
            Ok(table) => Ok(Some(table)),
            Err(error) if error.is_gone() => Ok(None),
            Err(source) => Err(RunError::Directory { path: directory.path.clone(), source: Box::new(source) }),
        }
    }

    /// Reads a directory into a table. Also returns the memory that it takes.
    ///
    /// Most tables fit into a share of the memory, so that every run and import of the process can have one. A larger
    /// directory is read again with the memory that it needs by its number of rows, and then, if its metadata has a
    /// wrong number, with all that `DIRECTORY_MEMORY` allows: if that memory becomes free in time. While others wait
    /// for such memory, it has it for [`LARGE_TURN`]: a directory may have rows without end.
    async fn read_table(
        &self,
        contents: &DirectoryContents,
        tenant: TenantId,
    ) -> Result<(Directory, Reservation), DirectoryError> {
        let largest = self.tenant_configs.of(tenant).directory.rules.memory;
        let share = self.directory_memory.share(MAX_RUNS + MAX_PASSES).min(largest);
        let mut memory = share;
        let free = self.directory_memory.reserve_soon(memory).await;
        let mut reserved = free.ok_or(DirectoryError::MemoryInUse)?;
        loop {
            match self.read_table_within(memory, reserved, contents, tenant).await {
                Err(DirectoryError::TooLarge { needed, .. }) if memory < largest => {
                    let needed = usize::try_from(needed).unwrap_or(usize::MAX);
                    memory = if memory == share { needed.clamp(share + 1, largest) } else { largest };
                    let free = self.directory_memory.reserve_large(memory).await;
                    reserved = free.ok_or(DirectoryError::MemoryInUse)?;
                }
                result => return result,
            }
        }
    }

    async fn read_table_within(
        &self,
        memory: usize,
        mut reserved: Reservation,
        DirectoryContents { blobs, metadata }: &DirectoryContents,
        tenant: TenantId,
    ) -> Result<(Directory, Reservation), DirectoryError> {
        let store = &self.store;
        let keys = self.keys.keys_of(&**store, blobs, metadata, tenant).await?;
        let TenantConfig { rules, limits, directory: config, .. } = self.tenant_configs.of(tenant);
        let file_rules = rules.of_directory(&config.rules);
        let mut builder = DirectoryBuilder::new(&DirectoryRules { memory, ..config.rules.clone() });
        for file in &blobs.files {
            let name = blobs.relative(file);
            let bytes = read(Arc::clone(store), file.clone(), self.window);
            let mut rows = pipeline::rows(bytes, 0, &keys, &file_rules, None, limits.decoders, limits.bad_rows_allowed);
            while let Some(rows) = rows.next().await {
                let rows = rows.map_err(|source| DirectoryError::File { name: name.to_owned(), source })?;
                let too_large = |error: DirectoryTooLarge| {
                    let needed = error.needed(metadata.rows_extracted.unwrap_or_default());
                    DirectoryError::TooLarge { needed, limit: error.limit }
                };
                builder.push(rows.good()).map_err(too_large)?;
                if reserved.is_overdue(LARGE_TURN) {
                    return Err(DirectoryError::MemoryInUse);
                }
            }
        }
        let people = builder.finish();
        for warning in people.unknown_columns().take(MAX_WARNINGS) {
            warn!(tenant.id = %tenant, "DIRECTORY_COLUMNS of {tenant}: {warning}");
        }
        reserved.shrink_to(people.bytes());
        Ok((people, reserved))
    }
}

/// Why a run stops if the directory at `path` cannot be read.
fn stopped(path: &DropPath, source: DirectoryError) -> Stopped {
    let verdict = source.verdict();
    let error = RunError::Directory { path: path.clone(), source: Box::new(source) };
    match verdict {
        Verdict::Retry => Stopped::Retry(error),
        Verdict::SetAside(reason) => Stopped::SetAside { reason, message: error_chain(&error) },
    }
}
