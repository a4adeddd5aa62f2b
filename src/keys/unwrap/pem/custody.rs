//! Key pairs in a folder: `{tenantId}.pem` is the newest, and `{tenantId}.{version}.pem` are all that were ever made.
//!
//! A version is the beginning of the thumbprint, so a file says itself which version it is.

use std::{
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

use super::{PemFolder, SMALLEST_KEY, expected, find, on_worker, read, unreadable};
use crate::{
    drop::TenantId,
    keys::{
        KeyError,
        custody::{Expiry, KeyCustody, PublicKey},
    },
};

/// How many digits of the thumbprint are the version.
const VERSION_DIGITS: usize = 32;

#[async_trait]
impl KeyCustody for PemFolder {
    async fn current(&self, tenant: TenantId) -> Result<Option<PublicKey>, KeyError> {
        let folder = self.folder.clone();
        on_worker(move || {
            let Some(path) = find(&folder, tenant).map_err(|error| unreadable(&folder, error))? else {
                return Ok(None);
            };
            Ok(Some(public_half(&read(&path)?)))
        })
        .await
    }

    async fn create(&self, tenant: TenantId, _expires: OffsetDateTime) -> Result<PublicKey, KeyError> {
        let folder = self.folder.clone();
        on_worker(move || {
            let unwritten = |error| unwritable(&folder, error);
            fs::create_dir_all(&folder).map_err(unwritten)?;
            let key = RsaPrivateKey::new(&mut OsRng, SMALLEST_KEY)
                .map_err(|error| KeyError::Refused(format!("no RSA key can be made: {error}")))?;
            // By its version first: of two who make one at the same time each may register its own, and one of them is
            // written over as the newest.
            keep(&key, &folder, tenant).map_err(unwritten)?;
            let newest = find(&folder, tenant).map_err(unwritten)?;
            if let Some(newest) = &newest {
                // A person may have put it there.
                keep(&read(newest)?, &folder, tenant).map_err(unwritten)?;
            }
            let place = newest.clone().unwrap_or_else(|| expected(&folder, tenant));
            write(&key, &folder, &place, newest.is_some()).map_err(unwritten)?;
            Ok(public_half(&key))
        })
        .await
    }

    async fn all(&self) -> Result<Vec<(TenantId, PublicKey)>, KeyError> {
        let folder = self.folder.clone();
        on_worker(move || {
            let unlisted = |error| unreadable(&folder, error);
            let entries = match fs::read_dir(&folder) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
                entries => entries.map_err(unlisted)?,
            };
            let mut keys = Vec::new();
            for entry in entries {
                let path = entry.map_err(unlisted)?.path();
                if let Some(tenant) = newest_of(&path) {
                    keys.push((tenant, public_half(&read(&path)?)));
                }
            }
            keys.sort_by_key(|(tenant, _)| *tenant);
            Ok(keys)
        })
        .await
    }

    fn place(&self, tenant: TenantId) -> String {
        expected(&self.folder, tenant).display().to_string()
    }
}

/// The files with the keys of `tenant`, the newest first.
pub(super) fn files_of(folder: &Path, tenant: TenantId) -> io::Result<Vec<PathBuf>> {
    let Some(newest) = find(folder, tenant)? else {
        return Ok(Vec::new());
    };
    let mut older = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().to_ascii_lowercase();
        let version = name.strip_prefix(&format!("{tenant}.")).and_then(|rest| rest.strip_suffix(".pem"));
        if version.is_some_and(is_version) {
            older.push((entry.metadata()?.modified()?, entry.path()));
        }
    }
    older.sort_by(|a, b| b.cmp(a));
    Ok(std::iter::once(newest).chain(older.into_iter().map(|(_, path)| path)).collect())
}

fn is_version(text: &str) -> bool {
    text.len() == VERSION_DIGITS && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Whose newest key the file at `path` is, by its name.
fn newest_of(path: &Path) -> Option<TenantId> {
    let name = path.file_name()?.to_str()?.to_ascii_lowercase();
    name.strip_suffix(".pem")?.parse().ok()
}

fn public_half(key: &RsaPrivateKey) -> PublicKey {
    let mut public = PublicKey {
        version: String::new(),
        modulus: key.n().to_bytes_be(),
        exponent: key.e().to_bytes_be(),
        expiry: Expiry::NotKept,
        enabled: true,
    };
    public.version = public.thumbprint();
    public.version.truncate(VERSION_DIGITS);
    public
}

/// Writes the key under its version, unless it is there.
fn keep(key: &RsaPrivateKey, folder: &Path, tenant: TenantId) -> io::Result<()> {
    let place = folder.join(format!("{tenant}.{}.pem", public_half(key).version));
    match write(key, folder, &place, false) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        end => end,
    }
}

/// Writes the key for its owner alone, whole or not at all; over another one where it `replaces` that.
fn write(key: &RsaPrivateKey, folder: &Path, place: &Path, replaces: bool) -> io::Result<()> {
    let pem = key.to_pkcs8_pem(LineEnding::LF).map_err(io::Error::other)?;
    // A temporary file is for its owner alone, and stays so under its new name.
    let mut file = tempfile::Builder::new().prefix(".vivadrop-").suffix(".tmp").tempfile_in(folder)?;
    file.write_all(pem.as_bytes())?;
    file.as_file().sync_all()?;
    if replaces {
        file.persist(place)?
    } else {
        file.persist_noclobber(place)?
    };
    fs::File::open(folder)?.sync_all()
}

fn unwritable(folder: &Path, error: io::Error) -> KeyError {
    let folder = folder.display();
    match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::NotADirectory => {
            KeyError::Refused(format!("no key can be written to `{folder}`: {error}"))
        }
        _ => KeyError::Unavailable { what: format!("the storage of `{folder}`"), source: error.into() },
    }
}
