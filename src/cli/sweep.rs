//! `vivadrop sweep`: one sweep. Unlike the timer's, it also runs drops that wait after a failure, and always lists the
//! containers.

use super::{CliError, print_note, start_telemetry};
use crate::{
    app,
    config::{Config, Settings},
    error_chain::error_chain,
    onboard::expiry,
    sweep::{self, SweepMode},
    telemetry,
};

/// Sweeps all containers, and warns of keys that expire soon.
pub(super) async fn sweep() -> Result<(), CliError> {
    let config = Config::read(&Settings::from_env())?;
    let deadline = config.deadline;
    start_telemetry(&config)?;
    let app = app::wire(config).map_err(|error| CliError::Transient(error_chain(&error)))?;
    let state = &app.watched.state_container;
    let result = sweep::sweep(&app.runner, &app.watched, SweepMode::Command, deadline).await;
    app.runner.ledger.flush().await;
    let (runner, tenants) = (&app.runner, app.runner.tenants.ids());
    expiry::check_expiries(&*app.key_store, &*runner.store, &runner.ledger, state, &tenants).await;
    telemetry::export::finish().await;
    let report = result.map_err(|error| CliError::Transient(error_chain(&error)))?;
    print_note(&report.to_string());
    for (path, reason) in &report.failed {
        print_note(&format!("`{path}`: {reason}"));
    }
    for (tenant, reason) in &report.failed_imports {
        print_note(&format!("attributes of {tenant}: {reason}"));
    }
    for (container, reason) in &report.not_listed {
        print_note(&format!("cannot list `{container}`: {reason}"));
    }
    if !report.has_no_errors() {
        return Err(CliError::Transient("some drops or imports will be retried".into()));
    }
    if report.left > 0 {
        // For the timer this is no failure: its next sweep comes by itself.
        return Err(CliError::Transient(format!("{} drops are left: another sweep runs them", report.left)));
    }
    Ok(())
}
