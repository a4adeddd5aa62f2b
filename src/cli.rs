//! The command line: each command is one function. Only this module and its submodules print for people.

mod attributes;
mod check;
mod completions;
mod decode;
mod definitions;
mod deliver;
mod demo;
mod import;
mod local_drop;
mod offboard;
mod onboard;
mod page;
mod private_key;
mod programs;
mod replay;
mod simulate;
mod status;
mod sweep;

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args, Parser, Subcommand};

use crate::{
    app,
    config::{Config, InvalidSettings, Settings, check_deadline},
    error_chain::error_chain,
    host::{self, function_timeout::function_timeout},
    one_line::escape_deceptive,
    telemetry,
    verdict::Verdict,
};

/// The end of the help text.
const AFTER_HELP: &str = "\
Settings are environment variables, such as DropStorage and DELIVER_TO; README.md lists them. RUST_LOG in the
environment sets the log level, NO_COLOR=1 turns colours off.
Exit codes: 0 done; 1 did not finish, a retry may help; 2 usage or settings error; 3 permanent failure, or a person is needed.

Examples:
  vivadrop demo
  vivadrop decode drop --private-key tenant.pem > rows.ndjson
  vivadrop check --env-file local.env";

/// Decrypts Microsoft Viva Insights drops and delivers their rows.
#[derive(Debug, Parser)]
#[command(name = "vivadrop", version, after_help = AFTER_HELP)]
pub struct Arguments {
    /// File with settings, one NAME=value per line as for `docker run --env-file`; environment variables override it
    #[arg(long, global = true, value_name = "FILE")]
    env_file: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run as the custom handler of an Azure Functions host
    #[command(after_help = "\
Example, without the host:
  FUNCTIONS_CUSTOMHANDLER_PORT=7072 vivadrop serve --env-file local.env")]
    Serve,
    /// Decrypt a drop in a local folder and print its rows as JSON lines
    Decode(Box<decode::DecodeArguments>),
    /// Define and preview employee attributes for survey platforms
    Attributes(attributes::AttributesArguments),
    /// Define survey programs and their cycles
    Programs(programs::ProgramsArguments),
    /// Import survey attributes from a drop that was delivered
    Import(import::ImportArguments),
    /// Deliver a drop to the configured sink, as an event would
    Deliver(deliver::DeliverArguments),
    /// Deliver a drop again from its first row, or plan and run this for many drops
    Replay(replay::ReplayArguments),
    /// Find all drops that are not finished, and deliver them
    #[command(after_help = "\
Example:
  vivadrop sweep --env-file production.env")]
    Sweep,
    /// Show where every drop stands, and what to do
    Status(status::StatusArguments),
    /// Serve the operator's page on this machine, with your own credentials
    Page(page::PageArguments),
    /// Generate an encrypted drop with realistic rows
    Simulate(simulate::SimulateArguments),
    /// Create and register a customer's key, create their container, and print the remaining steps
    Onboard(onboard::OnboardArguments),
    /// Revoke a customer's SAS URLs, disable their key, and print what remains
    Offboard(offboard::OffboardArguments),
    /// Test settings, storage, key store, API, sinks and the operator's page, and print what to fix
    Check(check::CheckArguments),
    /// Print a script that completes commands and flags in a shell
    Completions(completions::CompletionsArguments),
    /// Show the whole pipeline on this machine, without any account
    Demo(demo::DemoArguments),
}

