//! The sweep: runs the unfinished drops that are due, and finds the drops whose events were lost.
//!
//! A sweep runs several drops at once, in turn among tenants, each within a time limit, so that a tenant whose receiver
//! is down does not delay the others. Failing drops wait longer and longer between runs.
//!
//! Events get lost, so a sweep then lists the containers: once an hour, and always if a person starts it. Each
//! container gets its share of the time, so that a customer with millions of blobs delays nobody else. The sweep
//! compares what it finds with the entries in `list/`, so a drop that has ended costs no request. It starts no drop
//! whose newest blob is older than 30 days; the ledger keeps its records for longer than that, so no drop is delivered
//! again because the ledger has forgotten it. A listing is recorded for the tenants and containers that it was made
//! with: a process with other settings needs its own.
//!
//! At its end, a sweep makes the [imports](crate::import) of survey attributes that are due.

mod imports;
mod inventory;
mod known_drops;
mod report;

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
    time::Duration,
};

use futures::{
    StreamExt, TryStreamExt,
    stream::{self, FuturesUnordered},
};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, error, info, warn};

pub use self::report::Report;
use self::{inventory::Inventory, known_drops::KnownDrops};
use crate::{
    clock,
    drop::{
        DropPath, TenantId,
        containers::{DropContainer, WatchedContainers},
        tenant::Refusal,
    },
    error_chain::error_chain,
    replay::{self, StartedDrop},
    run::{MAX_WAIT, Outcome, RunError, Runner, Trigger},
    run_permits::RunPermit,
    schedule::{Job, Schedule},
    status::ListCopy,
    store::StoreError,
    telemetry::{in_current_trace, is_first_occurrence, metrics},
};

/// The shortest time limit of a run, unless the deadline of the sweep is shorter.
const MIN_RUN_LIMIT: Duration = Duration::from_secs(60);

/// How many drops a sweep runs at once.
const CONCURRENT_RUNS: usize = 3;

/// How many entries a sweep writes at once.
const CONCURRENT_WRITES: usize = 8;

/// How often the timer's sweeps list the containers.
const LIST_EVERY: time::Duration = time::Duration::hours(1);

/// How many drops that are not admitted a sweep logs.
const MAX_LOGGED_REFUSALS: usize = 10;

/// The cause of a sweep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SweepMode {
    /// The timer: runs the drops that are due, and lists the containers once an hour.
    Timer,
    /// A person: also runs the drops that wait after a failure, unless a `Retry-After` holds them, and lists the
    /// containers.
    Command,
}

