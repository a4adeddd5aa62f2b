//! A proxy in front of a service of Azurite that injects faults over HTTP.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Request, State},
    http::{HeaderName, Method, StatusCode, Uri, header, request::Parts},
    response::{IntoResponse, Response},
    serve::ListenerExt,
};
use futures::stream;
use testkit::plan::Plan;
use tokio::{net::TcpListener, task::JoinHandle};

use super::azurite::Azurite;

/// The largest request body that is forwarded, in bytes.
const LARGEST_BODY: usize = 16 << 20;

/// Headers that belong to one connection: the gateway has two.
const HOP_BY_HOP: [HeaderName; 4] =
    [header::HOST, header::CONNECTION, header::TRANSFER_ENCODING, header::CONTENT_LENGTH];

/// What the gateway does with a request.
#[derive(Debug, Clone)]
pub(crate) enum Behaviour {
    /// Forwards the request to Azurite, and the response back.
    Forward,
    /// Forwards the request to Azurite after this time.
    Slow(Duration),
    /// Responds with this status, this error code of the service, and this `Retry-After`, without asking Azurite.
    Status(u16, &'static str, Option<&'static str>),
    /// Forwards the request to Azurite, and closes the connection instead of responding.
    LoseResponse,
}

/// A running gateway. Dropping it closes the port.
pub(crate) struct Gateway {
    address: SocketAddr,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

struct Shared {
    azurite_url: String,
    client: reqwest::Client,
    plan: Plan<(Method, Uri), Behaviour>,
    requests: Mutex<Vec<(Method, Uri)>>,
    connections: AtomicU64,
}

impl Gateway {
    /// Starts a gateway in front of the queue service of `azurite`.
    pub(crate) async fn before(azurite: &Azurite) -> Self {
        Self::before_service(&azurite.queue_endpoint()).await
    }

    /// Starts a gateway in front of the blob service of `azurite`.
    pub(crate) async fn before_blobs(azurite: &Azurite) -> Self {
        Self::before_service(&azurite.blob_endpoint()).await
    }

    /// Starts a gateway in front of the service with this endpoint.
    async fn before_service(endpoint: &str) -> Self {
        let (azurite_url, _account) = endpoint.rsplit_once('/').unwrap();
        let shared = Arc::new(Shared {
            azurite_url: azurite_url.to_owned(),
            client: reqwest::Client::builder().no_proxy().build().unwrap(),
            plan: Plan::always(Behaviour::Forward),
            requests: Mutex::default(),
            connections: AtomicU64::new(0),
        });
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let counter = Arc::clone(&shared);
        let listener = listener.tap_io(move |_| {
            counter.connections.fetch_add(1, Ordering::Relaxed);
        });
        let routes = Router::new().fallback(handle).with_state(Arc::clone(&shared));
        let server = tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Self { address, shared, server }
    }

    /// The endpoint of the account, as Azurite's is without the gateway.
    pub(crate) fn endpoint(&self, azurite_endpoint: &str) -> String {
        azurite_endpoint.replace(&self.shared.azurite_url, &format!("http://{}", self.address))
    }

    /// The connection string of `azurite`, with the gateway in place of the service.
    pub(crate) fn connection_string(&self, azurite: &Azurite) -> String {
        azurite.connection_string().replace(&self.shared.azurite_url, &format!("http://{}", self.address))
    }

    /// Does this with the next requests, one after the other.
    pub(crate) fn script(&self, behaviours: impl IntoIterator<Item = Behaviour>) {
        self.shared.plan.script(behaviours);
    }

    /// Does with each request what `rule` says from now on, and discards the script.
    pub(crate) fn answer_by(&self, mut rule: impl FnMut(&Method, &Uri) -> Behaviour + Send + 'static) {
        self.shared.plan.set_rule(move |(method, uri)| rule(method, uri));
    }

    /// Does this with every request from now on, and discards the script.
    pub(crate) fn answer_always(&self, behaviour: Behaviour) {
        self.shared.plan.set_always(behaviour);
    }

    /// The requests so far.
    pub(crate) fn requests(&self) -> Vec<(Method, Uri)> {
        self.shared.requests.lock().unwrap().clone()
    }

    /// Closes the port.
    pub(crate) async fn stop(&self) {
        self.server.abort();
        while !self.server.is_finished() {
            tokio::task::yield_now().await;
        }
    }

    /// The number of connections so far.
    pub(crate) fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::Relaxed)
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// Records a request, and does with it what the plan chooses.
async fn handle(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let body = axum::body::to_bytes(body, LARGEST_BODY).await.unwrap();
    let call = (head.method.clone(), head.uri.clone());
    shared.requests.lock().unwrap().push(call.clone());
    match shared.plan.choose(&call) {
        Behaviour::Forward => shared.forward(&head, body).await,
        Behaviour::Slow(time) => {
            tokio::time::sleep(time).await;
            shared.forward(&head, body).await
        }
        Behaviour::Status(status, code, retry_after) => {
            let mut response = (StatusCode::from_u16(status).unwrap(), "<Error>hidden</Error>").into_response();
            response.headers_mut().insert("x-ms-error-code", code.parse().unwrap());
            if let Some(text) = retry_after {
                response.headers_mut().insert(header::RETRY_AFTER, text.parse().unwrap());
            }
            response
        }
        Behaviour::LoseResponse => {
            shared.forward(&head, body).await;
            Body::from_stream(stream::iter([Err::<Bytes, _>(io::Error::other("injected fault"))])).into_response()
        }
    }
}

impl Shared {
    /// Forwards a request to Azurite, and returns its response.
    async fn forward(&self, head: &Parts, body: Bytes) -> Response {
        let mut headers = head.headers.clone();
        HOP_BY_HOP.iter().for_each(|name| drop(headers.remove(name)));
        let request = self.client.request(head.method.clone(), format!("{}{}", self.azurite_url, head.uri));
        let answer = request.headers(headers).body(body).send().await;
        // A test may have stopped Azurite.
        let Ok(answer) = answer else { return StatusCode::BAD_GATEWAY.into_response() };
        let (status, mut headers) = (answer.status(), answer.headers().clone());
        let body = answer.bytes().await.unwrap_or_default();
        HOP_BY_HOP.iter().filter(|_| head.method != Method::HEAD).for_each(|name| drop(headers.remove(name)));
        let mut response = (status, body).into_response();
        response.headers_mut().extend(headers);
        response
    }
}
