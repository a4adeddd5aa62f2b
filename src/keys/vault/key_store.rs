//! Key management in a vault: reads public keys, lists versions, creates and disables keys.

use std::cmp::Reverse;

use async_trait::async_trait;
use azure_core::http::RequestContent;
use azure_security_keyvault_keys::{
    KeyClient, ResourceExt, ResourceId,
    models::{
        CreateKeyParameters, JsonWebKey, Key, KeyAttributes, KeyClientGetKeyOptions,
        KeyClientUpdateKeyPropertiesOptions, KeyOperation, KeyProperties, KeyType, UpdateKeyPropertiesParameters,
    },
};
use futures::{StreamExt, TryStreamExt, stream};
use time::OffsetDateTime;

use super::{
    Vault,
    failure::{ErrorResponse, Operation},
};
use crate::{
    drop::TenantId,
    keys::{
        KeyError,
        key_store::{KeyExpiry, KeyStore, PublicKey},
    },
};

/// Number of keys that are read concurrently.
const CONCURRENT_READS: usize = 8;

/// Length of a new key. The Viva Insights API accepts no other.
const NEW_KEY_BITS: i32 = 2048;

/// A version of a key in the vault.
struct KeyVersion {
    /// Name of the key, which is a tenant id if the key is a tenant's.
    name: String,
    created: Option<OffsetDateTime>,
    key: PublicKey,
}

/// A version of a tenant's key, as the vault lists it.
pub(super) struct ListedVersion {
    pub(super) id: String,
    /// When it was created, to the second.
    pub(super) created: Option<OffsetDateTime>,
    pub(super) enabled: bool,
}

#[async_trait]
impl KeyStore for Vault {
    /// A disabled key has no modulus and exponent if the vault does not show them.
    async fn current(&self, tenant: TenantId) -> Result<Option<PublicKey>, KeyError> {
        match self.read(&tenant.to_string(), None).await? {
            Ok(current) => Ok(Some(current.key)),
            Err(response) if response.is_key_missing() => Ok(None),
            Err(response) if response.inner.as_deref() == Some("KeyDisabled") => {
                Ok(self.versions(tenant).await?.into_iter().next_back())
            }
            Err(response) => Err(self.rejected(&response, Operation::Read, Some(tenant))),
        }
    }

    /// Creates a key, or a new version if the tenant has a key. Needs the role Key Vault Crypto Officer.
    ///
    /// A retry after a response that was lost creates another version, which is then the current one.
    async fn create(&self, tenant: TenantId, expires: OffsetDateTime) -> Result<PublicKey, KeyError> {
        let name = tenant.to_string();
        let parameters = CreateKeyParameters {
            kty: Some(KeyType::Rsa),
            key_size: Some(NEW_KEY_BITS),
            // Decrypting is enough for drops. The other operations let an operator test the key in the vault.
            key_ops: Some(vec![
                KeyOperation::Encrypt,
                KeyOperation::Decrypt,
                KeyOperation::WrapKey,
                KeyOperation::UnwrapKey,
            ]),
            key_attributes: Some(KeyAttributes {
                enabled: Some(true),
                expires: Some(expires),
                ..KeyAttributes::default()
            }),
            ..CreateKeyParameters::default()
        };
        let parameters = RequestContent::try_from(parameters).expect("the parameters of a key serialize to JSON");
        match self.call(|| create_key(&self.client, &name, parameters.clone())).await? {
            Ok(created) => key_version(&created).map(|created| created.key).ok_or_else(|| self.not_a_vault()),
            Err(response) => Err(self.rejected(&response, Operation::Create, Some(tenant))),
        }
    }

    /// Disables every version. Needs the role Key Vault Crypto Officer.
    async fn disable(&self, tenant: TenantId) -> Result<usize, KeyError> {
        let name = tenant.to_string();
        let disabled = KeyAttributes { enabled: Some(false), ..KeyAttributes::default() };
        let parameters = UpdateKeyPropertiesParameters {
            key_attributes: Some(disabled),
            ..UpdateKeyPropertiesParameters::default()
        };
        let parameters = RequestContent::try_from(parameters).expect("the attributes of a key serialize to JSON");
        let enabled = self.listed_versions(tenant).await?.into_iter().filter(|version| version.enabled);
        let mut count = 0;
        for version in enabled {
            if let Err(response) =
                self.call(|| update_key(&self.client, &name, &version.id, parameters.clone())).await?
            {
                return Err(self.rejected(&response, Operation::Disable, Some(tenant)));
            }
            count += 1;
        }
        Ok(count)
    }

    async fn all(&self) -> Result<Vec<(TenantId, PublicKey)>, KeyError> {
        let listed = match self.call(|| list_keys(&self.client)).await? {
            Ok(listed) => listed,
            Err(response) => return Err(self.rejected(&response, Operation::List, None)),
        };
        let keys = self.read_all(listed).await?;
        // Keys whose name is not a tenant id have another purpose.
        Ok(keys.into_iter().filter_map(|version| Some((version.name.parse().ok()?, version.key))).collect())
    }

