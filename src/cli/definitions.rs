//! Reads and edits a tenant's definitions, for `vivadrop attributes` and `vivadrop programs`.

use std::io::Write;

use clap::Args;
use serde_json::{Value, json};

use super::{CliError, print_line, print_note};
use crate::{
    app::{self, App},
    attributes::Definitions,
    config::{Config, Settings},
    definitions::{self, SaveError, TenantDefinitions},
    drop::TenantId,
    error_chain::error_chain,
    ledger::LedgerError,
    one_line::escape_deceptive,
};

/// The flags of every command that edits definitions.
#[derive(Debug, Args)]
pub(super) struct TenantArguments {
    /// The customer's Microsoft Entra tenant id
    #[arg(long, value_name = "ID")]
    tenant: TenantId,
    /// Only print what the change would cause
    #[arg(long)]
    dry_run: bool,
}

/// Prints the definitions of a tenant: as JSON, or as `table` formats them. Fails if the stored ones are not valid.
pub(super) async fn print(
    tenant: TenantId,
    as_json: bool,
    table: impl FnOnce(&Definitions) -> String,
) -> Result<(), CliError> {
    let (_, loaded) = load(tenant).await?;
    let text = match &loaded.definitions {
        Some(definitions) if as_json => definitions.to_json(),
        Some(definitions) => escape_deceptive(&table(definitions)).into_owned(),
        None => String::new(),
    };
    let printed = std::io::stdout().write_all(text.as_bytes());
    match loaded.definitions {
        Some(_) => print_note(&format!("revision {}", loaded.revision)),
        None => print_note("the tenant has no definitions: add attributes with `vivadrop attributes add`"),
    }
    refuse_problems(tenant, &loaded)?;
    printed.map_err(|error| CliError::of_output("the definitions", &error))
}

/// Changes the definitions of a tenant, and prints the consequences. With `--dry-run`, only prints them.
pub(super) async fn edit(
    arguments: &TenantArguments,
    change: impl FnOnce(&mut Value) -> Result<(), CliError>,
) -> Result<(), CliError> {
    let TenantArguments { tenant, dry_run } = *arguments;
    let (app, loaded) = load(tenant).await?;
    refuse_problems(tenant, &loaded)?;
    let mut json = match &loaded.definitions {
        Some(definitions) => serde_json::from_str(&definitions.to_json()).expect("definitions are valid JSON"),
        None => json!({"attributes": [], "programs": []}),
    };
    change(&mut json)?;
    let new = Definitions::parse(json.to_string().as_bytes()).map_err(|error| CliError::Usage(error.to_string()))?;
    let ledger = &app.runner.ledger;
    let consequences = if dry_run {
        definitions::preview(ledger, tenant, &new).await.map_err(|error| of_ledger(&error))?
    } else {
        let saved = definitions::save(ledger, tenant, new.to_json().as_bytes(), loaded.etag.as_ref()).await;
        let saved = saved.map_err(|error| match error {
            SaveError::Invalid(error) => CliError::Usage(error.to_string()),
            error @ SaveError::Changed => CliError::Transient(error.to_string()),
            SaveError::Ledger(error) => of_ledger(&error),
        })?;
        print_note(&format!("saved revision {} of the definitions", saved.revision));
        saved.consequences
    };
    if consequences.is_empty() {
        let is_changed = loaded.definitions.as_ref() != Some(&new);
        print_note(&format!(
            "nothing is imported again or deleted{}",
            if is_changed { "; receivers get the new definitions" } else { "" }
        ));
    }
    for consequence in consequences {
        print_line(&escape_deceptive(&consequence));
    }
    Ok(())
}

async fn load(tenant: TenantId) -> Result<(App, TenantDefinitions), CliError> {
    let config = Config::read(&Settings::from_env())?;
    let app = app::wire(config).map_err(|error| CliError::Transient(error_chain(&error)))?;
    if !app.runner.tenants.ids().contains(&tenant) {
        return Err(CliError::Usage(format!("the tenant {tenant} is not in TENANTS")));
    }
    let loaded = definitions::load(&app.runner.ledger, tenant).await.map_err(|error| of_ledger(&error))?;
    Ok((app, loaded))
}

/// Fails if the stored definitions are not valid: a command would overwrite the edit by hand.
fn refuse_problems(tenant: TenantId, loaded: &TenantDefinitions) -> Result<(), CliError> {
    if loaded.problems.is_empty() || loaded.etag.is_none() {
        return Ok(());
    }
    let problems: String = loaded.problems.iter().map(|problem| format!("\n  {problem}")).collect();
    let revision = loaded.revision;
    Err(CliError::Usage(format!(
        "the definitions in `attributes/{tenant}.json` of STATE_CONTAINER are not valid, and revision {revision} stays in \
         force: correct them{problems}"
    )))
}

fn of_ledger(error: &LedgerError) -> CliError {
    CliError::of(error.verdict(), error)
}
