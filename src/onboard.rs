//! Onboarding a customer: a key of their own, registered with the Viva Insights API, and a container to drop into.
//!
//! Each step looks before it acts, and what the service was told is on [`record`]. So a run that was cut off, wherever that
//! was, is ended by the next one, and one that finds everything in place changes nothing.

pub mod expiry;
pub mod record;

use std::sync::Arc;

use time::{Duration, OffsetDateTime};

use self::{
    expiry::{day, first_lapse},
    record::{RecordError, Registered, Registration},
};
use crate::{
    drop::TenantId,
    keys::{
        KeyError,
        custody::{Expiry, KeyCustody, PublicKey},
        viva_api::{VivaApi, partner_key::PartnerApp},
    },
    store::{ETag, Store, StoreError},
};

/// The only size that the service takes.
const BITS: usize = 2048;

/// All that onboarding works with.
#[derive(Debug)]
pub struct Onboarding {
    /// Where the customer's container and the records are.
    pub store: Arc<dyn Store>,
    /// `STATE_CONTAINER`.
    pub state_container: String,
    /// Who makes keys.
    pub custody: Arc<dyn KeyCustody>,
    /// What keys are registered with.
    pub api: VivaApi,
    /// Where that is, as records name it.
    pub api_address: String,
    /// In whose name.
    pub partner: PartnerApp,
}

/// What is to be done.
#[derive(Debug, Clone, Copy)]
pub struct Order {
    /// The customer.
    pub tenant: TenantId,
    /// How long a key that is made is of use.
    pub expires_in: Duration,
    /// Whether the key that is registered is followed by a new one.
    pub rotate: bool,
}

/// A customer who is in.
#[derive(Debug)]
pub struct Onboarded {
    /// Their key.
    pub key: PublicKey,
    /// What is on record of it.
    pub registration: Registration,
    /// Where they drop.
    pub container: String,
}

/// Why a customer is not in yet.
#[derive(Debug, thiserror::Error)]
pub enum OnboardError {
    /// The vault or the API refuses, or did not answer.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The store did not answer. Running it again goes on where this run stopped.
    #[error("the container or the record of the customer cannot be made")]
    Store(#[from] StoreError),
    /// The record of the customer cannot be read.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// Another customer has the same key, and the service refuses that. A new one must be made.
    #[error(
        "the key of {tenant} is also the key of {other}, and the service takes a key for one customer alone: `--rotate` makes a new one"
    )]
    Shared {
        /// The customer.
        tenant: TenantId,
        /// Who else has it.
        other: TenantId,
    },
    /// The key that is there cannot be registered as it is.
    #[error("`{place}` {why}")]
    Unfit {
        /// Where the key is kept.
        place: String,
        /// What is wrong with it, and what to do.
        why: String,
    },
    /// What was registered has lapsed.
    #[error("{tenant}: {said}: `--rotate` makes and registers a new key")]
    Lapsed {
        /// The customer.
        tenant: TenantId,
        /// What has lapsed when.
        said: String,
    },
}

impl OnboardError {
    /// Whether running it again may help without anybody's doing.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Key(error) => matches!(error, KeyError::Unavailable { .. }),
            Self::Store(StoreError::Denied(_)) | Self::Record(RecordError::Store(StoreError::Denied(_))) => false,
            Self::Store(_) | Self::Record(RecordError::Store(_)) => true,
            Self::Record(RecordError::Unreadable { .. })
            | Self::Shared { .. }
            | Self::Unfit { .. }
            | Self::Lapsed { .. } => false,
        }
    }
}

