//! Plays the Functions host: starts the handler as the host does, posts what the host posts, and checks that every
//! response has the form that the host requires.
//!
//! When a [`Host`] is dropped, it checks the handler's output: every line on stdout is a JSON object, stderr is empty
//! (the host reports each of its lines as an error), and no line contains a secret.

mod handler;

use std::{
    collections::BTreeMap,
    fs,
    net::{Ipv4Addr, SocketAddr},
    process::Command,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use serde_json::Value;
use tokio::task::JoinHandle;

use self::handler::Handler;
use super::secrets::Secrets;

/// The interval at which the host checks whether the handler listens.
const POLL: Duration = Duration::from_millis(25);

/// How often the host posts an event before it gives up.
const TRIES: usize = 5;

/// The trace that the host's requests belong to. The host marks every trace as not sampled: the last two digits.
pub(crate) const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";

/// The size of the chunks of a request body, in bytes.
const CHUNK: usize = 16 << 10;

/// App settings, by name.
pub(crate) type Settings = BTreeMap<String, String>;

/// A Functions host with one running handler.
pub(crate) struct Host {
    settings: Settings,
    secrets: Secrets,
    handler: Handler,
    client: reqwest::Client,
}

/// The handler's response to one request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// The only line of its `Logs`.
    pub(crate) log: String,
}

impl Answer {
    /// Whether the host regards the event as handled.
    pub(crate) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

impl Host {
    /// Starts `vivadrop serve` with `settings` as its environment, and waits until it listens.
    pub(crate) async fn start(settings: Settings, secrets: Secrets) -> Self {
        let client = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none());
        let client = client.user_agent("Azure-Functions-Host/4.1052.200.0").build().unwrap();
        let handler = Handler::start(&settings, &client).await;
        Self { settings, secrets, handler, client }
    }

    /// Kills the handler with SIGKILL, as the host does, and starts a new one.
    pub(crate) async fn kill_and_restart(&mut self) {
        self.handler.kill();
        self.handler.check(&self.secrets);
        self.handler = Handler::start(&self.settings, &self.client).await;
    }

    /// Kills the handler; returns its log lines.
    pub(crate) fn stop(mut self) -> Vec<Value> {
        self.handler.kill();
        let lines = self.handler.stdout.lock();
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// A client for another task. It posts to the port of the current process, and a restart changes the port.
    pub(crate) fn client(&self) -> HostClient {
        HostClient {
            url: self.url("/function"),
            client: self.client.clone(),
            traceparent: Some(TRACEPARENT.to_owned()),
        }
    }

    /// Posts `event` once, in a task; the result is `None` if the handler ends before it answers.
    pub(crate) fn begin_post(&self, event: Value) -> JoinHandle<Option<Answer>> {
        let client = self.client();
        tokio::spawn(async move { client.try_post(&event).await })
    }

    /// See [`HostClient::trigger`].
    pub(crate) async fn trigger(&self, event: &Value) -> Vec<Answer> {
        self.client().trigger(event).await
    }

    /// Posts `event` once.
    pub(crate) async fn post(&self, event: &Value) -> Answer {
        self.post_bytes(event.to_string()).await
    }

    /// Posts `body` once.
    pub(crate) async fn post_bytes(&self, body: impl Into<Bytes>) -> Answer {
        self.client().post(in_chunks(body.into())).await.expect("the handler answers")
    }

    /// Posts `event` once, with this `traceparent`, or without one.
    pub(crate) async fn post_traced(&self, event: &Value, traceparent: Option<&str>) -> Answer {
        let client = HostClient { traceparent: traceparent.map(ToOwned::to_owned), ..self.client() };
        client.post(in_chunks(event.to_string().into())).await.expect("the handler answers")
    }

    /// Posts a body that is sent chunk by chunk, once.
    pub(crate) async fn post_stream(&self, chunks: impl Stream<Item = Bytes> + Send + 'static) -> Answer {
        self.client().post(chunks).await.expect("the handler answers")
    }

    /// Forwards a request to an HTTP function, as the host does; returns the status and the JSON response.
    pub(crate) async fn forward(&self, method: reqwest::Method, path: &str, body: &Value) -> (u16, Value) {
        let request = self.client.request(method, self.url(path)).json(body);
        let response = request.send().await.expect("the handler answers");
        (response.status().as_u16(), response.json().await.expect("the answer is JSON"))
    }

    /// Sends a request to any path. The response must have the form that the host requires.
    pub(crate) async fn request(&self, method: reqwest::Method, path: &str) -> Answer {
        let request = self.client.request(method, self.url(path)).body("{}");
        read_answer(request.send().await.expect("the handler answers")).await
    }

    /// The handler's address.
    pub(crate) fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.handler.port).into()
    }

    /// The URL of `path`.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address())
    }

    /// Whether the handler's process runs and answers `GET /`.
    pub(crate) async fn is_alive(&mut self) -> bool {
        self.handler.child.try_wait().unwrap().is_none()
            && self.client.get(self.url("/")).send().await.is_ok_and(|answer| answer.status() == 200)
    }

    /// The handler's process id.
    pub(crate) fn process(&self) -> u32 {
        self.handler.child.id()
    }

    /// Sends SIGTERM.
    pub(crate) fn terminate(&self) {
        let killed = Command::new("kill").arg(self.process().to_string()).status();
        assert!(killed.unwrap().success(), "the handler is not running");
    }

    /// Waits up to `limit` until the handler exits by itself; returns its exit code.
    pub(crate) async fn exit_code(&mut self, limit: Duration) -> Option<i32> {
        let started = Instant::now();
        loop {
            if let Some(status) = self.handler.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(started.elapsed() < limit, "the handler did not exit within {limit:?}");
            tokio::time::sleep(POLL).await;
        }
    }

    /// The peak resident memory of the handler, in KiB.
    pub(crate) fn peak_memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }
}

