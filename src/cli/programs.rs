//! `vivadrop programs`: a tenant's survey programs and their cycles.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{
    CliError,
    definitions::{TenantArguments, edit, print},
};
use crate::{attributes::Definitions, drop::TenantId};

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  vivadrop programs list --tenant 9f1c7fd3-1a33-4f2b-9d3c-0a8f6f2d7e10")]
pub(super) struct ProgramsArguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print the survey programs of a tenant
    List(ListArguments),
    /// Add a program, or cycles to a program that exists
    Add(AddArguments),
    /// Remove a program or one of its cycles; receivers keep what was imported
    Remove(RemoveArguments),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  vivadrop programs list --tenant 9f1c7fd3-1a33-4f2b-9d3c-0a8f6f2d7e10")]
struct ListArguments {
    /// The customer's Microsoft Entra tenant id
    #[arg(long, value_name = "ID")]
    tenant: TenantId,
    /// Print the definitions as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
The two latest ended cycles of a program are imported, and others as they end.

Example:
  vivadrop programs add --tenant 9f1c7fd3-1a33-4f2b-9d3c-0a8f6f2d7e10 Engagement --cycle Oct=2024-10-08..2024-10-15")]
struct AddArguments {
    #[command(flatten)]
    tenant: TenantArguments,
    /// Name of the program
    program: String,
    /// A cycle: its name, the day it opens and the day it closes
    #[arg(long = "cycle", value_name = "NAME=START..END")]
    cycles: Vec<CycleArgument>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  vivadrop programs remove --tenant 9f1c7fd3-1a33-4f2b-9d3c-0a8f6f2d7e10 Engagement --cycle Oct")]
struct RemoveArguments {
    #[command(flatten)]
    tenant: TenantArguments,
    /// Name of the program
    program: String,
    /// Remove only this cycle
    #[arg(long, value_name = "NAME")]
    cycle: Option<String>,
}

/// A cycle as `NAME=START..END`.
#[derive(Debug, Clone)]
struct CycleArgument(Value);

impl std::str::FromStr for CycleArgument {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts = text.split_once('=').and_then(|(name, dates)| Some((name, dates.split_once("..")?)));
        let (name, (start, end)) = parts.ok_or("expected a name and two dates: Oct=2024-10-08..2024-10-15")?;
        Ok(Self(json!({"name": name.trim(), "start": start.trim(), "end": end.trim()})))
    }
}

/// Runs a subcommand.
pub(super) async fn programs(arguments: &ProgramsArguments) -> Result<(), CliError> {
    match &arguments.command {
        Command::List(ListArguments { tenant, json }) => print(*tenant, *json, table).await,
        Command::Add(AddArguments { tenant, program, cycles }) => {
            edit(tenant, |definitions| add(definitions, program, cycles)).await
        }
        Command::Remove(RemoveArguments { tenant, program, cycle }) => {
            edit(tenant, |definitions| remove(definitions, program, cycle.as_deref())).await
        }
    }
}

fn add(definitions: &mut Value, program: &str, cycles: &[CycleArgument]) -> Result<(), CliError> {
    let cycles = cycles.iter().map(|CycleArgument(cycle)| cycle.clone());
    let programs = definitions["programs"].as_array_mut().expect("an array");
    match programs.iter_mut().find(|other| other["name"] == program) {
        Some(existing) => existing["cycles"].as_array_mut().expect("an array").extend(cycles),
        None => programs.push(json!({"name": program, "cycles": cycles.collect::<Vec<_>>()})),
    }
    Ok(())
}

fn remove(definitions: &mut Value, program: &str, cycle: Option<&str>) -> Result<(), CliError> {
    let programs = definitions["programs"].as_array_mut().expect("an array");
    let Some(at) = programs.iter().position(|other| other["name"] == program) else {
        return Err(CliError::Usage(format!("there is no program `{program}`: see `vivadrop programs list`")));
    };
    let Some(cycle) = cycle else {
        programs.remove(at);
        return Ok(());
    };
    let cycles = programs[at]["cycles"].as_array_mut().expect("an array");
    let Some(at) = cycles.iter().position(|other| other["name"] == cycle) else {
        return Err(CliError::Usage(format!("the program `{program}` has no cycle `{cycle}`")));
    };
    cycles.remove(at);
    Ok(())
}

/// The programs as text for people.
fn table(definitions: &Definitions) -> String {
    let mut text = String::new();
    for program in &definitions.programs {
        text += &format!("{}\n", program.name);
        for cycle in &program.cycles {
            text += &format!("  {}: {} to {}\n", cycle.name, cycle.start, cycle.end);
        }
    }
    text
}