impl Onboarding {
    /// Does what is left to do until the customer is in; tells `done` of each step, in words, as it is done. Nothing is told
    /// where everything was in place.
    pub async fn run(&self, order: &Order, mut done: impl FnMut(&str)) -> Result<Onboarded, OnboardError> {
        let (tenant, now) = (order.tenant, OffsetDateTime::now_utc());
        let (read, record) = record::read(&*self.store, &self.state_container, tenant).await?.unzip();

        let (key, made) = match self.custody.current(tenant).await? {
            Some(key) if !(order.rotate && is_registered(&key, record.as_ref())) => (key, None),
            _ => {
                let expires = now + order.expires_in;
                let key = self.custody.create(tenant, expires).await?;
                done("made a key");
                (key, Some(expires))
            }
        };
        self.is_fit(tenant, &key, now)?;
        let registration = match record.filter(|record| self.says_all(record, &key)) {
            Some(record) => record,
            None => {
                let registration = self.register(tenant, &key, made, read).await?;
                done("registered it");
                registration
            }
        };
        if let Some(lapse) = first_lapse(key.expiry, Some(&registration)).filter(|lapse| lapse.at <= now) {
            return Err(OnboardError::Lapsed { tenant, said: lapse.said(now) });
        }

        // One for each customer, named by the tenant: whoever holds a SAS for it can write into no other's.
        let container = tenant.to_string();
        if !self.store.has_container(&container).await? {
            self.store.create_container(&container).await?;
            done("made a container");
        }
        Ok(Onboarded { key, registration, container })
    }

    /// Whether `record` says that this very key was registered here, and that the service answered.
    fn says_all(&self, record: &Registration, key: &PublicKey) -> bool {
        record.thumbprint == key.thumbprint() && record.api == self.api_address && record.registered.is_some()
    }

    /// Whether the service and the customer's pipeline can use the key.
    fn is_fit(&self, tenant: TenantId, key: &PublicKey, now: OffsetDateTime) -> Result<(), OnboardError> {
        let why = match key.expiry {
            _ if !key.enabled => "is disabled: enable it, or `--rotate` makes a new one".to_owned(),
            _ if key.bits() != BITS => {
                format!("is no RSA-{BITS} key, and the service takes no other: `--rotate` makes a new one")
            }
            Expiry::At(at) if at <= now => format!("expired on {}: `--rotate` makes a new one", day(at)),
            Expiry::Never => "has no expiry date, and a pipeline with such a key fails: set one with `az keyvault key \
                              set-attributes --expires`, or `--rotate` makes a new key"
                .to_owned(),
            Expiry::At(_) | Expiry::NotKept => return Ok(()),
        };
        Err(OnboardError::Unfit { place: self.custody.place(tenant), why })
    }

    /// Registers the key. That it is about to be is on record before the service is told.
    async fn register(
        &self,
        tenant: TenantId,
        key: &PublicKey,
        made_until: Option<OffsetDateTime>,
        read: Option<ETag>,
    ) -> Result<Registration, OnboardError> {
        let keys = self.custody.all().await?;
        let same = keys.iter().find(|(other, theirs)| *other != tenant && theirs.modulus == key.modulus);
        if let Some((other, _)) = same {
            return Err(OnboardError::Shared { tenant, other: *other });
        }
        let expires = match key.expiry {
            Expiry::At(at) => Some(at),
            Expiry::Never | Expiry::NotKept => made_until,
        };
        let (store, state) = (&*self.store, &self.state_container);
        let mut registration =
            Registration::begun(self.api_address.clone(), key.version.clone(), key.thumbprint(), expires);
        let begun = record::write(store, state, tenant, &registration, read).await?;
        let said = self.api.egress_partner_key(self.partner, tenant, key).await?;
        registration.registered = Some(Registered {
            created_date: said.created.unwrap_or_else(OffsetDateTime::now_utc),
            expiration_date: said.expires,
        });
        record::write(store, state, tenant, &registration, Some(begun)).await?;
        Ok(registration)
    }
}

/// Whether the service was told of the key, or may have been: only then is there anything to rotate. A newer key than the
/// one on record is a rotation that was cut off.
fn is_registered(key: &PublicKey, record: Option<&Registration>) -> bool {
    record.is_none_or(|record| record.thumbprint == key.thumbprint())
}
