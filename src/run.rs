//! One run of a drop: checks its tenant, gets its keys, delivers its files one after another, and ends the drop.
//!
//! Events, commands and sweeps all start the same run: they name a drop, and the run does the remaining work. So an
//! event that arrives early, twice or not at all changes only when the work is done, not its result.
//!
//! A run takes a snapshot of the drop, processes the files that are left, and takes another snapshot, until every file
//! in the snapshot has ended or was tried by this run. Only then does the run judge the drop: completed, open or set
//! aside. Without the last snapshot, a drop would be left without an ending in two cases:
//! - a file arrives, or is overwritten, while this run works on another: the event of that file may have been
//!   acknowledged because this run works on the drop;
//! - two runs finish at the same time: the later one must see the files of both.
//!
//! The run reads the record of the drop before it takes a snapshot, and an ending overwrites only the version of the
//! record that the run knows. If another run has changed the record in the meantime, the run reads the record again,
//! takes another snapshot, and judges the drop again.

mod admitted;
mod announce;
mod backoff;
mod conclude;
mod directory;
mod due;
mod error;
mod failure;
mod files;
mod observe;
mod outcome;
mod recorded_replay;
mod snapshot;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use time::OffsetDateTime;
use tokio::time::timeout;
use tracing::info;

use self::{directory::RunDirectory, error::Stopped, files::Failures, snapshot::Snapshot};
use crate::{
    clock,
    drop::{
        DropPath, FileVersion, TenantId,
        discover::{self},
        tenant::Tenants,
    },
    keys::{KeySource, Keys},
    ledger::{
        DropRecord, DropState, Ending, FileProgress, KeysVersion, Ledger, LedgerError, ListEntry, ProgressFlag, Scope,
    },
    memory_budget::MemoryBudget,
    pass_permits::PassPermits,
    run_permits::RunPermits,
    sink::Receiver,
    store::{BlobPath, ETag, ReadWindow, Store},
    telemetry::Span,
    tenant_config::TenantConfigs,
    verdict::Reason,
};
pub use admitted::{AdmittedDrop, read_metadata};
pub(crate) use backoff::MAX_WAIT;
pub use directory::DirectoryError;
pub use due::{DueDrop, DueDrops, DueImports};
pub use error::RunError;
pub use outcome::Outcome;
pub use recorded_replay::Recorded;

/// Runs drops. Holds the parts that every run needs.
#[derive(Debug)]
pub struct Runner {
    /// The storage account with the drops.
    pub store: Arc<dyn Store>,
    /// The state of drops and files.
    pub ledger: Ledger,
    /// The tenants, and where each may write.
    pub tenants: Tenants,
    /// The source of the keys of drops.
    pub keys: KeySource,
    /// The sink, the file rules and the limits of each tenant.
    pub tenant_configs: TenantConfigs,
    /// The memory that the lookup tables of all runs share.
    pub directory_memory: MemoryBudget,
    /// The memory that the tables of people of all attributes passes share.
    pub attributes_memory: MemoryBudget,
    /// The drops that runs of this process have made due.
    pub due_drops: DueDrops,
    /// The tenants whose imports of attributes runs of this process have made due.
    pub due_imports: DueImports,
    /// The permits of the passes over imports of attributes.
    pub pass_permits: PassPermits,
    /// How much of a file is read ahead.
    pub window: ReadWindow,
    /// The bounds of every run.
    pub limits: RunLimits,
    /// The permits of the runs.
    pub run_permits: RunPermits,
}

/// The bounds of every run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunLimits {
    /// `MAX_FILES`: how many blobs a drop may have, whatever they are.
    pub max_files: usize,
    /// `GIVE_UP_AFTER`: how long a drop may fail without progress before it is set aside.
    pub give_up_after: Duration,
}

impl Default for RunLimits {
    /// 20,000 blobs and three days.
    fn default() -> Self {
        Self { max_files: 20_000, give_up_after: Duration::from_secs(3 * 24 * 3600) }
    }
}

