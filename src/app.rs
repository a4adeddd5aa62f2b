//! Settings made into working parts. The only file that knows Azure, files and sinks by name at once.

use std::sync::Arc;

use azure_core::http::{ClientOptions, RetryOptions};
use url::Url;

use crate::{
    config::{Config, DeliverTo, PrivateKeysIn, Storage},
    host::guard::Guard,
    identity::Identity,
    keys::{
        KeySource,
        custody::KeyCustody,
        unwrap::{PemFolder, PrivateKeys},
        vault::{self, Vault},
        viva_api::{self, VivaApi, token},
    },
    ledger::blobs::Blobs,
    run::Runner,
    sink::{
        Sink,
        stdout::Stdout,
        webhook::{NoClient, Webhook},
    },
    store::{
        ReadWindow, Store,
        azure::{AccountError, AzureStore},
        local::{LocalStore, NoFolder},
    },
};

/// The working parts.
#[derive(Debug)]
pub struct App {
    /// Works on drops.
    pub runner: Runner,
    /// Decides which blobs are ours.
    pub guard: Guard,
    /// Knows when the tenants' keys lapse.
    pub custody: Arc<dyn KeyCustody>,
}

/// Why the parts cannot be put together on this machine.
#[derive(Debug, thiserror::Error)]
pub enum NoApp {
    /// The storage account's client cannot be made.
    #[error("DropStorage is not usable")]
    Account(#[from] AccountError),
    /// The folder in its place cannot be opened.
    #[error("DropStorage is not usable")]
    Folder(#[from] NoFolder),
    /// The vault's client cannot be made.
    #[error("the vault of PRIVATE_KEYS is not usable")]
    Vault(#[from] vault::NotUsable),
    /// The API's client cannot be made.
    #[error("the Viva Insights API is not usable")]
    VivaApi(#[from] viva_api::NotUsable),
    /// The webhook's client cannot be made.
    #[error("the webhook is not usable")]
    Webhook(#[from] NoClient),
}

/// Puts the parts together; connects to nothing yet.
pub fn wire(config: Config) -> Result<App, NoApp> {
    let store = store(&config.drop_storage)?;
    let sink: Arc<dyn Sink> = match config.deliver_to {
        DeliverTo::Webhook(webhook) => Arc::new(Webhook::new(*webhook)?),
        DeliverTo::Stdout => Arc::new(Stdout::new()),
    };
    let api = &config.viva_api;
    let credential = token::credential(&api.url, api.partner.as_ref(), &config.identity)?;
    let keys = KeySource {
        private_keys: private_keys(&config.private_keys, &config.identity)?,
        wrap: config.key_wrap,
        api: VivaApi::new(&api.url, credential, api.scope.clone())?,
        may_be_missing: config.rules.layout.allow_plaintext,
    };
    let custody = custody(&config.private_keys, &config.identity)?;
    let guard = Guard {
        store: Arc::clone(&store),
        drop_container: config.drop_container,
        state_container: config.state_container.clone(),
        tenants: config.tenants.clone(),
    };
    let runner = Runner {
        ledger: Arc::new(Blobs::new(Arc::clone(&store), config.state_container)),
        store,
        sink,
        tenants: config.tenants,
        keys,
        rules: config.rules,
        limits: config.limits,
        window: ReadWindow::default(),
    };
    Ok(App { runner, guard, custody })
}

/// The keeper of the tenants' private keys: a vault, or a folder in its place.
pub fn private_keys(place: &PrivateKeysIn, identity: &Identity) -> Result<Arc<dyn PrivateKeys>, NoApp> {
    Ok(match place {
        PrivateKeysIn::Vault(url) => Arc::new(vault(url, identity)?),
        PrivateKeysIn::Folder(folder) => Arc::new(PemFolder::new(folder)),
    })
}

/// The vault at `url`, for `identity`.
pub fn vault(url: &Url, identity: &Identity) -> Result<Vault, vault::NotUsable> {
    // One loop of tries is enough, and it is the vault's.
    let options = ClientOptions { retry: RetryOptions::none(), ..ClientOptions::default() };
    Vault::new(url, identity.credential(options).map_err(vault::NotUsable::Identity)?)
}

/// Who makes the tenants' keys, and knows their public halves: the same vault or folder.
pub fn custody(place: &PrivateKeysIn, identity: &Identity) -> Result<Arc<dyn KeyCustody>, NoApp> {
    Ok(match place {
        PrivateKeysIn::Vault(url) => Arc::new(vault(url, identity)?),
        PrivateKeysIn::Folder(folder) => Arc::new(PemFolder::new(folder)),
    })
}

/// The store of a storage account, or of a folder in its place.
pub fn store(storage: &Storage) -> Result<Arc<dyn Store>, NoApp> {
    Ok(match storage {
        Storage::Azure(account) => Arc::new(AzureStore::new(account)?),
        Storage::Local(folder) => Arc::new(LocalStore::new(folder)?),
    })
}
