//! A storage account on loopback: Azurite, installed with npm.
//!
//! Azurite runs in a child process that ends when its stdin is closed, so that it never outlives the test binary, even
//! if that panics or is killed.

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

/// The account name of every storage emulator.
pub(crate) const ACCOUNT: &str = "devstoreaccount1";
/// The published key of [`ACCOUNT`].
pub(crate) const KEY: &str = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// The time limit for starting Azurite and for each command.
const TIME_LIMIT: Duration = Duration::from_secs(60);

/// One Azurite for all tests of a binary that do not stop it. It keeps its data in memory, because a static is never
/// dropped and would leave its folder behind.
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
    /// Declared after `server`, so that it is dropped after the process that writes to it.
    data: Option<TempDir>,
}

impl Azurite {
    /// Starts Azurite on free ports, and waits until it listens. Its data survives a restart.
    pub(crate) fn start() -> Self {
        Self::with_data(Some(tempfile::tempdir().expect("a folder for Azurite's data")))
    }

    /// Starts Azurite with its data in this folder, or in memory.
    fn with_data(data: Option<TempDir>) -> Self {
        let (server, [blob_port, queue_port]) = Server::start(data.as_ref(), [0, 0], None);
        Self { scheme: "http", blob_port, queue_port, server: Mutex::new(Some(server)), data }
    }

    /// Starts Azurite with authentication by tokens of Microsoft Entra ID, which requires TLS. It cannot be paused.
    pub(crate) fn with_tokens(certificate: &Certificate) -> Self {
        let (server, [blob_port, queue_port]) = Server::start(None, [0, 0], Some(certificate));
        Self { scheme: "https", blob_port, queue_port, server: Mutex::new(Some(server)), data: None }
    }

    /// The URL of the blob service including the account, without a slash at the end.
    pub(crate) fn blob_endpoint(&self) -> String {
        format!("{}://127.0.0.1:{}/{ACCOUNT}", self.scheme, self.blob_port)
    }

    /// The URL of the queue service including the account, without a slash at the end.
    pub(crate) fn queue_endpoint(&self) -> String {
        format!("{}://127.0.0.1:{}/{ACCOUNT}", self.scheme, self.queue_port)
    }

    /// A connection string with the account key.
    pub(crate) fn connection_string(&self) -> String {
        let (blob, queue) = (self.blob_endpoint(), self.queue_endpoint());
        format!("AccountName={ACCOUNT};AccountKey={KEY};BlobEndpoint={blob};QueueEndpoint={queue}")
    }

    /// A name that no other container or queue has. Nothing is created.
    pub(crate) fn unique_name(&self, prefix: &str) -> String {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        format!("{prefix}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// Accepts requests from now on, but answers none until [`Self::resume`].
    pub(crate) fn pause(&self) {
        self.server().as_mut().expect("Azurite is running").command("pause");
    }

    /// Answers requests again, beginning with those that are waiting.
    pub(crate) fn resume(&self) {
        self.server().as_mut().expect("Azurite is running").command("resume");
    }

    /// Ends the process: the ports are closed until [`Self::restart`].
    pub(crate) fn stop(&self) {
        self.server().take();
    }

    /// Starts the process again on the same ports, with the same data.
    pub(crate) fn restart(&self) {
        let mut server = self.server();
        // The old process must release the ports first.
        server.take();
        *server = Some(Server::start(self.data.as_ref(), [self.blob_port, self.queue_port], None).0);
    }

    fn server(&self) -> MutexGuard<'_, Option<Server>> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The process that runs Azurite: `tests/azurite/serve.js`.
struct Server {
    child: Child,
    /// `None` once the process is to end.
    commands: Option<ChildStdin>,
    lines: mpsc::Receiver<String>,
}

impl Server {
    fn start(data: Option<&TempDir>, ports: [u16; 2], tokens: Option<&Certificate>) -> (Self, [u16; 2]) {
        let folder = installed();
        let token_arguments = tokens.map(|certificate| {
            let [cert, key] = [certificate.file(), certificate.key_file()].map(PathBuf::into_os_string);
            [OsString::from("--oauth"), "basic".into(), "--cert".into(), cert, "--key".into(), key]
        });
        let storage_arguments = match data {
            Some(data) => [OsStr::new("--location"), data.path().as_os_str()].to_vec(),
            None => [OsStr::new("--inMemoryPersistence")].to_vec(),
        };
        let mut child = Command::new("node")
            .arg(folder.join("serve.js"))
            .args(["--silent", "--skipApiVersionCheck", "--disableTelemetry", "--loose"])
            .args(storage_arguments)
            .args(token_arguments.into_iter().flatten())
            .args(["--blobPort", &ports[0].to_string(), "--queuePort", &ports[1].to_string(), "--tablePort", "0"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("node runs Azurite: install Node.js 20 or later");
        let stdout = child.stdout.take().expect("stdout is piped");
        let (send, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                // The receiver may be gone. Reading goes on, so that Azurite never blocks on a full pipe.
                _ = send.send(line);
            }
        });
        let commands = child.stdin.take();
        let server = Self { child, commands, lines };
        let ports = ["Blob", "Queue", "Table"].map(|service| server.wait_for_port(service));
        (server, [ports[0], ports[1]])
    }

    /// Waits until `service` listens; returns its port.
    fn wait_for_port(&self, service: &str) -> u16 {
        let line = self.wait_for(&format!("Azurite {service} service is successfully listening"));
        let (_, port) = line.rsplit_once(':').expect("an address ends with a port");
        port.trim_end_matches('/').parse().expect("a port is a number")
    }

    /// Sends a command and waits until it is carried out.
    fn command(&mut self, command: &str) {
        let stdin = self.commands.as_mut().expect("stdin is open while Azurite runs");
        writeln!(stdin, "{command}").expect("Azurite reads its commands");
        self.wait_for(&format!("{command} done"));
    }

    /// Waits for a line of output that begins with `start`.
    fn wait_for(&self, start: &str) -> String {
        loop {
            let line = self.lines.recv_timeout(TIME_LIMIT).expect("Azurite answers; see its stderr above");
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

/// The folder that Azurite is installed in. `make test` installs it first; otherwise it is installed here, once.
fn installed() -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/azurite");
    // Test binaries may run in parallel. The lock is released when the process ends.
    let lock = File::open(folder.join("package-lock.json")).expect("tests/azurite/package-lock.json");
    lock.lock().expect("a lock on tests/azurite/package-lock.json");
    // npm writes this file last, so an interrupted installation does not have it.
    if !fs::exists(folder.join("node_modules/.package-lock.json")).unwrap_or(false) {
        let npm = Command::new("npm").arg("ci").arg("--prefix").arg(&folder).stdout(Stdio::null()).status();
        assert!(npm.expect("npm installs Azurite: install Node.js 20 or later").success(), "npm ci failed");
    }
    folder
}