/// The settings that control how files are read, as flags. A flag overrides the environment variable.
#[derive(Debug, Args)]
struct FileFlags {
    /// Order of encryption and compression: auto, encrypted-gzip, gzip-encrypted, encrypted or plain [default:
    /// $FILE_LAYOUT or auto]
    #[arg(long, value_name = "LAYOUT")]
    file_layout: Option<String>,
    /// AES-256 mode of files: auto, ctr or cbc [default: $FILE_CIPHER or auto]
    #[arg(long, value_name = "CIPHER")]
    file_cipher: Option<String>,
    /// AES-256 mode of encrypted columns: auto, ctr or cbc [default: $COLUMN_CIPHER or auto]
    #[arg(long, value_name = "CIPHER")]
    column_cipher: Option<String>,
    /// Columns to decrypt: a comma-separated list; `name?` is optional [default: $ENCRYPTED_COLUMNS or ObjectId]
    #[arg(long, value_name = "NAMES")]
    encrypted_columns: Option<String>,
    /// Whether to accept files that are not encrypted: true or false [default: $ALLOW_PLAINTEXT or false]
    #[arg(long, value_name = "BOOL")]
    allow_plaintext: Option<String>,
    /// Number of bad rows allowed per file [default: $BAD_ROWS_ALLOWED or 0]
    #[arg(long, value_name = "N")]
    bad_rows_allowed: Option<String>,
    /// Maximum length of a row in bytes [default: $MAX_ROW_BYTES or 1048576]
    #[arg(long, value_name = "N")]
    max_row_bytes: Option<String>,
    /// Maximum nesting depth of a row; the row itself is level 1 [default: $MAX_ROW_DEPTH or 50]
    #[arg(long, value_name = "N")]
    max_row_depth: Option<String>,
    /// RSA padding of the wrapped keys: auto, RSA-OAEP, RSA-OAEP-256 or RSA1_5 [default: $KEY_WRAP or auto]
    #[arg(long, value_name = "PADDING")]
    key_wrap: Option<String>,
}

impl FileFlags {
    /// The settings of the environment, overridden by these flags.
    fn over_environment(&self) -> Settings {
        let mut settings = Settings::from_env();
        for (name, flag) in [
            ("FILE_LAYOUT", &self.file_layout),
            ("FILE_CIPHER", &self.file_cipher),
            ("COLUMN_CIPHER", &self.column_cipher),
            ("ENCRYPTED_COLUMNS", &self.encrypted_columns),
            ("ALLOW_PLAINTEXT", &self.allow_plaintext),
            ("BAD_ROWS_ALLOWED", &self.bad_rows_allowed),
            ("MAX_ROW_BYTES", &self.max_row_bytes),
            ("MAX_ROW_DEPTH", &self.max_row_depth),
            ("KEY_WRAP", &self.key_wrap),
        ] {
            if let Some(value) = flag {
                settings.set(name, value);
            }
        }
        settings
    }
}

/// Why a command failed. Determines the exit code and the message on stderr.
#[derive(Debug)]
pub(crate) enum CliError {
    /// Exit code 1: the command did not finish; a retry may help.
    Transient(String),
    /// Exit code 2: the arguments or the settings are invalid.
    Usage(String),
    /// Exit code 3: a retry does not help.
    Permanent(String),
    /// Exit with this code: the command has already printed the reason, or there is nothing to print.
    Printed(u8),
}

impl CliError {
    /// The error of a command that stopped because of `error`, whose verdict is `verdict`.
    pub(crate) fn of(verdict: Verdict, error: &dyn std::error::Error) -> Self {
        match verdict {
            Verdict::Retry => Self::Transient(error_chain(error)),
            Verdict::SetAside(_) => Self::Permanent(error_chain(error)),
        }
    }
}

impl CliError {
    /// Puts `subject` before the text of the error.
    fn context(self, subject: &str) -> Self {
        match self {
            Self::Transient(text) => Self::Transient(format!("{subject}: {text}")),
            Self::Usage(text) => Self::Usage(format!("{subject}: {text}")),
            Self::Permanent(text) => Self::Permanent(format!("{subject}: {text}")),
            Self::Printed(code) => Self::Printed(code),
        }
    }
}

impl CliError {
    /// The error of a command that cannot write `what` to stdout. If the reader has closed the pipe, as `head` does,
    /// the command ends with exit code 0.
    fn of_output(what: &str, error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::Printed(0),
            _ => Self::Transient(format!("cannot write {what}: {error}")),
        }
    }
}

