//! What onboarding and checking ask of a vault: the public halves of keys, and new ones.

use azure_core::http::RequestContent;
use azure_security_keyvault_keys::{
    KeyClient, ResourceExt, ResourceId,
    models::{
        CreateKeyParameters, JsonWebKey, Key, KeyAttributes, KeyClientGetKeyOptions, KeyOperation, KeyProperties,
        KeyType,
    },
};
use futures::{StreamExt, TryStreamExt, stream};
use time::OffsetDateTime;

use super::{
    Vault,
    failure::{Operation, Refusal},
};
use crate::{drop::TenantId, keys::KeyError};

/// How many keys are read at once.
const READ_AT_ONCE: usize = 8;

/// The bits of a new key, which is what Microsoft's side takes.
const NEW_KEY_BITS: i32 = 2048;

/// The public half of one version of a key, and what is known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VaultKey {
    /// The version: 32 hexadecimal digits.
    pub version: String,
    /// The modulus, big-endian. Empty where the vault does not show it: of a disabled key, or of one that is not RSA.
    pub n: Vec<u8>,
    /// The public exponent, big-endian.
    pub e: Vec<u8>,
    /// When it expires, if ever.
    pub expires: Option<OffsetDateTime>,
    /// Whether it may be used at all.
    pub enabled: bool,
    /// When it was made.
    pub created: Option<OffsetDateTime>,
}

/// The public half of one key of a vault, by name.
pub type NamedKey = (String, VaultKey);

impl Vault {
    /// The current version of the tenant's key; `None` where there is no such key.
    ///
    /// A key that is disabled comes without its public half where the vault does not show it.
    pub async fn current(&self, tenant: TenantId) -> Result<Option<VaultKey>, KeyError> {
        match self.read(&tenant.to_string(), None).await? {
            Ok(key) => Ok(Some(key)),
            Err(refusal) if refusal.status == 404 => Ok(None),
            Err(refusal) if refusal.inner.as_deref() == Some("KeyDisabled") => {
                Ok(self.versions(tenant).await?.into_iter().next_back())
            }
            Err(refusal) => Err(self.refused(&refusal, Operation::Read, Some(tenant))),
        }
    }

    /// All versions of the tenant's key, the oldest first; none where there is no such key.
    pub async fn versions(&self, tenant: TenantId) -> Result<Vec<VaultKey>, KeyError> {
        let name = tenant.to_string();
        let listed = match self.ask(|| list_versions(&self.client, &name)).await? {
            Ok(listed) => listed,
            Err(refusal) if refusal.status == 404 => return Ok(Vec::new()),
            Err(refusal) => return Err(self.refused(&refusal, Operation::List, Some(tenant))),
        };
        let mut versions = self.public_halves(listed).await?;
        versions.sort_by_key(|(_, key)| key.created);
        Ok(versions.into_iter().map(|(_, key)| key).collect())
    }

    /// The current version of every key in the vault, by name, whoever's they are.
    pub async fn all(&self) -> Result<Vec<NamedKey>, KeyError> {
        let listed = match self.ask(|| list_keys(&self.client)).await? {
            Ok(listed) => listed,
            Err(refusal) => return Err(self.refused(&refusal, Operation::List, None)),
        };
        self.public_halves(listed).await
    }

    /// Makes an RSA-2048 key for the tenant that expires at `expires`, or a new version of the one there is: earlier ones
    /// go on to unwrap what was wrapped for them. Needs the role Key Vault Crypto Officer.
    ///
    /// Where the vault is slow to answer there may come to be one version more than was asked for.
    pub async fn create(&self, tenant: TenantId, expires: OffsetDateTime) -> Result<VaultKey, KeyError> {
        let name = tenant.to_string();
        let parameters = CreateKeyParameters {
            kty: Some(KeyType::Rsa),
            key_size: Some(NEW_KEY_BITS),
            // Microsoft wraps with the public half; to wrap and unwrap here as well is how a key is checked.
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
        let parameters = RequestContent::try_from(parameters).map_err(|_| self.nonsense())?;
        match self.ask(|| create(&self.client, &name, parameters.clone())).await? {
            Ok(made) => public_half(&made).ok_or_else(|| self.nonsense()),
            Err(refusal) => Err(self.refused(&refusal, Operation::Create, Some(tenant))),
        }
    }

    /// One version of a key, or its current one.
    async fn read(&self, name: &str, version: Option<&str>) -> Result<Result<VaultKey, Refusal>, KeyError> {
        match self.ask(|| get(&self.client, name, version)).await? {
            Ok(key) => public_half(&key).ok_or_else(|| self.nonsense()).map(Ok),
            Err(refusal) => Ok(Err(refusal)),
        }
    }

    async fn public_halves(&self, listed: Vec<KeyProperties>) -> Result<Vec<NamedKey>, KeyError> {
        let read = |listed: KeyProperties| async move {
            let id = listed.resource_id().map_err(|_| self.nonsense())?;
            let key = match self.read(&id.name, id.version.as_deref()).await? {
                Ok(key) => key,
                // It is listed, and shows nothing more.
                Err(_) => VaultKey::of(&id, None, listed.attributes.as_ref()),
            };
            Ok((id.name, key))
        };
        stream::iter(listed).map(read).buffered(READ_AT_ONCE).try_collect().await
    }

    fn nonsense(&self) -> KeyError {
        KeyError::Refused(format!("{self} does not answer as a Key Vault does: check PRIVATE_KEYS"))
    }
}

impl VaultKey {
    fn of(id: &ResourceId, key: Option<&JsonWebKey>, attributes: Option<&KeyAttributes>) -> Self {
        let part =
            |part: fn(&JsonWebKey) -> &Option<Vec<u8>>| key.and_then(|key| part(key).clone()).unwrap_or_default();
        Self {
            version: id.version.clone().unwrap_or_default(),
            n: part(|key| &key.n),
            e: part(|key| &key.e),
            expires: attributes.and_then(|attributes| attributes.expires),
            enabled: attributes.is_none_or(|attributes| attributes.enabled != Some(false)),
            created: attributes.and_then(|attributes| attributes.created),
        }
    }
}

fn public_half(key: &Key) -> Option<VaultKey> {
    Some(VaultKey::of(&key.resource_id().ok()?, key.key.as_ref(), key.attributes.as_ref()))
}

async fn get(client: &KeyClient, name: &str, version: Option<&str>) -> azure_core::Result<Key> {
    let options =
        KeyClientGetKeyOptions { key_version: version.map(str::to_owned), ..KeyClientGetKeyOptions::default() };
    client.get_key(name, Some(options)).await?.into_model()
}

async fn create(
    client: &KeyClient,
    name: &str,
    parameters: RequestContent<CreateKeyParameters>,
) -> azure_core::Result<Key> {
    client.create_key(name, parameters, None).await?.into_model()
}

async fn list_keys(client: &KeyClient) -> azure_core::Result<Vec<KeyProperties>> {
    client.list_key_properties(None)?.try_collect().await
}

async fn list_versions(client: &KeyClient, name: &str) -> azure_core::Result<Vec<KeyProperties>> {
    client.list_key_properties_versions(name, None)?.try_collect().await
}
