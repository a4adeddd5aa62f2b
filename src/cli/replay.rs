//! `vivadrop replay`: delivers one drop again at once, or plans and runs the replay of many drops.

use std::io::Write;

use clap::Args;
use futures::{StreamExt, stream::FuturesUnordered};
use time::OffsetDateTime;

use super::{
    CliError,
    deliver::{run_drop, run_once},
    print_note,
};
use crate::{
    app::{self, App},
    clock,
    config::{Config, LedgerConfig, Settings},
    date::date_and_time,
    drop::{DropPath, TenantId, tenant::Tenants},
    error_chain::error_chain,
    ledger::{Ledger, LedgerError, PlanFilter, ReplayPlan, ReplayRun, ReplayState},
    one_line::escape_deceptive,
    replay::{self, MAX_PLANNED, StartedDrop, progress},
    run::{Recorded, Runner, Trigger},
    status::{State, load, parse_reason, parse_since},
    verdict::Reason,
};

/// How many drops of a plan are printed.
const PRINTED_DROPS: usize = 20;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vivadrop replay datasets/RUN/VivaInsights/TENANT --new-ids
  vivadrop replay --reason wrong-key --since 7d
  vivadrop replay --run PLAN --first 1")]
pub(super) struct ReplayArguments {
    /// Path of one drop, which is delivered again at once: container/folder
    #[arg(conflicts_with_all = ["tenant", "reason", "state", "since", "limit", "run", "cancel"])]
    drop_path: Option<DropPath>,
    /// Give the messages new ids, so that receivers do not drop them as duplicates, and cut batches by the current
    /// settings
    #[arg(long, requires = "drop_path")]
    new_ids: bool,
    /// Plan to replay the drops of this tenant
    #[arg(long, value_name = "ID")]
    tenant: Option<TenantId>,
    /// Plan to replay the drops that were set aside for this reason
    #[arg(long, value_name = "REASON", value_parser = parse_reason)]
    reason: Option<Reason>,
    /// Plan to replay the drops in this state
    #[arg(long, value_name = "STATE")]
    state: Option<State>,
    /// Plan to replay the drops whose state changed within this time, such as 7d or 12h, or since an RFC 3339 time
    #[arg(long, value_name = "TIME", value_parser = since)]
    since: Option<OffsetDateTime>,
    /// Plan to replay N drops at most, those that arrived first
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=i64::from(MAX_PLANNED)))]
    limit: Option<u16>,
    /// Start the run of a plan, continue it, or resume it after a pause
    #[arg(long, value_name = "PLAN", conflicts_with_all = ["tenant", "reason", "state", "since", "limit", "cancel"])]
    run: Option<String>,
    /// Pause after the next N drops; those that were started and have not ended count [default: no pause]
    #[arg(long, value_name = "N", requires = "run", value_parser = clap::value_parser!(u16).range(1..))]
    first: Option<u16>,
    /// Stop the run of a plan; the drops that it has started end by themselves
    #[arg(long, value_name = "PLAN", conflicts_with_all = ["tenant", "reason", "state", "since", "limit"])]
    cancel: Option<String>,
}

fn since(text: &str) -> Result<OffsetDateTime, String> {
    parse_since(text, clock::now()).map(clock::whole_seconds).map_err(|error| error.to_string())
}

/// Delivers a drop again, makes a plan, or starts or cancels the run of a plan.
pub(super) async fn replay(arguments: &ReplayArguments) -> Result<(), CliError> {
    match (&arguments.drop_path, &arguments.run, &arguments.cancel) {
        (Some(path), ..) => replay_drop(path, arguments.new_ids).await,
        (None, Some(id), _) => run_plan(id, arguments.first).await,
        (None, None, Some(id)) => cancel(id).await,
        (None, None, None) => make_plan(arguments).await,
    }
}

/// Delivers a drop again from its first row.
async fn replay_drop(path: &DropPath, new_ids: bool) -> Result<(), CliError> {
    let run = async |runner: &Runner, path: &DropPath| {
        let owners = runner.tenants.possible_owners(path);
        if !new_ids && owners.into_iter().any(|tenant| uses_service_bus(runner, tenant)) {
            let text = format!("{SERVICE_BUS_WARNING}; `vivadrop replay --new-ids {path}` delivers all rows");
            print_note(&text);
        }
        match runner.record_replay(path, new_ids).await {
            Ok(Recorded::Replay { .. }) => run_once(runner, path).await,
            Ok(Recorded::Nothing(outcome)) => Ok(outcome),
            Err(error) => {
                let (reason, flag) = (error_chain(&error), if new_ids { "--new-ids " } else { "" });
                Err(format!("{reason}; the replay was not recorded, and `vivadrop replay {flag}{path}` tries it again"))
            }
        }
    };
    run_drop(path, run).await
}