/// Posts events to one handler.
#[derive(Clone)]
pub(crate) struct HostClient {
    url: String,
    client: reqwest::Client,
    traceparent: Option<String>,
}

impl HostClient {
    /// Posts `event` as the host does: up to five times without a delay, until the handler answers 2xx. Returns all
    /// answers.
    pub(crate) async fn trigger(&self, event: &Value) -> Vec<Answer> {
        let mut answers = Vec::new();
        while answers.len() < TRIES && !answers.last().is_some_and(Answer::is_success) {
            let chunks = in_chunks(event.to_string().into());
            answers.push(self.post(chunks).await.expect("the handler answers"));
        }
        answers
    }

    /// Posts `event` once; `None` if the handler ends before it answers.
    pub(crate) async fn try_post(&self, event: &Value) -> Option<Answer> {
        self.post(in_chunks(event.to_string().into())).await.ok()
    }

    async fn post(&self, chunks: impl Stream<Item = Bytes> + Send + 'static) -> reqwest::Result<Answer> {
        let mut request = self
            .client
            .post(&self.url)
            .header("X-Azure-Functions-HostVersion", "4.1052.200.0")
            .header("X-Azure-Functions-InvocationId", "7f0e8a52-0d4c-4f0e-9d3c-0a8f6f2d7e10")
            .header("Content-Type", "application/json; charset=utf-8")
            // A stream has no `Content-Length`: the host uses chunked encoding.
            .body(reqwest::Body::wrap_stream(chunks.map(Ok::<_, std::io::Error>)));
        if let Some(traceparent) = &self.traceparent {
            request = request.header("traceparent", traceparent);
        }
        Ok(read_answer(request.send().await?).await)
    }
}

/// Cuts a body into chunks, as the host sends it.
fn in_chunks(body: Bytes) -> impl Stream<Item = Bytes> + Send + 'static {
    let starts = (0..body.len()).step_by(CHUNK);
    let chunks: Vec<_> = starts.map(|start| body.slice(start..body.len().min(start + CHUNK))).collect();
    stream::iter(chunks)
}

impl Drop for Host {
    fn drop(&mut self) {
        self.handler.kill();
        if std::thread::panicking() {
            eprintln!("output of the handler:\n{}{}", self.handler.stdout.lock(), self.handler.stderr.lock());
        } else {
            self.handler.check(&self.secrets);
        }
    }
}

/// Checks what the host requires: a JSON object with `application/json`. Anything else hangs or fails the invocation.
async fn read_answer(response: reqwest::Response) -> Answer {
    let status = response.status().as_u16();
    let kind = response.headers().get("content-type").map(|kind| kind.to_str().unwrap().to_owned());
    assert_eq!(kind.as_deref(), Some("application/json"));
    let body: Value = response.json().await.expect("the answer is JSON");
    assert!(body.is_object(), "{body}");
    assert!(body["Outputs"].is_object(), "{body}");
    assert!(body["ReturnValue"].is_null(), "{body}");
    let log = body["Logs"].as_array().and_then(|logs| logs.first()?.as_str());
    Answer { status, log: log.expect("`Logs` is a list of strings").to_owned() }
}
