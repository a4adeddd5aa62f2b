//! `vivadrop demo`: delivers a simulated drop on this machine, without any account.
//!
//! The drop is in a temporary folder. Stubs of the Viva Insights API and of a webhook receiver run on loopback. The
//! handler runs as a child process, and the demo plays the Functions host. With `--serve`, the user runs the handler;
//! with `--page`, the demo shows the operator's page.

mod page;

use std::{
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use clap::Args;
use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressStyle};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use tokio::{
    process::{Child, Command},
    signal::unix::{SignalKind, signal},
};

use crate::{
    cli::{print_line, print_note},
    config::Settings,
    simulate::{SimulateOptions, Simulated, simulate},
};
use testkit::{
    receiver::{Answer, Options, Received, Receiver},
    viva_api::VivaApiStub,
};

/// Prints a line. A closed pipe does not end the demo.
macro_rules! say {
    ($($argument:tt)*) => { print_line(&format!($($argument)*)) };
}

/// The number of weeks in the drop.
const WEEKS: u32 = 4;

/// The time limit for the handler to start, and for the drop to be delivered.
const TIME_LIMIT: Duration = Duration::from_secs(120);

/// Arguments of `vivadrop demo`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vivadrop demo
  vivadrop demo --page
  vivadrop demo --serve > demo.env

The last one prints the path of the drop, and runs until Ctrl-C. In another terminal:
  vivadrop check --env-file demo.env
  vivadrop deliver datasets/RUN/VivaInsights/TENANT --env-file demo.env")]
pub(super) struct DemoArguments {
    /// Approximate number of rows
    #[arg(long, value_name = "N", default_value_t = 50_000)]
    rows: u64,
    /// Deliver nothing: keep the stub of the API and the receiver running, and print the settings for a handler that
    /// uses them
    #[arg(long)]
    serve: bool,
    /// Show the operator's page with six customers instead; Ctrl-C ends it
    #[arg(long, conflicts_with_all = ["rows", "serve"])]
    page: bool,
}

/// Runs the demo. Stops the handler and removes the temporary folder at the end, after an error, and on SIGINT or
/// SIGTERM.
pub(super) async fn demo(arguments: &DemoArguments) -> Result<()> {
    let folder = tempfile::tempdir().context("cannot create a temporary folder")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for signals")?;
    let stopped = async {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => (),
            _ = terminate.recv() => (),
        }
    };
    if arguments.serve {
        // Dropping them closes their ports.
        let _servers = serve(arguments, folder.path()).await?;
        stopped.await;
        return folder.close().context("cannot remove the temporary folder");
    }
    if arguments.page {
        // A signal is the usual end.
        tokio::select! {
            result = page::run(folder.path()) => result?,
            () = stopped => {}
        }
        return folder.close().context("cannot remove the temporary folder");
    }
    tokio::select! {
        result = run_steps(arguments, folder.path()) => result?,
        () = stopped => bail!("stopped by a signal"),
    }
    say!("7. stopped the handler and removed `{}`", folder.path().display());
    let program = std::env::args().next().unwrap_or_else(|| "vivadrop".to_owned());
    say!("To see the operator's page, with six customers in different states: {program} demo --page");
    folder.close().context("cannot remove the temporary folder")
}

/// Prepares a drop for the user's own handler: starts the stub and the receiver, prints their settings on stdout, and
/// each message on stderr.
async fn serve(arguments: &DemoArguments, folder: &Path) -> Result<(VivaApiStub, Receiver)> {
    let simulated = simulate_drop(arguments, folder).await?;
    let storage = arrange(&simulated, folder)?;
    let (api, receiver) = start_servers(&simulated).await?;
    receiver.answer_by(|message| {
        let range = message.rows.map_or_else(String::new, |(first, end)| format!(" rows {first}..{end}"));
        print_note(&format!("{} {} `{}`{range}", message.id, message.kind, message.drop));
        Answer::Accept
    });
    for (name, value) in settings(&storage, &simulated, &api, &receiver) {
        print_line(&format!("{name}={value}"));
    }
    print_note(&format!(
        "the drop is `{}`\n\
         stdout has the settings: save them in a file for `--env-file`; the API is on loopback, so it needs no token\n\
         messages that arrive are listed here; Ctrl-C ends the servers and removes the folder",
        storage.drop
    ));
    Ok((api, receiver))
}

