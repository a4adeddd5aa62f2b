//! The gauges that the sweep sets.
//!
//! Only the process that sweeps knows their values. The platform starts the timer on one instance at a time, but not
//! always on the same one. Each value is therefore exported only as long as it is recent: otherwise one instance would
//! export an old value next to the current value of another. Dashboards take the maximum over instances.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use opentelemetry::{
    KeyValue,
    metrics::{AsyncInstrument, Meter},
};
use time::OffsetDateTime;

use super::metrics::TENANT;
use crate::{clock, drop::TenantId};

/// How long the number of unfinished drops is exported: two sweeps of the timer.
const UNFINISHED_FOR: Duration = Duration::from_secs(10 * 60);

/// How long the expiry of a key is exported: it is checked once a day.
const EXPIRY_FOR: Duration = Duration::from_secs(25 * 3600);

/// The last values.
#[derive(Debug, Default)]
pub(super) struct SweepGauges {
    with_tenants: bool,
    values: Mutex<Values>,
}

#[derive(Debug, Default)]
struct Values {
    unfinished: Option<(Instant, BTreeMap<TenantId, u64>)>,
    key_expiry: BTreeMap<TenantId, (Instant, OffsetDateTime)>,
}

impl SweepGauges {
    /// Creates the instruments. They export the values of the returned object.
    pub(super) fn register(meter: &Meter, with_tenants: bool) -> Arc<Self> {
        let gauges = Arc::new(Self { with_tenants, ..Self::default() });
        let unfinished = Arc::clone(&gauges);
        meter
            .u64_observable_gauge("vivadrop.unfinished")
            .with_unit("{drop}")
            .with_description("Drops that were not finished when the last sweep began.")
            .with_callback(move |observer| unfinished.observe_unfinished(observer))
            .build();
        let key_expiry = Arc::clone(&gauges);
        meter
            .f64_observable_gauge("vivadrop.key.expiry")
            .with_unit("s")
            .with_description("Time until a tenant's key or its registration expires; the shortest one of all tenants.")
            .with_callback(move |observer| key_expiry.observe_key_expiry(observer))
            .build();
        gauges
    }

    pub(super) fn set_unfinished(&self, drops: BTreeMap<TenantId, u64>) {
        self.values().unfinished = Some((Instant::now(), drops));
    }

    pub(super) fn set_key_expiry(&self, tenant: TenantId, expires: OffsetDateTime) {
        self.values().key_expiry.insert(tenant, (Instant::now(), expires));
    }

    fn observe_unfinished(&self, observer: &dyn AsyncInstrument<u64>) {
        let values = self.values();
        let Some((_, drops)) = values.unfinished.as_ref().filter(|(at, _)| at.elapsed() <= UNFINISHED_FOR) else {
            return;
        };
        if self.with_tenants {
            for (tenant, count) in drops {
                observer.observe(*count, &[KeyValue::new(TENANT, tenant.to_string())]);
            }
        } else {
            observer.observe(drops.values().sum(), &[]);
        }
    }

    fn observe_key_expiry(&self, observer: &dyn AsyncInstrument<f64>) {
        let (values, now) = (self.values(), clock::now());
        let recent = values.key_expiry.iter().filter(|(_, (at, _))| at.elapsed() <= EXPIRY_FOR);
        let left = recent.map(|(tenant, (_, expires))| (tenant, (*expires - now).as_seconds_f64()));
        if self.with_tenants {
            for (tenant, left) in left {
                observer.observe(left, &[KeyValue::new(TENANT, tenant.to_string())]);
            }
        } else if let Some(shortest) = left.map(|(_, left)| left).reduce(f64::min) {
            observer.observe(shortest, &[]);
        }
    }

    fn values(&self) -> MutexGuard<'_, Values> {
        self.values.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