/// Why a sweep did nothing. The next one starts afresh.
#[derive(Debug, thiserror::Error)]
pub enum SweepError {
    /// The index of unfinished drops cannot be listed.
    #[error("cannot list the unfinished drops")]
    Index(#[source] StoreError),
}

/// Why the drops in a container were not found. The next listing is made earlier than usual.
#[derive(Debug, thiserror::Error)]
enum ListError {
    /// `DROP_CONTAINER` names a container that does not exist.
    #[error("there is no such container: correct DROP_CONTAINER, or create it")]
    Missing,
    /// The container has too many blobs for the time of a sweep.
    #[error("the listing did not end within {} s: drops that were not listed are not found without their events", .0.as_secs())]
    TooLong(Duration),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Sweeps once, within `deadline`.
pub async fn sweep(
    runner: &Arc<Runner>,
    watched: &WatchedContainers,
    mode: SweepMode,
    deadline: Duration,
) -> Result<Report, SweepError> {
    let started = Instant::now();
    let mut sweep = Sweep {
        runner,
        watched,
        mode,
        schedule: Schedule::default(),
        report: Report::default(),
        has_overflowed: false,
        delivered: None,
    };
    let unfinished = sweep.queue_unfinished().await.map_err(SweepError::Index)?;
    // A short deadline still gives each drop time enough.
    let run_limit = (deadline / 5).max(MIN_RUN_LIMIT).min(deadline);
    let last_start = started + (deadline - run_limit).max(deadline / 2);
    let mut listed = None;
    if sweep.is_listing_due().await {
        // The drops that are known to be due come first, but must leave time for the listing.
        sweep.run_queued(started + (last_start - started) / 2, run_limit).await;
        listed = Some(clock::now());
        sweep.queue_found(&unfinished, last_start.max(Instant::now() + deadline / 10)).await;
    }
    sweep.run_due(last_start, run_limit).await;
    sweep.run_imports(started + deadline.mul_f64(0.95)).await;
    let is_index_complete = sweep.index_left().await;
    let is_listing_complete = sweep.report.not_listed.is_empty() && !sweep.has_overflowed;
    let report = sweep.report;
    // If something was not listed, the next listing is made earlier than usual.
    let listed = listed.map(|listed| if is_listing_complete { listed } else { listed - LIST_EVERY * 0.75 });
    if let Some(listed) = listed.filter(|_| is_index_complete)
        && let Err(error) = runner.ledger.record_done(&listing_of(watched), listed).await
    {
        debug!("the next sweep will list the containers again: {}", error_chain(&error));
    }
    info!(drops = report.drops, left = report.left, "{report}");
    Ok(report)
}

struct Sweep<'a> {
    runner: &'a Arc<Runner>,
    watched: &'a WatchedContainers,
    mode: SweepMode,
    schedule: Schedule,
    report: Report,
    /// Whether a tenant has more drops than the schedule takes.
    has_overflowed: bool,
    /// By tenant: the sum of the hashes of its delivered drops, if `list/` was read.
    delivered: Option<BTreeMap<TenantId, u64>>,
}

impl Sweep<'_> {
    /// Queues the unfinished drops that are due; returns the keys of all unfinished drops of our tenants.
    async fn queue_unfinished(&mut self) -> Result<HashSet<u64>, StoreError> {
        let tenants = self.watched.tenants.ids();
        let (mut unfinished, mut counts) = (HashSet::new(), BTreeMap::new());
        counts.extend(tenants.iter().map(|tenant| (*tenant, 0)));
        let mut paused = BTreeSet::new();
        let mut entries = self.runner.ledger.unfinished();
        while let Some(entry) = entries.try_next().await? {
            // Drops of other tenants and containers are left to a process that is configured for them.
            if !tenants.contains(&entry.tenant) || !self.watched.contains(&entry.path.container) {
                continue;
            }
            // A drop waits for an hour at most, or for its directory.
            let longest = MAX_WAIT.max(self.runner.tenant_configs.of(entry.tenant).directory.wait);
            let is_due = clock::has_passed(entry.not_before, longest) || self.mode == SweepMode::Command;
            if self.watched.tenants.is_paused(entry.tenant) {
                paused.insert(entry.tenant);
            } else if is_due {
                let job = Job { tenant: entry.tenant, path: entry.path.clone(), entry: Some(entry.version) };
                self.queue(job);
            }
            *counts.entry(entry.tenant).or_default() += 1;
            unfinished.insert(known_drops::key(&entry.path));
        }
        metrics::set_unfinished(counts);
        self.record_pauses(paused).await;
        Ok(unfinished)
    }

    /// Records that these tenants are paused: the time of a pause does not count towards `GIVE_UP_AFTER` of their
    /// drops, which are not run before its end.
    async fn record_pauses(&self, paused: BTreeSet<TenantId>) {
        let (ledger, now) = (&self.runner.ledger, clock::now());
        let writes = paused.into_iter().map(async |tenant| (tenant, ledger.record_pause(tenant, now).await));
        let writes: Vec<_> = writes.collect();
        let mut written = stream::iter(writes).buffer_unordered(CONCURRENT_WRITES);
        while let Some((tenant, result)) = written.next().await {
            if let Err(error) = result {
                debug!(tenant.id = %tenant, "the pause of {tenant} is not recorded: {}", error_chain(&error));
            }
        }
    }

