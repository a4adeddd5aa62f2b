//! A tenant's key: that there is one, that it unwraps what its public half encrypts, and that it will for a while.

use rsa::rand_core::{OsRng, RngCore};
use time::OffsetDateTime;
use zeroize::Zeroizing;

use super::{CheckTargets, Finding, State};
use crate::{
    drop::TenantId,
    error_chain::error_chain,
    keys::{
        KeyError,
        custody::{Expiry, PublicKey},
        unwrap::Padding,
    },
    onboard::{
        expiry::{day, first_lapse},
        record::{self, RecordError, Registration},
    },
};

/// What there is to say of the key of `tenant`.
pub(super) async fn of(targets: &CheckTargets, tenant: TenantId) -> Vec<Finding> {
    let tried = format!("looked for the key of {tenant}");
    let key = match targets.custody.current(tenant).await {
        Ok(Some(key)) => key,
        Ok(None) => {
            let text = format!("{tried}: there is no `{}`", targets.custody.place(tenant));
            return vec![Finding::mend("key", text).todo(format!("run `vivadrop onboard --tenant {tenant}`"))];
        }
        Err(error) => return vec![Finding::of_key("key", &tried, &error)],
    };
    if !key.enabled {
        let text = format!("{tried}: `{}` is disabled", targets.custody.place(tenant));
        return vec![Finding::mend("key", text).todo("enable it: `az keyvault key set-attributes --enabled true`")];
    }
    let unwrapped = match unwraps(targets, tenant, &key).await {
        Ok(()) => Finding::well("key", format!("the key of {tenant} unwraps what its public half encrypts")),
        Err(error) => Finding::of_key("key", &format!("unwrapped a test value for {tenant}"), &error),
    };
    let record = record::read(&*targets.store, &targets.state_container, tenant).await;
    let record = match record {
        Ok(record) => record.map(|(_, record)| record),
        Err(RecordError::Store(error)) => {
            let tried = format!("looked for the registration of {tenant}");
            return vec![unwrapped, Finding::of_store("key", &tried, &error)];
        }
        Err(error) => return vec![unwrapped, Finding::mend("key", error_chain(&error))],
    };
    vec![unwrapped, lasts(tenant, &key, record.as_ref(), OffsetDateTime::now_utc())]
}

/// Wraps random bytes as a service would, and has them unwrapped.
async fn unwraps(targets: &CheckTargets, tenant: TenantId, key: &PublicKey) -> Result<(), KeyError> {
    let mut plain = Zeroizing::new([0; 32]);
    OsRng.fill_bytes(&mut *plain);
    let padding = targets.wrap.paddings().first().copied().unwrap_or(Padding::Oaep);
    let wrapped = key.wrap(padding, &*plain);
    let wrapped = wrapped.ok_or_else(|| KeyError::Refused("its public half is no usable RSA key".into()))?;
    let answer = targets.private_keys.decrypt(tenant, Some(&key.version), padding, &wrapped).await?;
    if answer.is_some_and(|answer| answer[..] == plain[..]) {
        return Ok(());
    }
    Err(KeyError::Wrong(format!(
        "what came out with {padding} is not what went in: its two halves do not belong together"
    )))
}

/// Whether key and registration belong together, and for how long they last.
fn lasts(tenant: TenantId, key: &PublicKey, record: Option<&Registration>, now: OffsetDateTime) -> Finding {
    let tried = format!("looked at how long the key of {tenant} lasts");
    let onboard = format!("run `vivadrop onboard --tenant {tenant}`");
    if key.expiry == Expiry::Never {
        return Finding::mend("key", format!("{tried}: it has no expiry date, and a pipeline with such a key fails"))
            .todo("set one, of a year at most: `az keyvault key set-attributes --expires`");
    }
    let lapse = first_lapse(key.expiry, record);
    if let Some(lapse) = lapse.filter(|lapse| lapse.is_near(now)) {
        return Finding::mend("key", format!("{tried}: {}", lapse.said(now)))
            .todo(format!("run `vivadrop onboard --rotate --tenant {tenant}`, which makes and registers a new one"));
    }
    match record {
        None => Finding::new(State::Note, "key", format!("{tried}: its registration is not on record"))
            .todo(format!("{onboard}, unless it was registered by other means")),
        Some(record) if record.thumbprint != key.thumbprint() => {
            Finding::mend("key", format!("{tried}: the newest key is not the one that is registered"))
                .todo(format!("{onboard}, which registers it"))
        }
        Some(record) if record.registered.is_none() => {
            Finding::mend("key", format!("{tried}: its registration was begun and not answered"))
                .todo(format!("{onboard}, which ends it"))
        }
        Some(_) => {
            let until = lapse.map_or_else(String::new, |lapse| format!(" until {}", day(lapse.at)));
            Finding::well("key", format!("{tried}: it is registered{until}"))
        }
    }
}
