//! `vivadrop sweep`: what the timer does, once, now.

use super::CliError;
use crate::{
    app,
    config::{Config, Settings},
    error_chain::error_chain,
    onboard::expiry,
    sweep,
};

pub(super) async fn sweep() -> Result<(), CliError> {
    let config = Config::read(&Settings::from_env())?;
    let deadline = config.deadline;
    let app = app::wire(config).map_err(|error| CliError::TryAgain(error_chain(&error)))?;
    let (containers, state) = (app.guard.containers(), &app.guard.state_container);
    let swept = sweep::sweep(&app.runner, &containers, state, deadline).await;
    app.runner.ledger.flush().await;
    expiry::warn_of(&*app.custody, &*app.runner.store, state, &app.runner.tenants.ids()).await;
    let report = swept.map_err(|error| CliError::TryAgain(error_chain(&error)))?;
    eprintln!("{report}");
    for (path, why) in &report.failed {
        eprintln!("`{path}`: {why}");
    }
    if report.failed.is_empty() { Ok(()) } else { Err(CliError::TryAgain("some drops are to be tried again".into())) }
}