    fn queue(&mut self, job: Job) {
        self.report.drops += 1;
        self.report.left += 1;
        self.has_overflowed |= !self.schedule.push(job);
    }

    async fn is_listing_due(&self) -> bool {
        if self.mode == SweepMode::Command {
            return true;
        }
        match self.runner.ledger.last_done(&listing_of(self.watched)).await {
            Ok(last) => last.is_none_or(|last| clock::is_due_again(last, LIST_EVERY)),
            // The listing is likely to fail as well.
            Err(_) => false,
        }
    }

    /// Lists the containers until `end`, and queues the drops that have news or that the index has lost. A container
    /// that cannot be listed, or takes more than its share of the time, affects no other.
    async fn queue_found(&mut self, unfinished: &HashSet<u64>, end: Instant) {
        let ledger = &self.runner.ledger;
        let mut copy = ListCopy::new(clock::whole_seconds(clock::now()));
        let known = timeout_at(end, KnownDrops::load(ledger, &mut copy)).await;
        let known = match known.map_err(|_elapsed| "it has too many entries for the time of a sweep".to_owned()) {
            Ok(Ok(known)) => known,
            Ok(Err(error)) => return self.report.not_listed.push(("list/".into(), error_chain(&error))),
            Err(why) => return self.report.not_listed.push(("list/".into(), why)),
        };
        if let Err(error) = known_drops::store_copy(ledger, copy).await {
            debug!("the copy of the entries is not renewed: {}", error_chain(&error));
        }
        let containers = self.watched.names();
        let mut left = u32::try_from(containers.len()).unwrap_or(u32::MAX);
        for container in containers {
            let share = end.saturating_duration_since(Instant::now()) / left;
            left -= 1;
            let listing = timeout(share, self.queue_found_in(&container, &known, unfinished)).await;
            if let Err(error) = listing.unwrap_or(Err(ListError::TooLong(share))) {
                let why = error_chain(&error);
                error!(container, "cannot list `{container}`: {why}");
                self.report.not_listed.push((container, why));
            }
        }
        self.delivered = Some(known.delivered);
    }

    async fn queue_found_in(
        &mut self,
        container: &str,
        known: &KnownDrops,
        unfinished: &HashSet<u64>,
    ) -> Result<(), ListError> {
        let mut inventory = Inventory::new(container, self.runner.limits.max_files);
        let mut blobs = self.runner.store.list(container, "");
        let mut has_blobs = false;
        loop {
            let blob = blobs.try_next().await?;
            let is_end = blob.is_none();
            has_blobs |= !is_end;
            let drops = match blob {
                Some(blob) => inventory.push(&blob),
                None => inventory.finish(),
            };
            for (path, listing) in drops {
                if unfinished.contains(&known_drops::key(&path)) || !known.is_news(&path, &listing) {
                    continue;
                }
                match self.watched.tenants.possible_owners(&path).first() {
                    Some(&tenant) if self.watched.tenants.is_paused(tenant) => {}
                    Some(&tenant) => self.queue(Job { tenant, path, entry: None }),
                    None => self.refuse(&path),
                }
            }
            if is_end {
                break;
            }
        }
        // The listing of a container that does not exist is empty. Those of customers may have yet to be created.
        let must_exist = self.watched.drop_container == DropContainer::Named(container.to_owned());
        if !has_blobs && must_exist && !self.runner.store.has_container(container).await? {
            return Err(ListError::Missing);
        }
        Ok(())
    }

    /// Queues the next drops of replay runs. Returns whether there are any.
    async fn queue_replays(&mut self) -> bool {
        let started = match replay::advance_all(self.runner).await {
            Ok(advanced) => advanced.started,
            Err(error) => {
                debug!("the next sweep will continue the replay runs: {}", error_chain(&error));
                return false;
            }
        };
        for StartedDrop { tenant, path, entry } in &started {
            self.queue(Job { tenant: *tenant, path: path.clone(), entry: Some(entry.clone()) });
        }
        !started.is_empty()
    }