/// Prints a line to stderr, without characters that would deceive a reader. A closed pipe is ignored.
pub(crate) fn print_note(line: &str) {
    let _closed = writeln!(io::stderr(), "{}", escape_deceptive(line));
}

/// Prints to stdout. A closed pipe is ignored.
pub(crate) fn print_line(line: &str) {
    let _closed = writeln!(io::stdout(), "{line}");
}

impl From<InvalidSettings> for CliError {
    fn from(error: InvalidSettings) -> Self {
        Self::Usage(error.to_string())
    }
}

/// Runs a command; if it fails, prints the reason on stderr.
pub async fn run(arguments: Arguments) -> ExitCode {
    if !matches!(arguments.command, Command::Serve) {
        telemetry::init_for_terminal();
    }
    if let Some(file) = &arguments.env_file
        && let Err(error) = Settings::read_env_file(file)
    {
        print_note(&error);
        return ExitCode::from(2);
    }
    let result = match arguments.command {
        Command::Serve => serve().await,
        Command::Decode(arguments) => decode::decode(&arguments).await,
        Command::Attributes(arguments) => attributes::attributes(&arguments).await,
        Command::Programs(arguments) => programs::programs(&arguments).await,
        Command::Import(arguments) => import::import(&arguments).await,
        Command::Deliver(arguments) => deliver::deliver(&arguments).await,
        Command::Replay(arguments) => replay::replay(&arguments).await,
        Command::Sweep => sweep::sweep().await,
        Command::Status(arguments) => status::status(&arguments).await,
        Command::Page(arguments) => page::page(&arguments).await,
        Command::Simulate(arguments) => simulate::simulate(&arguments).await,
        Command::Onboard(arguments) => onboard::onboard(&arguments).await,
        Command::Offboard(arguments) => offboard::offboard(&arguments).await,
        Command::Check(arguments) => check::check(&arguments).await,
        Command::Completions(arguments) => completions::completions(&arguments),
        Command::Demo(arguments) => {
            demo::demo(&arguments).await.map_err(|error| CliError::Transient(format!("{error:#}")))
        }
    };
    let (code, message) = match result {
        Ok(()) => return ExitCode::SUCCESS,
        Err(CliError::Transient(reason)) => (1, format!("could not finish: {reason}")),
        Err(CliError::Usage(reason)) => (2, reason),
        Err(CliError::Permanent(reason)) => (3, format!("permanent failure: {reason}")),
        Err(CliError::Printed(code)) => return ExitCode::from(code),
    };
    print_note(&message);
    ExitCode::from(code)
}

async fn serve() -> Result<(), CliError> {
    let settings = Settings::from_env();
    // The host runs the handler in the folder of host.json. A host.json that is not JSON is ignored here, and
    // reported by `vivadrop check`.
    let function_timeout = function_timeout(Path::new(".")).ok().flatten();
    let deadline = function_timeout.map_or(Ok(()), |timeout| check_deadline(&settings, timeout));
    let (port, config) = match (host::port(&settings), Config::read(&settings), deadline) {
        (Ok(port), Ok(config), Ok(())) => (port, config),
        (port, config, deadline) => {
            let problems = [port.err(), config.err(), deadline.err()].into_iter().flatten();
            return Err(InvalidSettings(problems.flat_map(|InvalidSettings(problems)| problems).collect()).into());
        }
    };
    telemetry::init_for_host();
    let deadline = config.deadline;
    start_telemetry(&config)?;
    let app = app::wire(config).map_err(|error| CliError::Transient(error_chain(&error)))?;
    host::serve(port, app, deadline).await.map_err(|error| CliError::Transient(error_chain(&error)))
}

/// Starts the export of traces and metrics, if the settings name an endpoint.
fn start_telemetry(config: &Config) -> Result<(), CliError> {
    telemetry::export::start(&config.telemetry).map_err(|error| CliError::Transient(error_chain(&error)))
}