/// The cause of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trigger {
    /// An event, or a notification of the customer's pipeline.
    Event,
    /// A command of a person.
    Command,
    /// A sweep that found this version of the drop's entry in the index of unfinished drops, or found the drop in a
    /// container.
    Sweep(Option<ETag>),
}

impl Runner {
    /// Does the remaining work on the drop at `path`. Starts with the blob `first`, if it is one of the drop's files.
    ///
    /// If the run fails, the failure is recorded: sweeps retry the drop with growing waits, and a drop that has failed
    /// for `GIVE_UP_AFTER` without progress is set aside. A run that reaches `time_limit` has failed as well.
    pub async fn run(
        &self,
        path: &DropPath,
        first: Option<&BlobPath>,
        trigger: Trigger,
        time_limit: Option<Duration>,
    ) -> Result<Outcome, RunError> {
        let mut run = Run::new(self, path, first, trigger);
        let span = run.span.clone();
        span.scope(run.run_within(time_limit)).await
    }
}

/// One run.
struct Run<'a> {
    runner: &'a Runner,
    path: &'a DropPath,
    first: Option<&'a BlobPath>,
    trigger: Trigger,
    /// The ledger's record of the drop, read before the last listing.
    record: DropRecord,
    /// Whether the record must be read again before the next snapshot.
    is_record_outdated: bool,
    /// The version of the drop's entry in the index of unfinished drops.
    entry: Option<ETag>,
    /// The attempts of this run, including those that it has left to another run.
    tried: BTreeSet<Attempt>,
    /// The keys of the drop, with the versions that they were requested for.
    keys: Option<(Scope, Keys)>,
    /// The progress of the files in the last snapshot.
    progress: BTreeMap<String, FileProgress>,
    /// Whether rows were acknowledged or a file has ended in this run.
    progress_flag: ProgressFlag,
    failures: Failures,
    /// The directory that the rows are joined to.
    directory: RunDirectory,
    /// The destination of the messages, as soon as the tenant is known.
    receiver: Option<Receiver>,
    /// The last snapshot of an admitted drop.
    snapshot: Option<Arc<Snapshot>>,
    span: Span,
}

/// An attempt to deliver a file: the number of the replay, the version of the keys, and the file.
type Attempt = (u32, KeysVersion, FileVersion);

/// The next step of a run.
enum Step {
    /// The run takes another snapshot.
    Again,
    /// The run is over.
    End(Outcome),
}

impl<'a> Run<'a> {
    fn new(runner: &'a Runner, path: &'a DropPath, first: Option<&'a BlobPath>, trigger: Trigger) -> Self {
        let entry = match &trigger {
            Trigger::Sweep(entry) => entry.clone(),
            Trigger::Event | Trigger::Command => None,
        };
        Self {
            runner,
            path,
            first,
            span: observe::start_span(path, &trigger),
            trigger,
            record: DropRecord::default(),
            is_record_outdated: true,
            entry,
            tried: BTreeSet::new(),
            keys: None,
            progress: BTreeMap::new(),
            progress_flag: ProgressFlag::default(),
            failures: Failures::default(),
            directory: RunDirectory::default(),
            receiver: None,
            snapshot: None,
        }
    }

    /// Runs for up to `limit`; records a failure.
    async fn run_within(&mut self, limit: Option<Duration>) -> Result<Outcome, RunError> {
        let outcome = match limit {
            None => self.run_to_end().await,
            Some(limit) => match timeout(limit, self.run_to_end()).await {
                Ok(outcome) => outcome,
                // The failure of a file is more informative than the time limit.
                Err(_elapsed) => Err(self.failures.first.take().unwrap_or(RunError::TimeLimit(limit))),
            },
        };
        let outcome = match outcome {
            Err(error) => self.record_failure(error).await,
            outcome => outcome,
        };
        self.report(&outcome);
        outcome
    }

