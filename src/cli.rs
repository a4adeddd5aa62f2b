//! The command line: one function a command, and the only place that prints for people.

mod check;
mod decode;
mod deliver;
mod onboard;
mod simulate;
mod sweep;

use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::{
    app,
    config::{Config, InvalidSettings, Settings},
    demo,
    error_chain::error_chain,
    host, telemetry,
    verdict::Verdict,
};

/// What holds for every command.
const AFTER_HELP: &str = "\
Settings are environment variables, such as DropStorage and DELIVER_TO; README.md lists them.
Exit codes: 0 done; 1 could not finish, trying again may help; 2 usage or settings; 3 refused, trying again cannot help.";

/// Decrypts Microsoft Viva Insights drops and delivers their rows.
#[derive(Debug, Parser)]
#[command(name = "vivadrop", version, after_help = AFTER_HELP)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run as the custom handler of an Azure Functions host
    Serve,
    /// Print the rows of a drop in a local folder as JSON lines
    Decode(Box<decode::DecodeArguments>),
    /// Deliver one drop through the configured settings, as an event would
    Deliver(deliver::DeliverArguments),
    /// Deliver one drop afresh, whatever came of it before
    Replay(deliver::ReplayArguments),
    /// Look for drops that no event brought to an end, and work on them
    Sweep,
    /// Make an encrypted drop of believable rows
    Simulate(simulate::SimulateArguments),
    /// Let a customer in: make and register their key, make their container, say what they need
    Onboard(onboard::OnboardArguments),
    /// Look at settings, storage, keys, API and sink: what was found, and what to do
    Check,
    /// Show all of it on this machine; no account is needed
    Demo(demo::DemoArguments),
}

/// The settings that say how files are read, as flags; they go before those of the environment.
#[derive(Debug, Args)]
struct FileFlags {
    /// How files are laid out: auto, encrypted-gzip, gzip-encrypted, encrypted or plain
    #[arg(long, value_name = "LAYOUT")]
    file_layout: Option<String>,
    /// How files are encrypted: auto, ctr or cbc
    #[arg(long, value_name = "CIPHER")]
    file_cipher: Option<String>,
    /// How columns are encrypted: auto, ctr or cbc
    #[arg(long, value_name = "CIPHER")]
    column_cipher: Option<String>,
    /// The columns that are kept: a comma list, or * for all
    #[arg(long, value_name = "NAMES")]
    columns: Option<String>,
    /// The columns that are encrypted: a comma list
    #[arg(long, value_name = "NAMES")]
    encrypted_columns: Option<String>,
    /// Whether metrics in strings become numbers: typed or verbatim
    #[arg(long, value_name = "WORD")]
    row_values: Option<String>,
    /// Whether rows that are not encrypted are taken: true or false
    #[arg(long, value_name = "BOOL")]
    allow_plaintext: Option<String>,
    /// How many bad rows a file may have
    #[arg(long, value_name = "N")]
    bad_rows_allowed: Option<String>,
    /// The longest line, in bytes
    #[arg(long, value_name = "N")]
    max_row_bytes: Option<String>,
    /// How keys are wrapped: auto, RSA-OAEP, RSA-OAEP-256 or RSA1_5
    #[arg(long, value_name = "PADDING")]
    key_wrap: Option<String>,
}

impl FileFlags {
    /// The environment's settings, under these flags.
    fn over_environment(&self) -> Settings {
        let mut settings = Settings::from_env();
        for (name, flag) in [
            ("FILE_LAYOUT", &self.file_layout),
            ("FILE_CIPHER", &self.file_cipher),
            ("COLUMN_CIPHER", &self.column_cipher),
            ("COLUMNS", &self.columns),
            ("ENCRYPTED_COLUMNS", &self.encrypted_columns),
            ("ROW_VALUES", &self.row_values),
            ("ALLOW_PLAINTEXT", &self.allow_plaintext),
            ("BAD_ROWS_ALLOWED", &self.bad_rows_allowed),
            ("MAX_ROW_BYTES", &self.max_row_bytes),
            ("KEY_WRAP", &self.key_wrap),
        ] {
            if let Some(value) = flag {
                settings.set(name, value);
            }
        }
        settings
    }
}

/// Why a command ends badly: its exit code, and what is said.
#[derive(Debug)]
pub(crate) enum CliError {
    /// 1: it could not finish; trying again may help.
    TryAgain(String),
    /// 2: usage or settings.
    Usage(String),
    /// 3: the drop was refused; trying again cannot help.
    Refused(String),
    /// This code; all has been said.
    Said(u8),
}

impl CliError {
    /// What an error with a verdict comes to.
    pub(crate) fn of(verdict: Verdict, error: &dyn std::error::Error) -> Self {
        match verdict {
            Verdict::Retry => Self::TryAgain(error_chain(error)),
            Verdict::SetAside(_) => Self::Refused(error_chain(error)),
        }
    }
}

impl From<InvalidSettings> for CliError {
    fn from(report: InvalidSettings) -> Self {
        Self::Usage(report.to_string())
    }
}

/// Runs a command; says on stderr why it ended badly.
pub async fn run(arguments: Arguments) -> ExitCode {
    if !matches!(arguments.command, Command::Serve) {
        telemetry::for_a_person();
    }
    let end = match arguments.command {
        Command::Serve => serve().await,
        Command::Decode(arguments) => decode::decode(&arguments).await,
        Command::Deliver(arguments) => deliver::deliver(&arguments).await,
        Command::Replay(arguments) => deliver::replay(&arguments).await,
        Command::Sweep => sweep::sweep().await,
        Command::Simulate(arguments) => simulate::simulate(&arguments).await,
        Command::Onboard(arguments) => onboard::onboard(&arguments).await,
        Command::Check => check::check().await,
        Command::Demo(arguments) => {
            demo::demo(&arguments).await.map_err(|error| CliError::TryAgain(format!("{error:#}")))
        }
    };
    let (code, said) = match end {
        Ok(()) => return ExitCode::SUCCESS,
        Err(CliError::TryAgain(said)) => (1, format!("could not finish: {said}")),
        Err(CliError::Usage(said)) => (2, said),
        Err(CliError::Refused(said)) => (3, format!("refused: {said}")),
        Err(CliError::Said(code)) => return ExitCode::from(code),
    };
    eprintln!("{said}");
    ExitCode::from(code)
}

async fn serve() -> Result<(), CliError> {
    let settings = Settings::from_env();
    let (port, config) = match (host::port(&settings), Config::read(&settings)) {
        (Ok(port), Ok(config)) => (port, config),
        (port, config) => {
            let complaints = [port.err(), config.err()].into_iter().flatten().flat_map(|InvalidSettings(all)| all);
            return Err(InvalidSettings(complaints.collect()).into());
        }
    };
    telemetry::for_the_host();
    let deadline = config.deadline;
    let app = app::wire(config).map_err(|error| CliError::TryAgain(error_chain(&error)))?;
    host::serve(port, app, deadline).await.map_err(|error| CliError::TryAgain(error_chain(&error)))
}