/// Starts a stub of the API that has the keys of the drop, and a receiver.
async fn start_servers(simulated: &Simulated) -> Result<(VivaApiStub, Receiver)> {
    let keys = serde_json::from_slice(&std::fs::read(&simulated.decryption_keys)?)?;
    let api = VivaApiStub::start([(simulated.copy_activity_id.to_string(), simulated.tenant.0, keys)]).await?;
    let receiver = Receiver::start(Options { keep_rows: false, signed: true }).await?;
    Ok((api, receiver))
}

/// Runs the steps of the demo in `folder`. The handler is killed when this returns or is cancelled.
async fn run_steps(arguments: &DemoArguments, folder: &Path) -> Result<()> {
    let simulated = simulate_drop(arguments, folder).await?;
    let storage = arrange(&simulated, folder)?;

    let (api, receiver) = start_servers(&simulated).await?;
    say!("2. started a stub of the Viva Insights API at {} and a webhook receiver at {}", api.url(), receiver.url());

    let settings = settings(&storage, &simulated, &api, &receiver);
    let (mut handler, address) = start_handler(&settings).await?;
    say!("3. started the handler, `vivadrop serve`, as the Functions host does; it listens at {address}");

    let function = format!("{address}/function");
    post(function.clone(), blob_event(&storage, &storage.directory, &simulated)).await?;
    let event = blob_event(&storage, &storage.drop, &simulated);
    say!("4. posted the blob events of the job metadata, of the directory and of the drop, to {function}");
    let posted_at = Instant::now();
    let response = tokio::spawn(post(function, event));
    let received = show_progress(&receiver, &simulated, &mut handler).await?;
    let seconds = posted_at.elapsed().as_secs_f64();
    let log = response.await??;
    report(&simulated, &received, seconds, &log);

    handler.kill().await.context("cannot stop the handler")
}

async fn simulate_drop(arguments: &DemoArguments, folder: &Path) -> Result<Simulated> {
    let options = SimulateOptions {
        users: arguments.rows.div_ceil(WEEKS.into()),
        weeks: WEEKS,
        // `--serve` simulates no directory, so that the user's drop need not wait for one.
        directory: !arguments.serve,
        ..SimulateOptions::default()
    };
    let started = Instant::now();
    let out = folder.join("simulated");
    let simulated = tokio::task::spawn_blocking(move || simulate(&options, &out, &|_| {})).await??;
    if arguments.serve {
        return Ok(simulated);
    }
    say!(
        "1. simulated a drop of {} rows, and the directory of its people: {} of text, {} after compression and encryption, \
         in {:.1} s",
        HumanCount(simulated.rows),
        HumanBytes(simulated.text_bytes),
        HumanBytes(simulated.file_bytes),
        started.elapsed().as_secs_f64()
    );
    Ok(simulated)
}

/// The folders that stand for the storage account and for the key store.
struct Storage {
    account: PathBuf,
    keys: PathBuf,
    /// The drop path, below `account`.
    drop: String,
    /// The path of the directory drop, below `account`.
    directory: String,
}

/// Moves the drops to where a customer's pipeline would copy them, and copies the private key into the key folder.
fn arrange(simulated: &Simulated, folder: &Path) -> Result<Storage> {
    let storage = Storage {
        account: folder.join("store"),
        keys: folder.join("keys"),
        drop: format!("datasets/{}/VivaInsights/{}", simulated.copy_activity_id, simulated.tenant),
        directory: format!("datasets/{}/AADUser/{}", simulated.copy_activity_id, simulated.tenant),
    };
    std::fs::create_dir_all(&storage.keys)?;
    let directory = simulated.directory.as_ref().map(|directory| (directory, &storage.directory));
    for (from, to) in [(&simulated.drop, &storage.drop)].into_iter().chain(directory) {
        let to = storage.account.join(to);
        std::fs::create_dir_all(to.parent().unwrap_or(&storage.account))?;
        std::fs::rename(from, to)?;
    }
    std::fs::copy(&simulated.private_key, storage.keys.join(format!("{}.pem", simulated.tenant)))?;
    Ok(storage)
}

fn settings(
    storage: &Storage,
    simulated: &Simulated,
    api: &VivaApiStub,
    receiver: &Receiver,
) -> Vec<(&'static str, String)> {
    let directory = simulated.directory.as_ref().map(|_| ("DIRECTORY", "join".to_owned()));
    let others = [
        ("DropStorage", format!("file://{}", storage.account.display())),
        ("TENANTS", simulated.tenant.to_string()),
        ("PRIVATE_KEYS", format!("file://{}", storage.keys.display())),
        ("VIVA_API_URL", api.url().to_string()),
        ("DELIVER_TO", receiver.url().to_string()),
        ("WEBHOOK_SECRET", receiver.secret().expose_secret().to_owned()),
    ];
    others.into_iter().chain(directory).collect()
}

