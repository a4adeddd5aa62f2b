//! The attributes pass: imports survey attributes from drops that were delivered.
//!
//! A pass works on one tenant. It brings changed definitions into force, tells receivers about them, and then imports
//! every cycle that is due: [`due_cycles`] chooses the drop of each cycle, [`cycle`] imports it, [`compute`] adds up
//! the drop's rows, and [`send`] delivers people and the end of the import. The pass is separate from the delivery of
//! rows: it begins after `drop.completed`, has records of its own, and its failures change nothing about drops.
//!
//! A pass holds a lease, so one process at a time imports for a tenant. If the process is killed, the next pass
//! computes the same import again, with the same ids, and continues at the recorded person. Nothing about people is
//! stored. Before every try to send, the pass makes sure that the definitions are still the same: otherwise it begins
//! again with the new ones.
//!
//! Passes of several tenants work at the same time, as many as there are [`pass_permits`](crate::pass_permits): a pass
//! whose receiver is slow makes room for the others.

mod announce;
mod compute;
mod cycle;
mod due_cycles;
mod memory;
mod pause;
mod request;
mod send;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::{FutureExt, future::BoxFuture};
use time::{Date, OffsetDateTime, Time};
use tokio::time::{Instant, timeout_at};
use tracing::{debug, info, warn};

pub use self::{
    compute::ReadError,
    request::{ImportRequest, RequestError},
};
use crate::{
    attributes::Definitions,
    clock, definitions,
    drop::{DropPath, TenantId},
    error_chain::error_chain,
    ledger::{CycleImport, ImportState, ImportsEntry, KnownRanges, LedgerError, TenantImports},
    one_line::one_line,
    pass_permits::PassPermit,
    run::{MAX_WAIT, Runner},
    sink::{Receiver, SinkError},
    store::ETag,
};

/// The wait after the first failed pass. It doubles with each further one.
const FIRST_WAIT: Duration = Duration::from_secs(60);

/// The longest error in the index, in characters.
const MAX_ERROR: usize = 500;

/// The result of a pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PassOutcome {
    /// Every cycle that is due was imported, now or before.
    Done(Vec<Imported>),
    /// Another process imports for this tenant at the moment.
    Busy,
}

/// An import that has ended in this pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// The survey program and its cycle; `None` if the drop that a person has asked for cannot be imported, or reaches
    /// none of the cycles.
    pub cycle: Option<(String, String)>,
    /// The drop.
    pub drop: String,
    /// The number of people, or why the cycle cannot be imported.
    pub result: Result<u64, String>,
}

/// Why a pass did not finish. It is repeated later.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The ledger cannot be read or written.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// A drop cannot be read.
    #[error("cannot read the drop `{path}`")]
    Drop {
        /// The drop path.
        path: DropPath,
        /// Why the drop cannot be read.
        source: Box<ReadError>,
    },
    /// The sink did not take a message.
    #[error("cannot send attributes")]
    Sink(#[from] SinkError),
    /// The pass took too long. The next pass continues.
    #[error("not finished within its time limit of {} s", .0.as_secs_f64())]
    TimeLimit(Duration),
    /// Runs or other passes waited for longer than the time slice of this pass. The next pass continues.
    #[error("the receiver acknowledged no message for a whole time slice while others waited")]
    Preempted,
    /// The table of people needs memory that other imports held for too long. The next pass tries again.
    #[error("other imports use the memory that the table of people needs")]
    MemoryInUse,
}

impl ImportError {
    /// How long a service asked to wait, if it did.
    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Sink(source) => source.retry_after(),
            Self::Drop { source, .. } => source.retry_after(),
            Self::Ledger(_) | Self::TimeLimit(_) | Self::Preempted | Self::MemoryInUse => None,
        }
    }
}

/// Why a pass stops.
enum Stop {
    /// The definitions have changed: the pass begins again.
    Changed,
    /// The pass is repeated later.
    Failed(ImportError),
}

impl Stop {
    /// The stop because the drop at `path` cannot be read.
    fn cannot_read(path: &DropPath, source: ReadError) -> Self {
        Self::Failed(ImportError::Drop { path: path.clone(), source: Box::new(source) })
    }
}

impl<E: Into<ImportError>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

