//! The server of `vivadrop page`: page and API on loopback, for the person who started it.
//!
//! Other programs and web pages on this machine can connect to the port, so every request for data needs a key. Only
//! the page that was opened with the one-time token gets the key, once.

use std::sync::{Arc, Mutex, PoisonError};

use axum::{
    Json, Router,
    body::{Body, to_bytes},
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::post,
};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::api::{self, Api, problem::Problem};

/// The largest body of the exchange of the token.
const MAX_BODY: usize = 1 << 10;

/// The secrets of one server.
#[derive(Debug)]
pub struct Session {
    port: u16,
    /// `None` once it was exchanged.
    token: Mutex<Option<SecretString>>,
    key: SecretString,
}

impl Session {
    /// New random secrets for the server at `port`.
    pub fn new(port: u16) -> Self {
        Self { port, token: Mutex::new(Some(random())), key: random() }
    }

    /// The address that opens the page. Contains the token.
    pub fn address(&self) -> String {
        let token = self.token.lock().unwrap_or_else(PoisonError::into_inner);
        let token = token.as_ref().map_or("", |token| token.expose_secret());
        format!("http://127.0.0.1:{}/api/page#token={token}", self.port)
    }

    /// Whether the headers name this server, and no other origin.
    fn is_own_origin(&self, headers: &HeaderMap) -> bool {
        let hosts = [format!("127.0.0.1:{}", self.port), format!("localhost:{}", self.port)];
        let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or_default());
        let is_own = |host: &str| hosts.iter().any(|own| own == host);
        text(header::HOST).is_some_and(is_own)
            && text(header::ORIGIN).is_none_or(|origin| origin.strip_prefix("http://").is_some_and(is_own))
    }
}

/// 244 random bits.
fn random() -> SecretString {
    format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple()).into()
}

/// Whether two texts are equal. The time depends on their hashes alone.
fn is_equal(a: &str, b: &str) -> bool {
    Sha256::digest(a) == Sha256::digest(b)
}

/// The routes of page and API, behind the checks of `session`.
pub fn routes(api: Arc<Api>, session: Arc<Session>) -> Router {
    let exchange = Router::new().route("/api/page/session", post(exchange)).with_state(Arc::clone(&session));
    api::routes(api)
        .merge(exchange)
        .fallback(async || Problem::new(StatusCode::NOT_FOUND, "there is no such resource"))
        .layer(middleware::from_fn_with_state(session, check))
}

/// Rejects requests of other origins, and requests for data without the key.
async fn check(State(session): State<Arc<Session>>, request: Request, next: Next) -> Response {
    if !session.is_own_origin(request.headers()) {
        return Problem::new(StatusCode::FORBIDDEN, "expected a request of the page that this server has opened")
            .into_response();
    }
    let path = request.uri().path();
    let is_page = path == "/api/page" || path.starts_with("/api/page/");
    let key = request.headers().get("x-functions-key").and_then(|key| key.to_str().ok()).unwrap_or_default();
    if !is_page && !is_equal(key, session.key.expose_secret()) {
        return Problem::new(StatusCode::UNAUTHORIZED, "expected the key of this page in the header x-functions-key")
            .into_response();
    }
    next.run(request).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Token {
    token: String,
}

#[derive(Serialize)]
struct Key<'k> {
    key: &'k str,
}

/// Exchanges the one-time token for the key.
async fn exchange(State(session): State<Arc<Session>>, body: Body) -> Response {
    let bytes = to_bytes(body, MAX_BODY).await.unwrap_or_default();
    let Ok(given) = serde_json::from_slice::<Token>(&bytes) else {
        return Problem::new(StatusCode::BAD_REQUEST, "expected the member `token`").into_response();
    };
    let mut token = session.token.lock().unwrap_or_else(PoisonError::into_inner);
    let is_valid = |token: &mut SecretString| is_equal(token.expose_secret(), &given.token);
    if token.take_if(is_valid).is_none() {
        return Problem::new(
            StatusCode::UNAUTHORIZED,
            "the token is wrong or was used already: start `vivadrop page` again for a new address",
        )
        .into_response();
    }
    ([(header::CACHE_CONTROL, "no-store")], Json(Key { key: session.key.expose_secret() })).into_response()
}
