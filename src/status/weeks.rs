//! Drops of each tenant by the week in which they arrived.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};
use time::{Date, Duration, OffsetDateTime, UtcOffset, macros::format_description};

use super::{Snapshot, State};
use crate::drop::TenantId;

/// The drops of tenants by week.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Weeks {
    /// The Sundays on which the weeks begin (UTC), the newest last.
    #[serde(serialize_with = "dates")]
    pub weeks: Vec<Date>,
    /// The tenants, sorted by id.
    pub tenants: Vec<TenantWeeks>,
}

/// The weeks of one tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TenantWeeks {
    /// The tenant.
    pub tenant_id: TenantId,
    /// One cell for each week, in the same order.
    pub cells: Vec<Cell>,
}

/// How many drops of a tenant arrived in a week, by state. A later success never hides a failure: all states are
/// counted, and `worst` is the most urgent one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Cell {
    /// The Sunday on which the week begins.
    #[serde(serialize_with = "date")]
    pub week: Date,
    /// Drops that are completed.
    pub completed: u32,
    /// Drops with missing rows.
    pub open: u32,
    /// Drops that are retried.
    pub retrying: u32,
    /// Drops that wait for a directory.
    pub waiting: u32,
    /// Drops that were set aside.
    pub set_aside: u32,
    /// 1 if a drop was due in this week and has not arrived.
    pub overdue: u32,
    /// The most urgent state; null if there is no drop.
    pub worst: Option<State>,
}

impl Cell {
    fn new(week: Date) -> Self {
        Self { week, completed: 0, open: 0, retrying: 0, waiting: 0, set_aside: 0, overdue: 0, worst: None }
    }

    fn add(&mut self, state: State) {
        let count = match state {
            State::Completed => &mut self.completed,
            State::Open => &mut self.open,
            State::Retrying => &mut self.retrying,
            State::Waiting => &mut self.waiting,
            State::SetAside => &mut self.set_aside,
            State::Overdue => &mut self.overdue,
        };
        *count += 1;
        self.worst = self.worst.max(Some(state));
    }
}

/// The Sunday (UTC) on which the week of `time` begins.
pub fn week_of(time: OffsetDateTime) -> Date {
    let date = time.to_offset(UtcOffset::UTC).date();
    date.saturating_sub(Duration::days(date.weekday().number_days_from_sunday().into()))
}

/// The drops that arrived in the last `count` weeks; of one tenant, or of all.
pub fn weeks(snapshot: &Snapshot, count: u16, tenant: Option<TenantId>) -> Weeks {
    let this_week = week_of(snapshot.as_of);
    let weeks: Vec<Date> =
        (0..i64::from(count)).rev().map(|age| this_week.saturating_sub(Duration::weeks(age))).collect();
    let is_shown = |id: TenantId| tenant.is_none_or(|tenant| tenant == id);
    let empty = || weeks.iter().copied().map(Cell::new).collect::<Vec<_>>();
    let customers = snapshot.customers.iter().map(|customer| customer.tenant_id).filter(|id| is_shown(*id));
    let mut tenants: BTreeMap<_, _> = customers.map(|id| (id, empty())).collect();
    for drop in snapshot.drops.iter().filter(|drop| is_shown(drop.tenant_id)) {
        let cells = tenants.entry(drop.tenant_id).or_insert_with(empty);
        let age = (this_week - week_of(drop.arrived)).whole_weeks();
        let index = i64::from(count) - 1 - age;
        if let Some(cell) = usize::try_from(index).ok().and_then(|index| cells.get_mut(index)) {
            cell.add(drop.state);
        }
    }
    let tenants = tenants.into_iter().map(|(tenant_id, cells)| TenantWeeks { tenant_id, cells }).collect();
    Weeks { weeks, tenants }
}

fn text(date: Date) -> String {
    date.format(format_description!("[year]-[month]-[day]")).expect("year, month and day can always be formatted")
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes the field by reference")]
fn date<S: Serializer>(date: &Date, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&text(*date))
}

fn dates<S: Serializer>(dates: &[Date], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(dates.iter().copied().map(text))
}
