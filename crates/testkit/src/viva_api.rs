//! The Viva Insights API as far as its page documents it: `POST /v1.0/egressDecryptionKey` and `/v1.0/egressPartnerKey`.
//!
//! Holds answers by request and tenant, and remembers what it was asked. It closes each connection behind its answer, so
//! that a connection is a request and being down takes effect at once.

mod partner_key;

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    fmt, io,
    net::Ipv4Addr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{ConnectInfo, State, connect_info::Connected},
    http::{
        HeaderMap, StatusCode,
        header::{AUTHORIZATION, CONNECTION, RETRY_AFTER},
    },
    response::{IntoResponse, Response},
    routing::post,
    serve::{IncomingStream, Listener},
};
use serde_json::{Value, json};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::sleep,
};
use url::Url;
use uuid::Uuid;

/// A stand-in for the Viva Insights API, on loopback, for as long as this lives.
pub struct VivaApiStub {
    url: Url,
    desk: Desk,
    server: JoinHandle<io::Result<()>>,
}

/// How the stub treats a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Behaviour {
    /// As documented.
    Well,
    /// As documented, after a while.
    Slow(Duration),
    /// With this status and body, whatever was asked.
    Wrong {
        /// The HTTP status.
        status: u16,
        /// The body, as it is.
        body: String,
    },
    /// With 429 and this `Retry-After`.
    Throttling {
        /// Seconds, or an HTTP date.
        retry_after: String,
    },
    /// Drops the connection without a word.
    Down,
}

/// The ids of one request, as they were sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// `requestId`.
    pub request_id: String,
    /// `scopeId`.
    pub scope_id: String,
}

/// The key of a customer, as the stub was told it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegisteredKey {
    /// `partnerAppId`.
    pub partner_app_id: String,
    /// `tenantId`: the partner's.
    pub tenant_id: String,
    /// The modulus, big-endian.
    pub modulus: Vec<u8>,
}

/// What the stub holds, and what it was told.
#[derive(Default)]
struct Book {
    answers: HashMap<(String, String), Value>,
    token: Option<String>,
    asked: Vec<Asked>,
    partner_keys: BTreeMap<String, RegisteredKey>,
    registrations: usize,
    connections: usize,
    next: VecDeque<Behaviour>,
    lasting: Option<Behaviour>,
}

impl Book {
    fn lets_in(&self, headers: &HeaderMap) -> bool {
        let sent = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let demanded = self.token.as_deref();
        demanded.is_none() || sent.and_then(|value| value.strip_prefix("Bearer ")) == demanded
    }
}

#[derive(Clone, Default)]
struct Desk(Arc<Mutex<Book>>);

impl Desk {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl VivaApiStub {
    /// Starts one that has `answers`: the keys of a request (a `CopyActivityId`) of a tenant, as the API prints them.
    pub async fn start(answers: impl IntoIterator<Item = (String, Uuid, Value)>) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let url = Url::parse(&format!("http://{}", listener.local_addr()?)).map_err(io::Error::other)?;
        let desk = Desk::default();
        let door = Door { listener, desk: desk.clone() };
        let routes = Router::new()
            .route("/v1.0/egressDecryptionKey", post(egress_decryption_key))
            .route("/v1.0/egressPartnerKey", post(partner_key::egress_partner_key))
            .with_state(desk.clone())
            .into_make_service_with_connect_info::<Behaviour>();
        let server = tokio::spawn(axum::serve(door, routes).into_future());
        let stub = Self { url, desk, server };
        for (request_id, tenant, keys) in answers {
            stub.hold(&request_id, tenant, keys);
        }
        Ok(stub)
    }

    /// Where it listens.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// Holds `keys` for one request of one tenant from now on, instead of what it had for it.
    pub fn hold(&self, request_id: &str, tenant: Uuid, keys: Value) {
        let question = (request_id.to_ascii_lowercase(), tenant.to_string());
        self.desk.book().answers.insert(question, keys);
    }

    /// Answers 401 from now on to whoever does not send this bearer token.
    pub fn demand_token(&self, token: &str) {
        self.desk.book().token = Some(token.to_owned());
    }

