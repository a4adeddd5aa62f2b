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
    time::{Instant, sleep_until},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, error, info, warn};

use super::{body::BodyReader, event::Invocation, run_queue::RunQueue};
use crate::{
    app::App,
    clock,
    date::date_and_time,
    drop::{DropPath, TenantId, containers::UrlTarget, discover},
    error_chain::error_chain,
    replay::{self, StartedDrop},
    run::{Outcome, RunError, Trigger, WokenDrop},
    schedule::Job,
    store::BlobPath,
    telemetry,
};

/// How many drops of no tenant are looked at at once. They are refused after their job metadata was read.
const MAX_REFUSALS: usize = 2;

/// The time between two turns of replay runs.
const REPLAY_TURN_EVERY: Duration = Duration::from_secs(2);

/// After how many turns that start nothing the sweeps take over.
const MAX_IDLE_TURNS: usize = 60;

/// Why work fails when the process stops.
const STOPPING: &str = "the process is stopping";

/// The state that all requests share.
pub(super) struct Handler {
    pub(super) app: App,
    /// Time limit of one unit of work.
    pub(super) deadline: Duration,
    refusals: Semaphore,
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
        let refusals = Semaphore::new(MAX_REFUSALS);
        let (bodies, queue) = (BodyReader::default(), Arc::new(RunQueue::new(Arc::clone(&app.runner.slots))));
        Self { app, deadline, refusals, bodies, queue, stop, cancel_work, tasks }
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
                    warn!(function, "did not admit the event of `{url}`: {reason}");
                    summaries.push(format!("did not admit the event: {reason}"));
                    continue;
                }
            };
            let found = OnceLock::new();
            match self.with_deadline(self.process_blob(&blob, &found)).await {
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

    /// Runs `work`; fails when the process stops.
    pub(super) async fn until_stopped<T>(&self, work: impl Future<Output = T>) -> Result<T, String> {
        tokio::select! {
            result = work => Ok(result),
            () = self.cancel_work.cancelled() => Err(STOPPING.into()),
        }
    }

    /// Runs `work`; fails at the deadline, or when the process stops.
    async fn with_deadline<T>(&self, work: impl Future<Output = Result<T, RunError>>) -> Result<T, String> {
        tokio::select! {
            biased;
            () = self.cancel_work.cancelled() => Err(STOPPING.into()),
            result = tokio::time::timeout(self.deadline, work) => match result {
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

    /// Runs the drop of `blob`, or lets it wait for a turn of its tenant; sets `found` to its path.
    async fn process_blob(&self, blob: &BlobPath, found: &OnceLock<DropPath>) -> Result<String, RunError> {
        let App { runner, watched, .. } = &self.app;
        let Some(path) = discover::find_drop(&*runner.store, blob).await? else {
            let summary =
                format!("`{blob}` is not part of a drop yet: its drop is delivered once the job metadata arrives");
            info!("{summary}");
            return Ok(summary);
        };
        let path = found.get_or_init(|| path);
        let run = async || {
            let outcome = runner.run(path, Some(blob), Trigger::Event, Some(self.run_limit())).await?;
            self.queue_woken();
            Ok(summarize(path, &outcome))
        };
        let Some(&tenant) = watched.tenants.possible_owners(path).first() else {
            let _permit = self.refusals.acquire().await.expect("the semaphore is never closed");
            return run().await;
        };
        let is_down = runner.tenant_configs.of(tenant).breaker.is_open();
        if !is_down && let Some(_turn) = self.queue.try_start(tenant) {
            return run().await;
        }
        // The host sends only a few events at a time, so this one must not be held.
        let entry = runner.ledger.mark_unfinished(path, tenant, clock::now()).await?;
        let _full_or_waiting = self.queue.push(tenant, path.clone(), Some(entry));
        let why =
            if is_down { "its receiver takes no messages at the moment" } else { "other drops of its tenant run" };
        let summary = format!("`{path}` waits: {why}");
        info!(drop.path = %path, "{summary}");
        Ok(summary)
    }

    /// Runs the drops that wait, until the process is to stop.
    pub(super) async fn run_waiting(self: Arc<Self>) {
        let may_start = |tenant| self.app.runner.tenant_configs.of(tenant).breaker.may_start();
        loop {
            let (job, turn) = tokio::select! {
                next = self.queue.next(may_start) => next,
                () = self.stop.cancelled() => return,
            };
            let handler = Arc::clone(&self);
            self.tasks.spawn(async move {
                handler.run_job(job).await;
                drop(turn);
            });
        }
    }

    /// Takes turns of replay runs whenever one is created or resumed, until the process is to stop. Sweeps take turns as
    /// well, so this may leave a run to them.
    pub(super) async fn run_replays(self: Arc<Self>, created: Arc<Notify>) {
        loop {
            tokio::select! {
                () = created.notified() => {}
                () = self.stop.cancelled() => return,
            }
            let mut idle_turns = 0;
            while idle_turns < MAX_IDLE_TURNS && !self.stop.is_cancelled() {
                let turn = match replay::turn(&self.app.runner).await {
                    Ok(turn) => turn,
                    Err(error) => {
                        debug!("a sweep will continue the replay runs: {}", error_chain(&error));
                        break;
                    }
                };
                if !turn.is_running {
                    break;
                }
                idle_turns = if turn.started.is_empty() { idle_turns + 1 } else { 0 };
                for StartedDrop { tenant, path, entry } in turn.started {
                    let _full_or_waiting = self.queue.push(tenant, path, Some(entry));
                }
                self.sleep_unless_stopping(Instant::now() + REPLAY_TURN_EVERY).await;
            }
        }
    }

    /// Imports survey attributes as soon as a drop is completed, until the process is to stop.
    pub(super) async fn run_imports(self: Arc<Self>) {
        let woken = &self.app.runner.woken_imports;
        let mut passes = FuturesUnordered::new();
        // The tenants whose passes are underway, and whether each is to be followed by another.
        let mut underway = BTreeMap::<TenantId, bool>::new();
        loop {
            let due = tokio::select! {
                tenants = woken.next() => tenants,
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
        // They have some seconds left.
        while passes.next().await.is_some() {}
    }

    /// Imports for a tenant; returns the tenant. A failure is logged and recorded: a sweep repeats the pass.
    async fn import(&self, tenant: TenantId) -> TenantId {
        let pass = self.app.runner.import(tenant, Some(self.run_limit()));
        if let Ok(Err(_panicked)) = self.until_stopped(AssertUnwindSafe(pass).catch_unwind()).await {
            error!(tenant.id = %tenant, "the import of attributes panicked");
        }
        tenant
    }

    async fn run_job(&self, Job { path, entry, .. }: Job) {
        let trigger = entry.map_or(Trigger::Event, |entry| Trigger::Sweep(Some(entry)));
        let run = self.app.runner.run(&path, None, trigger, Some(self.run_limit()));
        match self.with_deadline(run).await {
            Ok(outcome) => debug!(drop.path = %path, "{}", summarize(&path, &outcome)),
            Err(reason) => error!(drop.path = %path, "`{path}` will be retried: {reason}"),
        }
        telemetry::export::flush_soon();
        self.queue_woken();
    }

    /// Queues the drops whose directory has ended, so that they need not wait for a sweep.
    pub(super) fn queue_woken(&self) {
        for WokenDrop { tenant, path, entry } in self.app.runner.woken.take() {
            let _full_or_waiting = self.queue.push(tenant, path, Some(entry));
        }
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
        Outcome::Waiting(until) => {
            format!("`{path}` waits for the directory of its run, until {} at most", date_and_time(*until))
        }
        Outcome::Paused => format!("`{path}` waits, because its tenant is paused"),
        Outcome::NoDrop => format!("`{path}` has no job metadata: it is not a drop, or was deleted"),
        Outcome::Refused(refusal) => format!("did not admit `{path}`: {refusal}"),
    }
}
