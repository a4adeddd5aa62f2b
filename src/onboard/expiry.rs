//! What of a tenant lapses soon: its key, or the registration of it.

use futures::{StreamExt, stream};
use time::{Duration, OffsetDateTime, macros::format_description};
use tracing::warn;

use super::record::{self, RecordError};
use crate::{
    drop::TenantId,
    error_chain::error_chain,
    keys::{
        KeyError,
        custody::{Expiry, KeyCustody},
    },
    store::Store,
};

/// How long before something lapses it is spoken of.
pub const NOTICE: Duration = Duration::days(30);

/// How many tenants are looked at at once, and how long all of that may take.
const AT_ONCE: usize = 8;
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

/// When what of a tenant lapses first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lapse {
    /// The key, or its registration.
    pub what: &'static str,
    /// When.
    pub at: OffsetDateTime,
}

impl Lapse {
    /// Whether it is time to speak of it.
    pub fn is_near(&self, now: OffsetDateTime) -> bool {
        self.at - now <= NOTICE
    }

    /// What lapses when, as the end of a sentence about the tenant.
    pub fn said(&self, now: OffsetDateTime) -> String {
        let verb = if self.at <= now { "expired" } else { "expires" };
        format!("its {} {verb} on {}", self.what, day(self.at))
    }
}

/// A day, as people write it to each other.
pub fn day(time: OffsetDateTime) -> String {
    time.format(format_description!("[year]-[month]-[day]")).unwrap_or_default()
}

/// Whichever comes first of the expiry of a key, and what was recorded of its registration.
pub fn first_lapse(key: Expiry, record: Option<&record::Registration>) -> Option<Lapse> {
    let key = match key {
        Expiry::At(at) => Some(at),
        Expiry::Never | Expiry::NotKept => record.and_then(|record| record.key_expires),
    };
    let registration = record.and_then(|record| record.registered?.expiration_date);
    let lapses = [("key", key), ("registration", registration)];
    let lapses = lapses.into_iter().filter_map(|(what, at)| Some(Lapse { what, at: at? }));
    lapses.min_by_key(|lapse| lapse.at)
}

/// Logs a warning for each of `tenants` whose key or registration lapses within [`NOTICE`]. Never a reason to stop.
pub async fn warn_of(custody: &dyn KeyCustody, store: &dyn Store, state_container: &str, tenants: &[TenantId]) {
    let looks: Vec<_> = tenants.iter().map(|tenant| warn_of_one(custody, store, state_container, *tenant)).collect();
    let all = stream::iter(looks).buffer_unordered(AT_ONCE).collect::<()>();
    if tokio::time::timeout(PATIENCE, all).await.is_err() {
        warn!("when the tenants' keys expire cannot be told within {} s", PATIENCE.as_secs());
    }
}

async fn warn_of_one(custody: &dyn KeyCustody, store: &dyn Store, state_container: &str, tenant: TenantId) {
    let now = OffsetDateTime::now_utc();
    match lapse_of(custody, store, state_container, tenant).await {
        Ok(Some(lapse)) if lapse.is_near(now) => warn!(
            tenant = %tenant,
            "tenant {tenant}: {}; `vivadrop onboard --rotate --tenant {tenant}` makes and registers a new one",
            lapse.said(now)
        ),
        Ok(_) => {}
        Err(why) => warn!(tenant = %tenant, "cannot tell when the key of tenant {tenant} expires: {why}"),
    }
}

async fn lapse_of(
    custody: &dyn KeyCustody,
    store: &dyn Store,
    state_container: &str,
    tenant: TenantId,
) -> Result<Option<Lapse>, String> {
    let key = custody.current(tenant).await.map_err(|error: KeyError| error_chain(&error))?;
    let record =
        record::read(store, state_container, tenant).await.map_err(|error: RecordError| error_chain(&error))?;
    // A tenant without a key is spoken of where its drops are.
    Ok(key.and_then(|key| first_lapse(key.expiry, record.as_ref().map(|(_, record)| record))))
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::{super::record::Registered, *};

    #[test]
    fn the_first_of_key_and_registration_counts() {
        let (early, late) = (datetime!(2027-01-01 00:00 UTC), datetime!(2027-06-01 00:00 UTC));
        let mut record = record::Registration::begun(String::new(), String::new(), String::new(), Some(late));
        assert_eq!(first_lapse(Expiry::Never, None), None);
        assert_eq!(first_lapse(Expiry::NotKept, Some(&record)), Some(Lapse { what: "key", at: late }));
        record.registered = Some(Registered { created_date: early, expiration_date: Some(early) });
        assert_eq!(first_lapse(Expiry::At(late), Some(&record)), Some(Lapse { what: "registration", at: early }));
    }

    #[test]
    fn it_is_spoken_of_from_thirty_days_before() {
        let lapse = Lapse { what: "key", at: datetime!(2027-01-31 00:00 UTC) };
        assert!(!lapse.is_near(datetime!(2026-12-31 23:59 UTC)));
        assert!(lapse.is_near(datetime!(2027-01-01 00:00 UTC)));
        assert_eq!(lapse.said(datetime!(2027-01-01 00:00 UTC)), "its key expires on 2027-01-31");
        assert_eq!(lapse.said(datetime!(2027-02-01 00:00 UTC)), "its key expired on 2027-01-31");
    }
}
