//! The environment of a test: a customer's storage, the partner's receiver, a stub of the Viva Insights API, and
//! simulated drops.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs,
    num::NonZeroUsize,
    ops::Deref,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use secrecy::ExposeSecret;
use serde_json::Value;
use tempfile::TempDir;
use testkit::{
    receiver::{self, Completed, Options, Received, Receiver},
    viva_api::VivaApiStub,
};
use tokio::task::JoinHandle;
use vivadrop::{
    drop::{DropPath, TenantId},
    keys::{
        details::wrapped_keys,
        pem::PemFile,
        unwrap::{KeyWrap, unwrap_keys},
    },
    simulate::{SimulateOptions, Simulated, simulate},
    store::{
        BlobPath, ETag, Store, WriteIf,
        azure::{Account, AzureStore},
        local::LocalStore,
    },
};

use super::{
    azurite::{self, Azurite},
    command::{LONG, output_of, vivadrop},
    host::{Answer, Host, Settings},
    host_payloads,
    json::differences,
    schema,
    secrets::Secrets,
    vectors,
};

/// The job metadata of a simulated drop.
pub(crate) const METADATA: &str = "metadata/JobMetadata/Metadata.json";

/// The only data file of a simulated directory.
pub(crate) const DATA: &str = "part-0.json.gz";

/// How often an upload is tried.
const MAX_TRIES: u32 = 5;

/// A `DEADLINE` for tests of events that fail within a second: the answer to a failed event waits for ten seconds, but
/// not longer than this.
pub(crate) const ANSWERS_SOON: &str = "3s";

/// The characters of a blob name that are percent-encoded in a URL: all but unreserved characters and slashes.
const IN_A_URL: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

/// One customer and one partner, isolated from other tests.
pub(crate) struct Scene {
    pub(crate) tenant: TenantId,
    pub(crate) receiver: SchemaCheckedReceiver,
    pub(crate) api: VivaApiStub,
    pub(crate) secrets: Secrets,
    /// The app settings. A test may change them before it starts a host.
    pub(crate) settings: Settings,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) container: String,
    /// The URL of the account, without a slash at the end.
    account: String,
    /// Holds the simulated drops, the tenant's private key, and the storage if that is a folder.
    folder: TempDir,
}

/// A receiver that, when it is dropped, validates every message against the JSON schema, accepted or not.
pub(crate) struct SchemaCheckedReceiver(Receiver);

impl Deref for SchemaCheckedReceiver {
    type Target = Receiver;

    fn deref(&self) -> &Receiver {
        &self.0
    }
}

impl Drop for SchemaCheckedReceiver {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.received().bodies.iter().for_each(|text| schema::assert_valid(text));
        }
    }
}

/// A simulated drop that may not be uploaded yet.
pub(crate) struct SimulatedDrop {
    pub(crate) simulated: Simulated,
    /// The drop path to upload it to.
    pub(crate) path: DropPath,
}

impl Scene {
    /// Uses the storage account that all tests of this binary share, with new containers.
    pub(crate) async fn on_azurite() -> Self {
        let azurite = azurite::shared();
        Self::on(azurite, &azurite.blob_endpoint()).await
    }

    /// Uses `azurite`; vivadrop reaches its blob service at `endpoint`.
    pub(crate) async fn on(azurite: &Azurite, endpoint: &str) -> Self {
        let storage = azurite.connection_string().replace(&azurite.blob_endpoint(), endpoint);
        let account = Account::from_connection_string(&azurite.connection_string()).unwrap();
        let store = Arc::new(AzureStore::new(&account).unwrap());
        let mut scene = Self::new(storage, endpoint.to_owned(), azurite.unique_name("datasets"), store, folder()).await;
        scene.set("STATE_CONTAINER", &azurite.unique_name("state"));
        scene.secrets.add("the account's key", azurite::KEY);
        scene.secrets.add("a SAS", "sig=");
        scene
    }

    /// Uses a folder in place of a storage account.
    pub(crate) async fn in_a_folder() -> Self {
        let folder = folder();
        fs::create_dir(folder.path().join("store")).unwrap();
        let storage = format!("file://{}", folder.path().join("store").display());
        let store = Arc::new(LocalStore::new(folder.path().join("store")).unwrap());
        Self::new(storage.clone(), storage, "datasets".into(), store, folder).await
    }

    async fn new(storage: String, account: String, container: String, store: Arc<dyn Store>, folder: TempDir) -> Self {
        let tenant = TenantId(uuid::Uuid::new_v4());
        let receiver = SchemaCheckedReceiver(Receiver::start(Options::default()).await.unwrap());
        let api = VivaApiStub::start([]).await.unwrap();
        let secrets = Secrets::default();
        let webhook_secret = receiver.secret().expose_secret();
        secrets.add("the webhook's secret", webhook_secret.trim_start_matches("whsec_"));
        let private_keys = folder.path().join("keys");
        fs::create_dir(&private_keys).unwrap();
        let settings = [
            ("DropStorage", storage),
            ("DROP_CONTAINER", container.clone()),
            ("TENANTS", tenant.to_string()),
            ("PRIVATE_KEYS", format!("file://{}", private_keys.display())),
            ("VIVA_API_URL", api.url().to_string()),
            ("DELIVER_TO", receiver.url().to_string()),
            ("WEBHOOK_SECRET", webhook_secret.to_owned()),
        ];
        let settings = settings.map(|(name, value)| (name.to_owned(), value)).into();
        let scene = Self { tenant, receiver, api, secrets, settings, store, container, account, folder };
        // All simulated drops use the same key, because generating one takes longer than most tests.
        scene.add_private_key(tenant, &vectors::case("encrypted-ctr").private_key());
        scene
    }

