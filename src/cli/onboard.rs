//! `vivadrop onboard`: onboards a customer, and prints the steps that remain for the partner and for the customer.

use std::io::Write;

use clap::Args;
use secrecy::ExposeSecret;
use time::Duration;
use tracing::warn;

use super::{CliError, print_note};
use crate::{
    app::{self, AppError},
    clock,
    config::{DropContainer, LedgerConfig, OnboardConfig, Settings, Storage},
    date::date,
    drop::{DropPath, TenantId},
    error_chain::error_chain,
    keys::CallLimits,
    ledger::Ledger,
    onboard::{OnboardRequest, Onboarded, Onboarding, expiry::first_expiry},
    store::{
        StoreError,
        azure::{ContainerSas, SasError},
    },
};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vivadrop onboard --tenant 9f1c7fd3-1a33-4f2b-9d3c-0a8f6f2d7e10 --sas-days 90
  vivadrop onboard --tenant 9f1c7fd3-1a33-4f2b-9d3c-0a8f6f2d7e10 --rotate")]
pub(super) struct OnboardArguments {
    /// Microsoft Entra tenant id of the customer
    #[arg(long, value_name = "ID")]
    tenant: TenantId,
    /// Validity of a new key, in days
    #[arg(long, value_name = "DAYS", default_value = "365d", value_parser = days)]
    expires_in: Duration,
    /// Create and register a new key; the previous one is kept for drops in progress
    #[arg(long)]
    rotate: bool,
    /// Create a SAS URL for the customer's container that is valid for N days, and print it: it is a secret
    #[arg(long, value_name = "N")]
    sas_days: Option<u16>,
    /// Revoke the SAS URLs of the customer's container, or only the one of POLICY, and do nothing else
    #[arg(long, value_name = "POLICY", num_args = 0..=1, default_missing_value = "", conflicts_with_all = ["rotate", "sas_days"])]
    revoke: Option<String>,
}

/// Parses `365d` or `365`.
fn days(text: &str) -> Result<Duration, &'static str> {
    let days: u16 = text.strip_suffix('d').unwrap_or(text).parse().unwrap_or_default();
    if (1..=3650).contains(&days) { Ok(Duration::days(days.into())) } else { Err("expected days, such as 365d") }
}

pub(super) async fn onboard(arguments: &OnboardArguments) -> Result<(), CliError> {
    if let Some(policy) = &arguments.revoke {
        return revoke(arguments.tenant, Some(policy.as_str()).filter(|policy| !policy.is_empty())).await;
    }
    let config = OnboardConfig::read(&Settings::from_env())?;
    if let (Some(days), Storage::Azure(account)) = (arguments.sas_days, &config.drop_storage) {
        account.check_sas_lifetime(days).map_err(|error| CliError::Usage(error.to_string()))?;
    }
    let OnboardArguments { tenant, expires_in, rotate, .. } = *arguments;
    let request = OnboardRequest { tenant, expires_in, rotate };
    let onboarding = onboarding(&config).map_err(|error| CliError::Transient(error_chain(&error)))?;
    let onboarded = onboarding.run(&request, print_note).await.map_err(|error| {
        let message = format!("{}; run the command again to continue", error_chain(&error));
        if error.is_transient() { CliError::Transient(message) } else { CliError::Permanent(message) }
    })?;
    let url = match (arguments.sas_days, &config.drop_storage) {
        (Some(days), Storage::Azure(account)) => {
            let created = account.create_container_sas(&onboarded.container, days).await;
            let sas = created.map_err(|error| sas_failed(&error))?;
            record_sas(&onboarding.ledger(), tenant, &sas).await;
            Some(sas)
        }
        _ => None,
    };
    print(&config, tenant, &onboarded, url.as_ref()).map_err(|error| CliError::of_output("the result", &error))
}

/// Records when the SAS URL expires. A failure is only a warning, because the URL exists and is printed once.
async fn record_sas(ledger: &Ledger, tenant: TenantId, sas: &ContainerSas) {
    let recorded = ledger.update_customer(tenant, |customer| {
        customer.sas_expires = Some(clock::whole_seconds(sas.expires));
        customer.sas_policy.clone_from(&sas.policy);
    });
    if let Err(error) = recorded.await {
        warn!("cannot record when the SAS URL expires: {}", error_chain(&error));
    }
}

/// Records that the SAS URLs of these policies are revoked.
pub(super) async fn record_revoked(ledger: &Ledger, tenant: TenantId, revoked: &[String]) {
    if revoked.is_empty() {
        return;
    }
    let recorded = ledger.update_customer(tenant, |customer| {
        if customer.sas_policy.take_if(|policy| revoked.contains(policy)).is_some() {
            customer.sas_expires = None;
        }
    });
    if let Err(error) = recorded.await {
        warn!("cannot record that the SAS URL is revoked: {}", error_chain(&error));
    }
}

