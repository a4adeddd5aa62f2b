//! A stub of Azure Service Bus on loopback: its REST interface for sending messages and for reading the properties of
//! entities. Follows <https://learn.microsoft.com/rest/api/servicebus/>. It speaks TLS only, verifies shared access
//! signatures and tokens of Microsoft Entra ID, and drops messages whose id it has received within the duplicate
//! detection window.

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Request, State},
    http::{HeaderMap, Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
    serve::{Listener, ListenerExt},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use futures::stream;
use hmac::{Hmac, Mac};
use percent_encoding::percent_decode_str;
use secrecy::ExposeSecret;
use serde_json::Value;
use sha2::Sha256;
use testkit::{plan::Plan, receiver::Receiver};
use time::OffsetDateTime;
use tokio::task::JoinHandle;
use url::form_urlencoded;

use super::{
    entra::Tokens,
    schema,
    tls::{Certificate, TlsListener},
};

/// The resource that tokens must be issued for.
pub(crate) const RESOURCE: &str = "https://servicebus.azure.net";

/// The largest request: messages of the premium tier, and some more.
const LARGEST_REQUEST: usize = 2 << 20;

/// A running namespace. Dropping it closes the port.
pub(crate) struct Namespace {
    pub(crate) certificate: Certificate,
    host: String,
    shared: Arc<Shared>,
    server: JoinHandle<io::Result<()>>,
}

/// What the namespace does with a request that is authorized.
#[derive(Debug, Clone)]
pub(crate) enum Behaviour {
    /// What is documented.
    Normal,
    /// The same, but responds only after this time.
    SlowResponse(Duration),
    /// Responds with this status, this detail in the body, and this `Retry-After`, and does nothing.
    Status(u16, &'static str, Option<&'static str>),
    /// Does what is documented, and closes the connection instead of responding.
    LoseResponse,
}

/// 403 as the service answers if the entity is full.
pub(crate) const FULL: Behaviour = Behaviour::Status(
    403,
    "SubCode=40300. The maximum entity size has been reached or exceeded for Queue: 'rows'. Quota: 1073741824.",
    None,
);

/// 503 as the service answers if it throttles the namespace.
pub(crate) const THROTTLED: Behaviour = Behaviour::Status(
    503,
    "The request was terminated because the namespace is being throttled. Error code : 50009. Please wait 2 seconds and try again.",
    Some("1"),
);

/// The configuration of a queue or topic.
#[derive(Debug, Clone)]
pub(crate) struct Entity {
    pub(crate) is_topic: bool,
    /// The duplicate detection window.
    pub(crate) window: Option<Duration>,
    pub(crate) requires_session: bool,
    pub(crate) max_size_mb: u64,
    /// The maximum size of a message, with its properties.
    pub(crate) max_message: usize,
    pub(crate) status: &'static str,
}

impl Default for Entity {
    fn default() -> Self {
        Self {
            is_topic: false,
            window: Some(Duration::from_secs(3 * 86_400)),
            requires_session: false,
            max_size_mb: 1024,
            max_message: 256 << 10,
            status: "Active",
        }
    }
}

/// A message in an entity.
#[derive(Debug, Clone)]
pub(crate) struct Received {
    pub(crate) id: String,
    pub(crate) label: String,
    pub(crate) session: Option<String>,
    pub(crate) content_type: String,
    /// The custom property `drop`, without its quotes.
    pub(crate) drop: Option<String>,
    pub(crate) body: Bytes,
}

impl Received {
    /// The body, parsed.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

struct Shared {
    host: String,
    tokens: Option<Tokens>,
    plan: Plan<(), Behaviour>,
    connections: AtomicU64,
    state: Mutex<NamespaceState>,
}

#[derive(Default)]
struct NamespaceState {
    entities: BTreeMap<String, (Entity, Contents)>,
    /// Shared access keys by name: the key, and its rights.
    keys: BTreeMap<String, (String, Rights)>,
    /// Whether tokens have the role Data Owner, and not only Data Sender.
    tokens_may_manage: bool,
    /// The requests with valid authorization, such as `POST /rows/messages`.
    requests: Vec<String>,
    /// Requests without valid authorization.
    unauthorized: u64,
    /// How much time has passed for duplicate detection, in addition to real time.
    skipped: Duration,
}

/// What is in an entity.
#[derive(Default)]
struct Contents {
    messages: Vec<Received>,
    /// When each id was last accepted.
    history: BTreeMap<String, SystemTime>,
    duplicates: u64,
}

/// The rights of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rights {
    Send,
    /// Includes *Send*.
    Manage,
    Listen,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, NamespaceState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Namespace {
    /// Starts a namespace without entities, which accepts shared access signatures, and the `tokens` of an Entra stub
    /// if they are given.
    pub(crate) async fn start(certificate: &Certificate, tokens: Option<Tokens>) -> Self {
        let listener = certificate.listen().await;
        let host = format!("localhost:{}", Listener::local_addr(&listener).unwrap().port());
        let shared = Arc::new(Shared {
            host: host.clone(),
            tokens,
            plan: Plan::always(Behaviour::Normal),
            connections: AtomicU64::new(0),
            state: Mutex::default(),
        });
        let server = tokio::spawn(serve(listener, Arc::clone(&shared)));
        Self { certificate: certificate.clone(), host, shared, server }
    }

    /// Creates an entity, and replaces one with the same path.
    pub(crate) fn create(&self, path: &str, entity: Entity) {
        self.shared.state().entities.insert(path.to_owned(), (entity, Contents::default()));
    }

    /// Changes the configuration of an entity, whose messages stay.
    pub(crate) fn change(&self, path: &str, change: impl FnOnce(&mut Entity)) {
        change(&mut self.shared.state().entities.get_mut(path).expect("the test has created this entity").0);
    }

    /// Deletes an entity with its messages.
    pub(crate) fn delete(&self, path: &str) {
        self.shared.state().entities.remove(path);
    }

    /// `DELIVER_TO` for an entity.
    pub(crate) fn deliver_to(&self, path: &str) -> String {
        format!("servicebus://{}/{path}", self.host)
    }

    /// Adds a key with these rights to the whole namespace; returns its connection string.
    pub(crate) fn connection_string(&self, rights: Rights) -> String {
        let (name, key) = (format!("{rights:?}"), BASE64_STANDARD.encode(uuid::Uuid::new_v4()));
        self.shared.state().keys.insert(name.clone(), (key.clone(), rights));
        format!("Endpoint=sb://{}/;SharedAccessKeyName={name};SharedAccessKey={key}", self.host)
    }

    /// Gives the role Data Owner to the identity of the tokens, in addition to Data Sender.
    pub(crate) fn let_tokens_manage(&self) {
        self.shared.state().tokens_may_manage = true;
    }

    /// Does this with the next requests, one after the other.
    pub(crate) fn script(&self, behaviours: impl IntoIterator<Item = Behaviour>) {
        self.shared.plan.script(behaviours);
    }

    /// Does this with every request from now on, and discards the script.
    pub(crate) fn answer_always(&self, behaviour: Behaviour) {
        self.shared.plan.set_always(behaviour);
    }

    /// Lets time pass for duplicate detection.
    pub(crate) fn skip(&self, time: Duration) {
        self.shared.state().skipped += time;
    }

    /// The messages in an entity, in order of arrival. They stay in it. Each is validated against the schema.
    pub(crate) fn messages(&self, path: &str) -> Vec<Received> {
        let messages = self.shared.state().entities[path].1.messages.clone();
        messages.iter().for_each(|message| schema::assert_valid(&message.body));
        messages
    }

    /// How many messages the entity has dropped because it had their id.
    pub(crate) fn duplicates(&self, path: &str) -> u64 {
        self.shared.state().entities[path].1.duplicates
    }

    /// The authorized requests so far.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.shared.state().requests.clone()
    }

    /// The number of requests that were not authorized.
    pub(crate) fn unauthorized(&self) -> u64 {
        self.shared.state().unauthorized
    }

    /// The number of connections so far.
    pub(crate) fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// Posts `messages` to `receiver` as signed webhooks.
    pub(crate) async fn forward_to(&self, receiver: &Receiver, messages: &[Received]) {
        let signer = standardwebhooks::Webhook::new(receiver.secret().expose_secret()).unwrap();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        for message in messages {
            let now = OffsetDateTime::now_utc().unix_timestamp();
            let signature = signer.sign(&message.id, now, &message.body).unwrap();
            let request = client
                .post(receiver.url())
                .header("webhook-id", &message.id)
                .header("webhook-timestamp", now)
                .header("webhook-signature", signature);
            assert_eq!(request.body(message.body.clone()).send().await.unwrap().status(), 204);
        }
    }

    /// Closes the port.
    pub(crate) async fn stop(&self) {
        self.server.abort();
        while !self.server.is_finished() {
            tokio::task::yield_now().await;
        }
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// Serves requests, and counts connections.
async fn serve(listener: TlsListener, shared: Arc<Shared>) -> io::Result<()> {
    let counter = Arc::clone(&shared);
    let listener = listener.tap_io(move |_| {
        counter.connections.fetch_add(1, Ordering::Relaxed);
    });
    axum::serve(listener, Router::new().fallback(handle).with_state(shared)).await
}

/// An error response: the status, and the detail for people.
struct Refusal(u16, String);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let Self(status, detail) = self;
        let tracking = "TrackingId:hidden_G1, SystemTracker:hidden, Timestamp:2026-11-22T00:00:00";
        let body = format!("<Error><Code>{status}</Code><Detail>{detail} {tracking}</Detail></Error>");
        let headers = [(header::CONTENT_TYPE, "application/xml; charset=utf-8")];
        (StatusCode::from_u16(status).unwrap(), headers, body).into_response()
    }
}

/// Authorizes a request, and does with it what the plan chooses.
async fn handle(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let body = axum::body::to_bytes(body, LARGEST_REQUEST).await.unwrap();
    let sends = head.method == Method::POST;
    if let Err(detail) = authorize(&shared, &head.headers, &head.uri, sends) {
        shared.state().unauthorized += 1;
        return Refusal(401, detail.to_owned()).into_response();
    }
    shared.state().requests.push(format!("{} {}", head.method, head.uri.path()));
    let work = || route(&shared, &head.method, &head.uri, &head.headers, &body).unwrap_or_else(Refusal::into_response);
    match shared.plan.choose(&()) {
        Behaviour::Normal => work(),
        Behaviour::SlowResponse(time) => {
            let response = work();
            tokio::time::sleep(time).await;
            response
        }
        Behaviour::Status(status, detail, retry_after) => {
            let mut response = Refusal(status, detail.to_owned()).into_response();
            if let Some(text) = retry_after {
                response.headers_mut().insert(header::RETRY_AFTER, text.parse().unwrap());
            }
            response
        }
        Behaviour::LoseResponse => {
            work();
            Body::from_stream(stream::iter([Err::<Bytes, _>(io::Error::other("injected fault"))])).into_response()
        }
    }
}

/// Verifies the token or the signature, and that it grants the right to send or to manage.
fn authorize(shared: &Shared, headers: &HeaderMap, uri: &Uri, sends: bool) -> Result<(), &'static str> {
    const NO_RIGHT: &str = "SubCode=40100. Manage,EntityRead claims required for this operation.";
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).ok_or("MissingToken.")?;
    let Some(signature) = given.strip_prefix("SharedAccessSignature ") else {
        let tokens = shared.tokens.as_ref().ok_or("MalformedToken.")?;
        if !tokens.are_for(headers, RESOURCE) {
            return Err("InvalidToken.");
        }
        return if sends || shared.state().tokens_may_manage { Ok(()) } else { Err(NO_RIGHT) };
    };
    let raw: BTreeMap<&str, &str> = signature.split('&').filter_map(|pair| pair.split_once('=')).collect();
    let [Some(resource), Some(signature), Some(expires), Some(name)] =
        ["sr", "sig", "se", "skn"].map(|field| raw.get(field).copied())
    else {
        return Err("MalformedToken.");
    };
    let decode = |text: &str| percent_decode_str(text).decode_utf8().unwrap().into_owned();
    let Some((key, rights)) = shared.state().keys.get(&decode(name)).cloned() else { return Err("InvalidSignature.") };
    let mut hmac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).unwrap();
    hmac.update(format!("{resource}\n{expires}").as_bytes());
    if BASE64_STANDARD.encode(hmac.finalize().into_bytes()) != decode(signature) {
        return Err("InvalidSignature.");
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    if expires.parse::<u64>().map_or(true, |expires| expires < now) {
        return Err("ExpiredToken.");
    }
    let target = format!("https://{}{}", shared.host, uri.path());
    if !target.starts_with(&decode(resource)) {
        return Err("InvalidAudience.");
    }
    match (rights, sends) {
        (Rights::Manage, _) | (Rights::Send, true) => Ok(()),
        (Rights::Send, false) | (Rights::Listen, _) => Err(NO_RIGHT),
    }
}

