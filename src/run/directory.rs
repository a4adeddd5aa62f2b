//! The directory join of a run: chooses the directory of a drop, waits for it, and loads it.
//!
//! The choice is recorded in the drop's record before the first row is sent, so that every run sends the same rows. No
//! wake-up is lost: a drop that waits writes its entries first and then looks once more, and a directory that ends is recorded
//! first and then wakes the drops that wait. The table is loaded after a file was claimed, and dropped before the drop ends.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures::{StreamExt, TryStreamExt};
use tracing::{info, warn};

use super::{
    AdmittedDrop, Outcome, Run, RunError, Runner, Snapshot, Step, Stopped, WokenDrop, conclude::RowCounts,
    read_metadata,
};
use crate::{
    clock,
    date::date_and_time,
    deliver::Join,
    directory::{
        Choice, Directory, DirectoryBuilder, DirectoryConfig, DirectoryMode, DirectorySnapshot, DirectoryTooLarge,
        KnownDirectory, Reservation, Situation, are_of_the_same_run, choose, expected_directory, is_directory,
    },
    drop::{
        DropPath,
        discover::{self, DropContents},
        metadata::JobMetadata,
    },
    error_chain::error_chain,
    keys::KeyError,
    ledger::{DropState, LedgerError, PinnedDirectory, Scope},
    message::JoinFacts,
    pipeline::{self, RowsError},
    sink::{Receiver, breaker::Breaker, discard::Discard},
    store::{StoreError, read},
    tenant_config::TenantConfig,
    verdict::{Reason, Verdict},
};

/// The directory that the rows of a run are joined to.
#[derive(Default)]
pub(super) struct RunDirectory {
    /// The snapshots that this run has found deleted or overwritten.
    gone: BTreeSet<DirectorySnapshot>,
    /// The directory that this run has chosen, and its blobs, until it is loaded.
    chosen: Option<(DirectorySnapshot, DirectoryContents)>,
    /// The table, as soon as the first file was claimed.
    loaded: Option<Loaded>,
}

/// The blobs and the job metadata of a directory.
struct DirectoryContents {
    blobs: DropContents,
    metadata: JobMetadata,
}

struct Loaded {
    pinned: PinnedDirectory,
    is_identified: bool,
    join: Join,
    /// Memory of the process that the table takes.
    _reservation: Option<Reservation>,
}

/// Why a directory cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// The store did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Its keys cannot be obtained.
    #[error("cannot get its keys")]
    Keys(#[from] KeyError),
    /// One of its files cannot be read or decoded.
    #[error("file `{name}` {source}")]
    File {
        /// The name of the file.
        name: String,
        /// Why.
        source: RowsError,
    },
    /// It needs more memory than `DIRECTORY_MEMORY`.
    #[error("it needs up to {needed} MiB of memory, and DIRECTORY_MEMORY is {limit} bytes")]
    TooLarge {
        /// A bound that is large enough, in MiB.
        needed: u64,
        /// The bound in bytes.
        limit: usize,
    },
}

impl DirectoryError {
    /// What the failure means for the drop that is to be joined.
    fn verdict(&self) -> Verdict {
        match self {
            Self::Store(source) => source.verdict(),
            Self::Keys(source) => source.verdict(),
            Self::File { source, .. } => source.verdict(),
            Self::TooLarge { .. } => Verdict::SetAside(Reason::DirectoryTooLarge),
        }
    }

    /// How long a service asked to wait before the next run, if it did.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Keys(source) => source.retry_after(),
            Self::Store(_) | Self::File { .. } | Self::TooLarge { .. } => None,
        }
    }

    /// Whether a blob of the directory has been deleted or overwritten while it was read.
    fn is_gone(&self) -> bool {
        let source = match self {
            Self::Store(source) | Self::File { source: RowsError::Read { source, .. }, .. } => source,
            Self::File { .. } | Self::Keys(_) | Self::TooLarge { .. } => return false,
        };
        matches!(source, StoreError::Changed(_) | StoreError::Missing(_))
    }
}

