//! Tests of the examples in `examples/`. Each example is killed in the middle of a drop and restarted, and the drop is
//! delivered again with the same ids. In the end, it must have every row exactly once.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

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

use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::{Child, Command};
use vivadrop::{
    message::{EndingVersion, Failure, ImportFacts, ImportVersion, Message, RangeCounts, WindowFacts},
    sink::{
        deliver,
        webhook::{Webhook, WebhookConfig},
    },
    verdict::Reason,
};

use support::{
    azurite,
    command::{LONG, output_of, vivadrop},
    message::facts,
    queue::QueueConsumer,
    scene::{METADATA, Scene, SimulatedDrop},
    service_bus::{Entity, Namespace, Rights},
    tls::Certificate,
};

/// The size of an example's file when it is killed, in bytes: a part of the drop.
const KILL_AT_BYTES: u64 = 200_000;

/// The number of rows of the drop.
const ROWS: usize = 4000;

/// An example program and its arguments.
struct Example {
    program: OsString,
    arguments: Vec<OsString>,
    environment: Vec<(&'static str, String)>,
    /// The file that it stores rows in.
    output: PathBuf,
    folder: TempDir,
}

impl Example {
    /// An example in `examples/`.
    fn rust(name: &str) -> Self {
        Self::new(rust_example(name).into_os_string(), vec![])
    }

    /// An example in `examples/python/`.
    fn python(name: &str) -> Self {
        // -B: Python must not write bytecode next to the examples.
        let arguments = ["-B".into(), python_example(name).into_os_string()];
        Self::new("python3".into(), arguments.into())
    }

    fn new(program: OsString, arguments: Vec<OsString>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("rows");
        let environment = vec![("PATH", std::env::var_os("PATH").unwrap().into_string().unwrap())];
        Self { program, arguments, environment, output, folder }
    }

    fn add_arguments<const N: usize>(&mut self, arguments: [OsString; N]) {
        self.arguments.extend(arguments);
    }

    /// Lets it listen on a free port for messages signed with `secret`; returns its URL.
    fn listen(&mut self, secret: &SecretString) -> String {
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
        let argument = if self.program == "python3" { address.port().to_string() } else { address.to_string() };
        self.environment.push(("WEBHOOK_SECRET", secret.expose_secret().to_owned()));
        self.add_arguments([argument.into(), self.output.clone().into()]);
        format!("http://{address}/")
    }

    /// Lets it listen; returns a sink that delivers to it.
    fn webhook(&mut self) -> Webhook {
        let secret = SecretString::from("whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz");
        let url = self.listen(&secret).parse().unwrap();
        Webhook::new(WebhookConfig::new(url, Some(&secret)).unwrap()).unwrap()
    }

    /// Starts the example. It is killed when the test ends.
    fn start(&self) -> Child {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).env_clear().envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.current_dir(self.folder.path()).stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
        command.spawn().expect("python3 is installed")
    }

    /// Kills the example once it has stored a part of the drop, and starts it again.
    async fn kill_and_restart(&self, mut running: Child) -> Child {
        wait_until(|| fs::metadata(&self.output).is_ok_and(|file| file.len() > KILL_AT_BYTES)).await;
        running.kill().await.unwrap();
        let rows = self.rows().await.len();
        assert!((1..ROWS).contains(&rows), "the example was not killed in the middle, but after {rows} rows");
        self.start()
    }

    /// The state of the drop `path` that it has stored: the newest ending.
    async fn state(&self, path: &str) -> Value {
        let lines = if self.program == "python3" {
            let mut store = Command::new("python3");
            let ended = output_of(store.arg("-B").arg(python_example("store")).arg(&self.output).arg("states")).await;
            assert_eq!(ended.code, Some(0), "{}", ended.stderr);
            ended.stdout
        } else {
            fs::read_to_string(&self.output).unwrap()
        };
        let mut messages = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        messages.rfind(|message| message["data"]["drop"]["path"] == path).unwrap()
    }

