//! Runs the built binary with an empty environment.

use std::{process::Stdio, time::Duration};

use tokio::process::Command;

/// The time limit for everything that a test waits for. Only a defect reaches it.
pub(crate) const LONG: Duration = Duration::from_secs(90);

/// A command that runs `vivadrop`, without arguments yet. The process is killed when the test ends.
pub(crate) fn vivadrop() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vivadrop"));
    command.env_clear().stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// The exit code and output of a command.
pub(crate) struct CommandOutput {
    /// `None` if a signal ended the process.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs `command` until it exits.
pub(crate) async fn output_of(command: &mut Command) -> CommandOutput {
    let output = tokio::time::timeout(LONG, command.output()).await.expect("the command ends").unwrap();
    CommandOutput {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).expect("stdout is UTF-8"),
        stderr: String::from_utf8(output.stderr).expect("stderr is UTF-8"),
    }
}
