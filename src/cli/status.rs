//! `vivadrop status`: where every drop stands, or where the files of one drop stand.

mod table;

use std::{
    io::{IsTerminal, Write},
    time::Duration,
};

use clap::{Args, ValueEnum};
use serde::Serialize;
use time::OffsetDateTime;

use super::{CliError, print_note};
use crate::{
    app, clock,
    config::{LedgerConfig, Settings},
    drop::{DropPath, TenantId},
    error_chain::error_chain,
    ledger::Ledger,
    status::{Customer, DropDetail, DropFilter, DropStatus, Snapshot, State, load, parse_since},
};

/// The time between two outputs of `--watch`.
const WATCH_EVERY: Duration = Duration::from_secs(10);

#[derive(Debug, Args)]
#[command(after_help = "\
Exit code 3 if a person has to do something, otherwise 0.

Examples:
  vivadrop status --state set-aside --since 7d
  vivadrop status datasets/RUN/VivaInsights/TENANT --output json")]
pub(super) struct StatusArguments {
    /// Show the files of this drop: container/folder
    #[arg(conflicts_with_all = ["tenant", "state", "since"])]
    drop_path: Option<DropPath>,
    /// Only drops of this tenant
    #[arg(long, value_name = "ID")]
    tenant: Option<TenantId>,
    /// Only drops in this state
    #[arg(long, value_name = "STATE")]
    state: Option<State>,
    /// Only drops whose state changed within this time, such as 7d or 12h, or since an RFC 3339 time
    #[arg(long, value_name = "TIME", value_parser = check_since)]
    since: Option<String>,
    /// Format of the output
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    output: OutputFormat,
    /// Print again every 10 seconds, until interrupted
    #[arg(long)]
    watch: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum OutputFormat {
    Table,
    Json,
}

/// Validates `--since`. The value stays a text, because `--watch` counts a time span from each output.
fn check_since(text: &str) -> Result<String, String> {
    parse_since(text, clock::now()).map(|_| text.to_owned()).map_err(|error| error.to_string())
}

/// Prints where drops stand. Exit code 3 if a person has to do something about one of them, or about a customer.
pub(super) async fn status(arguments: &StatusArguments) -> Result<(), CliError> {
    let config = LedgerConfig::read(&Settings::from_env())?;
    let ledger = app::ledger(&config).map_err(|error| CliError::Transient(error_chain(&error)))?;
    loop {
        let mut text = Vec::new();
        let written = match &arguments.drop_path {
            Some(path) => print_drop(&ledger, &config, path, arguments.output, &mut text).await,
            None => print_drops(&ledger, &config, arguments, &mut text).await,
        };
        let needs_person = match written {
            Err(CliError::Transient(reason)) if arguments.watch => {
                let seconds = WATCH_EVERY.as_secs();
                print_note(&format!("{reason}; tried again in {seconds} s"));
                tokio::time::sleep(WATCH_EVERY).await;
                continue;
            }
            written => written?,
        };
        if arguments.watch && std::io::stdout().is_terminal() {
            // Clears the screen.
            text.splice(0..0, *b"\x1b[2J\x1b[H");
        }
        let printed = std::io::stdout().write_all(&text).and_then(|()| std::io::stdout().flush());
        if !arguments.watch || printed.is_err() {
            return if needs_person { Err(CliError::Printed(3)) } else { Ok(()) };
        }
        tokio::time::sleep(WATCH_EVERY).await;
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DropsJson<'s> {
    #[serde(with = "time::serde::rfc3339")]
    as_of: OffsetDateTime,
    drops: Vec<&'s DropStatus>,
}

/// Writes the drops that the filter selects. Returns whether one of them, or a customer, needs a person.
async fn print_drops(
    ledger: &Ledger,
    config: &LedgerConfig,
    arguments: &StatusArguments,
    out: &mut Vec<u8>,
) -> Result<bool, CliError> {
    let snapshot = load(ledger, config.tenants.as_ref()).await;
    let snapshot = snapshot.map_err(|error| CliError::of(error.verdict(), &error).context("the ledger"))?;
    let since = arguments.since.as_ref().map(|text| parse_since(text, snapshot.as_of));
    let since = since.transpose().map_err(|error| CliError::Usage(error.to_string()))?;
    let filter = DropFilter { tenant: arguments.tenant, state: arguments.state, since, ..DropFilter::default() };
    let Snapshot { as_of, drops, customers, notes, omitted } = &snapshot;
    let drops: Vec<_> = drops.iter().filter(|drop| filter.matches(drop)).collect();
    let is_shown = |id: TenantId| filter.tenant.is_none_or(|tenant| tenant == id);
    let of_tenants = notes.iter().flatten().filter(|note| is_shown(note.tenant_id));
    let needs_person =
        of_tenants.clone().any(|note| note.needs_person) || drops.iter().any(|drop| drop.needs_person(*as_of));
    let mut notes: Vec<_> = of_tenants.map(|note| format!("tenant {}: {}", note.tenant_id, note.text)).collect();
    let is_paused = |customer: &&Customer| customer.paused == Some(true) && is_shown(customer.tenant_id);
    let paused = customers.iter().filter(is_paused);
    notes.extend(paused.map(|customer| format!("tenant {}: paused in TENANTS, so its drops wait", customer.tenant_id)));
    if *omitted > 0 {
        notes.push(format!("{omitted} old drops are not shown, because there are too many"));
    }
    match arguments.output {
        OutputFormat::Json => {
            write_json(&DropsJson { as_of: *as_of, drops }, out);
            notes.iter().for_each(|note| print_note(note));
        }
        OutputFormat::Table => {
            table::write_drops(&drops, *as_of, out);
            notes.iter().for_each(|note| out.extend(format!("{note}\n").bytes()));
        }
    }
    Ok(needs_person)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DropJson {
    #[serde(with = "time::serde::rfc3339")]
    as_of: OffsetDateTime,
    drop: DropDetail,
}

/// Writes a drop and its files. Returns whether it needs a person.
async fn print_drop(
    ledger: &Ledger,
    config: &LedgerConfig,
    path: &DropPath,
    output: OutputFormat,
    out: &mut Vec<u8>,
) -> Result<bool, CliError> {
    let as_of = clock::whole_seconds(clock::now());
    let found = load::load_drop(ledger, config.tenants.as_ref(), path).await;
    let found = found.map_err(|error| CliError::of(error.verdict(), &error))?;
    let Some(drop) = found else {
        return Err(CliError::Permanent(format!("the ledger has no drop `{path}`")));
    };
    let needs_person = drop.drop.needs_person(as_of);
    match output {
        OutputFormat::Json => write_json(&DropJson { as_of, drop }, out),
        OutputFormat::Table => table::write_drop(&drop, as_of, out),
    }
    Ok(needs_person)
}

fn write_json(json: &impl Serialize, out: &mut Vec<u8>) {
    serde_json::to_writer(&mut *out, json).expect("texts, numbers and times serialize to JSON");
    out.push(b'\n');
}
