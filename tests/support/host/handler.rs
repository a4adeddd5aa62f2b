//! The handler's process and its output.

use std::{
    io::Read,
    net::{Ipv4Addr, TcpListener},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{POLL, Settings};
use crate::support::secrets::Secrets;

/// The time within which the host expects a handler to listen.
const INITIALIZATION: Duration = Duration::from_secs(30);

/// A running `vivadrop serve`. Dropping it kills the process.
pub(super) struct Handler {
    pub(super) child: Child,
    pub(super) port: u16,
    pub(super) stdout: Output,
    pub(super) stderr: Output,
}

impl Handler {
    /// Starts the handler on a free port, and waits until it listens.
    pub(super) async fn start(settings: &Settings, client: &reqwest::Client) -> Self {
        for port in ports() {
            let mut handler = Self::spawn(settings, port);
            match handler.wait_until_ready(client).await {
                Ok(()) => return handler,
                Err(why) if why.contains("cannot listen") => {}
                Err(why) => panic!("the handler exited before it listened: {why}"),
            }
        }
        panic!("there is no free port");
    }

    /// Starts the process.
    fn spawn(settings: &Settings, port: u16) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_vivadrop"))
            .arg("serve")
            .env_clear()
            .envs(settings)
            .env("FUNCTIONS_CUSTOMHANDLER_PORT", port.to_string())
            .env("FUNCTIONS_CUSTOMHANDLER_WORKER_ID", "2b8e3a1c-5a7e-4d59-9a3c-1d2f3e4a5b6c")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = Output::read(child.stdout.take().unwrap());
        let stderr = Output::read(child.stderr.take().unwrap());
        Self { child, port, stdout, stderr }
    }

    /// Sends requests until one is answered, with any status, as the host does.
    async fn wait_until_ready(&mut self, client: &reqwest::Client) -> Result<(), String> {
        let started = Instant::now();
        while client.get(format!("http://127.0.0.1:{}/", self.port)).send().await.is_err() {
            if self.child.try_wait().unwrap().is_some() {
                self.kill();
                return Err(self.stderr.lock().clone());
            }
            assert!(started.elapsed() < INITIALIZATION, "the handler does not listen in time");
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    /// Sends SIGKILL unless the process has exited, and reads the rest of its output.
    pub(super) fn kill(&mut self) {
        // Fails if the process has exited by itself.
        _ = self.child.kill();
        self.child.wait().unwrap();
        self.stdout.wait();
        self.stderr.wait();
    }

    /// Checks the output of a process that has exited.
    pub(super) fn check(&self, secrets: &Secrets) {
        let (stdout, stderr) = (self.stdout.lock(), self.stderr.lock());
        assert_eq!(*stderr, "", "the handler wrote to stderr");
        for line in stdout.lines() {
            assert!(serde_json::from_str::<Value>(line).is_ok_and(|line| line.is_object()), "not a log line: {line}");
        }
        secrets.check(&stdout);
    }
}

impl Drop for Handler {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Ports that are free now. They are below the range from which the system assigns ports, because the receiver of
/// another test might otherwise get the port first and answer in place of the handler.
fn ports() -> impl Iterator<Item = u16> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let numbers = std::iter::repeat_with(|| std::process::id() * 64 + NEXT.fetch_add(1, Ordering::Relaxed));
    let ports = numbers.map(|number| 18_000 + (number % 14_000) as u16).take(100);
    ports.filter(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
}

/// The output of a process, read by a thread so that the process never blocks on a full pipe.
pub(super) struct Output {
    text: Arc<Mutex<String>>,
    thread: Option<JoinHandle<()>>,
}

impl Output {
    /// Starts a thread that reads `pipe` to its end.
    fn read(mut pipe: impl Read + Send + 'static) -> Self {
        let text = Arc::<Mutex<String>>::default();
        let to = Arc::clone(&text);
        let thread = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            pipe.read_to_end(&mut bytes).unwrap();
            *to.lock().unwrap_or_else(PoisonError::into_inner) = String::from_utf8_lossy(&bytes).into_owned();
        });
        Self { text, thread: Some(thread) }
    }

    /// Waits until the process has closed the pipe and everything is read.
    fn wait(&mut self) {
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the output can be read");
        }
    }

    /// The output; empty until the process has ended.
    pub(super) fn lock(&self) -> MutexGuard<'_, String> {
        self.text.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
