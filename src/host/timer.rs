//! Timer ticks: each one starts a sweep.

use std::sync::Arc;

use axum::http::StatusCode;
use serde_json::Value;
use time::Duration;
use tracing::{debug, error};

use super::handler::{Handler, Processed};
use crate::{
    app::App,
    clock,
    error_chain::error_chain,
    onboard::expiry,
    sweep::{SweepMode, sweep},
};

/// Whether the payload is that of a timerTrigger: one of its bindings has members that only timers have.
pub(super) fn is_tick(payload: &Value) -> bool {
    let is_timer = |binding: &Value| binding.get("IsPastDue").is_some() && binding.get("Schedule").is_some();
    payload.get("Data").and_then(Value::as_object).is_some_and(|data| data.values().any(is_timer))
}

/// Sweeps once.
pub(super) async fn run_sweep(handler: Arc<Handler>) -> Processed {
    let app = &handler.app;
    let work = async {
        let report = sweep(&app.runner, &app.watched, SweepMode::Timer, handler.deadline).await;
        handler.queue_due();
        check_expiries_once_a_day(app).await;
        report
    };
    let reason = match handler.until_stopped(work).await {
        Ok(Ok(report)) if report.has_no_errors() => return (StatusCode::OK, report.to_string()).into(),
        Ok(Ok(report)) => return (StatusCode::INTERNAL_SERVER_ERROR, report.to_string()).into(),
        Ok(Err(error)) => error_chain(&error),
        Err(reason) => reason,
    };
    error!("the sweep stopped: {reason}");
    (StatusCode::INTERNAL_SERVER_ERROR, reason).into()
}

/// Records when keys expire, and warns of those that expire soon. Costs some requests for each tenant.
async fn check_expiries_once_a_day(app: &App) {
    let task = format!("expiry {}", app.watched.description());
    let (ledger, tenants, now) = (&app.runner.ledger, app.runner.tenants.ids(), clock::now());
    let is_due = match ledger.last_done(&task).await {
        Ok(last) => last.is_none_or(|last| clock::is_due_again(last, Duration::days(1))),
        Err(_storage_fails) => false,
    };
    if is_due {
        let (store, state) = (&*app.runner.store, &app.watched.state_container);
        expiry::check_expiries(&*app.key_store, store, ledger, state, &tenants).await;
        if let Err(error) = ledger.record_done(&task, now).await {
            debug!("the next sweep will check the keys again: {}", error_chain(&error));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_tick_is_recognized_by_its_members() {
        let timer = json!({"Schedule": {"AdjustForDST": true}, "ScheduleStatus": null, "IsPastDue": false});
        assert!(is_tick(&json!({"Data": {"timer": timer}, "Metadata": {}})));
        assert!(!is_tick(&json!({"Data": {"blob": {"Version": "1.0"}}})));
        assert!(!is_tick(&json!([])));
    }
}
