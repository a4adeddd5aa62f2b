//! Snapshots, and what is derived from them.

use time::{
    Duration,
    macros::{date, datetime},
};
use uuid::Uuid;

use super::*;
use crate::{
    drop::{DropPath, discover::ListingSummary},
    ledger::{DropState, ListEntry},
    status::{DropFilter, groups, weeks},
    verdict::Reason,
};

const NOW: OffsetDateTime = datetime!(2026-11-25 12:00 UTC);
const SUNDAY: OffsetDateTime = datetime!(2026-11-22 03:00 UTC);

fn tenant(number: u128) -> TenantId {
    TenantId(Uuid::from_u128(number))
}

fn entry(tenant: TenantId, state: DropState, reason: Option<Reason>, arrived: OffsetDateTime) -> ListEntry {
    ListEntry {
        path: DropPath::new("datasets", format!("{tenant}/{}-{}", arrived.unix_timestamp(), state as u8)),
        tenant,
        state,
        rows: 10,
        expected_rows: None,
        files_done: 0,
        files_set_aside: 0,
        files: 1,
        since: arrived + Duration::HOUR,
        attempts: 0,
        next_try: None,
        reason,
        message: None,
        is_over: true,
        listing: ListingSummary { blobs: 1, newest: arrived, digest: 0 },
    }
}

fn tenants(ids: &[TenantId]) -> Tenants {
    Tenants::new(ids.iter().map(|&tenant| (tenant, None)))
}

fn snapshot(entries: impl IntoIterator<Item = ListEntry>, ids: Option<&[TenantId]>) -> Snapshot {
    let mut builder = SnapshotBuilder::new(NOW);
    entries.into_iter().for_each(|entry| builder.add_drop(entry.into()));
    builder.finish(ids.map(tenants).as_ref())
}

/// Weekly drops, the last one `weeks_ago`.
fn weekly(tenant: TenantId, weeks_ago: i64) -> impl Iterator<Item = ListEntry> {
    (weeks_ago..weeks_ago + 5)
        .map(move |week| entry(tenant, DropState::Completed, None, SUNDAY - Duration::weeks(week)))
}

#[test]
fn a_later_success_does_not_hide_a_failure_of_the_same_week() {
    let drops = [
        entry(tenant(1), DropState::SetAside, Some(Reason::Damaged), SUNDAY),
        entry(tenant(1), DropState::Completed, None, SUNDAY + Duration::DAY),
        entry(tenant(1), DropState::Completed, None, SUNDAY - Duration::DAY),
    ];
    let weeks = weeks(&snapshot(drops, None), 2, None);
    assert_eq!(weeks.weeks, [date!(2026 - 11 - 15), date!(2026 - 11 - 22)]);
    let [before, last] = &weeks.tenants[0].cells[..] else { panic!("two weeks") };
    assert_eq!((before.completed, before.worst), (1, Some(State::Completed)));
    assert_eq!((last.completed, last.set_aside, last.worst), (1, 1, Some(State::SetAside)));
}

/// The status of an unfinished drop of tenant 1 in `state`, with the tenants `ids`.
fn unfinished(state: DropState, next_try: Option<OffsetDateTime>, message: &str, ids: &[TenantId]) -> DropStatus {
    let entry = ListEntry { next_try, message: Some(message.into()), ..entry(tenant(1), state, None, SUNDAY) };
    snapshot([entry], Some(ids)).drops.remove(0)
}

#[test]
fn a_waiting_drop_says_what_it_waits_for_and_nothing_else() {
    let [paused, joined] = [None, Some(NOW + Duration::HOUR)]
        .map(|next_try| unfinished(DropState::Waiting, next_try, "", &[tenant(1)]).remedy.unwrap());
    assert!(paused.contains("pause") && !paused.contains("directory"), "{paused}");
    assert!(joined.contains("directory") && !joined.contains("pause"), "{joined}");
}