    /// Behaves like this until told otherwise; what is left of [`behave_for`](Self::behave_for) is forgotten.
    pub fn behave(&self, behaviour: Behaviour) {
        let mut book = self.desk.book();
        book.next.clear();
        book.lasting = Some(behaviour);
    }

    /// Behaves like this for the next `requests` requests, behind those it was told before.
    pub fn behave_for(&self, requests: usize, behaviour: Behaviour) {
        let more = std::iter::repeat_n(behaviour, requests);
        self.desk.book().next.extend(more);
    }

    /// What it was asked, in order, wrongly or not; requests that it dropped unread are not among it.
    pub fn asked(&self) -> Vec<Asked> {
        self.desk.book().asked.clone()
    }

    /// The key that was registered last for each customer, by `scopeId`.
    pub fn partner_keys(&self) -> BTreeMap<String, RegisteredKey> {
        self.desk.book().partner_keys.clone()
    }

    /// How many registrations it answered with 200.
    pub fn registrations(&self) -> usize {
        self.desk.book().registrations
    }

    /// How many requests reached it, those that it dropped included.
    pub fn requests(&self) -> usize {
        self.desk.book().connections
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

/// Lets connections in, or not.
struct Door {
    listener: TcpListener,
    desk: Desk,
}

impl Listener for Door {
    type Io = TcpStream;
    type Addr = Behaviour;

    async fn accept(&mut self) -> (TcpStream, Behaviour) {
        loop {
            let (stream, _) = Listener::accept(&mut self.listener).await;
            let behaviour = {
                let mut book = self.desk.book();
                book.connections += 1;
                book.next.pop_front().or_else(|| book.lasting.clone()).unwrap_or(Behaviour::Well)
            };
            if behaviour != Behaviour::Down {
                return (stream, behaviour);
            }
        }
    }

    fn local_addr(&self) -> io::Result<Behaviour> {
        Ok(Behaviour::Well)
    }
}

/// A connection is one request: how that is treated is decided when it is let in.
impl Connected<IncomingStream<'_, Door>> for Behaviour {
    fn connect_info(stream: IncomingStream<'_, Door>) -> Self {
        stream.remote_addr().clone()
    }
}

async fn egress_decryption_key(
    State(desk): State<Desk>,
    ConnectInfo(behaviour): ConnectInfo<Behaviour>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let question = question(&body);
    if let Some(asked) = &question {
        desk.book().asked.push(asked.clone());
    }
    treated(behaviour, || answer(&desk, &headers, question)).await
}

/// The answer as it is to be, or as the stub was told to behave.
async fn treated(behaviour: Behaviour, answer: impl FnOnce() -> Response) -> Response {
    let response = match behaviour {
        Behaviour::Wrong { status, body } => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            (status, body).into_response()
        }
        Behaviour::Throttling { retry_after } => {
            (StatusCode::TOO_MANY_REQUESTS, [(RETRY_AFTER, retry_after)]).into_response()
        }
        Behaviour::Slow(delay) => {
            sleep(delay).await;
            answer()
        }
        Behaviour::Well | Behaviour::Down => answer(),
    };
    ([(CONNECTION, "close")], response).into_response()
}

/// As documented: 200 with keys, or 400 for a value that is missing or invalid.
fn answer(desk: &Desk, headers: &HeaderMap, question: Option<Asked>) -> Response {
    let book = desk.book();
    if !book.lets_in(headers) {
        return refusal(StatusCode::UNAUTHORIZED, "Unauthorized", "The token is missing or invalid.");
    }
    let keys = question.and_then(|Asked { request_id, scope_id }| {
        let question = (request_id.to_ascii_lowercase(), scope_id.to_ascii_lowercase());
        book.answers.get(&question).cloned()
    });
    match keys {
        Some(keys) => Json(keys).into_response(),
        None => refusal(StatusCode::BAD_REQUEST, "BadRequest", "A value is missing or invalid."),
    }
}

fn refusal(status: StatusCode, code: &str, message: &str) -> Response {
    (status, Json(json!({"error": {"code": code, "message": message}}))).into_response()
}

fn question(body: &[u8]) -> Option<Asked> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let field = |name| body[name].as_str().map(str::to_owned);
    Some(Asked { request_id: field("requestId")?, scope_id: field("scopeId")? })
}
