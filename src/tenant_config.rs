//! What each tenant's rows become and where they go: the app's own terms, and those of tenants that differ.

use std::{collections::BTreeMap, sync::Arc};

use crate::{deliver::Limits, drop::TenantId, pipeline::FileRules, sink::Sink};

/// How the drops of a tenant are read, and where their rows go.
#[derive(Debug)]
pub struct TenantConfig {
    /// Where batches go.
    pub sink: Arc<dyn Sink>,
    /// How files are read.
    pub rules: FileRules,
    /// What one file may take.
    pub limits: Limits,
}

impl TenantConfig {
    /// These terms; batches end where the sink's messages have room for no more.
    pub fn new(sink: Arc<dyn Sink>, rules: FileRules, limits: Limits) -> Self {
        let batch = limits.batch.within(sink.largest_message());
        Self { sink, rules, limits: Limits { batch, ..limits } }
    }
}

/// The terms of every tenant.
#[derive(Debug)]
pub struct TenantConfigs {
    /// Those of tenants without any of their own.
    pub common: TenantConfig,
    /// Those of the others.
    pub own: BTreeMap<TenantId, TenantConfig>,
}

impl TenantConfigs {
    /// The terms that `tenant`'s drops are read and delivered by.
    pub fn of(&self, tenant: TenantId) -> &TenantConfig {
        self.own.get(&tenant).unwrap_or(&self.common)
    }
}
