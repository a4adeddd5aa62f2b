//! Replays of many drops: a plan freezes which drops, and a replay run delivers them again, a few at a time.
//!
//! Both are records of the ledger. Sweeps, and the process after a request, [`advance`] a run: they count its drops
//! that have ended, and start the next ones, so that at most [`MAX_PENDING`] drops of a run have not ended. A receiver
//! that is down therefore stops the run, and not all of its drops are retried. [`advance`] claims a drop in the record
//! of the run before it replays the drop, and later replays a drop that was only claimed: a kill skips no drop.

use std::collections::HashSet;

use futures::TryStreamExt;
use tracing::{info, warn};
use uuid::Uuid;

use crate::{
    clock,
    date::date,
    drop::{DropPath, TenantId},
    error_chain::error_chain,
    ledger::{
        DropRecord, Ledger, LedgerError, PlanCounts, PlanFilter, PlannedDrop, ReplayPlan, ReplayRun, ReplayState,
        ReplayedBy,
    },
    run::{Recorded, RunError, Runner},
    status::{DropFilter, DropStatus, Snapshot},
    store::ETag,
    telemetry::is_first_occurrence,
};

/// How many drops of a run have not ended at any time: as many as a sweep runs at once.
pub const MAX_PENDING: usize = 3;

/// The most drops of a plan.
pub const MAX_PLANNED: u16 = 10_000;

/// How long the process that claims a drop may take to replay it. After that, another one does it.
const CLAIM_LAPSES_AFTER: time::Duration = time::Duration::seconds(60);

/// How long a run with drops of tenants that are not in `TENANTS` is left to a process that has them.
const ABANDONED_AFTER: time::Duration = time::Duration::hours(1);

/// How often [`advance`] tries again if somebody has changed the record of the run in the meantime.
const MAX_CONFLICTS: usize = 5;

/// The filter of a plan selects every drop.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a tenant, a reason, a state or a time: a plan without a filter would replay every drop")]
pub struct EmptyFilter;

/// Plans to replay the drops of customers that the filter selects; the first ones that arrived, if there are more than
/// the limit.
pub fn plan(snapshot: &Snapshot, filter: PlanFilter) -> Result<ReplayPlan, EmptyFilter> {
    let PlanFilter { tenant, reason, state, since, limit } = filter;
    let conditions = DropFilter { tenant, state, reason, since, week: None };
    if conditions.is_empty() {
        return Err(EmptyFilter);
    }
    let customers: HashSet<_> = snapshot.customers.iter().map(|customer| customer.tenant_id).collect();
    let is_selected =
        |drop: &&DropStatus| drop.path.is_some() && customers.contains(&drop.tenant_id) && conditions.matches(drop);
    let mut selected: Vec<_> = snapshot.drops.iter().filter(is_selected).collect();
    selected.sort_by_key(|drop| (drop.arrived, &drop.path));
    let matching = selected.len() as u64;
    selected.truncate(limit.unwrap_or(MAX_PLANNED).min(MAX_PLANNED).into());
    let planned = |drop: &&DropStatus| {
        Some(PlannedDrop {
            path: drop.path.clone()?,
            tenant_id: drop.tenant_id,
            state: drop.state,
            reason: drop.reason,
            rows: drop.rows.unwrap_or_default(),
        })
    };
    let drops: Vec<_> = selected.iter().filter_map(planned).collect();
    let rows_delivered = drops.iter().map(|drop| drop.rows).sum();
    let id = format!("{}-{}", date(snapshot.as_of), &Uuid::new_v4().simple().to_string()[..8]);
    let counts = PlanCounts { drops: drops.len() as u64, matching, rows_delivered };
    Ok(ReplayPlan { id, created: snapshot.as_of, filter, drops, counts })
}

/// Whether a text may be the id of a plan.
pub fn is_plan_id(text: &str) -> bool {
    (1..=40).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// A drop of a replay run that was started. It is in the index of unfinished drops.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartedDrop {
    /// The tenant that the drop belongs to.
    pub tenant: TenantId,
    /// The drop path.
    pub path: DropPath,
    /// The version of its entry in the index.
    pub entry: ETag,
}

