//! `vivadrop onboard`: lets a customer in, and says what is left to do for them and for their administrator.

use std::io::Write;

use clap::Args;
use secrecy::ExposeSecret;
use time::Duration;

use super::CliError;
use crate::{
    app,
    config::{DropContainer, OnboardConfig, Settings, Storage},
    drop::{DropPath, TenantId},
    error_chain::error_chain,
    keys::viva_api::{VivaApi, token},
    onboard::{
        Onboarded, Onboarding, Order,
        expiry::{day, first_lapse},
    },
    store::azure::{ContainerSas, SasError},
};

#[derive(Debug, Args)]
pub(super) struct OnboardArguments {
    /// The customer: their Microsoft Entra tenant id
    #[arg(long, value_name = "ID")]
    tenant: TenantId,
    /// How long a key that is made is of use, in days
    #[arg(long, value_name = "DAYS", default_value = "365d", value_parser = days)]
    expires_in: Duration,
    /// Make and register a new key; the one before it is kept for drops that are under way
    #[arg(long)]
    rotate: bool,
    /// Print a SAS URL for the customer's container that lasts so many days: a secret
    #[arg(long, value_name = "N")]
    sas_days: Option<u16>,
}

/// `365d`, or bare `365`.
fn days(text: &str) -> Result<Duration, &'static str> {
    let days: u16 = text.strip_suffix('d').unwrap_or(text).parse().unwrap_or_default();
    if (1..=3650).contains(&days) { Ok(Duration::days(days.into())) } else { Err("expected days, such as 365d") }
}

pub(super) async fn onboard(arguments: &OnboardArguments) -> Result<(), CliError> {
    let config = OnboardConfig::read(&Settings::from_env())?;
    if let (Some(days), Storage::Azure(account)) = (arguments.sas_days, &config.drop_storage) {
        account.check_sas_lifetime(days).map_err(|error| CliError::Usage(error.to_string()))?;
    }
    let order = Order { tenant: arguments.tenant, expires_in: arguments.expires_in, rotate: arguments.rotate };
    let onboarded = onboarding(&config)?.run(&order, |done| eprintln!("{done}")).await.map_err(|error| {
        let said = format!("{}; run it again to go on from there", error_chain(&error));
        if error.may_pass() { CliError::Transient(said) } else { CliError::Permanent(said) }
    })?;
    let url = match (arguments.sas_days, &config.drop_storage) {
        (Some(days), Storage::Azure(account)) => {
            Some(account.create_container_sas(&onboarded.container, days).await.map_err(|error| no_url(&error))?)
        }
        _ => None,
    };
    print(&config, arguments.tenant, &onboarded, url.as_ref())
        .map_err(|error| CliError::Transient(format!("cannot print: {error}")))
}

fn no_url(error: &SasError) -> CliError {
    match error {
        SasError::AccountHasOnlySas | SasError::InvalidLifetime { .. } => CliError::Usage(error.to_string()),
        SasError::InvalidDelegationKey => CliError::Permanent(error.to_string()),
        SasError::Store(crate::store::StoreError::Denied(_)) => CliError::Permanent(error_chain(error)),
        SasError::Store(store) => CliError::of(store.verdict(), error),
    }
}

fn onboarding(config: &OnboardConfig) -> Result<Onboarding, CliError> {
    let not_here = |error: app::AppError| CliError::Transient(error_chain(&error));
    let api = &config.viva_api;
    let wired = token::credential(&api.url, api.partner.as_ref(), &config.identity)
        .and_then(|credential| VivaApi::new(&api.url, credential, api.scope.clone()));
    Ok(Onboarding {
        store: app::store(&config.drop_storage).map_err(not_here)?,
        state_container: config.state_container.clone(),
        custody: app::custody(&config.private_keys, &config.identity).map_err(not_here)?,
        api: wired.map_err(|error| not_here(error.into()))?,
        api_address: api.url.origin().ascii_serialization(),
        partner: config.partner,
    })
}

/// What is there, and what is left to do. The same every time, but for a new SAS.
fn print(
    config: &OnboardConfig,
    tenant: TenantId,
    onboarded: &Onboarded,
    url: Option<&ContainerSas>,
) -> std::io::Result<()> {
    let Onboarded { key, registration, container, .. } = onboarded;
    let mut out = std::io::stdout().lock();
    let lapse = first_lapse(key.expiry, Some(registration));
    let until = lapse.map_or_else(String::new, |lapse| format!(", good until {}", day(lapse.at)));
    writeln!(out, "customer      {tenant}")?;
    writeln!(out, "key           version {}, SHA-256 of its modulus {}", key.version, key.thumbprint())?;
    writeln!(out, "registration  with {}{until}", registration.api)?;
    writeln!(out, "container     {container}")?;
    writeln!(out, "\nleft for you to do:")?;
    let place = format!("{tenant}={container}");
    let is_let_in =
        config.tenants.as_ref().is_some_and(|tenants| tenants.may_write(tenant, &DropPath::new(container, "run")));
    match is_let_in {
        true => writeln!(out, "  TENANTS lets them drop there already")?,
        false => writeln!(out, "  add to TENANTS: {place}")?,
    }
    if let DropContainer::Named(name) = &config.drop_container {
        writeln!(out, "  set DROP_CONTAINER to `*`: it is `{name}`, and each customer has a container of their own")?;
    }
    if let Storage::Azure(_) = &config.drop_storage {
        writeln!(
            out,
            "  let Event Grid send what is created there: subject beginning with `/blobServices/default/containers/{container}/`"
        )?;
    }
    writeln!(out, "\nfor the customer:")?;
    let app = config.partner.app_id;
    writeln!(
        out,
        "  consent, by an administrator: https://login.microsoftonline.com/{tenant}/adminconsent?client_id={app}"
    )?;
    match (url, &config.drop_storage) {
        (Some(ContainerSas { url, expires }), _) => {
            writeln!(
                out,
                "  SAS URL for their Data Factory (create and write alone, until {}; a secret):",
                day(*expires)
            )?;
            writeln!(out, "  {}", url.expose_secret())
        }
        (None, Storage::Azure(_)) => {
            writeln!(out, "  SAS URL for their Data Factory: `--sas-days N` makes one, each time another")
        }
        (None, Storage::Local(folder)) => {
            writeln!(
                out,
                "  the folder `{}`: DropStorage is no account, so there is no SAS",
                folder.join(container).display()
            )
        }
    }
}