    /// Counts a drop that lies where none of our tenants may write. Logs the first ones, once.
    fn refuse(&mut self, path: &DropPath) {
        self.report.refused += 1;
        let line = format!("did not admit `{path}`: {}", Refusal::NoTenantMayWrite);
        if self.report.refused <= MAX_LOGGED_REFUSALS && is_first_occurrence(&line) {
            warn!(drop.path = %path, "{line}");
        }
    }

    /// Writes entries for the drops that the listing has found and that are left, so that the next sweep need not list
    /// again. Returns whether every such drop has one.
    async fn index_left(&mut self) -> bool {
        let (ledger, now) = (&self.runner.ledger, clock::now());
        let left = self.schedule.drain().into_iter().filter(|job| job.entry.is_none());
        let writes = left.map(async |job| ledger.mark_unfinished(&job.path, job.tenant, now).await.is_ok());
        let writes: Vec<_> = writes.collect();
        stream::iter(writes).buffer_unordered(CONCURRENT_WRITES).all(async |is_written| is_written).await
    }

    /// Runs the queued drops, and those of replay runs. Starts none after `last_start`.
    async fn run_due(&mut self, last_start: Instant, run_limit: Duration) {
        loop {
            let has_replays = self.queue_replays().await;
            self.run_queued(last_start, run_limit).await;
            if !has_replays || Instant::now() >= last_start {
                break;
            }
        }
    }

    /// Runs the queued drops. Starts none after `last_start`.
    async fn run_queued(&mut self, last_start: Instant, run_limit: Duration) {
        let mut running = FuturesUnordered::new();
        let permits = self.runner.run_permits.clone();
        loop {
            let were_all_taken = permits.are_all_taken();
            while running.len() < CONCURRENT_RUNS && Instant::now() < last_start {
                let Some((job, permit)) = self.schedule.next(|tenant| run_permit(self.runner, tenant)) else { break };
                self.report.left -= 1;
                running.push(run(Arc::clone(self.runner), job, run_limit, permit));
            }
            if let Some((job, outcome)) = running.next().await {
                self.schedule.finished(job.tenant);
                self.report.count(job.path, outcome);
                continue;
            }
            // This sweep has no run that would release a permit.
            let waits = were_all_taken && self.schedule.has_waiting();
            if !waits || timeout_at(last_start, permits.wait_for_one()).await.is_err() {
                return;
            }
        }
    }
}

/// A permit for a run of `tenant`; `None` if the tenant must wait, or its receiver is down.
fn run_permit(runner: &Runner, tenant: TenantId) -> Option<RunPermit> {
    let permit = runner.run_permits.try_acquire(tenant)?;
    // This is called last, because it lets only one run through while the breaker is open.
    runner.tenant_configs.of(tenant).breaker.may_start().then_some(permit)
}

/// Runs a drop in a task of its own, so that a panic does not end the sweep.
async fn run(runner: Arc<Runner>, job: Job, limit: Duration, _permit: RunPermit) -> (Job, Result<Outcome, String>) {
    let (path, trigger) = (job.path.clone(), Trigger::Sweep(job.entry.clone()));
    let work = async move { runner.run(&path, None, trigger, Some(limit)).await };
    let task = tokio::spawn(in_current_trace(work));
    let outcome = match AbortOnDropHandle::new(task).await {
        Ok(outcome) => outcome.map_err(|error: RunError| error_chain(&error)),
        Err(_panicked) => Err("a task panicked, which is a defect of vivadrop: see the log for the location".into()),
    };
    (job, outcome)
}

/// The name under which the ledger records when these containers were last listed for these tenants.
fn listing_of(watched: &WatchedContainers) -> String {
    format!("listing {}", watched.description())
}
