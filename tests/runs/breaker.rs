//! The handler of events, in this process, while a circuit breaker is open.

use std::{
    net::{Ipv4Addr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use serde_json::{Value, json};
use tokio::time::{resume, sleep, timeout};
use vivadrop::{
    app::App,
    drop::DropPath,
    host::serve,
    keys::pem::PemFolder,
    message::Message,
    retry::RetryBudget,
    run::Trigger,
    sink::{FailedTry, Sink, StatusClass},
    store::{BlobPath, list_at_most},
};

use super::{
    directory::put_at,
    process::{Process, Setup},
    survey::tenant,
    world::{METADATA, STATE_CONTAINER, TENANT, World},
};
use crate::support::{command::LONG, host_payloads::blob_trigger};

/// A receiver that rejects every message, as one does whose address has changed.
#[derive(Debug, Default)]
struct MovedReceiver {
    tries: AtomicU64,
}

#[async_trait]
impl Sink for MovedReceiver {
    async fn try_deliver(&self, _message: &Message) -> Result<(), FailedTry> {
        self.tries.fetch_add(1, Ordering::SeqCst);
        Err(FailedTry { class: StatusClass::Service, answer: "HTTP 404".into(), retry_after: None })
    }

    fn retry_budget(&self) -> RetryBudget {
        RetryBudget::ONE_ATTEMPT
    }

    fn name(&self) -> String {
        "a receiver that has moved".to_owned()
    }
}

/// Writes a drop of one row.
async fn put_drop(world: &World, name: &str) -> DropPath {
    let drop = DropPath::new("datasets", format!("{name}/VivaInsights/{TENANT}"));
    put_at(world, &drop, METADATA, json!({"TenantId": TENANT, "NumberOfRowsExtracted": 1}).to_string()).await;
    put_at(world, &drop, "part-0", "{\"row\":0}\n").await;
    drop
}

/// The index entries of drops that have not ended.
async fn unfinished(world: &World) -> Vec<String> {
    let blobs = list_at_most(&world.storage, STATE_CONTAINER, "unfinished/", 100).await.unwrap().unwrap();
    blobs.into_iter().map(|blob| blob.path.name).collect()
}

/// Posts the event of a blob to the handler of `process`, as the host does; returns the status and the body of the
/// answer.
async fn post_event(process: &Process, blob: &BlobPath) -> (u16, Value) {
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    let (runner, key_store) = (Arc::clone(&process.runner), Arc::new(PemFolder::new("no keys")));
    let app = App { runner, watched: process.watched(), key_store };
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let event = blob_trigger(&format!("memory:///{}/{}", blob.container, blob.name), 1);
    let post = async {
        let answer = client.post(format!("http://127.0.0.1:{port}/function")).json(&event).send().await.unwrap();
        (answer.status().as_u16(), answer.json::<Value>().await.unwrap())
    };
    tokio::select! {
        // The server listens before the event is posted.
        biased;
        ended = serve(port, app, LONG) => panic!("the handler has ended: {ended:?}"),
        answer = timeout(LONG, post) => answer.expect("the handler answers"),
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_waits_in_the_index_while_the_breaker_of_its_receiver_is_open() {
    let world = World::default();
    let receiver = Arc::new(MovedReceiver::default());
    let sink = Arc::<MovedReceiver>::clone(&receiver);
    let process = Process::with_setup(&world, Setup { sink, ..Setup::new(&world) });
    // Messages about two files fail for 30 seconds.
    for name in ["first", "second"] {
        let drop = put_drop(&world, name).await;
        process.runner.run(&drop, None, Trigger::Event, None).await.unwrap_err();
        if name == "first" {
            sleep(Duration::from_secs(30)).await;
        }
    }
    assert!(process.runner.tenant_configs.of(tenant()).breaker.is_open());
    let (tries, entries) = (receiver.tries.load(Ordering::SeqCst), unfinished(&world).await.len());

    let drop = put_drop(&world, "third").await;
    // The breaker stays open for another 30 seconds, and a real server needs a real clock.
    resume();
    let (status, body) = post_event(&process, &drop.blob("part-0")).await;
    assert_eq!(status, 200, "{body}");
    let log = body["Logs"][0].as_str().unwrap();
    assert!(log.contains(&format!("`{drop}` waits: its receiver takes no messages at the moment")), "{log}");
    assert_eq!(unfinished(&world).await.len(), entries + 1);
    assert_eq!(receiver.tries.load(Ordering::SeqCst), tries, "the receiver was tried although its breaker is open");
}
