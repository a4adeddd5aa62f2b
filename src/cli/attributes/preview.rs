//! `vivadrop attributes preview`: computes the attributes of a local drop and sends nothing.

use std::{
    io::{BufWriter, Write},
    path::PathBuf,
    sync::Arc,
};

use clap::{Args, ValueEnum};

use super::output::{Subject, write_csv, write_json, write_table};
use crate::{
    attributes::{Cycle, CycleFailure, CyclePass, Definitions, DropDates, ParsedRows, Program, RowParser, Window},
    cli::{
        CliError, FileFlags,
        local_drop::{DirectoryFlags, LocalDrop},
        print_note,
        private_key::PrivateKeyArgument,
    },
    config::PreviewConfig,
    stage::decode::Rows,
};

#[derive(Debug, Args)]
#[command(after_help = "\
Computes the named cycle, or every cycle that the drop reaches: the drop has rows of the cycle's last week.
Exit code 3 if a cycle cannot be reported, for example because too few people have rows; stderr has the reason.

Examples:
  vivadrop attributes preview drop --private-key tenant.pem --attributes attributes.json
  vivadrop attributes preview drop --private-key tenant.pem --attributes attributes.json \\
    --program Engagement --cycle Oct --directory users --format csv > partial-upload.csv")]
pub(super) struct PreviewArguments {
    /// Folder of the drop, which contains metadata/JobMetadata
    drop: PathBuf,
    /// The tenant's RSA-2048 private key: a PEM file (PKCS#8 or PKCS#1), or a vault: https://{vault}.vault.azure.net
    #[arg(long, value_name = "PEM")]
    private_key: PrivateKeyArgument,
    /// Saved response of egressDecryptionKey [default: the keys in the drop, or those of the API if PARTNER_… or
    /// VIVA_API_URL is set]
    #[arg(long, value_name = "JSON")]
    decryption_keys: Option<PathBuf>,
    /// Definitions of attributes and survey programs, as JSON
    #[arg(long, value_name = "FILE")]
    attributes: PathBuf,
    /// Only this program [default: all]
    #[arg(long, value_name = "NAME")]
    program: Option<String>,
    /// Only this cycle of the program, even if the drop does not reach its last week [default: every cycle that the
    /// drop reaches]
    #[arg(long, value_name = "NAME", requires = "program")]
    cycle: Option<String>,
    /// table (bars for people), json (one line per cycle) or csv (one cycle: a partial upload for survey platforms)
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    format: Format,
    #[command(flatten)]
    directory: DirectoryFlags,
    #[command(flatten)]
    flags: FileFlags,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Table,
    Json,
    Csv,
}