impl Runner {
    /// Makes a pass over the imports of `tenant`: does the remaining work, within `time_limit`. While the tenant is
    /// paused, imports nothing.
    ///
    /// If the pass fails, the failure is recorded, and sweeps repeat the pass with growing waits.
    pub fn import(
        &self,
        tenant: TenantId,
        time_limit: Option<Duration>,
    ) -> BoxFuture<'_, Result<PassOutcome, ImportError>> {
        self.import_now(tenant, time_limit).boxed()
    }

    async fn import_now(&self, tenant: TenantId, time_limit: Option<Duration>) -> Result<PassOutcome, ImportError> {
        let mut imported = Vec::new();
        if self.tenants.is_paused(tenant) {
            self.forget_failures(tenant).await?;
            return Ok(PassOutcome::Done(imported));
        }
        let limit = TimeLimit::from_now(time_limit);
        loop {
            let entry = self.ledger.imports_entry(tenant).await?;
            if entry.is_none() && self.ledger.definitions_version(tenant).await?.is_none() {
                return Ok(PassOutcome::Done(imported));
            }
            let is_failing = entry.as_ref().is_some_and(|entry| entry.attempts > 0);
            let mut permit = limit.apply(self.pass_permits.begin(is_failing).map(Ok)).await?;
            permit.make_room_in(&self.attributes_memory);
            if self.tenant_configs.of(tenant).directory.joins() {
                permit.make_room_in(&self.directory_memory);
            }
            let work = async {
                let mut pass = Pass::new(self, tenant, permit);
                let result = limit.apply(pass.run()).await;
                self.close_pass(&pass, entry.as_ref(), result.as_ref()).await?;
                imported.append(&mut pass.imported);
                match result {
                    Err(ImportError::Preempted) if pass.has_progress() => Ok(false),
                    result => result.map(|()| true),
                }
            };
            let Some(is_done) = self.ledger.with_imports_lease(tenant, work).await? else {
                // The pass of the other process may have begun before the change that caused this one: the next
                // sweep makes another pass.
                let now = clock::now();
                if entry.is_none_or(|entry| entry.not_before.is_none_or(|time| time > now)) {
                    self.ledger.mark_imports_due(tenant, now).await?;
                }
                return Ok(PassOutcome::Busy);
            };
            if is_done? {
                return Ok(PassOutcome::Done(imported));
            }
        }
    }

    /// Records when the next pass begins.
    async fn close_pass(
        &self,
        pass: &Pass<'_>,
        entry: Option<&ImportsEntry>,
        result: Result<&(), &ImportError>,
    ) -> Result<(), LedgerError> {
        let earlier = entry.map_or(0, |entry| entry.attempts);
        let (now, attempts) = (clock::now(), if pass.has_progress() { 0 } else { earlier });
        let (tenant, stored, drops) = (pass.tenant, pass.stored.clone(), pass.delivered);
        let mut next = ImportsEntry {
            tenant,
            not_before: None,
            definitions: stored,
            drops,
            has_record: pass.record.is_stored() || entry.is_some_and(|entry| entry.has_record),
            attempts: 0,
            since: None,
            error: None,
            version: ETag(String::new()),
        };
        match result {
            Ok(()) => next.not_before = self.next_cycle_end(tenant, pass.today).await?,
            Err(ImportError::Preempted) if pass.has_progress() => next.not_before = Some(now),
            Err(error) => {
                let text = error_chain(error);
                if attempts == 0 {
                    warn!(tenant.id = %tenant, "the attributes of {tenant} will be imported later: {text}");
                } else {
                    debug!(tenant.id = %tenant, "the attributes of {tenant} will be imported later: {text}");
                }
                let wait = FIRST_WAIT.saturating_mul(1 << attempts.min(10)).min(MAX_WAIT);
                let wait = error.retry_after().map_or(wait, |asked| wait.max(asked.min(MAX_WAIT)));
                next.not_before = Some(now + wait);
                next.attempts = attempts + 1;
                let since = entry.and_then(|entry| entry.since).filter(|_| !pass.has_progress());
                next.since = Some(since.unwrap_or(now));
                next.error = Some(one_line(&text, MAX_ERROR));
            }
        }
        self.ledger.rewrite_imports_entry(&next, entry.map(|entry| &entry.version)).await
    }

    /// When the next cycle of the tenant ends after `today`, if there is one.
    async fn next_cycle_end(&self, tenant: TenantId, today: Date) -> Result<Option<OffsetDateTime>, LedgerError> {
        let loaded = definitions::load(&self.ledger, tenant).await?;
        let end = loaded.definitions.and_then(|definitions| definitions.next_cycle_end(today));
        Ok(end.map(|end| end.with_time(Time::MIDNIGHT).assume_utc()))
    }
}

/// The time limit of a pass, which includes its waits.
struct TimeLimit(Option<(Instant, Duration)>);

impl TimeLimit {
    fn from_now(limit: Option<Duration>) -> Self {
        Self(limit.map(|limit| (Instant::now() + limit, limit)))
    }

