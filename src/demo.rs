//! `vivadrop demo`: all of it on this machine. A simulated drop in a temporary folder, a Viva Insights API and a webhook
//! receiver on loopback, and the handler started and posted to as the Functions host would.

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
    config::Settings,
    simulate::{SimulateOptions, Simulated, simulate},
};
use testkit::{
    receiver::{Options, Received, Receiver},
    viva_api::VivaApiStub,
};

/// How many weeks the demo's drop covers.
const WEEKS: u32 = 4;

/// How long the demo waits for something to happen before it says that it did not.
const PATIENCE: Duration = Duration::from_secs(120);

/// What to demonstrate.
#[derive(Debug, Args)]
pub struct DemoArguments {
    /// How many rows, about
    #[arg(long, value_name = "N", default_value_t = 50_000)]
    rows: u64,
}

/// Shows the whole way of a drop, and cleans up: at the end, and where it is told to stop before.
pub async fn demo(arguments: &DemoArguments) -> Result<()> {
    let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for signals")?;
    tokio::select! {
        shown = show(arguments, folder.path()) => shown?,
        _ = tokio::signal::ctrl_c() => bail!("told to stop"),
        _ = terminate.recv() => bail!("told to stop"),
    }
    println!("7. the handler is stopped, and `{}` is removed", folder.path().display());
    folder.close().context("cannot remove the temporary folder")
}

/// Shows it in `folder`. The handler ends with this, however this ends.
async fn show(arguments: &DemoArguments, folder: &Path) -> Result<()> {
    let made = make_drop(arguments, folder).await?;
    let place = lay(&made, folder)?;

    let answer = serde_json::from_slice(&std::fs::read(&made.decryption_keys)?)?;
    let api = VivaApiStub::start([(made.copy_activity_id.to_string(), made.tenant.0, answer)]).await?;
    let receiver = Receiver::start(Options { keep_rows: false, signed: true }).await?;
    println!("2. a Viva Insights API at {}, a webhook receiver at {}", api.url(), receiver.url());

    let settings = settings(&place, &made, &api, &receiver);
    let (mut handler, address) = start_handler(&settings).await?;
    println!("3. the handler, started as the Functions host starts it, answers at {address}");

    let event = blob_created(&place, &made);
    println!("4. the event of the drop's job metadata is posted to {address}/function");
    let begun = Instant::now();
    let posted = tokio::spawn(post(format!("{address}/function"), event));
    let received = watch(&receiver, &made, &mut handler).await?;
    let seconds = begun.elapsed().as_secs_f64();
    let logs = posted.await??;
    report(&made, &received, seconds, &logs);

    handler.kill().await.context("cannot stop the handler")
}

async fn make_drop(arguments: &DemoArguments, folder: &Path) -> Result<Simulated> {
    let options =
        SimulateOptions { users: arguments.rows.div_ceil(WEEKS.into()), weeks: WEEKS, ..SimulateOptions::default() };
    let begun = Instant::now();
    let out = folder.join("simulated");
    let made = tokio::task::spawn_blocking(move || simulate(&options, &out, &|_| {})).await??;
    println!(
        "1. a drop of {} rows, {} of text as {} of ciphertext, made in {:.1} s",
        HumanCount(made.rows),
        HumanBytes(made.text_bytes),
        HumanBytes(made.file_bytes),
        begun.elapsed().as_secs_f64()
    );
    Ok(made)
}

/// Where the handler finds things.
struct Place {
    store: PathBuf,
    keys: PathBuf,
    /// The drop, below the store.
    drop: String,
}

/// Lays the drop where a customer's pipeline would, and the key where PRIVATE_KEYS says.
fn lay(made: &Simulated, folder: &Path) -> Result<Place> {
    let place = Place {
        store: folder.join("store"),
        keys: folder.join("keys"),
        drop: format!("datasets/{}/VivaInsights/{}", made.copy_activity_id, made.tenant),
    };
    let drop = place.store.join(&place.drop);
    std::fs::create_dir_all(drop.parent().unwrap_or(&place.store))?;
    std::fs::create_dir_all(&place.keys)?;
    std::fs::rename(&made.drop, drop)?;
    std::fs::copy(&made.private_key, place.keys.join(format!("{}.pem", made.tenant)))?;
    Ok(place)
}

