//! The `vivadrop` binary: arguments in, exit code out.

use std::process::ExitCode;

use clap::Parser;
use vivadrop::cli::{Arguments, run};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(run(arguments));
    // A thread that waits for a slow disk or socket is not waited for: what was to be said is said.
    runtime.shutdown_background();
    code
}
