//! `vivadrop check`: tests the settings and everything that they name, and prints one line per finding.

use std::{path::PathBuf, pin::pin, sync::Arc, time::Duration};

use clap::Args;
use futures::StreamExt;
use url::Url;

use super::{CliError, print_line};
use crate::{
    app::{self, App},
    check::{CheckTargets, Finding, Severity, parse_app},
    config::{Config, DeliverTo, InvalidSettings, KeyStoreLocation, Settings, Storage},
    drop::TenantId,
    error_chain::error_chain,
    keys::CallLimits,
    loopback::is_loopback,
    one_line::escape_deceptive,
    retry::RetryBudget,
    sink::Sink,
    telemetry,
    tenant_config::TenantConfigs,
};

/// Time for retries, and timeout for one try. Shorter than in a run, because a person is waiting.
const RETRY_TIME: Duration = Duration::from_secs(10);
const TRY_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vivadrop check --env-file production.env
  vivadrop check --no-send
  vivadrop check --app contoso-drops.azurewebsites.net")]
pub(super) struct CheckArguments {
    /// Do not send `vivadrop.check` to the sinks
    #[arg(long)]
    no_send: bool,
    /// Functions app whose functions page, view and manage are called without a key; view and manage must demand one
    /// [default: $WEBSITE_HOSTNAME]
    #[arg(long, value_name = "NAME", value_parser = parse_app)]
    app: Option<Url>,
}

pub(super) async fn check(arguments: &CheckArguments) -> Result<(), CliError> {
    let mut report = Report::default();
    let settings = Settings::from_env();
    let own_app = || parse_app(settings.get("WEBSITE_HOSTNAME")?).ok();
    let targets = match Config::read(&settings) {
        Ok(config) => {
            report.print(&Finding::ok("settings", "read all settings: they are valid"));
            CheckTargets { send: !arguments.no_send, app: arguments.app.clone().or_else(own_app), ..targets(config)? }
        }
        Err(InvalidSettings(complaints)) => {
            for complaint in complaints {
                report.print(&Finding::fix("settings", complaint));
            }
            report.print_summary();
            return Err(CliError::Printed(2));
        }
    };
    let mut findings = pin!(targets.findings());
    while let Some(finding) = findings.next().await {
        report.print(&finding);
    }
    report.print_summary();
    match report.worst {
        Some(Severity::Fix) => Err(CliError::Printed(3)),
        Some(Severity::Retry) => Err(CliError::Printed(1)),
        Some(Severity::Skipped | Severity::Note | Severity::Ok) | None => Ok(()),
    }
}

/// Builds the application with short time limits, and returns the parts that are tested.
fn targets(mut config: Config) -> Result<CheckTargets, CliError> {
    shorten_retries(&mut config.common.deliver_to);
    for own in config.tenant_overrides.values_mut() {
        if let Some(deliver_to) = &mut own.deliver_to {
            shorten_retries(deliver_to);
        }
    }
    let store_url = match &config.drop_storage {
        Storage::Azure(account) => Some(account.blob_endpoint().clone()),
        Storage::Local(_) => None,
    };
    let key_folder = match &config.private_keys {
        KeyStoreLocation::Folder(folder) => Some(folder.clone()),
        KeyStoreLocation::Vault(_) => None,
    };
    let needs_api = key_folder.is_none() || config.viva_api.partner.is_some() || is_loopback(&config.viva_api.url);
    let (allow_plaintext, deadline) = (config.common.rules.layout.allow_plaintext, config.deadline);
    let limits = CallLimits { retry: RetryBudget::lasting(RETRY_TIME), try_timeout: TRY_TIMEOUT };
    let app = app::wire_with(config, limits).map_err(|error| CliError::Transient(error_chain(&error)))?;
    let App { runner, watched, key_store } = app;
    let runner = Arc::into_inner(runner).expect("no run has started");
    let is_joined = |tenant: &TenantId| runner.tenant_configs.of(*tenant).directory.joins();
    let joined_tenants = runner.tenants.ids().into_iter().filter(is_joined).collect();
    Ok(CheckTargets {
        store_url,
        drop_containers: watched.names(),
        state_container: watched.state_container,
        tenants: runner.tenants,
        key_store,
        key_folder,
        allow_plaintext,
        deadline,
        working_directory: PathBuf::from("."),
        wrap: runner.keys.wrap,
        api: runner.keys.api,
        needs_api,
        send: true,
        app: None,
        sinks: distinct_sinks(runner.tenant_configs),
        joined_tenants,
        give_up_after: runner.limits.give_up_after,
        store: runner.store,
    })
}

fn shorten_retries(deliver_to: &mut DeliverTo) {
    let budget = match deliver_to {
        DeliverTo::Webhook(webhook, _) => &mut webhook.retry_budget,
        DeliverTo::Queue(queue) => &mut queue.retry_budget,
        DeliverTo::ServiceBus(entity) => &mut entity.retry_budget,
        DeliverTo::Stdout => return,
    };
    *budget = RetryBudget::lasting(RETRY_TIME.min(budget.total));
}

/// Each sink once: the common one (`None`), then those of tenants with a sink of their own.
fn distinct_sinks(configs: TenantConfigs) -> Vec<(Option<TenantId>, Arc<dyn Sink>)> {
    let common = configs.default.sink;
    let mut sinks = vec![(None, Arc::clone(&common))];
    for (tenant, own) in configs.overrides {
        if !Arc::ptr_eq(&own.sink, &common) {
            sinks.push((Some(tenant), own.sink));
        }
    }
    sinks
}

/// Prints findings, and counts those that matter for the exit code.
#[derive(Default)]
struct Report {
    worst: Option<Severity>,
    to_fix: usize,
    to_retry: usize,
}

impl Report {
    fn print(&mut self, finding: &Finding) {
        self.worst = self.worst.max(Some(finding.severity));
        match finding.severity {
            Severity::Fix => self.to_fix += 1,
            Severity::Retry => self.to_retry += 1,
            Severity::Ok | Severity::Note | Severity::Skipped => {}
        }
        let line = finding.to_string();
        let line = escape_deceptive(&line);
        if !telemetry::has_colours(&std::io::stdout()) {
            return print_line(&line);
        }
        let colour = match finding.severity {
            Severity::Ok => "32",
            Severity::Note | Severity::Skipped => "36",
            Severity::Retry => "33",
            Severity::Fix => "31",
        };
        let (word, rest) = line.split_at(finding.severity.as_str().len());
        print_line(&format!("\u{1b}[{colour}m{word}\u{1b}[0m{rest}"));
    }

    fn print_summary(&self) {
        match (self.to_fix, self.to_retry) {
            (0, 0) => print_line("all is well"),
            (fix, 0) => print_line(&format!("{fix} to fix")),
            (0, retry) => print_line(&format!("{retry} did not answer: retry later")),
            (fix, retry) => print_line(&format!("{fix} to fix, and {retry} did not answer")),
        }
    }
}
