//! A storage account on loopback: Azurite, as npm has it.
//!
//! It runs in a process that ends when its stdin does. A test binary that panics, is interrupted or is killed takes it
//! along.

use std::{
    ffi::{OsStr, OsString},
    fs::{self, File},
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{
        LazyLock, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
        mpsc,
    },
    time::Duration,
};

use tempfile::TempDir;

use super::tls::Certificate;

/// The account of every emulator, and its published key.
pub(crate) const ACCOUNT: &str = "devstoreaccount1";
/// See [`ACCOUNT`].
pub(crate) const KEY: &str = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// How long Azurite may take to listen, or to do as it is told.
const PATIENCE: Duration = Duration::from_secs(60);

/// One Azurite for all tests of a binary that do not take it down. It keeps its data in memory: what is static is not
/// dropped, and would leave a folder behind.
pub(crate) fn shared() -> &'static Azurite {
    static SHARED: LazyLock<Azurite> = LazyLock::new(|| Azurite::with_data(None));
    &SHARED
}

/// A running Azurite.
pub(crate) struct Azurite {
    scheme: &'static str,
    blob_port: u16,
    queue_port: u16,
    server: Mutex<Option<Server>>,
    /// Dropped after the server that writes to it.
    data: Option<TempDir>,
}

impl Azurite {
    /// Starts one on free ports, and waits until it listens. It keeps its data over a restart.
    pub(crate) fn start() -> Self {
        Self::with_data(Some(tempfile::tempdir().expect("a folder for Azurite's data")))
    }

    fn with_data(data: Option<TempDir>) -> Self {
        let (server, [blob_port, queue_port]) = Server::start(data.as_ref(), [0, 0], None);
        Self { scheme: "http", blob_port, queue_port, server: Mutex::new(Some(server)), data }
    }

    /// Starts one that takes tokens of Microsoft Entra ID, and so speaks TLS, with `certificate`. It cannot be paused.
    pub(crate) fn with_tokens(certificate: &Certificate) -> Self {
        let (server, [blob_port, queue_port]) = Server::start(None, [0, 0], Some(certificate));
        Self { scheme: "https", blob_port, queue_port, server: Mutex::new(Some(server)), data: None }
    }

    /// Where the blob service is, account included, without a slash at the end.
    pub(crate) fn blob_endpoint(&self) -> String {
        format!("{}://127.0.0.1:{}/{ACCOUNT}", self.scheme, self.blob_port)
    }

    /// Where the queue service is, account included, without a slash at the end.
    pub(crate) fn queue_endpoint(&self) -> String {
        format!("{}://127.0.0.1:{}/{ACCOUNT}", self.scheme, self.queue_port)
    }

    /// A connection string with the account key.
    pub(crate) fn connection_string(&self) -> String {
        let (blob, queue) = (self.blob_endpoint(), self.queue_endpoint());
        format!("AccountName={ACCOUNT};AccountKey={KEY};BlobEndpoint={blob};QueueEndpoint={queue}")
    }

    /// The name of a container or queue that nobody else uses. It is not made.
    pub(crate) fn fresh_name(&self, what: &str) -> String {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        format!("{what}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// Lets requests come and answers none until [`Self::resume`].
    pub(crate) fn pause(&self) {
        self.server().as_mut().expect("Azurite is running").tell("pause");
    }

    /// Answers again, first those that waited.
    pub(crate) fn resume(&self) {
        self.server().as_mut().expect("Azurite is running").tell("resume");
    }

    /// Takes it down: connections are refused until [`Self::restart`].
    pub(crate) fn stop(&self) {
        self.server().take();
    }

    /// Brings it back on its old ports, with its old data.
    pub(crate) fn restart(&self) {
        let mut server = self.server();
        // The old one lets go of the ports first.
        server.take();
        *server = Some(Server::start(self.data.as_ref(), [self.blob_port, self.queue_port], None).0);
    }

    fn server(&self) -> MutexGuard<'_, Option<Server>> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The process.
struct Server {
    child: Child,
    commands: Option<ChildStdin>,
    lines: mpsc::Receiver<String>,
}

impl Server {
    fn start(data: Option<&TempDir>, ports: [u16; 2], tokens: Option<&Certificate>) -> (Self, [u16; 2]) {
        let folder = installed();
        let tokens = tokens.map(|certificate| {
            let [cert, key] = [certificate.file(), certificate.key_file()].map(PathBuf::into_os_string);
            [OsString::from("--oauth"), "basic".into(), "--cert".into(), cert, "--key".into(), key]
        });
        let place = match data {
            Some(data) => [OsStr::new("--location"), data.path().as_os_str()].to_vec(),
            None => [OsStr::new("--inMemoryPersistence")].to_vec(),
        };
        let mut child = Command::new("node")
            .arg(folder.join("serve.js"))
            .args(["--silent", "--skipApiVersionCheck", "--disableTelemetry", "--loose"])
            .args(place)
            .args(tokens.into_iter().flatten())
            .args(["--blobPort", &ports[0].to_string(), "--queuePort", &ports[1].to_string(), "--tablePort", "0"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("node runs Azurite: install Node.js 20 or later");
        let stdout = child.stdout.take().expect("stdout is piped");
        let (send, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                // Nobody listens any more once Azurite is up; its output is read on so that it never waits.
                _ = send.send(line);
            }
        });
        let commands = child.stdin.take();
        let server = Self { child, commands, lines };
        let ports = ["Blob", "Queue", "Table"].map(|service| server.listening(service));
        (server, [ports[0], ports[1]])
    }

    /// The port on which `service` listens, once it does.
    fn listening(&self, service: &str) -> u16 {
        let line = self.wait_for(&format!("Azurite {service} service is successfully listening"));
        let (_, port) = line.rsplit_once(':').expect("an address ends in a port");
        port.trim_end_matches('/').parse().expect("a port is a number")
    }

    fn tell(&mut self, command: &str) {
        let stdin = self.commands.as_mut().expect("stdin is open as long as Azurite runs");
        writeln!(stdin, "{command}").expect("Azurite reads its commands");
        self.wait_for(&format!("{command} done"));
    }

    fn wait_for(&self, start: &str) -> String {
        loop {
            let line = self.lines.recv_timeout(PATIENCE).expect("Azurite answers; see its stderr above");
            if line.starts_with(start) {
                return line;
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.commands.take();
        _ = self.child.wait();
    }
}

/// The folder with Azurite in it. `make test` has installed it; a bare `cargo test` does so here, once.
fn installed() -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/azurite");
    // Test binaries may run side by side; the lock goes with the process.
    let lock = File::open(folder.join("package-lock.json")).expect("tests/azurite/package-lock.json");
    lock.lock().expect("a lock on tests/azurite/package-lock.json");
    // npm writes this file last.
    if !fs::exists(folder.join("node_modules/.package-lock.json")).unwrap_or(false) {
        let npm = Command::new("npm").arg("ci").arg("--prefix").arg(&folder).stdout(Stdio::null()).status();
        assert!(npm.expect("npm installs Azurite: install Node.js 20 or later").success(), "npm ci failed");
    }
    folder
}
