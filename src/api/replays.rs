//! The operations of `view` on plans and replay runs.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use futures::TryStreamExt;
use serde::Serialize;
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::{Api, problem::Problem, query::Segment};
use crate::{
    clock,
    ledger::{ReplayPlan, ReplayRun, ReplayState},
    replay,
    store::ETag,
};

/// The maximum number of replay runs in one answer.
const MAX_REPLAYS: usize = 100;

/// A replay run.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ReplayStatus {
    /// When the ledger was read.
    #[serde(with = "time::serde::rfc3339")]
    as_of: OffsetDateTime,
    /// The id of the run, which is that of its plan.
    id: String,
    /// The id of the plan.
    plan: String,
    /// The state of the run: whether it starts further drops.
    state: ReplayState,
    /// Drops of the plan.
    total: u64,
    /// After how many drops the run pauses.
    first: Option<u64>,
    /// Drops that were started.
    started: u64,
    /// Drops that were completed since they were started.
    done: u64,
    /// Drops that were set aside again, or cannot be replayed.
    failed: u64,
    /// When the run was created.
    #[serde(with = "time::serde::rfc3339")]
    created: OffsetDateTime,
    /// When the run was last changed.
    #[serde(with = "time::serde::rfc3339")]
    updated: OffsetDateTime,
}

impl From<ReplayRun> for ReplayStatus {
    fn from(run: ReplayRun) -> Self {
        let ReplayRun { id, state, total, first, started, done, failed, created, updated, .. } = run;
        let (plan, as_of) = (id.clone(), clock::whole_seconds(clock::now()));
        Self { as_of, id, plan, state, total, first, started, done, failed, created, updated }
    }
}

/// A plan.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct PlanAnswer {
    /// When the ledger was read.
    #[serde(with = "time::serde::rfc3339")]
    as_of: OffsetDateTime,
    #[serde(flatten)]
    plan: ReplayPlan,
}

impl From<ReplayPlan> for PlanAnswer {
    fn from(plan: ReplayPlan) -> Self {
        Self { as_of: plan.created, plan }
    }
}

/// The newest replay runs.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ReplaysAnswer {
    /// When the ledger was read.
    #[serde(with = "time::serde::rfc3339")]
    as_of: OffsetDateTime,
    /// The runs, the newest first; at most a hundred.
    replays: Vec<ReplayStatus>,
}

/// Shows a plan.
#[utoipa::path(
    get, path = "/api/view/v1/plans/{id}", tag = "view",
    params(("id" = String, Path, description = "The id of the plan")),
    responses(
        (status = 200, description = "The plan", body = PlanAnswer),
        (status = 404, description = "There is no such plan", body = Problem, content_type = "application/problem+json")
    )
)]
pub(super) async fn plan(State(api): State<Arc<Api>>, Segment(id): Segment) -> Result<Json<PlanAnswer>, Problem> {
    Ok(Json(find_plan(&api, &id).await?.into()))
}

/// Lists the newest replay runs.
#[utoipa::path(
    get, path = "/api/view/v1/replays", tag = "view",
    responses(
        (status = 200, description = "The replay runs", body = ReplaysAnswer)
    )
)]
pub(super) async fn replays(State(api): State<Arc<Api>>) -> Result<Json<ReplaysAnswer>, Problem> {
    let mut listing = api.ledger.replay_runs();
    let mut runs = Vec::new();
    while let Some((_, run)) = listing.try_next().await? {
        runs.push(run);
        if runs.len() == 2 * MAX_REPLAYS {
            keep_newest(&mut runs);
        }
    }
    keep_newest(&mut runs);
    let replays = runs.into_iter().map(ReplayStatus::from).collect();
    Ok(Json(ReplaysAnswer { as_of: clock::whole_seconds(clock::now()), replays }))
}

fn keep_newest(runs: &mut Vec<ReplayRun>) {
    runs.sort_by(|a, b| (b.created, &b.id).cmp(&(a.created, &a.id)));
    runs.truncate(MAX_REPLAYS);
}

/// Shows a replay run.
#[utoipa::path(
    get, path = "/api/view/v1/replays/{id}", tag = "view",
    params(("id" = String, Path, description = "The id of the plan")),
    responses(
        (status = 200, description = "The replay run", body = ReplayStatus, headers(("ETag" = String, description = "The version of the run"))),
        (status = 404, description = "There is no such replay run", body = Problem, content_type = "application/problem+json")
    )
)]
pub(super) async fn replay(State(api): State<Arc<Api>>, Segment(id): Segment) -> Result<Response, Problem> {
    let (version, run) = find_replay(&api, &id).await?;
    Ok(with_etag(StatusCode::OK, &version, run))
}

/// The plan with this id.
pub(super) async fn find_plan(api: &Api, id: &str) -> Result<ReplayPlan, Problem> {
    let plan = if replay::is_plan_id(id) { api.ledger.plan(id).await? } else { None };
    plan.ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, "there is no such plan"))
}

/// The run of the plan with this id, and its version.
pub(super) async fn find_replay(api: &Api, id: &str) -> Result<(ETag, ReplayRun), Problem> {
    let run = if replay::is_plan_id(id) { api.ledger.replay_run(id).await? } else { None };
    run.ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, "there is no such replay run"))
}

/// A response with a run and its version.
pub(super) fn with_etag(status: StatusCode, version: &ETag, run: ReplayRun) -> Response {
    let mut response = (status, Json(ReplayStatus::from(run))).into_response();
    if let Ok(etag) = HeaderValue::try_from(format!("\"{version}\"")) {
        response.headers_mut().insert(header::ETAG, etag);
    }
    response
}
