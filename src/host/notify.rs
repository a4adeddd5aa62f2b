//! The notification: a customer's pipeline says itself that a drop is there, instead of, or besides, an event.
//!
//! A Data Factory Web Activity posts `{"path":"container/folder"}` to `/api/notify`; the host checks the function key.

use std::sync::Arc;

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use tracing::{error, info};

use super::{Handler, summary_of};
use crate::{
    drop::{DropPath, discover},
    error_chain::error_chain,
    one_line::one_line,
};

/// The name of the function, unless its folder was renamed.
const FUNCTION: &str = "notify";

/// The path in a notification: whatever is posted to `notify`, or any post with a `path` and nothing of an event.
///
/// Where the host wraps the request instead of forwarding it, the notification is in `Data.req.Body`.
pub(super) fn path_in(function: &str, post: &Value) -> Option<String> {
    let wrapped = post["Data"]["req"]["Body"].as_str().and_then(|body| serde_json::from_str::<Value>(body).ok());
    let path = wrapped.as_ref().unwrap_or(post).get("path").and_then(Value::as_str);
    match path {
        Some(path) => Some(path.to_owned()),
        None => (function == FUNCTION).then(String::new),
    }
}

/// Takes the drop at `path` on: 202 when there is one, 404 when not. The answer does not wait for the work; what a host
/// that dies loses of it, the sweep finds.
pub(super) async fn notify(handler: Arc<Handler>, path: String) -> Response {
    let Ok(drop) = path.parse::<DropPath>() else {
        let why = r#"expected {"path":"container/folder"}, the folder that has metadata/JobMetadata in it"#;
        return said(StatusCode::BAD_REQUEST, &one_line(&path, 200), why);
    };
    let nothing = "there is no such drop: no job metadata in a container of DROP_CONTAINER";
    if !handler.app.guard.covers(&drop.container) {
        return said(StatusCode::NOT_FOUND, &path, nothing);
    }
    match discover::contents(&*handler.app.runner.store, &drop).await {
        Ok(Some(_)) => {}
        Ok(None) => return said(StatusCode::NOT_FOUND, &path, nothing),
        Err(error) => {
            let why = error_chain(&error);
            error!(drop.path = %drop, "cannot look for `{drop}`: {why}");
            return said(StatusCode::INTERNAL_SERVER_ERROR, &path, &why);
        }
    }
    info!(drop.path = %drop, "notified of `{drop}`");
    let working = Arc::clone(&handler);
    handler.runs.spawn(async move {
        let work = async { Ok(summary_of(&drop, &working.app.runner.run(&drop, None).await?)) };
        if let Err(why) = working.in_time(work).await {
            error!(drop.path = %drop, "`{drop}` is to be tried again, by the next sweep: {why}");
        }
    });
    said(StatusCode::ACCEPTED, &path, "taken on")
}

fn said(status: StatusCode, path: &str, message: &str) -> Response {
    (status, Json(json!({"path": path, "message": message}))).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notification_is_told_by_its_path_whatever_the_function_is_called() {
        let post = json!({"path": "datasets/run"});
        assert_eq!(path_in("notify", &post).as_deref(), Some("datasets/run"));
        assert_eq!(path_in("renamed", &post).as_deref(), Some("datasets/run"));
        assert_eq!(path_in("notify", &json!({})).as_deref(), Some(""));
        assert_eq!(path_in("function", &json!({"Data": {"blob": "x"}})), None);
    }

    #[test]
    fn a_notification_may_be_wrapped_by_the_host() {
        let post = json!({"Data": {"req": {"Method": "POST", "Body": r#"{"path":"datasets/run"}"#}}, "Metadata": {}});
        assert_eq!(path_in("notify", &post).as_deref(), Some("datasets/run"));
    }
}