#[test]
fn an_unfinished_drop_of_a_tenant_that_was_removed_from_tenants_says_that_sweeps_skip_it() {
    let paused = unfinished(DropState::Waiting, None, "the tenant is paused in TENANTS", &[tenant(2)]);
    assert_eq!(paused.message.as_deref(), Some("the tenant is not in TENANTS"));
    let retried = unfinished(DropState::Retrying, Some(NOW), "the store did not answer", &[tenant(2)]);
    assert_eq!(retried.message.as_deref(), Some("the store did not answer"));
    for drop in [paused, retried, unfinished(DropState::Open, None, "", &[tenant(2)])] {
        let remedy = drop.remedy.unwrap();
        assert!(remedy.contains("sweeps skip the drop") && remedy.contains("TENANTS"), "{remedy}");
    }
    let damaged = entry(tenant(1), DropState::SetAside, Some(Reason::Damaged), SUNDAY);
    let damaged = snapshot([damaged], Some(&[tenant(2)])).drops.remove(0);
    assert!(damaged.remedy.unwrap().contains("Ask the customer for the drop again"));
}

#[test]
fn an_unfinished_drop_of_a_paused_tenant_says_that_it_waits_for_the_end_of_the_pause() {
    let tenants = tenants(&[tenant(1)]).with_paused([tenant(1)].into());
    for (state, next_try) in
        [(DropState::Waiting, Some(NOW)), (DropState::Retrying, Some(NOW)), (DropState::Open, None)]
    {
        let entry = ListEntry { next_try, ..entry(tenant(1), state, None, SUNDAY) };
        let mut drop = DropStatus::from(entry);
        drop.compare_with(&tenants);
        assert!(drop.remedy.unwrap().contains("pause"), "{state:?}");
        assert!(state != DropState::Waiting || drop.next_try.is_none(), "no directory ends the wait");
    }
}

#[test]
fn a_tenant_is_overdue_only_if_it_is_configured() {
    let drops = || weekly(tenant(1), 2).chain(weekly(tenant(2), 0));
    let is_overdue = |drop: &DropStatus| drop.state == State::Overdue;
    let both = snapshot(drops(), None);
    let overdue: Vec<_> = both.drops.iter().filter(|drop| is_overdue(drop)).collect();
    assert_eq!(
        overdue.iter().map(|drop| (drop.tenant_id, drop.since)).collect::<Vec<_>>(),
        [(tenant(1), SUNDAY - Duration::WEEK)]
    );
    assert_eq!(both.customers[0].expected_every.as_deref(), Some("P7D"));
    assert_eq!(both.customers[0].problems.len(), 1);
    let configured = snapshot(drops(), Some(&[tenant(2), tenant(3)]));
    assert!(!configured.drops.iter().any(is_overdue));
    let customers: Vec<_> = configured.customers.iter().map(|customer| customer.tenant_id).collect();
    assert_eq!(customers, [tenant(2), tenant(3)], "a customer that has never dropped is shown");
}

#[test]
fn groups_have_the_most_urgent_state_first_and_count_rows() {
    let drops = [
        entry(tenant(1), DropState::Retrying, None, SUNDAY),
        entry(tenant(2), DropState::SetAside, Some(Reason::NoKey), SUNDAY),
        entry(tenant(2), DropState::SetAside, Some(Reason::NoKey), SUNDAY - Duration::DAY),
        entry(tenant(2), DropState::SetAside, Some(Reason::Damaged), SUNDAY),
        entry(tenant(2), DropState::Completed, None, SUNDAY),
    ];
    let groups = groups(&snapshot(drops, None), &DropFilter::default());
    let found: Vec<_> =
        groups.iter().map(|group| (group.state, group.reason, group.drops, group.rows_delivered)).collect();
    let expected = [
        (State::SetAside, Some(Reason::NoKey), 2, 20),
        (State::SetAside, Some(Reason::Damaged), 1, 10),
        (State::Retrying, None, 1, 10),
    ];
    assert_eq!(found, expected);
    assert!(groups.iter().all(|group| group.remedy.is_some()));
}

