//! A server in front of Azurite's queue service that does to requests what a test tells it.

use std::{
    collections::VecDeque,
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
use tokio::{net::TcpListener, task::JoinHandle};

use super::azurite::Azurite;

/// What becomes of a request.
#[derive(Debug, Clone)]
pub(crate) enum Fate {
    /// Azurite answers.
    Through,
    /// Azurite answers, somewhat later.
    Late(Duration),
    /// It is answered with this status, the service's code for it, and a `Retry-After`.
    Answer(u16, &'static str, Option<&'static str>),
    /// Azurite does as it is told, and its answer is lost.
    AnswerLost,
}

/// A running gateway. It ends when it is dropped.
pub(crate) struct Gateway {
    address: SocketAddr,
    desk: Arc<Desk>,
    task: JoinHandle<()>,
}

struct Desk {
    target: String,
    client: reqwest::Client,
    next: Mutex<VecDeque<Fate>>,
    always: Mutex<Fate>,
    seen: Mutex<Vec<(Method, Uri)>>,
    connections: AtomicU64,
}

impl Gateway {
    /// In front of the queue service of `azurite`.
    pub(crate) async fn before(azurite: &Azurite) -> Self {
        let endpoint = azurite.queue_endpoint();
        let (target, _account) = endpoint.rsplit_once('/').unwrap();
        let desk = Arc::new(Desk {
            target: target.to_owned(),
            client: reqwest::Client::builder().no_proxy().build().unwrap(),
            next: Mutex::default(),
            always: Mutex::new(Fate::Through),
            seen: Mutex::default(),
            connections: AtomicU64::new(0),
        });
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let counting = Arc::clone(&desk);
        let listener = listener.tap_io(move |_| {
            counting.connections.fetch_add(1, Ordering::Relaxed);
        });
        let routes = Router::new().fallback(pass).with_state(Arc::clone(&desk));
        let task = tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Self { address, desk, task }
    }

    /// The connection string of `azurite`, with its queues behind this gateway.
    pub(crate) fn connection_string(&self, azurite: &Azurite) -> String {
        azurite.connection_string().replace(&self.desk.target, &format!("http://{}", self.address))
    }

    /// Does this to the next requests, in turn.
    pub(crate) fn next(&self, fates: impl IntoIterator<Item = Fate>) {
        self.desk.next.lock().unwrap().extend(fates);
    }

    /// Does this to every request for which nothing else was said.
    pub(crate) fn always(&self, fate: Fate) {
        *self.desk.always.lock().unwrap() = fate;
    }

    /// The requests that came.
    pub(crate) fn seen(&self) -> Vec<(Method, Uri)> {
        self.desk.seen.lock().unwrap().clone()
    }

    /// Closes the port.
    pub(crate) async fn go_down(&self) {
        self.task.abort();
        while !self.task.is_finished() {
            tokio::task::yield_now().await;
        }
    }

    /// How many connections were made.
    pub(crate) fn connections(&self) -> u64 {
        self.desk.connections.load(Ordering::Relaxed)
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pass(State(desk): State<Arc<Desk>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    desk.seen.lock().unwrap().push((head.method.clone(), head.uri.clone()));
    let told = desk.next.lock().unwrap().pop_front();
    let fate = told.unwrap_or_else(|| desk.always.lock().unwrap().clone());
    match fate {
        Fate::Through => desk.forward(head.method, &head.uri, body).await,
        Fate::Late(time) => {
            tokio::time::sleep(time).await;
            desk.forward(head.method, &head.uri, body).await
        }
        Fate::Answer(status, code, retry_after) => {
            let mut response = (StatusCode::from_u16(status).unwrap(), "<Error>hidden</Error>").into_response();
            response.headers_mut().insert("x-ms-error-code", code.parse().unwrap());
            if let Some(text) = retry_after {
                response.headers_mut().insert(header::RETRY_AFTER, text.parse().unwrap());
            }
            response
        }
        Fate::AnswerLost => {
            desk.forward(head.method, &head.uri, body).await;
            Body::from_stream(stream::iter([Err::<Bytes, _>(io::Error::other("lost on purpose"))])).into_response()
        }
    }
}

impl Desk {
    async fn forward(&self, method: Method, uri: &Uri, body: Bytes) -> Response {
        let request = self.client.request(method, format!("{}{uri}", self.target));
        let answer = request.header(header::CONTENT_TYPE, "application/xml").body(body).send().await;
        // Azurite may be down: so is this, then.
        let Ok(answer) = answer else { return StatusCode::BAD_GATEWAY.into_response() };
        let (status, code) = (answer.status(), answer.headers().get("x-ms-error-code").cloned());
        let mut response = (status, answer.bytes().await.unwrap_or_default()).into_response();
        if let Some(code) = code {
            response.headers_mut().insert("x-ms-error-code", code);
        }
        response
    }
}
