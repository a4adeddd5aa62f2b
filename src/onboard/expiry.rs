//! Looks up when tenants' keys and their registrations expire, warns before that, and records the dates in the ledger.

use futures::{StreamExt, stream};
use time::{Duration, OffsetDateTime};
use tracing::warn;

use super::record;
use crate::{
    clock::whole_seconds,
    date::date,
    drop::TenantId,
    error_chain::error_chain,
    keys::key_store::{KeyExpiry, KeyStore},
    ledger::{KeyState, Ledger},
    store::Store,
    telemetry::metrics,
};

/// How long before an expiry warnings begin.
pub const WARN_BEFORE: Duration = Duration::days(30);

/// Number of tenants that are checked concurrently.
const CONCURRENT_TENANTS: usize = 8;
/// Time limit for checking all tenants.
const TIMEOUT: std::time::Duration = std::time::Duration::from_secs(60);

/// The expiry of a tenant's key or of its registration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expiry {
    /// `key` or `registration`.
    pub what: &'static str,
    /// When it expires.
    pub at: OffsetDateTime,
}

impl Expiry {
    /// Whether it is past, or less than [`WARN_BEFORE`] away.
    pub fn is_near(&self, now: OffsetDateTime) -> bool {
        self.at - now <= WARN_BEFORE
    }

    /// A sentence about the tenant, such as `its key expires on 2027-01-31`.
    pub fn sentence(&self, now: OffsetDateTime) -> String {
        let verb = if self.at <= now { "expired" } else { "expires" };
        format!("its {} {verb} on {}", self.what, date(self.at))
    }
}

/// When a key and its registration expire, as far as known.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Expiries {
    /// When the key expires.
    pub key: Option<OffsetDateTime>,
    /// When the registration expires.
    pub registration: Option<OffsetDateTime>,
}

impl Expiries {
    /// The expiry of a key and of its registration. If the key store does not say when the key expires, the record of
    /// its registration does.
    pub fn of(key: KeyExpiry, record: Option<&record::Registration>) -> Self {
        let key = match key {
            KeyExpiry::At(at) => Some(at),
            KeyExpiry::Never | KeyExpiry::Unknown => record.and_then(|record| record.key_expires),
        };
        Self { key, registration: record.and_then(|record| record.registered?.expiration_date) }
    }

    /// The earlier expiry; `None` if both are unknown.
    pub fn first(&self) -> Option<Expiry> {
        let expiries = [("key", self.key), ("registration", self.registration)];
        let expiries = expiries.into_iter().filter_map(|(what, at)| Some(Expiry { what, at: at? }));
        expiries.min_by_key(|expiry| expiry.at)
    }
}

/// The earlier of the expiry of a key and of its registration.
pub fn first_expiry(key: KeyExpiry, record: Option<&record::Registration>) -> Option<Expiry> {
    Expiries::of(key, record).first()
}

/// Looks up when the keys and registrations of `tenants` expire, records this in the ledger's entries of customers, and
/// logs a warning for each tenant with an expiry within [`WARN_BEFORE`].
///
/// Failures are logged as warnings too: they must not stop the sweep.
pub async fn check_expiries(
    key_store: &dyn KeyStore,
    store: &dyn Store,
    ledger: &Ledger,
    state_container: &str,
    tenants: &[TenantId],
) {
    let checks: Vec<_> = tenants
        .iter()
        .map(async |&tenant| {
            let result = check_expiry(key_store, store, ledger, state_container, tenant).await;
            if let Err(why) = result {
                warn!(tenant = %tenant, "cannot tell when the key of tenant {tenant} expires: {why}");
            }
        })
        .collect();
    let all = stream::iter(checks).buffer_unordered(CONCURRENT_TENANTS).collect::<()>();
    if tokio::time::timeout(TIMEOUT, all).await.is_err() {
        warn!("cannot tell within {} s when the tenants' keys expire", TIMEOUT.as_secs());
    }
}

async fn check_expiry(
    key_store: &dyn KeyStore,
    store: &dyn Store,
    ledger: &Ledger,
    state_container: &str,
    tenant: TenantId,
) -> Result<(), String> {
    let key = key_store.current(tenant).await.map_err(|error| error_chain(&error))?;
    let record = record::read(store, state_container, tenant).await.map_err(|error| error_chain(&error))?;
    // A tenant without a key gets no warning here: its drops report the missing key.
    let key_state = match (&key, &record) {
        (None, _) => KeyState::Missing,
        (Some(_), None) => KeyState::Unregistered,
        (Some(_), Some(_)) => KeyState::Registered,
    };
    let expiries = key.map(|key| Expiries::of(key.expiry, record.as_ref().map(|(_, record)| record)));
    let expiries = expiries.unwrap_or_default();
    let now = OffsetDateTime::now_utc();
    if let Some(expiry) = expiries.first() {
        metrics::set_key_expiry(tenant, expiry.at);
    }
    if let Some(expiry) = expiries.first().filter(|expiry| expiry.is_near(now)) {
        warn!(
            tenant = %tenant,
            "tenant {tenant}: {}; `vivadrop onboard --rotate --tenant {tenant}` creates and registers a new key",
            expiry.sentence(now)
        );
    }
    let recorded = ledger.update_customer(tenant, |customer| {
        customer.key_expires = expiries.key.map(whole_seconds);
        customer.registration_expires = expiries.registration.map(whole_seconds);
        customer.key = Some(key_state);
        customer.checked = Some(whole_seconds(now));
    });
    recorded.await.map_err(|error| error_chain(&error))
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::{super::record::RegistrationDates, *};

    #[test]
    fn the_earlier_of_key_and_registration_counts() {
        let (early, late) = (datetime!(2027-01-01 00:00 UTC), datetime!(2027-06-01 00:00 UTC));
        let mut record = record::Registration::new(String::new(), String::new(), String::new(), Some(late));
        assert_eq!(first_expiry(KeyExpiry::Never, None), None);
        assert_eq!(first_expiry(KeyExpiry::Unknown, Some(&record)), Some(Expiry { what: "key", at: late }));
        record.registered = Some(RegistrationDates { created_date: early, expiration_date: Some(early) });
        let registration = Expiry { what: "registration", at: early };
        assert_eq!(first_expiry(KeyExpiry::At(late), Some(&record)), Some(registration));
    }

    #[test]
    fn an_expiry_is_near_thirty_days_before() {
        let expiry = Expiry { what: "key", at: datetime!(2027-01-31 00:00 UTC) };
        assert!(!expiry.is_near(datetime!(2026-12-31 23:59 UTC)));
        assert!(expiry.is_near(datetime!(2027-01-01 00:00 UTC)));
        assert_eq!(expiry.sentence(datetime!(2027-01-01 00:00 UTC)), "its key expires on 2027-01-31");
        assert_eq!(expiry.sentence(datetime!(2027-02-01 00:00 UTC)), "its key expired on 2027-01-31");
    }
}
