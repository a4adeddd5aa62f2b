//! A customer's store, a partner's receiver, the Viva Insights API, and drops to lay between them.

use std::{collections::BTreeMap, fs, num::NonZeroUsize, ops::Deref, path::PathBuf, sync::Arc};

use bytes::Bytes;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use secrecy::ExposeSecret;
use serde_json::Value;
use tempfile::TempDir;
use testkit::{
    receiver::{Completed, Options, Received, Receiver},
    viva_api::VivaApiStub,
};
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
    command::{LONG, end_of, vivadrop},
    host::{Host, Settings},
    host_payloads,
    json::differences,
    schema,
    secrets::Secrets,
    vectors,
};

/// The job metadata of a simulated drop.
pub(crate) const METADATA: &str = "metadata/JobMetadata/Metadata.json";

/// What the names of blobs look like in a URL: slashes stay.
const IN_A_URL: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

/// One customer and one partner, with everything that is theirs alone.
pub(crate) struct Scene {
    pub(crate) tenant: TenantId,
    pub(crate) receiver: Strict,
    pub(crate) api: VivaApiStub,
    pub(crate) secrets: Secrets,
    /// App settings, as the partner has them to begin with.
    pub(crate) settings: Settings,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) container: String,
    /// Where the account is, without a slash at the end.
    account: String,
    /// Simulated drops, the tenant's private key, and the store where that is a folder.
    folder: TempDir,
}

/// A receiver that in the end holds all that it was sent to the schema, taken or not.
pub(crate) struct Strict(Receiver);

impl Deref for Strict {
    type Target = Receiver;

    fn deref(&self) -> &Receiver {
        &self.0
    }
}

impl Drop for Strict {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.received().texts.iter().for_each(|text| schema::assert_valid(text));
        }
    }
}

/// A drop, made and not yet laid anywhere.
pub(crate) struct SimulatedDrop {
    pub(crate) made: Simulated,
    /// Where it is going to lie.
    pub(crate) path: DropPath,
}

impl Scene {
    /// On the account that all tests of this binary share, in containers of its own.
    pub(crate) async fn on_azurite() -> Self {
        let azurite = azurite::shared();
        Self::on(azurite, &azurite.blob_endpoint()).await
    }

    /// On `azurite`, whose blob service is reached at `endpoint`.
    pub(crate) async fn on(azurite: &Azurite, endpoint: &str) -> Self {
        let storage = azurite.connection_string().replace(&azurite.blob_endpoint(), endpoint);
        let account = Account::from_connection_string(&azurite.connection_string()).unwrap();
        let store = Arc::new(AzureStore::new(&account).unwrap());
        let mut scene = Self::new(storage, endpoint.to_owned(), azurite.fresh_name("datasets"), store, folder()).await;
        scene.set("STATE_CONTAINER", &azurite.fresh_name("state"));
        scene.secrets.add("the account's key", azurite::KEY);
        scene.secrets.add("a SAS", "sig=");
        scene
    }

    /// On a folder in the place of an account.
    pub(crate) async fn in_a_folder() -> Self {
        let folder = folder();
        let storage = format!("file://{}", folder.path().join("store").display());
        let store = Arc::new(LocalStore::new(folder.path().join("store")).unwrap());
        Self::new(storage.clone(), storage, "datasets".into(), store, folder).await
    }

    async fn new(storage: String, account: String, container: String, store: Arc<dyn Store>, folder: TempDir) -> Self {
        let tenant = TenantId(uuid::Uuid::new_v4());
        let receiver = Strict(Receiver::start(Options::default()).await.unwrap());
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
        // All simulated drops are made with the same key: to make one takes longer than most tests.
        scene.keep_private_key(tenant, &vectors::case("encrypted-ctr").private_key());
        scene
    }