impl Run<'_> {
    /// What is done with directories, for the drop of this snapshot.
    fn directory_config(&self, admitted: &AdmittedDrop) -> &DirectoryConfig {
        &self.runner.tenant_configs.of(admitted.tenant).directory
    }

    /// Whether the rows of the drop are joined to a directory.
    fn is_joined(&self, admitted: &AdmittedDrop) -> bool {
        self.directory_config(admitted).joins() && !is_directory_drop(admitted)
    }

    /// Whether the drop is a directory that sends nothing but failures, because it is only joined.
    pub(super) fn is_silent(&self, admitted: &AdmittedDrop) -> bool {
        self.directory_config(admitted).mode == DirectoryMode::Join && is_directory_drop(admitted)
    }

    /// Where the rows of the drop go.
    pub(super) fn receiver_of_rows(&self, admitted: &AdmittedDrop) -> Receiver {
        if self.is_silent(admitted) {
            let breaker = Arc::<Breaker>::default();
            return Receiver { sink: Arc::new(Discard), passage: breaker.passage(), breaker };
        }
        self.receiver.clone().expect("the tenant is known")
    }

    /// Chooses the directory of the drop and records the choice, unless that was done. Returns the end of the run if the drop
    /// waits for its directory.
    pub(super) async fn pin_directory(&mut self, snapshot: &Snapshot) -> Result<Option<Step>, RunError> {
        if !self.is_joined(&snapshot.admitted) || self.record.directory.is_some() {
            return Ok(None);
        }
        let (path, ledger, tenant) = (self.path, &self.runner.ledger, snapshot.admitted.tenant);
        let mut waits = None;
        loop {
            match self.choose_directory(snapshot).await? {
                Choice::Join(chosen) => {
                    if waits.is_some() {
                        // The entry says that the drop waits. The process may be killed.
                        self.entry = Some(ledger.mark_unfinished(path, tenant, clock::now()).await?);
                    }
                    self.record.directory = Some(PinnedDirectory { snapshot: chosen });
                    self.runner.ledger.write_drop_record(path, tenant, &mut self.record).await?;
                    return Ok(None);
                }
                Choice::WaitUntil(until) if waits == Some(until) => {
                    self.start_directory(snapshot).await?;
                    info!(drop.path = %path, "`{path}` waits for the directory of its run, until {} at most", date_and_time(until));
                    return Ok(Some(Step::End(Outcome::Waiting(until))));
                }
                Choice::WaitUntil(until) => {
                    let mut entry = self.list_entry(snapshot, DropState::Waiting);
                    entry.next_try = Some(until);
                    ledger.write_list_entry(&entry).await?;
                    if let Some(entry) = &self.entry {
                        ledger.postpone(path, tenant, until, entry).await?;
                    }
                    // The directory may have ended in the meantime: look once more.
                    waits = Some(until);
                }
            }
        }
    }

    /// Makes the directory next to the drop due, if it is there: its event may have been lost, or it may have ended before
    /// vivadrop recorded directories.
    async fn start_directory(&self, snapshot: &Snapshot) -> Result<(), RunError> {
        let Runner { store, ledger, tenants, limits, woken, .. } = self.runner;
        let Some(path) = expected_directory(self.path) else { return Ok(()) };
        let Some(contents) = discover::list_contents(&**store, &path, limits.max_files).await? else {
            return Ok(());
        };
        let tenant = snapshot.admitted.tenant;
        let admitted = AdmittedDrop::admit(&**store, tenants, &contents, 0).await?;
        if admitted.is_ok_and(|admitted| admitted.tenant == tenant && is_directory_drop(&admitted)) {
            let entry = ledger.mark_unfinished(&path, tenant, clock::now()).await?;
            woken.add(WokenDrop { tenant, path, entry });
        }
        Ok(())
    }

    /// Chooses among the directories that are still there.
    async fn choose_directory(&mut self, snapshot: &Snapshot) -> Result<Choice, RunError> {
        let tenant = snapshot.admitted.tenant;
        let known = self.runner.ledger.directories(tenant).await?;
        loop {
            let choice = choose(&Situation {
                drop: self.path,
                tenant,
                known: &known,
                gone: &self.directory.gone,
                first_seen: self.record.first_seen,
                wait: self.directory_config(&snapshot.admitted).wait,
                now: clock::now(),
            });
            let Choice::Join(Some(chosen)) = choice else { return Ok(choice) };
            if let Some(contents) = self.contents_of(&chosen, &snapshot.admitted).await? {
                self.directory.chosen = Some((chosen.clone(), contents));
                return Ok(Choice::Join(Some(chosen)));
            }
            self.directory.gone.insert(chosen);
        }
    }

    /// The blobs and the job metadata of a directory; `None` if this version of it has gone, or if the tenant may not write
    /// there any more.
    async fn contents_of(
        &self,
        directory: &DirectorySnapshot,
        admitted: &AdmittedDrop,
    ) -> Result<Option<DirectoryContents>, StoreError> {
        let (store, limits) = (&*self.runner.store, self.runner.limits);
        let Some(blobs) = discover::list_contents(store, &directory.path, limits.max_files).await? else {
            return Ok(None);
        };
        if Scope::of(&blobs).files.as_ref() != Some(&directory.versions) {
            return Ok(None);
        }
        let Ok(metadata) = read_metadata(store, &blobs.metadata).await? else {
            return Ok(None);
        };
        let owner = self.runner.tenants.admit(&directory.path, metadata.tenant_id);
        Ok((owner.ok() == Some(admitted.tenant)).then_some(DirectoryContents { blobs, metadata }))
    }

    /// The directory that the rows are joined to; `None` if they are not joined. Loads it if that was not done. Without a
    /// Column key nobody is found, because the customer has not consented.
    pub(super) async fn load_directory(&mut self, snapshot: &Snapshot) -> Result<Option<Join>, Stopped> {
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
                let mut reserved = self.runner.directory_memory.reserve(config.rules.memory).await;
                // Its blobs are read in the listed versions only, so a listing of this run is as good as a new one.
                let contents = match self.directory.chosen.take().filter(|(chosen, _)| chosen == directory) {
                    Some((_, contents)) => Some(contents),
                    None => self.contents_of(directory, &snapshot.admitted).await?,
                };
                let Some(contents) = contents else { return Err(self.choose_again(directory)) };
                let people = match self.read_directory(contents, &snapshot.admitted).await {
                    Ok(people) => people,
                    Err(error) if error.is_gone() => return Err(self.choose_again(directory)),
                    Err(error) => return Err(stopped(&directory.path, error)),
                };
                reserved.shrink_to(people.bytes());
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

    /// Reads a directory into a table.
    async fn read_directory(
        &self,
        DirectoryContents { blobs, metadata }: DirectoryContents,
        admitted: &AdmittedDrop,
    ) -> Result<Directory, DirectoryError> {
        let store = &self.runner.store;
        let keys = self.runner.keys.keys_of(&**store, &blobs, &metadata, admitted.tenant).await?;
        let TenantConfig { rules, limits, directory: config, .. } = self.runner.tenant_configs.of(admitted.tenant);
        let file_rules = config.rules.file_rules(rules);
        let mut builder = DirectoryBuilder::new(&config.rules);
        for file in &blobs.files {
            let name = blobs.relative(file);
            let bytes = read(Arc::clone(store), file.clone(), self.runner.window);
            let mut rows = pipeline::rows(bytes, 0, &keys, &file_rules, None, limits.decoders, limits.bad_rows_allowed);
            while let Some(rows) = rows.next().await {
                let rows = rows.map_err(|source| DirectoryError::File { name: name.to_owned(), source })?;
                let too_large = |error: DirectoryTooLarge| {
                    let needed = error.needed(metadata.rows_extracted.unwrap_or_default()).div_ceil(1 << 20);
                    DirectoryError::TooLarge { needed, limit: error.limit }
                };
                builder.push(rows.good()).map_err(too_large)?;
            }
        }
        Ok(builder.finish())
    }

    /// The pinned directory has gone: another one is chosen for the rows that are left.
    fn choose_again(&mut self, directory: &DirectorySnapshot) -> Stopped {
        let path = self.path;
        warn!(drop.path = %path, "the directory `{}` that `{path}` is joined to has changed or was deleted: choosing again",
            directory.path);
        self.directory.gone.insert(directory.clone());
        self.record.directory = None;
        Stopped::ChooseAgain
    }

    /// Frees the table.
    pub(super) fn unload_directory(&mut self) {
        self.directory.loaded = None;
    }

    /// If the drop is a directory: records that it has ended, and makes the drops that wait for it due at once.
    pub(super) async fn publish_directory(&self, snapshot: &Snapshot) -> Result<(), LedgerError> {
        let (ledger, admitted) = (&self.runner.ledger, &snapshot.admitted);
        let Some(ending) = self.record.ending.as_ref().filter(|_| is_directory_drop(admitted)) else {
            return Ok(());
        };
        let is_complete = ending.reason.is_none();
        if is_complete && !self.has_all_rows(snapshot).await? {
            // It was complete, and files have been deleted since.
            return Ok(());
        }
        let directory = KnownDirectory {
            snapshot: DirectorySnapshot {
                path: self.path.clone(),
                id: admitted.facts.id.clone(),
                versions: snapshot.scope.files.clone().unwrap_or_default(),
            },
            is_complete,
            ended: ending.recorded,
        };
        ledger.record_directory(admitted.tenant, &directory).await?;
        if !self.directory_config(admitted).joins() {
            return Ok(());
        }
        let now = clock::now();
        let mut entries = ledger.unfinished();
        while let Some(entry) = entries.try_next().await? {
            let is_waiting = entry.tenant == admitted.tenant && entry.not_before > now;
            if is_waiting && are_of_the_same_run(&entry.path, self.path, admitted.tenant) {
                let version = ledger.mark_unfinished(&entry.path, entry.tenant, now).await?;
                self.runner.woken.add(WokenDrop { tenant: entry.tenant, path: entry.path, entry: version });
            }
        }
        Ok(())
    }

    /// Whether the files of the snapshot have all rows. A run that only announces an ending has not read their progress.
    async fn has_all_rows(&self, snapshot: &Snapshot) -> Result<bool, LedgerError> {
        let Some(expected) = snapshot.expected_rows() else { return Ok(true) };
        let progress = self.runner.ledger.progress(self.path, &snapshot.versions, self.record.replays).await?;
        Ok(RowCounts::of(&progress).rows == expected)
    }
}

/// Whether the drop is a directory export.
fn is_directory_drop(admitted: &AdmittedDrop) -> bool {
    is_directory(&admitted.path, admitted.facts.table.as_deref())
}

/// What follows for the drop if its directory cannot be read.
fn stopped(path: &DropPath, source: DirectoryError) -> Stopped {
    let verdict = source.verdict();
    let error = RunError::Directory { path: path.clone(), source: Box::new(source) };
    match verdict {
        Verdict::Retry => Stopped::Retry(error),
        Verdict::SetAside(reason) => Stopped::SetAside { reason, message: error_chain(&error) },
    }
}
