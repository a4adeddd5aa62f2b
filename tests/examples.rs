//! The examples as a partner starts from them: each is killed in the middle of a drop and started again, the drop is sent
//! once more by the same ids, and in the end every row is there once.

#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

mod support;

use std::{
    ffi::OsString,
    fs,
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::Stdio,
    sync::LazyLock,
    time::{Duration, Instant},
};

use secrecy::ExposeSecret;
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use support::{
    azurite,
    command::{LONG, output_of, vivadrop},
    queue::QueueConsumer,
    scene::{Scene, SimulatedDrop},
};

/// How much a receiver has kept when it is killed, in bytes: a part of the drop.
const IN_THE_MIDDLE: u64 = 200_000;

/// How many rows the drop has.
const ROWS: usize = 4000;

/// An example, on the command line.
struct Example {
    program: OsString,
    arguments: Vec<OsString>,
    environment: Vec<(&'static str, String)>,
    /// Where it keeps what it takes.
    kept: PathBuf,
    folder: TempDir,
}

impl Example {
    fn rust(name: &str) -> Self {
        Self::new(rust_example(name).into_os_string(), vec![])
    }

    fn python(name: &str) -> Self {
        // Bytecode of the examples would lie beside them.
        let arguments = ["-B".into(), python_example(name).into_os_string()];
        Self::new("python3".into(), arguments.into())
    }

    fn new(program: OsString, arguments: Vec<OsString>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let kept = folder.path().join("kept");
        let environment = vec![("PATH", std::env::var_os("PATH").unwrap().into_string().unwrap())];
        Self { program, arguments, environment, kept, folder }
    }

    fn arguments<const N: usize>(&mut self, arguments: [OsString; N]) {
        self.arguments.extend(arguments);
    }

    /// Starts it. It ends with the test.
    fn start(&self) -> Child {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).env_clear().envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.current_dir(self.folder.path()).stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
        command.spawn().expect("python3 is installed")
    }

    /// Kills it once it has kept a part of the drop, and starts it again.
    async fn die_and_come_back(&self, mut running: Child) -> Child {
        until(|| fs::metadata(&self.kept).is_ok_and(|file| file.len() > IN_THE_MIDDLE)).await;
        running.kill().await.unwrap();
        let rows = self.rows().await.len();
        assert!((1..ROWS).contains(&rows), "it was killed in the middle: after {rows} rows");
        self.start()
    }

    /// The rows that it has kept.
    async fn rows(&self) -> Vec<Value> {
        let lines = if self.program == "python3" {
            let ended = output_of(Command::new("python3").arg("-B").arg(python_example("store")).arg(&self.kept)).await;
            assert_eq!(ended.code, Some(0), "{}", ended.stderr);
            return ended.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        } else {
            fs::read_to_string(&self.kept).unwrap()
        };
        // The last line may be in the middle of being written.
        let whole = lines.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let messages = whole.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let batches = messages.filter(|message| message["type"] == "viva.insights.rows");
        batches
            .flat_map(|mut message| serde_json::from_value::<Vec<Value>>(message["data"]["rows"].take()).unwrap())
            .collect()
    }
}

/// The built example; building it is a matter of moments where `cargo test` has done so.
fn rust_example(name: &str) -> PathBuf {
    static BUILT: LazyLock<PathBuf> = LazyLock::new(|| {
        let built =
            std::process::Command::new(env!("CARGO")).args(["build", "--examples", "--quiet"]).status().unwrap();
        assert!(built.success());
        Path::new(env!("CARGO_BIN_EXE_vivadrop")).with_file_name("examples")
    });
    BUILT.join(name)
}

fn python_example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("examples/python/{name}.py"))
}

async fn until(mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < LONG, "it does not come to that");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A drop of some hundred messages, and its rows, sorted.
async fn drop_of(scene: &mut Scene) -> (SimulatedDrop, Vec<String>) {
    scene.set("BATCH_ROWS", "20");
    let drop = scene.drop(ROWS as u64, 2).await;
    let rows = scene.rows_of(&drop).await;
    scene.upload(&drop).await;
    let rows = rows.iter().map(|row| serde_json::from_str::<Value>(row).unwrap());
    (drop, sorted(rows))
}

/// By their values: who stores rows may write numbers in another way.
fn sorted(rows: impl IntoIterator<Item = Value>) -> Vec<String> {
    let mut rows: Vec<_> = rows.into_iter().map(|row| row.to_string()).collect();
    rows.sort();
    rows
}

async fn run(scene: &Scene, command: &str, drop: &SimulatedDrop) {
    let ended = output_of(vivadrop().args([command, &drop.path()]).envs(&scene.settings)).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
}

async fn a_webhook_that_is_killed_has_every_row_once(mut example: Example, address: impl Fn(u16) -> String) {
    let mut scene = Scene::in_a_folder().await;
    let (drop, rows) = drop_of(&mut scene).await;
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    scene.set("DELIVER_TO", &format!("http://127.0.0.1:{port}/"));
    example.environment.push(("WEBHOOK_SECRET", scene.receiver.secret().expose_secret().to_owned()));
    example.arguments([address(port).into(), example.kept.clone().into()]);

    let running = example.start();
    let ((), running) = tokio::join!(run(&scene, "deliver", &drop), example.die_and_come_back(running));
    assert!(sorted(example.rows().await) == rows, "what was kept is not what was sent");
    run(&scene, "replay", &drop).await;
    assert!(sorted(example.rows().await) == rows, "doubles were kept");

    // What somebody else signed is not taken.
    scene.set("WEBHOOK_SECRET", "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz");
    let ended = output_of(vivadrop().args(["replay", "--new-ids", &drop.path()]).envs(&scene.settings)).await;
    assert_eq!(ended.code, Some(3), "{}", ended.stderr);
    assert!(ended.stderr.contains("HTTP 401"), "{}", ended.stderr);
    std::mem::drop(running);
}

async fn a_reader_that_is_killed_has_every_row_once(mut example: Example) {
    let mut scene = Scene::in_a_folder().await;
    let end = QueueConsumer::new(azurite::shared());
    scene.set("DELIVER_TO", &end.deliver_to());
    scene.set("SinkStorage", &azurite::shared().connection_string());
    let (drop, rows) = drop_of(&mut scene).await;
    run(&scene, "deliver", &drop).await;
    // Hidden for two seconds: what it had when it was killed comes again soon.
    example.arguments([end.signed_url().into(), example.kept.clone().into(), "2".into()]);

    let running = example.start();
    let running = example.die_and_come_back(running).await;
    let begun = Instant::now();
    while example.rows().await.len() < rows.len() && begun.elapsed() < LONG {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(sorted(example.rows().await) == rows, "what was kept is not what was sent");

    run(&scene, "replay", &drop).await;
    let begun = Instant::now();
    while end.count().await > 0 {
        assert!(begun.elapsed() < LONG, "what was kept is deleted from the queue");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(sorted(example.rows().await) == rows, "doubles were kept");
    std::mem::drop(running);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_webhook_in_rust_keeps_every_row_once() {
    a_webhook_that_is_killed_has_every_row_once(Example::rust("webhook_receiver"), |port| format!("127.0.0.1:{port}"))
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_webhook_in_python_keeps_every_row_once() {
    a_webhook_that_is_killed_has_every_row_once(Example::python("webhook_receiver"), |port| port.to_string()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_queue_reader_in_rust_keeps_every_row_once() {
    a_reader_that_is_killed_has_every_row_once(Example::rust("queue_reader")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_queue_reader_in_python_keeps_every_row_once() {
    a_reader_that_is_killed_has_every_row_once(Example::python("queue_reader")).await;
}
