//! Processes invocations: finds the drop of each blob and runs it.

use std::{
    collections::BTreeMap,
    future::Future,
    panic::AssertUnwindSafe,
    sync::{Arc, OnceLock},
    time::Duration,
};

use axum::http::StatusCode;
use futures::{FutureExt, StreamExt, stream::FuturesUnordered};
use tokio::{
    sync::{Notify, Semaphore},
    time::{Instant, sleep_until, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, error, info, warn};

use super::{
    body::BodyReader,
    event::Invocation,
    run_queue::{HeldEvent, RunQueue},
};
use crate::{
    app::App,
    clock,
    drop::{DropPath, TenantId, containers::UrlTarget, discover},
    error_chain::error_chain,
    replay::{self, StartedDrop},
    run::{DueDrop, RunError, Trigger},
    schedule::Job,
    store::BlobPath,
    telemetry,
};

/// The maximum number of events of drops outside every tenant's place that are processed concurrently. Each of them
/// costs a listing of the drop; its job metadata is not read.
const MAX_REFUSALS: usize = 2;

/// The maximum number of notifications that look for their drops at once. Each may hold a page of a listing.
const MAX_LOOKUPS: usize = 4;

/// How often replay runs are advanced.
const ADVANCE_EVERY: Duration = Duration::from_secs(2);

/// How often replay runs are advanced without starting a drop before this process leaves them to the sweeps.
const MAX_IDLE_ADVANCES: usize = 60;

/// The error text of work that is cancelled because the process stops.
const STOPPING: &str = "the process is stopping";

/// The result of an invocation.
pub(super) struct Processed {
    pub(super) status: StatusCode,
    pub(super) summary: String,
    /// The events of tenants, until the invocation is answered.
    _held: Vec<HeldEvent>,
}

impl From<(StatusCode, String)> for Processed {
    fn from((status, summary): (StatusCode, String)) -> Self {
        Self { status, summary, _held: Vec::new() }
    }
}

/// The state of an event that is being processed.
#[derive(Default)]
struct EventState {
    /// The path of its drop, once it is known.
    path: OnceLock<DropPath>,
    /// Counts the event as one of its tenant, once its drop is run.
    held: OnceLock<HeldEvent>,
}

/// The state that all requests share.
pub(super) struct Handler {
    pub(super) app: App,
    /// Time limit of one unit of work.
    pub(super) deadline: Duration,
    refusals: Semaphore,
    /// Limits the notifications that look for their drops at once.
    pub(super) lookups: Semaphore,
    /// Receives the bodies of requests.
    pub(super) bodies: BodyReader,
    /// The runs, and the drops that wait for one.
    pub(super) queue: Arc<RunQueue>,
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
        let (refusals, lookups) = (Semaphore::new(MAX_REFUSALS), Semaphore::new(MAX_LOOKUPS));
        let (bodies, queue) = (BodyReader::default(), Arc::new(RunQueue::new(app.runner.run_permits.clone())));
        Self { app, deadline, refusals, lookups, bodies, queue, stop, cancel_work, tasks }
    }

    /// Processes all blobs that the invocation names.
    pub(super) async fn process(self: Arc<Self>, function: String, invocation: Invocation) -> Processed {
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
        let end = Instant::now() + self.deadline;
        let (mut summaries, mut held) = (Vec::new(), Vec::new());
        let mut status = StatusCode::OK;
        for url in &invocation.created {
            let blob = match self.app.watched.classify(url.as_str()) {
                UrlTarget::Watched(blob) => blob,
                UrlTarget::OwnState => continue,
                UrlTarget::Refused(reason) => {
                    warn!(function, "did not admit the event of `{url}`: {reason}");
                    summaries.push(format!("did not admit the event: {reason}"));
                    continue;
                }
            };
            let event = EventState::default();
            match self.with_deadline(end, self.process_blob(&blob, &event, end)).await {
                Ok(summary) => summaries.push(summary),
                Err(reason) => {
                    let path = event.path.get().map(DropPath::to_string);
                    error!(function, drop.path = path, "`{url}` will be retried: {reason}");
                    status = StatusCode::INTERNAL_SERVER_ERROR;
                    summaries.push(format!("will be retried: {reason}"));
                }
            }
            held.extend(event.held.into_inner());
        }
        if summaries.is_empty() {
            summaries.push("nothing to do".into());
        }
        Processed { status, summary: summaries.join("; "), _held: held }
    }

    /// Runs `work`; fails when the process stops.
    pub(super) async fn until_stopped<T>(&self, work: impl Future<Output = T>) -> Result<T, String> {
        tokio::select! {
            result = work => Ok(result),
            () = self.cancel_work.cancelled() => Err(STOPPING.into()),
        }
    }

    /// Runs `work`; fails at `end`, which is the deadline, or when the process stops.
    async fn with_deadline<T>(
        &self,
        end: Instant,
        work: impl Future<Output = Result<T, RunError>>,
    ) -> Result<T, String> {
        tokio::select! {
            biased;
            () = self.cancel_work.cancelled() => Err(STOPPING.into()),
            result = timeout_at(end, work) => match result {
                Ok(result) => result.map_err(|error| error_chain(&error)),
                Err(_elapsed) => Err(format!("not finished within DEADLINE ({} s)", self.deadline.as_secs_f64())),
            },
        }
    }

    /// Waits until `time`, or until the process is to stop.
    pub(super) async fn sleep_unless_stopping(&self, time: Instant) {
        tokio::select! {
            () = sleep_until(time) => {}
            () = self.stop.cancelled() => {}
        }
    }

    /// Runs the drop that `blob` belongs to until `end`, or queues the drop if it must wait. Records in `event`
    /// the path of the drop, and that the event is held.
    async fn process_blob(&self, blob: &BlobPath, event: &EventState, end: Instant) -> Result<String, RunError> {
        let App { runner, watched, .. } = &self.app;
        let Some(path) = discover::find_drop(&*runner.store, blob).await? else {
            let summary =
                format!("`{blob}` is not part of a drop yet: its drop is delivered once the job metadata arrives");
            info!("{summary}");
            return Ok(summary);
        };
        let path = event.path.get_or_init(|| path);
        let run = async || {
            let outcome = runner.run(path, Some(blob), Trigger::Event, Some(run_limit(end))).await?;
            self.queue_due();
            Ok(outcome.describe(path))
        };
        let Some(&tenant) = watched.tenants.possible_owners(path).first() else {
            let _permit = self.refusals.acquire().await.expect("the semaphore is never closed");
            return run().await;
        };
        let breaker = &runner.tenant_configs.of(tenant).breaker;
        // `may_start` is called last, because it lets only one run through while the breaker is open.
        let started = self.queue.try_start_event(tenant).filter(|_| breaker.may_start());
        if let Some((_run, held)) = started {
            event.held.get_or_init(|| held);
            return run().await;
        }
        // The host sends only a few events at a time, so this one must not be held.
        let entry = runner.ledger.mark_unfinished(path, tenant, clock::now()).await?;
        let _full_or_waiting = self.queue.push(tenant, path.clone(), Some(entry));
        let is_down = breaker.is_open();
        let why = if is_down { "its receiver takes no messages at the moment" } else { "other drops run" };
        let summary = format!("`{path}` waits: {why}");
        info!(drop.path = %path, "{summary}");
        Ok(summary)
    }

    /// Runs the drops that wait, until the process is to stop.
    pub(super) async fn run_waiting(self: Arc<Self>) {
        let may_start = |tenant| self.app.runner.tenant_configs.of(tenant).breaker.may_start();
        loop {
            let (job, permit) = tokio::select! {
                next = self.queue.next(may_start) => next,
                () = self.stop.cancelled() => return,
            };
            let handler = Arc::clone(&self);
            self.tasks.spawn(async move {
                handler.run_job(job).await;
                drop(permit);
            });
        }
    }

    /// Advances the replay runs whenever one is created or resumed, until the process is to stop. Sweeps advance them
    /// as well, so this may leave a run to them.
    pub(super) async fn run_replays(self: Arc<Self>, created: Arc<Notify>) {
        loop {
            tokio::select! {
                () = created.notified() => {}
                () = self.stop.cancelled() => return,
            }
            let mut idle = 0;
            while idle < MAX_IDLE_ADVANCES && !self.stop.is_cancelled() {
                let advanced = match replay::advance_all(&self.app.runner).await {
                    Ok(advanced) => advanced,
                    Err(error) => {
                        debug!("a sweep will continue the replay runs: {}", error_chain(&error));
                        break;
                    }
                };
                if !advanced.is_running {
                    break;
                }
                idle = if advanced.started.is_empty() { idle + 1 } else { 0 };
                for StartedDrop { tenant, path, entry } in advanced.started {
                    let _full_or_waiting = self.queue.push(tenant, path, Some(entry));
                }
                self.sleep_unless_stopping(Instant::now() + ADVANCE_EVERY).await;
            }
        }
    }

    /// Imports survey attributes as soon as a drop is completed, until the process is to stop.
    pub(super) async fn run_imports(self: Arc<Self>) {
        let due = &self.app.runner.due_imports;
        let mut passes = FuturesUnordered::new();
        // The tenants whose passes are underway, and whether each is to be followed by another.
        let mut underway = BTreeMap::<TenantId, bool>::new();
        loop {
            let due = tokio::select! {
                tenants = due.next() => tenants,
                Some(tenant) = passes.next() => {
                    let again = underway.remove(&tenant).unwrap_or_default();
                    again.then_some(tenant).into_iter().collect()
                }
                () = self.stop.cancelled() => break,
            };
            for tenant in due {
                if underway.get_mut(&tenant).map(|again| *again = true).is_none() {
                    underway.insert(tenant, false);
                    passes.push(self.import(tenant));
                }
            }
        }
        // These passes may finish; they fail once `cancel_work` is cancelled.
        while passes.next().await.is_some() {}
    }

    /// Makes one pass over the imports of a tenant; returns the tenant. The pass itself logs and records its failures,
    /// and a sweep repeats it.
    async fn import(&self, tenant: TenantId) -> TenantId {
        let pass = self.app.runner.import(tenant, Some(run_limit(Instant::now() + self.deadline)));
        if let Ok(Err(_panicked)) = self.until_stopped(AssertUnwindSafe(pass).catch_unwind()).await {
            error!(tenant.id = %tenant, "the import of attributes panicked");
        }
        tenant
    }

    async fn run_job(&self, Job { path, entry, .. }: Job) {
        let trigger = entry.map_or(Trigger::Event, |entry| Trigger::Sweep(Some(entry)));
        let end = Instant::now() + self.deadline;
        let run = self.app.runner.run(&path, None, trigger, Some(run_limit(end)));
        match self.with_deadline(end, run).await {
            Ok(outcome) => debug!(drop.path = %path, "{}", outcome.describe(&path)),
            Err(reason) => error!(drop.path = %path, "`{path}` will be retried: {reason}"),
        }
        telemetry::export::flush_soon();
        self.queue_due();
    }

    /// Queues the drops whose directory has ended, so that they need not wait for a sweep.
    pub(super) fn queue_due(&self) {
        for DueDrop { tenant, path, entry } in self.app.runner.due_drops.take() {
            let _full_or_waiting = self.queue.push(tenant, path, Some(entry));
        }
    }
}

/// The time limit of a run that must end before `end`: the rest of the time is for recording that it was not finished.
pub(super) fn run_limit(end: Instant) -> Duration {
    end.saturating_duration_since(Instant::now()).mul_f64(0.95)
}