/// Does what the service documents for the request.
fn route(shared: &Shared, method: &Method, uri: &Uri, headers: &HeaderMap, body: &Bytes) -> Result<Response, Refusal> {
    let path = uri.path().trim_start_matches('/');
    let mut state = shared.state();
    match (method, path.strip_suffix("/messages")) {
        (&Method::POST, Some(path)) => {
            let now = SystemTime::now() + state.skipped;
            let (entity, contents) = state
                .entities
                .get_mut(path)
                .ok_or_else(|| Refusal(410, "SubCode=40400. The specified endpoint does not exist.".into()))?;
            accept(entity, contents, now, headers, body)?;
            Ok(StatusCode::CREATED.into_response())
        }
        (&Method::GET, None) => {
            let query = uri.query().unwrap_or_default();
            if !form_urlencoded::parse(query.as_bytes()).any(|(name, _)| name == "api-version") {
                return Err(Refusal(400, "api-version is missing.".into()));
            }
            // A path that is no entity is answered with the list of what is below it.
            let atom = state.entities.get(path).map_or_else(
                || r#"<feed xmlns="http://www.w3.org/2005/Atom"><title type="text">Publicly Listed Services</title></feed>"#.to_owned(),
                |(entity, _)| describe(&shared.host, path, entity),
            );
            Ok(([(header::CONTENT_TYPE, "application/atom+xml;type=entry;charset=utf-8")], atom).into_response())
        }
        _ => Err(Refusal(405, "MethodNotAllowed.".into())),
    }
}

