//! The HTTP client of the exporters.
//!
//! The OpenTelemetry SDK exports from plain threads, in which an asynchronous HTTP client has no runtime and panics.
//! This client sends from a task of the runtime, and the thread of the SDK waits for it. So neither encoding nor
//! waiting occupies a thread of the runtime.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use reqwest::redirect;
use tokio::runtime::Handle;
use tracing::warn;

use super::config::OtlpEndpoint;
use crate::{error_chain::error_chain, loopback::is_loopback};

/// The maximum number of bytes of a response that are read, so that the connection can be reused.
const MAX_RESPONSE_BYTES: usize = 64 << 10;

/// After a failure was logged, how long further failures are not logged.
const LOG_EVERY: Duration = Duration::from_secs(3600);

/// Sends the requests of one exporter. Logs failures. A failed request loses its telemetry and affects nothing else.
#[derive(Debug)]
pub(super) struct OtlpClient {
    client: reqwest::Client,
    runtime: Handle,
    /// Scheme, host and port of the endpoint.
    origin: String,
    last_logged: Mutex<Option<Instant>>,
}

impl OtlpClient {
    /// A client for `endpoint`, which sends from tasks of the current runtime. Connects to nothing yet.
    ///
    /// Redirects are not followed, because the headers may contain an API key.
    pub(super) fn new(endpoint: &OtlpEndpoint) -> reqwest::Result<Self> {
        let client = reqwest::Client::builder().redirect(redirect::Policy::none()).timeout(endpoint.timeout);
        let client = if is_loopback(&endpoint.url) { client.no_proxy() } else { client };
        Ok(Self {
            client: client.build()?,
            runtime: Handle::current(),
            origin: endpoint.url.origin().ascii_serialization(),
            last_logged: Mutex::default(),
        })
    }

    /// Logs a failure, unless one was logged within [`LOG_EVERY`].
    fn log_failure(&self, why: &str) {
        let mut last_logged = self.last_logged.lock().unwrap_or_else(PoisonError::into_inner);
        if last_logged.is_none_or(|last| last.elapsed() >= LOG_EVERY) {
            *last_logged = Some(Instant::now());
            warn!(
                "telemetry was not exported to {}: {why}; only telemetry is lost, and for an hour this is not logged again",
                self.origin
            );
        }
    }
}

#[async_trait]
impl HttpClient for OtlpClient {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let request = reqwest::Request::try_from(request)?;
        let result = match self.runtime.spawn(send(self.client.clone(), request)).await {
            Ok(result) => result.map_err(|error| error_chain(&error)),
            Err(_ended) => Err("the process stops".to_owned()),
        };
        match &result {
            Ok(response) if response.status().is_success() => {}
            Ok(response) => self.log_failure(&format!("HTTP {}", response.status())),
            Err(why) => self.log_failure(why),
        }
        result.map_err(HttpError::from)
    }
}

/// Sends a request; returns the status and the headers of the response. Its body is read, so that the connection can be
/// reused, and discarded.
async fn send(client: reqwest::Client, request: reqwest::Request) -> reqwest::Result<Response<Bytes>> {
    let mut response = client.execute(request).await.map_err(reqwest::Error::without_url)?;
    let mut bytes = 0;
    while let Ok(Some(chunk)) = response.chunk().await {
        bytes += chunk.len();
        if bytes > MAX_RESPONSE_BYTES {
            break;
        }
    }
    let mut answer = Response::new(Bytes::new());
    (*answer.status_mut(), *answer.headers_mut()) = (response.status(), std::mem::take(response.headers_mut()));
    Ok(answer)
}
