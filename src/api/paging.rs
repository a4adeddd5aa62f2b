//! Pages of a list. A cursor is the position of the last drop of a page, not a number of drops: the next page omits no
//! unchanged drop, although other drops have changed in the meantime.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::{
    drop::TenantId,
    status::{DropStatus, Snapshot},
};

/// The number of drops on a page, if the request does not set it.
pub(super) const DEFAULT_LIMIT: u16 = 100;

/// The largest number of drops on a page.
pub(super) const MAX_LIMIT: u16 = 500;

/// The position of a drop in the list of all drops.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Cursor(#[serde(with = "time::serde::timestamp")] OffsetDateTime, Option<String>, TenantId);

impl Cursor {
    /// The cursor of the page that follows `drop`.
    fn after(drop: &DropStatus) -> Self {
        Self(drop.since, drop.path.clone(), drop.tenant_id)
    }

    /// Parses a cursor.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).ok();
        bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).ok_or("expected the `next` of an answer")
    }

    fn text(&self) -> String {
        let json = serde_json::to_vec(self).expect("texts and numbers serialize to JSON");
        BASE64_URL_SAFE_NO_PAD.encode(json)
    }
}

/// The drops of a page, and the cursor of the next page; `None` at the end.
pub(super) fn page(
    snapshot: &Snapshot,
    cursor: Option<&Cursor>,
    limit: u16,
    is_shown: impl Fn(&DropStatus) -> bool,
) -> (Vec<DropStatus>, Option<String>) {
    let start = cursor.map_or(0, |Cursor(since, path, tenant)| {
        let last = (std::cmp::Reverse(*since), path.as_deref(), *tenant);
        snapshot.drops.partition_point(|drop| Snapshot::position_of(drop) <= last)
    });
    let mut shown = snapshot.drops[start..].iter().filter(|drop| is_shown(drop));
    let drops: Vec<_> = shown.by_ref().take(limit.into()).cloned().collect();
    let next = shown.next().and(drops.last()).map(|last| Cursor::after(last).text());
    (drops, next)
}
