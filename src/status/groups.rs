//! Drops that are not completed, grouped by state, reason, tenant and remedy.

use std::{borrow::Cow, collections::BTreeMap};

use serde::Serialize;
use time::OffsetDateTime;

use super::{DropFilter, DropStatus, Snapshot, State};
use crate::{drop::TenantId, verdict::Reason};

/// Drops of one tenant in the same state, for the same reason and with the same remedy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Group {
    /// The state of the drops.
    pub state: State,
    /// Why they were set aside.
    pub reason: Option<Reason>,
    /// The tenant that they belong to.
    pub tenant_id: TenantId,
    /// How many drops there are.
    pub drops: u64,
    /// How many of them need a person.
    pub need_person: u64,
    /// How many rows of them were delivered.
    pub rows_delivered: u64,
    /// Since when the first of them is in this state.
    #[serde(with = "time::serde::rfc3339")]
    pub oldest: OffsetDateTime,
    /// Since when the last of them is in this state.
    #[serde(with = "time::serde::rfc3339")]
    pub newest: OffsetDateTime,
    /// Why the drop whose state changed last was set aside, or its last failure.
    pub message: Option<String>,
    /// The remedy, in one sentence.
    pub remedy: Option<Cow<'static, str>>,
}

/// Groups the drops that are not completed. The most urgent state comes first, and in it the tenant that waits longest.
pub fn groups(snapshot: &Snapshot, filter: &DropFilter) -> Vec<Group> {
    let mut groups = BTreeMap::<_, Group>::new();
    let drops = snapshot.drops.iter().filter(|drop| drop.state != State::Completed && filter.matches(drop));
    for drop in drops {
        let key = (drop.state, drop.reason.map(Reason::as_str), drop.tenant_id, drop.remedy.as_deref());
        let group = groups.entry(key).and_modify(|group| group.add(drop)).or_insert_with(|| Group::of(drop));
        group.need_person += u64::from(drop.needs_person(snapshot.as_of));
    }
    let mut groups: Vec<_> = groups.into_values().collect();
    groups.sort_by_key(|group| (std::cmp::Reverse(group.state), group.oldest));
    groups
}

impl Group {
    fn of(drop: &DropStatus) -> Self {
        Self {
            state: drop.state,
            reason: drop.reason,
            tenant_id: drop.tenant_id,
            drops: 1,
            need_person: 0,
            rows_delivered: drop.rows.unwrap_or_default(),
            oldest: drop.since,
            newest: drop.since,
            message: drop.message.clone(),
            remedy: drop.remedy.clone(),
        }
    }

    fn add(&mut self, drop: &DropStatus) {
        self.drops += 1;
        self.rows_delivered += drop.rows.unwrap_or_default();
        self.oldest = self.oldest.min(drop.since);
        if drop.since > self.newest {
            self.newest = drop.since;
            self.message.clone_from(&drop.message);
        }
    }
}