    /// Cycle, attribute and range of each person whose attributes it has applied, sorted.
    async fn attributes(&self) -> Vec<(String, String, u64)> {
        let mut found = Vec::new();
        let mut add = |cycle: &Value, attribute: &str, value: &Value| {
            found.push((cycle.as_str().unwrap().to_owned(), attribute.to_owned(), value["range"].as_u64().unwrap()));
        };
        if self.program == "python3" {
            let mut store = Command::new("python3");
            let view = store.arg("-B").arg(python_example("store")).arg(&self.output).arg("attributes");
            let ended = output_of(view).await;
            assert_eq!(ended.code, Some(0), "{}", ended.stderr);
            for line in ended.stdout.lines() {
                let line: Value = serde_json::from_str(line).unwrap();
                add(&line[2], line[4].as_str().unwrap(), &line[5]);
            }
        } else {
            for line in fs::read_to_string(self.output.with_extension("attributes")).unwrap().lines() {
                let line: Value = serde_json::from_str(line).unwrap();
                for person in line[3]["people"].as_object().unwrap().values() {
                    person.as_object().unwrap().iter().for_each(|(name, value)| add(&line[2], name, value));
                }
            }
        }
        found.sort();
        found
    }

    /// The rows that it has stored.
    async fn rows(&self) -> Vec<Value> {
        let lines = if self.program == "python3" {
            let ended =
                output_of(Command::new("python3").arg("-B").arg(python_example("store")).arg(&self.output)).await;
            assert_eq!(ended.code, Some(0), "{}", ended.stderr);
            return ended.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        } else {
            fs::read_to_string(&self.output).unwrap()
        };
        // The last line may be incomplete.
        let complete = lines.rsplit_once('\n').map_or("", |(complete, _)| complete);
        let messages = complete.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let batches = messages.filter(|message| message["type"] == "viva.insights.rows");
        batches
            .flat_map(|mut message| serde_json::from_value::<Vec<Value>>(message["data"]["rows"].take()).unwrap())
            .collect()
    }
}

/// The path of a built example. Building takes only a moment, because `cargo test` has built the examples before.
fn rust_example(name: &str) -> PathBuf {
    static BUILT: LazyLock<PathBuf> = LazyLock::new(|| {
        let built =
            std::process::Command::new(env!("CARGO")).args(["build", "--examples", "--quiet"]).status().unwrap();
        assert!(built.success());
        Path::new(env!("CARGO_BIN_EXE_vivadrop")).with_file_name("examples")
    });
    BUILT.join(name)
}

/// The path of an example in Python.
fn python_example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("examples/python/{name}.py"))
}

/// Waits until `condition` is true.
async fn wait_until(mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < LONG, "the condition did not become true in time");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Uploads a drop that gives some hundred messages; returns it with its sorted rows.
async fn upload_drop(scene: &mut Scene) -> (SimulatedDrop, Vec<String>) {
    scene.set("BATCH_ROWS", "20");
    let drop = scene.drop(ROWS as u64, 2).await;
    let rows = scene.rows_of(&drop).await;
    scene.upload(&drop).await;
    let rows = rows.iter().map(|row| serde_json::from_str::<Value>(row).unwrap());
    (drop, sorted(rows))
}

/// Sorts parsed rows, because an example may store numbers in another notation.
fn sorted(rows: impl IntoIterator<Item = Value>) -> Vec<String> {
    let mut rows: Vec<_> = rows.into_iter().map(|row| row.to_string()).collect();
    rows.sort();
    rows
}

/// Runs a command for a drop, which must succeed.
async fn run(scene: &Scene, command: &str, drop: &SimulatedDrop) {
    let ended = output_of(vivadrop().args([command, &drop.path()]).envs(&scene.settings)).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
}