fn settings(place: &Place, made: &Simulated, api: &VivaApiStub, receiver: &Receiver) -> Vec<(&'static str, String)> {
    vec![
        ("DropStorage", format!("file://{}", place.store.display())),
        ("TENANTS", made.tenant.to_string()),
        ("PRIVATE_KEYS", format!("file://{}", place.keys.display())),
        ("VIVA_API_URL", api.url().to_string()),
        ("DELIVER_TO", receiver.url().to_string()),
        ("WEBHOOK_SECRET", receiver.secret().expose_secret().to_owned()),
    ]
}

/// Starts `vivadrop serve` on a free port, and asks it whether it is ready as the host does.
async fn start_handler(settings: &[(&'static str, String)]) -> Result<(Child, String)> {
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
    let program = std::env::current_exe().context("cannot find this program")?;
    let mut handler = Command::new(program)
        .arg("serve")
        .env_clear()
        .envs(Settings::from_env().for_a_child())
        .envs(settings.iter().cloned())
        .env("FUNCTIONS_CUSTOMHANDLER_PORT", port.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .context("cannot start the handler")?;
    let address = format!("http://127.0.0.1:{port}");
    let client = client()?;
    let begun = Instant::now();
    while client.get(&address).send().await.is_err() {
        if let Some(status) = handler.try_wait()? {
            bail!("the handler ended ({status}) before it was ready");
        }
        if begun.elapsed() > PATIENCE {
            bail!("the handler was not ready within {} s", PATIENCE.as_secs());
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    Ok((handler, address))
}

/// What the host posts for a blob trigger with deferred binding.
fn blob_created(place: &Place, made: &Simulated) -> Value {
    let uri = format!("file://{}/{}/metadata/JobMetadata/Metadata.json", place.store.display(), place.drop);
    json!({
        "Data": {"blob": {
            "Version": "1.0", "Source": "AzureStorageBlobs", "ContentType": "application/json",
            "Content": {"Length": 85, "IsEmpty": false, "MediaType": "application/json"},
        }},
        "Metadata": {
            "Uri": Value::from(uri).to_string(),
            "Properties": {"ETag": {}, "ContentLength": made.file_bytes},
            "name": json!("Metadata.json").to_string(),
            "sys": {"MethodName": "function", "UtcNow": "2026-11-22T00:00:00Z", "RandGuid": made.copy_activity_id},
        },
    })
}

async fn post(url: String, event: Value) -> Result<String> {
    let answer = client()?.post(url).json(&event).send().await?;
    let status = answer.status();
    let body: Value = answer.json().await?;
    let said = body["Logs"][0].as_str().unwrap_or_default().to_owned();
    if !status.is_success() {
        bail!("the handler answered {status}: {said}");
    }
    Ok(said)
}

fn client() -> Result<reqwest::Client> {
    Ok(reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build()?)
}

/// Shows how many rows have arrived until the drop is completed.
async fn watch(receiver: &Receiver, made: &Simulated, handler: &mut Child) -> Result<Received> {
    let progress = ProgressBar::new(made.rows);
    let style = ProgressStyle::with_template("   {bar:40} {human_pos} of {human_len} rows");
    progress.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    let ended = receiver.wait_for(PATIENCE, |received| {
        progress.set_position(received.row_count());
        received.drops.values().any(|drop| !drop.completed.is_empty() || !drop.failed.is_empty())
    });
    let received = tokio::select! {
        received = ended => received?,
        status = handler.wait() => bail!("the handler ended ({}) before the drop was completed", status?),
    };
    progress.finish_and_clear();
    Ok(received)
}

fn report(made: &Simulated, received: &Received, seconds: f64, logs: &str) {
    let rate = |count: u64| (count as f64 / seconds) as u64;
    println!(
        "5. {} rows in {} messages in {seconds:.2} s: {} rows/s, {}/s of text, {} doubles, {} bad signatures",
        HumanCount(received.row_count()),
        HumanCount(received.accepted),
        HumanCount(rate(received.row_count())),
        HumanBytes(rate(made.text_bytes)),
        received.duplicates,
        received.bad_signatures
    );
    println!("   the handler's answer to the host: {logs}");
    let rows = received.drops.values().flat_map(|drop| drop.files.values()).flat_map(|file| file.rows.values());
    if let Some(row) = rows.into_iter().next() {
        println!("6. one row as it arrived:\n   {row}");
    }
}
