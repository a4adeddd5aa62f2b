//! The keys of a simulated drop: generated, wrapped with the tenant's key, and written to files for `decode` and for a
//! stub of the Viva Insights API.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    path::Path,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use rsa::{
    Oaep, Pkcs1v15Encrypt, RsaPrivateKey,
    pkcs1::DecodeRsaPrivateKey,
    pkcs8::{DecodePrivateKey, EncodePrivateKey, LineEnding},
    rand_core::{OsRng, RngCore},
    sha2::Sha256,
    traits::PublicKeyParts,
};
use serde::Serialize;
use sha1::Sha1;
use zeroize::Zeroizing;

use super::{Padding, SimulateError};
use crate::keys::AesKey;

const RSA_BITS: usize = 2048;

/// Both keys of a drop.
pub(super) struct DropKeys {
    /// Encrypts the files.
    pub(super) file: AesKey,
    /// Encrypts the columns.
    pub(super) column: AesKey,
}

impl DropKeys {
    /// Two keys from the system's random number generator.
    pub(super) fn random() -> Self {
        Self { file: random_key(), column: random_key() }
    }
}

fn random_key() -> AesKey {
    let mut generated = AesKey { key: [0; 32], iv: [0; 16] };
    OsRng.fill_bytes(&mut generated.key);
    OsRng.fill_bytes(&mut generated.iv);
    generated
}

/// Reads the tenant's private key, or generates one if no path is given.
pub(super) fn private_key(path: Option<&Path>) -> Result<RsaPrivateKey, SimulateError> {
    let Some(path) = path else {
        return RsaPrivateKey::new(&mut OsRng, RSA_BITS).map_err(SimulateError::Keys);
    };
    let pem = fs::read_to_string(path).map(Zeroizing::new);
    let pem = pem.map_err(|source| SimulateError::UnreadablePrivateKey { path: path.into(), source })?;
    let key = RsaPrivateKey::from_pkcs8_pem(&pem).or_else(|_| RsaPrivateKey::from_pkcs1_pem(&pem));
    key.ok().filter(|key| key.n().bits() == RSA_BITS).ok_or_else(|| SimulateError::InvalidPrivateKey(path.into()))
}

/// Writes the private key as PKCS#8. Only the owner can read the file.
pub(super) fn write_private_key(key: &RsaPrivateKey, path: &Path) -> Result<(), SimulateError> {
    let pem = key.to_pkcs8_pem(LineEnding::LF).map_err(io::Error::other);
    pem.and_then(|pem| create_secret(path)?.write_all(pem.as_bytes())).map_err(SimulateError::writing(path))
}

fn create_secret(path: &Path) -> io::Result<fs::File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// A wrapped key in the format of the API and of the job metadata.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct KeyDetails {
    decryption_key_type: &'static str,
    value: String,
    #[serde(rename = "IV")]
    iv: String,
}

/// The response of `egressDecryptionKey`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Answer<'a> {
    decryption_keys: &'a [KeyDetails],
}

impl<'a> Answer<'a> {
    pub(super) fn new(decryption_keys: &'a [KeyDetails]) -> Self {
        Self { decryption_keys }
    }
}

/// Wraps both keys with the tenant's public key.
pub(super) fn wrap(keys: &DropKeys, tenant: &RsaPrivateKey, padding: Padding) -> Result<Vec<KeyDetails>, rsa::Error> {
    let wrapped = |kind, key: &AesKey| -> Result<_, rsa::Error> {
        let public = tenant.as_ref();
        let value = match padding {
            Padding::Oaep => public.encrypt(&mut OsRng, Oaep::new::<Sha1>(), &key.key),
            Padding::Oaep256 => public.encrypt(&mut OsRng, Oaep::new::<Sha256>(), &key.key),
            Padding::Pkcs1v15 => public.encrypt(&mut OsRng, Pkcs1v15Encrypt, &key.key),
        };
        Ok(KeyDetails { decryption_key_type: kind, value: STANDARD.encode(value?), iv: STANDARD.encode(key.iv) })
    };
    Ok(vec![wrapped("Column", &keys.column)?, wrapped("File", &keys.file)?])
}