    /// Sets an app setting.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.settings.insert(name.into(), value.into());
    }

    /// Copies the private key of `tenant` into the folder that `PRIVATE_KEYS` names.
    pub(crate) fn add_private_key(&self, tenant: TenantId, pem: &Path) {
        fs::copy(pem, self.private_key(tenant)).unwrap();
        // Git does not keep the mode of a file.
        fs::set_permissions(self.private_key(tenant), fs::Permissions::from_mode(0o600)).unwrap();
        self.secrets.add_pem(&fs::read_to_string(pem).unwrap());
    }

    /// The path of the private key of `tenant`.
    pub(crate) fn private_key(&self, tenant: TenantId) -> PathBuf {
        self.folder.path().join(format!("keys/{tenant}.pem"))
    }

    /// Starts a Functions host with the current settings.
    pub(crate) async fn host(&self) -> Host {
        Host::start(self.settings.clone(), self.secrets.clone()).await
    }

    /// Simulates a drop of `rows` rows in `files` files. The API has its keys.
    pub(crate) async fn drop(&self, rows: u64, files: usize) -> SimulatedDrop {
        let files = NonZeroUsize::new(files).unwrap();
        self.drop_like(SimulateOptions { users: rows, weeks: 1, files, ..SimulateOptions::default() }).await
    }

    /// Simulates a drop with `options`. The API has its keys.
    pub(crate) async fn drop_like(&self, options: SimulateOptions) -> SimulatedDrop {
        let tenant = options.tenant.unwrap_or(self.tenant);
        let private_key = Some(vectors::case("encrypted-ctr").private_key());
        let options = SimulateOptions { tenant: Some(tenant), private_key, ..options };
        let out = self.folder.path().join(uuid::Uuid::new_v4().to_string());
        let simulated = simulate(&options, &out, &|_| {}).unwrap();
        let answer: Value = serde_json::from_slice(&fs::read(&simulated.decryption_keys).unwrap()).unwrap();
        self.api.add_keys(&simulated.copy_activity_id.to_string(), tenant.0, answer.clone());

        let (private_key, wrapped) =
            (PemFile::new(&simulated.private_key), wrapped_keys(&serde_json::from_value(answer).unwrap()).unwrap());
        let keys = unwrap_keys(&private_key, tenant, KeyWrap::Auto, &wrapped).await.unwrap();
        for key in [keys.file, keys.column].into_iter().flatten() {
            self.secrets.add_key(&key.key);
        }
        // Data Factory chooses the names. Some characters of this one have a meaning in a URL.
        let folder = format!("Lauf 1+ü%20/{}/VivaInsights/{tenant}", simulated.copy_activity_id);
        SimulatedDrop { path: DropPath::new(&self.container, folder), simulated }
    }

    /// The rows of `drop` as `vivadrop decode` prints them: the expected rows. Their values become secrets of the
    /// scene.
    pub(crate) async fn rows_of(&self, drop: &SimulatedDrop) -> Vec<String> {
        self.decoded(drop, None).await
    }

    /// The same, joined to the directory that was simulated with the drop.
    pub(crate) async fn joined_rows_of(&self, drop: &SimulatedDrop) -> Vec<String> {
        self.decoded(drop, drop.simulated.directory.as_deref()).await
    }

    async fn decoded(&self, drop: &SimulatedDrop, directory: Option<&Path>) -> Vec<String> {
        let mut decode = vivadrop();
        decode.arg("decode").arg(&drop.simulated.drop).arg("--private-key").arg(&drop.simulated.private_key);
        decode.arg("--decryption-keys").arg(&drop.simulated.decryption_keys);
        decode
            .args(directory.map(|directory| [OsStr::new("--directory"), directory.as_os_str()]).into_iter().flatten());
        let ended = output_of(&mut decode).await;
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        let rows: Vec<String> = ended.stdout.lines().map(ToOwned::to_owned).collect();
        for row in rows.iter().take(100) {
            let row: Value = serde_json::from_str(row).unwrap();
            self.secrets.add("a value of a row", row["ObjectId"].as_str().unwrap());
        }
        rows
    }

    /// Uploads the directory that was simulated with the drop next to it; returns its path.
    pub(crate) async fn upload_directory(&self, drop: &SimulatedDrop) -> DropPath {
        let path = DropPath::new(&drop.path.container, drop.path.folder.replace("VivaInsights", "AADUser"));
        for name in [DATA, METADATA] {
            let bytes = fs::read(drop.simulated.directory.as_ref().unwrap().join(name)).unwrap();
            self.write(&path, name, bytes).await;
        }
        path
    }

    /// Uploads the whole drop, the job metadata last.
    pub(crate) async fn upload(&self, drop: &SimulatedDrop) {
        let mut names = drop.names();
        names.sort_by_key(|name| name == METADATA);
        for name in names {
            self.put(drop, &name).await;
        }
    }

    /// Starts a host that delivers a new drop of `rows` rows slowly: five rows in a tenth of a second. Returns the post
    /// that waits for the end.
    pub(crate) async fn deliver_slowly(&mut self, rows: u64) -> (SimulatedDrop, Host, JoinHandle<Option<Answer>>) {
        self.set("BATCH_ROWS", "5");
        self.set("IN_FLIGHT", "1");
        let (drop, host) = (self.drop(rows, 1).await, self.host().await);
        self.upload(&drop).await;
        self.receiver.answer_always(receiver::Answer::Accept.after(Duration::from_millis(100)));
        let posted = host.begin_post(self.event(&drop, METADATA));
        (drop, host, posted)
    }

    /// Uploads one blob of the drop, and overwrites an older version.
    pub(crate) async fn put(&self, drop: &SimulatedDrop, name: &str) -> ETag {
        let bytes = fs::read(drop.simulated.drop.join(name)).unwrap();
        self.write(&drop.path, name, bytes).await
    }

    /// Writes a blob below the drop at `path`. Repeats the request, as Data Factory does.
    pub(crate) async fn write(&self, path: &DropPath, name: &str, bytes: impl Into<Bytes>) -> ETag {
        let (blob, bytes) = (path.blob(name), bytes.into());
        let mut tries = 1;
        loop {
            match self.store.write(&blob, bytes.clone(), WriteIf::Always).await {
                Ok(etag) => return etag,
                Err(error) => assert!(tries < MAX_TRIES, "{error}"),
            }
            tries += 1;
        }
    }

    /// The URL of the blob `name` of the drop, as events contain it.
    pub(crate) fn url(&self, drop: &SimulatedDrop, name: &str) -> String {
        self.address_of(&drop.path.blob(name))
    }

    /// The URL of a blob.
    pub(crate) fn address_of(&self, blob: &BlobPath) -> String {
        format!("{}/{}/{}", self.account, blob.container, utf8_percent_encode(&blob.name, IN_A_URL))
    }

    /// The event that the host posts after the blob `name` of the drop was created.
    pub(crate) fn event(&self, drop: &SimulatedDrop, name: &str) -> Value {
        host_payloads::blob_trigger(&self.url(drop, name), 1)
    }

    /// A blob of the state container.
    pub(crate) fn state_blob(&self, name: &str) -> BlobPath {
        BlobPath::new(self.settings.get("STATE_CONTAINER").map_or("vivadrop-state", String::as_str), name)
    }

    /// The blobs of the state container, if the storage is a folder: the ledger's records.
    pub(crate) fn state(&self) -> BTreeMap<String, Vec<u8>> {
        vectors::contents(&self.state_folder())
    }

    /// The folder of the state container, if the storage is a folder.
    pub(crate) fn state_folder(&self) -> PathBuf {
        self.folder.path().join("store/vivadrop-state")
    }

    /// Waits until `expected` is true of what the receiver has received.
    pub(crate) async fn wait_for(&self, expected: impl Fn(&Received) -> bool) -> Received {
        self.receiver.wait_for(LONG, expected).await.unwrap()
    }
}

