//! A stub of the partner's webhook receiver, for `vivadrop demo` and the tests.
//!
//! A real HTTP server on loopback that does what a receiver must do: it verifies signatures, undoes gzip, deduplicates
//! messages by id, and sorts rows by number. An [`Answer`] makes it slow, failing or unreachable while it runs.

mod answer;
mod connection;
mod handler;
mod message;
mod received;

use std::{
    fmt, io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use secrecy::{ExposeSecret, SecretString};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};
use tokio_util::sync::{CancellationToken, DropGuard};
use url::Url;
use uuid::Uuid;

pub use self::{
    answer::Answer,
    received::{Completed, Delivery, Failed, Received, ReceivedDrop, ReceivedFile},
};
use self::{connection::ConnectionListener, handler::ReceiverState};
use crate::plan::Plan;

/// How a receiver is set up.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Whether to keep all rows and a log of every message. Otherwise counts and the first row of each file are kept.
    pub keep_rows: bool,
    /// Whether messages must be signed.
    pub signed: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { keep_rows: true, signed: true }
    }
}

/// A running receiver. Dropping it closes the port and all connections.
pub struct Receiver {
    address: SocketAddr,
    secret: SecretString,
    state: Arc<ReceiverState>,
    server: tokio::sync::Mutex<Option<Server>>,
}

/// The task that serves the port. Dropping it closes the port and all connections.
struct Server {
    task: JoinHandle<()>,
    close_all: DropGuard,
}

/// The receiver did not receive what was expected in time.
#[derive(Debug, thiserror::Error)]
#[error("the expected messages did not arrive within {waited:?}; received so far: {so_far}")]
pub struct WaitTimeout {
    /// The time limit.
    pub waited: Duration,
    /// The counts of everything received by then.
    pub so_far: String,
}

impl Receiver {
    /// Listens on a free port of loopback, with a new signing secret.
    pub async fn start(options: Options) -> io::Result<Self> {
        let random = [Uuid::new_v4().into_bytes(), Uuid::new_v4().into_bytes()].concat();
        let secret = SecretString::from(format!("whsec_{}", BASE64_STANDARD.encode(random)));
        let verifier = standardwebhooks::Webhook::new(secret.expose_secret()).map_err(io::Error::other)?;
        let state = Arc::new(ReceiverState {
            verifier: options.signed.then_some(verifier),
            keep_rows: options.keep_rows,
            plan: Plan::always(Answer::Accept),
            received: watch::Sender::default(),
        });
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let server = Server::start(listener, &state);
        Ok(Self { address, secret, state, server: tokio::sync::Mutex::new(Some(server)) })
    }

    /// The webhook's URL, for `DELIVER_TO`.
    pub fn url(&self) -> Url {
        self.at(handler::PATH)
    }

    /// A URL of this server that answers 404. Requests to it are counted in [`Received::not_found`].
    pub fn not_found_url(&self) -> Url {
        self.at("/not-found")
    }

    /// The signing secret, for `WEBHOOK_SECRET`.
    pub fn secret(&self) -> &SecretString {
        &self.secret
    }

    /// Answers the next `times` messages with `answer`, after those that are already scripted.
    pub fn answer_next(&self, times: usize, answer: Answer) {
        self.state.plan.next(times, answer);
    }

    /// Answers every message with `answer` from now on, and discards the script.
    pub fn answer_always(&self, answer: Answer) {
        self.state.plan.set_always(answer);
    }

    /// Answers every message with what `rule` returns from now on, and discards the script.
    pub fn answer_by(&self, rule: impl FnMut(&Delivery) -> Answer + Send + 'static) {
        self.state.plan.set_rule(rule);
    }

    /// Closes the port and every connection. Returns once the port is closed.
    pub async fn stop(&self) {
        if let Some(server) = self.server.lock().await.take() {
            server.stop().await;
        }
    }

    /// Listens again on the same port.
    pub async fn restart(&self) -> io::Result<()> {
        let mut server = self.server.lock().await;
        if server.is_none() {
            let listener = TcpListener::bind(self.address).await?;
            *server = Some(Server::start(listener, &self.state));
        }
        Ok(())
    }

