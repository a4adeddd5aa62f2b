//! `vivadrop check`: what was found of the settings and of all that they name, one line each.

use std::{
    io::{IsTerminal, Write},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use futures::StreamExt;

use super::CliError;
use crate::{
    app::{self, App},
    check::{CheckTargets, Finding, State},
    config::{Config, DeliverTo, InvalidSettings, KeyStoreLocation, Settings, Storage},
    drop::TenantId,
    error_chain::error_chain,
    keys::{
        custody::KeyCustody,
        unwrap::{PemFolder, PrivateKeys},
    },
    retry::RetryBudget,
    sink::Sink,
    tenant_config::TenantConfigs,
};

/// How long what does not answer is tried: a person is waiting.
const PATIENCE: Duration = Duration::from_secs(10);
const TRY_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) async fn check() -> Result<(), CliError> {
    let mut report = Report::default();
    let targets = match Config::read(&Settings::from_env()) {
        Ok(config) => {
            let text = "read: all are usable".into();
            report.say(&Finding { state: State::Well, about: "settings", text, todo: None });
            targets(config)?
        }
        Err(InvalidSettings(complaints)) => {
            complaints.into_iter().for_each(|complaint| report.say(&Finding::mend("settings", complaint)));
            report.conclude();
            return Err(CliError::Printed(2));
        }
    };
    let mut findings = pin!(targets.findings());
    while let Some(finding) = findings.next().await {
        report.say(&finding);
    }
    report.conclude();
    match report.worst {
        Some(State::Mend) => Err(CliError::Printed(3)),
        Some(State::TryAgain) => Err(CliError::Printed(1)),
        Some(State::Skipped | State::Note | State::Well) | None => Ok(()),
    }
}

/// What the settings name.
fn targets(mut config: Config) -> Result<CheckTargets, CliError> {
    hurry(&mut config.common.deliver_to);
    config.tenant_overrides.values_mut().filter_map(|own| own.deliver_to.as_mut()).for_each(hurry);
    let store_address = match &config.drop_storage {
        Storage::Azure(account) => Some(account.blob_endpoint().clone()),
        Storage::Local(_) => None,
    };
    let not_here = |error: app::AppError| CliError::Transient(error_chain(&error));
    let (custody, private_keys) = keys(&config).map_err(not_here)?;
    let App { runner, watched, .. } = app::wire(config).map_err(not_here)?;
    Ok(CheckTargets {
        store_address,
        drop_containers: watched.names(),
        state_container: watched.state_container,
        tenants: runner.tenants,
        custody,
        private_keys,
        wrap: runner.keys.wrap,
        api: runner.keys.api.with_limits(RetryBudget::lasting(PATIENCE), TRY_TIMEOUT),
        sinks: sinks(runner.tenant_configs),
        store: runner.store,
    })
}

fn hurry(deliver_to: &mut DeliverTo) {
    let patience = match deliver_to {
        DeliverTo::Webhook(webhook, _) => &mut webhook.retry_budget,
        DeliverTo::Queue(queue) => &mut queue.retry_budget,
        DeliverTo::Stdout => return,
    };
    *patience = RetryBudget::lasting(PATIENCE.min(patience.total));
}

/// Each sink once: that of everybody, and those that tenants have of their own.
fn sinks(configs: TenantConfigs) -> Vec<(Option<TenantId>, Arc<dyn Sink>)> {
    let common = configs.default.sink;
    let own = configs.overrides.into_iter().filter(|(_, own)| !Arc::ptr_eq(&own.sink, &common));
    let own: Vec<_> = own.map(|(tenant, own)| (Some(tenant), own.sink)).collect();
    std::iter::once((None, common)).chain(own).collect()
}

/// Who knows the public halves of the keys, and who the private ones.
type KeyKeepers = (Arc<dyn KeyCustody>, Arc<dyn PrivateKeys>);

/// Both halves of the keys. A vault that does not answer is not waited for as long as a run would.
fn keys(config: &Config) -> Result<KeyKeepers, app::AppError> {
    Ok(match &config.private_keys {
        KeyStoreLocation::Vault(url) => {
            let vault = app::vault(url, &config.identity)?;
            let vault = Arc::new(vault.with_limits(RetryBudget::lasting(PATIENCE), TRY_TIMEOUT));
            (Arc::clone(&vault) as Arc<dyn KeyCustody>, vault)
        }
        KeyStoreLocation::Folder(folder) => {
            let folder = Arc::new(PemFolder::new(folder));
            (Arc::clone(&folder) as Arc<dyn KeyCustody>, folder)
        }
    })
}

/// What has been said so far.
#[derive(Default)]
struct Report {
    worst: Option<State>,
    to_mend: usize,
    to_try_again: usize,
}

impl Report {
    fn say(&mut self, finding: &Finding) {
        self.worst = self.worst.max(Some(finding.state));
        match finding.state {
            State::Mend => self.to_mend += 1,
            State::TryAgain => self.to_try_again += 1,
            State::Well | State::Note | State::Skipped => {}
        }
        let line = finding.to_string();
        let colour = match finding.state {
            State::Well => "32",
            State::Note | State::Skipped => "36",
            State::TryAgain => "33",
            State::Mend => "31",
        };
        let (word, rest) = line.split_at(finding.state.as_str().len());
        if std::io::stdout().is_terminal() {
            print(&format!("\u{1b}[{colour}m{word}\u{1b}[0m{rest}"));
        } else {
            print(&line);
        }
    }

    fn conclude(&self) {
        match (self.to_mend, self.to_try_again) {
            (0, 0) => print("all is well"),
            (mend, 0) => print(&format!("{mend} to mend")),
            (0, again) => print(&format!("{again} did not answer: try again")),
            (mend, again) => print(&format!("{mend} to mend, and {again} did not answer")),
        }
    }
}

/// Whether anybody reads on changes nothing: the exit code says how it ended.
fn print(line: &str) {
    let _unread = writeln!(std::io::stdout(), "{line}");
}
