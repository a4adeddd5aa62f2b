//! Private keys in PEM files: one folder for all tenants, or one file for whoever asks.
//!
//! A file is read when it is needed, so that a new customer's key is found without a restart. Text and DER are zeroed once
//! the key is parsed; the key zeroes itself.

mod custody;

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

use async_trait::async_trait;
use base64::{Engine, decoded_len_estimate};
use rsa::{
    Oaep, Pkcs1v15Encrypt, RsaPrivateKey, pkcs1::DecodeRsaPrivateKey, pkcs8::DecodePrivateKey, rand_core::OsRng,
    sha2::Sha256, traits::PublicKeyParts,
};
use sha1::Sha1;
use tokio::task::spawn_blocking;
use zeroize::Zeroizing;

use super::{BASE64, Padding, PrivateKeys};
use crate::{
    drop::TenantId,
    keys::{KeyError, SecretBytes},
    wipe::with_stack_wiped,
};

/// More than this is no key: an RSA-4096 key takes 3 KiB.
const LARGEST_FILE: usize = 64 * 1024;

/// The smallest modulus, in bits.
const SMALLEST_KEY: usize = 2048;

/// A folder that has `{tenantId}.pem` for each tenant, and `{tenantId}.{version}.pem` for every key that was made for it.
#[derive(Debug, Clone)]
pub struct PemFolder {
    folder: PathBuf,
}

impl PemFolder {
    /// The keys in `folder`, which is not looked at before the first key is needed.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }
}

#[async_trait]
impl PrivateKeys for PemFolder {
    async fn decrypt(
        &self,
        tenant: TenantId,
        _version: Option<&str>,
        padding: Padding,
        wrapped: &[u8],
    ) -> Result<Option<SecretBytes>, KeyError> {
        let folder = self.folder.clone();
        let wrapped = wrapped.to_vec();
        on_worker(move || {
            let files = custody::files_of(&folder, tenant).map_err(|error| unreadable(&folder, error))?;
            if files.is_empty() {
                return Err(KeyError::Refused(format!(
                    "there is no private key for tenant `{tenant}`: expected `{}`, which \
                     `vivadrop onboard --tenant {tenant}` makes",
                    expected(&folder, tenant).display()
                )));
            }
            // A drop may still be under way whose keys were wrapped with the key before the newest.
            for path in files {
                if let Some(plain) = remove_padding(&read(&path)?, padding, &wrapped) {
                    return Ok(Some(plain));
                }
            }
            Ok(None)
        })
        .await
    }
}

/// One file, whichever tenant is asked for: the drop's owner is who has the key.
#[derive(Debug, Clone)]
pub struct PemFile {
    path: PathBuf,
}

impl PemFile {
    /// The key in the file at `path`, which is not looked at before the key is needed.
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
        on_worker(move || Ok(remove_padding(&read(&path)?, padding, &wrapped))).await
    }
}

/// Reading files and RSA take milliseconds that the event loop does not have.
async fn on_worker<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, KeyError> + Send + 'static,
) -> Result<T, KeyError> {
    spawn_blocking(|| with_stack_wiped(work)).await.unwrap_or_else(|stopped| {
        Err(KeyError::Unavailable { what: "the thread that unwraps keys".to_owned(), source: stopped.into() })
    })
}

fn expected(folder: &Path, tenant: TenantId) -> PathBuf {
    folder.join(format!("{tenant}.pem"))
}

