//! Tenants' key pairs, as far as onboarding and checking know them: the public halves, and when they lapse.
//!
//! Where the private halves are kept is behind [`KeyCustody`]: in a vault, or in a folder of PEM files.

use std::fmt;

use async_trait::async_trait;
use rsa::{BigUint, Oaep, Pkcs1v15Encrypt, RsaPublicKey, rand_core::OsRng, sha2::Sha256};
use sha1::Sha1;
use sha2::Digest;
use time::OffsetDateTime;

use super::{KeyError, unwrap::Padding};
use crate::drop::TenantId;

/// Makes and keeps the key pairs of tenants.
#[async_trait]
pub trait KeyCustody: fmt::Debug + Send + Sync + 'static {
    /// The newest key of `tenant`, if there is one.
    async fn current(&self, tenant: TenantId) -> Result<Option<PublicKey>, KeyError>;

    /// Makes an RSA-2048 key for `tenant` that is of use until `expires`. A key that is there already is kept beside it, for
    /// drops whose keys were wrapped with that one.
    async fn create(&self, tenant: TenantId, expires: OffsetDateTime) -> Result<PublicKey, KeyError>;

    /// The newest key of every tenant.
    async fn all(&self) -> Result<Vec<(TenantId, PublicKey)>, KeyError>;

    /// Where the key of `tenant` is kept, for a person.
    fn place(&self, tenant: TenantId) -> String;
}

/// The public half of a tenant's key pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    /// Which of the tenant's keys it is.
    pub version: String,
    /// Big-endian, without leading zeros.
    pub modulus: Vec<u8>,
    /// Big-endian, without leading zeros.
    pub exponent: Vec<u8>,
    /// Until when it is of use.
    pub expiry: Expiry,
    /// Whether its keeper lets it be used.
    pub enabled: bool,
}

/// Until when a key is of use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expiry {
    /// Until then.
    At(OffsetDateTime),
    /// For ever: its keeper could say when it expires, and nobody told it.
    Never,
    /// Whoever keeps it does not keep that.
    NotKept,
}

impl PublicKey {
    /// What tells two keys apart: the SHA-256 of the modulus.
    pub fn thumbprint(&self) -> String {
        sha2::Sha256::digest(&self.modulus).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The length of the modulus.
    pub fn bits(&self) -> usize {
        BigUint::from_bytes_be(&self.modulus).bits()
    }

    /// Encrypts `plain` so that the private half decrypts it. `None` where it is no usable RSA key.
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
