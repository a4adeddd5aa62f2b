//! `vivadrop demo --page`: the operator's page with six simulated customers in different states.
//!
//! The demo plays the timer of the Functions host, so replays and imports that are started on the page are carried out.

use std::{
    fs::{self, File},
    num::NonZeroUsize,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, SystemTime},
};

use anyhow::{Context, Result, bail};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::process::{Child, Command};
use uuid::Uuid;

use super::{post, start_handler};
use crate::{
    cli::print_line,
    clock,
    config::Settings,
    drop::TenantId,
    simulate::{SimulateOptions, Simulated, simulate},
    status::State,
};
use testkit::receiver::{Options, Receiver};

/// The time between two ticks of the timer.
const TICK: Duration = Duration::from_secs(3);

/// How many weeks of data a survey cycle uses.
const CYCLE_WEEKS: u32 = 12;

const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);

/// The state of each customer's newest drop: one customer for each state.
///
/// Set aside: it is encrypted for another customer's key. Open: a data file is missing. Retrying: the customer's
/// receiver does not answer. Waiting: the directory export of its run is missing. Overdue: it is a week late.
const STATES: [State; 6] =
    [State::Completed, State::SetAside, State::Open, State::Retrying, State::Waiting, State::Overdue];

/// The ages of a customer's earlier drops, in weeks.
fn earlier_drops(state: State) -> &'static [u32] {
    match state {
        State::Completed | State::SetAside | State::Open => &[1, 2, 3],
        // Earlier drops of these customers would be retried, or wait, as well.
        State::Retrying | State::Waiting => &[],
        State::Overdue => &[2, 3, 4],
    }
}

/// A customer of the demo.
struct Customer {
    state: State,
    tenant: TenantId,
    private_key: PathBuf,
}

/// Runs the demo in `folder` until the page's process ends.
pub(super) async fn run(folder: &Path) -> Result<()> {
    let account = folder.join("store");
    let keys = folder.join("keys");
    fs::create_dir_all(&keys)?;
    let customers = {
        let (folder, account, keys) = (folder.to_owned(), account.clone(), keys.clone());
        tokio::task::spawn_blocking(move || simulate_customers(&folder, &account, &keys)).await??
    };
    print_line("1. simulated six customers and their drops");

    let receiver = Receiver::start(Options { keep_rows: false, signed: true }).await?;
    let settings = settings(&account, &keys, &customers, &receiver);
    let (_handler, address) = start_handler(&settings).await?;
    print_line("2. started a webhook receiver and the handler; the timer finds the drops");

    print_line("3. started the operator's page; Ctrl-C ends the demo");
    let mut page = start_page(&settings)?;
    let ticks = async {
        loop {
            // The tick is answered after its sweep, with an error if drops have failed. The page shows these drops.
            if let Err(error) = post(format!("{address}/sweep"), timer_tick()).await {
                tracing::debug!("{error:#}");
            }
            tokio::time::sleep(TICK).await;
        }
    };
    tokio::select! {
        status = page.wait() => match status? {
            status if status.success() => Ok(()),
            status => bail!("the page exited ({status})"),
        },
        () = ticks => Ok(()),
    }
}

/// Starts `vivadrop page`, which prints its address.
fn start_page(settings: &[(&'static str, String)]) -> Result<Child> {
    let program = std::env::current_exe().context("cannot find the path of this program")?;
    Command::new(program)
        .arg("page")
        .env_clear()
        .envs(Settings::from_env().for_child_process())
        .envs(settings.iter().cloned())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .context("cannot start the page")
}

/// Writes the drops, keys and records of all customers.
fn simulate_customers(folder: &Path, account: &Path, keys: &Path) -> Result<Vec<Customer>> {
    let mut customers: Vec<Customer> = Vec::new();
    for state in STATES {
        let tenant = TenantId(Uuid::new_v4());
        let customer = Customer { state, tenant, private_key: keys.join(format!("{tenant}.pem")) };
        let work = folder.join("simulated").join(tenant.to_string());
        // The simulation of the first drop creates the customer's key; the others are encrypted for it.
        let mut own_key = None;
        for age in earlier_drops(state) {
            let simulated = simulate_drop(&customer, own_key.clone(), 1, &work.join(age.to_string()))?;
            own_key = Some(simulated.private_key.clone());
            place(&simulated, account, *age)?;
        }
        if state != State::Overdue {
            let key = match state {
                State::SetAside => customers.first().map(|other| other.private_key.clone()),
                _ => own_key.clone(),
            };
            let simulated = simulate_drop(&customer, key, CYCLE_WEEKS + 1, &work.join("newest"))?;
            own_key = own_key.or(Some(simulated.private_key.clone()));
            if state == State::Open {
                fs::remove_file(simulated.drop.join("part-1.json.gz"))?;
            }
            place(&simulated, account, 0)?;
        }
        fs::copy(own_key.context("every customer has a drop")?, &customer.private_key)?;
        customers.push(customer);
    }
    let ledger = account.join("vivadrop-state");
    write_definitions(&ledger, customers[0].tenant)?;
    customers.iter().try_for_each(|customer| write_expiry(&ledger, customer))?;
    Ok(customers)
}

fn simulate_drop(customer: &Customer, key: Option<PathBuf>, weeks: u32, out: &Path) -> Result<Simulated> {
    let options = SimulateOptions {
        users: if weeks > 1 { 600 } else { 100 },
        weeks,
        files: NonZeroUsize::new(2).expect("2 is not 0"),
        tenant: Some(customer.tenant),
        keys_in_metadata: true,
        private_key: key,
        ..SimulateOptions::default()
    };
    Ok(simulate(&options, out, &|_| {})?)
}

/// Moves a drop to where a customer's pipeline would copy it, `age` weeks ago.
fn place(simulated: &Simulated, account: &Path, age: u32) -> Result<()> {
    let drop = account.join(format!("datasets/{}/VivaInsights/{}", simulated.copy_activity_id, simulated.tenant));
    fs::create_dir_all(drop.parent().context("a drop is in a folder")?)?;
    fs::rename(&simulated.drop, &drop)?;
    set_modified(&drop, SystemTime::now() - WEEK * age)
}

/// Sets the time of the last change of all files below `folder`.
fn set_modified(folder: &Path, time: SystemTime) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            set_modified(&path, time)?;
        } else {
            File::options().write(true).open(&path)?.set_modified(time)?;
        }
    }
    Ok(())
}

