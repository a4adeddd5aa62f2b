//! A player of the Functions host's side: starts the handler as the host does, posts what the host posts, and holds the
//! handler to what the host takes for granted.
//!
//! However a test ends, it looks at what the handler said: every line on stdout is JSON, stderr is empty (the host calls
//! each line there an error), and nothing shows a secret.

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

use self::handler::Handler;
use super::secrets::Secrets;

/// How often the host asks a handler whether it listens.
const POLL: Duration = Duration::from_millis(25);

/// How often the host gives an event to a handler before it gives the event up.
const TRIES: usize = 5;

/// The size of the chunks that a post comes in.
const CHUNK: usize = 16 << 10;

/// App settings, by name.
pub(crate) type Settings = BTreeMap<String, String>;

/// A host with its handler.
pub(crate) struct Host {
    settings: Settings,
    secrets: Secrets,
    handler: Handler,
    client: reqwest::Client,
}

/// The answer to one post.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// The one line of its `Logs`.
    pub(crate) said: String,
}

impl Answer {
    /// Whether the host takes the event for done with.
    pub(crate) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

impl Host {
    /// Starts `vivadrop serve` with `settings` alone, and waits until it listens.
    pub(crate) async fn start(settings: Settings, secrets: Secrets) -> Self {
        let client = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none());
        let client = client.user_agent("Azure-Functions-Host/4.1052.200.0").build().unwrap();
        let handler = Handler::start(&settings, &client).await;
        Self { settings, secrets, handler, client }
    }

    /// Kills the handler as the host does, without a warning, and starts it afresh.
    pub(crate) async fn kill_and_restart(&mut self) {
        self.handler.kill();
        self.handler.check(&self.secrets);
        self.handler = Handler::start(&self.settings, &self.client).await;
    }

    /// Ends the handler; returns what it logged.
    pub(crate) fn stop(mut self) -> Vec<Value> {
        self.handler.kill();
        let lines = self.handler.said.lock();
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// A way to post that outlives the handler.
    pub(crate) fn line(&self) -> Line {
        Line { url: self.url("/function"), client: self.client.clone() }
    }

    /// [`Line::trigger`].
    pub(crate) async fn trigger(&self, event: &Value) -> Vec<Answer> {
        self.line().trigger(event).await
    }

    /// Posts `event` once.
    pub(crate) async fn post(&self, event: &Value) -> Answer {
        self.post_bytes(event.to_string()).await
    }

    /// Posts whatever it is, once.
    pub(crate) async fn post_bytes(&self, body: impl Into<Bytes>) -> Answer {
        self.line().post(in_chunks(body.into())).await.expect("the handler answers")
    }

    /// Posts these bytes, once, as they come.
    pub(crate) async fn post_stream(&self, chunks: impl Stream<Item = Bytes> + Send + 'static) -> Answer {
        self.line().post(chunks).await.expect("the handler answers")
    }

    /// Forwards a request to an http function, as the host does; returns the status and what the handler answered, JSON.
    pub(crate) async fn forward(&self, method: reqwest::Method, path: &str, body: &Value) -> (u16, Value) {
        let request = self.client.request(method, self.url(path)).json(body);
        let response = request.send().await.expect("the handler answers");
        (response.status().as_u16(), response.json().await.expect("the answer is JSON"))
    }

    /// Asks anything; the answer is to be one that the host can read.
    pub(crate) async fn ask(&self, method: reqwest::Method, path: &str) -> Answer {
        let request = self.client.request(method, self.url(path)).body("{}");
        read_answer(request.send().await.expect("the handler answers")).await
    }

    /// Where the handler listens.
    pub(crate) fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.handler.port).into()
    }

    /// Where `path` is.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address())
    }

    /// Whether the handler is alive, and answers as it does to a ping.
    pub(crate) async fn is_alive(&mut self) -> bool {
        self.handler.child.try_wait().unwrap().is_none()
            && self.client.get(self.url("/")).send().await.is_ok_and(|answer| answer.status() == 200)
    }

    /// The handler's process.
    pub(crate) fn process(&self) -> u32 {
        self.handler.child.id()
    }

    /// SIGTERM.
    pub(crate) fn tell_to_stop(&self) {
        let told = Command::new("kill").arg(self.process().to_string()).status();
        assert!(told.unwrap().success(), "there is nobody to tell");
    }

    /// Waits for the handler to end by itself; returns its exit code.
    pub(crate) async fn exit_code(&mut self, patience: Duration) -> Option<i32> {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.handler.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(begun.elapsed() < patience, "the handler did not end within {patience:?}");
            tokio::time::sleep(POLL).await;
        }
    }

    /// The most memory that the handler has had at once, in KiB.
    pub(crate) fn peak_memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }
}

/// What the host posts over. Clones post to the same handler.
#[derive(Clone)]
pub(crate) struct Line {
    url: String,
    client: reqwest::Client,
}

impl Line {
    /// Gives `event` to the handler as the host does: five times at once, until the answer is a success. Returns all
    /// answers.
    pub(crate) async fn trigger(&self, event: &Value) -> Vec<Answer> {
        let mut answers = Vec::new();
        while answers.len() < TRIES && !answers.last().is_some_and(Answer::is_success) {
            let chunks = in_chunks(event.to_string().into());
            answers.push(self.post(chunks).await.expect("the handler answers"));
        }
        answers
    }

    /// Posts `event` once; `None` where the handler does not live to answer.
    pub(crate) async fn post_in_vain(&self, event: &Value) -> Option<Answer> {
        self.post(in_chunks(event.to_string().into())).await.ok()
    }

    async fn post(&self, chunks: impl Stream<Item = Bytes> + Send + 'static) -> reqwest::Result<Answer> {
        let request = self
            .client
            .post(&self.url)
            .header("X-Azure-Functions-HostVersion", "4.1052.200.0")
            .header("X-Azure-Functions-InvocationId", "7f0e8a52-0d4c-4f0e-9d3c-0a8f6f2d7e10")
            .header("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00")
            .header("Content-Type", "application/json; charset=utf-8")
            // Without a length: the host sends chunks.
            .body(reqwest::Body::wrap_stream(chunks.map(Ok::<_, std::io::Error>)));
        Ok(read_answer(request.send().await?).await)
    }
}

fn in_chunks(body: Bytes) -> impl Stream<Item = Bytes> + Send + 'static {
    let starts = (0..body.len()).step_by(CHUNK);
    let chunks: Vec<_> = starts.map(|start| body.slice(start..body.len().min(start + CHUNK))).collect();
    stream::iter(chunks)
}

impl Drop for Host {
    fn drop(&mut self) {
        self.handler.kill();
        if std::thread::panicking() {
            eprintln!("the handler said:\n{}{}", self.handler.said.lock(), self.handler.complained.lock());
        } else {
            self.handler.check(&self.secrets);
        }
    }
}

/// What the host insists on: JSON, as `application/json`, and an object. Anything else hangs or fails the invocation.
async fn read_answer(response: reqwest::Response) -> Answer {
    let status = response.status().as_u16();
    let kind = response.headers().get("content-type").map(|kind| kind.to_str().unwrap().to_owned());
    assert_eq!(kind.as_deref(), Some("application/json"));
    let body: Value = response.json().await.expect("the answer is JSON");
    assert!(body.is_object(), "{body}");
    assert!(body["Outputs"].is_object(), "{body}");
    assert!(body["ReturnValue"].is_null(), "{body}");
    let said = body["Logs"].as_array().and_then(|logs| logs.first()?.as_str());
    Answer { status, said: said.expect("the logs are a list of strings").to_owned() }
}
