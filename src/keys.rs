//! Keys: wrapped ones in, File and Column key out.
//!
//! [`details`] reads wrapped keys from JSON, [`viva_api`] asks Microsoft for them, [`unwrap`] opens them with the tenant's
//! RSA key. Key material lives in types that zero themselves on drop and print as `…`.

pub mod details;
pub mod unwrap;
pub mod viva_api;

use std::fmt;

use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::verdict::{Reason, Verdict};

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

/// The keys of one drop.
#[derive(Debug, Clone, Default)]
pub struct Keys {
    /// Decrypts the files; absent only for drops without any keys, which can hold plain rows alone.
    pub file: Option<AesKey>,
    /// Decrypts the encrypted columns; absent when the customer has not consented.
    pub column: Option<AesKey>,
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
}

impl KeyError {
    /// What the failure means for the drop.
    pub fn verdict(&self) -> Verdict {
        match self {
            Self::Refused(_) => Verdict::SetAside(Reason::NoKey),
            Self::Wrong(_) => Verdict::SetAside(Reason::WrongKey),
            Self::Unavailable { .. } => Verdict::TryAgain,
        }
    }
}
