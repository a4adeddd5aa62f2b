//! The metrics. Their values are recorded per run, file, batch and request.
//!
//! Cardinality is bounded: attributes have a fixed set of values, or values from the settings (tenants, host names).

use std::{sync::Arc, time::Duration};

use opentelemetry::{
    KeyValue, Value,
    metrics::{Counter, Histogram, Meter},
};
use time::OffsetDateTime;

use super::{export::telemetry, sweep_gauges::SweepGauges};
use crate::{drop::TenantId, message::Message, verdict::Reason};

/// The buckets of `vivadrop.delivery.duration`, in seconds: up to the default of `DELIVERY_PATIENCE`.
const DELIVERY_BUCKETS: [f64; 13] = [0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 240.0];

/// The buckets of `vivadrop.drop.age`, in seconds: from 10 seconds to the default of `GIVE_UP_AFTER`, 3 days.
const AGE_BUCKETS: [f64; 12] =
    [10.0, 30.0, 60.0, 120.0, 300.0, 900.0, 1_800.0, 3_600.0, 10_800.0, 43_200.0, 86_400.0, 259_200.0];

/// The buckets of `http.client.request.duration`, by its convention, and up to the time limits of requests.
const REQUEST_BUCKETS: [f64; 16] =
    [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 30.0, 60.0];

/// The attribute with the id of a tenant.
pub(super) const TENANT: &str = "vivadrop.tenant.id";

/// The instruments.
pub(super) struct Metrics {
    /// `TELEMETRY_TENANTS`.
    with_tenants: bool,
    rows: Counter<u64>,
    bytes: Counter<u64>,
    messages: Counter<u64>,
    delivery_duration: Histogram<f64>,
    drops: Counter<u64>,
    drop_age: Histogram<f64>,
    request_duration: Histogram<f64>,
    sweep: Arc<SweepGauges>,
}

impl Metrics {
    /// Creates the instruments. Values carry tenant ids only if `with_tenants` is set.
    pub(super) fn new(meter: &Meter, with_tenants: bool) -> Self {
        let counter =
            |name, unit, description| meter.u64_counter(name).with_unit(unit).with_description(description).build();
        let seconds = |name, buckets: &[f64], description| {
            let builder = meter.f64_histogram(name).with_unit("s").with_description(description);
            builder.with_boundaries(buckets.to_vec()).build()
        };
        Self {
            with_tenants,
            rows: counter("vivadrop.rows", "{row}", "Rows that were delivered, and bad rows."),
            bytes: counter(
                "vivadrop.bytes",
                "By",
                "Bytes of data files that were read, and of messages that were delivered.",
            ),
            messages: counter("vivadrop.messages", "{message}", "Messages, by the result of their delivery."),
            delivery_duration: seconds(
                "vivadrop.delivery.duration",
                &DELIVERY_BUCKETS,
                "Time from the first try to deliver a message to its result.",
            ),
            drops: counter("vivadrop.drops", "{drop}", "Runs of drops that ended, by the state of the drop."),
            drop_age: seconds(
                "vivadrop.drop.age",
                &AGE_BUCKETS,
                "Time from the arrival of the job metadata to the end of the drop.",
            ),
            request_duration: seconds(
                "http.client.request.duration",
                &REQUEST_BUCKETS,
                "Duration of HTTP client requests.",
            ),
            sweep: SweepGauges::register(meter, with_tenants),
        }
    }

    /// The attributes of a value about a tenant.
    fn attributes<const N: usize>(
        &self,
        tenant: Option<TenantId>,
        others: [(&'static str, Value); N],
    ) -> Vec<KeyValue> {
        let tenant = tenant.filter(|_| self.with_tenants).map(|tenant| KeyValue::new(TENANT, tenant.to_string()));
        let others = others.into_iter().map(|(name, value)| KeyValue::new(name, value));
        others.chain(tenant).collect()
    }
}

/// The metrics of this process; `None` if they are not exported.
fn metrics() -> Option<&'static Metrics> {
    telemetry().and_then(|telemetry| telemetry.metrics.as_ref())
}

/// Counts the rows of a batch that was acknowledged.
pub(crate) fn count_rows(tenant: TenantId, delivered: u64, bad: u64) {
    let Some(metrics) = metrics() else { return };
    for (count, outcome) in [(delivered, "delivered"), (bad, "bad")] {
        if count > 0 {
            metrics.rows.add(count, &metrics.attributes(Some(tenant), [("vivadrop.outcome", outcome.into())]));
        }
    }
}

/// Counts bytes that were read of a data file.
pub(crate) fn count_bytes_read(tenant: TenantId, bytes: usize) {
    let Some(metrics) = metrics() else { return };
    metrics.bytes.add(bytes as u64, &metrics.attributes(Some(tenant), [("vivadrop.direction", "read".into())]));
}

/// Records the result of the delivery of a message, which took `duration` with all tries.
pub(crate) fn record_delivery(message: &Message, outcome: &'static str, duration: Duration) {
    let Some(metrics) = metrics() else { return };
    let tenant = message.tenant;
    let (kind, outcome_value) = (Value::from(message.kind), Value::from(outcome));
    let attributes = metrics.attributes(tenant, [("vivadrop.message.type", kind), ("vivadrop.outcome", outcome_value)]);
    metrics.messages.add(1, &attributes);
    metrics.delivery_duration.record(duration.as_secs_f64(), &attributes);
    if outcome == DELIVERED {
        let direction = [("vivadrop.direction", DELIVERED.into())];
        metrics.bytes.add(message.body.len() as u64, &metrics.attributes(tenant, direction));
    }
}

/// The outcome of a message that was acknowledged, and the direction of its bytes.
pub(crate) const DELIVERED: &str = "delivered";

/// Counts a run that ended, by the state of its drop.
pub(crate) fn count_run(tenant: Option<TenantId>, outcome: &'static str, reason: Option<Reason>) {
    let Some(metrics) = metrics() else { return };
    let mut attributes = metrics.attributes(tenant, [("vivadrop.outcome", outcome.into())]);
    attributes.extend(reason.map(|reason| KeyValue::new("vivadrop.reason", reason.as_str())));
    metrics.drops.add(1, &attributes);
}

/// Records the age of a drop that has ended.
pub(crate) fn record_drop_age(tenant: TenantId, outcome: &'static str, age: time::Duration) {
    let Some(metrics) = metrics() else { return };
    let attributes = metrics.attributes(Some(tenant), [("vivadrop.outcome", outcome.into())]);
    metrics.drop_age.record(age.as_seconds_f64().max(0.0), &attributes);
}

/// Records an HTTP request. `attributes` are those of its convention.
pub(super) fn record_request(duration: Duration, attributes: &[KeyValue]) {
    let Some(metrics) = metrics() else { return };
    metrics.request_duration.record(duration.as_secs_f64(), attributes);
}

/// Whether metrics are exported.
pub(super) fn are_exported() -> bool {
    metrics().is_some()
}

/// Sets the number of unfinished drops by tenant, as the sweep has found them.
pub(crate) fn set_unfinished(drops: impl IntoIterator<Item = (TenantId, u64)>) {
    if let Some(metrics) = metrics() {
        metrics.sweep.set_unfinished(drops.into_iter().collect());
    }
}

/// Sets when the key of a tenant, or its registration, expires.
pub(crate) fn set_key_expiry(tenant: TenantId, expires: OffsetDateTime) {
    if let Some(metrics) = metrics() {
        metrics.sweep.set_key_expiry(tenant, expires);
    }
}
