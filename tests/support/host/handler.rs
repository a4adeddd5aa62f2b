//! The handler's process, and what it says.

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

/// How long the host waits for a handler to listen.
const INITIALIZATION: Duration = Duration::from_secs(30);

/// The process.
pub(super) struct Handler {
    pub(super) child: Child,
    pub(super) port: u16,
    pub(super) said: Output,
    pub(super) complained: Output,
}

impl Handler {
    pub(super) async fn start(settings: &Settings, client: &reqwest::Client) -> Self {
        for port in ports() {
            let mut handler = Self::spawn(settings, port);
            match handler.ready(client).await {
                Ok(()) => return handler,
                Err(why) if why.contains("cannot listen") => {}
                Err(why) => panic!("the handler ended before it listened: {why}"),
            }
        }
        panic!("there is no free port");
    }

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
        let (said, complained) = (Output::of(child.stdout.take().unwrap()), Output::of(child.stderr.take().unwrap()));
        Self { child, port, said, complained }
    }

    /// Asks until there is an answer, as the host does: any answer will do.
    async fn ready(&mut self, client: &reqwest::Client) -> Result<(), String> {
        let begun = Instant::now();
        while client.get(format!("http://127.0.0.1:{}/", self.port)).send().await.is_err() {
            if self.child.try_wait().unwrap().is_some() {
                self.kill();
                return Err(self.complained.lock().clone());
            }
            assert!(begun.elapsed() < INITIALIZATION, "the handler does not listen");
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    /// SIGKILL, unless it has ended; and whatever it said until then.
    pub(super) fn kill(&mut self) {
        // It may have ended by itself.
        _ = self.child.kill();
        self.child.wait().unwrap();
        self.said.end();
        self.complained.end();
    }

    pub(super) fn check(&self, secrets: &Secrets) {
        let (said, complained) = (self.said.lock(), self.complained.lock());
        assert_eq!(*complained, "", "the handler wrote to stderr");
        for line in said.lines() {
            assert!(serde_json::from_str::<Value>(line).is_ok_and(|line| line.is_object()), "no log line: {line}");
        }
        secrets.check(&said);
    }
}

impl Drop for Handler {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Ports that are free at this moment. They are below those that the system gives to whoever does not care, such as the
/// receivers of other tests: one of those must not answer in the handler's place.
fn ports() -> impl Iterator<Item = u16> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let numbers = std::iter::repeat_with(|| std::process::id() * 64 + NEXT.fetch_add(1, Ordering::Relaxed));
    let ports = numbers.map(|number| 18_000 + (number % 14_000) as u16).take(100);
    ports.filter(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
}

/// What a process says, read by a thread so that it never waits to say it.
pub(super) struct Output {
    text: Arc<Mutex<String>>,
    reading: Option<JoinHandle<()>>,
}

impl Output {
    fn of(mut pipe: impl Read + Send + 'static) -> Self {
        let text = Arc::<Mutex<String>>::default();
        let to = Arc::clone(&text);
        let reading = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            pipe.read_to_end(&mut bytes).unwrap();
            *to.lock().unwrap_or_else(PoisonError::into_inner) = String::from_utf8_lossy(&bytes).into_owned();
        });
        Self { text, reading: Some(reading) }
    }

    /// Waits until all is read: the process has ended.
    fn end(&mut self) {
        if let Some(reading) = self.reading.take() {
            reading.join().expect("the output can be read");
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, String> {
        self.text.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
