//! Accepts connections. Limits how many there are, and how slowly a request may arrive.
//!
//! Slow clients exist although only the Functions host connects: it forwards the requests of HTTP functions as they
//! arrive. `axum::serve` has no such limits, so this module uses hyper directly.
//!
//! At [`MAX_CONNECTIONS`], a new connection replaces the one whose request has been incomplete for the longest time.
//! So `GET /` is answered however many incomplete requests there are, and a request that has arrived is never dropped.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    pin::{Pin, pin},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{Router, http::Request};
use hyper::{
    body::{Body, Bytes, Frame, Incoming, SizeHint},
    server::conn::http1,
    service::{Service, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::warn;

/// The number of connections at once, and therefore of requests: half of the 1,024 files that a process may usually
/// open. The host has a handful.
const MAX_CONNECTIONS: usize = 512;

/// How long the headers of a request may take. Also closes connections that are idle for as long; the host opens
/// others.
const HEADER_LIMIT: Duration = Duration::from_secs(10);

/// Size limit of the headers, in bytes. The host itself accepts less than half of that.
const MAX_HEADER_BYTES: usize = 64 << 10;

/// The wait after a connection could not be accepted, because the process or the system has too many open files.
const ACCEPT_RETRY_AFTER: Duration = Duration::from_millis(500);

/// Accepts connections and passes their requests to the routes.
pub(super) struct Server {
    listener: TcpListener,
    routes: Router,
    stop: CancellationToken,
    connections: TaskTracker,
}

impl Server {
    /// A server whose connections are tasks of `connections`. They end once `stop` is cancelled: at once, or after the
    /// response to a request that has arrived.
    pub(super) fn new(
        listener: TcpListener,
        routes: Router,
        stop: CancellationToken,
        connections: TaskTracker,
    ) -> Self {
        Self { listener, routes, stop, connections }
    }

    /// Accepts connections until the future is dropped.
    pub(super) async fn run(self) -> Infallible {
        let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let incomplete = Arc::<IncompleteRequests>::default();
        loop {
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    warn!("cannot accept a connection: {error}");
                    tokio::time::sleep(ACCEPT_RETRY_AFTER).await;
                    continue;
                }
            };
            if slots.available_permits() == 0 {
                incomplete.close_oldest();
            }
            let slot = Arc::clone(&slots).acquire_owned().await.expect("the semaphore is never closed");
            let connection = Arc::new(Connection::new(Arc::clone(&incomplete)));
            let (routes, stop) = (self.routes.clone(), self.stop.clone());
            self.connections.spawn(async move {
                serve_connection(stream, routes, connection, stop).await;
                drop(slot);
            });
        }
    }
}

/// Serves the requests of one connection, one after another.
async fn serve_connection(stream: TcpStream, routes: Router, connection: Arc<Connection>, stop: CancellationToken) {
    let routes = TowerToHyperService::new(routes);
    let state = Arc::clone(&connection);
    let service = service_fn(move |request: Request<Incoming>| {
        if request.body().is_end_stream() {
            state.request_received();
        }
        let request = request.map(|body| ObservedBody { body, connection: Arc::clone(&state) });
        let (response, state) = (routes.call(request), Arc::clone(&state));
        async move {
            let response = response.await;
            state.request_answered();
            response
        }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEADER_LIMIT).max_buf_size(MAX_HEADER_BYTES);
    let mut served = pin!(http.serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        // An error is the client's: it has disconnected, was too slow, or does not speak HTTP.
        _ = served.as_mut() => return,
        () = connection.close.cancelled() => return,
        () = stop.cancelled() => {}
    }
    if connection.has_received_request() {
        served.as_mut().graceful_shutdown();
        _ = served.await;
    }
}

/// The body of a request. Its end marks the request as received.
struct ObservedBody {
    body: Incoming,
    connection: Arc<Connection>,
}

impl Body for ObservedBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if frame.is_none() {
            self.connection.request_received();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The state of a connection.
struct Connection {
    incomplete: Arc<IncompleteRequests>,
    /// Cancelled to close the connection in favour of another.
    close: CancellationToken,
    /// The entry of the incomplete request, which may be one of which nothing has arrived. `None` from the arrival of a
    /// whole request to its response.
    entry: Mutex<Option<u64>>,
}

impl Connection {
    fn new(incomplete: Arc<IncompleteRequests>) -> Self {
        let connection = Self { incomplete, close: CancellationToken::new(), entry: Mutex::new(None) };
        connection.request_answered();
        connection
    }

    /// The whole request has arrived: the connection will not be closed before the response.
    fn request_received(&self) {
        if let Some(entry) = self.entry().take() {
            self.incomplete.remove(entry);
        }
    }

    /// The response is known, so the connection waits for the next request.
    fn request_answered(&self) {
        let previous = self.entry().replace(self.incomplete.add(self.close.clone()));
        if let Some(previous) = previous {
            self.incomplete.remove(previous);
        }
    }

    fn has_received_request(&self) -> bool {
        self.entry().is_none()
    }

    fn entry(&self) -> MutexGuard<'_, Option<u64>> {
        self.entry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.request_received();
    }
}

/// The connections whose next request has not arrived as a whole, in the order in which they began to wait for it.
#[derive(Default)]
struct IncompleteRequests(Mutex<ByAge>);

#[derive(Default)]
struct ByAge {
    next: u64,
    connections: BTreeMap<u64, CancellationToken>,
}

impl IncompleteRequests {
    fn add(&self, close: CancellationToken) -> u64 {
        let mut by_age = self.by_age();
        let entry = by_age.next;
        by_age.next += 1;
        by_age.connections.insert(entry, close);
        entry
    }

    fn remove(&self, entry: u64) {
        self.by_age().connections.remove(&entry);
    }

    /// Closes the connection that has waited for the longest time. Does nothing if all requests have arrived.
    fn close_oldest(&self) {
        if let Some((_, close)) = self.by_age().connections.pop_first() {
            close.cancel();
        }
    }

    fn by_age(&self) -> MutexGuard<'_, ByAge> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
