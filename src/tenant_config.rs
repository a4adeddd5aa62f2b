//! How the drops of each tenant are read and delivered: the app's configuration, and the tenants that override it.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    deliver::Limits,
    directory::DirectoryConfig,
    drop::TenantId,
    memory_budget::MemoryBudget,
    pipeline::FileRules,
    sink::{GuardedSink, Receiver, Sink, breaker::Breaker},
};

/// How the drops of a tenant are read and delivered.
#[derive(Debug)]
pub struct TenantConfig {
    /// The destination of the messages. Its results operate the breaker.
    pub sink: Arc<dyn Sink>,
    /// The circuit breaker of the destination. Tenants that share a destination share the breaker.
    pub breaker: Arc<Breaker>,
    /// How files are decrypted and decoded.
    pub rules: FileRules,
    /// The bounds of the delivery of one file.
    pub limits: Limits,
    /// How directory exports are used: delivered, joined to other rows, or both.
    pub directory: DirectoryConfig,
}

impl TenantConfig {
    /// Combines the parts. Batches are limited to the size of the sink's messages.
    pub fn new(sink: Arc<dyn Sink>, rules: FileRules, limits: Limits) -> Self {
        let breaker = Arc::new(Breaker::default());
        let sink = Arc::new(GuardedSink { inner: sink, breaker: Arc::clone(&breaker) });
        Self { sink, breaker, rules, limits, directory: DirectoryConfig::default() }.with_batches_within_the_sink()
    }

    /// The same configuration, with `directory` for directory exports.
    #[must_use]
    pub fn with_directory(self, directory: DirectoryConfig) -> Self {
        Self { directory, ..self }
    }

    /// The configuration of another tenant that delivers to the same destination.
    pub fn sharing_sink(&self, rules: FileRules, limits: Limits) -> Self {
        let (sink, breaker) = (Arc::clone(&self.sink), Arc::clone(&self.breaker));
        Self { sink, breaker, rules, limits, directory: DirectoryConfig::default() }.with_batches_within_the_sink()
    }

    /// The destination of the messages of a run that begins now.
    pub fn receiver(&self) -> Receiver {
        let (sink, breaker) = (Arc::clone(&self.sink), Arc::clone(&self.breaker));
        Receiver { sink, openings: breaker.openings(), breaker }
    }

    fn with_batches_within_the_sink(mut self) -> Self {
        self.limits.batch = self.limits.batch.within(self.sink.largest_message());
        self
    }
}

/// The configuration of every tenant.
#[derive(Debug)]
pub struct TenantConfigs {
    /// The configuration of tenants without an override.
    pub default: TenantConfig,
    /// The configuration of the other tenants.
    pub overrides: BTreeMap<TenantId, TenantConfig>,
}

impl TenantConfigs {
    /// The configuration of `tenant`.
    pub fn of(&self, tenant: TenantId) -> &TenantConfig {
        self.overrides.get(&tenant).unwrap_or(&self.default)
    }

    /// The memory that the lookup tables of all tenants share, for tables of at most the largest `DIRECTORY_MEMORY` of
    /// any tenant.
    pub fn directory_memory(&self) -> MemoryBudget {
        let configs = self.overrides.values().chain([&self.default]);
        MemoryBudget::new(configs.map(|config| config.directory.rules.memory).max().unwrap_or_default())
    }
}
