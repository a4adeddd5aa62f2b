//! Processes invocations: finds the drop of each blob and runs it.

use std::{
    future::Future,
    sync::{Arc, OnceLock},
    time::Duration,
};

use axum::http::StatusCode;
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep_until},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{error, info, warn};

use super::{body::BodyReader, event::Invocation, notified::Notified};
use crate::{
    app::App,
    date::date_and_time,
    drop::{DropPath, containers::UrlTarget, discover},
    error_chain::error_chain,
    run::{Outcome, RunError, Trigger},
    store::BlobPath,
};

/// The number of events that are processed at once; further events wait for a permit. A sweep runs as many drops beside
/// them. This bounds the memory of the process to that of one file, times twice this number.
const MAX_CONCURRENT_EVENTS: usize = 4;

/// Why work fails when the process stops.
const STOPPING: &str = "the process is stopping";

/// The state that all requests share.
pub(super) struct Handler {
    pub(super) app: App,
    /// Time limit of one unit of work, including the wait for a permit.
    pub(super) deadline: Duration,
    permits: Semaphore,
    /// Receives the bodies of requests.
    pub(super) bodies: BodyReader,
    /// The drops that notifications have announced.
    pub(super) notified: Notified,
    /// Cancelled when the process is to stop: no more work begins.
    stop: CancellationToken,
    /// Cancelled some seconds later: running work fails.
    cancel_work: CancellationToken,
    /// The tasks that process invocations.
    pub(super) tasks: TaskTracker,
}

impl Handler {
    /// A handler that begins no more work once `stop` is cancelled, and whose work fails once `cancel_work` is.
    pub(super) fn new(
        app: App,
        deadline: Duration,
        stop: CancellationToken,
        cancel_work: CancellationToken,
        tasks: TaskTracker,
    ) -> Self {
        let permits = Semaphore::new(MAX_CONCURRENT_EVENTS);
        let (bodies, notified) = (BodyReader::default(), Notified::default());
        Self { app, deadline, permits, bodies, notified, stop, cancel_work, tasks }
    }

    /// Processes all blobs that the invocation names. Returns the status of the response and a summary.
    pub(super) async fn process(self: Arc<Self>, function: String, invocation: Invocation) -> (StatusCode, String) {
        if invocation.deferred_binding_off {
            warn!(
                function,
                "the host sent the blob's content: set `\"properties\": {{\"supportsDeferredBinding\": true}}` on the \
                 trigger, or the host loads every blob into its memory"
            );
        }
        for ignored in &invocation.ignored {
            info!(function, "ignored {ignored}");
        }
        let mut summaries = Vec::new();
        let mut status = StatusCode::OK;
        for url in &invocation.created {
            let blob = match self.app.watched.classify(url.as_str()) {
                UrlTarget::Watched(blob) => blob,
                UrlTarget::OwnState => continue,
                UrlTarget::Refused(reason) => {
                    warn!(function, "refused the event of `{url}`: {reason}");
                    summaries.push(format!("refused: {reason}"));
                    continue;
                }
            };
            let found = OnceLock::new();
            match self.with_limits(self.process_blob(&blob, &found)).await {
                Ok(summary) => summaries.push(summary),
                Err(reason) => {
                    let path = found.get().map(DropPath::to_string);
                    error!(function, drop.path = path, "`{url}` will be retried: {reason}");
                    status = StatusCode::INTERNAL_SERVER_ERROR;
                    summaries.push(format!("will be retried: {reason}"));
                }
            }
        }
        if summaries.is_empty() {
            summaries.push("nothing to do".into());
        }
        (status, summaries.join("; "))
    }

    /// The time limit of one run: what is left of the deadline is for recording that the run was not finished.
    pub(super) fn run_limit(&self) -> Duration {
        self.deadline.mul_f64(0.95)
    }

    /// Runs `work` without a permit; fails when the process stops.
    pub(super) async fn until_stopped<T>(&self, work: impl Future<Output = T>) -> Result<T, String> {
        tokio::select! {
            result = work => Ok(result),
            () = self.cancel_work.cancelled() => Err(STOPPING.into()),
        }
    }

    /// Waits for a permit and runs `work`; fails at the deadline, or when the process stops.
    pub(super) async fn with_limits<T>(&self, work: impl Future<Output = Result<T, RunError>>) -> Result<T, String> {
        let work = async {
            let _permit = tokio::select! {
                biased;
                () = self.stop.cancelled() => return Err(STOPPING.to_owned()),
                permit = self.permits.acquire() => permit.expect("the semaphore is never closed"),
            };
            work.await.map_err(|error| error_chain(&error))
        };
        tokio::select! {
            result = tokio::time::timeout(self.deadline, work) => result.unwrap_or_else(|_| {
                Err(format!("not finished within DEADLINE ({} s)", self.deadline.as_secs_f64()))
            }),
            () = self.cancel_work.cancelled() => Err(STOPPING.into()),
        }
    }

    /// Whether the process is to stop.
    pub(super) fn is_stopping(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Waits until `time`, or until the process is to stop.
    pub(super) async fn sleep_unless_stopping(&self, time: Instant) {
        tokio::select! {
            () = sleep_until(time) => {}
            () = self.stop.cancelled() => {}
        }
    }

    /// Runs the drop of `blob`; sets `found` to its path.
    async fn process_blob(&self, blob: &BlobPath, found: &OnceLock<DropPath>) -> Result<String, RunError> {
        let store = &*self.app.runner.store;
        let Some(path) = discover::find_drop(store, blob).await? else {
            let summary =
                format!("`{blob}` is not part of a drop yet: its drop is delivered once the job metadata arrives");
            info!("{summary}");
            return Ok(summary);
        };
        let path = found.get_or_init(|| path);
        let outcome = self.app.runner.run(path, Some(blob), Trigger::Event, Some(self.run_limit())).await?;
        Ok(summarize(path, &outcome))
    }
}

/// The outcome of a run in one line.
pub(super) fn summarize(path: &DropPath, outcome: &Outcome) -> String {
    match outcome {
        Outcome::Completed { rows, earlier: Some(earlier), .. } => {
            format!("`{path}` was already completed on {}: {rows} rows", date_and_time(*earlier))
        }
        Outcome::Completed { rows, bad_rows: 0, .. } => format!("completed `{path}`: {rows} rows"),
        Outcome::Completed { rows, bad_rows, .. } => format!("completed `{path}`: {rows} rows, {bad_rows} bad rows"),
        Outcome::Open { rows, of: Some(of) } => format!("`{path}` is open: {rows} of {of} rows"),
        Outcome::Open { rows, of: None } => format!("`{path}` is open: {rows} rows"),
        Outcome::SetAside { reason, .. } => format!("`{path}` is set aside: {reason}"),
        Outcome::Postponed(until) => format!("`{path}` is retried at {}, as its receiver asked", date_and_time(*until)),
        Outcome::NoDrop => format!("`{path}` has no job metadata: it is not a drop, or was deleted"),
        Outcome::Refused(refusal) => format!("refused: {refusal}"),
    }
}
