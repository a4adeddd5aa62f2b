//! Tests a tenant's key: whether it exists, unwraps what its public key wraps, is registered, and does not expire soon.

use rsa::rand_core::{OsRng, RngCore};
use time::OffsetDateTime;
use zeroize::Zeroizing;

use super::{CheckTargets, Finding, Severity};
use crate::{
    date::date,
    drop::TenantId,
    error_chain::error_chain,
    keys::{
        KeyError,
        key_store::{KeyExpiry, PublicKey},
        unwrap::Padding,
    },
    onboard::{
        expiry::first_expiry,
        record::{self, RecordError, Registration},
    },
};

/// Tests the key of `tenant`.
pub(super) async fn is_usable(targets: &CheckTargets, tenant: TenantId) -> Vec<Finding> {
    let test = format!("looked up the key of {tenant}");
    let key = match targets.key_store.current(tenant).await {
        Ok(Some(key)) => key,
        Ok(None) => {
            let text = format!("{test}: there is no `{}`", targets.key_store.location(tenant));
            let todo = format!(
                "run `vivadrop onboard --tenant {tenant}`. A new key cannot decrypt drops that were encrypted for another \
                 one: if `vivadrop offboard` has disabled the key, enable it instead (a file: remove `.disabled` from its \
                 name)"
            );
            return vec![Finding::fix("key", text).todo(todo)];
        }
        Err(error) => return vec![Finding::of_key_error("key", &test, &error)],
    };
    if !key.enabled {
        let text = format!("{test}: `{}` is disabled", targets.key_store.location(tenant));
        return vec![Finding::fix("key", text).todo("enable it: `az keyvault key set-attributes --enabled true`")];
    }
    let unwrapping = match unwraps(targets, tenant, &key).await {
        Ok(()) => Finding::ok("key", format!("the key of {tenant} unwraps what its public key wraps")),
        Err(error) => Finding::of_key_error("key", &format!("unwrapped a test value for {tenant}"), &error),
    };
    let record = record::read(&*targets.store, &targets.state_container, tenant).await;
    let record = match record {
        Ok(record) => record.map(|(_, record)| record),
        Err(RecordError::Store(error)) => {
            let test = format!("looked up the registration of {tenant}");
            return vec![unwrapping, Finding::of_store_error("key", &test, &error)];
        }
        Err(error) => return vec![unwrapping, Finding::fix("key", error_chain(&error))],
    };
    vec![unwrapping, is_registered(tenant, &key, record.as_ref(), OffsetDateTime::now_utc())]
}

/// Wraps random bytes with the public key, as Microsoft does, and unwraps them.
async fn unwraps(targets: &CheckTargets, tenant: TenantId, key: &PublicKey) -> Result<(), KeyError> {
    let mut plain = Zeroizing::new([0; 32]);
    OsRng.fill_bytes(&mut *plain);
    let padding = targets.wrap.paddings().first().copied().unwrap_or(Padding::Oaep);
    let wrapped = key.wrap(padding, &*plain);
    let wrapped = wrapped.ok_or_else(|| KeyError::NoKey("its public key is not a usable RSA key".into()))?;
    let unwrapped = targets.key_store.decrypt(tenant, Some(&key.version), padding, &wrapped).await?;
    if unwrapped.is_some_and(|unwrapped| unwrapped[..] == plain[..]) {
        return Ok(());
    }
    Err(KeyError::WrongKey(format!(
        "the result with {padding} is not the wrapped value: the public and the private key do not belong together"
    )))
}

/// Tests whether the key is the registered one, and how long key and registration are valid.
fn is_registered(tenant: TenantId, key: &PublicKey, record: Option<&Registration>, now: OffsetDateTime) -> Finding {
    let test = format!("checked the validity of the key of {tenant}");
    let onboard = format!("run `vivadrop onboard --tenant {tenant}`");
    if key.expiry == KeyExpiry::Never {
        return Finding::fix("key", format!("{test}: it has no expiry date, and a pipeline with such a key fails"))
            .todo("set one within a year: `az keyvault key set-attributes --expires`");
    }
    let expiry = first_expiry(key.expiry, record);
    if let Some(expiry) = expiry.filter(|expiry| expiry.is_near(now)) {
        return Finding::fix("key", format!("{test}: {}", expiry.sentence(now)))
            .todo(format!("run `vivadrop onboard --rotate --tenant {tenant}`, which creates and registers a new key"));
    }
    match record {
        None => Finding::new(Severity::Note, "key", format!("{test}: there is no record of its registration"))
            .todo(format!("{onboard}, unless it was registered by other means")),
        Some(record) if record.thumbprint != key.thumbprint() => {
            Finding::fix("key", format!("{test}: the current key is not the registered key"))
                .todo(format!("{onboard}, which registers it"))
        }
        Some(record) if record.registered.is_none() => {
            Finding::fix("key", format!("{test}: its registration was started, but no response was recorded"))
                .todo(format!("{onboard}, which completes it"))
        }
        Some(_) => {
            let until = expiry.map_or_else(String::new, |expiry| format!(" until {}", date(expiry.at)));
            Finding::ok("key", format!("{test}: it is registered{until}"))
        }
    }
}
