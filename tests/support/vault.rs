//! Azure Key Vault on loopback, as far as keys and reading secrets go, by its REST reference:
//! <https://learn.microsoft.com/rest/api/keyvault/keys/operation-groups>. It speaks TLS alone, asks for a token of
//! Microsoft Entra ID before it says anything, and keeps real RSA keys.

mod keys;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
    serve::Listener,
};
use rsa::RsaPrivateKey;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use url::Url;
use vivadrop::drop::TenantId;

use self::keys::Shelf;
use super::entra::{Entra, Tokens};

/// What a token is to be for.
pub(crate) const RESOURCE: &str = "https://vault.azure.net";

/// How many keys or versions are on one page of a listing.
const PAGE: usize = 2;

/// A vault.
pub(crate) struct KeyVault {
    url: Url,
    desk: Desk,
    server: JoinHandle<std::io::Result<()>>,
}

/// How the vault treats a request that brings a token.
#[derive(Debug, Clone)]
pub(crate) enum Behaviour {
    /// As documented.
    Well,
    /// With 429 and this `Retry-After`, in seconds.
    Throttling(u64),
    /// With this status.
    Failing(u16),
    /// With 403 and this inner code: `ForbiddenByRbac`, `ForbiddenByFirewall`.
    Denying(&'static str),
}

#[derive(Clone)]
struct Desk {
    url: Url,
    tokens: Tokens,
    book: Arc<Mutex<Book>>,
}

#[derive(Default)]
struct Book {
    shelf: Shelf,
    secrets: BTreeMap<String, String>,
    asked: Vec<String>,
    next: VecDeque<Behaviour>,
    lasting: Option<Behaviour>,
}

impl Desk {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl KeyVault {
    /// An empty vault, which trusts the tokens of `entra` and has its certificate.
    pub(crate) async fn start(entra: &Entra) -> Self {
        let door = entra.certificate.listen().await;
        let url: Url = format!("https://localhost:{}", door.local_addr().unwrap().port()).parse().unwrap();
        let desk = Desk { url: url.clone(), tokens: entra.tokens(), book: Arc::default() };
        let routes = Router::new().fallback(answer).with_state(desk.clone());
        Self { url, desk, server: tokio::spawn(axum::serve(door, routes).into_future()) }
    }

    /// Where it is: for `PRIVATE_KEYS`.
    pub(crate) fn url(&self) -> &Url {
        &self.url
    }

    /// Imports the tenant's key, as a new version; returns the version.
    pub(crate) fn import(&self, tenant: TenantId, key: RsaPrivateKey) -> String {
        self.desk.book().shelf.add(&tenant.to_string(), key, None)
    }

    /// Keeps `value` as the secret `name`, in one version, `1`.
    pub(crate) fn keep_secret(&self, name: &str, value: &str) {
        self.desk.book().secrets.insert(name.to_owned(), value.to_owned());
    }

    /// Disables all versions of the tenant's key.
    pub(crate) fn disable(&self, tenant: TenantId) {
        self.desk.book().shelf.change(&tenant.to_string(), |version| version.enabled = false);
    }

    /// Leaves the tenant's key these operations alone.
    pub(crate) fn permit(&self, tenant: TenantId, operations: &[&str]) {
        let operations: Vec<String> = operations.iter().map(|&operation| operation.to_owned()).collect();
        self.desk.book().shelf.change(&tenant.to_string(), |version| version.operations.clone_from(&operations));
    }

    /// Treats the next requests so, one after the other.
    pub(crate) fn answer_next(&self, behaviours: impl IntoIterator<Item = Behaviour>) {
        self.desk.book().next.extend(behaviours);
    }

    /// Treats every request so that has no treatment of its own.
    pub(crate) fn answer_always(&self, behaviour: Behaviour) {
        self.desk.book().lasting = Some(behaviour);
    }

    /// What was asked of it with a token: `POST /keys/{name}/{version}/decrypt RSA-OAEP`.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.desk.book().asked.clone()
    }

