//! How the drops of each tenant are read and delivered: the app's configuration, and the tenants that override it.

use std::{collections::BTreeMap, sync::Arc};

use crate::{deliver::Limits, drop::TenantId, pipeline::FileRules, sink::Sink};

/// How the drops of a tenant are read and delivered.
#[derive(Debug)]
pub struct TenantConfig {
    /// The destination of the messages.
    pub sink: Arc<dyn Sink>,
    /// How files are decrypted and decoded.
    pub rules: FileRules,
    /// The bounds of the delivery of one file.
    pub limits: Limits,
}

impl TenantConfig {
    /// Combines the parts. Batches are limited to the size of the sink's messages.
    pub fn new(sink: Arc<dyn Sink>, rules: FileRules, limits: Limits) -> Self {
        let batch = limits.batch.within(sink.largest_message());
        Self { sink, rules, limits: Limits { batch, ..limits } }
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
}