#[test]
fn customers_report_what_expires_within_thirty_days() {
    let mut builder = SnapshotBuilder::new(NOW);
    let near = Some(NOW + Duration::days(20));
    let customer = CustomerEntry { key_expires: near, sas_expires: Some(NOW), ..CustomerEntry::new(tenant(1)) };
    builder.add_customer(customer);
    builder
        .add_customer(CustomerEntry { key_expires: Some(NOW + Duration::days(31)), ..CustomerEntry::new(tenant(2)) });
    let snapshot = builder.finish(Some(&tenants(&[tenant(1), tenant(2)])));
    let [key, sas] = &snapshot.customers[0].problems[..] else { panic!("{:?}", snapshot.customers[0].problems) };
    assert!(key.starts_with("the key expires on 2026-12-15: `vivadrop onboard --rotate"), "{key}");
    assert!(sas.starts_with("the SAS URL expired on 2026-11-25"), "{sas}");
    assert!(snapshot.customers[1].problems.is_empty());
}

#[test]
fn a_customer_is_paused_if_the_setting_says_so_and_unknown_without_it() {
    let paused = tenants(&[tenant(1), tenant(2)]).with_paused([tenant(2)].into());
    let of = |tenants: Option<&Tenants>| {
        let mut builder = SnapshotBuilder::new(NOW);
        weekly(tenant(2), 0).for_each(|entry| builder.add_drop(entry.into()));
        builder.finish(tenants).customers.iter().map(|customer| customer.paused).collect::<Vec<_>>()
    };
    assert_eq!(of(Some(&paused)), [Some(false), Some(true)]);
    assert_eq!(of(None), [None]);
}

#[test]
fn memory_is_bounded_and_the_oldest_completed_drops_are_left_out_first() {
    let mut builder = SnapshotBuilder::new(NOW);
    builder.max_memory = 100_000;
    builder.add_drop(entry(tenant(1), DropState::SetAside, Some(Reason::Damaged), SUNDAY - Duration::weeks(90)).into());
    for hours in 0..1_000 {
        builder.add_drop(entry(tenant(1), DropState::Completed, None, SUNDAY - Duration::hours(hours)).into());
    }
    assert!(builder.memory <= 100_000);
    let snapshot = builder.finish(None);
    let shown = snapshot.drops.iter().filter(|drop| drop.path.is_some()).count();
    assert_eq!(shown as u64 + snapshot.omitted, 1_001);
    assert!(snapshot.omitted > 500, "{}", snapshot.omitted);
    assert!(snapshot.drops.iter().any(|drop| drop.state == State::SetAside));
    assert!(snapshot.drops.iter().any(|drop| drop.arrived == SUNDAY), "the newest drop is kept");
}

#[test]
fn drops_are_sorted_by_the_time_of_their_last_change() {
    let drops = (0..5).map(|day| entry(tenant(1), DropState::Open, None, SUNDAY - Duration::days(day * 3 % 5)));
    let since: Vec<_> = snapshot(drops, None).drops.iter().map(|drop| drop.since).collect();
    assert!(since.is_sorted_by(|a, b| a >= b));
}

#[test]
fn directories_that_arrive_do_not_hide_that_the_weekly_drop_is_overdue() {
    let directory = |arrived: OffsetDateTime| {
        let path = DropPath::new("datasets", format!("{}/AADUser/{}", arrived.unix_timestamp(), tenant(1)));
        ListEntry { path, ..entry(tenant(1), DropState::Completed, None, arrived) }
    };
    let directories = (0..7).map(|week| directory(SUNDAY - Duration::weeks(week)));
    let found = snapshot(weekly(tenant(1), 2).chain(directories.clone()), None);
    assert!(found.drops.iter().any(|drop| drop.state == State::Overdue));
    let only_directories = snapshot(directories.skip(2), None);
    assert!(only_directories.drops.iter().any(|drop| drop.state == State::Overdue), "they are late as well");
}
