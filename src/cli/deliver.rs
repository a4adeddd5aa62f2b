//! `vivadrop deliver`: delivers one drop.

use clap::Args;

use super::{CliError, import::import_due, print_note, start_telemetry};
use crate::{
    app,
    config::{Config, Settings},
    date::date_and_time,
    drop::DropPath,
    error_chain::error_chain,
    run::{Outcome, Runner, Trigger},
    telemetry,
};

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  vivadrop deliver datasets/RUN/VivaInsights/TENANT --env-file local.env")]
pub(super) struct DeliverArguments {
    /// Path of the drop: container/folder
    drop_path: DropPath,
}

/// Delivers a drop as an event would.
pub(super) async fn deliver(arguments: &DeliverArguments) -> Result<(), CliError> {
    run_drop(&arguments.drop_path, run_once).await
}

/// Runs a drop. An error says how to continue.
pub(super) async fn run_once(runner: &Runner, path: &DropPath) -> Result<Outcome, String> {
    runner.run(path, None, Trigger::Command, None).await.map_err(|error| {
        let reason = error_chain(&error);
        format!("{reason}; the drop is unfinished, and `vivadrop deliver {path}` continues it")
    })
}

/// Calls `run` for the drop at `path`, and reports the outcome. An error of `run` says how to continue.
pub(super) async fn run_drop(
    path: &DropPath,
    run: impl AsyncFnOnce(&Runner, &DropPath) -> Result<Outcome, String>,
) -> Result<(), CliError> {
    let config = Config::read(&Settings::from_env())?;
    start_telemetry(&config)?;
    let app = app::wire(config).map_err(|error| CliError::Transient(error_chain(&error)))?;
    if !app.watched.contains(&path.container) {
        return Err(CliError::Permanent(format!("`{path}` is not in a container of DROP_CONTAINER")));
    }
    let result = run(&app.runner, path).await;
    import_due(&app.runner).await;
    app.runner.ledger.flush().await;
    telemetry::export::finish().await;
    report(path, result.map_err(CliError::Transient)?)
}

fn report(path: &DropPath, outcome: Outcome) -> Result<(), CliError> {
    let sentence = outcome.describe(path);
    match outcome {
        Outcome::Completed { rows, bad_rows, earlier: Some(earlier) } => {
            let text = format!(
                "already completed `{path}` on {}: {rows} rows, {bad_rows} bad rows; nothing was sent: `vivadrop replay {path}` \
                 sends it again",
                date_and_time(earlier)
            );
            print_note(&text);
            Ok(())
        }
        Outcome::Completed { rows, bad_rows, earlier: None } => {
            print_note(&format!("completed `{path}`: {rows} rows, {bad_rows} bad rows"));
            Ok(())
        }
        Outcome::Open { rows, of } => {
            let of = of.map_or_else(String::new, |of| format!(" of {of}"));
            Err(CliError::Transient(format!(
                "`{path}` is open: {rows} rows{of} are delivered; the others are missing, or another run delivers them"
            )))
        }
        Outcome::SetAside { reason, message, .. } => {
            let message = message.map_or_else(String::new, |message| format!(": {message}"));
            Err(CliError::Permanent(format!(
                "set aside: {reason}{message}; `vivadrop replay {path}` delivers it again"
            )))
        }
        Outcome::Postponed(_) => Err(CliError::Transient(sentence)),
        Outcome::Waiting(_) => Err(CliError::Transient(format!("{sentence}; then a sweep delivers it"))),
        Outcome::Paused => Err(CliError::Transient(format!("{sentence}; without the pause, a sweep delivers it"))),
        Outcome::NoDrop => Err(CliError::Permanent(format!("there is no job metadata below `{path}`: not a drop"))),
        Outcome::Refused(refusal) => Err(CliError::Permanent(format!("`{path}` was not admitted: {refusal}"))),
    }
}
