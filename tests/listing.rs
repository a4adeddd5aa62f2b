//! A sweep of a container with a million blobs. It has a process of its own, because it measures the memory.

#![expect(clippy::unwrap_used, reason = "a panic is a good failure message in a test")]

mod support;

use std::{collections::BTreeMap, ops::Range, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, stream};
use time::OffsetDateTime;
use vivadrop::{
    batch::BatchLimits,
    deliver::Limits,
    drop::{
        containers::{DropContainer, WatchedContainers},
        tenant::Tenants,
    },
    keys::{KeySource, pem::PemFolder, unwrap::KeyWrap, viva_api::VivaApi},
    ledger::Ledger,
    memory_budget::MemoryBudget,
    pass_permits::PassPermits,
    pipeline::FileRules,
    run::{DueDrops, DueImports, RunLimits, Runner},
    run_permits::RunPermits,
    store::{
        Blob, BlobMetadata, BlobPath, ByteStream, ETag, LeaseId, ListedBlob, Listing, ReadWindow, Store, StoreError,
        WriteIf,
    },
    sweep::{SweepMode, sweep},
    tenant_config::{TenantConfig, TenantConfigs},
};

use support::{memory_sink::MemorySink, memory_store::MemoryStore};

const TENANT: &str = "9f1c7fd3-1a33-4f2b-9d3c-0a8f6f2d7e10";
const STATE_CONTAINER: &str = "state";

const DROPS: u64 = 100;
const BLOBS_OF_A_DROP: u64 = 10_000;

/// The container `datasets` has a million old blobs, which are generated while they are listed.
#[derive(Debug)]
struct GeneratedStore(MemoryStore);

/// The generated blob with this number, in the order of a listing.
fn blob(number: u64) -> Blob {
    let (drop, file) = (number / BLOBS_OF_A_DROP, number % BLOBS_OF_A_DROP);
    let name = match file {
        0 => format!("run-{drop:03}/{TENANT}/metadata/JobMetadata/Metadata.json"),
        _ => format!("run-{drop:03}/{TENANT}/part-{file:05}-{}.json.gz", "x".repeat(200)),
    };
    Blob {
        path: BlobPath::new("datasets", name),
        etag: ETag(format!("{number:x}")),
        size: 1,
        modified: OffsetDateTime::UNIX_EPOCH,
    }
}

#[async_trait]
impl Store for GeneratedStore {
    fn list<'a>(&'a self, container: &'a str, prefix: &'a str) -> Listing<'a> {
        if container != "datasets" {
            return self.0.list(container, prefix);
        }
        stream::iter((0..DROPS * BLOBS_OF_A_DROP).map(|number| Ok(blob(number)))).boxed()
    }

    fn list_with_metadata<'a>(&'a self, container: &'a str, prefix: &'a str) -> Listing<'a, ListedBlob> {
        self.0.list_with_metadata(container, prefix)
    }

    async fn find(&self, path: &BlobPath) -> Result<Option<Blob>, StoreError> {
        self.0.find(path).await
    }

    async fn read_range(&self, blob: &Blob, range: Range<u64>) -> Result<ByteStream, StoreError> {
        self.0.read_range(blob, range).await
    }

    async fn write_with_metadata(
        &self,
        path: &BlobPath,
        bytes: Bytes,
        metadata: &BlobMetadata,
        condition: WriteIf,
    ) -> Result<ETag, StoreError> {
        self.0.write_with_metadata(path, bytes, metadata, condition).await
    }

    async fn delete(&self, path: &BlobPath, version: Option<&ETag>) -> Result<(), StoreError> {
        self.0.delete(path, version).await
    }

    async fn has_container(&self, container: &str) -> Result<bool, StoreError> {
        self.0.has_container(container).await
    }

    async fn create_container(&self, container: &str) -> Result<(), StoreError> {
        self.0.create_container(container).await
    }

    async fn lease(&self, path: &BlobPath, time: Duration) -> Result<Option<LeaseId>, StoreError> {
        self.0.lease(path, time).await
    }

    async fn renew(&self, path: &BlobPath, lease: &LeaseId) -> Result<(), StoreError> {
        self.0.renew(path, lease).await
    }

    async fn release(&self, path: &BlobPath, lease: &LeaseId) -> Result<(), StoreError> {
        self.0.release(path, lease).await
    }

    fn parse_blob_url(&self, url: &str) -> Option<BlobPath> {
        self.0.parse_blob_url(url)
    }
}

/// The resident memory of this process, in KiB.
fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// A runner for this store. The sweep finds no drop to run, so it needs no keys.
fn runner(store: &Arc<dyn Store>, tenants: Tenants) -> Runner {
    let limits = Limits {
        batch: BatchLimits { rows: 500.try_into().unwrap(), bytes: 1000.try_into().unwrap(), message: None },
        in_flight: 2.try_into().unwrap(),
        decoders: 1.try_into().unwrap(),
        bad_rows_allowed: 0,
    };
    let config = TenantConfig::new(Arc::new(MemorySink::default()), FileRules::default(), limits);
    let tenant_configs = TenantConfigs { default: config, overrides: BTreeMap::new() };
    Runner {
        directory_memory: tenant_configs.directory_memory(),
        attributes_memory: MemoryBudget::new(1 << 20),
        due_drops: DueDrops::default(),
        due_imports: DueImports::default(),
        pass_permits: PassPermits::default(),
        store: Arc::clone(store),
        ledger: Ledger::new(Arc::clone(store), STATE_CONTAINER),
        tenants,
        keys: KeySource {
            private_keys: Arc::new(PemFolder::new("/nowhere")),
            wrap: KeyWrap::Auto,
            api: VivaApi::new(&"http://127.0.0.1:1".parse().unwrap(), None, String::new()).unwrap(),
            may_be_missing: true,
        },
        tenant_configs,
        window: ReadWindow::default(),
        limits: RunLimits::default(),
        run_permits: RunPermits::default(),
    }
}

/// The names of the blobs alone have 300 MB.
#[tokio::test]
async fn a_sweep_of_a_million_blobs_needs_no_memory_for_them() {
    let store: Arc<dyn Store> = Arc::new(GeneratedStore(MemoryStore::default()));
    let tenants: Tenants = TENANT.parse().unwrap();
    let watched = WatchedContainers {
        store: Arc::clone(&store),
        drop_container: DropContainer::Named("datasets".into()),
        state_container: STATE_CONTAINER.into(),
        tenants: tenants.clone(),
    };
    let runner = Arc::new(runner(&store, tenants));
    let before = resident_kib();
    let report = sweep(&runner, &watched, SweepMode::Timer, Duration::from_secs(1500)).await.unwrap();
    let grown = resident_kib().saturating_sub(before);
    assert_eq!((report.drops, report.not_listed.len()), (0, 0), "{report}");
    assert!(grown < 16 << 10, "the sweep took {grown} KiB");
}
