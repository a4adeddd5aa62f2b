//! `vivadrop import`: imports survey attributes from a drop now.

use clap::Args;

use super::{CliError, print_note};
use crate::{
    app,
    config::{Config, Settings},
    drop::{DropPath, TenantId},
    error_chain::error_chain,
    import::{ImportRequest, Imported, PassOutcome, RequestError},
    run::Runner,
};

#[derive(Debug, Args)]
#[command(after_help = "\
Imports the attributes of each cycle that has ended, that the drop reaches, and that was not imported before; with --again, also
those that were. Exit code 3 if a cycle cannot be imported, for example because too few people have rows.

Examples:
  vivadrop import datasets/run/VivaInsights/9f1c7fd3-1a33-4f2b-9d3c-0a8f6f2d7e10
  vivadrop import datasets/run/VivaInsights/9f1c7fd3-1a33-4f2b-9d3c-0a8f6f2d7e10 --program Engagement --cycle Oct --again")]
pub(super) struct ImportArguments {
    /// Path of the drop: container/folder
    drop_path: DropPath,
    /// Only this program [default: all]
    #[arg(long, value_name = "NAME")]
    program: Option<String>,
    /// Only this cycle of the program [default: the two latest that have ended]
    #[arg(long, value_name = "NAME", requires = "program")]
    cycle: Option<String>,
    /// Import cycles again that were imported before; the messages have new ids
    #[arg(long)]
    again: bool,
}

/// Records the request, and then makes a pass over the tenant's imports.
pub(super) async fn import(arguments: &ImportArguments) -> Result<(), CliError> {
    let config = Config::read(&Settings::from_env())?;
    let app = app::wire(config).map_err(|error| CliError::Transient(error_chain(&error)))?;
    let ImportArguments { drop_path: path, program, cycle, again } = arguments;
    if !app.watched.contains(&path.container) {
        return Err(CliError::Permanent(format!("`{path}` is not in a container of DROP_CONTAINER")));
    }
    let request = ImportRequest { path: path.clone(), program: program.clone(), cycle: cycle.clone(), again: *again };
    let tenant = app.runner.request_import(&request).await.map_err(|error| match error {
        RequestError::Store(_) | RequestError::Ledger(_) | RequestError::TooMany => {
            CliError::Transient(error_chain(&error))
        }
        RequestError::NoCycle { .. } => CliError::Usage(error_chain(&error)),
        RequestError::NoDrop(_) | RequestError::Refused(_) | RequestError::NoDefinitions(_) => {
            CliError::Permanent(error_chain(&error))
        }
    })?;
    let result = app.runner.import(tenant, None).await;
    app.runner.ledger.flush().await;
    if app.runner.tenants.is_paused(tenant) {
        let text = format!("the import of `{path}` waits, because its tenant is paused in TENANTS");
        return Err(CliError::Transient(text));
    }
    let outcome = result.map_err(|error| {
        let reason = error_chain(&error);
        CliError::Transient(format!("{reason}; the next sweep, or `vivadrop import {path}`, continues"))
    })?;
    let PassOutcome::Done(imported) = outcome else {
        let text =
            format!("another process imports for the tenant {tenant} at the moment, and will do this import as well");
        return Err(CliError::Transient(text));
    };
    if imported.is_empty() {
        print_note("nothing to import: every cycle that the drop reaches was imported before (see --again)");
    }
    if print(&imported) { Err(CliError::Printed(3)) } else { Ok(()) }
}

/// Makes the imports that the delivery of a drop has made due, and prints them. A failure does not change the outcome
/// of the delivery.
pub(super) async fn import_due(runner: &Runner) {
    for tenant in runner.due_imports.take() {
        match runner.import(tenant, None).await {
            Ok(PassOutcome::Done(imported)) => _ = print(&imported),
            Ok(PassOutcome::Busy) => {}
            Err(error) => print_failure(tenant, &error_chain(&error)),
        }
    }
}

fn print_failure(tenant: TenantId, reason: &str) {
    let text = format!("the attributes of {tenant} will be imported by a later sweep: {reason}");
    print_note(&text);
}

/// Prints imports; returns whether one has failed.
fn print(imported: &[Imported]) -> bool {
    for Imported { cycle, drop, result } in imported {
        let name = match cycle {
            Some((program, cycle)) => format!("`{program}` `{cycle}`"),
            None => "attributes".into(),
        };
        let text = match result {
            Ok(people) => format!("imported {name} from `{drop}`: {people} people"),
            Err(reason) => format!("cannot import {name} from `{drop}`: {reason}"),
        };
        print_note(&text);
    }
    imported.iter().any(|imported| imported.result.is_err())
}
