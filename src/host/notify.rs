//! Notifications: a customer's pipeline announces a drop itself, in place of events or in addition to them.
//!
//! A Data Factory Web Activity posts `{"path":"container/folder"}` to `/api/notify`. The host checks the function key.

use std::sync::Arc;

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use tracing::{error, info, warn};

use super::{handler::Handler, run_queue::Pushed};
use crate::{
    drop::{DropPath, discover},
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

/// Lets the drop at `path` wait for a turn of its tenant: 202 if the drop exists, 404 if not.
///
/// The response does not wait for the run. If the process dies before, the next sweep finds the drop. A drop that is
/// notified while it waits has one run; one that is notified during its run is run once more afterwards. If too many drops
/// wait, the answer is 503.
pub(super) async fn notify(handler: Arc<Handler>, path: String) -> Response {
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
    match discover::list_contents(&*handler.app.runner.store, &drop, handler.app.runner.limits.max_files).await {
        Ok(Some(_)) => {}
        Ok(None) => return respond(StatusCode::NOT_FOUND, &path, no_such_drop),
        Err(error) => {
            let reason = error_chain(&error);
            error!(drop.path = %drop, "cannot list `{drop}`: {reason}");
            return respond(StatusCode::INTERNAL_SERVER_ERROR, &path, &reason);
        }
    }
    let Some(&tenant) = handler.app.watched.tenants.possible_owners(&drop).first() else {
        warn!(drop.path = %drop, "did not admit a notification of `{drop}`: no tenant of TENANTS may write there");
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