    async fn run_to_end(&mut self) -> Result<Outcome, RunError> {
        loop {
            if self.is_record_outdated {
                self.record = self.runner.ledger.drop_record(self.path).await?;
                self.is_record_outdated = false;
            }
            match self.step().await {
                Ok(Step::End(outcome)) => return Ok(outcome),
                Ok(Step::Again) => {}
                Err(RunError::Ledger(LedgerError::Conflict(_))) => self.is_record_outdated = true,
                Err(error) => return Err(error),
            }
        }
    }

    /// Takes a snapshot and does the work that is left according to it.
    async fn step(&mut self) -> Result<Step, RunError> {
        let Runner { store, tenants, limits, .. } = self.runner;
        let Some(contents) = discover::list_contents(&**store, self.path, limits.max_files).await? else {
            return self.without_metadata().await;
        };
        let scope = Scope::of(&contents);
        let recorded = self.recorded_outcome(&scope);
        let is_sweep = matches!(self.trigger, Trigger::Sweep(_));
        if let Some(outcome) = recorded.as_ref().filter(|_| !is_sweep) {
            return Ok(Step::End(outcome.clone()));
        }
        let admitted = match self.admit(&contents).await? {
            Ok(admitted) => admitted,
            Err(refusal) => return self.refuse(refusal).await,
        };
        let snapshot = Arc::new(Snapshot { scope, versions: snapshot::versions_of(&contents), contents, admitted });
        self.snapshot = Some(Arc::clone(&snapshot));
        if let Some(outcome) = recorded {
            // A sweep starts the run of a drop that has ended only if the entries of the drop are missing or outdated.
            self.read_progress(&snapshot).await?;
            self.close(&snapshot).await;
            return Ok(Step::End(outcome));
        }
        if tenants.is_paused(snapshot.admitted.tenant) {
            return self.pause(&snapshot).await;
        }
        if let Some(until) = self.held_until() {
            self.runner.ledger.mark_unfinished(self.path, snapshot.admitted.tenant, until).await?;
            return Ok(self.end_waiting(Outcome::Postponed(until)));
        }
        self.open(snapshot.admitted.tenant).await?;
        let config = self.runner.tenant_configs.of(snapshot.admitted.tenant);
        self.receiver.get_or_insert_with(|| config.receiver());
        if self.has_unannounced_ending(&snapshot.scope) {
            self.read_progress(&snapshot).await?;
            return self.announce(&snapshot).await;
        }
        match self.process(&snapshot).await {
            Ok(step) => Ok(step),
            Err(Stopped::Retry(error)) => Err(error),
            Err(Stopped::SetAside { reason, message }) => self.set_drop_aside(&snapshot, reason, message).await,
            Err(Stopped::ChooseAgain) => Ok(Step::Again),
        }
    }

    /// Logs that the drop waits, and ends the run.
    fn end_waiting(&self, outcome: Outcome) -> Step {
        info!(drop.path = %self.path, "{}", outcome.describe(self.path));
        Step::End(outcome)
    }

    /// The final outcome that an earlier run has recorded and announced, if it is valid for the current `scope`.
    fn recorded_outcome(&self, scope: &Scope) -> Option<Outcome> {
        let is_valid = |ending: &&Ending| ending.is_announced() && ending.is_final && ending.scope.covers(scope);
        self.record.ending.as_ref().filter(is_valid).map(Outcome::from)
    }

    /// Whether an earlier run has recorded an ending that is valid for the current `scope`, and not announced it.
    fn has_unannounced_ending(&self, scope: &Scope) -> bool {
        let is_valid = |ending: &Ending| !ending.is_announced() && ending.scope.covers(scope);
        self.record.ending.as_ref().is_some_and(is_valid)
    }

    /// The time before which events and sweeps do not run the drop, because a receiver or service has asked to wait.
    fn held_until(&self) -> Option<OffsetDateTime> {
        let is_person = self.trigger == Trigger::Command;
        self.record.held_until().filter(|until| !is_person && !clock::has_passed(*until, MAX_WAIT))
    }

