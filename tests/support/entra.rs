//! Microsoft Entra ID on loopback, as far as an app needs it: tokens for a client secret, over TLS, and for a managed
//! identity, as App Service and the virtual machine's metadata service hand them out.

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

/// How long a token is good for, in seconds.
const LIFETIME: u64 = 3600;

/// An app registration with a secret, and an app with a managed identity.
pub(crate) struct Entra {
    pub(crate) certificate: Certificate,
    authority: String,
    identity_endpoint: String,
    desk: Desk,
    servers: [JoinHandle<std::io::Result<()>>; 2],
}

#[derive(Clone)]
struct Desk(Arc<Mutex<Book>>);

struct Book {
    tenant: String,
    app: String,
    secret: String,
    identity_header: String,
    /// The client id of the user-assigned identity.
    identity: String,
    /// Tokens, with what they are for.
    issued: HashMap<String, String>,
    /// Who got a token: `secret`, `managed`, or `managed` and a client id.
    asked: Vec<String>,
    failing: Option<u16>,
}

impl Desk {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entra {
    pub(crate) async fn start() -> Self {
        let certificate = Certificate::new();
        let desk = Desk(Arc::new(Mutex::new(Book {
            tenant: Uuid::new_v4().to_string(),
            app: Uuid::new_v4().to_string(),
            secret: format!("app-secret-{}", Uuid::new_v4()),
            identity_header: format!("identity-header-{}", Uuid::new_v4()),
            identity: Uuid::new_v4().to_string(),
            issued: HashMap::new(),
            asked: Vec::new(),
            failing: None,
        })));
        let door = certificate.listen().await;
        let authority = format!("https://localhost:{}", axum::serve::Listener::local_addr(&door).unwrap().port());
        let routes = Router::new().route("/{tenant}/oauth2/v2.0/token", post(for_a_secret)).with_state(desk.clone());
        let with_secret = tokio::spawn(axum::serve(door, routes).into_future());

        // The managed identity's endpoint is on the app's own machine, and plain http.
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let identity_endpoint = format!("http://{}/msi/token", listener.local_addr().unwrap());
        let routes = Router::new()
            .route("/msi/token", get(for_an_app))
            .route("/metadata/identity/oauth2/token", get(for_a_machine))
            .with_state(desk.clone());
        let managed = tokio::spawn(axum::serve(listener, routes).into_future());
        Self { certificate, authority, identity_endpoint, desk, servers: [with_secret, managed] }
    }

    /// What an app is given that has the client secret.
    pub(crate) fn with_secret(&self) -> Settings {
        let book = self.desk.book();
        self.settings([
            ("AZURE_AUTHORITY_HOST", self.authority.clone()),
            ("AZURE_TENANT_ID", book.tenant.clone()),
            ("AZURE_CLIENT_ID", book.app.clone()),
            ("AZURE_CLIENT_SECRET", book.secret.clone()),
        ])
    }

    /// What App Service gives an app that has a managed identity of its own.
    pub(crate) fn with_managed_identity(&self) -> Settings {
        let header = self.desk.book().identity_header.clone();
        self.settings([("IDENTITY_ENDPOINT", self.identity_endpoint.clone()), ("IDENTITY_HEADER", header)])
    }

    /// The client id of the user-assigned identity, which the app has as well.
    pub(crate) fn user_assigned(&self) -> String {
        self.desk.book().identity.clone()
    }

    fn settings<const N: usize>(&self, own: [(&str, String); N]) -> Settings {
        let trust = ("SSL_CERT_FILE", self.certificate.file().display().to_string());
        own.into_iter().chain([trust]).map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// Adds what nothing may show.
    pub(crate) fn add_secrets(&self, secrets: &Secrets) {
        let book = self.desk.book();
        secrets.add("a client secret", book.secret.clone());
        secrets.add("an identity header", book.identity_header.clone());
        secrets.add("a token", "eyJhbGciOi");
    }

    /// Answers everything with `status` from now on, or well again.
    pub(crate) fn fail(&self, status: Option<u16>) {
        self.desk.book().failing = status;
    }

    /// Who got tokens, one entry a token: `secret`, `managed`, `managed {client id}`.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.desk.book().asked.clone()
    }

    /// What knows the tokens that were handed out.
    pub(crate) fn tokens(&self) -> Tokens {
        Tokens(self.desk.clone())
    }
}

impl Drop for Entra {
    fn drop(&mut self) {
        self.servers.iter().for_each(JoinHandle::abort);
    }
}

/// Knows the tokens that were handed out.
#[derive(Clone)]
pub(crate) struct Tokens(Desk);

impl Tokens {
    /// Whether the request brings a token for `resource`.
    pub(crate) fn are_for(&self, headers: &HeaderMap, resource: &str) -> bool {
        let bearer = headers.get("authorization").and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
        bearer.is_some_and(|token| self.0.book().issued.get(token).is_some_and(|issued_for| issued_for == resource))
    }

