//! A stub of Azure Key Vault on loopback, for keys and for reading secrets. Follows the REST reference:
//! <https://learn.microsoft.com/rest/api/keyvault/keys/operation-groups>. It speaks TLS only, requires a token of
//! Microsoft Entra ID for every request, and performs the operations with real RSA keys.

mod keys;

use std::{
    collections::BTreeMap,
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
use testkit::plan::Plan;
use tokio::task::JoinHandle;
use url::Url;
use vivadrop::drop::TenantId;

use self::keys::Keys;
use super::entra::{Entra, Tokens};

/// The resource that tokens must be issued for.
pub(crate) const RESOURCE: &str = "https://vault.azure.net";

/// The number of keys or versions on one page of a listing.
const PAGE: usize = 2;

/// A running vault. Dropping it closes the port.
pub(crate) struct KeyVault {
    url: Url,
    shared: Shared,
    server: JoinHandle<std::io::Result<()>>,
}

/// How the vault responds to a request that has a valid token.
#[derive(Debug, Clone)]
pub(crate) enum Behaviour {
    /// As documented.
    Normal,
    /// With 429 and this `Retry-After`, in seconds.
    Throttled(u64),
    /// With this status.
    Status(u16),
    /// With 403 and this inner code: `ForbiddenByRbac`, `ForbiddenByFirewall`.
    Denied(&'static str),
}

#[derive(Clone)]
struct Shared {
    url: Url,
    tokens: Tokens,
    plan: Arc<Plan<(), Behaviour>>,
    state: Arc<Mutex<VaultState>>,
}

#[derive(Default)]
struct VaultState {
    keys: Keys,
    secrets: BTreeMap<String, String>,
    requests: Vec<String>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, VaultState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl KeyVault {
    /// Starts an empty vault that accepts the tokens of `entra` and uses its certificate.
    pub(crate) async fn start(entra: &Entra) -> Self {
        let listener = entra.certificate.listen().await;
        let url: Url = format!("https://localhost:{}", listener.local_addr().unwrap().port()).parse().unwrap();
        let plan = Arc::new(Plan::always(Behaviour::Normal));
        let shared = Shared { url: url.clone(), tokens: entra.tokens(), plan, state: Arc::default() };
        let routes = Router::new().fallback(handle).with_state(shared.clone());
        Self { url, shared, server: tokio::spawn(axum::serve(listener, routes).into_future()) }
    }

    /// The vault's URL, for `PRIVATE_KEYS`.
    pub(crate) fn url(&self) -> &Url {
        &self.url
    }

    /// Imports a new version of the tenant's key; returns the version's id.
    pub(crate) fn import(&self, tenant: TenantId, key: RsaPrivateKey) -> String {
        self.shared.state().keys.add(&tenant.to_string(), key, None)
    }

    /// Adds the secret `name` with one version, `1`.
    pub(crate) fn add_secret(&self, name: &str, value: &str) {
        self.shared.state().secrets.insert(name.to_owned(), value.to_owned());
    }

    /// Disables all versions of the tenant's key.
    pub(crate) fn disable(&self, tenant: TenantId) {
        self.shared.state().keys.change(&tenant.to_string(), |version| version.enabled = false);
    }

    /// Disables one version of the tenant's key.
    pub(crate) fn disable_version(&self, tenant: TenantId, id: &str) {
        self.shared.state().keys.change(&tenant.to_string(), |version| version.enabled &= version.id != id);
    }

    /// Permits only these operations with the tenant's key.
    pub(crate) fn permit(&self, tenant: TenantId, operations: &[&str]) {
        let operations: Vec<String> = operations.iter().map(|&operation| operation.to_owned()).collect();
        self.shared.state().keys.change(&tenant.to_string(), |version| version.operations.clone_from(&operations));
    }

    /// Responds to the next requests like this, one after the other.
    pub(crate) fn script(&self, behaviours: impl IntoIterator<Item = Behaviour>) {
        self.shared.plan.script(behaviours);
    }

    /// Responds to every request like this from now on, and discards the script.
    pub(crate) fn answer_always(&self, behaviour: Behaviour) {
        self.shared.plan.set_always(behaviour);
    }

    /// The requests with a valid token, such as `POST /keys/{name}/{version}/decrypt RSA-OAEP`.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.shared.state().requests.clone()
    }

    /// Closes the port.
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

/// An error response: status, code and inner code.
struct VaultError(u16, &'static str, Option<&'static str>);

impl IntoResponse for VaultError {
    fn into_response(self) -> Response {
        let Self(status, code, inner) = self;
        let mut error = json!({"code": code, "message": "A message that may quote the request."});
        if let Some(inner) = inner {
            error["innererror"] = json!({"code": inner});
        }
        (StatusCode::from_u16(status).unwrap(), Json(json!({"error": error}))).into_response()
    }
}

/// Checks the token, and responds as the plan chooses.
async fn handle(State(shared): State<Shared>, method: Method, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    if !shared.tokens.are_for(&headers, RESOURCE) {
        let challenge =
            format!(r#"Bearer authorization="https://login.microsoftonline.com/common", resource="{RESOURCE}""#);
        return ([(header::WWW_AUTHENTICATE, challenge)], VaultError(401, "Unauthorized", None)).into_response();
    }
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let mut state = shared.state();
    let algorithm = body["alg"].as_str().unwrap_or_default();
    state.requests.push(format!("{method} {} {algorithm}", uri.path()).trim_end().to_owned());
    match shared.plan.choose(&()) {
        Behaviour::Normal => {}
        Behaviour::Throttled(seconds) => {
            return ([(header::RETRY_AFTER, seconds.to_string())], VaultError(429, "Throttled", None)).into_response();
        }
        Behaviour::Status(status) => return VaultError(status, "InternalServerError", None).into_response(),
        Behaviour::Denied(inner) => return VaultError(403, "Forbidden", Some(inner)).into_response(),
    }
    match route(&shared.url, &mut state, &method, &uri, &body) {
        Ok(answer) => Json(answer).into_response(),
        Err(error) => error.into_response(),
    }
}

/// Performs the operation that the request names.
fn route(vault: &Url, state: &mut VaultState, method: &Method, uri: &Uri, body: &Value) -> Result<Value, VaultError> {
    let VaultState { keys, secrets, .. } = state;
    let query = uri.query().unwrap_or_default();
    if !query.contains("api-version=") {
        return Err(VaultError(400, "BadParameter", None));
    }
    let segments: Vec<&str> = uri.path().trim_start_matches('/').split('/').collect();
    match (method, &segments[..]) {
        (&Method::GET, ["keys"]) => Ok(page(vault, uri, keys.listed(vault))),
        (&Method::GET, ["keys", name, "versions"]) => Ok(page(vault, uri, keys.versions(vault, name)?)),
        (&Method::GET, ["keys", name]) => keys.bundle(vault, name, ""),
        (&Method::GET, ["keys", name, version]) => keys.bundle(vault, name, version),
        (&Method::PATCH, ["keys", name, version]) => keys.update(vault, name, version, body),
        (&Method::POST, ["keys", name, "create"]) => keys.create(vault, name, body),
        (&Method::POST, ["keys", name, version, operation]) => keys.operate(vault, name, version, operation, body),
        (&Method::GET, ["secrets", name, "" | "1"] | ["secrets", name]) => {
            let value = secrets.get(*name).ok_or(VaultError(404, "SecretNotFound", None))?;
            Ok(json!({"value": value, "id": format!("{vault}secrets/{name}/1"), "attributes": {"enabled": true}}))
        }
        _ => Err(VaultError(404, "NotFound", None)),
    }
}

/// One page of a listing, with the link to the next page.
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
