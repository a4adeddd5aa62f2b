//! The HTTP API of the operator's page.
//!
//! Requests below `/api/view/v1` read (GET and HEAD). Requests below `/api/manage/v1` record changes, which runs and
//! sweeps then carry out. `/api/page` serves the page itself, which has no data. All answers are JSON; errors are
//! problem details (RFC 9457). The API checks no key: on Azure the Functions host does, and elsewhere
//! [`crate::page_server`]. An answer has positions, counts and reasons of the ledger, never rows, keys or personal
//! data.

mod attributes;
mod body;
mod imports;
mod manage;
pub mod openapi;
mod paging;
pub mod problem;
mod query;
mod replays;
mod snapshots;
mod view;

use std::sync::Arc;

use axum::{
    Router,
    extract::{Path, Request},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    middleware::{self, Next},
    response::Response,
    routing::{any, get, post, put},
};

use tokio::sync::Notify;

use self::{problem::Problem, snapshots::SnapshotCache};
use crate::{drop::tenant::Tenants, ledger::Ledger, page, run::Runner};

/// The state that all handlers share.
#[derive(Debug)]
pub struct Api {
    ledger: Ledger,
    snapshots: SnapshotCache,
    /// Runs drops; `None` if this process does not have the settings for it.
    runner: Option<Arc<Runner>>,
    /// Notified when a replay run has drops to start.
    replays: Arc<Notify>,
}

impl Api {
    /// The API over `ledger`. `tenants` are those of `TENANTS`, if it is set. Without a `runner`, imports cannot be
    /// requested. Reads nothing yet.
    pub fn new(ledger: Ledger, tenants: Option<Tenants>, runner: Option<Arc<Runner>>) -> Self {
        Self { snapshots: SnapshotCache::new(ledger.clone(), tenants), ledger, runner, replays: Arc::default() }
    }

    /// The handle that is notified when a replay run has drops to start.
    pub fn replays(&self) -> Arc<Notify> {
        Arc::clone(&self.replays)
    }

    /// The tenants of `TENANTS`, if it is set.
    fn tenants(&self) -> Option<&Tenants> {
        self.snapshots.tenants()
    }

    fn wake(&self) {
        self.replays.notify_one();
    }
}

/// The routes of page and API, with their whole paths.
pub fn routes(api: Arc<Api>) -> Router {
    let view = Router::new()
        .route("/drops", get(view::drops))
        .route("/drop", get(view::drop))
        .route("/groups", get(view::groups))
        .route("/weeks", get(view::weeks))
        .route("/customers", get(view::customers))
        .route("/attributes", get(attributes::tenants))
        .route("/attributes/{tenant}", get(attributes::tenant))
        .route("/plans/{id}", get(replays::plan))
        .route("/replays", get(replays::replays))
        .route("/replays/{id}", get(replays::replay))
        .route("/openapi.json", get(openapi::openapi));
    let manage = Router::new()
        .route("/plans", post(manage::create_plan))
        .route("/attributes/{tenant}", put(attributes::replace))
        .route("/imports", post(imports::request_import))
        .route("/replays", post(manage::create_replay))
        .route("/replays/{id}/resume", post(manage::resume_replay))
        .route("/replays/{id}/cancel", post(manage::cancel_replay));
    let data = Router::new()
        .nest("/api/view/v1", view)
        .nest("/api/manage/v1", manage)
        .route("/api/view/{*rest}", get(not_found))
        .route("/api/manage/{*rest}", any(not_found))
        .with_state(api)
        .layer(middleware::from_fn(never_cached));
    let page = Router::new()
        .route("/api/page", get(async |headers: HeaderMap| page::respond("", &headers)))
        .route("/api/page/", get(async |headers: HeaderMap| page::respond("", &headers)))
        .route(
            "/api/page/{*asset}",
            get(async |Path(asset): Path<String>, headers: HeaderMap| page::respond(&asset, &headers)),
        );
    data.merge(page).method_not_allowed_fallback(method_not_allowed)
}

async fn not_found() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "there is no such resource")
}

async fn method_not_allowed() -> Problem {
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "the resource does not have this method")
}

/// Data must not stay in a cache, and a browser must not guess its type.
async fn never_cached(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