    /// A copy of what has been received so far.
    pub fn received(&self) -> Received {
        self.state.received.borrow().clone()
    }

    /// Waits up to `limit` until `expected` is true of what has been received.
    pub async fn wait_for(
        &self,
        limit: Duration,
        expected: impl FnMut(&Received) -> bool,
    ) -> Result<Received, WaitTimeout> {
        let mut received = self.state.received.subscribe();
        match tokio::time::timeout(limit, received.wait_for(expected)).await {
            Ok(Ok(received)) => Ok(received.clone()),
            // `Ok(Err(_))` cannot happen: it means that the sender was dropped, but `self` owns it.
            Ok(Err(_)) | Err(_) => Err(WaitTimeout { waited: limit, so_far: self.received().to_string() }),
        }
    }

    fn at(&self, path: &str) -> Url {
        let text = format!("http://{}{path}", self.address);
        Url::parse(&text).expect("an address and a path form a URL")
    }
}

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Receiver({}, {})", self.address, *self.state.received.borrow())
    }
}

impl Server {
    fn start(listener: TcpListener, state: &Arc<ReceiverState>) -> Self {
        let close_all = CancellationToken::new();
        let counter = Arc::clone(state);
        let connections = ConnectionListener::new(listener, close_all.clone(), move || {
            counter.update(|received| received.connections += 1);
        });
        let routes = handler::routes(state);
        // `axum::serve` never ends by itself.
        let serving =
            close_all.clone().run_until_cancelled_owned(async move { axum::serve(connections, routes).await });
        let task = tokio::spawn(async move { drop(serving.await) });
        Self { task, close_all: close_all.drop_guard() }
    }

    async fn stop(self) {
        drop(self.close_all);
        if let Err(error) = self.task.await {
            tracing::error!("the receiver's task failed: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn receiver() -> Receiver {
        Receiver::start(Options::default()).await.unwrap()
    }

    fn client() -> reqwest::Client {
        reqwest::Client::builder().no_proxy().build().unwrap()
    }

    async fn status(request: reqwest::RequestBuilder) -> u16 {
        request.send().await.unwrap().status().as_u16()
    }

    #[tokio::test]
    async fn an_unsigned_message_is_rejected() {
        let receiver = receiver().await;
        assert_eq!(status(client().post(receiver.url()).body("{}")).await, 401);
        assert_eq!(receiver.received().bad_signatures, 1);
    }

    #[tokio::test]
    async fn a_request_that_is_not_a_message_is_malformed() {
        let options = Options { signed: false, ..Options::default() };
        let receiver = Receiver::start(options).await.unwrap();
        let post = || client().post(receiver.url());
        assert_eq!(status(post().body("{}")).await, 400);
        assert_eq!(status(post().header("content-encoding", "gzip").body("{}")).await, 400);
        assert_eq!(status(post().header("content-encoding", "br").body("{}")).await, 400);
        assert_eq!(receiver.received().malformed, 3);
    }

    #[tokio::test]
    async fn a_receiver_restarts_on_the_same_port_and_stops_when_it_is_dropped() {
        let receiver = receiver().await;
        let (url, client) = (receiver.not_found_url(), client());
        assert_eq!(status(client.get(url.clone())).await, 404);
        receiver.stop().await;
        assert!(client.get(url.clone()).send().await.is_err());
        receiver.restart().await.unwrap();
        assert_eq!(status(client.get(url.clone())).await, 404);
        drop(receiver);
        tokio::task::yield_now().await;
        assert!(client.get(url).send().await.is_err());
    }

    #[tokio::test]
    async fn waiting_returns_what_was_received_or_times_out_with_the_counts_so_far() {
        let receiver = receiver().await;
        let (client, limit) = (client(), Duration::from_secs(20));
        let (waited, _) = tokio::join!(
            receiver.wait_for(limit, |received| received.not_found == 1),
            status(client.get(receiver.not_found_url()))
        );
        assert_eq!(waited.unwrap().not_found, 1);
        let late = receiver.wait_for(Duration::ZERO, |received| received.accepted > 0).await;
        assert!(late.unwrap_err().to_string().contains("0 messages accepted"));
    }
}