const SERVICE_BUS_WARNING: &str = "warning: a Service Bus entity with duplicate detection drops the ids that it has received \
     within its window, although it answers 201: rows that it has dropped do not arrive";

fn uses_service_bus(runner: &Runner, tenant: TenantId) -> bool {
    runner.tenant_configs.of(tenant).sink.as_service_bus().is_some()
}

/// Makes a plan and prints it. Nothing is replayed.
async fn make_plan(arguments: &ReplayArguments) -> Result<(), CliError> {
    let ReplayArguments { tenant, reason, state, since, limit, .. } = *arguments;
    let filter = PlanFilter { tenant, reason, state, since, limit };
    let (ledger, tenants) = open()?;
    let snapshot = load(&ledger, tenants.as_ref()).await;
    let snapshot = snapshot.map_err(|error| CliError::of(error.verdict(), &error))?;
    let plan = replay::plan(&snapshot, filter).map_err(|_| {
        CliError::Usage("expected the path of a drop, or --tenant, --reason, --state or --since".into())
    })?;
    if plan.drops.is_empty() {
        return Err(CliError::Permanent("no drop matches".into()));
    }
    ledger.write_plan(&plan).await.map_err(failed)?;
    let mut out = Vec::new();
    print_plan(&plan, &mut out).expect("writing to memory does not fail");
    let _closed = std::io::stdout().write_all(&out);
    Ok(())
}

fn open() -> Result<(Ledger, Option<Tenants>), CliError> {
    let config = LedgerConfig::read(&Settings::from_env())?;
    let ledger = app::ledger(&config).map_err(|error| CliError::Transient(error_chain(&error)))?;
    Ok((ledger, config.tenants))
}

fn failed(error: LedgerError) -> CliError {
    CliError::of(error.verdict(), &error)
}

fn print_plan(plan: &ReplayPlan, out: &mut Vec<u8>) -> std::io::Result<()> {
    let ReplayPlan { id, created, drops, counts, .. } = plan;
    writeln!(out, "plan    {id}, of {}", date_and_time(*created))?;
    write!(out, "drops   {}", counts.drops)?;
    if counts.matching > counts.drops {
        write!(out, " of {} that match", counts.matching)?;
    }
    writeln!(
        out,
        "\nrows    {} were delivered already, and will be delivered again with the same ids\n",
        counts.rows_delivered
    )?;
    for drop in drops.iter().take(PRINTED_DROPS) {
        let reason = drop.reason.map_or_else(String::new, |reason| format!(", {reason}"));
        let line = format!("{} ({}{reason}, {} rows)", drop.path, drop.state, drop.rows);
        writeln!(out, "{}", escape_deceptive(&line))?;
    }
    if drops.len() > PRINTED_DROPS {
        writeln!(out, "and {} more", drops.len() - PRINTED_DROPS)?;
    }
    writeln!(out, "\nto replay them: vivadrop replay --run {id} --first 1, and then without --first")
}

/// Stops the run of a plan.
async fn cancel(id: &str) -> Result<(), CliError> {
    let (ledger, _) = open()?;
    loop {
        let (version, mut run) = existing(&ledger, id).await?.ok_or_else(|| no_run(id))?;
        if matches!(run.state, ReplayState::Done | ReplayState::Cancelled) {
            return Err(CliError::Permanent(format!("the replay run {id} is {}", run.state.as_str())));
        }
        let changed = replay::set_state(&ledger, &mut run, &version, ReplayState::Cancelled).await.map_err(failed)?;
        if changed.is_some() {
            print_note(&format!("cancelled {id}: {}; those that were started end by themselves", progress(&run)));
            return Ok(());
        }
    }
}

fn no_run(id: &str) -> CliError {
    CliError::Permanent(escape_deceptive(&format!("there is no replay run `{id}`")).into_owned())
}

async fn existing(ledger: &Ledger, id: &str) -> Result<Option<(crate::store::ETag, ReplayRun)>, CliError> {
    if !replay::is_plan_id(id) {
        return Ok(None);
    }
    ledger.replay_run(id).await.map_err(failed)
}

