//! The facts about each customer that a partner must watch: expiry dates, and the last drop.

use serde::Serialize;
use time::{Duration, OffsetDateTime};

use super::{DropStatus, State, interval::Expectation};
use crate::{
    date::date,
    drop::TenantId,
    ledger::{CustomerEntry, KeyState},
    onboard::expiry::WARN_BEFORE,
};

/// A customer. Unknown values are null.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Customer {
    /// The tenant.
    pub tenant_id: TenantId,
    /// Whether the tenant is paused in `TENANTS`; null if that setting was not read.
    pub paused: Option<bool>,
    /// Whether the key store has no key of the customer; null if that is unknown.
    pub key_missing: Option<bool>,
    /// Whether no registration of the key is recorded; null if that is unknown.
    pub unregistered: Option<bool>,
    /// When the customer's key expires.
    #[serde(with = "time::serde::rfc3339::option")]
    pub key_expires: Option<OffsetDateTime>,
    /// When the registration of the key with the Viva Insights API expires.
    #[serde(with = "time::serde::rfc3339::option")]
    pub registration_expires: Option<OffsetDateTime>,
    /// When the newest SAS URL of the customer's container expires.
    #[serde(with = "time::serde::rfc3339::option")]
    pub sas_expires: Option<OffsetDateTime>,
    /// When the key and its registration were last looked up.
    #[serde(with = "time::serde::rfc3339::option")]
    pub checked: Option<OffsetDateTime>,
    /// The drop that arrived last.
    pub last_drop: Option<LastDrop>,
    /// The usual time between two drops, as an ISO 8601 duration in whole days or hours, such as `P7D`.
    pub expected_every: Option<String>,
    /// The problems that a person must solve: one sentence each, with its remedy.
    pub problems: Vec<String>,
    /// The one of the problems that says that the next drop is late.
    #[serde(skip)]
    pub(super) late: Option<String>,
}

/// The drop of a customer that arrived last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct LastDrop {
    /// The drop path.
    pub path: String,
    /// Where the drop stands.
    pub state: State,
    /// When its newest blob was written.
    #[serde(with = "time::serde::rfc3339")]
    pub arrived: OffsetDateTime,
    /// Since when the drop is in this state.
    #[serde(with = "time::serde::rfc3339")]
    pub since: OffsetDateTime,
}

impl Customer {
    pub(super) fn new(
        entry: CustomerEntry,
        paused: Option<bool>,
        last_drop: Option<&DropStatus>,
        expected: Option<Expectation>,
        now: OffsetDateTime,
    ) -> Self {
        let tenant = entry.tenant;
        let last_drop = last_drop.and_then(|drop| {
            let DropStatus { state, arrived, since, .. } = *drop;
            Some(LastDrop { path: drop.path.clone()?, state, arrived, since })
        });
        let overdue = expected.filter(|expected| expected.is_overdue(now)).map(|expected| {
            format!(
                "the drop that was due on {} has not arrived: ask the customer, and run `vivadrop check`",
                date(expected.due)
            )
        });
        let rotate = format!("`vivadrop onboard --rotate --tenant {tenant}` creates and registers a new key");
        let problems = [
            expiry("the key", entry.key_expires, now, &rotate),
            expiry("the registration of the key", entry.registration_expires, now, &rotate),
            expiry(
                "the SAS URL",
                entry.sas_expires,
                now,
                &format!("`vivadrop onboard --tenant {tenant} --sas-days 365` creates a new one"),
            ),
            overdue.clone(),
        ];
        Self {
            tenant_id: tenant,
            paused,
            key_missing: entry.key.map(|key| key == KeyState::Missing),
            unregistered: entry.key.map(|key| key != KeyState::Registered),
            key_expires: entry.key_expires,
            registration_expires: entry.registration_expires,
            sas_expires: entry.sas_expires,
            checked: entry.checked,
            last_drop,
            expected_every: expected.map(|expected| iso_8601(expected.every)),
            problems: problems.into_iter().flatten().collect(),
            late: overdue,
        }
    }
}

/// A problem if `at` is past or near.
fn expiry(what: &str, at: Option<OffsetDateTime>, now: OffsetDateTime, remedy: &str) -> Option<String> {
    let at = at.filter(|at| *at - now <= WARN_BEFORE)?;
    let verb = if at <= now { "expired" } else { "expires" };
    Some(format!("{what} {verb} on {}: {remedy}", date(at)))
}

/// The duration, rounded: in days from 36 hours on, else in hours.
fn iso_8601(duration: Duration) -> String {
    let hours = (duration + Duration::minutes(30)).whole_hours();
    if hours < 36 { format!("PT{hours}H") } else { format!("P{}D", (hours + 12) / 24) }
}