/// Defines three attributes, and a survey that closed on the day after the last week of the newest drop.
fn write_definitions(ledger: &Path, tenant: TenantId) -> Result<()> {
    let today = clock::now().date();
    let monday = today - time::Duration::days(today.weekday().number_days_from_monday().into());
    let definitions = json!({
        "attributes": [
            {"name": "Email hours", "roles": {
                "Manager": ["report-filters", "report-sections"], "HR partner": ["report-filters", "comment-filters"]}},
            {"name": "Collaboration hours", "max": [15, 20, 25], "roles": {"Manager": ["report-filters"]}},
            {"name": "Meeting hours with Manager 1:1"},
        ],
        "programs": [{"name": "Engagement", "cycles": [
            {"name": "This quarter", "start": (monday - time::Duration::days(10)).to_string(), "end": monday.to_string()},
            {"name": "Next quarter", "start": (monday + time::Duration::days(81)).to_string(), "end": (monday + time::Duration::days(91)).to_string()}]}],
    });
    write_json(&ledger.join(format!("attributes/{tenant}.json")), &definitions)
}

/// Writes when the customer's registration and SAS URL expire, as `onboard` does. One SAS URL expires soon.
fn write_expiry(ledger: &Path, customer: &Customer) -> Result<()> {
    let in_days = |days| timestamp(clock::now() + time::Duration::days(days));
    let entry = json!({
        "tenant": customer.tenant,
        "registrationexpires": in_days(240),
        "sasexpires": in_days(if customer.state == State::Waiting { 12 } else { 240 }),
    });
    write_json(&ledger.join(format!("customers/{}.json", customer.tenant)), &entry)
}

fn write_json(path: &Path, value: &Value) -> Result<()> {
    fs::create_dir_all(path.parent().context("a record is in a folder")?)?;
    Ok(fs::write(path, value.to_string())?)
}

fn settings(account: &Path, keys: &Path, customers: &[Customer], receiver: &Receiver) -> Vec<(&'static str, String)> {
    let tenants: serde_json::Map<_, _> = customers
        .iter()
        .map(|customer| {
            let overrides = match customer.state {
                // Nothing listens at the discard port.
                State::Retrying => json!({"DELIVER_TO": "http://127.0.0.1:9/rows", "DELIVERY_PATIENCE": "1s"}),
                State::Waiting => json!({"DIRECTORY": "join"}),
                _ => json!({}),
            };
            (customer.tenant.to_string(), overrides)
        })
        .collect();
    vec![
        ("DropStorage", format!("file://{}", account.display())),
        ("TENANTS", Value::from(tenants).to_string()),
        ("PRIVATE_KEYS", format!("file://{}", keys.display())),
        ("DELIVER_TO", receiver.url().to_string()),
        ("WEBHOOK_SECRET", receiver.secret().expose_secret().to_owned()),
    ]
}

/// The request body that the host posts for a timer trigger.
fn timer_tick() -> Value {
    json!({"Data": {"timer": {"Schedule": {"AdjustForDST": true}, "ScheduleStatus": null, "IsPastDue": false}}, "Metadata": {}})
}

fn timestamp(time: OffsetDateTime) -> String {
    time.format(&Rfc3339).expect("years of four digits can be formatted")
}