/// Kills the receiver in the middle of a drop, and replays the drop; each row must be stored once.
async fn assert_webhook_stores_every_row_once(mut example: Example) {
    let mut scene = Scene::in_a_folder().await;
    let (drop, rows) = upload_drop(&mut scene).await;
    scene.set("DELIVER_TO", &example.listen(scene.receiver.secret()));

    let running = example.start();
    let ((), running) = tokio::join!(run(&scene, "deliver", &drop), example.kill_and_restart(running));
    assert!(sorted(example.rows().await) == rows, "the stored rows are not the delivered rows");
    run(&scene, "replay", &drop).await;
    assert!(sorted(example.rows().await) == rows, "duplicates were stored");

    // The example rejects a message with a wrong signature; the drop waits until the secret is right.
    scene.set("WEBHOOK_SECRET", "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz");
    let ended = output_of(vivadrop().args(["replay", "--new-ids", &drop.path()]).envs(&scene.settings)).await;
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("HTTP 401"), "{}", ended.stderr);
    std::mem::drop(running);
}

/// Kills the reader of a queue in the middle of a drop, and replays the drop; each row must be stored once.
async fn assert_reader_stores_every_row_once(mut example: Example) {
    let mut scene = Scene::in_a_folder().await;
    let queue = QueueConsumer::new(azurite::shared());
    scene.set("DELIVER_TO", &queue.deliver_to());
    scene.set("SinkStorage", &azurite::shared().connection_string());
    let (drop, rows) = upload_drop(&mut scene).await;
    run(&scene, "deliver", &drop).await;
    // Messages are hidden for two seconds, so that those in progress when the example is killed become visible again
    // soon.
    example.add_arguments([queue.signed_url().into(), example.output.clone().into(), "2".into()]);

    let running = example.start();
    let running = example.kill_and_restart(running).await;
    let started = Instant::now();
    while example.rows().await.len() < rows.len() && started.elapsed() < LONG {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(sorted(example.rows().await) == rows, "the stored rows are not the delivered rows");

    run(&scene, "replay", &drop).await;
    let started = Instant::now();
    while queue.count().await > 0 {
        assert!(started.elapsed() < LONG, "the example did not delete stored messages from the queue");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(sorted(example.rows().await) == rows, "duplicates were stored");
    std::mem::drop(running);
}

/// Runs the receiver for Service Bus with a stand-in for Microsoft's SDK, which speaks AMQP. The messages are those
/// that the stub of the REST interface has accepted. `source` is the queue or subscription as the example is given it,
/// and as the SDK must be asked for it.
async fn assert_service_bus_receiver_stores_every_row_once(source: (&str, &str), options: &[&str]) {
    let (mut example, mut scene) = (Example::python("service_bus_receiver"), Scene::in_a_folder().await);
    let namespace = Namespace::start(&Certificate::new(), None).await;
    namespace.create("rows", Entity::default());
    scene.set("DELIVER_TO", &namespace.deliver_to("rows"));
    scene.set("ServiceBus", &namespace.connection_string(Rights::Send));
    scene.set("SSL_CERT_FILE", &namespace.certificate.file().display().to_string());
    let (drop, rows) = upload_drop(&mut scene).await;
    run(&scene, "deliver", &drop).await;

    let messages = tempfile::tempdir().unwrap();
    // Twice, as if duplicate detection was off.
    for (position, message) in
        namespace.messages("rows").iter().cycle().take(2 * namespace.requests().len()).enumerate()
    {
        fs::write(messages.path().join(format!("{position:06}-{}", message.id)), &message.body).unwrap();
    }
    fs::write(messages.path().join("999999-strange"), "not a message").unwrap();
    let sdk = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/service_bus/sdk");
    let connection_string = namespace.connection_string(Rights::Listen);
    example.environment.extend([
        ("PYTHONPATH", sdk.display().to_string()),
        ("STAND_IN_MESSAGES", messages.path().display().to_string()),
        ("SERVICE_BUS_CONNECTION_STRING", connection_string),
    ]);
    example.add_arguments(["localhost".into(), source.0.into(), example.output.clone().into()]);
    example.arguments.extend(options.iter().map(OsString::from));

    let running = example.start();
    let mut running = example.kill_and_restart(running).await;
    wait_until(|| {
        assert_eq!(running.try_wait().unwrap(), None, "the example ended");
        fs::read_dir(messages.path()).unwrap().count() == 1
    })
    .await;
    assert_eq!(fs::read_to_string(messages.path().join("entity")).unwrap(), source.1);
    assert!(sorted(example.rows().await) == rows, "the stored rows are not the delivered rows");
    assert_eq!(example.state(&drop.path()).await["type"], "viva.insights.drop.completed");
}

/// The message without `sequence`, as version 0.1.0 sent it.
fn without_sequence(message: Message) -> Message {
    let mut json: Value = serde_json::from_slice(&message.body).unwrap();
    json["data"].as_object_mut().unwrap().remove("sequence").unwrap();
    Message { body: json.to_string().into(), ..message }
}

/// Sends endings of a drop in another order than that of their sequence numbers.
async fn assert_late_endings_change_nothing(mut example: Example) {
    let webhook = example.webhook();

    let version = |sequence| EndingVersion { sequence, files: String::new() };
    let failure = Failure { file: None, reason: Reason::Unavailable, message: "HTTP 503", rows_delivered: 0 };
    let failed = |sequence| Message::failed(&facts(), &version(sequence), &failure, None);
    let completed = |sequence| Message::completed(&facts(), &version(sequence), 1, 2, 0);
    let state = async |example: &Example| {
        let state = example.state(&facts().path).await;
        (state["type"].as_str().unwrap().to_owned(), state["data"]["sequence"].as_u64())
    };
    let [is_failed, is_completed] = ["viva.insights.drop.failed", "viva.insights.drop.completed"].map(str::to_owned);

    let mut running = example.start();
    deliver(&webhook, &without_sequence(failed(8))).await.unwrap();
    assert_eq!(state(&example).await, (is_failed.clone(), None));
    deliver(&webhook, &completed(3)).await.unwrap();
    deliver(&webhook, &failed(2)).await.unwrap();
    assert_eq!(state(&example).await, (is_completed.clone(), Some(3)));

    running.kill().await.unwrap();
    let _running = example.start();
    deliver(&webhook, &failed(1)).await.unwrap();
    deliver(&webhook, &without_sequence(failed(9))).await.unwrap();
    assert_eq!(state(&example).await, (is_completed, Some(3)));
    deliver(&webhook, &failed(4)).await.unwrap();
    assert_eq!(state(&example).await, (is_failed, Some(4)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_ending_does_not_replace_a_newer_one_in_rust() {
    assert_late_endings_change_nothing(Example::rust("webhook_receiver")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_ending_does_not_replace_a_newer_one_in_python() {
    assert_late_endings_change_nothing(Example::python("webhook_receiver")).await;
}

/// The import `number` of 2 people who have these attributes, as two messages of people and the end.
fn import_of(number: u32, sequence: u64, cycle: &str, attributes: &[&str]) -> [Message; 3] {
    let version = ImportVersion {
        tenant: facts().tenant_id,
        program: "Engagement",
        cycle,
        revision: 1,
        run: number,
        drop: "datasets/run",
        files: "",
        directory: None,
    };
    let (start, end) = ("2024-07-21".into(), "2024-10-13".into());
    let import = ImportFacts {
        tenant_id: facts().tenant_id,
        import_id: version.id(),
        drop: facts(),
        program: "Engagement".into(),
        cycle: cycle.into(),
        revision: 1,
        window: WindowFacts { start, end, weeks: 12, period: "week".into() },
    };
    let values: Vec<_> =
        attributes.iter().map(|name| format!(r#""{name}":{{"range":{number},"label":"x"}}"#)).collect();
    let person = |id: u64| {
        let text = format!(
            r#"{{"ObjectId":"00000000-0000-4000-8000-00000000000{id}","directory":null,"weeks":12,"attributes":{{{}}}}}"#,
            values.join(",")
        );
        Message::attributes(&import, id..id + 1, text.as_bytes())
    };
    [person(0), person(1), Message::attributes_completed(&import, sequence, 2, &RangeCounts(vec![]))]
}

/// Sends imports in another order than they were made. The example must have what a receiver in the right order has.
async fn assert_imports_are_applied(mut example: Example) {
    let webhook = example.webhook();
    let send = async |messages: &[&Message]| {
        for message in messages {
            deliver(&webhook, message).await.unwrap();
        }
    };
    // Cycle, attribute and range of each person that the example has.
    let state = async |example: &Example| example.attributes().await;
    let of = |cycle: &str, attribute: &str, range: u64| vec![(cycle.to_owned(), attribute.to_owned(), range); 2];

    let [first, second, end] = import_of(1, 1, "Oct", &["Call hours", "Email hours"]);
    let mut running = example.start();
    send(&[&first, &second]).await;
    assert_eq!(state(&example).await, [], "an import is applied when it completes");
    send(&[&end, &first]).await;
    assert_eq!(state(&example).await, [of("Oct", "Call hours", 1), of("Oct", "Email hours", 1)].concat());

    // The end of a newer import comes before its people, and the program is restarted in between.
    let [first, second, end] = import_of(3, 3, "Oct", &["Call hours", "Email hours"]);
    send(&[&end, &first]).await;
    running.kill().await.unwrap();
    let _running = example.start();
    send(&[&second]).await;
    assert_eq!(state(&example).await, [of("Oct", "Call hours", 3), of("Oct", "Email hours", 3)].concat());
    let [first, second, end] = import_of(2, 2, "Oct", &["Email hours"]);
    send(&[&first, &second, &end]).await;
    assert_eq!(state(&example).await.len(), 4, "an older import of the cycle is late");

    send(&[&Message::attributes_deleted(facts().tenant_id, 5, "Call hours")]).await;
    assert_eq!(state(&example).await, of("Oct", "Email hours", 3));
    let [first, second, end] = import_of(4, 4, "Jul", &["Call hours"]);
    send(&[&first, &second, &end]).await;
    assert_eq!(state(&example).await, of("Oct", "Email hours", 3), "an import before the deletion is late");
    let [first, second, end] = import_of(6, 6, "Jul", &["Email hours"]);
    send(&[&first, &second, &end]).await;
    assert_eq!(state(&example).await, [of("Jul", "Email hours", 6), of("Oct", "Email hours", 3)].concat());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn imports_of_attributes_are_applied_in_rust() {
    assert_imports_are_applied(Example::rust("webhook_receiver")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn imports_of_attributes_are_applied_in_python() {
    assert_imports_are_applied(Example::python("webhook_receiver")).await;
}

/// Uploads a drop of rows that JSON parsers reject or change, between two ordinary rows. Each row gives one message.
async fn upload_strange_rows(scene: &mut Scene) -> SimulatedDrop {
    for (name, value) in [("FILE_LAYOUT", "plain"), ("ALLOW_PLAINTEXT", "true"), ("BATCH_ROWS", "1")] {
        scene.set(name, value);
    }
    // A receiver must not depend on the sender's limit.
    scene.set("MAX_ROW_DEPTH", "100000");
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(5_000), "]".repeat(5_000));
    let long = format!("{{\"a\":{}}}", "9".repeat(1_000));
    let strange = [deep.as_str(), r#"{"a":1e999}"#, r#"{"a":"\ud800"}"#, &long, r#"{"\u0000":"\u0000"}"#];
    let rows = [&[r#"{"a":"first"}"#][..], &strange, &[r#"{"a":"last"}"#]].concat();

    let drop = scene.drop(1, 1).await;
    let metadata = fs::read(drop.simulated.drop.join(METADATA)).unwrap();
    let mut metadata: Value = serde_json::from_slice(&metadata).unwrap();
    metadata["NumberOfRowsExtracted"] = rows.len().into();
    scene.write(&drop.path, "part-0.json", rows.join("\n")).await;
    scene.write(&drop.path, METADATA, metadata.to_string()).await;
    drop
}

impl Example {
    /// The values of `a` in the rows that it has stored, if they are ordinary strings.
    async fn ordinary_rows(&self) -> Vec<String> {
        let text = if self.program == "python3" {
            let stored =
                Command::new("python3").arg("-B").arg(python_example("store")).arg(&self.output).output().await;
            String::from_utf8(stored.unwrap().stdout).unwrap()
        } else {
            fs::read_to_string(&self.output).unwrap_or_default()
        };
        let names = ["first", "last"];
        names.into_iter().filter(|name| text.contains(&format!("\"{name}\""))).map(ToOwned::to_owned).collect()
    }
}

/// Delivers strange rows to the receiver, which must also store the ordinary rows around them.
async fn assert_webhook_survives_every_row(mut example: Example) {
    let mut scene = Scene::in_a_folder().await;
    let drop = upload_strange_rows(&mut scene).await;
    scene.set("DELIVER_TO", &example.listen(scene.receiver.secret()));
    scene.set("DELIVERY_PATIENCE", "10s");
    let running = example.start();
    run(&scene, "deliver", &drop).await;
    assert_eq!(example.ordinary_rows().await, ["first", "last"]);
    std::mem::drop(running);
}

/// Delivers strange rows to the reader of a queue, which must also store the ordinary rows around them.
async fn assert_reader_survives_every_row(mut example: Example) {
    let mut scene = Scene::in_a_folder().await;
    let queue = QueueConsumer::new(azurite::shared());
    scene.set("DELIVER_TO", &queue.deliver_to());
    scene.set("SinkStorage", &azurite::shared().connection_string());
    let drop = upload_strange_rows(&mut scene).await;
    run(&scene, "deliver", &drop).await;
    example.add_arguments([queue.signed_url().into(), example.output.clone().into(), "2".into()]);
    let mut running = example.start();
    let started = Instant::now();
    while queue.count().await > 0 {
        assert_eq!(running.try_wait().unwrap(), None, "the example ended");
        assert!(started.elapsed() < Duration::from_secs(20), "messages stay in the queue");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(example.ordinary_rows().await, ["first", "last"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_webhook_in_rust_survives_every_row() {
    assert_webhook_survives_every_row(Example::rust("webhook_receiver")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_webhook_in_python_survives_every_row() {
    assert_webhook_survives_every_row(Example::python("webhook_receiver")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_queue_reader_in_rust_survives_every_row() {
    assert_reader_survives_every_row(Example::rust("queue_reader")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_queue_reader_in_python_survives_every_row() {
    assert_reader_survives_every_row(Example::python("queue_reader")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_webhook_in_rust_stores_every_row_once() {
    assert_webhook_stores_every_row_once(Example::rust("webhook_receiver")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_webhook_in_python_stores_every_row_once() {
    assert_webhook_stores_every_row_once(Example::python("webhook_receiver")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_queue_reader_in_rust_stores_every_row_once() {
    assert_reader_stores_every_row_once(Example::rust("queue_reader")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_queue_reader_in_python_stores_every_row_once() {
    assert_reader_stores_every_row_once(Example::python("queue_reader")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_service_bus_receiver_in_python_stores_every_row_of_a_queue_once() {
    assert_service_bus_receiver_stores_every_row_once(("rows", "rows"), &[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_service_bus_receiver_in_python_stores_every_row_of_the_sessions_of_a_subscription_once() {
    let source = ("viva/rows/subscriptions/all", "viva/rows all");
    assert_service_bus_receiver_stores_every_row_once(source, &["--sessions"]).await;
}