/// Adds a message to an entity, unless the entity has received its id within the window.
fn accept(
    entity: &Entity,
    contents: &mut Contents,
    now: SystemTime,
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<(), Refusal> {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    let properties = text("BrokerProperties").unwrap_or_else(|| "{}".into());
    let broker: Value = serde_json::from_str(&properties).map_err(|_| Refusal(400, "BrokerProperties.".into()))?;
    let property = |name: &str| broker[name].as_str().map(str::to_owned);
    let drop = match text("drop") {
        // Without quotes, the text would have to be a number or a date.
        Some(quoted) => {
            let unquoted = quoted.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
            Some(unquoted.ok_or_else(|| Refusal(400, "The property drop is malformed.".into()))?.to_owned())
        }
        None => None,
    };
    if entity.status != "Active" {
        return Err(Refusal(403, "The messaging entity is currently disabled.".into()));
    }
    let size = body.len() + properties.len() + drop.as_deref().map_or(0, str::len);
    if size > entity.max_message {
        let limit = entity.max_message;
        return Err(Refusal(403, format!("The message size of {size} bytes exceeds the maximum of {limit} bytes.")));
    }
    let session = property("SessionId");
    if entity.requires_session && session.is_none() {
        return Err(Refusal(
            400,
            "The SessionId was not set on a message, and it cannot be sent to the entity.".into(),
        ));
    }
    let id = property("MessageId").filter(|id| id.len() <= 128).ok_or_else(|| Refusal(400, "MessageId.".into()))?;
    if let Some(window) = entity.window {
        let before = contents.history.insert(id.clone(), now);
        if before.is_some_and(|before| now < before + window) {
            contents.duplicates += 1;
            return Ok(());
        }
    }
    contents.messages.push(Received {
        id,
        label: property("Label").unwrap_or_default(),
        session,
        content_type: text("content-type").unwrap_or_default(),
        drop,
        body: body.clone(),
    });
    Ok(())
}

/// The description of an entity, in the order of elements that the service uses.
fn describe(host: &str, path: &str, entity: &Entity) -> String {
    let Entity { is_topic, window, requires_session, max_size_mb, status, .. } = entity;
    let window_seconds = window.unwrap_or(Duration::from_secs(600)).as_secs();
    let session =
        if *is_topic { String::new() } else { format!("<RequiresSession>{requires_session}</RequiresSession>") };
    let kind = if *is_topic { "TopicDescription" } else { "QueueDescription" };
    format!(
        r#"<entry xmlns="http://www.w3.org/2005/Atom"><id>https://{host}/{path}?api-version=2021-05</id>
<title type="text">{path}</title><published>2026-11-22T00:00:00Z</published><updated>2026-11-22T00:00:00Z</updated>
<author><name>stub</name></author><link rel="self" href="https://{host}/{path}?api-version=2021-05"/>
<content type="application/xml"><{kind} xmlns="http://schemas.microsoft.com/netservices/2010/10/servicebus/connect"
 xmlns:i="http://www.w3.org/2001/XMLSchema-instance"><MaxSizeInMegabytes>{max_size_mb}</MaxSizeInMegabytes>
<RequiresDuplicateDetection>{}</RequiresDuplicateDetection>{session}
<DuplicateDetectionHistoryTimeWindow>PT{window_seconds}S</DuplicateDetectionHistoryTimeWindow>
<Status>{status}</Status><SupportOrdering>true</SupportOrdering></{kind}></content></entry>"#,
        window.is_some()
    )
}
