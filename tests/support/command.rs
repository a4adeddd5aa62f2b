//! The built binary, with nothing in its environment but what a test puts there.

use std::{process::Stdio, time::Duration};

use tokio::process::Command;

/// How long anything may take. Only what is broken takes that long.
pub(crate) const LONG: Duration = Duration::from_secs(90);

/// The command line `vivadrop`, to be completed. It ends with the test.
pub(crate) fn vivadrop() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vivadrop"));
    command.env_clear().stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// How a command ended.
pub(crate) struct Ended {
    /// The exit code; `None` after a signal.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs `command` to its end.
pub(crate) async fn end_of(command: &mut Command) -> Ended {
    let output = tokio::time::timeout(LONG, command.output()).await.expect("the command ends").unwrap();
    Ended {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).expect("stdout is UTF-8"),
        stderr: String::from_utf8(output.stderr).expect("stderr is UTF-8"),
    }
}
