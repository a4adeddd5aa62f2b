//! The operations of `view`, which only read.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode, Uri},
};
use serde::Serialize;
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::{
    Api,
    paging::{Cursor, DEFAULT_LIMIT, MAX_LIMIT, page},
    problem::{Problem, QueryProblems},
    query::Query,
    snapshots::{CacheControl, Wanted},
};
use crate::{
    clock,
    drop::{DropPath, TenantId},
    status::{
        Customer, DropDetail, DropFilter, DropStatus, Group, Note, Weeks, groups as group, load::load_drop,
        parse_reason, parse_since, parse_state, parse_week, weeks as by_week,
    },
};

/// The maximum number of weeks in one answer.
const MAX_WEEKS: u16 = 53;

/// The number of weeks in an answer, if the request does not set it.
const DEFAULT_WEEKS: u16 = 26;

type Answer<T> = Result<Json<T>, Problem>;

/// One page of drops.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct DropsAnswer {
    /// When the ledger was read.
    #[serde(with = "time::serde::rfc3339")]
    as_of: OffsetDateTime,
    /// The drops; those whose state changed last come first.
    drops: Vec<DropStatus>,
    /// The `cursor` of the next page; null at the end.
    next: Option<String>,
    /// How many old drops are left out of all pages, because there are too many.
    omitted: u64,
}

/// A drop and its files.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct DropAnswer {
    /// When the ledger was read.
    #[serde(with = "time::serde::rfc3339")]
    as_of: OffsetDateTime,
    /// The drop.
    drop: DropDetail,
}

/// Groups of drops that are not completed.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct GroupsAnswer {
    /// When the ledger was read.
    #[serde(with = "time::serde::rfc3339")]
    as_of: OffsetDateTime,
    /// The groups, the most urgent state first.
    groups: Vec<Group>,
    /// Notes about the tenants; null if they have not been read yet.
    notes: Option<Vec<Note>>,
}

/// Drops of each tenant by week.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct WeeksAnswer {
    /// When the ledger was read.
    #[serde(with = "time::serde::rfc3339")]
    as_of: OffsetDateTime,
    #[serde(flatten)]
    weeks: Weeks,
}

/// All customers.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct CustomersAnswer {
    /// When the ledger was read.
    #[serde(with = "time::serde::rfc3339")]
    as_of: OffsetDateTime,
    /// The customers, sorted by tenant id.
    customers: Vec<Customer>,
}

/// Lists drops.
#[utoipa::path(
    get, path = "/api/view/v1/drops", tag = "view",
    params(
        CacheControl,
        ("tenant" = Option<String>, Query, format = Uuid, description = "Only drops of this tenant"),
        ("state" = Option<crate::status::State>, Query, description = "Only drops in this state"),
        ("reason" = Option<crate::verdict::Reason>, Query, description = "Only drops that were set aside for this reason"),
        ("since" = Option<String>, Query, description = "Only drops whose state changed since this time: 7d, 12h, 30m, or an RFC 3339 time"),
        ("week" = Option<String>, Query, format = Date, description = "Only drops that arrived in the week that begins on this Sunday"),
        ("limit" = Option<u16>, Query, minimum = 1, maximum = 500, description = "Drops on a page; 100 by default"),
        ("cursor" = Option<String>, Query, description = "The `next` of the page before")
    ),
    responses(
        (status = 200, description = "One page of drops", body = DropsAnswer),
        QueryProblems
    )
)]
pub(super) async fn drops(State(api): State<Arc<Api>>, headers: HeaderMap, uri: Uri) -> Answer<DropsAnswer> {
    let mut query = Query::of(&uri);
    let filter = DropFilter {
        tenant: query.take("tenant", str::parse::<TenantId>),
        state: query.take("state", parse_state),
        reason: query.take("reason", parse_reason),
        since: query.take("since", |text| parse_since(text, clock::now())),
        week: query.take("week", parse_week),
    };
    let limit = query.take_number("limit", MAX_LIMIT).unwrap_or(DEFAULT_LIMIT);
    let cursor = query.take("cursor", Cursor::parse);
    query.finish()?;
    let snapshot = api.snapshots.get(Wanted::by(&headers)).await?;
    let (drops, next) = page(&snapshot, cursor.as_ref(), limit, |drop| filter.matches(drop));
    Ok(Json(DropsAnswer { as_of: snapshot.as_of, drops, next, omitted: snapshot.omitted }))
}