    async fn apply<T>(&self, work: impl Future<Output = Result<T, ImportError>>) -> Result<T, ImportError> {
        match self.0 {
            None => work.await,
            Some((end, limit)) => timeout_at(end, work).await.unwrap_or(Err(ImportError::TimeLimit(limit))),
        }
    }
}

/// One pass over the imports of a tenant.
struct Pass<'a> {
    runner: &'a Runner,
    tenant: TenantId,
    /// The day on which the pass began: it imports the cycles that had ended by then, even if it works past midnight.
    today: Date,
    receiver: Receiver,
    /// The record of the tenant, as this pass has last read or written it.
    record: TenantImports,
    /// The version of the stored definitions that this pass works with.
    stored: Option<ETag>,
    /// The ranges that receivers may have from imports of all cycles, also of those that were removed. Each has the end
    /// of its window, unless that is not known.
    known_ranges: Vec<KnownRanges>,
    /// The sum of the hashes of the delivered drops that this pass has seen.
    delivered: u64,
    /// When the pass has last made sure that `stored` is still the stored version.
    checked: send::LastCheck,
    imported: Vec<Imported>,
    permit: PassPermit,
    /// Whether the sink has acknowledged a message.
    is_acknowledged: AtomicBool,
}

impl<'a> Pass<'a> {
    fn new(runner: &'a Runner, tenant: TenantId, permit: PassPermit) -> Self {
        Self {
            runner,
            tenant,
            today: clock::now().date(),
            receiver: runner.tenant_configs.of(tenant).receiver(),
            record: TenantImports::default(),
            stored: None,
            known_ranges: Vec::new(),
            delivered: 0,
            checked: send::LastCheck::default(),
            imported: Vec::new(),
            permit,
            is_acknowledged: AtomicBool::new(false),
        }
    }

    /// Whether the pass has done something that the next one need not do again.
    fn has_progress(&self) -> bool {
        self.is_acknowledged.load(Ordering::Relaxed)
    }

    async fn run(&mut self) -> Result<(), ImportError> {
        loop {
            match self.round().await {
                Ok(()) => return Ok(()),
                Err(Stop::Changed) => {}
                Err(Stop::Failed(error)) => return Err(error),
            }
        }
    }

    /// Does the remaining work with the definitions that are in force now.
    async fn round(&mut self) -> Result<(), Stop> {
        let (loaded, record) = definitions::accept(&self.runner.ledger, self.tenant).await?;
        self.record = record;
        self.stored.clone_from(&loaded.etag);
        self.checked = send::LastCheck::default();
        for problem in &loaded.problems {
            debug!(tenant.id = %self.tenant, "the definitions of {} are not in force: {problem}", self.tenant);
        }
        let Some(definitions) = loaded.definitions else { return Ok(()) };
        let definitions: Arc<Definitions> = Arc::new(definitions);
        self.announce_definitions(&definitions).await?;
        self.announce_deletions(&definitions).await?;
        self.import_due_cycles(&definitions).await
    }

    /// Changes the record of the tenant.
    async fn update_record(&mut self, change: impl Fn(&mut TenantImports)) -> Result<(), LedgerError> {
        loop {
            change(&mut self.record);
            if self.runner.ledger.write_tenant_imports(self.tenant, &mut self.record).await? {
                return Ok(());
            }
            self.record = self.runner.ledger.tenant_imports(self.tenant).await?;
        }
    }

    /// The number of the message about the end of an import. If the process was killed before the number was used, the
    /// same end gets the same number again.
    async fn sequence_of(&mut self, import: &CycleImport) -> Result<u64, LedgerError> {
        let end = format!("{} {:?}", import.import_id, import.state);
        if self.record.numbered.as_ref() != Some(&end) {
            self.update_record(|record| {
                record.sequence += 1;
                record.numbered = Some(end.clone());
            })
            .await?;
        }
        Ok(self.record.sequence)
    }

    /// Notes an import that has ended.
    fn note_end(&mut self, import: &CycleImport) {
        let CycleImport { program, cycle, drop, .. } = import;
        let path = &drop.path;
        let result = match import.state {
            ImportState::Failed => {
                let reason = import.reason.as_deref().unwrap_or_default();
                let message = import.message.as_deref().unwrap_or_default();
                warn!(drop.path = %path, %reason, "cannot import `{program}` `{cycle}` from `{path}`: {message}");
                Err(format!("{reason}: {message}"))
            }
            ImportState::Running | ImportState::Completed => {
                let people = import.people.unwrap_or_default();
                info!(drop.path = %path, people, "imported `{program}` `{cycle}` from `{path}`: {people} people");
                Ok(people)
            }
        };
        self.imported.push(Imported { cycle: Some((program.clone(), cycle.clone())), drop: path.clone(), result });
    }
}
