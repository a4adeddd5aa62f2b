//! The `vivadrop` binary: arguments in, exit code out.

use std::{alloc::System, io, process::ExitCode};

use clap::Parser;
use vivadrop::cli::{Arguments, run};
use zeroizing_alloc::ZeroAlloc;

/// Zeroes what is freed. Our own types do that for keys; the libraries on a key's way (TLS, HTTP, JSON, RSA) do not.
///
/// The system's allocator below it will do, since buffers are used again: with mimalloc a million rows took as long, and
/// 14 MiB more.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<System> = ZeroAlloc(System);

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let started = keep_memory_private().and_then(|()| tokio::runtime::Builder::new_multi_thread().enable_all().build());
    let runtime = match started {
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

/// Sees to it that memory, which has keys in it while a drop is worked on, is in no core dump, and that no other process
/// of the same user reads it.
fn keep_memory_private() -> io::Result<()> {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, Rlimit, setrlimit};
        setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    }
    // A debug build lets its developer's debugger in, and the test that searches its memory.
    #[cfg(all(target_os = "linux", not(debug_assertions)))]
    {
        use rustix::process::{DumpableBehavior, set_dumpable_behavior};
        set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    }
    Ok(())
}
