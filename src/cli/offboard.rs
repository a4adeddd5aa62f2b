//! `vivadrop offboard`: revokes a customer's SAS URLs, disables their key, and prints what remains.

use std::{
    io::{self, Write},
    sync::Arc,
};

use clap::Args;
use futures::TryStreamExt;
use time::OffsetDateTime;

use super::{
    CliError,
    onboard::{record_revoked, sas_failed},
};
use crate::{
    app, clock,
    config::{OffboardConfig, Settings, Storage},
    date::date,
    drop::TenantId,
    error_chain::error_chain,
    keys::{CallLimits, KeyError},
    ledger::{CustomerEntry, Ledger},
    onboard::record::{self, RecordError, Registration},
    store::azure::SasError,
};

#[derive(Debug, Args)]
#[command(after_help = "\
Deletes neither drops nor keys: a key that was disabled can be enabled again. Exit code 3 if a person is needed, for
example because a SAS URL that vivadrop created is still valid.

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

impl Revocation {
    /// Until when the recorded SAS URL of the customer is valid, if it was not revoked and has not expired.
    fn valid_sas(&self, customer: &CustomerEntry, now: OffsetDateTime) -> Option<OffsetDateTime> {
        let is_revoked = match self {
            // Every stored access policy of vivadrop was deleted. A SAS URL without one stays valid.
            Self::Revoked(_) => customer.sas_policy.is_some(),
            Self::Impossible(_) => false,
            Self::Nothing => true,
        };
        customer.sas_expires.filter(|expires| !is_revoked && *expires > now)
    }
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
    let customer = ledger.customer(tenant).await.map_err(|error| CliError::of(error.verdict(), &error))?;
    let valid_sas = customer.as_ref().and_then(|customer| revocation.valid_sas(customer, clock::now()));
    if let Revocation::Revoked(policies) = &revocation {
        // Also the policy that an earlier run has deleted without recording it.
        let recorded = customer.and_then(|customer| customer.sas_policy);
        let revoked: Vec<_> = policies.iter().cloned().chain(recorded).collect();
        record_revoked(&ledger, tenant, &revoked).await;
    }
    let (registration, unread) = match record::read(&*store, &config.state_container, tenant).await {
        Ok(registration) => (registration.map(|(_, registration)| registration), None),
        Err(error) => (None, Some(error)),
    };
    let summary = Summary {
        tenant,
        revocation,
        valid_sas,
        disabled,
        key: keys.location(tenant),
        container: has_container.then_some(container),
        unfinished,
        registration,
    };
    let printed = summary.print(&mut io::stdout().lock());
    match (unread, valid_sas) {
        (Some(error @ RecordError::Store(_)), _) => Err(failed(&error)),
        (Some(error @ RecordError::Unreadable { .. }), _) => {
            let reason = error_chain(&error);
            Err(CliError::Permanent(format!("it is not known until when the key is registered: {reason}")))
        }
        (None, Some(until)) => {
            let until = date(until);
            Err(CliError::Permanent(format!("a SAS URL of {tenant} was not revoked and is valid until {until}")))
        }
        (None, None) => printed.map_err(|error| CliError::of_output("the result", &error)),
    }
}

fn key_failed(error: &KeyError) -> CliError {
    let text = format!("{}; run the command again to continue", error_chain(error));
    if matches!(error, KeyError::Unavailable { .. }) { CliError::Transient(text) } else { CliError::Permanent(text) }
}

struct Summary {
    tenant: TenantId,
    revocation: Revocation,
    /// Until when a SAS URL is valid that was not revoked.
    valid_sas: Option<OffsetDateTime>,
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
        let Self { tenant, revocation, valid_sas, disabled, key, container, unfinished, registration } = self;
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
        if let Some(until) = valid_sas {
            let until = date(*until);
            writeln!(out, "  a SAS URL that was not revoked, until {until}: its holder can write to the container")?;
        }
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
