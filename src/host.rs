//! The HTTP server for the Azure Functions host: receives invocations and responds to them.
//!
//! The host posts each event to `/<function>` and waits for the response. After 2xx the event is over; after any other
//! status the host repeats it up to five times at once, and then gives up. [`payload`] reads the request body,
//! [`event`] finds the blob URLs in it, and the handler starts a [run](crate::run) for each drop that they belong to.
//! The kind of a request is determined by its payload and not by the name of the function, because function folders may
//! be renamed.

pub mod event;
mod handler;
mod notify;
pub mod payload;
pub mod response;
mod timer;

use std::{net::Ipv4Addr, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::{Path, State, rejection::PathRejection},
    http::StatusCode,
    response::Response,
    routing::{self, get},
};
use futures::TryStreamExt;
use tokio::{net::TcpListener, signal::unix};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{error, info};

use self::{
    handler::Handler,
    payload::{PayloadTooLarge, PayloadTrimmer, TrimmedPayload},
    response::respond,
};
use crate::{
    app::App,
    config::{InvalidSettings, Settings},
};

/// How long running work may continue after SIGTERM or SIGINT. The host waits for 10 seconds at most.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(8);

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

/// Why the server cannot start or continue.
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
    /// The HTTP server ended unexpectedly.
    #[error("the HTTP server stopped")]
    Stopped(#[source] std::io::Error),
    /// The signal handlers could not be installed.
    #[error("cannot listen for signals")]
    Signals(#[source] std::io::Error),
}

/// Serves the Functions host on 127.0.0.1 until SIGTERM or SIGINT.
pub async fn serve(port: u16, app: App, deadline: Duration) -> Result<(), ServeError> {
    let cannot_listen = |source| ServeError::Listen { port, source };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.map_err(cannot_listen)?;
    let mut terminate = unix::signal(unix::SignalKind::terminate()).map_err(ServeError::Signals)?;
    let mut interrupt = unix::signal(unix::SignalKind::interrupt()).map_err(ServeError::Signals)?;
    info!(version = env!("CARGO_PKG_VERSION"), "listening on 127.0.0.1:{port}");

    let (stopping, tasks) = (CancellationToken::new(), TaskTracker::new());
    let ledger = app.runner.ledger.clone();
    let handler = Arc::new(Handler::new(app, deadline, stopping.clone(), tasks.clone()));
    let routes = Router::new()
        // The host polls this every 25 ms until it gets a response, and occasionally after that.
        .route("/", get(async || StatusCode::OK))
        .route("/{function}", routing::post(receive))
        // The host forwards requests for HTTP functions to this path.
        .route("/api/{function}", routing::post(receive))
        .method_not_allowed_fallback(async || respond(StatusCode::METHOD_NOT_ALLOWED, USAGE))
        .fallback(async || respond(StatusCode::NOT_FOUND, USAGE))
        .with_state(handler);

    let shutdown = async move {
        tokio::select! { _ = terminate.recv() => {} _ = interrupt.recv() => {} }
        info!(
            "stopping: no further events are accepted, and running work has {} s to finish",
            SHUTDOWN_GRACE.as_secs()
        );
        tokio::spawn(async move {
            tokio::time::sleep(SHUTDOWN_GRACE).await;
            stopping.cancel();
        });
    };
    axum::serve(listener, routes).with_graceful_shutdown(shutdown).await.map_err(ServeError::Stopped)?;
    tasks.close();
    tasks.wait().await;
    // Runs that were stopped have released their claims; the ledger writes that before the process ends.
    ledger.flush().await;
    Ok(())
}

/// Receives one request of the host and dispatches it by its payload.
async fn receive(
    State(handler): State<Arc<Handler>>,
    function: Result<Path<String>, PathRejection>,
    body: Body,
) -> Response {
    let Ok(Path(function)) = function else {
        return respond(StatusCode::NOT_FOUND, USAGE);
    };
    let payload = match read_payload(body).await {
        Ok(payload) => payload,
        Err(BodyError::TooLarge(error)) => return respond(StatusCode::PAYLOAD_TOO_LARGE, error),
        Err(BodyError::Interrupted(error)) => {
            return respond(StatusCode::BAD_REQUEST, format!("the request body was interrupted: {error}"));
        }
    };
    let payload = match payload.parse() {
        Ok(payload) => payload,
        Err(error) => {
            error!(function, "{error}");
            return respond(StatusCode::BAD_REQUEST, error);
        }
    };
    if let Some(path) = notify::notification_path(&function, &payload) {
        return notify::notify(handler, path).await;
    }
    // The work runs in a task of its own, so that it continues if the host closes the connection, and so that a panic
    // fails only this invocation.
    let task = if timer::is_tick(&payload) {
        handler.tasks.spawn(timer::run_sweep(Arc::clone(&handler)))
    } else {
        match event::parse_invocation(&function, &payload) {
            Ok(invocation) => handler.tasks.spawn(Arc::clone(&handler).process(function.clone(), invocation)),
            Err(error) => {
                // 200, because repeating the request would not help.
                error!(function, "{error}");
                return respond(StatusCode::OK, error);
            }
        }
    };
    let (status, summary) = task.await.unwrap_or_else(|_| {
        let summary = "a task panicked, which is a defect of vivadrop: see the log for the location";
        (StatusCode::INTERNAL_SERVER_ERROR, summary.to_owned())
    });
    respond(status, summary)
}

/// Why a request body could not be read.
enum BodyError {
    TooLarge(PayloadTooLarge),
    Interrupted(axum::Error),
}

/// Reads a request body without its very long strings: without deferred binding, one of them is the whole blob.
async fn read_payload(body: Body) -> Result<TrimmedPayload, BodyError> {
    let mut trimmer = PayloadTrimmer::default();
    let mut chunks = body.into_data_stream();
    let mut result = Ok(());
    // A payload that is too large is still read to its end, because a client that is still sending its body does not
    // read the response.
    while let Some(chunk) = chunks.try_next().await.map_err(BodyError::Interrupted)? {
        result = result.and_then(|()| trimmer.push(&chunk));
    }
    result.map_err(BodyError::TooLarge)?;
    Ok(trimmer.finish())
}
