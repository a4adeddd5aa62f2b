//! A vault as the custodian of tenants' keys.

use async_trait::async_trait;
use time::OffsetDateTime;

use super::{Vault, VaultKey};
use crate::{
    drop::TenantId,
    keys::{
        KeyError,
        custody::{Expiry, KeyCustody, PublicKey},
    },
};

#[async_trait]
impl KeyCustody for Vault {
    async fn current(&self, tenant: TenantId) -> Result<Option<PublicKey>, KeyError> {
        Ok(Self::current(self, tenant).await?.map(PublicKey::from))
    }

    async fn create(&self, tenant: TenantId, expires: OffsetDateTime) -> Result<PublicKey, KeyError> {
        Self::create(self, tenant, expires).await.map(PublicKey::from)
    }

    async fn all(&self) -> Result<Vec<(TenantId, PublicKey)>, KeyError> {
        let keys = Self::all(self).await?;
        // A vault may hold other keys as well.
        Ok(keys.into_iter().filter_map(|(name, key)| Some((name.parse().ok()?, key.into()))).collect())
    }

    fn place(&self, tenant: TenantId) -> String {
        format!("{}keys/{tenant}", self.url())
    }
}

impl From<VaultKey> for PublicKey {
    fn from(key: VaultKey) -> Self {
        Self {
            version: key.version,
            modulus: key.n,
            exponent: key.e,
            expiry: key.expires.map_or(Expiry::Never, Expiry::At),
            enabled: key.enabled,
        }
    }
}