/// The result of [`advance_all`].
#[derive(Debug, Default)]
pub struct Advanced {
    /// The drops that were started.
    pub started: Vec<StartedDrop>,
    /// Whether a run has drops that have not ended.
    pub is_running: bool,
}

/// Advances every replay run that runs. A run that cannot be advanced affects no other.
pub async fn advance_all(runner: &Runner) -> Result<Advanced, LedgerError> {
    let mut advanced = Advanced::default();
    let mut running = Vec::new();
    let mut runs = runner.ledger.replay_runs();
    while let Some((_, run)) = runs.try_next().await? {
        if run.state == ReplayState::Running {
            running.push(run.id);
        }
    }
    for id in running {
        match advance(runner, &id, &mut advanced.started).await {
            Ok(is_running) => advanced.is_running |= is_running,
            Err(error) => warn!(replay = id, "the replay run {id} continues later: {}", error_chain(&error)),
        }
    }
    Ok(advanced)
}

/// Counts the drops of a run that have ended, and starts its next ones, which it adds to `started`. Returns whether the
/// run has drops that have not ended. Leaves a run with drops of tenants that are not configured here to the process
/// that has them, for [`ABANDONED_AFTER`]; then such drops count as failed.
pub async fn advance(runner: &Runner, id: &str, started: &mut Vec<StartedDrop>) -> Result<bool, RunError> {
    let ledger = &runner.ledger;
    let Some(plan) = ledger.plan(id).await? else {
        return Ok(false);
    };
    let tenants: HashSet<_> = runner.tenants.ids().into_iter().collect();
    let is_ours = |drop: &PlannedDrop| tenants.contains(&drop.tenant_id);
    let (is_all_ours, has_ours) = (plan.drops.iter().all(is_ours), plan.drops.iter().any(is_ours));
    for _ in 0..MAX_CONFLICTS {
        let Some((version, mut run)) = ledger.replay_run(id).await? else {
            return Ok(false);
        };
        if run.state != ReplayState::Running {
            return Ok(false);
        }
        let before = run.clone();
        if !is_all_ours && clock::is_due_again(run.updated, ABANDONED_AFTER) {
            run.by = ReplayedBy::Some;
        }
        let may_advance = is_all_ours || (has_ours && run.by == ReplayedBy::Some);
        if !may_advance {
            let line = format!(
                "the replay run {id} has drops of tenants that are not in TENANTS: if no other process continues it \
                 within an hour, these drops count as failed"
            );
            if has_ours && is_first_occurrence(&line) {
                warn!(replay = id, "{line}");
            }
            return Ok(false);
        }
        count_ended(ledger, &plan, &mut run).await?;
        let pending = run.pending();
        if run != before && ledger.write_replay_run(&mut run, Some(&version)).await?.is_none() {
            // Somebody else has changed it.
            continue;
        }
        if run.state != ReplayState::Running {
            info!(replay = id, "the replay run {id} is {}: {}", run.state.as_str(), progress(&run));
            return Ok(false);
        }
        let mut rejected = Vec::new();
        let claims_have_lapsed = clock::is_due_again(before.updated, CLAIM_LAPSES_AFTER);
        let is_ours = |index: &usize| claims_have_lapsed || !before.pending().contains(index);
        for index in pending.into_iter().filter(is_ours) {
            match start(runner, &plan.drops[index], &run, index).await? {
                Start::Started(drop) => started.push(drop),
                Start::Running => {}
                Start::Rejected => rejected.push(index),
            }
        }
        if rejected.is_empty() {
            return Ok(true);
        }
        reject(ledger, id, &rejected).await?;
    }
    Ok(true)
}