/// Computes and prints each cycle in turn.
pub(super) async fn preview(arguments: &PreviewArguments) -> Result<(), CliError> {
    let PreviewConfig { decode: config, attributes_memory } = PreviewConfig::read(&arguments.flags.over_environment())?;
    config.log_warnings();
    let definitions = read_definitions(arguments)?;
    let cycles = chosen_cycles(arguments, &definitions)?;
    let decryption_keys = arguments.decryption_keys.as_deref();
    let drop = LocalDrop::open(&arguments.drop, &arguments.private_key, decryption_keys, &config).await?;
    let directory = arguments.directory.load(&arguments.private_key, &config).await?;

    let rules = config.rules.clone().for_attributes(RowParser::columns(&definitions));
    let is_identified = drop.keys.column.is_some();
    let mut stdout = BufWriter::new(std::io::stdout().lock());
    let (mut has_failed, mut known_dates): (bool, Option<DropDates>) = (false, None);
    let not_reached = |dates: &DropDates, window| arguments.cycle.is_none() && !dates.reaches(window);
    for &(program, cycle, window) in &cycles {
        let name = format!("{}/{}", program.name, cycle.name);
        // The first pass finds all dates, so a cycle that the drop does not reach costs no pass of its own.
        if known_dates.as_ref().is_some_and(|dates| not_reached(dates, window)) {
            print_note(&format!("{name}: the drop does not reach the last week of this cycle"));
            continue;
        }
        let mut pass = CyclePass::new(&definitions, window, attributes_memory);
        let parser = Arc::new(RowParser::new(&definitions, window));
        let parse = move |rows: &Rows| parser.parse(rows);
        let add = |_: &Rows, parsed: ParsedRows| {
            pass.push(&parsed);
            Ok(())
        };
        drop.read_all(&config, &rules, parse, add).await?;
        let report = pass.finish(is_identified);
        if arguments.format == Format::Csv && known_dates.is_none() {
            check_one_cycle(&cycles, |window| !not_reached(report.dates(), window))?;
        }
        if let Some(failure @ CycleFailure::NotWeekly) = &report.failure {
            return Err(CliError::Permanent(format!("{}: {failure}", failure.reason())));
        }
        if not_reached(report.dates(), window) {
            print_note(&format!("{name}: the drop does not reach the last week of this cycle"));
        } else if let Some(failure) = &report.failure {
            print_note(&format!("{name}: {}: {failure}", failure.reason()));
            has_failed = true;
        } else {
            report.missing_numbers().for_each(|warning| print_note(&format!("{name}: {warning}")));
            let subject = Subject { program, cycle, report: &report, directory: directory.as_deref() };
            let written = match arguments.format {
                Format::Table => write_table(&mut stdout, &subject),
                Format::Json => write_json(&mut stdout, &subject),
                Format::Csv => write_csv(&mut stdout, &subject, arguments.directory.columns()),
            };
            written.map_err(|error| CliError::of_output("the attributes", &error))?;
        }
        known_dates.get_or_insert_with(|| report.dates().clone());
    }
    stdout.flush().map_err(|error| CliError::of_output("the attributes", &error))?;
    if has_failed { Err(CliError::Printed(3)) } else { Ok(()) }
}

/// Makes sure that the drop reaches one of the `cycles` at most: a CSV has one table.
fn check_one_cycle(cycles: &[(&Program, &Cycle, Window)], is_reached: impl Fn(Window) -> bool) -> Result<(), CliError> {
    let reached = cycles.iter().filter(|(.., window)| is_reached(*window));
    let names: Vec<_> = reached.map(|(program, cycle, _)| format!("`{}/{}`", program.name, cycle.name)).collect();
    if names.len() <= 1 {
        return Ok(());
    }
    Err(CliError::Usage(format!(
        "the drop reaches {} cycles, and a CSV has one: choose one of {} with --program and --cycle",
        names.len(),
        names.join(", ")
    )))
}

fn read_definitions(arguments: &PreviewArguments) -> Result<Definitions, CliError> {
    let file = arguments.attributes.display();
    let json = std::fs::read(&arguments.attributes)
        .map_err(|error| CliError::Usage(format!("cannot read `{file}`: {error}")))?;
    let definitions = Definitions::parse(&json).map_err(|error| CliError::Usage(format!("`{file}`: {error}")))?;
    if definitions.attributes.is_empty() {
        return Err(CliError::Usage(format!("`{file}` has no attributes: add one")));
    }
    Ok(definitions)
}

/// The cycles to compute, with their windows, in the order of the definitions.
fn chosen_cycles<'a>(
    arguments: &PreviewArguments,
    definitions: &'a Definitions,
) -> Result<Vec<(&'a Program, &'a Cycle, Window)>, CliError> {
    let mut chosen = Vec::new();
    for program in &definitions.programs {
        for cycle in &program.cycles {
            let is_chosen = arguments.program.as_ref().is_none_or(|name| *name == program.name)
                && arguments.cycle.as_ref().is_none_or(|name| *name == cycle.name);
            if let Some(window) = Window::before(cycle.end).filter(|_| is_chosen) {
                chosen.push((program, cycle, window));
            }
        }
    }
    if chosen.is_empty() {
        let file = arguments.attributes.display();
        return Err(CliError::Usage(match (&arguments.program, &arguments.cycle) {
            (Some(program), Some(cycle)) => format!("`{file}` has no cycle `{cycle}` of a program `{program}`"),
            (Some(program), None) => format!("`{file}` has no cycle of a program `{program}`"),
            (None, _) => format!("`{file}` has no cycles: add a program with a cycle"),
        }));
    }
    Ok(chosen)
}
