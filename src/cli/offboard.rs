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
    config::{DropContainer, KeyStoreLocation, OffboardConfig, Settings, Storage},
    date::date,
    drop::{DropPath, TenantId, tenant::Tenants},
    error_chain::error_chain,
    keys::{CallLimits, KeyError},
    ledger::{CustomerEntry, Ledger},
    onboard::record::{self, RecordError, Registration},
    store::azure::SasError,
};

/// How drops end that need no key any more.
const IF_INCOMPLETE: &str = "or, if only rows are missing, as `row-count` after 30 days";

#[derive(Debug, Args)]
#[command(after_help = "\
Deletes neither drops nor keys: a key that was disabled can be enabled again. Exit code 3 if a person is needed, for
example because a SAS URL that vivadrop created is still valid.

Drops that are not finished cannot be decrypted afterwards: to deliver them, run this command when `vivadrop status
--tenant ID` shows none that is open, waiting or retrying.

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
        places: other_places(&config, tenant, has_container),
        listed: Listed::of(tenant, config.tenants.as_ref()),
        has_rule_per_tenant: matches!(
            (&config.drop_storage, &config.drop_container),
            (Storage::Azure(_), DropContainer::PerTenant)
        ),
        has_file_keys: matches!(config.private_keys, KeyStoreLocation::Folder(_)),
        state_container: &config.state_container,
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

/// How `TENANTS` lists the customer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Listed {
    Active,
    Paused,
    Absent,
    /// `TENANTS` is not set.
    Unknown,
}

impl Listed {
    fn of(tenant: TenantId, tenants: Option<&Tenants>) -> Self {
        match tenants {
            None => Self::Unknown,
            Some(tenants) if !tenants.contains(tenant) => Self::Absent,
            Some(tenants) if tenants.is_paused(tenant) => Self::Paused,
            Some(_) => Self::Active,
        }
    }
}

/// Where the customer may have dropped according to `TENANTS` and `DROP_CONTAINER`, besides their own container.
fn other_places(config: &OffboardConfig, tenant: TenantId, has_container: bool) -> Vec<String> {
    let Some(tenants) = &config.tenants else {
        return Vec::new();
    };
    let watched = match &config.drop_container {
        DropContainer::Named(name) => vec![name.clone()],
        DropContainer::PerTenant => tenants.containers(),
    };
    let own = tenant.to_string();
    let is_other = |container: &str| !has_container || container != own;
    let mut places = Vec::new();
    for place in tenants.places_of(tenant) {
        match place {
            Some(prefix) if is_other(&prefix.container) => places.push(format!("`{prefix}`")),
            Some(_) => {}
            None => {
                let may_write = |container: &&String| tenants.may_write(tenant, &DropPath::new(*container, &*own));
                let others = watched.iter().filter(|container| is_other(container)).filter(may_write);
                places.extend(others.map(|container| format!("`{container}`, in folders named {own}")));
            }
        }
    }
    places
}

struct Summary<'a> {
    tenant: TenantId,
    /// Where the customer may have dropped, besides the container.
    places: Vec<String>,
    listed: Listed,
    /// Whether the template's lifecycle rules list the places of each tenant.
    has_rule_per_tenant: bool,
    /// Whether the keys are files. Without a key, a drop is set aside at once; with a disabled key of a vault, it is
    /// retried.
    has_file_keys: bool,
    state_container: &'a str,
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

impl Summary<'_> {
    fn print(&self, out: &mut impl Write) -> io::Result<()> {
        let Self { tenant, revocation, valid_sas, disabled, key, container, unfinished, registration, .. } = self;
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
            1 => writeln!(out, "key       disabled 1 version of `{key}`")?,
            count => writeln!(out, "key       disabled {count} versions of `{key}`")?,
        }

        writeln!(out, "\nwhat remains:")?;
        if let Some(until) = valid_sas {
            let until = date(*until);
            writeln!(out, "  a SAS URL that was not revoked, until {until}: its holder can write to the container")?;
        }
        if *unfinished > 0 {
            writeln!(out, "  unfinished drops: {unfinished}; {}", self.end_of_unfinished())?;
        }
        let rule = "the template's lifecycle rule does, after `retentionDays`";
        if let Some(container) = container {
            writeln!(out, "  the container `{container}`, until you delete it")?;
            writeln!(out, "  the encrypted drops in it, until you delete them or {rule}")?;
        }
        for place in &self.places {
            writeln!(out, "  drops in {place}, until you delete them or {rule}")?;
        }
        if matches!(self.listed, Listed::Absent | Listed::Unknown) {
            writeln!(
                out,
                "  drops in other places where TENANTS has allowed them: TENANTS does not have {tenant} now"
            )?;
        }
        if let Some(Registration { api, registered, .. }) = registration {
            let until = registered.and_then(|dates| dates.expiration_date);
            let until = until.map_or_else(|| "it expires".to_owned(), |until| date(until).to_string());
            writeln!(
                out,
                "  the registration of the public key with {api}, until {until}: there is no API to remove it"
            )?;
        }
        let state = self.state_container;
        writeln!(
            out,
            "  records of drops in `{state}` (drops/, list/), until the template's lifecycle rule deletes them"
        )?;
        writeln!(
            out,
            "  other records in `{state}` (customers/, tenants/, directories/, attributes/, imports/, imports-due/, \
             unfinished/), until you delete them: no rule does"
        )?;
        writeln!(out, "\nsteps for you:")?;
        self.print_steps_in_tenants(out)?;
        writeln!(out, "  stop the customer's pipeline: it still copies data to wherever it may write")?;
        writeln!(out, "\nsteps for the customer:")?;
        writeln!(
            out,
            "  delete the managed application, and your application in Microsoft Entra ID, which ends the consent"
        )
    }

    /// How the unfinished drops end.
    fn end_of_unfinished(&self) -> String {
        match self.listed {
            Listed::Paused => "they wait, because TENANTS pauses the tenant".into(),
            Listed::Absent => {
                format!("sweeps skip them, because TENANTS does not have {}: they stay unfinished", self.tenant)
            }
            Listed::Active | Listed::Unknown if self.has_file_keys => {
                format!("their next run sets them aside as `no-key`, {IF_INCOMPLETE}")
            }
            Listed::Active | Listed::Unknown => {
                format!("they are set aside as `unavailable` after GIVE_UP_AFTER, {IF_INCOMPLETE}")
            }
        }
    }

    /// Prints what to change in `TENANTS`. The tenant must stay there until its drops have ended.
    fn print_steps_in_tenants(&self, out: &mut impl Write) -> io::Result<()> {
        let Self { tenant, listed, unfinished, .. } = self;
        match listed {
            Listed::Absent if *unfinished > 0 => {
                writeln!(out, "  add {tenant} to TENANTS again, so that the unfinished drops end")?;
            }
            Listed::Absent => return Ok(()),
            Listed::Paused if *unfinished > 0 => writeln!(out, "  end the pause, so that the unfinished drops end")?,
            Listed::Active | Listed::Paused | Listed::Unknown => {}
        }
        if *unfinished > 0 {
            let status = format!("`vivadrop status --tenant {tenant}`");
            writeln!(out, "  remove {tenant} from TENANTS, but not before the unfinished drops have ended ({status})")?;
        } else {
            writeln!(out, "  remove {tenant} from TENANTS")?;
        }
        if self.has_rule_per_tenant {
            writeln!(
                out,
                "  keep the paths of its drops in the template's `dropPaths`: otherwise no rule deletes these drops"
            )?;
        }
        Ok(())
    }
}
