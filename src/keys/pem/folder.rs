//! A key store in a folder: `{tenantId}.pem` is a tenant's current key; `{tenantId}.{version}.pem` are all of its keys.
//!
//! The version is the start of the key's thumbprint, so the same key always gets the same file name.

use std::{
    ffi::OsStr,
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use async_trait::async_trait;
use rsa::{
    RsaPrivateKey,
    pkcs8::{EncodePrivateKey, LineEnding},
    rand_core::OsRng,
    traits::PublicKeyParts,
};
use time::OffsetDateTime;

use super::{blocking, decrypt, parse::MIN_KEY_BITS, read_error, read_key};
use crate::{
    drop::TenantId,
    keys::{
        KeyError, SecretBytes,
        key_store::{KeyExpiry, KeyStore, PublicKey},
        unwrap::{Padding, PrivateKeys},
    },
};

/// Length of a version: hexadecimal digits of the thumbprint.
const VERSION_LEN: usize = 32;

/// A folder of PEM files, for local work. It does not record when keys expire.
#[derive(Debug, Clone)]
pub struct PemFolder {
    folder: PathBuf,
}

impl PemFolder {
    /// The key store in `folder`. Reads nothing yet; the folder need not exist.
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
        blocking(move || {
            let files = key_files(&folder, tenant).map_err(|error| read_error(&folder, error))?;
            if files.is_empty() {
                return Err(KeyError::NoKey(no_key(&folder, tenant)));
            }
            // The keys of a drop that is still in progress may have been wrapped before the last rotation.
            for path in files {
                if let Some(plain) = decrypt(&read_key(&path)?, padding, &wrapped) {
                    return Ok(Some(plain));
                }
            }
            Ok(None)
        })
        .await
    }
}

#[async_trait]
impl KeyStore for PemFolder {
    async fn current(&self, tenant: TenantId) -> Result<Option<PublicKey>, KeyError> {
        let folder = self.folder.clone();
        blocking(move || {
            let Some(path) = find_current(&folder, tenant).map_err(|error| read_error(&folder, error))? else {
                return Ok(None);
            };
            Ok(Some(public_key(&read_key(&path)?)))
        })
        .await
    }

    async fn create(&self, tenant: TenantId, _expires: OffsetDateTime) -> Result<PublicKey, KeyError> {
        let folder = self.folder.clone();
        blocking(move || {
            let write_failed = |error| write_error(&folder, error);
            fs::create_dir_all(&folder).map_err(write_failed)?;
            let key = RsaPrivateKey::new(&mut OsRng, MIN_KEY_BITS)
                .map_err(|error| KeyError::NoKey(format!("cannot create an RSA key: {error}")))?;
            // The versioned file comes first. If two processes create keys at the same time, each may register its own
            // key, and only one of them stays the current one: the other must remain usable under its version.
            write_version(&key, &folder, tenant).map_err(write_failed)?;
            let current = find_current(&folder, tenant).map_err(write_failed)?;
            if let Some(current) = &current {
                // A current key that a person put there has no versioned file yet.
                write_version(&read_key(current)?, &folder, tenant).map_err(write_failed)?;
            }
            let path = current.clone().unwrap_or_else(|| current_path(&folder, tenant));
            write_key(&key, &folder, &path, current.is_some()).map_err(write_failed)?;
            Ok(public_key(&key))
        })
        .await
    }

    /// Renames every file of the tenant's keys to `{name}.disabled`.
    async fn disable(&self, tenant: TenantId) -> Result<usize, KeyError> {
        let folder = self.folder.clone();
        blocking(move || {
            // A current key that a person put there has no versioned file yet. Without one, it would be lost when the
            // next key of the tenant is disabled.
            let current = find_current(&folder, tenant).map_err(|error| read_error(&folder, error))?;
            let current = current.and_then(|path| read_key(&path).ok());
            if let Some(key) = &current {
                write_version(key, &folder, tenant).map_err(|error| write_error(&folder, error))?;
            }
            let files = key_files(&folder, tenant).map_err(|error| read_error(&folder, error))?;
            // The current key is renamed last: `key_files` finds the other keys only as long as the current key exists,
            // so that an interrupted call can be repeated.
            for path in files.iter().rev() {
                let mut disabled = path.clone().into_os_string();
                disabled.push(".disabled");
                fs::rename(path, disabled).map_err(|error| write_error(&folder, error))?;
            }
            // The current key was in two files.
            Ok(files.len() - usize::from(current.is_some()))
        })
        .await
    }