/// Counts the pending drops that have ended, and claims the next ones.
async fn count_ended(ledger: &Ledger, plan: &ReplayPlan, run: &mut ReplayRun) -> Result<(), LedgerError> {
    let mut pending = Vec::new();
    for index in run.pending() {
        let Some(drop) = plan.drops.get(index) else { continue };
        let record = record_of(ledger, drop).await?.filter(|record| is_replayed(run, index, record));
        let ending = record.and_then(|record| record.ending).filter(|ending| ending.is_final);
        match ending.map(|ending| ending.reason) {
            Some(None) => run.done += 1,
            Some(Some(_)) => run.failed += 1,
            None => pending.push(index),
        }
    }
    let end = run.first.unwrap_or(u64::MAX).min(run.total).min(plan.drops.len() as u64);
    while pending.len() < MAX_PENDING && run.started < end {
        let next = usize::try_from(run.started).ok().and_then(|index| plan.drops.get(index));
        let record = match next {
            Some(drop) => record_of(ledger, drop).await?,
            None => None,
        };
        run.claim_next(&mut pending, record.map_or(0, |record| record.replays));
    }
    if pending.is_empty() {
        run.state = if run.started < run.total { ReplayState::Paused } else { ReplayState::Done };
    }
    run.set_pending(&pending);
    Ok(())
}

/// The record of a planned drop; `None` if it cannot be parsed, because the replay of the drop will replace it.
async fn record_of(ledger: &Ledger, drop: &PlannedDrop) -> Result<Option<DropRecord>, LedgerError> {
    let Ok(path) = drop.path.parse::<DropPath>() else { return Ok(None) };
    match ledger.drop_record(&path).await {
        Ok(record) => Ok(Some(record)),
        Err(LedgerError::Invalid { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether the pending drop `index` was replayed after the run had claimed it. Compares counts and not times, because
/// the clocks of the processes may differ.
fn is_replayed(run: &ReplayRun, index: usize, record: &DropRecord) -> bool {
    match run.replays_before(index) {
        Some(before) => record.replays > before,
        // An older vivadrop has claimed the drop.
        None => record.first_seen >= Some(run.created),
    }
}

/// Counts pending drops as failed that cannot be replayed.
async fn reject(ledger: &Ledger, id: &str, rejected: &[usize]) -> Result<(), LedgerError> {
    while let Some((version, mut run)) = ledger.replay_run(id).await? {
        let (rejected, pending): (Vec<_>, Vec<_>) =
            run.pending().into_iter().partition(|index| rejected.contains(index));
        run.failed += rejected.len() as u64;
        run.set_pending(&pending);
        if ledger.write_replay_run(&mut run, Some(&version)).await?.is_some() {
            break;
        }
    }
    Ok(())
}

enum Start {
    /// The replay of the drop was recorded now.
    Started(StartedDrop),
    /// An earlier call has recorded it.
    Running,
    /// The drop was deleted, or is not in a place of its tenant any more.
    Rejected,
}

/// Records the replay of the pending drop `index`, unless that was done since the run has claimed it.
async fn start(runner: &Runner, drop: &PlannedDrop, run: &ReplayRun, index: usize) -> Result<Start, RunError> {
    let Ok(path) = drop.path.parse::<DropPath>() else {
        return Ok(Start::Rejected);
    };
    if record_of(&runner.ledger, drop).await?.is_some_and(|record| is_replayed(run, index, &record)) {
        return Ok(Start::Running);
    }
    match runner.record_replay(&path, false).await? {
        Recorded::Replay { tenant, entry } => {
            info!(drop.path = %path, replay = run.id, "replays `{path}`, as planned by {}", run.id);
            Ok(Start::Started(StartedDrop { tenant, path, entry }))
        }
        Recorded::Nothing(_) => Ok(Start::Rejected),
    }
}

/// Lets a run start all its drops, or no more. Returns the new version of its record; `None` if the record has another
/// version than `version`.
pub async fn set_state(
    ledger: &Ledger,
    run: &mut ReplayRun,
    version: &ETag,
    state: ReplayState,
) -> Result<Option<ETag>, LedgerError> {
    run.state = state;
    run.first = None;
    ledger.write_replay_run(run, Some(version)).await
}

/// The moment of a run, in one line.
pub fn progress(run: &ReplayRun) -> String {
    let ReplayRun { started, done, failed, total, .. } = run;
    format!("{started} of {total} drops started: {done} completed, {failed} failed")
}
