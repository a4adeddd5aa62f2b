//! Keys: wrapped ones in, File and Column key out.
//!
//! [`details`] reads wrapped keys from JSON, [`viva_api`] asks Microsoft for them, [`unwrap`] opens them with the tenant's
//! RSA key, which a [`vault`] keeps, or a file. Key material lives in types that zero themselves on drop and print as `…`.

pub(crate) mod answer;
pub mod custody;
pub mod details;
pub mod unwrap;
pub mod vault;
pub mod viva_api;

use std::{fmt, sync::Arc};

use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use self::{
    unwrap::{KeyWrap, PrivateKeys},
    viva_api::VivaApi,
};
use crate::{
    drop::{TenantId, discover::DropContents, metadata::JobMetadata},
    store::{ReadWholeError, Store, read_whole},
    verdict::{Reason, Verdict},
};

/// The largest key details that are read. Microsoft's have under a thousand bytes.
const LARGEST_DETAILS: u64 = 1 << 20;

/// An AES-256 key with the IV it is used with.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct AesKey {
    /// 32 bytes of key.
    pub key: [u8; 32],
    /// 16 bytes of initialization vector: CBC's first block, or CTR's first counter (big-endian).
    pub iv: [u8; 16],
}

impl fmt::Debug for AesKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AesKey(…)")
    }
}

/// The keys of one drop. They are shared, not copied: what is moved leaves a copy behind.
#[derive(Debug, Clone, Default)]
pub struct Keys {
    /// Decrypts the files; absent only for drops without any keys, which can hold plain rows alone.
    pub file: Option<Arc<AesKey>>,
    /// Decrypts the encrypted columns; absent when the customer has not consented.
    pub column: Option<Arc<AesKey>>,
}

/// A key as it travels: encrypted with the tenant's public RSA key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrappedKey {
    /// The RSA ciphertext: 256 bytes for RSA-2048.
    pub value: Vec<u8>,
    /// The initialization vector, which travels in the clear.
    pub iv: [u8; 16],
}

/// The wrapped keys of one drop.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WrappedKeys {
    /// The File key.
    pub file: Option<WrappedKey>,
    /// The Column key.
    pub column: Option<WrappedKey>,
    /// Which version of the private key unwraps them, when the drop says so.
    pub public_key_version: Option<String>,
}

/// Where the keys of a drop come from.
#[derive(Debug)]
pub struct KeySource {
    /// What opens them.
    pub private_keys: Arc<dyn PrivateKeys>,
    /// How they are wrapped.
    pub wrap: KeyWrap,
    /// Who is asked for them when the drop does not bring them.
    pub api: VivaApi,
    /// Whether a drop may do without: with `ALLOW_PLAINTEXT`, sample data comes without any keys.
    pub may_be_missing: bool,
}

impl KeySource {
    /// The keys of a drop: its own key details before those of its metadata, and the API's where it has neither.
    pub async fn keys_of(
        &self,
        store: &dyn Store,
        contents: &DropContents,
        metadata: &JobMetadata,
        tenant: TenantId,
    ) -> Result<Keys, KeyError> {
        let mut wrapped = match wrapped_in_drop(store, contents, metadata).await? {
            Some(wrapped) => wrapped,
            None => match self.ask(metadata, tenant).await {
                Err(KeyError::Refused(why)) if self.may_be_missing => {
                    tracing::warn!(drop.path = %contents.path, "going on without keys, for plain rows alone: {why}");
                    return Ok(Keys::default());
                }
                answer => answer?,
            },
        };
        if wrapped.public_key_version.is_none() {
            wrapped.public_key_version.clone_from(&metadata.public_key_version);
        }
        unwrap::unwrap_keys(&*self.private_keys, tenant, self.wrap, &wrapped).await
    }

    async fn ask(&self, metadata: &JobMetadata, tenant: TenantId) -> Result<WrappedKeys, KeyError> {
        let Some(request) = &metadata.copy_activity_id else {
            let why = "the job metadata has no CopyActivityId to ask the Viva Insights API with, and no key details";
            return Err(KeyError::Refused(why.into()));
        };
        self.api.egress_decryption_key(request, tenant).await
    }
}

/// The wrapped keys that the drop brings itself, if it does.
pub async fn wrapped_in_drop(
    store: &dyn Store,
    contents: &DropContents,
    metadata: &JobMetadata,
) -> Result<Option<WrappedKeys>, KeyError> {
    let mut wrapped = WrappedKeys::default();
    if let Some(blob) = &contents.key_details {
        let unreadable = |why: &dyn fmt::Display| KeyError::Refused(format!("the key details cannot be read: {why}"));
        let bytes = read_whole(store, blob, LARGEST_DETAILS).await.map_err(|error| match error {
            ReadWholeError::TooLarge { .. } => unreadable(&error),
            ReadWholeError::Store(source) => KeyError::Unavailable { what: "the store".into(), source: source.into() },
        })?;
        let object = details::first_object(&bytes).map_err(|error| unreadable(&format!("`{}` {error}", blob.path)))?;
        wrapped = details::wrapped_keys(&object.into())?;
    }
    if let (None, Some(in_metadata)) = (&wrapped.file, &metadata.decryption_key_details) {
        wrapped = details::wrapped_keys(in_metadata)?;
    }
    if wrapped.public_key_version.is_none() {
        wrapped.public_key_version.clone_from(&metadata.public_key_version);
    }
    Ok((wrapped.file.is_some() || wrapped.column.is_some()).then_some(wrapped))
}

/// What an unwrapped value may be: secret bytes of any length, zeroed on drop.
pub type SecretBytes = Zeroizing<Vec<u8>>;

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The API or the vault refuses, or there is no private key for the tenant. The drop is set aside.
    #[error("{0}")]
    Refused(String),
    /// A key does not unwrap, or what comes out is no AES-256 key. The drop is set aside.
    #[error("{0}")]
    Wrong(String),
    /// The API, the vault or the token service did not answer. The drop is tried again.
    #[error("{what} did not answer")]
    Unavailable {
        /// Who did not answer.
        what: String,
        /// What happened.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The token service refuses us: a secret that expired, say. That is our own affair and no drop's: the drop is tried
    /// again, and the sweep finds it once the settings are right. Asking again at once is of no use.
    #[error("there is no token for {what} ({why}): {todo}")]
    NoToken {
        /// Who was to be asked with it.
        what: String,
        /// What came of asking for one.
        why: String,
        /// What to mend.
        todo: &'static str,
    },
}

impl KeyError {
    /// What the failure means for the drop.
    pub fn verdict(&self) -> Verdict {
        match self {
            Self::Refused(_) => Verdict::SetAside(Reason::NoKey),
            Self::Wrong(_) => Verdict::SetAside(Reason::WrongKey),
            Self::Unavailable { .. } | Self::NoToken { .. } => Verdict::Retry,
        }
    }
}