/// Starts `vivadrop serve` on a free port and waits until it answers, as the Functions host does. Returns the process
/// and its URL.
async fn start_handler(settings: &[(&'static str, String)]) -> Result<(Child, String)> {
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
    let program = std::env::current_exe().context("cannot find the path of this program")?;
    let mut handler = Command::new(program)
        .arg("serve")
        .env_clear()
        .envs(Settings::from_env().for_child_process())
        .envs(settings.iter().cloned())
        .env("FUNCTIONS_CUSTOMHANDLER_PORT", port.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .context("cannot start the handler")?;
    let address = format!("http://127.0.0.1:{port}");
    let client = client()?;
    let started = Instant::now();
    while client.get(&address).send().await.is_err() {
        if let Some(status) = handler.try_wait()? {
            bail!("the handler exited ({status}) before it was ready");
        }
        if started.elapsed() > TIME_LIMIT {
            bail!("the handler was not ready within {} s", TIME_LIMIT.as_secs());
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    Ok((handler, address))
}

/// The request body that the host posts for a blob trigger with deferred binding.
fn blob_event(storage: &Storage, drop: &str, simulated: &Simulated) -> Value {
    let uri = format!("file://{}/{}/metadata/JobMetadata/Metadata.json", storage.account.display(), drop);
    json!({
        "Data": {"blob": {
            "Version": "1.0", "Source": "AzureStorageBlobs", "ContentType": "application/json",
            "Content": {"Length": 85, "IsEmpty": false, "MediaType": "application/json"},
        }},
        "Metadata": {
            "Uri": Value::from(uri).to_string(),
            "Properties": {"ETag": {}, "ContentLength": simulated.file_bytes},
            "name": json!("Metadata.json").to_string(),
            "sys": {"MethodName": "function", "UtcNow": "2026-11-22T00:00:00Z", "RandGuid": simulated.copy_activity_id},
        },
    })
}

/// Posts the event; returns the handler's log line.
async fn post(url: String, event: Value) -> Result<String> {
    let response = client()?.post(url).json(&event).send().await?;
    let status = response.status();
    let body: Value = response.json().await?;
    let log = body["Logs"][0].as_str().unwrap_or_default().to_owned();
    if !status.is_success() {
        bail!("the handler answered {status}: {log}");
    }
    Ok(log)
}

fn client() -> Result<reqwest::Client> {
    Ok(reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build()?)
}

/// Shows a progress bar of received rows until the drop has ended.
async fn show_progress(receiver: &Receiver, simulated: &Simulated, handler: &mut Child) -> Result<Received> {
    let progress = ProgressBar::new(simulated.rows);
    let style = ProgressStyle::with_template("   {bar:40} {human_pos} of {human_len} rows");
    progress.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    let ended = receiver.wait_for(TIME_LIMIT, |received| {
        progress.set_position(received.row_count());
        received.drops.values().any(|drop| !drop.completed.is_empty() || !drop.failed.is_empty())
    });
    let received = tokio::select! {
        received = ended => received?,
        status = handler.wait() => bail!("the handler exited ({}) before the drop was completed", status?),
    };
    progress.finish_and_clear();
    if let Some(failed) = received.drops.values().find_map(|drop| drop.failed.first()) {
        bail!("the drop was set aside ({}): {}", failed.reason, failed.message);
    }
    Ok(received)
}

fn report(simulated: &Simulated, received: &Received, seconds: f64, log: &str) {
    let rate = |count: u64| (count as f64 / seconds) as u64;
    say!(
        "5. received {} rows in {} messages within {seconds:.2} s: {} rows/s, {}/s of text, {} duplicates, \
         {} bad signatures",
        HumanCount(received.row_count()),
        HumanCount(received.accepted),
        HumanCount(rate(received.row_count())),
        HumanBytes(rate(simulated.text_bytes)),
        received.duplicates,
        received.bad_signatures
    );
    say!("   the handler's response to the host: {log}");
    let rows = received.drops.values().flat_map(|drop| drop.files.values()).flat_map(|file| file.rows.values());
    if let Some(row) = rows.into_iter().next() {
        say!("6. one of the rows, joined to the directory, as the receiver got it:\n   {row}");
    }
}
