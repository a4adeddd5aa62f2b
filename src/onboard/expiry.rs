//! When a tenant's key or its registration expires, and warnings before that.

use futures::{StreamExt, stream};
use time::{Duration, OffsetDateTime};
use tracing::warn;

use super::record;
use crate::{
    date::date,
    drop::TenantId,
    error_chain::error_chain,
    keys::key_store::{KeyExpiry, KeyStore},
    store::Store,
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
    /// The time.
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

/// The earlier of the expiry of a key and of its registration. A key store that does not record the key's expiry is
/// completed from the registration's record.
pub fn first_expiry(key: KeyExpiry, record: Option<&record::Registration>) -> Option<Expiry> {
    let key = match key {
        KeyExpiry::At(at) => Some(at),
        KeyExpiry::Never | KeyExpiry::Unknown => record.and_then(|record| record.key_expires),
    };
    let registration = record.and_then(|record| record.registered?.expiration_date);
    let expiries = [("key", key), ("registration", registration)];
    let expiries = expiries.into_iter().filter_map(|(what, at)| Some(Expiry { what, at: at? }));
    expiries.min_by_key(|expiry| expiry.at)
}

/// Logs a warning for each of `tenants` whose key or registration expires within [`WARN_BEFORE`].
///
/// Failures are logged as warnings too: they must not stop the sweep.
pub async fn warn_of_expiring_keys(
    key_store: &dyn KeyStore,
    store: &dyn Store,
    state_container: &str,
    tenants: &[TenantId],
) {
    let checks: Vec<_> =
        tenants.iter().map(|tenant| warn_if_expiring(key_store, store, state_container, *tenant)).collect();
    let all = stream::iter(checks).buffer_unordered(CONCURRENT_TENANTS).collect::<()>();
    if tokio::time::timeout(TIMEOUT, all).await.is_err() {
        warn!("cannot tell within {} s when the tenants' keys expire", TIMEOUT.as_secs());
    }
}

async fn warn_if_expiring(key_store: &dyn KeyStore, store: &dyn Store, state_container: &str, tenant: TenantId) {
    let now = OffsetDateTime::now_utc();
    match expiry_of(key_store, store, state_container, tenant).await {
        Ok(Some(expiry)) if expiry.is_near(now) => warn!(
            tenant = %tenant,
            "tenant {tenant}: {}; `vivadrop onboard --rotate --tenant {tenant}` creates and registers a new key",
            expiry.sentence(now)
        ),
        Ok(_) => {}
        Err(why) => warn!(tenant = %tenant, "cannot tell when the key of tenant {tenant} expires: {why}"),
    }
}

async fn expiry_of(
    key_store: &dyn KeyStore,
    store: &dyn Store,
    state_container: &str,
    tenant: TenantId,
) -> Result<Option<Expiry>, String> {
    let key = key_store.current(tenant).await.map_err(|error| error_chain(&error))?;
    let record = record::read(store, state_container, tenant).await.map_err(|error| error_chain(&error))?;
    // A tenant without a key gets no warning here: its drops report the missing key.
    Ok(key.and_then(|key| first_expiry(key.expiry, record.as_ref().map(|(_, record)| record))))
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
