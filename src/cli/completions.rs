//! `vivadrop completions`: completion scripts for shells.

use std::io::Write;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::{Arguments, CliError};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  source <(vivadrop completions bash)
  vivadrop completions zsh > ~/.zfunc/_vivadrop
  vivadrop completions fish > ~/.config/fish/completions/vivadrop.fish")]
pub(super) struct CompletionsArguments {
    /// Shell that the script is for
    #[arg(ignore_case = true)]
    shell: Shell,
}

/// Prints the script for a shell.
pub(super) fn completions(arguments: &CompletionsArguments) -> Result<(), CliError> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Arguments::command(), "vivadrop", &mut script);
    std::io::stdout().write_all(&script).map_err(|error| CliError::of_output("the script", &error))
}
