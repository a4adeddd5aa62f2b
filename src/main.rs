//! The `vivadrop` binary: parses the arguments, runs the command, and returns its exit code.

use std::{
    alloc::System,
    io::{self, Write},
    process::ExitCode,
};

use clap::Parser;
use vivadrop::cli::{Arguments, run};
use zeroizing_alloc::ZeroAlloc;

/// Zeroes memory when it is freed. vivadrop's own key types do that as well, but the libraries that handle keys (TLS,
/// HTTP, JSON, RSA) do not.
///
/// Wraps the system allocator. Buffers are reused, so a faster allocator does not help: with mimalloc, a million rows
/// took the same time and 14 MiB more memory.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<System> = ZeroAlloc(System);

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let started = harden().and_then(|()| tokio::runtime::Builder::new_multi_thread().enable_all().build());
    let runtime = match started {
        Ok(runtime) => runtime,
        Err(error) => {
            let _closed = writeln!(io::stderr(), "cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(run(arguments));
    // The result has been printed; do not wait for threads that are blocked on a slow disk or socket.
    runtime.shutdown_background();
    code
}

/// Reduces what other processes can do to this one, and what this one can do if it is exploited. Runs before any other
/// thread starts, because threads inherit `no_new_privs`.
///
/// Disables core dumps, and access to the memory by other processes of the same user, because the memory contains keys.
/// Programs that this process starts (`az`, in local work) cannot gain privileges.
fn harden() -> io::Result<()> {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, Rlimit, setrlimit};
        setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    }
    #[cfg(target_os = "linux")]
    rustix::thread::set_no_new_privs(true)?;
    // A debug build stays accessible for debuggers, and for the test that searches its memory for keys.
    #[cfg(all(target_os = "linux", not(debug_assertions)))]
    {
        use rustix::process::{DumpableBehavior, set_dumpable_behavior};
        set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    }
    Ok(())
}
