//! Settings made into working parts. The only file that knows Azure, files and sinks by name at once.

use std::{collections::BTreeMap, sync::Arc};

use azure_core::{
    credentials::TokenCredential,
    http::{ClientOptions, RetryOptions},
};
use url::Url;

use crate::{
    config::{Config, DeliverTo, PrivateKeysIn, Storage, TenantOverrides, TenantSettings},
    drop::TenantId,
    host::guard::Guard,
    identity::Identity,
    keys::{
        KeySource,
        custody::KeyCustody,
        unwrap::{PemFolder, PrivateKeys},
        vault::{self, Vault},
        viva_api::{self, VivaApi, token},
    },
    ledger::Ledger,
    run::Runner,
    sink::{
        Sink,
        queue::{self, Queue},
        stdout::Stdout,
        vault_secret_webhook::VaultSecretWebhook,
        webhook::{InvalidClient, Webhook},
    },
    store::{
        ReadWindow, Store,
        azure::{AccountError, AzureStore},
        local::{FolderError, LocalStore},
    },
    tenant_config::{TenantConfig, TenantConfigs},
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
pub enum AppError {
    /// The storage account's client cannot be made.
    #[error("DropStorage is not usable")]
    Account(#[from] AccountError),
    /// The folder in its place cannot be opened.
    #[error("DropStorage is not usable")]
    Folder(#[from] FolderError),
    /// The vault's client cannot be made.
    #[error("the vault of PRIVATE_KEYS is not usable")]
    Vault(#[from] vault::NotUsable),
    /// The API's client cannot be made.
    #[error("the Viva Insights API is not usable")]
    VivaApi(#[from] viva_api::NotUsable),
    /// The client of the vault that has the webhook's secret cannot be made.
    #[error("the vault of the webhook's secret is not usable")]
    Secret(#[source] vault::NotUsable),
    /// The webhook's client cannot be made.
    #[error("the webhook is not usable")]
    Webhook(#[from] InvalidClient),
    /// The queue's client cannot be made.
    #[error("the queue is not usable")]
    Queue(#[from] queue::InvalidClient),
}

/// Puts the parts together; connects to nothing yet.
pub fn wire(config: Config) -> Result<App, AppError> {
    let store = store(&config.drop_storage)?;
    let api = &config.viva_api;
    let credential = token::credential(&api.url, api.partner.as_ref(), &config.identity)?;
    let keys = KeySource {
        private_keys: private_keys(&config.private_keys, &config.identity)?,
        wrap: config.key_wrap,
        api: VivaApi::new(&api.url, credential, api.scope.clone())?,
        may_be_missing: config.common.rules.layout.allow_plaintext,
    };
    let custody = custody(&config.private_keys, &config.identity)?;
    let guard = Guard {
        store: Arc::clone(&store),
        drop_container: config.drop_container,
        state_container: config.state_container.clone(),
        tenants: config.tenants.clone(),
    };
    let runner = Runner {
        ledger: Ledger::new(Arc::clone(&store), config.state_container),
        store,
        tenants: config.tenants,
        keys,
        tenant_configs: tenant_configs(config.common, config.tenant_overrides, &config.identity)?,
        window: ReadWindow::default(),
    };
    Ok(App { runner, guard, custody })
}

/// The terms of all tenants. One with settings of its own and no destination of its own shares everybody's sink.
fn tenant_configs(
    common: TenantSettings,
    own: BTreeMap<TenantId, TenantOverrides>,
    identity: &Identity,
) -> Result<TenantConfigs, AppError> {
    let sink = |deliver_to| sink(deliver_to, identity);
    let common = TenantConfig::new(sink(common.deliver_to)?, common.rules, common.limits);
    let own = own.into_iter().map(|(tenant, TenantOverrides { rules, limits, deliver_to })| {
        let sink = deliver_to.map_or_else(|| Ok(Arc::clone(&common.sink)), sink)?;
        Ok((tenant, TenantConfig::new(sink, rules, limits)))
    });
    Ok(TenantConfigs { own: own.collect::<Result<_, AppError>>()?, common })
}

fn sink(deliver_to: DeliverTo, identity: &Identity) -> Result<Arc<dyn Sink>, AppError> {
    Ok(match deliver_to {
        DeliverTo::Webhook(webhook, None) => Arc::new(Webhook::new(*webhook)?),
        DeliverTo::Webhook(webhook, Some(secret)) => {
            let credential = vault_credential(identity).map_err(AppError::Secret)?;
            Arc::new(VaultSecretWebhook::new(*webhook, secret, credential).map_err(AppError::Secret)?)
        }
        DeliverTo::Queue(queue) => Arc::new(Queue::new(*queue)?),
        DeliverTo::Stdout => Arc::new(Stdout::new()),
    })
}

/// The keeper of the tenants' private keys: a vault, or a folder in its place.
pub fn private_keys(place: &PrivateKeysIn, identity: &Identity) -> Result<Arc<dyn PrivateKeys>, AppError> {
    Ok(match place {
        PrivateKeysIn::Vault(url) => Arc::new(vault(url, identity)?),
        PrivateKeysIn::Folder(folder) => Arc::new(PemFolder::new(folder)),
    })
}

/// The vault at `url`, for `identity`.
pub fn vault(url: &Url, identity: &Identity) -> Result<Vault, vault::NotUsable> {
    Vault::new(url, vault_credential(identity)?)
}

fn vault_credential(identity: &Identity) -> Result<Arc<dyn TokenCredential>, vault::NotUsable> {
    // One loop of tries is enough, and it is the caller's.
    let options = ClientOptions { retry: RetryOptions::none(), ..ClientOptions::default() };
    identity.credential(options).map_err(vault::NotUsable::Identity)
}

/// Who makes the tenants' keys, and knows their public halves: the same vault or folder.
pub fn custody(place: &PrivateKeysIn, identity: &Identity) -> Result<Arc<dyn KeyCustody>, AppError> {
    Ok(match place {
        PrivateKeysIn::Vault(url) => Arc::new(vault(url, identity)?),
        PrivateKeysIn::Folder(folder) => Arc::new(PemFolder::new(folder)),
    })
}

/// The store of a storage account, or of a folder in its place.
pub fn store(storage: &Storage) -> Result<Arc<dyn Store>, AppError> {
    Ok(match storage {
        Storage::Azure(account) => Arc::new(AzureStore::new(account)?),
        Storage::Local(folder) => Arc::new(LocalStore::new(folder)?),
    })
}
