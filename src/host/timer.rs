//! The timer: each tick is a sweep.

use std::sync::Arc;

use axum::http::StatusCode;
use serde_json::Value;
use tracing::error;

use super::Handler;
use crate::{error_chain::error_chain, onboard::expiry, sweep::sweep};

/// Whether a post is a tick of a timer: one of its bindings has the members that the host gives to timers alone.
pub(super) fn is_tick(post: &Value) -> bool {
    let bindings = post.get("Data").and_then(Value::as_object);
    bindings
        .is_some_and(|data| data.values().any(|held| held.get("IsPastDue").is_some() && held.get("Schedule").is_some()))
}

/// Sweeps; says what was found, in one line. The timer comes again by itself, so a sweep that fails is no invocation to be
/// repeated at once.
pub(super) async fn sweep_now(handler: Arc<Handler>) -> (StatusCode, String) {
    let app = &handler.app;
    let (containers, state) = (app.guard.containers(), &app.guard.state_container);
    let sweeping = async {
        let swept = sweep(&app.runner, &containers, state, handler.deadline / 2).await;
        expiry::warn_of_expiring_keys(&*app.key_store, &*app.runner.store, state, &app.runner.tenants.ids()).await;
        Ok(swept)
    };
    match handler.in_time(sweeping).await {
        Ok(Ok(report)) if report.failed.is_empty() => (StatusCode::OK, report.to_string()),
        Ok(Ok(report)) => (StatusCode::INTERNAL_SERVER_ERROR, report.to_string()),
        Ok(Err(error)) => {
            let why = error_chain(&error);
            error!("the sweep stopped: {why}");
            (StatusCode::INTERNAL_SERVER_ERROR, why)
        }
        Err(why) => {
            error!("the sweep stopped: {why}");
            (StatusCode::INTERNAL_SERVER_ERROR, why)
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_tick_is_told_by_what_it_holds() {
        let timer = json!({"Schedule": {"AdjustForDST": true}, "ScheduleStatus": null, "IsPastDue": false});
        assert!(is_tick(&json!({"Data": {"timer": timer}, "Metadata": {}})));
        assert!(!is_tick(&json!({"Data": {"blob": {"Version": "1.0"}}})));
        assert!(!is_tick(&json!([])));
    }
}
