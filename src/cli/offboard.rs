//! `vivadrop offboard`: revokes a customer's SAS URLs, disables their key, and prints what remains.

use std::{
    io::{self, Write},
    sync::Arc,
};

use clap::Args;
use futures::TryStreamExt;

use super::{CliError, onboard::sas_failed};
use crate::{
    app,
    config::{OffboardConfig, Settings, Storage},
    date::date,
    drop::TenantId,
    error_chain::error_chain,
    keys::{CallLimits, KeyError},
    ledger::Ledger,
    onboard::record::{self, Registration},
    store::azure::SasError,
};

#[derive(Debug, Args)]
#[command(after_help = "\
Deletes neither drops nor keys: a key that was disabled can be enabled again.

Example:
  vivadrop offboard --tenant 9f1c7fd3-1a33-4f2b-9d3c-0a8f6f2d7e10")]
pub(super) struct OffboardArguments {
    /// The customer's Microsoft Entra tenant id
    #[arg(long, value_name = "ID")]
    tenant: TenantId,
}

/// The effect on the SAS URLs of the customer's container.
enum Revocation {
    /// These stored access policies were deleted.
    Revoked(Vec<String>),
    /// SAS URLs cannot be revoked with the configured credential.
    Impossible(SasError),
    /// There is no container, or the storage is a folder.
    Nothing,
}

/// Revokes the customer's SAS URLs, disables their keys, and prints what was done and what remains.
pub(super) async fn offboard(arguments: &OffboardArguments) -> Result<(), CliError> {
    let (tenant, config) = (arguments.tenant, OffboardConfig::read(&Settings::from_env())?);
    let failed = |error: &dyn std::error::Error| CliError::Transient(error_chain(error));
    let store = app::store(&config.drop_storage).map_err(|error| failed(&error))?;
    let keys = app::key_store(&config.private_keys, &config.identity, CallLimits::default());
    let keys = keys.map_err(|error| failed(&error))?;
    let container = tenant.to_string();
    let has_container = store.has_container(&container).await.map_err(|error| CliError::of(error.verdict(), &error))?;
    let has_key = keys.current(tenant).await.map_err(|error| key_failed(&error))?.is_some();
    if !has_container && !has_key {
        return Err(CliError::Permanent(format!("there is neither a container nor a key of {tenant}")));
    }

    // SAS URLs are revoked before the key is disabled: otherwise drops could still arrive that nothing can decrypt.
    let revocation = match &config.drop_storage {
        Storage::Azure(account) if has_container => match account.revoke_container_sas(&container, None).await {
            Ok(revoked) => Revocation::Revoked(revoked),
            Err(error @ (SasError::NotRevocable | SasError::AccountHasOnlySas)) => Revocation::Impossible(error),
            Err(error) => return Err(sas_failed(&error)),
        },
        Storage::Azure(_) | Storage::Local(_) => Revocation::Nothing,
    };
    let disabled = keys.disable(tenant).await.map_err(|error| key_failed(&error))?;

    let ledger = Ledger::new(Arc::clone(&store), config.state_container.as_str());
    let of_tenant = ledger.unfinished().try_filter(|entry| std::future::ready(entry.tenant == tenant));
    let unfinished = of_tenant.try_fold(0_u64, async |count, _| Ok(count + 1)).await;
    let unfinished = unfinished.map_err(|error| CliError::of(error.verdict(), &error))?;
    let registration = record::read(&*store, &config.state_container, tenant).await.map_err(|error| failed(&error))?;
    let summary = Summary {
        tenant,
        revocation,
        disabled,
        key: keys.location(tenant),
        container: has_container.then_some(container),
        unfinished,
        registration: registration.map(|(_, registration)| registration),
    };
    summary.print(&mut io::stdout().lock()).map_err(|error| CliError::of_output("the result", &error))
}

fn key_failed(error: &KeyError) -> CliError {
    let text = format!("{}; run the command again to continue", error_chain(error));
    if matches!(error, KeyError::Unavailable { .. }) { CliError::Transient(text) } else { CliError::Permanent(text) }
}

struct Summary {
    tenant: TenantId,
    revocation: Revocation,
    /// The number of keys that this run has disabled.
    disabled: usize,
    /// The URL or file of the key.
    key: String,
    container: Option<String>,
    /// The number of drops that have not ended.
    unfinished: u64,
    registration: Option<Registration>,
}

impl Summary {
    fn print(&self, out: &mut impl Write) -> io::Result<()> {
        let Self { tenant, revocation, disabled, key, container, unfinished, registration } = self;
        match revocation {
            Revocation::Revoked(policies) if policies.is_empty() => {
                writeln!(out, "sas       there was none to revoke")?
            }
            Revocation::Revoked(policies) => {
                let policies = policies.join(", ");
                writeln!(out, "sas       revoked {policies}: Azure may accept its SAS URL for up to 30 s more")?;
            }
            Revocation::Impossible(error) => writeln!(out, "sas       not revoked: {error}")?,
            Revocation::Nothing => writeln!(out, "sas       there is no container with SAS URLs")?,
        }
        match disabled {
            0 => writeln!(out, "key       there was none to disable")?,
            count => writeln!(out, "key       disabled {count} versions of `{key}`")?,
        }

        writeln!(out, "\nwhat remains:")?;
        if *unfinished > 0 {
            writeln!(
                out,
                "  {unfinished} drops that are not finished: they fail until GIVE_UP_AFTER, and are then set aside"
            )?;
        }
        if let Some(container) = container {
            writeln!(out, "  the container `{container}` with the encrypted drops, until you delete it")?;
        }
        if let Some(Registration { api, registered, .. }) = registration {
            let until = registered.and_then(|dates| dates.expiration_date);
            let until = until.map_or_else(|| "it expires".to_owned(), |until| date(until).to_string());
            writeln!(
                out,
                "  the registration of the public key with {api}, until {until}: there is no API to remove it"
            )?;
        }
        writeln!(out, "  the records in STATE_CONTAINER, until the lifecycle rule of the account deletes them")?;
        writeln!(out, "\nsteps for you:")?;
        writeln!(out, "  remove {tenant} from TENANTS")?;
        writeln!(out, "  stop the customer's pipeline: it still copies data to wherever it may write")?;
        writeln!(out, "\nsteps for the customer:")?;
        writeln!(
            out,
            "  delete the managed application, and your application in Microsoft Entra ID, which ends the consent"
        )
    }
}