    fn location(&self, tenant: TenantId) -> String {
        format!("{}keys/{tenant}", self.url)
    }
}

impl Vault {
    /// All versions of the tenant's key, oldest first; empty if the tenant has no key.
    pub async fn versions(&self, tenant: TenantId) -> Result<Vec<PublicKey>, KeyError> {
        let mut versions = self.read_all(self.list_versions(tenant).await?).await?;
        versions.sort_by_key(|version| version.created);
        Ok(versions.into_iter().map(|version| version.key).collect())
    }

    /// The versions of the tenant's key by the attributes of the listing, newest first; empty if the tenant has no key.
    pub(super) async fn listed_versions(&self, tenant: TenantId) -> Result<Vec<ListedVersion>, KeyError> {
        let listed = self.list_versions(tenant).await?.into_iter().map(|listed| {
            let id = listed.resource_id().ok().and_then(|id| id.version).ok_or_else(|| self.not_a_vault())?;
            let attributes = listed.attributes.unwrap_or_default();
            Ok(ListedVersion { id, created: attributes.created, enabled: attributes.enabled != Some(false) })
        });
        let mut versions: Vec<_> = listed.collect::<Result<_, KeyError>>()?;
        versions.sort_by_key(|version| Reverse(version.created));
        Ok(versions)
    }

    /// Lists the versions of the tenant's key, in no particular order; empty if the tenant has no key.
    async fn list_versions(&self, tenant: TenantId) -> Result<Vec<KeyProperties>, KeyError> {
        let name = tenant.to_string();
        match self.call(|| list_versions(&self.client, &name)).await? {
            Ok(listed) => Ok(listed),
            Err(response) if response.status == 404 => Ok(Vec::new()),
            Err(response) => Err(self.rejected(&response, Operation::List, Some(tenant))),
        }
    }

    /// Reads one version of a key, or its current version.
    async fn read(&self, name: &str, version: Option<&str>) -> Result<Result<KeyVersion, ErrorResponse>, KeyError> {
        match self.call(|| get_key(&self.client, name, version)).await? {
            Ok(key) => key_version(&key).ok_or_else(|| self.not_a_vault()).map(Ok),
            Err(response) => Ok(Err(response)),
        }
    }

    /// Reads the keys of a listing. A key that cannot be read is returned with its listed attributes only.
    async fn read_all(&self, listed: Vec<KeyProperties>) -> Result<Vec<KeyVersion>, KeyError> {
        let read = |listed: KeyProperties| async move {
            let id = listed.resource_id().map_err(|_| self.not_a_vault())?;
            let read = self.read(&id.name, id.version.as_deref()).await?;
            Ok(read.unwrap_or_else(|_| KeyVersion::new(&id, None, listed.attributes.as_ref())))
        };
        stream::iter(listed).map(read).buffered(CONCURRENT_READS).try_collect().await
    }
}

impl KeyVersion {
    fn new(id: &ResourceId, key: Option<&JsonWebKey>, attributes: Option<&KeyAttributes>) -> Self {
        let expires = attributes.and_then(|attributes| attributes.expires);
        let key = PublicKey {
            version: id.version.clone().unwrap_or_default(),
            modulus: key.and_then(|key| key.n.clone()).unwrap_or_default(),
            exponent: key.and_then(|key| key.e.clone()).unwrap_or_default(),
            expiry: expires.map_or(KeyExpiry::Never, KeyExpiry::At),
            enabled: attributes.is_none_or(|attributes| attributes.enabled != Some(false)),
        };
        Self { name: id.name.clone(), created: attributes.and_then(|attributes| attributes.created), key }
    }
}

fn key_version(key: &Key) -> Option<KeyVersion> {
    Some(KeyVersion::new(&key.resource_id().ok()?, key.key.as_ref(), key.attributes.as_ref()))
}

async fn get_key(client: &KeyClient, name: &str, version: Option<&str>) -> azure_core::Result<Key> {
    let options =
        KeyClientGetKeyOptions { key_version: version.map(str::to_owned), ..KeyClientGetKeyOptions::default() };
    client.get_key(name, Some(options)).await?.into_model()
}

async fn create_key(
    client: &KeyClient,
    name: &str,
    parameters: RequestContent<CreateKeyParameters>,
) -> azure_core::Result<Key> {
    client.create_key(name, parameters, None).await?.into_model()
}

async fn update_key(
    client: &KeyClient,
    name: &str,
    version: &str,
    parameters: RequestContent<UpdateKeyPropertiesParameters>,
) -> azure_core::Result<()> {
    let options = KeyClientUpdateKeyPropertiesOptions {
        key_version: Some(version.to_owned()),
        ..KeyClientUpdateKeyPropertiesOptions::default()
    };
    client.update_key_properties(name, parameters, Some(options)).await.map(drop)
}

async fn list_keys(client: &KeyClient) -> azure_core::Result<Vec<KeyProperties>> {
    client.list_key_properties(None)?.try_collect().await
}

async fn list_versions(client: &KeyClient, name: &str) -> azure_core::Result<Vec<KeyProperties>> {
    client.list_key_properties_versions(name, None)?.try_collect().await
}