/// Checks that the receiver accepted exactly `rows`, and then one `drop.completed`.
pub(crate) fn assert_complete(received: &Received, drop: &SimulatedDrop, rows: &[String]) {
    let path = drop.path();
    assert_eq!(differences(rows.iter().map(String::as_str), received.rows(&path)), None);
    assert_eq!((received.bad_signatures, received.malformed, received.not_found), (0, 0, 0));
    let drop = &received.drops[&path];
    assert_eq!(drop.failed, []);
    assert!(drop.files.values().all(|file| file.changed == 0 && file.identified && file.bad_rows.is_empty()));
    let rows = rows.len() as u64;
    let files = drop.files.len() as u64;
    assert_eq!(drop.completed, [Completed { files, rows, bad_rows: 0, rows_before: rows }]);
}

/// Whether the receiver has accepted an ending of the drop.
pub(crate) fn has_ended(received: &Received, drop: &SimulatedDrop) -> bool {
    received.drops.get(&drop.path()).is_some_and(|drop| !drop.completed.is_empty() || !drop.failed.is_empty())
}

impl SimulatedDrop {
    /// The names of its blobs, relative to the drop.
    pub(crate) fn names(&self) -> Vec<String> {
        vectors::contents(&self.simulated.drop).into_keys().collect()
    }

    /// The drop path, as messages contain it.
    pub(crate) fn path(&self) -> String {
        self.path.to_string()
    }
}

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}
