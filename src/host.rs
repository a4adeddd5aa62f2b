//! The Functions host's side: invocation in, answer out.
//!
//! The host posts each event to `/<function>`, waits for an answer, and knows two of them: 2xx, done with; anything else,
//! repeat at once, five times, and give up. [`invocation`] reads the post, [`event`] finds the blobs in it, [`guard`]
//! decides which of them are ours, and a [run](crate::run) does the work. What a post is shows in the post, not in the
//! name it was sent to: function folders may be renamed.

pub mod event;
pub mod guard;
pub mod invocation;
mod notify;
mod timer;

use std::{future::Future, net::Ipv4Addr, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    body::Body,
    extract::{Path, State, rejection::PathRejection},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{self, get},
};
use futures::TryStreamExt;
use tokio::{net::TcpListener, signal::unix, sync::Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{error, info, warn};

use self::{
    event::Invocation,
    guard::Notice,
    invocation::{Answer, Elide, PostTooLarge, Reduced},
};
use crate::{
    app::App,
    config::{InvalidSettings, Settings},
    drop::{DropPath, discover},
    error_chain::error_chain,
    run::{Outcome, RunError},
};

/// How many events are worked on at once; further ones wait for their turn. Bounds the memory of the process: that of one
/// file, times this.
const EVENTS_AT_ONCE: usize = 4;

/// How long work may go on after the process was told to stop. The host does not wait longer than 10 seconds.
const GRACE: Duration = Duration::from_secs(8);

/// What is said where no event is taken.
const ELSEWHERE: &str = "there is nothing here: events are posted to /function";

/// The port that the host wants us on.
pub fn port(settings: &Settings) -> Result<u16, InvalidSettings> {
    const NAME: &str = "FUNCTIONS_CUSTOMHANDLER_PORT";
    match settings.get(NAME).map(str::parse) {
        Some(Ok(port)) => Ok(port),
        Some(Err(_)) => Err(InvalidSettings(vec![format!("{NAME} is not usable: expected a port number")])),
        None => {
            let why = format!(
                "{NAME} is not set: expected the port that the Functions host gives; start it with `func start`"
            );
            Err(InvalidSettings(vec![why]))
        }
    }
}

/// Why the handler cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The port is taken, or not ours to take.
    #[error("cannot listen on 127.0.0.1:{port}")]
    Listen {
        /// The port.
        port: u16,
        /// Why.
        source: std::io::Error,
    },
    /// The server ended by itself.
    #[error("the HTTP server stopped")]
    Stopped(#[source] std::io::Error),
    /// Signals cannot be received on this machine.
    #[error("cannot listen for signals")]
    Signals(#[source] std::io::Error),
}

/// The handler: what every post has at hand.
struct Handler {
    app: App,
    deadline: Duration,
    turns: Semaphore,
    stopping: CancellationToken,
    runs: TaskTracker,
}

/// Listens on the host's port and answers it until told to stop.
pub async fn serve(port: u16, app: App, deadline: Duration) -> Result<(), ServeError> {
    let listening = |source| ServeError::Listen { port, source };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.map_err(listening)?;
    let mut terminate = unix::signal(unix::SignalKind::terminate()).map_err(ServeError::Signals)?;
    let mut interrupt = unix::signal(unix::SignalKind::interrupt()).map_err(ServeError::Signals)?;
    info!(version = env!("CARGO_PKG_VERSION"), "listening on 127.0.0.1:{port}");

    let turns = Semaphore::new(EVENTS_AT_ONCE);
    let (stopping, runs) = (CancellationToken::new(), TaskTracker::new());
    let ledger = app.runner.ledger.clone();
    let handler = Arc::new(Handler { app, deadline, turns, stopping: stopping.clone(), runs: runs.clone() });
    let routes = Router::new()
        // The host asks this every 25 ms until it is answered, and from time to time after that.
        .route("/", get(async || StatusCode::OK))
        .route("/{function}", routing::post(post))
        // Where http functions arrive, since the host forwards their requests as they are.
        .route("/api/{function}", routing::post(post))
        .method_not_allowed_fallback(async || answer(StatusCode::METHOD_NOT_ALLOWED, ELSEWHERE))
        .fallback(async || answer(StatusCode::NOT_FOUND, ELSEWHERE))
        .with_state(handler);

    let stop = async move {
        tokio::select! { _ = terminate.recv() => {} _ = interrupt.recv() => {} }
        info!("told to stop: no more events are taken, and what is under way has {} s", GRACE.as_secs());
        tokio::spawn(async move {
            tokio::time::sleep(GRACE).await;
            stopping.cancel();
        });
    };
    let serving = axum::serve(listener, routes).with_graceful_shutdown(stop);
    serving.await.map_err(ServeError::Stopped)?;
    runs.close();
    runs.wait().await;
    // What runs let go of when they were stopped is written before the process ends.
    ledger.flush().await;
    Ok(())
}

async fn post(
    State(handler): State<Arc<Handler>>,
    function: Result<Path<String>, PathRejection>,
    body: Body,
) -> Response {
    let Ok(Path(function)) = function else {
        return answer(StatusCode::NOT_FOUND, ELSEWHERE);
    };
    let reduced = match reduce(body).await {
        Ok(reduced) => reduced,
        Err(Unread::TooLarge(error)) => return answer(StatusCode::PAYLOAD_TOO_LARGE, error),
        Err(Unread::Broken(error)) => return answer(StatusCode::BAD_REQUEST, format!("the post broke off: {error}")),
    };
    let json = match reduced.parse() {
        Ok(json) => json,
        Err(error) => {
            error!(function, "{error}");
            return answer(StatusCode::BAD_REQUEST, error);
        }
    };
    if let Some(path) = notify::path_in(&function, &json) {
        return notify::notify(handler, path).await;
    }
    // The work goes on a task of its own: when the host hangs up, or the work panics, only this event is concerned.
    let handling = if timer::is_tick(&json) {
        handler.runs.spawn(timer::sweep_now(Arc::clone(&handler)))
    } else {
        match event::blob_urls(&function, &json) {
            Ok(invocation) => handler.runs.spawn(Arc::clone(&handler).handle(function.clone(), invocation)),
            Err(error) => {
                // Repeating it would not make it say more.
                error!(function, "{error}");
                return answer(StatusCode::OK, error);
            }
        }
    };
    let (status, summary) = handling.await.unwrap_or_else(|_| {
        let summary = "a task panicked, which is a defect of vivadrop; the log says where";
        (StatusCode::INTERNAL_SERVER_ERROR, summary.to_owned())
    });
    answer(status, summary)
}

/// Why a post could not be read.
enum Unread {
    TooLarge(PostTooLarge),
    Broken(axum::Error),
}

/// Reads a post without its very long strings: where deferred binding is off, one holds the whole blob.
async fn reduce(body: Body) -> Result<Reduced, Unread> {
    let mut elide = Elide::default();
    let mut chunks = body.into_data_stream();
    let mut kept = Ok(());
    // A post that is too large is read to its end all the same: who still writes does not read an answer.
    while let Some(chunk) = chunks.try_next().await.map_err(Unread::Broken)? {
        kept = kept.and_then(|()| elide.push(&chunk));
    }
    kept.map_err(Unread::TooLarge)?;
    Ok(elide.finish())
}

fn answer(status: StatusCode, summary: impl std::fmt::Display) -> Response {
    (status, Json(Answer::new(summary))).into_response()
}

impl Handler {
    /// Works on every drop that the invocation names; says how that went, in one line.
    async fn handle(self: Arc<Self>, function: String, invocation: Invocation) -> (StatusCode, String) {
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
        let mut said = Vec::new();
        let mut status = StatusCode::OK;
        for url in &invocation.created {
            let notice = self.app.guard.judge(url);
            let end = match &notice {
                Notice::OurOwnState => continue,
                Notice::Foreign(why) => {
                    warn!(function, "refused the event of `{url}`: {why}");
                    said.push(format!("refused: {why}"));
                    continue;
                }
                Notice::Blob(blob) => self.in_time(self.work_on(blob)).await,
            };
            match end {
                Ok(summary) => said.push(summary),
                Err(why) => {
                    error!(function, "`{url}` is to be tried again: {why}");
                    status = StatusCode::INTERNAL_SERVER_ERROR;
                    said.push(format!("to be tried again: {why}"));
                }
            }
        }
        if said.is_empty() {
            said.push("nothing to do".into());
        }
        (status, said.join("; "))
    }

    /// Runs `work` in its turn, until its deadline or until the process is told to stop.
    async fn in_time<T>(&self, work: impl Future<Output = Result<T, RunError>>) -> Result<T, String> {
        let work = async {
            // The semaphore is never closed.
            let _turn = self.turns.acquire().await;
            work.await
        };
        tokio::select! {
            done = tokio::time::timeout(self.deadline, work) => match done {
                Ok(end) => end.map_err(|error| error_chain(&error)),
                Err(_) => Err(format!("it was not finished within DEADLINE ({} s)", self.deadline.as_secs_f64())),
            },
            () = self.stopping.cancelled() => Err("the handler was told to stop".into()),
        }
    }

    async fn work_on(&self, blob: &crate::store::BlobPath) -> Result<String, RunError> {
        let store = &*self.app.runner.store;
        let Some(path) = discover::find_drop(store, blob).await? else {
            let summary = format!("`{blob}` belongs to no drop yet: its job metadata will bring it in");
            info!("{summary}");
            return Ok(summary);
        };
        let outcome = self.app.runner.run(&path, Some(blob)).await?;
        Ok(summary_of(&path, &outcome))
    }
}

fn summary_of(path: &DropPath, outcome: &Outcome) -> String {
    match outcome {
        Outcome::Completed { rows, bad_rows: 0 } => format!("completed `{path}`: {rows} rows"),
        Outcome::Completed { rows, bad_rows } => format!("completed `{path}`: {rows} rows, {bad_rows} bad rows"),
        Outcome::Open { rows, of: Some(of) } => format!("`{path}` is open: {rows} of {of} rows"),
        Outcome::Open { rows, of: None } => format!("`{path}` is open: {rows} rows"),
        Outcome::SetAside { reason, .. } => format!("`{path}` is set aside: {reason}"),
        Outcome::NoDrop => format!("`{path}` has no job metadata: no drop, or deleted since"),
        Outcome::Refused(refusal) => format!("refused: {refusal}"),
    }
}
