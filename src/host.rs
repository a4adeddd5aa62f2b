//! The HTTP server for the Azure Functions host: receives invocations and responds to them.
//!
//! The host posts each event to `/<function>` and waits for the response. After 2xx the event is over; after any other
//! status the host repeats it up to five times at once, and then gives up. [`payload`] trims the request body,
//! [`event`] finds the blob URLs in it, and the handler starts a [run](crate::run) for each drop that they belong to.
//! The kind of a request is determined by its payload and not by the name of the function, because function folders may
//! be renamed.

mod body;
pub mod event;
pub mod function_timeout;
mod handler;
mod notify;
pub mod payload;
pub mod response;
mod run_queue;
mod server;
mod timer;

use std::{net::Ipv4Addr, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::{Path, Request, State, rejection::PathRejection},
    http::{HeaderMap, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{self, get},
};
use serde_json::Value;
use tokio::{
    net::TcpListener,
    signal::unix,
    time::{Instant, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{error, info, warn};

use self::{body::BodyError, handler::Handler, response::respond, server::Server};
use crate::{
    api::{self, Api, problem::Problem},
    app::App,
    config::{InvalidSettings, Settings},
    ledger::Ledger,
    telemetry::{self, continue_trace},
};

/// How long running work may continue after SIGTERM or SIGINT, before it is cancelled.
const WORK_LIMIT: Duration = Duration::from_secs(5);

/// The time from the signal until the server stops waiting for cancelled work.
const CANCELLED_LIMIT: Duration = Duration::from_millis(5_500);

/// The time from the signal until the server stops waiting for the last responses and the last writes of the ledger.
/// The last export of telemetry may take half a second longer.
const STOP_LIMIT: Duration = Duration::from_secs(7);

/// The shortest time from the start of an event's invocation to a response that asks for a retry. The host repeats an
/// event five times without a wait and then gives up: without this delay, its tries would be over within seconds.
const RETRY_ANSWERED_AFTER: Duration = Duration::from_secs(10);

/// The summary of responses to requests for another path or with another method.
const USAGE: &str = "expected an event, as a POST request to /function";

/// The port that the host assigned to this handler.
pub fn port(settings: &Settings) -> Result<u16, InvalidSettings> {
    const NAME: &str = "FUNCTIONS_CUSTOMHANDLER_PORT";
    match settings.get(NAME).map(str::parse) {
        Some(Ok(port)) => Ok(port),
        Some(Err(_)) => Err(InvalidSettings(vec![format!("{NAME} is not usable: expected a port number")])),
        None => {
            let error = format!(
                "{NAME} is not set: expected the port that the Functions host assigns; start the host with `func start`"
            );
            Err(InvalidSettings(vec![error]))
        }
    }
}

/// Why the server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The port is in use, or permission to bind it was denied.
    #[error("cannot listen on 127.0.0.1:{port}")]
    Listen {
        /// The port.
        port: u16,
        /// The cause.
        source: std::io::Error,
    },
    /// The signal handlers could not be installed.
    #[error("cannot listen for signals")]
    Signals(#[source] std::io::Error),
}

/// Serves the Functions host on 127.0.0.1 until SIGTERM or SIGINT, and then returns within 8 s, whatever storage,
/// receiver and clients do. Blocking threads may still run; the process should exit without waiting for them.
pub async fn serve(port: u16, app: App, deadline: Duration) -> Result<(), ServeError> {
    let cannot_listen = |source| ServeError::Listen { port, source };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.map_err(cannot_listen)?;
    let stop_signal = stop_signal()?;
    info!(version = env!("CARGO_PKG_VERSION"), "listening on 127.0.0.1:{port}");

    let (stop, cancel_work) = (CancellationToken::new(), CancellationToken::new());
    let (tasks, connections) = (TaskTracker::new(), TaskTracker::new());
    let ledger = app.runner.ledger.clone();
    let api = Arc::new(Api::new(ledger.clone(), Some(app.runner.tenants.clone()), Some(Arc::clone(&app.runner))));
    let handler = Arc::new(Handler::new(app, deadline, stop.clone(), cancel_work.clone(), tasks.clone()));
    tasks.spawn(Arc::clone(&handler).run_waiting());
    tasks.spawn(Arc::clone(&handler).run_replays(api.replays()));
    tasks.spawn(Arc::clone(&handler).run_imports());
    let routes = Router::new()
        // The host polls this every 25 ms until it gets a response, and occasionally after that.
        .route("/", get(async || StatusCode::OK))
        .route("/{function}", routing::post(receive).layer(middleware::from_fn(reject_browsers)))
        // The host forwards requests for HTTP functions to this path.
        .route("/api/{function}", routing::post(receive_notification))
        .method_not_allowed_fallback(async || respond(StatusCode::METHOD_NOT_ALLOWED, USAGE))
        .fallback(async || respond(StatusCode::NOT_FOUND, USAGE))
        .with_state(handler)
        .merge(api::routes(api))
        .layer(middleware::from_fn_with_state(port, reject_rebound_names));

    let server = Server::new(listener, routes, stop.clone(), connections.clone());
    tokio::select! {
        never = server.run() => match never {},
        () = stop_signal => {}
    }
    let signalled = Instant::now();
    info!("stopping: no further events are accepted, and running work has {} s to finish", WORK_LIMIT.as_secs());
    stop.cancel();
    finish_work(signalled, &tasks, &cancel_work).await;
    tokio::join!(finish_output(signalled, &ledger, &connections), telemetry::export::finish());
    Ok(())
}

/// Serves `routes` on `listener` until SIGTERM or SIGINT, with the limits on connections of [`Server`]. Then returns
/// without waiting for open requests.
pub(crate) async fn serve_routes(listener: TcpListener, routes: Router) -> Result<(), ServeError> {
    let stop_signal = stop_signal()?;
    let server = Server::new(listener, routes, CancellationToken::new(), TaskTracker::new());
    tokio::select! {
        never = server.run() => match never {},
        () = stop_signal => {}
    }
    Ok(())
}

/// Completes at SIGTERM or SIGINT.
fn stop_signal() -> Result<impl Future<Output = ()>, ServeError> {
    let mut terminate = unix::signal(unix::SignalKind::terminate()).map_err(ServeError::Signals)?;
    let mut interrupt = unix::signal(unix::SignalKind::interrupt()).map_err(ServeError::Signals)?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// Waits for running work, and cancels it at [`WORK_LIMIT`].
async fn finish_work(signalled: Instant, tasks: &TaskTracker, cancel_work: &CancellationToken) {
    tasks.close();
    if timeout_at(signalled + WORK_LIMIT, tasks.wait()).await.is_ok() {
        return;
    }
    cancel_work.cancel();
    if timeout_at(signalled + CANCELLED_LIMIT, tasks.wait()).await.is_err() {
        warn!("work did not end although it was cancelled");
    }
}

/// Waits until the ledger has written the last checkpoints and released the leases, and until the last responses have
/// been sent; gives up at [`STOP_LIMIT`].
async fn finish_output(signalled: Instant, ledger: &Ledger, connections: &TaskTracker) {
    connections.close();
    let limit = signalled + STOP_LIMIT;
    let (flushed, answered) = tokio::join!(timeout_at(limit, ledger.flush()), timeout_at(limit, connections.wait()));
    if flushed.is_err() {
        warn!("cannot write the last checkpoints: later runs repeat some rows, and wait until the leases lapse");
    }
    if answered.is_err() {
        warn!("some requests were not answered");
    }
}

/// Rejects requests that a web page has made a browser send to this port: the Functions host sends no `Origin`, and the
/// loopback address as `Host`. The routes below `/api` are exempt, because a request that the host forwards for an HTTP
/// function has the headers of its client; the host has checked its function key.
async fn reject_browsers(request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = host.rsplit_once(':').map_or(host, |(name, _port)| name);
    if request.headers().contains_key(header::ORIGIN) || !is_this_machine(name) {
        return respond(StatusCode::FORBIDDEN, "expected a request of the Functions host on this machine");
    }
    next.run(request).await
}

/// Rejects requests whose `Host` has this port and a name other than that of this machine. A web page can make its own
/// domain name resolve to the loopback address (DNS rebinding); its browser then sends that name and this port. A
/// forwarded request has the `Host` of the Functions host's own address instead.
async fn reject_rebound_names(State(port): State<u16>, request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    match host.rsplit_once(':') {
        Some((name, of)) if of.parse() == Ok(port) && !is_this_machine(name) => {
            Problem::new(StatusCode::FORBIDDEN, "expected this machine's name in the header Host").into_response()
        }
        _ => next.run(request).await,
    }
}

fn is_this_machine(name: &str) -> bool {
    ["127.0.0.1", "localhost"].contains(&name)
}

/// Receives one request of the host and dispatches it by its payload.
async fn receive(
    State(handler): State<Arc<Handler>>,
    function: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let began = Instant::now();
    let Ok(Path(function)) = function else {
        return respond(StatusCode::NOT_FOUND, USAGE);
    };
    let payload = match read_payload(&handler, &function, body).await {
        Ok(payload) => payload,
        Err(response) => return response,
    };
    if let Some(path) = notify::notification_path(&function, &payload) {
        drop(payload);
        return notify::notify(&handler, path).await;
    }
    // The work runs in a task of its own, so that it continues if the host closes the connection, and so that a panic
    // fails only this invocation.
    let is_tick = timer::is_tick(&payload);
    let traceparent = headers.get("traceparent").and_then(|value| value.to_str().ok());
    let task = if is_tick {
        handler.tasks.spawn(continue_trace(traceparent, timer::run_sweep(Arc::clone(&handler))))
    } else {
        match event::parse_invocation(&function, &payload) {
            Ok(invocation) => {
                let work = Arc::clone(&handler).process(function.clone(), invocation);
                handler.tasks.spawn(continue_trace(traceparent, work))
            }
            Err(error) => {
                // 200, because repeating the request would not help.
                error!(function, "{error}");
                return respond(StatusCode::OK, error);
            }
        }
    };
    // The work may take minutes. Only the URLs in the payload are kept.
    drop(payload);
    let processed = task.await.unwrap_or_else(|_| {
        let summary = "a task panicked, which is a defect of vivadrop: see the log for the location";
        (StatusCode::INTERNAL_SERVER_ERROR, summary.to_owned()).into()
    });
    telemetry::export::flush_soon();
    // The host does not repeat the tick of a timer.
    if processed.status == StatusCode::INTERNAL_SERVER_ERROR && !is_tick {
        handler.sleep_unless_stopping(began + RETRY_ANSWERED_AFTER.min(handler.deadline)).await;
    }
    respond(processed.status, &processed.summary)
}

/// Receives a request for an HTTP function, which can only be a notification.
async fn receive_notification(
    State(handler): State<Arc<Handler>>,
    function: Result<Path<String>, PathRejection>,
    body: Body,
) -> Response {
    let Ok(Path(function)) = function else {
        return respond(StatusCode::NOT_FOUND, USAGE);
    };
    let path = match read_payload(&handler, &function, body).await {
        Ok(payload) => notify::notification_path(&function, &payload).unwrap_or_default(),
        Err(response) => return response,
    };
    notify::notify(&handler, path).await
}

/// Reads and parses the body of a request. The error is the response.
async fn read_payload(handler: &Handler, function: &str, body: Body) -> Result<Value, Response> {
    let payload = handler.bodies.read(body).await.map_err(|error| {
        let status = match error {
            BodyError::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            BodyError::Interrupted(_) => StatusCode::BAD_REQUEST,
            BodyError::TooSlow => StatusCode::REQUEST_TIMEOUT,
        };
        respond(status, error)
    })?;
    payload.parse().map_err(|error| {
        error!(function, "{error}");
        respond(StatusCode::BAD_REQUEST, error)
    })
}
