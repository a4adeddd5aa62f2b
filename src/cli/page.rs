//! `vivadrop page`: serves the operator's page on this machine.

use std::{
    io::{IsTerminal, Write},
    net::Ipv4Addr,
    process::{Command, Stdio},
    sync::Arc,
};

use clap::Args;
use tokio::net::TcpListener;

use super::{CliError, print_note};
use crate::{
    api::Api,
    app,
    config::{Config, LedgerConfig, Settings},
    error_chain::error_chain,
    host,
    page_server::{self, Session},
};

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  vivadrop page --env-file production.env")]
pub(super) struct PageArguments {
    /// Port of the page on 127.0.0.1; 0 chooses a free one
    #[arg(long, value_name = "N", default_value_t = 0)]
    port: u16,
    /// Do not open a browser
    #[arg(long)]
    no_open: bool,
}

/// Serves the page until it is interrupted.
pub(super) async fn page(arguments: &PageArguments) -> Result<(), CliError> {
    let config = LedgerConfig::read(&Settings::from_env())?;
    let ledger = app::ledger(&config).map_err(|error| CliError::Transient(error_chain(&error)))?;
    // Only requests for imports need a runner and its settings; without them, the API rejects such requests.
    let runner = Config::read(&Settings::from_env()).ok().and_then(|config| Some(app::wire(config).ok()?.runner));
    let port = arguments.port;
    let cannot_listen = |error| CliError::Transient(format!("cannot listen on 127.0.0.1:{port}: {error}"));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.map_err(cannot_listen)?;
    let port = listener.local_addr().map_err(cannot_listen)?.port();
    let session = Arc::new(Session::new(port));
    let address = session.address();
    let printed = writeln!(std::io::stdout(), "{address}").and_then(|()| std::io::stdout().flush());
    printed.map_err(|error| CliError::Transient(format!("cannot print the address: {error}")))?;
    print_note("the address works once; stop with Ctrl-C");
    if !arguments.no_open && std::io::stdout().is_terminal() {
        open_browser(&address);
    }
    let routes = page_server::routes(Arc::new(Api::new(ledger, config.tenants, runner)), session);
    host::serve_routes(listener, routes).await.map_err(|error| CliError::Transient(error_chain(&error)))
}

/// Opens the address in a browser, if this machine has one.
fn open_browser(address: &str) {
    let program = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
    let mut command = Command::new(program);
    command.arg(address).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    if command.spawn().is_err() {
        print_note("open it in a browser");
    }
}
