//! Keys: obtains the wrapped keys of a drop and unwraps them to its File and Column key.
//!
//! [`details`] parses wrapped keys from JSON and [`viva_api`] requests them from Microsoft. [`unwrap`](mod@unwrap)
//! decrypts them with the tenant's RSA key, which is in a key store: a Key Vault ([`vault`]) or a folder of PEM files
//! ([`pem`]). Types with key material zero themselves on drop and do not print it.

pub mod details;
pub mod key_store;
pub mod pem;
pub mod unwrap;
pub mod vault;
pub mod viva_api;

use std::{fmt, sync::Arc, time::Duration};

use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use self::{
    unwrap::{KeyWrap, PrivateKeys},
    viva_api::VivaApi,
};
use crate::{
    drop::{TenantId, discover::DropContents, metadata::JobMetadata},
    json::first_object,
    retry::{GaveUp, RetryBudget},
    store::{ReadWholeError, Store, read_whole},
    verdict::{Reason, Verdict},
};

/// Size limit for key details. Microsoft's have less than 1,000 bytes.
const MAX_DETAILS_BYTES: u64 = 1 << 20;

/// An AES-256 key and its initialization vector.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct AesKey {
    /// The key: 32 bytes.
    pub key: [u8; 32],
    /// The initialization vector: CBC's first block, or CTR's first counter (big-endian).
    pub iv: [u8; 16],
}

impl fmt::Debug for AesKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AesKey(…)")
    }
}

/// The keys of one drop. They are shared, because moving or copying a key would leave a copy in memory that is not
/// zeroed.
#[derive(Debug, Clone, Default)]
pub struct Keys {
    /// Decrypts the files. If it is absent, only files that are not encrypted can be read.
    pub file: Option<Arc<AesKey>>,
    /// Decrypts the encrypted columns. Absent if the customer has not consented.
    pub column: Option<Arc<AesKey>>,
}

/// A key that is encrypted with the tenant's public RSA key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrappedKey {
    /// The RSA ciphertext: 256 bytes for RSA-2048.
    pub value: Vec<u8>,
    /// The initialization vector, which is not encrypted.
    pub iv: [u8; 16],
}

/// The wrapped keys of one drop.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WrappedKeys {
    /// The File key.
    pub file: Option<WrappedKey>,
    /// The Column key.
    pub column: Option<WrappedKey>,
    /// The version of the private key that unwraps them, if the drop names one.
    pub public_key_version: Option<String>,
}

/// Time limits for calls to the vault or the Viva Insights API.
#[derive(Debug, Clone, Copy)]
pub struct CallLimits {
    /// Wait between tries, and total time for tries.
    pub retry: RetryBudget,
    /// Timeout for one try.
    pub try_timeout: Duration,
}

/// Timeout for one call to the vault or the API.
pub(crate) const TRY_TIMEOUT: Duration = Duration::from_secs(30);

/// 30 s per try, and tries for 2 minutes.
impl Default for CallLimits {
    fn default() -> Self {
        Self { retry: RetryBudget::lasting(Duration::from_secs(120)), try_timeout: TRY_TIMEOUT }
    }
}

/// Obtains the keys of drops.
#[derive(Debug)]
pub struct KeySource {
    /// The tenants' private keys, which unwrap the drops' keys.
    pub private_keys: Arc<dyn PrivateKeys>,
    /// `KEY_WRAP`: the paddings to try.
    pub wrap: KeyWrap,
    /// Provides the wrapped keys of drops that do not contain them.
    pub api: VivaApi,
    /// `ALLOW_PLAINTEXT`: a drop without keys is accepted, because sample data comes without keys.
    pub may_be_missing: bool,
}

impl KeySource {
    /// Obtains and unwraps the keys of a drop.
    ///
    /// The first source that has keys is used: the drop's key details, its job metadata, the Viva Insights API.
    pub async fn keys_of(
        &self,
        store: &dyn Store,
        contents: &DropContents,
        metadata: &JobMetadata,
        tenant: TenantId,
    ) -> Result<Keys, KeyError> {
        let mut wrapped = match wrapped_in_drop(store, contents, metadata).await? {
            Some(wrapped) => wrapped,
            None => match self.request(metadata, tenant).await {
                // Only if the API has no keys for this drop. If the API denies access, the drop may have keys, so the
                // drop is retried.
                Err(KeyError::NoKey(why)) if self.may_be_missing => {
                    tracing::warn!(drop.path = %contents.path, "continuing without keys, for plaintext rows only: {why}");
                    return Ok(Keys::default());
                }
                requested => requested?,
            },
        };
        if wrapped.public_key_version.is_none() {
            wrapped.public_key_version.clone_from(&metadata.public_key_version);
        }
        unwrap::unwrap_keys(&*self.private_keys, tenant, self.wrap, &wrapped).await
    }

    /// Requests the wrapped keys from the Viva Insights API.
    async fn request(&self, metadata: &JobMetadata, tenant: TenantId) -> Result<WrappedKeys, KeyError> {
        let Some(request) = &metadata.copy_activity_id else {
            let why = "the drop has no key details, and its job metadata has no CopyActivityId with which to request the \
                       keys from the Viva Insights API";
            return Err(KeyError::NoKey(why.into()));
        };
        self.api.egress_decryption_key(request, tenant).await
    }
}