    /// A token for `resource`, as if somebody had asked.
    pub(crate) fn issue(&self, resource: &str) -> String {
        issue(&mut self.0.book(), resource)
    }
}

/// The client credentials flow: <https://learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow>.
async fn for_a_secret(State(desk): State<Desk>, Path(tenant): Path<String>, body: String) -> Response {
    let (mut book, form) = (desk.book(), pairs(&body));
    let given = |name: &str| form.get(name).map(String::as_str).unwrap_or_default();
    if let Some(failing) = failing(&book) {
        return failing;
    }
    if tenant != book.tenant || given("grant_type") != "client_credentials" || given("client_id") != book.app {
        return refused("AADSTS700016: Application was not found in the directory.", "unauthorized_client", 700_016);
    }
    if given("client_secret") != book.secret {
        return refused("AADSTS7000215: Invalid client secret provided.", "invalid_client", 7_000_215);
    }
    let Some(resource) = given("scope").strip_suffix("/.default") else {
        return refused("AADSTS1002012: The provided value for scope is not valid.", "invalid_scope", 1_002_012);
    };
    book.asked.push("secret".into());
    let token = issue(&mut book, resource);
    let answer =
        json!({"token_type": "Bearer", "expires_in": LIFETIME, "ext_expires_in": LIFETIME, "access_token": token});
    Json(answer).into_response()
}

fn refused(description: &str, error: &str, code: u64) -> Response {
    let body = json!({"error": error, "error_description": description, "error_codes": [code]});
    (StatusCode::UNAUTHORIZED, Json(body)).into_response()
}

/// App Service: <https://learn.microsoft.com/azure/app-service/overview-managed-identity#rest-endpoint-reference>.
async fn for_an_app(State(desk): State<Desk>, RawQuery(query): RawQuery, headers: HeaderMap) -> Response {
    let query = pairs(&query.unwrap_or_default());
    let is_ours = headers.get("x-identity-header").is_some_and(|given| *given == desk.book().identity_header);
    if !is_ours || query.get("api-version").is_none_or(|version| version != "2019-08-01") {
        return (StatusCode::FORBIDDEN, Json(json!({"statusCode": 403, "message": "No identity."}))).into_response();
    }
    managed(&desk, &query)
}

/// The metadata service: <https://learn.microsoft.com/entra/identity/managed-identities-azure-resources/how-to-use-vm-token>.
async fn for_a_machine(State(desk): State<Desk>, RawQuery(query): RawQuery, headers: HeaderMap) -> Response {
    if headers.get("metadata").is_none_or(|value| value != "true") {
        return (StatusCode::BAD_REQUEST, Json(json!({"error": "invalid_request"}))).into_response();
    }
    managed(&desk, &pairs(&query.unwrap_or_default()))
}

fn pairs(text: &str) -> HashMap<String, String> {
    form_urlencoded::parse(text.as_bytes()).into_owned().collect()
}

fn managed(desk: &Desk, query: &HashMap<String, String>) -> Response {
    let mut book = desk.book();
    if let Some(failing) = failing(&book) {
        return failing;
    }
    let client_id = query.get("client_id");
    let Some(resource) = query.get("resource").filter(|_| client_id.is_none_or(|id| *id == book.identity)) else {
        let why = "Identity not found";
        return (StatusCode::BAD_REQUEST, Json(json!({"error": "invalid_request", "error_description": why})))
            .into_response();
    };
    book.asked.push(client_id.map_or_else(|| "managed".into(), |id| format!("managed {id}")));
    let token = issue(&mut book, resource);
    let expires_on = (now() + LIFETIME).to_string();
    Json(json!({"access_token": token, "expires_on": expires_on, "resource": resource, "token_type": "Bearer",
                "client_id": client_id.unwrap_or(&book.app)}))
    .into_response()
}

fn failing(book: &Book) -> Option<Response> {
    let status = StatusCode::from_u16(book.failing?).unwrap();
    Some((status, Json(json!({"error": "temporarily_unavailable"}))).into_response())
}

/// A token as Entra's look; whoever checks its signature is disappointed.
fn issue(book: &mut Book, resource: &str) -> String {
    let (now, tenant) = (now(), &book.tenant);
    let part = |part: Value| BASE64_URL_SAFE_NO_PAD.encode(part.to_string());
    let claims = json!({
        "aud": resource, "iss": format!("https://sts.windows.net/{tenant}/"), "iat": now, "nbf": now, "exp": now + LIFETIME,
        "appid": book.app, "oid": Uuid::new_v4().to_string(), "tid": tenant, "ver": "1.0",
    });
    let header = json!({"typ": "JWT", "alg": "RS256", "kid": "stub"});
    let token = format!("{}.{}.{}", part(header), part(claims), BASE64_URL_SAFE_NO_PAD.encode(Uuid::new_v4()));
    book.issued.insert(token.clone(), resource.to_owned());
    token
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}
