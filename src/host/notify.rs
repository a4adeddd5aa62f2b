//! Notifications: a customer's pipeline announces a drop itself, in place of events or in addition to them.
//!
//! A Data Factory Web Activity posts `{"path":"container/folder"}` to `/api/notify`. The host checks the function key.

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use tracing::{error, info, warn};

use super::{handler::Handler, run_queue::Pushed};
use crate::{
    drop::{DropPath, discover, tenant::Refusal},
    error_chain::error_chain,
    json::bounded_value,
    one_line::one_line,
};

/// The name of the function, unless its folder was renamed.
const FUNCTION: &str = "notify";

/// The `path` of a notification; `None` if the payload is not a notification.
///
/// Every payload with a `path` is a notification, and so is every payload for the function `notify`, even without a
/// `path`: the result is then an empty path. If the host wraps the request instead of forwarding it, the body is in
/// `Data.req.Body`.
pub(super) fn notification_path(function: &str, payload: &Value) -> Option<String> {
    let wrapped = payload["Data"]["req"]["Body"].as_str().and_then(|body| bounded_value(body.as_bytes()).ok());
    let path = wrapped.as_ref().unwrap_or(payload).get("path").and_then(Value::as_str);
    match path {
        Some(path) => Some(path.to_owned()),
        None => (function == FUNCTION).then(String::new),
    }
}

/// Queues the drop at `path` until its tenant has a turn: 202 if the drop exists, 404 if not, 503 if too many drops
/// wait.
///
/// The response does not wait for the run. If the process ends before the run, a sweep finds the drop when it next
/// lists the containers. Further notifications of a drop that waits cause no further run; those of a drop that runs
/// cause one more run afterwards.
pub(super) async fn notify(handler: &Handler, path: String) -> Response {
    let Ok(drop) = path.parse::<DropPath>() else {
        let message = r#"expected {"path":"container/folder"}: the folder that contains metadata/JobMetadata"#;
        return respond(StatusCode::BAD_REQUEST, &one_line(&path, 200), message);
    };
    let no_such_drop = "there is no such drop: expected a folder with job metadata in a container of DROP_CONTAINER";
    if !handler.app.watched.contains(&drop.container) {
        return respond(StatusCode::NOT_FOUND, &path, no_such_drop);
    }
    if handler.queue.repeat(&drop) {
        return respond(StatusCode::ACCEPTED, &path, "accepted");
    }
    let found = {
        let _permit = handler.lookups.acquire().await.expect("the semaphore is never closed");
        discover::has_job_metadata(&*handler.app.runner.store, &drop).await
    };
    match found {
        Ok(true) => {}
        Ok(false) => return respond(StatusCode::NOT_FOUND, &path, no_such_drop),
        Err(error) => {
            let reason = error_chain(&error);
            error!(drop.path = %drop, "cannot look for the job metadata of `{drop}`: {reason}");
            return respond(StatusCode::INTERNAL_SERVER_ERROR, &path, &reason);
        }
    }
    let Some(&tenant) = handler.app.watched.tenants.possible_owners(&drop).first() else {
        warn!(drop.path = %drop, "did not admit a notification of `{drop}`: {}", Refusal::NoTenantMayWrite);
        return respond(StatusCode::NOT_FOUND, &path, no_such_drop);
    };
    match handler.queue.push(tenant, drop.clone(), None) {
        Pushed::Waiting => info!(drop.path = %drop, "received a notification of `{drop}`"),
        Pushed::Repeated => {}
        Pushed::Full => {
            let message = "too many drops are waiting already: repeat the request later";
            warn!(drop.path = %drop, "did not accept a notification of `{drop}`: {message}");
            return respond(StatusCode::SERVICE_UNAVAILABLE, &path, message);
        }
    }
    respond(StatusCode::ACCEPTED, &path, "accepted")
}

fn respond(status: StatusCode, path: &str, message: &str) -> Response {
    let (path, message) = (one_line(path, 2_000), one_line(message, 2_000));
    (status, Json(json!({"path": path, "message": message}))).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_with_a_path_is_a_notification_whatever_the_function_is_called() {
        let payload = json!({"path": "datasets/run"});
        assert_eq!(notification_path("notify", &payload).as_deref(), Some("datasets/run"));
        assert_eq!(notification_path("renamed", &payload).as_deref(), Some("datasets/run"));
        assert_eq!(notification_path("notify", &json!({})).as_deref(), Some(""));
        assert_eq!(notification_path("function", &json!({"Data": {"blob": "x"}})), None);
    }

    #[test]
    fn a_notification_may_be_wrapped_by_the_host() {
        let request = json!({"Method": "POST", "Body": r#"{"path":"datasets/run"}"#});
        let payload = json!({"Data": {"req": request}, "Metadata": {}});
        assert_eq!(notification_path("notify", &payload).as_deref(), Some("datasets/run"));
    }
}
