//! The partner's receiver: takes the webhooks of `vivadrop demo` and of the tests.
//!
//! A real HTTP server on loopback that does what a receiver should: it checks signatures, undoes gzip, drops doubles by
//! their id and puts rows back in order. [`Answer`] makes it slow, wrong or absent, at run time.

mod answer;
mod desk;
mod line;
mod parcel;
mod received;

use std::{
    fmt, io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
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
use self::{answer::Orders, desk::Desk, line::Lines};

/// What kind of receiver it is.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Whether rows and a log of every delivery are kept, for tests; else counts and the first row alone.
    pub keep_rows: bool,
    /// Whether messages must be signed.
    pub signed: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { keep_rows: true, signed: true }
    }
}

/// A receiver, listening. It stops, and hangs up on everyone, when it is dropped.
pub struct Receiver {
    address: SocketAddr,
    secret: SecretString,
    desk: Arc<Desk>,
    listening: tokio::sync::Mutex<Option<Listening>>,
}

/// The open port; hangs up on drop.
struct Listening {
    task: JoinHandle<()>,
    hang_up: DropGuard,
}

/// What was waited for did not come.
#[derive(Debug, thiserror::Error)]
#[error("what was waited for did not come within {waited:?}; so far: {so_far}")]
pub struct NotYet {
    /// How long was waited.
    pub waited: Duration,
    /// What had come by then, in counts.
    pub so_far: String,
}

impl Receiver {
    /// Listens on a free port of loopback, with a secret of its own.
    pub async fn start(options: Options) -> io::Result<Self> {
        let random = [Uuid::new_v4().into_bytes(), Uuid::new_v4().into_bytes()].concat();
        let secret = SecretString::from(format!("whsec_{}", BASE64_STANDARD.encode(random)));
        let verifier = standardwebhooks::Webhook::new(secret.expose_secret()).map_err(io::Error::other)?;
        let desk = Arc::new(Desk {
            verifier: options.signed.then_some(verifier),
            keep_rows: options.keep_rows,
            orders: Mutex::default(),
            received: watch::Sender::default(),
        });
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let listening = Listening::new(listener, &desk);
        Ok(Self { address, secret, desk, listening: tokio::sync::Mutex::new(Some(listening)) })
    }

    /// Where to post: `DELIVER_TO`.
    pub fn url(&self) -> Url {
        self.at(desk::PATH)
    }

    /// Another place on this server, which takes nothing and counts [`Received::strays`].
    pub fn elsewhere(&self) -> Url {
        self.at("/elsewhere")
    }

    /// What messages are to be signed with: `WEBHOOK_SECRET`.
    pub fn secret(&self) -> &SecretString {
        &self.secret
    }

    /// Answers the next `times` messages like this; what was said before for the next ones comes first.
    pub fn answer_next(&self, times: usize, answer: Answer) {
        self.with_orders(|orders| orders.next(times, answer));
    }

    /// Answers every message like this from now on, instead of what was said before.
    pub fn answer_always(&self, answer: Answer) {
        self.answer_by(move |_| answer.clone());
    }

    /// Answers every message as `judge` says from now on, instead of what was said before.
    pub fn answer_by(&self, judge: impl Fn(&Delivery) -> Answer + Send + Sync + 'static) {
        self.with_orders(|orders| orders.always(judge));
    }

    /// Closes the port and every connection. Returns once nothing listens any more.
    pub async fn go_down(&self) {
        if let Some(listening) = self.listening.lock().await.take() {
            listening.close().await;
        }
    }

    /// Listens again, on the same port.
    pub async fn come_up(&self) -> io::Result<()> {
        let mut listening = self.listening.lock().await;
        if listening.is_none() {
            let listener = TcpListener::bind(self.address).await?;
            *listening = Some(Listening::new(listener, &self.desk));
        }
        Ok(())
    }

    /// What has come by now.
    pub fn received(&self) -> Received {
        self.desk.received.borrow().clone()
    }

    /// Waits until what has come is as `expected`.
    pub async fn wait_for(
        &self,
        patience: Duration,
        expected: impl FnMut(&Received) -> bool,
    ) -> Result<Received, NotYet> {
        let mut received = self.desk.received.subscribe();
        match tokio::time::timeout(patience, received.wait_for(expected)).await {
            Ok(Ok(received)) => Ok(received.clone()),
            // The sender is ours, so it is the time that ran out.
            Ok(Err(_)) | Err(_) => Err(NotYet { waited: patience, so_far: self.received().to_string() }),
        }
    }

    fn at(&self, path: &str) -> Url {
        let text = format!("http://{}{path}", self.address);
        Url::parse(&text).expect("an address and a path make a URL")
    }

    fn with_orders(&self, give: impl FnOnce(&mut Orders)) {
        give(&mut self.desk.orders.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Receiver({}, {})", self.address, *self.desk.received.borrow())
    }
}

impl Listening {
    fn new(listener: TcpListener, desk: &Arc<Desk>) -> Self {
        let hang_up = CancellationToken::new();
        let counting = Arc::clone(desk);
        let lines = Lines::new(listener, hang_up.clone(), move || {
            counting.note(|received| received.connections += 1);
        });
        let routes = desk::routes(desk);
        let served = hang_up.clone().run_until_cancelled_owned(async move {
            // Never ends by itself.
            axum::serve(lines, routes).await
        });
        let task = tokio::spawn(async move {
            drop(served.await);
        });
        Self { task, hang_up: hang_up.drop_guard() }
    }

    async fn close(self) {
        drop(self.hang_up);
        if let Err(error) = self.task.await {
            tracing::error!("the receiver's task ended badly: {error}");
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
    async fn what_is_not_signed_is_not_taken() {
        let receiver = receiver().await;
        assert_eq!(status(client().post(receiver.url()).body("{}")).await, 401);
        assert_eq!(receiver.received().bad_signatures, 1);
    }

    #[tokio::test]
    async fn what_is_no_message_is_malformed() {
        let options = Options { signed: false, ..Options::default() };
        let receiver = Receiver::start(options).await.unwrap();
        let post = || client().post(receiver.url());
        assert_eq!(status(post().body("{}")).await, 400);
        assert_eq!(status(post().header("content-encoding", "gzip").body("{}")).await, 400);
        assert_eq!(status(post().header("content-encoding", "br").body("{}")).await, 400);
        assert_eq!(receiver.received().malformed, 3);
    }

    #[tokio::test]
    async fn a_receiver_is_gone_once_it_is_dropped_or_down_and_up_again_on_the_same_port() {
        let receiver = receiver().await;
        let (url, client) = (receiver.elsewhere(), client());
        assert_eq!(status(client.get(url.clone())).await, 404);
        receiver.go_down().await;
        assert!(client.get(url.clone()).send().await.is_err());
        receiver.come_up().await.unwrap();
        assert_eq!(status(client.get(url.clone())).await, 404);
        drop(receiver);
        tokio::task::yield_now().await;
        assert!(client.get(url).send().await.is_err());
    }

    #[tokio::test]
    async fn waiting_ends_with_what_was_waited_for_or_says_what_came_instead() {
        let receiver = receiver().await;
        let (client, long) = (client(), Duration::from_secs(20));
        let (waited, _) = tokio::join!(
            receiver.wait_for(long, |received| received.strays == 1),
            status(client.get(receiver.elsewhere()))
        );
        assert_eq!(waited.unwrap().strays, 1);
        let late = receiver.wait_for(Duration::ZERO, |received| received.taken > 0).await;
        assert!(late.unwrap_err().to_string().contains("0 messages taken"));
    }
}