/// Revokes the SAS URLs of the customer's container: the one of `policy`, or all.
async fn revoke(tenant: TenantId, policy: Option<&str>) -> Result<(), CliError> {
    let config = LedgerConfig::read(&Settings::from_env())?;
    let Storage::Azure(account) = &config.drop_storage else {
        return Err(CliError::Usage("DropStorage is a folder, not a storage account, so there is no SAS".into()));
    };
    let revoked =
        account.revoke_container_sas(&tenant.to_string(), policy).await.map_err(|error| sas_failed(&error))?;
    let ledger = app::ledger(&config).map_err(|error| CliError::Transient(error_chain(&error)))?;
    record_revoked(&ledger, tenant, &revoked).await;
    let mut out = std::io::stdout().lock();
    let printed = if revoked.is_empty() {
        writeln!(out, "there is no SAS to revoke")
    } else {
        revoked
            .iter()
            .try_for_each(|policy| writeln!(out, "revoked {policy}: Azure may accept its SAS URL for up to 30 s more"))
    };
    printed.map_err(|error| CliError::of_output("the result", &error))
}

pub(super) fn sas_failed(error: &SasError) -> CliError {
    match error {
        SasError::AccountHasOnlySas
        | SasError::InvalidLifetime { .. }
        | SasError::UnknownAccountName
        | SasError::NotRevocable
        | SasError::UnknownPolicy { .. } => CliError::Usage(error.to_string()),
        SasError::InvalidDelegationKey | SasError::TooManyPolicies { .. } => CliError::Permanent(error.to_string()),
        SasError::DelegationKey(StoreError::Denied(_)) | SasError::Policies(StoreError::Denied(_)) => {
            CliError::Permanent(error_chain(error))
        }
        SasError::DelegationKey(store) | SasError::Policies(store) => CliError::of(store.verdict(), error),
    }
}

fn onboarding(config: &OnboardConfig) -> Result<Onboarding, AppError> {
    Ok(Onboarding {
        store: app::store(&config.drop_storage)?,
        state_container: config.state_container.clone(),
        key_store: app::key_store(&config.private_keys, &config.identity, CallLimits::default())?,
        api: app::viva_api(&config.viva_api, &config.identity)?,
        api_origin: config.viva_api.url.origin().ascii_serialization(),
        partner: config.partner,
    })
}

/// Prints the customer's state and the remaining steps. The output of another run is the same, except for a new SAS.
fn print(
    config: &OnboardConfig,
    tenant: TenantId,
    onboarded: &Onboarded,
    url: Option<&ContainerSas>,
) -> std::io::Result<()> {
    let Onboarded { key, registration, container } = onboarded;
    let mut out = std::io::stdout().lock();
    let expiry = first_expiry(key.expiry, Some(registration));
    let until = expiry.map_or_else(String::new, |expiry| format!(", valid until {}", date(expiry.at)));
    writeln!(out, "customer      {tenant}")?;
    writeln!(out, "key           version {}, SHA-256 of its modulus {}", key.version, key.thumbprint())?;
    writeln!(out, "registration  with {}{until}", registration.api)?;
    writeln!(out, "container     {container}")?;

    writeln!(out, "\nremaining steps for you:")?;
    let is_in_tenants =
        config.tenants.as_ref().is_some_and(|tenants| tenants.may_write(tenant, &DropPath::new(container, "run")));
    if is_in_tenants {
        writeln!(out, "  TENANTS already allows the customer's drops there")?;
    } else {
        writeln!(out, "  add to TENANTS: {tenant}={container}")?;
    }
    if let DropContainer::Named(name) = &config.drop_container {
        writeln!(out, "  set DROP_CONTAINER to `*`: it is `{name}`, but each customer has a container of its own")?;
    }
    if let Storage::Azure(_) = &config.drop_storage {
        writeln!(
            out,
            "  configure Event Grid to send events of new blobs: subject beginning with `/blobServices/default/containers/{container}/`"
        )?;
    }

    writeln!(out, "\nsteps for the customer:")?;
    let app = config.partner.app_id;
    writeln!(
        out,
        "  consent, by an administrator: https://login.microsoftonline.com/{tenant}/adminconsent?client_id={app}"
    )?;
    match (url, &config.drop_storage) {
        (Some(ContainerSas { url, expires, policy }), _) => {
            writeln!(
                out,
                "  SAS URL for the customer's Data Factory (create and write only, until {}; a secret):",
                date(*expires)
            )?;
            writeln!(out, "  {}", url.expose_secret())?;
            match policy {
                Some(policy) => writeln!(
                    out,
                    "  Azure accepts it within 30 s; `vivadrop onboard --tenant {tenant} --revoke {policy}` revokes it"
                ),
                None => writeln!(
                    out,
                    "  it is signed by an identity, so it cannot be revoked alone: with an account key in DropStorage, a SAS \
                     URL has a stored access policy"
                ),
            }
        }
        (None, Storage::Azure(_)) => {
            writeln!(out, "  SAS URL for the customer's Data Factory: `--sas-days N` creates a new one each time")
        }
        (None, Storage::Local(folder)) => writeln!(
            out,
            "  drop into the folder `{}`: DropStorage is not a storage account, so there is no SAS",
            folder.join(container).display()
        ),
    }
}
