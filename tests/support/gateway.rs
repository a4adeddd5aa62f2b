//! A proxy in front of Azurite's queue service that injects faults over HTTP.

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
    http::{Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
    serve::ListenerExt,
};
use futures::stream;
use testkit::plan::Plan;
use tokio::{net::TcpListener, task::JoinHandle};

use super::azurite::Azurite;

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
    plan: Plan<(), Behaviour>,
    requests: Mutex<Vec<(Method, Uri)>>,
    connections: AtomicU64,
}

impl Gateway {
    /// Starts a gateway in front of the queue service of `azurite`.
    pub(crate) async fn before(azurite: &Azurite) -> Self {
        let endpoint = azurite.queue_endpoint();
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

    /// The connection string of `azurite`, with the gateway as queue service.
    pub(crate) fn connection_string(&self, azurite: &Azurite) -> String {
        azurite.connection_string().replace(&self.shared.azurite_url, &format!("http://{}", self.address))
    }

    /// Does this with the next requests, one after the other.
    pub(crate) fn script(&self, behaviours: impl IntoIterator<Item = Behaviour>) {
        self.shared.plan.script(behaviours);
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

async fn handle(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    shared.requests.lock().unwrap().push((head.method.clone(), head.uri.clone()));
    match shared.plan.choose(&()) {
        Behaviour::Forward => shared.forward(head.method, &head.uri, body).await,
        Behaviour::Slow(time) => {
            tokio::time::sleep(time).await;
            shared.forward(head.method, &head.uri, body).await
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
            shared.forward(head.method, &head.uri, body).await;
            Body::from_stream(stream::iter([Err::<Bytes, _>(io::Error::other("injected fault"))])).into_response()
        }
    }
}

impl Shared {
    async fn forward(&self, method: Method, uri: &Uri, body: Bytes) -> Response {
        let request = self.client.request(method, format!("{}{uri}", self.azurite_url));
        let answer = request.header(header::CONTENT_TYPE, "application/xml").body(body).send().await;
        // A test may have stopped Azurite.
        let Ok(answer) = answer else { return StatusCode::BAD_GATEWAY.into_response() };
        let (status, code) = (answer.status(), answer.headers().get("x-ms-error-code").cloned());
        let mut response = (status, answer.bytes().await.unwrap_or_default()).into_response();
        if let Some(code) = code {
            response.headers_mut().insert("x-ms-error-code", code);
        }
        response
    }
}
