//! Onboards a customer: creates a key, registers it with the Viva Insights API, and creates a container for the drops.
//!
//! Each step checks whether it is already done, and [`record`] has what was registered. Therefore a run that was
//! interrupted at any point is completed by the next one, and a run for a customer who is already onboarded changes
//! nothing.

pub mod expiry;
pub mod record;

use std::sync::Arc;

use time::{Duration, OffsetDateTime};

use self::{
    expiry::first_expiry,
    record::{RecordError, Registration, RegistrationDates},
};
use crate::{
    date::date,
    drop::TenantId,
    keys::{
        KeyError,
        key_store::{KeyExpiry, KeyStore, PublicKey},
        viva_api::{VivaApi, partner_key::PartnerApp},
    },
    ledger::Ledger,
    store::{ETag, Store, StoreError},
};

/// The only key length that the API accepts.
const KEY_BITS: usize = 2048;

/// Onboards customers.
#[derive(Debug)]
pub struct Onboarding {
    /// The storage of the customer's container and of the records.
    pub store: Arc<dyn Store>,
    /// `STATE_CONTAINER`.
    pub state_container: String,
    /// The tenants' keys.
    pub key_store: Arc<dyn KeyStore>,
    /// The API with which keys are registered.
    pub api: VivaApi,
    /// The API's origin, which is recorded.
    pub api_origin: String,
    /// The application for which keys are registered.
    pub partner: PartnerApp,
}

/// A request to onboard a customer.
#[derive(Debug, Clone, Copy)]
pub struct OnboardRequest {
    /// The customer.
    pub tenant: TenantId,
    /// Validity of a new key.
    pub expires_in: Duration,
    /// Whether to replace a key that is registered.
    pub rotate: bool,
}

/// An onboarded customer.
#[derive(Debug)]
pub struct Onboarded {
    /// The customer's key.
    pub key: PublicKey,
    /// The record of its registration.
    pub registration: Registration,
    /// The container for the customer's drops.
    pub container: String,
}

/// Why a customer is not onboarded. After the cause is fixed, another run completes the remaining steps.
#[derive(Debug, thiserror::Error)]
pub enum OnboardError {
    /// The key store or the API rejects the request, or did not answer.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The store denies access or did not answer.
    #[error("cannot create the customer's container or record")]
    Store(#[from] StoreError),
    /// The customer's record cannot be read.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// Another customer has the same key. The API would reject it, so a new key must be created.
    #[error(
        "the key of {tenant} is also the key of {other}, and the API accepts a key for one customer only: `--rotate` creates a new one"
    )]
    SharedKey {
        /// The customer.
        tenant: TenantId,
        /// The customer with the same key.
        other: TenantId,
    },
    /// The customer's key cannot be registered as it is.
    #[error("`{location}` {why}")]
    UnusableKey {
        /// The URL or file of the key.
        location: String,
        /// The problem, and how to fix it.
        why: String,
    },
    /// The key or its registration has expired.
    #[error("{tenant}: {why}: `--rotate` creates and registers a new key")]
    Expired {
        /// The customer.
        tenant: TenantId,
        /// The key or the registration that expired, and the date.
        why: String,
    },
}

impl OnboardError {
    /// Whether the failure may be transient: another run may succeed without a fix.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Key(error) => matches!(error, KeyError::Unavailable { .. }),
            Self::Store(StoreError::Denied(_)) | Self::Record(RecordError::Store(StoreError::Denied(_))) => false,
            Self::Store(_) | Self::Record(RecordError::Store(_)) => true,
            Self::Record(RecordError::Unreadable { .. })
            | Self::SharedKey { .. }
            | Self::UnusableKey { .. }
            | Self::Expired { .. } => false,
        }
    }
}

impl Onboarding {
    /// The ledger, which has an entry for each customer.
    pub fn ledger(&self) -> Ledger {
        Ledger::new(Arc::clone(&self.store), self.state_container.clone())
    }