/// The wrapped keys that the drop itself contains, in its key details or else in its job metadata.
pub async fn wrapped_in_drop(
    store: &dyn Store,
    contents: &DropContents,
    metadata: &JobMetadata,
) -> Result<Option<WrappedKeys>, KeyError> {
    let mut wrapped = WrappedKeys::default();
    if let Some(blob) = &contents.key_details {
        let unreadable = |why: &dyn fmt::Display| KeyError::NoKey(format!("the key details cannot be read: {why}"));
        let bytes = read_whole(store, blob, MAX_DETAILS_BYTES).await.map_err(|error| match error {
            ReadWholeError::TooLarge { .. } => unreadable(&error),
            ReadWholeError::Store(source) => KeyError::unavailable("the store", source),
        })?;
        let details = first_object(&bytes).map_err(|error| unreadable(&format!("`{}` {error}", blob.path)))?;
        wrapped = details::wrapped_keys(&details)?;
    }
    if let (None, Some(in_metadata)) = (&wrapped.file, &metadata.decryption_key_details) {
        wrapped = details::wrapped_keys(in_metadata)?;
    }
    if wrapped.public_key_version.is_none() {
        wrapped.public_key_version.clone_from(&metadata.public_key_version);
    }
    Ok((wrapped.file.is_some() || wrapped.column.is_some()).then_some(wrapped))
}

/// An unwrapped value: secret bytes of any length, zeroed on drop.
pub type SecretBytes = Zeroizing<Vec<u8>>;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why the keys of a drop, or a tenant's key pair, are not available.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The API, the vault or the folder has no usable key for this drop. The drop is set aside.
    #[error("{0}")]
    NoKey(String),
    /// The tenant's key has no such version. The drop's keys may have been wrapped for another version; if none
    /// unwraps them, the drop is set aside.
    #[error("{0}")]
    NoVersion(String),
    /// The vault does not decrypt with this version of the tenant's key: it is disabled, outside its dates, or does not
    /// permit decryption. Another version may unwrap the drop's keys; if none does, the drop is retried, because a
    /// person can enable the version.
    #[error("{0}")]
    UnusableVersion(String),
    /// A wrapped key is malformed, does not unwrap, or the unwrapped value is not an AES-256 key. The drop is set
    /// aside.
    #[error("{0}")]
    WrongKey(String),
    /// The service denies access, or does not answer like the API or a vault, until a person corrects a permission or a
    /// setting. The text says which. The drop is retried by a later run, because it is not at fault.
    #[error("{0}")]
    Misconfigured(String),
    /// The API, the vault or the token service did not answer. The drop is retried.
    #[error("{what} did not answer")]
    Unavailable {
        /// The service.
        what: String,
        /// The cause.
        source: BoxError,
        /// The wait that the service asked for with `Retry-After`, if it is longer than what was left of the retry
        /// budget; at most [`MAX_RETRY_AFTER`](crate::retry::MAX_RETRY_AFTER).
        retry_after: Option<Duration>,
    },
    /// The token service rejects our credentials, such as an expired client secret.
    ///
    /// The settings are at fault, not the drop. The drop is retried, but not immediately: the sweep runs it once the
    /// settings are fixed.
    #[error("there is no token for {what} ({why}): {todo}")]
    NoToken {
        /// The service that the token is for.
        what: String,
        /// The token service's response.
        why: String,
        /// How to fix it.
        todo: &'static str,
    },
}

impl KeyError {
    /// The service `what` did not answer.
    pub(crate) fn unavailable(what: impl Into<String>, source: impl Into<BoxError>) -> Self {
        Self::Unavailable { what: what.into(), source: source.into(), retry_after: None }
    }

    /// How long the service asked to wait before the next run, if it did.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Unavailable { retry_after, .. } => *retry_after,
            Self::NoKey(_)
            | Self::NoVersion(_)
            | Self::UnusableVersion(_)
            | Self::WrongKey(_)
            | Self::Misconfigured(_)
            | Self::NoToken { .. } => None,
        }
    }

    /// Whether the drop is retried or set aside.
    pub fn verdict(&self) -> Verdict {
        match self {
            Self::NoKey(_) | Self::NoVersion(_) => Verdict::SetAside(Reason::NoKey),
            Self::WrongKey(_) => Verdict::SetAside(Reason::WrongKey),
            Self::UnusableVersion(_) | Self::Misconfigured(_) | Self::Unavailable { .. } | Self::NoToken { .. } => {
                Verdict::Retry
            }
        }
    }
}

/// The error of a call that was retried.
impl From<GaveUp<Self>> for KeyError {
    fn from(gave_up: GaveUp<Self>) -> Self {
        match gave_up {
            GaveUp::BudgetSpent(Self::Unavailable { what, source, .. }, spent) => {
                Self::Unavailable { what, source, retry_after: spent.retry_after }
            }
            GaveUp::BudgetSpent(error, _) | GaveUp::Permanent(error) => error,
        }
    }
}
