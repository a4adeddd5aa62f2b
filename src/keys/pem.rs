//! Private keys in PEM files: [`PemFolder`] has a file per tenant, [`PemFile`] is one file.
//!
//! A file is read whenever its key is needed, so a new customer's key works without a restart. The text and the DER of
//! the key are zeroed after parsing; the parsed key zeroes itself on drop.

mod folder;
mod parse;

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use async_trait::async_trait;
use rsa::{Oaep, Pkcs1v15Encrypt, RsaPrivateKey, rand_core::OsRng, sha2::Sha256, traits::PublicKeyParts};
use sha1::Sha1;
use tokio::task::spawn_blocking;
use zeroize::Zeroizing;

pub use self::folder::PemFolder;
use super::{
    KeyError, SecretBytes,
    unwrap::{Padding, PrivateKeys},
};
use crate::{drop::TenantId, wipe::with_stack_wiped};

/// Size limit for a PEM file. An RSA-4096 key has 3 KiB.
const MAX_FILE_BYTES: usize = 64 * 1024;

/// One file, which is used for every tenant.
#[derive(Debug, Clone)]
pub struct PemFile {
    path: PathBuf,
}

impl PemFile {
    /// The key in the file at `path`. Reads nothing yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }
}

#[async_trait]
impl PrivateKeys for PemFile {
    async fn decrypt(
        &self,
        _tenant: TenantId,
        _version: Option<&str>,
        padding: Padding,
        wrapped: &[u8],
    ) -> Result<Option<SecretBytes>, KeyError> {
        let path = self.path.clone();
        let wrapped = wrapped.to_vec();
        blocking(move || Ok(decrypt(&read_key(&path)?, padding, &wrapped))).await
    }
}

/// Runs `work` on a blocking thread: file access and RSA take milliseconds, which would block the event loop.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, KeyError> + Send + 'static,
) -> Result<T, KeyError> {
    spawn_blocking(|| with_stack_wiped(work))
        .await
        .unwrap_or_else(|error| Err(KeyError::unavailable("the thread that unwraps keys", error)))
}

fn read_key(path: &Path) -> Result<RsaPrivateKey, KeyError> {
    let text = read_text(path).map_err(|error| read_error(path, error))?;
    parse::private_key(&text).map_err(|invalid| KeyError::NoKey(format!("`{}` {invalid}", path.display())))
}

/// Reads the file into a buffer that never grows: growing would leave copies of the key in memory.
fn read_text(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut text = Zeroizing::new(Vec::with_capacity(MAX_FILE_BYTES + 1));
    File::open(path)?.take(MAX_FILE_BYTES as u64).read_to_end(&mut text)?;
    Ok(text)
}

/// Classifies a failure to read a file or folder. Only a missing file means that the tenant has no key: a permission or
/// a mount can be corrected, and every other error may come from a file share that is temporarily unavailable.
fn read_error(path: &Path, error: io::Error) -> KeyError {
    let path = path.display();
    match error.kind() {
        io::ErrorKind::NotFound => KeyError::NoKey(format!("there is no private key `{path}`")),
        io::ErrorKind::PermissionDenied | io::ErrorKind::IsADirectory | io::ErrorKind::NotADirectory => {
            KeyError::Misconfigured(format!("private keys cannot be read from `{path}`: {error}; check PRIVATE_KEYS"))
        }
        _ => KeyError::unavailable(format!("the storage of `{path}`"), error),
    }
}

/// RSA decryption, blinded against timing attacks. `None` if `wrapped` does not decrypt with this padding.
fn decrypt(key: &RsaPrivateKey, padding: Padding, wrapped: &[u8]) -> Option<SecretBytes> {
    // A wrapped key is as long as the modulus. PKCS#1 v1.5 would accept a shorter one as if it had leading zeros.
    if wrapped.len() != key.size() {
        return None;
    }
    let plain = match padding {
        Padding::Oaep => key.decrypt_blinded(&mut OsRng, Oaep::new::<Sha1>(), wrapped),
        Padding::Oaep256 => key.decrypt_blinded(&mut OsRng, Oaep::new::<Sha256>(), wrapped),
        Padding::Pkcs1v15 => key.decrypt_blinded(&mut OsRng, Pkcs1v15Encrypt, wrapped),
    };
    plain.ok().map(Zeroizing::new)
}