/// The tenant's file. Its name is in small letters; one that a person named may be in any.
fn find(folder: &Path, tenant: TenantId) -> io::Result<Option<PathBuf>> {
    let expected = expected(folder, tenant);
    if expected.exists() {
        return Ok(Some(expected));
    }
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        entries => entries?,
    };
    for entry in entries {
        let path = entry?.path();
        let is_it = |name: &OsStr| Some(name.to_ascii_lowercase().as_os_str()) == expected.file_name();
        if path.file_name().is_some_and(is_it) {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

fn read(path: &Path) -> Result<RsaPrivateKey, KeyError> {
    let text = read_text(path).map_err(|error| unreadable(path, error))?;
    parse(&text).map_err(|wrong| KeyError::Refused(format!("`{}` {wrong}", path.display())))
}

/// What an unreadable file or folder means: a share that is gone for a moment comes back, permissions do not by themselves.
fn unreadable(path: &Path, error: io::Error) -> KeyError {
    let path = path.display();
    match error.kind() {
        io::ErrorKind::NotFound => KeyError::Refused(format!("there is no private key `{path}`")),
        io::ErrorKind::PermissionDenied | io::ErrorKind::IsADirectory | io::ErrorKind::NotADirectory => {
            KeyError::Refused(format!("private keys cannot be read from `{path}`: {error}"))
        }
        _ => KeyError::Unavailable { what: format!("the storage of `{path}`"), source: error.into() },
    }
}

/// Reads the file into memory that is large enough from the start: growing would leave copies behind.
fn read_text(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut text = Zeroizing::new(Vec::with_capacity(LARGEST_FILE + 1));
    File::open(path)?.take(LARGEST_FILE as u64).read_to_end(&mut text)?;
    Ok(text)
}

/// Why a PEM file is of no use, as the end of a sentence that begins with its name.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum NotUsable {
    #[error("is no PEM file: expected a block `-----BEGIN PRIVATE KEY-----` or `-----BEGIN RSA PRIVATE KEY-----`")]
    NoPem,
    #[error("is encrypted with a password: expected a private key without one, as `openssl pkey` writes it")]
    Encrypted,
    #[error("has a block `{0}` where a private key is expected: `PRIVATE KEY` (PKCS#8) or `RSA PRIVATE KEY` (PKCS#1)")]
    Other(String),
    #[error("is damaged, or no RSA key of 2048 to 4096 bits")]
    Damaged,
    #[error("is an RSA key of {0} bits where at least 2048 are needed")]
    TooSmall(usize),
}

fn parse(text: &[u8]) -> Result<RsaPrivateKey, NotUsable> {
    let text = std::str::from_utf8(text).map_err(|_| NotUsable::NoPem)?;
    let (label, body) = private_block(text).ok_or(NotUsable::NoPem)?;
    if label == "ENCRYPTED PRIVATE KEY" || body.contains("ENCRYPTED") {
        return Err(NotUsable::Encrypted);
    }
    let key = match label {
        "PRIVATE KEY" => RsaPrivateKey::from_pkcs8_der(&der(body)?).ok(),
        "RSA PRIVATE KEY" => RsaPrivateKey::from_pkcs1_der(&der(body)?).ok(),
        _ => return Err(NotUsable::Other(shown(label))),
    };
    let key = key.ok_or(NotUsable::Damaged)?;
    match key.n().bits() {
        bits if bits < SMALLEST_KEY => Err(NotUsable::TooSmall(bits)),
        _ => Ok(key),
    }
}

/// The first private key among the PEM blocks of `text`, or else its first block: label and body.
fn private_block(text: &str) -> Option<(&str, &str)> {
    let blocks = || {
        text.split("-----BEGIN ").skip(1).filter_map(|block| {
            let (label, rest) = block.split_once("-----")?;
            let (body, _) = rest.split_once("-----END ")?;
            Some((label, body))
        })
    };
    blocks().find(|(label, _)| label.ends_with("PRIVATE KEY")).or_else(|| blocks().next())
}

/// A label as far as it is one: the file may hold anything.
fn shown(label: &str) -> String {
    label.chars().filter(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || *c == ' ').take(40).collect()
}

fn der(body: &str) -> Result<Zeroizing<Vec<u8>>, NotUsable> {
    let mut text = Zeroizing::new(Vec::with_capacity(body.len()));
    text.extend(body.bytes().filter(|byte| !byte.is_ascii_whitespace()));
    let mut der = Zeroizing::new(vec![0; decoded_len_estimate(text.len())]);
    let length = BASE64.decode_slice(&*text, &mut der).map_err(|_| NotUsable::Damaged)?;
    der.truncate(length);
    Ok(der)
}

/// RSA, blinded so that its duration tells nothing of the key.
fn remove_padding(key: &RsaPrivateKey, padding: Padding, wrapped: &[u8]) -> Option<SecretBytes> {
    // PKCS#1 v1.5 takes a shorter number for one with leading zeros; a wrapped key is as long as the modulus.
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
