//! The storage account and the receiver, which outlive processes.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use serde_json::{Value, json};
use tokio::time::sleep;
use vivadrop::{
    drop::DropPath,
    message::Message,
    run::Outcome,
    store::{BlobPath, Store, WriteIf, read_whole},
};

use super::process::Process;
use crate::support::{memory_sink::MemorySink, memory_store::MemoryStore};

pub(crate) const TENANT: &str = "9f1c7fd3-1a33-4f2b-9d3c-0a8f6f2d7e10";

pub(crate) const STATE_CONTAINER: &str = "state";

pub(crate) const METADATA: &str = "metadata/JobMetadata/Metadata.json";

/// The drop of most tests.
pub(crate) fn path() -> DropPath {
    DropPath::new("datasets", format!("run/VivaInsights/{TENANT}"))
}

/// Checks that the drop of 12 rows is completed, by this run or an earlier one.
pub(crate) fn assert_completed(outcome: &Outcome) {
    assert!(matches!(outcome, Outcome::Completed { rows: 12, bad_rows: 0, .. }), "{outcome:?}");
}

/// A storage account with one drop, and a receiver.
#[derive(Clone, Default)]
pub(crate) struct World {
    pub(crate) storage: MemoryStore,
    pub(crate) receiver: Arc<MemorySink>,
}

impl World {
    /// A drop of `rows` rows that has only its metadata.
    pub(crate) async fn with_metadata(rows: u64) -> Self {
        let world = Self::default();
        world.put_metadata(json!({"NumberOfRowsExtracted": rows})).await;
        world
    }

    /// A drop of 12 rows in the files `a` (7 rows) and `b` (5 rows).
    pub(crate) async fn with_two_files() -> Self {
        let world = Self::with_metadata(12).await;
        world.put_rows("a", 7).await;
        world.put_rows("b", 5).await;
        world
    }

    /// Writes the job metadata of the drop; the tenant is [`TENANT`].
    pub(crate) async fn put_metadata(&self, mut metadata: Value) {
        metadata["TenantId"] = TENANT.into();
        self.put(METADATA, metadata.to_string()).await;
    }

    /// Writes a blob of the drop.
    pub(crate) async fn put(&self, name: &str, text: impl Into<String>) {
        self.storage.write(&path().blob(name), text.into().into(), WriteIf::Always).await.unwrap();
    }

    /// Writes a file of this many rows, each with its number in a column named like the file.
    pub(crate) async fn put_rows(&self, name: &str, rows: u64) {
        self.put(name, (0..rows).map(|row| format!("{{\"{name}\":{row}}}\n")).collect::<String>()).await;
    }

    /// The received messages without duplicates, as type and data.
    pub(crate) fn received(&self) -> Vec<(String, Value)> {
        let parse = |message: Message| {
            let mut json: Value = serde_json::from_slice(&message.body).unwrap();
            (json["type"].as_str().unwrap().to_owned(), json["data"].take())
        };
        self.receiver.distinct().into_iter().map(parse).collect()
    }

    /// The data of the received `rows` messages.
    pub(crate) fn batches(&self) -> Vec<Value> {
        let messages = self.received().into_iter();
        messages.filter(|(kind, _)| kind == "viva.insights.rows").map(|(_, data)| data).collect()
    }

    /// The received messages other than `rows`.
    pub(crate) fn endings(&self) -> Vec<(String, Value)> {
        self.received().into_iter().filter(|(kind, _)| kind != "viva.insights.rows").collect()
    }

    /// How many different rows of each file were received.
    pub(crate) fn row_counts(&self) -> BTreeMap<String, usize> {
        let mut rows = BTreeMap::<_, BTreeSet<u64>>::new();
        for batch in self.batches() {
            let range = batch["firstRow"].as_u64().unwrap()..batch["endRow"].as_u64().unwrap();
            rows.entry(batch["file"].as_str().unwrap().to_owned()).or_default().extend(range);
        }
        rows.into_iter().map(|(name, rows)| (name, rows.len())).collect()
    }

    /// A record of the ledger.
    pub(crate) async fn record(&self, below: &str) -> Value {
        let path = BlobPath::new(STATE_CONTAINER, format!("drops/{}/{below}", path()));
        let blob = self.storage.find(&path).await.unwrap().unwrap();
        serde_json::from_slice(&read_whole(&self.storage, &blob, 10_000).await.unwrap()).unwrap()
    }

    /// Checks that every row of the two files was received, and after them exactly one `drop.completed`.
    pub(crate) fn assert_complete(&self, case: &str) {
        assert_eq!(self.row_counts(), [("a".into(), 7), ("b".into(), 5)].into(), "{case}");
        let endings = self.endings();
        let [(kind, ending)] = &endings[..] else { panic!("{case}: {endings:?}") };
        assert_eq!((kind.as_str(), &ending["rows"]), ("viva.insights.drop.completed", &json!(12)), "{case}");
        let (last, _) = self.received().pop().unwrap();
        assert_eq!(last, "viva.insights.drop.completed", "{case}: rows were received after drop.completed");
    }

    /// Repeats an event until it is answered 2xx, as the host does. If the process is killed, another instance gets the
    /// event.
    pub(crate) async fn deliver_event(&self, mut process: Process, name: &str) -> Outcome {
        for _ in 0..5 {
            match process.event(name).await {
                Some(Ok(outcome)) => return outcome,
                Some(Err(_)) => sleep(Duration::from_secs(10)).await,
                None => process = Process::new(self),
            }
        }
        panic!("the host gave up on `{name}`")
    }
}