    /// Goes away: connections are refused from now on.
    pub(crate) async fn stop(&mut self) {
        self.server.abort();
        _ = (&mut self.server).await;
    }
}

impl Drop for KeyVault {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// An error as the service words it.
struct Refusal(u16, &'static str, Option<&'static str>);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let Self(status, code, inner) = self;
        let mut error = json!({"code": code, "message": "What happened, in words that may quote what was sent."});
        if let Some(inner) = inner {
            error["innererror"] = json!({"code": inner});
        }
        (StatusCode::from_u16(status).unwrap(), Json(json!({"error": error}))).into_response()
    }
}

async fn answer(State(desk): State<Desk>, method: Method, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    if !desk.tokens.are_for(&headers, RESOURCE) {
        let challenge =
            format!(r#"Bearer authorization="https://login.microsoftonline.com/common", resource="{RESOURCE}""#);
        return ([(header::WWW_AUTHENTICATE, challenge)], Refusal(401, "Unauthorized", None)).into_response();
    }
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let mut book = desk.book();
    let algorithm = body["alg"].as_str().unwrap_or_default();
    book.asked.push(format!("{method} {} {algorithm}", uri.path()).trim_end().to_owned());
    match book.next.pop_front().or_else(|| book.lasting.clone()).unwrap_or(Behaviour::Well) {
        Behaviour::Well => {}
        Behaviour::Throttling(seconds) => {
            return ([(header::RETRY_AFTER, seconds.to_string())], Refusal(429, "Throttled", None)).into_response();
        }
        Behaviour::Failing(status) => return Refusal(status, "InternalServerError", None).into_response(),
        Behaviour::Denying(inner) => return Refusal(403, "Forbidden", Some(inner)).into_response(),
    }
    match route(&desk.url, &mut book, &method, &uri, &body) {
        Ok(answer) => Json(answer).into_response(),
        Err(refusal) => refusal.into_response(),
    }
}

fn route(vault: &Url, book: &mut Book, method: &Method, uri: &Uri, body: &Value) -> Result<Value, Refusal> {
    let Book { shelf, secrets, .. } = book;
    let query = uri.query().unwrap_or_default();
    if !query.contains("api-version=") {
        return Err(Refusal(400, "BadParameter", None));
    }
    let segments: Vec<&str> = uri.path().trim_start_matches('/').split('/').collect();
    match (method, &segments[..]) {
        (&Method::GET, ["keys"]) => Ok(page(vault, uri, shelf.listed(vault))),
        (&Method::GET, ["keys", name, "versions"]) => Ok(page(vault, uri, shelf.versions(vault, name)?)),
        (&Method::GET, ["keys", name]) => shelf.bundle(vault, name, ""),
        (&Method::GET, ["keys", name, version]) => shelf.bundle(vault, name, version),
        (&Method::POST, ["keys", name, "create"]) => shelf.create(vault, name, body),
        (&Method::POST, ["keys", name, version, operation]) => shelf.operate(vault, name, version, operation, body),
        (&Method::GET, ["secrets", name, "" | "1"] | ["secrets", name]) => {
            let value = secrets.get(*name).ok_or(Refusal(404, "SecretNotFound", None))?;
            Ok(json!({"value": value, "id": format!("{vault}secrets/{name}/1"), "attributes": {"enabled": true}}))
        }
        _ => Err(Refusal(404, "NotFound", None)),
    }
}

/// One page of a listing, and where the next one is.
fn page(vault: &Url, uri: &Uri, items: Vec<Value>) -> Value {
    let query = url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
    let skipped = query.into_iter().find_map(|(name, value)| (name == "$skiptoken").then(|| value.parse().ok())?);
    let skipped: usize = skipped.unwrap_or_default();
    let next = skipped + PAGE;
    let next_link = (next < items.len())
        .then(|| format!("{}{}?api-version=7.6&$skiptoken={next}", vault.as_str().trim_end_matches('/'), uri.path()));
    let value: Vec<Value> = items.into_iter().skip(skipped).take(PAGE).collect();
    json!({"value": value, "nextLink": next_link})
}