    /// Performs the steps that are not done yet. Calls `done` after each step with its description.
    pub async fn run(&self, request: &OnboardRequest, mut done: impl FnMut(&str)) -> Result<Onboarded, OnboardError> {
        let (tenant, now) = (request.tenant, OffsetDateTime::now_utc());
        let (etag, record) = record::read(&*self.store, &self.state_container, tenant).await?.unzip();

        let (key, created_until) = match self.key_store.current(tenant).await? {
            Some(key) if !(request.rotate && may_be_registered(&key, record.as_ref())) => (key, None),
            _ => {
                let expires = now + request.expires_in;
                let key = self.key_store.create(tenant, expires).await?;
                done("created a key");
                (key, Some(expires))
            }
        };
        self.check_usable(tenant, &key, now)?;
        let registration = match record.filter(|record| self.is_complete(record, &key)) {
            Some(record) => record,
            None => {
                let registration = self.register(tenant, &key, created_until, etag).await?;
                done("registered the key");
                registration
            }
        };
        if let Some(expiry) = first_expiry(key.expiry, Some(&registration)).filter(|expiry| expiry.at <= now) {
            return Err(OnboardError::Expired { tenant, why: expiry.sentence(now) });
        }

        // Each customer has a container of its own, named by the tenant id, because a SAS applies to a whole container.
        let container = tenant.to_string();
        if !self.store.has_container(&container).await? {
            self.store.create_container(&container).await?;
            done("created a container");
        }
        Ok(Onboarded { key, registration, container })
    }

    /// Whether `record` states that `key` was registered with this API, and that the API answered.
    fn is_complete(&self, record: &Registration, key: &PublicKey) -> bool {
        record.thumbprint == key.thumbprint() && record.api == self.api_origin && record.registered.is_some()
    }

    /// Returns an error if the API or the customer's pipeline cannot use the key.
    fn check_usable(&self, tenant: TenantId, key: &PublicKey, now: OffsetDateTime) -> Result<(), OnboardError> {
        let why = match key.expiry {
            _ if !key.enabled => "is disabled: enable it, or `--rotate` creates a new one".to_owned(),
            _ if key.bits() != KEY_BITS => {
                format!("is not an RSA-{KEY_BITS} key, and the API accepts no other: `--rotate` creates a new one")
            }
            KeyExpiry::At(at) if at <= now => format!("expired on {}: `--rotate` creates a new one", date(at)),
            KeyExpiry::Never => {
                "has no expiry date, and a pipeline with such a key fails: set one with `az keyvault key \
                                 set-attributes --expires`, or `--rotate` creates a new key"
                    .to_owned()
            }
            KeyExpiry::At(_) | KeyExpiry::Unknown => return Ok(()),
        };
        Err(OnboardError::UnusableKey { location: self.key_store.location(tenant), why })
    }

    /// Registers the key. The record is written before the request, without the API's response, and completed after it:
    /// an interrupted run thus leaves a record of a key that may be registered.
    async fn register(
        &self,
        tenant: TenantId,
        key: &PublicKey,
        created_until: Option<OffsetDateTime>,
        etag: Option<ETag>,
    ) -> Result<Registration, OnboardError> {
        let keys = self.key_store.all().await?;
        let same = keys.iter().find(|(other, theirs)| *other != tenant && theirs.modulus == key.modulus);
        if let Some((other, _)) = same {
            return Err(OnboardError::SharedKey { tenant, other: *other });
        }
        let expires = match key.expiry {
            KeyExpiry::At(at) => Some(at),
            KeyExpiry::Never | KeyExpiry::Unknown => created_until,
        };
        let (store, state) = (&*self.store, &self.state_container);
        let mut registration =
            Registration::new(self.api_origin.clone(), key.version.clone(), key.thumbprint(), expires);
        let etag = record::write(store, state, tenant, &registration, etag).await?;
        let response = self.api.egress_partner_key(self.partner, tenant, key).await?;
        registration.registered = Some(RegistrationDates {
            created_date: response.created.unwrap_or_else(OffsetDateTime::now_utc),
            expiration_date: response.expires,
        });
        record::write(store, state, tenant, &registration, Some(etag)).await?;
        Ok(registration)
    }
}

/// Whether the API may know the key, so that `--rotate` must replace it.
///
/// A current key other than the recorded one comes from a rotation that was interrupted: it only has to be registered.
fn may_be_registered(key: &PublicKey, record: Option<&Registration>) -> bool {
    record.is_none_or(|record| record.thumbprint == key.thumbprint())
}
