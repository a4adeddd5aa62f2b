//! `vivadrop deliver` and `vivadrop replay`: one drop, as an event would, or afresh.

use clap::Args;

use super::CliError;
use crate::{
    app,
    config::{Config, Settings},
    drop::DropPath,
    error_chain::error_chain,
    run::{Outcome, RunError, Runner},
};

#[derive(Debug, Args)]
pub(super) struct DeliverArguments {
    /// Where the drop lies: container/folder
    drop_path: DropPath,
}

#[derive(Debug, Args)]
pub(super) struct ReplayArguments {
    /// Where the drop lies: container/folder
    drop_path: DropPath,
    /// Give the messages new ids, and batches of the sizes that are set now: a receiver that drops doubles takes them again
    #[arg(long)]
    new_ids: bool,
}

pub(super) async fn deliver(arguments: &DeliverArguments) -> Result<(), CliError> {
    work_on(&arguments.drop_path, async |runner, path| runner.run(path, None).await).await
}

pub(super) async fn replay(arguments: &ReplayArguments) -> Result<(), CliError> {
    work_on(&arguments.drop_path, async |runner, path| runner.replay(path, arguments.new_ids).await).await
}

async fn work_on(
    path: &DropPath,
    work: impl AsyncFnOnce(&Runner, &DropPath) -> Result<Outcome, RunError>,
) -> Result<(), CliError> {
    let config = Config::read(&Settings::from_env())?;
    let app = app::wire(config).map_err(|error| CliError::TryAgain(error_chain(&error)))?;
    if !app.guard.covers(&path.container) {
        return Err(CliError::Refused(format!("`{path}` is not in a container of DROP_CONTAINER")));
    }
    let end = work(&app.runner, path).await;
    app.runner.ledger.flush().await;
    match end {
        Ok(Outcome::Completed { rows, bad_rows }) => {
            eprintln!("completed `{path}`: {rows} rows, {bad_rows} bad rows");
            Ok(())
        }
        Ok(Outcome::Open { rows, of }) => {
            let of = of.map_or_else(String::new, |of| format!(" of {of}"));
            Err(CliError::TryAgain(format!(
                "`{path}` is open: {rows} rows{of} are in, and there are files still to come"
            )))
        }
        Ok(Outcome::SetAside { reason, message, .. }) => {
            let message = message.map_or_else(String::new, |message| format!(": {message}"));
            Err(CliError::Refused(format!(
                "`{path}` was set aside: {reason}{message}; `vivadrop replay {path}` starts it afresh"
            )))
        }
        Ok(Outcome::NoDrop) => Err(CliError::Refused(format!("there is no job metadata below `{path}`: not a drop"))),
        Ok(Outcome::Refused(refusal)) => Err(CliError::Refused(refusal.to_string())),
        Err(error) => Err(CliError::TryAgain(error_chain(&error))),
    }
}