    async fn all(&self) -> Result<Vec<(TenantId, PublicKey)>, KeyError> {
        let folder = self.folder.clone();
        blocking(move || {
            let list_failed = |error| read_error(&folder, error);
            let entries = match fs::read_dir(&folder) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
                entries => entries.map_err(list_failed)?,
            };
            let mut keys = Vec::new();
            for entry in entries {
                let path = entry.map_err(list_failed)?.path();
                if let Some(tenant) = tenant_of_current(&path) {
                    keys.push((tenant, public_key(&read_key(&path)?)));
                }
            }
            keys.sort_by_key(|(tenant, _)| *tenant);
            Ok(keys)
        })
        .await
    }

    fn location(&self, tenant: TenantId) -> String {
        current_path(&self.folder, tenant).display().to_string()
    }
}

/// The message that a tenant has no key, with its remedy.
fn no_key(folder: &Path, tenant: TenantId) -> String {
    let path = current_path(folder, tenant);
    let disabled = path.with_extension("pem.disabled");
    let todo = if disabled.exists() {
        format!(
            "`{}` is disabled: remove `.disabled` from its name. A new key of `vivadrop onboard` cannot decrypt the drops \
             that exist",
            disabled.display()
        )
    } else {
        format!(
            "expected `{}`, which `vivadrop onboard --tenant {tenant}` creates. A new key cannot decrypt drops that were \
             encrypted for another one",
            path.display()
        )
    };
    format!("there is no private key for tenant `{tenant}`: {todo}")
}

/// The path of a tenant's current key, as [`KeyStore::create`] names it.
fn current_path(folder: &Path, tenant: TenantId) -> PathBuf {
    folder.join(format!("{tenant}.pem"))
}

/// The file of the tenant's current key, if it exists. A file that a person named may be in upper case.
fn find_current(folder: &Path, tenant: TenantId) -> io::Result<Option<PathBuf>> {
    let expected = current_path(folder, tenant);
    if expected.exists() {
        return Ok(Some(expected));
    }
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        entries => entries?,
    };
    for entry in entries {
        let path = entry?.path();
        let matches = |name: &OsStr| Some(name.to_ascii_lowercase().as_os_str()) == expected.file_name();
        if path.file_name().is_some_and(matches) {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

/// The files of the tenant's keys: the current one, then the versioned ones, newest first.
fn key_files(folder: &Path, tenant: TenantId) -> io::Result<Vec<PathBuf>> {
    let Some(current) = find_current(folder, tenant)? else {
        return Ok(Vec::new());
    };
    let mut versions = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().to_ascii_lowercase();
        let version = name.strip_prefix(&format!("{tenant}.")).and_then(|rest| rest.strip_suffix(".pem"));
        if version.is_some_and(is_version) {
            versions.push((entry.metadata()?.modified()?, entry.path()));
        }
    }
    versions.sort_by(|a, b| b.cmp(a));
    Ok(std::iter::once(current).chain(versions.into_iter().map(|(_, path)| path)).collect())
}

fn is_version(text: &str) -> bool {
    text.len() == VERSION_LEN && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The tenant whose current key has the file name of `path`.
fn tenant_of_current(path: &Path) -> Option<TenantId> {
    let name = path.file_name()?.to_str()?.to_ascii_lowercase();
    name.strip_suffix(".pem")?.parse().ok()
}

fn public_key(key: &RsaPrivateKey) -> PublicKey {
    let mut public = PublicKey {
        version: String::new(),
        modulus: key.n().to_bytes_be(),
        exponent: key.e().to_bytes_be(),
        expiry: KeyExpiry::Unknown,
        enabled: true,
    };
    public.version = public.thumbprint();
    public.version.truncate(VERSION_LEN);
    public
}

/// Writes the key's versioned file, unless it exists.
fn write_version(key: &RsaPrivateKey, folder: &Path, tenant: TenantId) -> io::Result<()> {
    let path = folder.join(format!("{tenant}.{}.pem", public_key(key).version));
    match write_key(key, folder, &path, false) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        written => written,
    }
}

/// Writes the key to `path` atomically, with permissions for the owner only. An existing file is replaced only if
/// `replace`.
fn write_key(key: &RsaPrivateKey, folder: &Path, path: &Path, replace: bool) -> io::Result<()> {
    let pem = key.to_pkcs8_pem(LineEnding::LF).map_err(io::Error::other)?;
    // A temporary file is created with mode 0600 and keeps it when it is renamed.
    let mut file = tempfile::Builder::new().prefix(".vivadrop-").suffix(".tmp").tempfile_in(folder)?;
    file.write_all(pem.as_bytes())?;
    file.as_file().sync_all()?;
    if replace {
        file.persist(path)?
    } else {
        file.persist_noclobber(path)?
    };
    fs::File::open(folder)?.sync_all()
}

/// Classifies a failure to write to the folder: missing permissions are permanent, everything else may be transient.
fn write_error(folder: &Path, error: io::Error) -> KeyError {
    let folder = folder.display();
    match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::NotADirectory => {
            KeyError::Misconfigured(format!("no key can be written to `{folder}`: {error}"))
        }
        _ => KeyError::unavailable(format!("the storage of `{folder}`"), error),
    }
}