    /// Sets one of the app settings.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.settings.insert(name.into(), value.into());
    }

    /// Puts the private key of `tenant` where `PRIVATE_KEYS` says.
    pub(crate) fn keep_private_key(&self, tenant: TenantId, pem: &std::path::Path) {
        fs::copy(pem, self.private_key(tenant)).unwrap();
        self.secrets.add_pem(&fs::read_to_string(pem).unwrap());
    }

    /// Where the private key of `tenant` is.
    pub(crate) fn private_key(&self, tenant: TenantId) -> PathBuf {
        self.folder.path().join(format!("keys/{tenant}.pem"))
    }

    /// The Functions host, with the handler under these settings.
    pub(crate) async fn host(&self) -> Host {
        Host::start(self.settings.clone(), self.secrets.clone()).await
    }

    /// A drop of `rows` rows in `files` files, whose keys the API has.
    pub(crate) async fn drop(&self, rows: u64, files: usize) -> SimulatedDrop {
        let files = NonZeroUsize::new(files).unwrap();
        self.drop_like(SimulateOptions { users: rows, weeks: 1, files, ..SimulateOptions::default() }).await
    }

    /// A drop as `options` say, whose keys the API has.
    pub(crate) async fn drop_like(&self, options: SimulateOptions) -> SimulatedDrop {
        let tenant = options.tenant.unwrap_or(self.tenant);
        let private_key = Some(vectors::case("encrypted-ctr").private_key());
        let options = SimulateOptions { tenant: Some(tenant), private_key, ..options };
        let out = self.folder.path().join(uuid::Uuid::new_v4().to_string());
        let made = simulate(&options, &out, &|_| {}).unwrap();
        let answer: Value = serde_json::from_slice(&fs::read(&made.decryption_keys).unwrap()).unwrap();
        self.api.hold(&made.copy_activity_id.to_string(), tenant.0, answer.clone());

        let (private_key, wrapped) = (PemFile::new(&made.private_key), wrapped_keys(&answer).unwrap());
        let keys = unwrap_keys(&private_key, tenant, KeyWrap::Auto, &wrapped).await.unwrap();
        for key in [keys.file, keys.column].into_iter().flatten() {
            self.secrets.add_key(&key.key);
        }
        // Data Factory chooses the names; some of these mean something in a URL.
        let folder = format!("Lauf 1+ü%20/{}/VivaInsights/{tenant}", made.copy_activity_id);
        SimulatedDrop { path: DropPath::new(&self.container, folder), made }
    }

    /// The rows of `drop` as `decode` prints them: what is to be delivered. None of them may be shown.
    pub(crate) async fn rows_of(&self, drop: &SimulatedDrop) -> Vec<String> {
        let mut decode = vivadrop();
        decode.arg("decode").arg(&drop.made.drop).arg("--private-key").arg(&drop.made.private_key);
        let ended = end_of(decode.arg("--decryption-keys").arg(&drop.made.decryption_keys)).await;
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        let rows: Vec<String> = ended.stdout.lines().map(ToOwned::to_owned).collect();
        for row in rows.iter().take(100) {
            let row: Value = serde_json::from_str(row).unwrap();
            self.secrets.add("a value of a row", row["ObjectId"].as_str().unwrap());
        }
        rows
    }

    /// Lays the whole drop, the job metadata last.
    pub(crate) async fn lay(&self, drop: &SimulatedDrop) {
        let mut names = drop.names();
        names.sort_by_key(|name| name == METADATA);
        for name in names {
            self.put(drop, &name).await;
        }
    }

    /// Lays one blob of the drop, over an older version of it.
    pub(crate) async fn put(&self, drop: &SimulatedDrop, name: &str) -> ETag {
        let bytes = fs::read(drop.made.drop.join(name)).unwrap();
        self.write(&drop.path, name, bytes).await
    }

    /// Writes a blob below the drop at `path`.
    pub(crate) async fn write(&self, path: &DropPath, name: &str, bytes: impl Into<Bytes>) -> ETag {
        self.store.write(&path.blob(name), bytes.into(), WriteIf::Always).await.unwrap()
    }

    /// The address of the blob `name` of the drop, as events have it.
    pub(crate) fn url(&self, drop: &SimulatedDrop, name: &str) -> String {
        self.address_of(&drop.path.blob(name))
    }

    /// The address of a blob.
    pub(crate) fn address_of(&self, blob: &BlobPath) -> String {
        format!("{}/{}/{}", self.account, blob.container, utf8_percent_encode(&blob.name, IN_A_URL))
    }

    /// What the host posts when the blob `name` of the drop was created.
    pub(crate) fn event(&self, drop: &SimulatedDrop, name: &str) -> Value {
        host_payloads::blob_trigger(&self.url(drop, name), 1)
    }

    /// What the state container has, where the store is a folder: the ledger's records.
    pub(crate) fn state(&self) -> BTreeMap<String, Vec<u8>> {
        vectors::contents(&self.folder.path().join("store/vivadrop-state"))
    }

    /// Waits until the receiver has what is `expected` of the drop at `path`.
    pub(crate) async fn wait_for(&self, expected: impl Fn(&Received) -> bool) -> Received {
        self.receiver.wait_for(LONG, expected).await.unwrap()
    }
}

/// Checks that the whole drop was taken, all of `rows` and nothing else, and announced once, after them.
pub(crate) fn assert_complete(received: &Received, drop: &SimulatedDrop, rows: &[String]) {
    let path = drop.path();
    assert_eq!(differences(rows.iter().map(String::as_str), received.rows(&path)), None);
    assert_eq!((received.bad_signatures, received.malformed, received.strays), (0, 0, 0));
    let drop = &received.drops[&path];
    assert_eq!(drop.failed, []);
    assert!(drop.files.values().all(|file| file.changed == 0 && file.identified && file.bad_rows.is_empty()));
    let rows = rows.len() as u64;
    let files = drop.files.len() as u64;
    assert_eq!(drop.completed, [Completed { files, rows, bad_rows: 0, rows_before: rows }]);
}

/// Whether the drop has ended, one way or the other.
pub(crate) fn has_ended(received: &Received, drop: &SimulatedDrop) -> bool {
    received.drops.get(&drop.path()).is_some_and(|drop| !drop.completed.is_empty() || !drop.failed.is_empty())
}

impl SimulatedDrop {
    /// Its blobs, by their names below it.
    pub(crate) fn names(&self) -> Vec<String> {
        vectors::contents(&self.made.drop).into_keys().collect()
    }

    /// Its path, as messages have it.
    pub(crate) fn path(&self) -> String {
        self.path.to_string()
    }
}

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}