    /// Makes sure that the ledger has an entry and a record of the drop before this run works on it.
    async fn open(&mut self, tenant: TenantId) -> Result<(), LedgerError> {
        if self.entry.is_none() {
            let now = clock::now();
            self.entry = Some(self.runner.ledger.mark_unfinished(self.path, tenant, now).await?);
        }
        self.record.first_run = self.record.first_run.take().or_else(|| self.span.traceparent());
        if !self.record.exists() {
            self.runner.ledger.write_drop_record(self.path, tenant, &mut self.record).await?;
        }
        Ok(())
    }

    /// Leaves the drop of a paused tenant to a later sweep. Its entry in the index stays due, but sweeps skip it as
    /// long as the tenant is paused.
    async fn pause(&mut self, snapshot: &Snapshot) -> Result<Step, RunError> {
        let (path, tenant) = (self.path, snapshot.admitted.tenant);
        self.open(tenant).await?;
        // The time of the pause does not count towards GIVE_UP_AFTER.
        if self.record.failing.take().is_some() {
            self.runner.ledger.write_drop_record(path, tenant, &mut self.record).await?;
        }
        self.read_progress(snapshot).await?;
        let message = Some("the tenant is paused in TENANTS".to_owned());
        let entry = ListEntry { message, ..self.list_entry(snapshot, DropState::Waiting) };
        self.runner.ledger.write_list_entry(&entry).await?;
        Ok(self.end_waiting(Outcome::Paused))
    }

    /// Processes the files that are left, or judges the drop if no file is left.
    async fn process(&mut self, snapshot: &Arc<Snapshot>) -> Result<Step, Stopped> {
        let metadata = match &snapshot.admitted.metadata {
            Ok(metadata) => metadata,
            Err(error) => return Err(Stopped::SetAside { reason: Reason::Metadata, message: error.to_string() }),
        };
        if let Some(errors) = &metadata.errors {
            return Err(Stopped::SetAside { reason: Reason::Errors, message: errors.clone() });
        }
        if snapshot.contents.too_many_blobs {
            let message = format!("the drop has more than {} blobs (MAX_FILES)", self.runner.limits.max_files);
            return Err(Stopped::SetAside { reason: Reason::TooManyFiles, message });
        }
        self.progress = self.runner.ledger.progress(self.path, &snapshot.versions, self.record.replays).await?;
        let keys = snapshot.scope.keys_version();
        let is_left = |file: &FileVersion| {
            let has_ended = self.progress.get(&file.name).is_some_and(|progress| progress.has_ended(keys));
            !has_ended && !self.tried.contains(&self.attempt(snapshot, file))
        };
        let files = snapshot.contents.files.iter().zip(&snapshot.versions);
        let mut left: Vec<_> = files.filter(|(_, version)| is_left(version)).collect();
        if left.is_empty() {
            self.unload_directory();
            return Ok(self.conclude(snapshot, metadata.rows_extracted).await?);
        }
        // The event's file first, and last those that earlier runs have started: they may fail again.
        left.sort_by_key(|(blob, version)| (Some(&blob.path) != self.first, self.progress.contains_key(&version.name)));
        if let Some(waiting) = self.pin_directory(snapshot).await? {
            return Ok(waiting);
        }
        self.process_files(snapshot, metadata, left).await?;
        Ok(Step::Again)
    }

    /// The attempt to deliver `file` as it is in this snapshot.
    fn attempt(&self, snapshot: &Snapshot, file: &FileVersion) -> Attempt {
        (self.record.replays, snapshot.scope.keys_version(), file.clone())
    }

    /// Reads the progress of the files of the snapshot for the list of drops and for messages. Leaves out files whose
    /// records are not valid: the drop can end all the same.
    async fn read_progress(&mut self, snapshot: &Snapshot) -> Result<(), LedgerError> {
        let replays = self.record.replays;
        self.progress = self.runner.ledger.valid_progress(self.path, &snapshot.versions, replays).await?;
        Ok(())
    }
}
