//! A stub of the Viva Insights API: `POST /v1.0/egressDecryptionKey` and `POST /v1.0/egressPartnerKey`.
//!
//! The stub follows Microsoft's documentation of the two operations. It returns the keys that a test has given it, by
//! request and tenant, and records the requests. It closes each connection after one response, so that every request is
//! a new connection and a change of [`Behaviour`] applies to the next request.

mod connection;
mod decryption_key;
mod partner_key;

use std::{
    collections::{BTreeMap, HashMap},
    fmt, io,
    net::Ipv4Addr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{
    Json, Router,
    http::{
        HeaderMap, StatusCode,
        header::{AUTHORIZATION, CONNECTION, RETRY_AFTER},
    },
    response::{IntoResponse, Response},
    routing::post,
};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle, time::sleep};
use url::Url;
use uuid::Uuid;

use crate::plan::Plan;

/// A running stub, on a free port of loopback. It stops when it is dropped.
pub struct VivaApiStub {
    url: Url,
    shared: Arc<Shared>,
    server: JoinHandle<io::Result<()>>,
}

/// How the stub treats a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Behaviour {
    /// Responds as documented.
    Normal,
    /// Responds as documented, after this time.
    Slow(Duration),
    /// Responds with this status and body to every request.
    Status {
        /// The HTTP status.
        status: u16,
        /// The response body.
        body: String,
    },
    /// Responds with 429 and this `Retry-After`.
    Throttled {
        /// Seconds, or an HTTP date.
        retry_after: String,
    },
    /// Closes the connection without a response.
    Disconnect,
}

/// The ids of a request to `egressDecryptionKey`, as they were sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRequest {
    /// `requestId`.
    pub request_id: String,
    /// `scopeId`.
    pub scope_id: String,
}

/// A customer's public key, as it was registered with `egressPartnerKey`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegisteredKey {
    /// `partnerAppId`.
    pub partner_app_id: String,
    /// `tenantId`: the partner's.
    pub tenant_id: String,
    /// The modulus, big-endian.
    pub modulus: Vec<u8>,
}

/// The state that the stub and its requests share.
struct Shared {
    plan: Plan<(), Behaviour>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The response to `egressDecryptionKey`, by `requestId` and `scopeId` in lower case.
    keys: HashMap<(String, String), Value>,
    /// The bearer token that requests must send; `None` accepts any request.
    token: Option<String>,
    key_requests: Vec<KeyRequest>,
    partner_keys: BTreeMap<String, RegisteredKey>,
    registrations: usize,
    requests: usize,
}

impl State {
    fn is_authorized(&self, headers: &HeaderMap) -> bool {
        let sent = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let required = self.token.as_deref();
        required.is_none() || sent.and_then(|value| value.strip_prefix("Bearer ")) == required
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl VivaApiStub {
    /// Starts a stub that has the wrapped keys `keys`: `CopyActivityId`, tenant, and the API's response for them.
    pub async fn start(keys: impl IntoIterator<Item = (String, Uuid, Value)>) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let url = Url::parse(&format!("http://{}", listener.local_addr()?)).map_err(io::Error::other)?;
        let shared = Arc::new(Shared { plan: Plan::always(Behaviour::Normal), state: Mutex::default() });
        let routes = Router::new()
            .route("/v1.0/egressDecryptionKey", post(decryption_key::egress_decryption_key))
            .route("/v1.0/egressPartnerKey", post(partner_key::egress_partner_key))
            .with_state(Arc::clone(&shared))
            .into_make_service_with_connect_info::<Behaviour>();
        let connections = connection::PlannedListener { listener, shared: Arc::clone(&shared) };
        let server = tokio::spawn(axum::serve(connections, routes).into_future());
        let stub = Self { url, shared, server };
        for (request_id, tenant, response) in keys {
            stub.add_keys(&request_id, tenant, response);
        }
        Ok(stub)
    }

    /// The base URL, for `VIVA_API_URL`.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// Adds the keys of one request of one tenant, or replaces them.
    pub fn add_keys(&self, request_id: &str, tenant: Uuid, response: Value) {
        let ids = (request_id.to_ascii_lowercase(), tenant.to_string());
        self.shared.state().keys.insert(ids, response);
    }

    /// Responds with 401 to every request without this bearer token from now on.
    pub fn require_token(&self, token: &str) {
        self.shared.state().token = Some(token.to_owned());
    }

    /// Applies `behaviour` to every request from now on, and discards the script.
    pub fn answer_always(&self, behaviour: Behaviour) {
        self.shared.plan.set_always(behaviour);
    }

    /// Applies `behaviour` to the next `requests` requests, after those that are already scripted.
    pub fn answer_next(&self, requests: usize, behaviour: Behaviour) {
        self.shared.plan.next(requests, behaviour);
    }

    /// The requests to `egressDecryptionKey` in order, including rejected ones, but not those whose connection was
    /// closed unread.
    pub fn key_requests(&self) -> Vec<KeyRequest> {
        self.shared.state().key_requests.clone()
    }

    /// The key that was registered last for each customer, by `scopeId`.
    pub fn partner_keys(&self) -> BTreeMap<String, RegisteredKey> {
        self.shared.state().partner_keys.clone()
    }

    /// The number of registrations that were answered with 200.
    pub fn registrations(&self) -> usize {
        self.shared.state().registrations
    }

    /// The number of requests, including those whose connection was closed unread.
    pub fn requests(&self) -> usize {
        self.shared.state().requests
    }
}

impl Drop for VivaApiStub {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl fmt::Debug for VivaApiStub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VivaApiStub").field("url", &self.url.as_str()).finish_non_exhaustive()
    }
}

/// The response that `behaviour` asks for; `normal` is the documented one.
async fn respond(behaviour: Behaviour, normal: impl FnOnce() -> Response) -> Response {
    let response = match behaviour {
        Behaviour::Status { status, body } => {
            let status = StatusCode::from_u16(status).expect("a test gives a valid HTTP status");
            (status, body).into_response()
        }
        Behaviour::Throttled { retry_after } => {
            (StatusCode::TOO_MANY_REQUESTS, [(RETRY_AFTER, retry_after)]).into_response()
        }
        Behaviour::Slow(delay) => {
            sleep(delay).await;
            normal()
        }
        // The listener has already closed the connection for `Disconnect`.
        Behaviour::Normal | Behaviour::Disconnect => normal(),
    };
    ([(CONNECTION, "close")], response).into_response()
}

/// An error in the API's format.
fn error_response(status: StatusCode, code: &str, message: &str) -> Response {
    (status, Json(json!({"error": {"code": code, "message": message}}))).into_response()
}

fn unauthorized() -> Response {
    error_response(StatusCode::UNAUTHORIZED, "Unauthorized", "The token is missing or invalid.")
}

fn bad_request() -> Response {
    error_response(StatusCode::BAD_REQUEST, "BadRequest", "A value is missing or invalid.")
}
