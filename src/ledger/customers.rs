//! The entries of customers: when their key, its registration and their SAS URL expire.

use futures::{StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::{Ledger, LedgerError, entry, paths};
use crate::{
    drop::TenantId,
    store::{Listing, StoreError, WriteIf},
};

/// The entry of a customer. A time is `None` if it is unknown, or if nothing expires.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub struct CustomerEntry {
    /// The customer.
    pub tenant: TenantId,
    /// When the customer's key expires.
    #[serde(default, rename = "keyexpires", with = "time::serde::rfc3339::option")]
    pub key_expires: Option<OffsetDateTime>,
    /// When the registration of the key expires.
    #[serde(default, rename = "registrationexpires", with = "time::serde::rfc3339::option")]
    pub registration_expires: Option<OffsetDateTime>,
    /// When the newest SAS URL of the customer's container expires.
    #[serde(default, rename = "sasexpires", with = "time::serde::rfc3339::option")]
    pub sas_expires: Option<OffsetDateTime>,
    /// The stored access policy of that SAS URL.
    #[serde(default, rename = "saspolicy")]
    pub sas_policy: Option<String>,
    /// Whether the customer has a key, and a record of its registration; `None` if that is unknown.
    #[serde(default)]
    pub key: Option<KeyState>,
    /// When the key and its registration were last looked up.
    #[serde(default, with = "time::serde::rfc3339::option")]
    pub checked: Option<OffsetDateTime>,
}

/// Whether a customer has a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyState {
    /// The key store has no key of the customer.
    Missing,
    /// It has one, and no registration is recorded.
    Unregistered,
    /// It has one, and its registration is recorded.
    Registered,
}

impl CustomerEntry {
    /// An entry without times.
    pub fn new(tenant: TenantId) -> Self {
        Self {
            tenant,
            key_expires: None,
            registration_expires: None,
            sas_expires: None,
            sas_policy: None,
            key: None,
            checked: None,
        }
    }
}

impl Ledger {
    /// Lists the entries of all customers. Skips blobs that are not entries.
    pub fn customers(&self) -> Listing<'_, CustomerEntry> {
        self.entries(paths::CUSTOMERS).map_ok(|(_, entry)| entry).boxed()
    }

    /// Reads the entry of a customer. Returns `None` if the customer has no entry, or if it cannot be parsed.
    pub async fn customer(&self, tenant: TenantId) -> Result<Option<CustomerEntry>, LedgerError> {
        let read = self.read(&self.blob(paths::customer(tenant))).await?;
        Ok(read.and_then(|(_, bytes)| serde_json::from_slice(&bytes).ok()))
    }

    /// Changes the entry of a customer, or creates it. An entry that cannot be parsed is replaced.
    pub async fn update_customer(
        &self,
        tenant: TenantId,
        change: impl Fn(&mut CustomerEntry),
    ) -> Result<(), LedgerError> {
        let path = self.blob(paths::customer(tenant));
        loop {
            let read = self.read(&path).await?;
            let condition = read.as_ref().map_or(WriteIf::Absent, |(version, _)| WriteIf::Matches(version.clone()));
            let previous = read.and_then(|(_, bytes)| serde_json::from_slice(&bytes).ok());
            let previous = previous.unwrap_or_else(|| CustomerEntry::new(tenant));
            let mut entry = previous.clone();
            change(&mut entry);
            if entry == previous {
                return Ok(());
            }
            let (bytes, metadata) = entry::format(&entry);
            match self.store.write_with_metadata(&path, bytes, &metadata, condition).await {
                Err(StoreError::Changed(_)) => {}
                written => return Ok(written.map(|_| ())?),
            }
        }
    }
}
