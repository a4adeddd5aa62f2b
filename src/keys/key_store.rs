//! Key management: creates tenants' RSA key pairs, reads their public keys, and states when they expire.
//!
//! [`KeyStore`] has two implementations: a [`Vault`](super::vault::Vault) and a folder of PEM files
//! ([`PemFolder`](super::pem::PemFolder)). `onboard`, `check` and the sweep use it; a run only needs its supertrait
//! [`PrivateKeys`].

use async_trait::async_trait;
use rsa::{BigUint, Oaep, Pkcs1v15Encrypt, RsaPublicKey, rand_core::OsRng, sha2::Sha256};
use sha1::Sha1;
use sha2::Digest;
use time::OffsetDateTime;

use super::{
    KeyError,
    unwrap::{Padding, PrivateKeys},
};
use crate::{drop::TenantId, hex::hex};

/// Stores the tenants' key pairs.
#[async_trait]
pub trait KeyStore: PrivateKeys {
    /// The tenant's current key, or `None` if the tenant has no key.
    async fn current(&self, tenant: TenantId) -> Result<Option<PublicKey>, KeyError>;

    /// Creates an RSA-2048 key for `tenant` that expires at `expires`.
    ///
    /// Keeps the tenant's previous keys, because they still unwrap the keys of older drops.
    async fn create(&self, tenant: TenantId, expires: OffsetDateTime) -> Result<PublicKey, KeyError>;

    /// Disables every key of `tenant`, so that nothing can be decrypted with them until a person enables them again.
    /// Returns how many keys this call has disabled.
    async fn disable(&self, tenant: TenantId) -> Result<usize, KeyError>;

    /// The current key of every tenant.
    async fn all(&self) -> Result<Vec<(TenantId, PublicKey)>, KeyError>;

    /// The URL or file of the tenant's key, for messages. The key need not exist.
    fn location(&self, tenant: TenantId) -> String;
}

/// The public half of a tenant's key pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    /// The version: which of the tenant's keys this is.
    pub version: String,
    /// The modulus, big-endian, without leading zeros. Empty if the vault does not show it: the key is disabled or not
    /// RSA.
    pub modulus: Vec<u8>,
    /// The public exponent, big-endian, without leading zeros.
    pub exponent: Vec<u8>,
    /// When the key expires.
    pub expiry: KeyExpiry,
    /// Whether the key store allows using the key.
    pub enabled: bool,
}

/// When a key expires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyExpiry {
    /// At this time.
    At(OffsetDateTime),
    /// Never: the key store supports an expiry date, and the key has none.
    Never,
    /// Unknown: the key store does not record expiry dates.
    Unknown,
}

impl PublicKey {
    /// The SHA-256 of the modulus, in hexadecimal. Identifies the key pair.
    pub fn thumbprint(&self) -> String {
        hex(&sha2::Sha256::digest(&self.modulus))
    }

    /// The length of the modulus in bits.
    pub fn bits(&self) -> usize {
        BigUint::from_bytes_be(&self.modulus).bits()
    }

    /// Encrypts `plain` for the private key. Returns `None` if this is not a usable RSA key.
    pub fn wrap(&self, padding: Padding, plain: &[u8]) -> Option<Vec<u8>> {
        let [modulus, exponent] = [&self.modulus, &self.exponent].map(|bytes| BigUint::from_bytes_be(bytes));
        let key = RsaPublicKey::new(modulus, exponent).ok()?;
        match padding {
            Padding::Oaep => key.encrypt(&mut OsRng, Oaep::new::<Sha1>(), plain),
            Padding::Oaep256 => key.encrypt(&mut OsRng, Oaep::new::<Sha256>(), plain),
            Padding::Pkcs1v15 => key.encrypt(&mut OsRng, Pkcs1v15Encrypt, plain),
        }
        .ok()
    }
}