/// Shows a drop and its files.
#[utoipa::path(
    get, path = "/api/view/v1/drop", tag = "view",
    params(("path" = String, Query, description = "The drop path: container/folder")),
    responses(
        (status = 200, description = "The drop", body = DropAnswer),
        (status = 404, description = "The ledger has no such drop", body = Problem, content_type = "application/problem+json"),
        QueryProblems
    )
)]
pub(super) async fn drop(State(api): State<Arc<Api>>, uri: Uri) -> Answer<DropAnswer> {
    let mut query = Query::of(&uri);
    let path = query.require("path", str::parse::<DropPath>);
    query.finish()?;
    let as_of = clock::whole_seconds(clock::now());
    let found = match path {
        Some(path) => load_drop(&api.ledger, api.tenants(), &path).await?,
        None => None,
    };
    let drop = found.ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, "the ledger has no such drop"))?;
    Ok(Json(DropAnswer { as_of, drop }))
}

/// Groups the drops that are not completed by state, reason and tenant, with notes about the tenants.
#[utoipa::path(
    get, path = "/api/view/v1/groups", tag = "view",
    params(
        CacheControl,
        ("tenant" = Option<String>, Query, format = Uuid, description = "Only drops of this tenant"),
        ("since" = Option<String>, Query, description = "Only drops whose state changed since this time: 7d, 12h, 30m, or an RFC 3339 time")
    ),
    responses(
        (status = 200, description = "The groups", body = GroupsAnswer),
        QueryProblems
    )
)]
pub(super) async fn groups(State(api): State<Arc<Api>>, headers: HeaderMap, uri: Uri) -> Answer<GroupsAnswer> {
    let mut query = Query::of(&uri);
    let filter = DropFilter {
        tenant: query.take("tenant", str::parse::<TenantId>),
        since: query.take("since", |text| parse_since(text, clock::now())),
        ..DropFilter::default()
    };
    query.finish()?;
    let snapshot = api.snapshots.get(Wanted::by(&headers)).await?;
    let is_shown = |note: &&Note| filter.tenant.is_none_or(|tenant| tenant == note.tenant_id);
    let notes = snapshot.notes.as_ref().map(|notes| notes.iter().filter(is_shown).cloned().collect());
    Ok(Json(GroupsAnswer { as_of: snapshot.as_of, groups: group(&snapshot, &filter), notes }))
}

/// Counts the drops of each tenant by the week in which they arrived, and by state.
#[utoipa::path(
    get, path = "/api/view/v1/weeks", tag = "view",
    params(
        CacheControl,
        ("weeks" = Option<u16>, Query, minimum = 1, maximum = 53, description = "The number of weeks; 26 by default"),
        ("tenant" = Option<String>, Query, format = Uuid, description = "Only this tenant")
    ),
    responses(
        (status = 200, description = "The weeks", body = WeeksAnswer),
        QueryProblems
    )
)]
pub(super) async fn weeks(State(api): State<Arc<Api>>, headers: HeaderMap, uri: Uri) -> Answer<WeeksAnswer> {
    let mut query = Query::of(&uri);
    let count = query.take_number("weeks", MAX_WEEKS).unwrap_or(DEFAULT_WEEKS);
    let tenant = query.take("tenant", str::parse::<TenantId>);
    query.finish()?;
    let snapshot = api.snapshots.get(Wanted::by(&headers)).await?;
    Ok(Json(WeeksAnswer { as_of: snapshot.as_of, weeks: by_week(&snapshot, count, tenant) }))
}

/// Lists the customers: what expires, and the last drop.
#[utoipa::path(
    get, path = "/api/view/v1/customers", tag = "view",
    params(CacheControl),
    responses(
        (status = 200, description = "The customers", body = CustomersAnswer),
        QueryProblems
    )
)]
pub(super) async fn customers(State(api): State<Arc<Api>>, headers: HeaderMap, uri: Uri) -> Answer<CustomersAnswer> {
    Query::of(&uri).finish()?;
    let snapshot = api.snapshots.get(Wanted::by(&headers)).await?;
    Ok(Json(CustomersAnswer { as_of: snapshot.as_of, customers: snapshot.customers.clone() }))
}
