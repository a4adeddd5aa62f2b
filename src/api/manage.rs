//! The operations of `manage`: they record changes, which the process and sweeps carry out.

use std::sync::Arc;

use axum::{
    Json,
    body::Body,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::Response,
};
use serde::Deserialize;
use utoipa::ToSchema;

use super::{
    Api,
    body::{if_match, read_json},
    problem::{BodyProblems, ChangeProblems, FieldError, Problem},
    query::Segment,
    replays::{PlanAnswer, ReplayStatus, find_plan, find_replay, with_etag},
    snapshots::Wanted,
};
use crate::{
    clock,
    drop::TenantId,
    ledger::{PlanFilter, ReplayRun, ReplayState},
    replay,
    status::{State as DropState, parse_since},
    verdict::Reason,
};

/// Which drops to replay: those that satisfy every condition that is given. At least one is needed.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PlanRequest {
    /// Only drops of this tenant.
    tenant: Option<TenantId>,
    /// Only drops that were set aside for this reason.
    reason: Option<Reason>,
    /// Only drops in this state.
    state: Option<DropState>,
    /// Only drops whose state changed since this time: 7d, 12h, 30m, or an RFC 3339 time.
    since: Option<String>,
    /// The largest number of drops: those that arrived first.
    #[schema(minimum = 1, maximum = 10_000)]
    limit: Option<u16>,
}

/// Which plan to carry out.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ReplayRequest {
    /// The id of the plan.
    plan: String,
    /// After how many drops the run pauses, so that a person can look at them.
    #[schema(minimum = 1, maximum = 10_000)]
    first: Option<u16>,
}

/// Plans to replay drops: freezes their list. Nothing is replayed yet.
#[utoipa::path(
    post, path = "/api/manage/v1/plans", tag = "manage",
    request_body = PlanRequest,
    responses(
        (status = 201, description = "The plan", body = PlanAnswer),
        BodyProblems
    )
)]
pub(super) async fn create_plan(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<PlanAnswer>), Problem> {
    let request: PlanRequest = read_json(&headers, body).await?;
    let mut errors = Vec::new();
    let since = request.since.map(|text| parse_since(&text, clock::now())).transpose();
    let since = since.map_err(|error| errors.push(FieldError::new("/since", error))).unwrap_or_default();
    if request.limit.is_some_and(|limit| !(1..=replay::MAX_PLANNED).contains(&limit)) {
        errors.push(FieldError::new("/limit", format!("expected a number from 1 to {}", replay::MAX_PLANNED)));
    }
    let PlanRequest { tenant, reason, state, limit, .. } = request;
    if !errors.is_empty() {
        return Err(Problem::invalid(errors));
    }
    let snapshot = api.snapshots.get(Wanted::Current).await?;
    let filter = PlanFilter { tenant, reason, state, since: since.map(clock::whole_seconds), limit };
    let plan = replay::plan(&snapshot, filter).map_err(|error| Problem::new(StatusCode::BAD_REQUEST, error))?;
    api.ledger.write_plan(&plan).await?;
    Ok((StatusCode::CREATED, Json(plan.into())))
}

/// Carries out a plan. Sweeps, and the process between them, replay its drops, a few at a time.
#[utoipa::path(
    post, path = "/api/manage/v1/replays", tag = "manage",
    request_body = ReplayRequest,
    responses(
        (status = 202, description = "The replay run", body = ReplayStatus, headers(("ETag" = String, description = "The version of the run"))),
        (status = 404, description = "There is no such plan", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "The plan is or was carried out already", body = Problem, content_type = "application/problem+json"),
        BodyProblems
    )
)]
pub(super) async fn create_replay(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let request: ReplayRequest = read_json(&headers, body).await?;
    if request.first.is_some_and(|first| !(1..=replay::MAX_PLANNED).contains(&first)) {
        let detail = format!("expected a number from 1 to {}", replay::MAX_PLANNED);
        return Err(Problem::invalid(vec![FieldError::new("/first", detail)]));
    }
    let plan = find_plan(&api, &request.plan).await?;
    let mut run = ReplayRun::new(&plan, request.first.map(u64::from));
    let Some(version) = api.ledger.write_replay_run(&mut run, None).await? else {
        return Err(Problem::new(StatusCode::CONFLICT, "the plan is or was carried out already: make a new plan"));
    };
    api.wake();
    Ok(with_etag(StatusCode::ACCEPTED, &version, run))
}

/// Lets a paused replay run start the other drops of its plan.
#[utoipa::path(
    post, path = "/api/manage/v1/replays/{id}/resume", tag = "manage",
    params(
        ("id" = String, Path, description = "The id of the plan"),
        ("If-Match" = Option<String>, Header, description = "The ETag of the run")
    ),
    responses(
        (status = 200, description = "The replay run", body = ReplayStatus, headers(("ETag" = String, description = "The version of the run"))),
        (status = 404, description = "There is no such replay run", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "The run is not paused", body = Problem, content_type = "application/problem+json"),
        ChangeProblems
    )
)]
pub(super) async fn resume_replay(
    State(api): State<Arc<Api>>,
    Segment(id): Segment,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let resumed = change(&api, &id, &headers, ReplayState::Running, &[ReplayState::Paused]).await?;
    api.wake();
    Ok(resumed)
}

/// Stops a replay run. The drops that it has started end by themselves.
#[utoipa::path(
    post, path = "/api/manage/v1/replays/{id}/cancel", tag = "manage",
    params(
        ("id" = String, Path, description = "The id of the plan"),
        ("If-Match" = Option<String>, Header, description = "The ETag of the run")
    ),
    responses(
        (status = 200, description = "The replay run", body = ReplayStatus, headers(("ETag" = String, description = "The version of the run"))),
        (status = 404, description = "There is no such replay run", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "The run has ended", body = Problem, content_type = "application/problem+json"),
        ChangeProblems
    )
)]
pub(super) async fn cancel_replay(
    State(api): State<Arc<Api>>,
    Segment(id): Segment,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    change(&api, &id, &headers, ReplayState::Cancelled, &[ReplayState::Running, ReplayState::Paused]).await
}

/// Changes the state of a run that is in one of the states `from`.
async fn change(
    api: &Api,
    id: &str,
    headers: &HeaderMap,
    to: ReplayState,
    from: &[ReplayState],
) -> Result<Response, Problem> {
    let (version, mut run) = find_replay(api, id).await?;
    let expected = if_match(headers)?;
    let has_changed = || Problem::new(StatusCode::PRECONDITION_FAILED, "the replay run has changed: load it again");
    if expected != version {
        return Err(has_changed());
    }
    if !from.contains(&run.state) {
        return Err(Problem::new(StatusCode::CONFLICT, format!("the replay run is {}", run.state.as_str())));
    }
    let version = replay::set_state(&api.ledger, &mut run, &version, to).await?.ok_or_else(has_changed)?;
    Ok(with_etag(StatusCode::OK, &version, run))
}
