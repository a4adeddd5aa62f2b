//! A stub of Microsoft Entra ID on loopback: issues tokens for a client secret, over TLS, and for a managed identity,
//! with the protocols of App Service and of the virtual machine's metadata service.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use axum::{
    Json, Router,
    extract::{Path, RawQuery, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle};
use url::form_urlencoded;
use uuid::Uuid;

use super::{host::Settings, secrets::Secrets, tls::Certificate};

/// The lifetime of a token, in seconds.
const LIFETIME: u64 = 3600;

/// A running stub with an app registration that has a client secret, and an app that has a managed identity.
pub(crate) struct Entra {
    pub(crate) certificate: Certificate,
    authority: String,
    identity_endpoint: String,
    shared: Shared,
    servers: [JoinHandle<std::io::Result<()>>; 2],
}

#[derive(Clone)]
struct Shared(Arc<Mutex<EntraState>>);

struct EntraState {
    tenant: String,
    app: String,
    secret: String,
    identity_header: String,
    /// The client id of the user-assigned identity.
    identity: String,
    /// The resource of each issued token.
    issued: HashMap<String, String>,
    /// How each token was requested: `secret`, `managed`, or `managed {client id}`.
    token_requests: Vec<String>,
    /// The status of every response while the service fails.
    failure: Option<u16>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, EntraState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entra {
    /// Starts both services: tokens for the client secret over TLS, and for managed identities over HTTP.
    pub(crate) async fn start() -> Self {
        let certificate = Certificate::new();
        let shared = Shared(Arc::new(Mutex::new(EntraState {
            tenant: Uuid::new_v4().to_string(),
            app: Uuid::new_v4().to_string(),
            secret: format!("app-secret-{}", Uuid::new_v4()),
            identity_header: format!("identity-header-{}", Uuid::new_v4()),
            identity: Uuid::new_v4().to_string(),
            issued: HashMap::new(),
            token_requests: Vec::new(),
            failure: None,
        })));
        let listener = certificate.listen().await;
        let authority = format!("https://localhost:{}", axum::serve::Listener::local_addr(&listener).unwrap().port());
        let routes =
            Router::new().route("/{tenant}/oauth2/v2.0/token", post(client_credentials)).with_state(shared.clone());
        let with_secret = tokio::spawn(axum::serve(listener, routes).into_future());

        // The endpoint for managed identities is on the app's own machine, and uses plain HTTP.
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let identity_endpoint = format!("http://{}/msi/token", listener.local_addr().unwrap());
        let routes = Router::new()
            .route("/msi/token", get(app_service_identity))
            .route("/metadata/identity/oauth2/token", get(machine_identity))
            .with_state(shared.clone());
        let managed = tokio::spawn(axum::serve(listener, routes).into_future());
        Self { certificate, authority, identity_endpoint, shared, servers: [with_secret, managed] }
    }

    /// The settings of an app that authenticates with the client secret.
    pub(crate) fn with_secret(&self) -> Settings {
        let state = self.shared.state();
        self.settings([
            ("AZURE_AUTHORITY_HOST", self.authority.clone()),
            ("AZURE_TENANT_ID", state.tenant.clone()),
            ("AZURE_CLIENT_ID", state.app.clone()),
            ("AZURE_CLIENT_SECRET", state.secret.clone()),
        ])
    }

    /// The environment in which App Service starts an app that has a managed identity.
    pub(crate) fn with_managed_identity(&self) -> Settings {
        let header = self.shared.state().identity_header.clone();
        self.settings([("IDENTITY_ENDPOINT", self.identity_endpoint.clone()), ("IDENTITY_HEADER", header)])
    }

    /// The client id of the user-assigned identity, which the app has in addition.
    pub(crate) fn user_assigned(&self) -> String {
        self.shared.state().identity.clone()
    }

    fn settings<const N: usize>(&self, own: [(&str, String); N]) -> Settings {
        let trust = ("SSL_CERT_FILE", self.certificate.file().display().to_string());
        own.into_iter().chain([trust]).map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// Adds the client secret, the identity header and the tokens to `secrets`.
    pub(crate) fn add_secrets(&self, secrets: &Secrets) {
        let state = self.shared.state();
        secrets.add("a client secret", state.secret.clone());
        secrets.add("an identity header", state.identity_header.clone());
        secrets.add("a token", "eyJhbGciOi");
    }

    /// Responds to every request with `status` from now on; normally again if it is `None`.
    pub(crate) fn fail(&self, status: Option<u16>) {
        self.shared.state().failure = status;
    }

    /// How each issued token was requested: `secret`, `managed`, or `managed {client id}`.
    pub(crate) fn token_requests(&self) -> Vec<String> {
        self.shared.state().token_requests.clone()
    }

    /// The tokens of this stub, for services that verify them.
    pub(crate) fn tokens(&self) -> Tokens {
        Tokens(self.shared.clone())
    }
}

impl Drop for Entra {
    fn drop(&mut self) {
        self.servers.iter().for_each(JoinHandle::abort);
    }
}

/// Verifies and issues the tokens of an [`Entra`].
#[derive(Clone)]
pub(crate) struct Tokens(Shared);

impl Tokens {
    /// Whether the request has an issued token for `resource`.
    pub(crate) fn are_for(&self, headers: &HeaderMap, resource: &str) -> bool {
        let bearer = headers.get("authorization").and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
        bearer.is_some_and(|token| self.0.state().issued.get(token).is_some_and(|issued_for| issued_for == resource))
    }

    /// Issues a token for `resource` without a request.
    pub(crate) fn issue(&self, resource: &str) -> String {
        issue(&mut self.0.state(), resource)
    }
}

/// The client credentials flow:
/// <https://learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow>.
async fn client_credentials(State(shared): State<Shared>, Path(tenant): Path<String>, body: String) -> Response {
    let (mut state, form) = (shared.state(), pairs(&body));
    let given = |name: &str| form.get(name).map(String::as_str).unwrap_or_default();
    if let Some(failure) = failure_response(&state) {
        return failure;
    }
    if tenant != state.tenant || given("grant_type") != "client_credentials" || given("client_id") != state.app {
        return unauthorized(
            "AADSTS700016: Application was not found in the directory.",
            "unauthorized_client",
            700_016,
        );
    }
    if given("client_secret") != state.secret {
        return unauthorized("AADSTS7000215: Invalid client secret provided.", "invalid_client", 7_000_215);
    }
    let Some(resource) = given("scope").strip_suffix("/.default") else {
        return unauthorized("AADSTS1002012: The provided value for scope is not valid.", "invalid_scope", 1_002_012);
    };
    state.token_requests.push("secret".into());
    let token = issue(&mut state, resource);
    let answer =
        json!({"token_type": "Bearer", "expires_in": LIFETIME, "ext_expires_in": LIFETIME, "access_token": token});
    Json(answer).into_response()
}

/// A response 401 as Entra sends it.
fn unauthorized(description: &str, error: &str, code: u64) -> Response {
    let body = json!({"error": error, "error_description": description, "error_codes": [code]});
    (StatusCode::UNAUTHORIZED, Json(body)).into_response()
}

/// The endpoint of App Service:
/// <https://learn.microsoft.com/azure/app-service/overview-managed-identity#rest-endpoint-reference>.
async fn app_service_identity(State(shared): State<Shared>, RawQuery(query): RawQuery, headers: HeaderMap) -> Response {
    let query = pairs(&query.unwrap_or_default());
    let has_header = headers.get("x-identity-header").is_some_and(|given| *given == shared.state().identity_header);
    if !has_header || query.get("api-version").is_none_or(|version| version != "2019-08-01") {
        return (StatusCode::FORBIDDEN, Json(json!({"statusCode": 403, "message": "No identity."}))).into_response();
    }
    managed_identity(&shared, &query)
}

/// The virtual machine's metadata service:
/// <https://learn.microsoft.com/entra/identity/managed-identities-azure-resources/how-to-use-vm-token>.
async fn machine_identity(State(shared): State<Shared>, RawQuery(query): RawQuery, headers: HeaderMap) -> Response {
    if headers.get("metadata").is_none_or(|value| value != "true") {
        return (StatusCode::BAD_REQUEST, Json(json!({"error": "invalid_request"}))).into_response();
    }
    managed_identity(&shared, &pairs(&query.unwrap_or_default()))
}

/// The parameters of a form or a query.
fn pairs(text: &str) -> HashMap<String, String> {
    form_urlencoded::parse(text.as_bytes()).into_owned().collect()
}

/// Issues a token for the managed identity, or for the user-assigned one that `client_id` names.
fn managed_identity(shared: &Shared, query: &HashMap<String, String>) -> Response {
    let mut state = shared.state();
    if let Some(failure) = failure_response(&state) {
        return failure;
    }
    let client_id = query.get("client_id");
    let Some(resource) = query.get("resource").filter(|_| client_id.is_none_or(|id| *id == state.identity)) else {
        let why = "Identity not found";
        return (StatusCode::BAD_REQUEST, Json(json!({"error": "invalid_request", "error_description": why})))
            .into_response();
    };
    state.token_requests.push(client_id.map_or_else(|| "managed".into(), |id| format!("managed {id}")));
    let token = issue(&mut state, resource);
    let expires_on = (now() + LIFETIME).to_string();
    Json(json!({"access_token": token, "expires_on": expires_on, "resource": resource, "token_type": "Bearer",
                "client_id": client_id.unwrap_or(&state.app)}))
    .into_response()
}

/// The response while the service fails.
fn failure_response(state: &EntraState) -> Option<Response> {
    let status = StatusCode::from_u16(state.failure?).unwrap();
    Some((status, Json(json!({"error": "temporarily_unavailable"}))).into_response())
}

/// A token in Entra's format, except that the signature is random.
fn issue(state: &mut EntraState, resource: &str) -> String {
    let (now, tenant) = (now(), &state.tenant);
    let part = |part: Value| BASE64_URL_SAFE_NO_PAD.encode(part.to_string());
    let claims = json!({
        "aud": resource, "iss": format!("https://sts.windows.net/{tenant}/"), "iat": now, "nbf": now, "exp": now + LIFETIME,
        "appid": state.app, "oid": Uuid::new_v4().to_string(), "tid": tenant, "ver": "1.0",
    });
    let header = json!({"typ": "JWT", "alg": "RS256", "kid": "stub"});
    let token = format!("{}.{}.{}", part(header), part(claims), BASE64_URL_SAFE_NO_PAD.encode(Uuid::new_v4()));
    state.issued.insert(token.clone(), resource.to_owned());
    token
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}