/// Carries out a plan until its drops have ended, or it pauses. Sweeps continue it if this process is stopped.
async fn run_plan(id: &str, first: Option<u16>) -> Result<(), CliError> {
    let config = Config::read(&Settings::from_env())?;
    let app = app::wire(config).map_err(|error| CliError::Transient(error_chain(&error)))?;
    let plan = if replay::is_plan_id(id) { app.runner.ledger.plan(id).await.map_err(failed)? } else { None };
    let plan = plan.ok_or_else(|| CliError::Permanent(format!("there is no plan `{}`", escape_deceptive(id))))?;
    if plan.drops.iter().any(|drop| uses_service_bus(&app.runner, drop.tenant_id)) {
        print_note(SERVICE_BUS_WARNING);
    }
    create_or_resume(&app.runner.ledger, &plan, first.map(u64::from)).await?;
    let result = carry_out(&app, id).await;
    app.runner.ledger.flush().await;
    let run = result?;
    print_note(&format!("{}: {}", run.state.as_str(), progress(&run)));
    match run.state {
        _ if run.failed > 0 => Err(CliError::Permanent("drops were set aside: `vivadrop status` says why".into())),
        ReplayState::Running => {
            Err(CliError::Transient("the started drops are retried; sweeps continue the run".into()))
        }
        ReplayState::Paused | ReplayState::Cancelled | ReplayState::Done => Ok(()),
    }
}

/// Creates the run of a plan, or continues it. It then starts all remaining drops, or pauses after the next `first`
/// ones; those that were started and have not ended count.
async fn create_or_resume(ledger: &Ledger, plan: &ReplayPlan, first: Option<u64>) -> Result<(), CliError> {
    loop {
        let written = match existing(ledger, &plan.id).await? {
            None => ledger.write_replay_run(&mut ReplayRun::new(plan, first), None).await,
            Some((version, mut run)) if matches!(run.state, ReplayState::Paused | ReplayState::Running) => {
                let before = run.clone();
                let ended = run.started.saturating_sub(run.pending().len() as u64);
                run.state = ReplayState::Running;
                run.first = first.map(|first| ended + first);
                if run == before {
                    return Ok(());
                }
                ledger.write_replay_run(&mut run, Some(&version)).await
            }
            Some((_, run)) => {
                let state = run.state.as_str();
                return Err(CliError::Permanent(format!("the replay run {} is {state}: make a new plan", plan.id)));
            }
        };
        if written.map_err(failed)?.is_some() {
            return Ok(());
        }
    }
}

/// Advances the run until this process has none of its drops left to run. Returns the record of the run.
async fn carry_out(app: &App, id: &str) -> Result<ReplayRun, CliError> {
    let runner = &app.runner;
    let mut running = FuturesUnordered::new();
    let mut last = String::new();
    loop {
        let mut started = Vec::new();
        let advanced = replay::advance(runner, id, &mut started).await;
        advanced.map_err(|error| CliError::Transient(format!("{}; sweeps continue the run", error_chain(&error))))?;
        for StartedDrop { path, entry, .. } in started {
            running.push(async move {
                let outcome = runner.run(&path, None, Trigger::Sweep(Some(entry)), None).await;
                if let Err(error) = outcome {
                    print_note(&format!("`{path}` will be retried: {}", error_chain(&error)));
                }
            });
        }
        let (_, run) = existing(&runner.ledger, id).await?.ok_or_else(|| no_run(id))?;
        let line = progress(&run);
        if line != last {
            print_note(&line);
            last = line;
        }
        if running.next().await.is_none() {
            return Ok(run);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        ledger::{PlanCounts, PlannedDrop},
        store::local::LocalStore,
    };

    fn plan(drops: u128) -> ReplayPlan {
        let drop = |number| PlannedDrop {
            path: format!("datasets/{number}"),
            tenant_id: TenantId(uuid::Uuid::nil()),
            state: State::Completed,
            reason: None,
            rows: 0,
        };
        let drops: Vec<_> = (0..drops).map(drop).collect();
        let counts = PlanCounts { drops: drops.len() as u64, matching: drops.len() as u64, rows_delivered: 0 };
        ReplayPlan { id: "2026-01-01-0".into(), created: clock::now(), filter: PlanFilter::default(), drops, counts }
    }

    #[tokio::test]
    async fn first_takes_effect_while_the_run_is_running_and_counts_the_drops_that_have_not_ended() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = Ledger::new(Arc::new(LocalStore::new(folder.path()).unwrap()), "state");
        let plan = plan(9);
        create_or_resume(&ledger, &plan, Some(1)).await.unwrap();
        let (version, mut run) = ledger.replay_run(&plan.id).await.unwrap().unwrap();
        assert_eq!(run.first, Some(1));
        (run.started, run.done) = (3, 1);
        run.set_pending(&[1, 2]);
        ledger.write_replay_run(&mut run, Some(&version)).await.unwrap().unwrap();
        for (first, pauses_after) in [(Some(1), Some(2)), (Some(4), Some(5)), (None, None), (Some(2), Some(3))] {
            create_or_resume(&ledger, &plan, first).await.unwrap();
            let (_, run) = ledger.replay_run(&plan.id).await.unwrap().unwrap();
            assert_eq!((run.state, run.first, run.started), (ReplayState::Running, pauses_after, 3));
        }
    }
}
