//! Builds the parts of the application from the settings. Only this module names the Azure and the local
//! implementations together.

use std::{collections::BTreeMap, sync::Arc};

use azure_core::credentials::TokenCredential;

use crate::{
    config::{
        Config, DeliverTo, KeyStoreLocation, LedgerConfig, Storage, TenantOverrides, TenantSettings, VivaApiConfig,
    },
    drop::{TenantId, containers::WatchedContainers},
    identity::{Identity, without_retries},
    keys::{
        CallLimits, KeySource,
        key_store::KeyStore,
        pem::PemFolder,
        vault::{InvalidVault, Vault},
        viva_api::{InvalidVivaApi, VivaApi, token},
    },
    ledger::Ledger,
    memory_budget::MemoryBudget,
    pass_permits::PassPermits,
    run::{DueDrops, DueImports, Runner},
    run_permits::RunPermits,
    sink::{
        Sink,
        queue::{self, Queue},
        service_bus::{self, ServiceBus},
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

/// The parts of the application.
#[derive(Debug)]
pub struct App {
    /// Processes drops.
    pub runner: Arc<Runner>,
    /// The containers that are watched for drops.
    pub watched: WatchedContainers,
    /// The tenants' keys; `runner` unwraps with the same object.
    pub key_store: Arc<dyn KeyStore>,
}

/// Why a part of the application cannot be built on this machine.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The client of the storage account cannot be created.
    #[error("DropStorage is not usable")]
    Account(#[from] AccountError),
    /// The folder that serves as storage cannot be opened.
    #[error("DropStorage is not usable")]
    Folder(#[from] FolderError),
    /// The client of the vault with the private keys cannot be created.
    #[error("the vault of PRIVATE_KEYS is not usable")]
    Vault(#[source] InvalidVault),
    /// The client of the API cannot be created.
    #[error("the Viva Insights API is not usable")]
    VivaApi(#[from] InvalidVivaApi),
    /// The client of the vault with the webhook's secret cannot be created.
    #[error("the vault of the webhook's secret is not usable")]
    Secret(#[source] InvalidVault),
    /// The client of the webhook cannot be created.
    #[error("the webhook is not usable")]
    Webhook(#[from] InvalidClient),
    /// The client of the queue cannot be created.
    #[error("the queue is not usable")]
    Queue(#[from] queue::InvalidClient),
    /// The client of Service Bus cannot be created.
    #[error("the Service Bus entity is not usable")]
    ServiceBus(#[from] service_bus::InvalidClient),
    /// The credential for Service Bus cannot be created.
    #[error("the Service Bus entity is not usable")]
    ServiceBusIdentity(#[source] azure_core::Error),
}

/// Builds the application. Connects to nothing yet.
pub fn wire(config: Config) -> Result<App, AppError> {
    wire_with(config, CallLimits::default())
}

/// As [`wire`], with other limits for calls to the vault and the API.
pub fn wire_with(config: Config, limits: CallLimits) -> Result<App, AppError> {
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let store = store(&config.drop_storage)?;
    let key_store = key_store(&config.private_keys, &config.identity, limits)?;
    let keys = KeySource {
        private_keys: Arc::<dyn KeyStore>::clone(&key_store),
        wrap: config.key_wrap,
        api: viva_api(&config.viva_api, &config.identity)?.with_limits(limits),
        may_be_missing: config.common.rules.layout.allow_plaintext,
    };
    let watched = WatchedContainers {
        store: Arc::clone(&store),
        drop_container: config.drop_container,
        state_container: config.state_container.clone(),
        tenants: config.tenants.clone(),
    };
    let tenant_configs = tenant_configs(config.common, config.tenant_overrides, &config.identity)?;
    let runner = Runner {
        directory_memory: tenant_configs.directory_memory(),
        attributes_memory: MemoryBudget::new(config.attributes_memory),
        due_drops: DueDrops::default(),
        due_imports: DueImports::default(),
        pass_permits: PassPermits::default(),
        ledger: Ledger::new(Arc::clone(&store), config.state_container),
        store,
        tenants: config.tenants,
        keys,
        tenant_configs,
        window: ReadWindow::default(),
        limits: config.run_limits,
        run_permits: RunPermits::default(),
    };
    Ok(App { runner: Arc::new(runner), watched, key_store })
}

/// The configurations of all tenants. A tenant without a sink of its own shares the common sink.
fn tenant_configs(
    common: TenantSettings,
    overrides: BTreeMap<TenantId, TenantOverrides>,
    identity: &Identity,
) -> Result<TenantConfigs, AppError> {
    let common = TenantConfig::new(sink(common.deliver_to, identity)?, common.rules, common.limits)
        .with_directory(common.directory);
    let mut own = BTreeMap::new();
    for (tenant, TenantOverrides { rules, limits, directory, deliver_to }) in overrides {
        let config = match deliver_to {
            Some(deliver_to) => TenantConfig::new(sink(deliver_to, identity)?, rules, limits),
            None => common.sharing_sink(rules, limits),
        };
        own.insert(tenant, config.with_directory(directory));
    }
    Ok(TenantConfigs { overrides: own, default: common })
}

fn sink(deliver_to: DeliverTo, identity: &Identity) -> Result<Arc<dyn Sink>, AppError> {
    Ok(match deliver_to {
        DeliverTo::Webhook(webhook, None) => Arc::new(Webhook::new(*webhook)?),
        DeliverTo::Webhook(webhook, Some(secret)) => {
            let credential = vault_credential(identity).map_err(AppError::Secret)?;
            Arc::new(VaultSecretWebhook::new(*webhook, secret, credential).map_err(AppError::Secret)?)
        }
        DeliverTo::Queue(queue) => Arc::new(Queue::new(*queue)?),
        DeliverTo::ServiceBus(entity) => {
            let credential = identity.credential(without_retries()).map_err(AppError::ServiceBusIdentity)?;
            Arc::new(ServiceBus::new(*entity, credential)?)
        }
        DeliverTo::Stdout => Arc::new(Stdout::new()),
    })
}

/// The key store of `PRIVATE_KEYS`: a vault, or a folder of PEM files. `limits` apply to a vault.
pub fn key_store(
    location: &KeyStoreLocation,
    identity: &Identity,
    limits: CallLimits,
) -> Result<Arc<dyn KeyStore>, AppError> {
    Ok(match location {
        KeyStoreLocation::Vault(url) => {
            let vault = vault_credential(identity).and_then(|credential| Vault::new(url, credential));
            Arc::new(vault.map_err(AppError::Vault)?.with_limits(limits))
        }
        KeyStoreLocation::Folder(folder) => Arc::new(PemFolder::new(folder)),
    })
}

/// The credential for any vault: the one with the private keys, and those with webhook secrets.
fn vault_credential(identity: &Identity) -> Result<Arc<dyn TokenCredential>, InvalidVault> {
    identity.credential(without_retries()).map_err(InvalidVault::Identity)
}

/// The client of the Viva Insights API.
pub fn viva_api(config: &VivaApiConfig, identity: &Identity) -> Result<VivaApi, AppError> {
    let credential = token::credential(&config.url, config.partner.as_ref(), identity)?;
    Ok(VivaApi::new(&config.url, credential, config.scope.clone())?)
}

/// The ledger alone, for commands that only read or plan.
pub fn ledger(config: &LedgerConfig) -> Result<Ledger, AppError> {
    Ok(Ledger::new(store(&config.drop_storage)?, config.state_container.clone()))
}

/// The store of `DropStorage`: a storage account, or a folder.
pub fn store(storage: &Storage) -> Result<Arc<dyn Store>, AppError> {
    Ok(match storage {
        Storage::Azure(account) => Arc::new(AzureStore::new(account)?),
        Storage::Local(folder) => Arc::new(LocalStore::new(folder)?),
    })
}
