//! The private key of the tenant of a local drop: a PEM file, or a Key Vault.

use std::{convert::Infallible, fmt, path::PathBuf, str::FromStr, sync::Arc};

use url::Url;

use super::CliError;
use crate::{
    app,
    config::{KeyServices, KeyStoreLocation, Settings},
    error_chain::error_chain,
    keys::{CallLimits, pem::PemFile, unwrap::PrivateKeys, vault::vault_url},
};

/// The forms of `--private-key`.
const EXPECTED: &str = "a PEM file, or a vault: https://{vault}.vault.azure.net without a path";

/// The value of `--private-key`.
#[derive(Debug, Clone)]
pub(super) enum PrivateKeyArgument {
    /// A file with the key.
    Pem(PathBuf),
    /// A vault with a key that is named by the tenant id; `None` if the URL is not a vault's.
    Vault(Option<Url>),
}

impl FromStr for PrivateKeyArgument {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(if text.contains("://") { Self::Vault(vault_url(text)) } else { Self::Pem(text.into()) })
    }
}

impl fmt::Display for PrivateKeyArgument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pem(file) => write!(f, "`{}`", file.display()),
            Self::Vault(None) => f.write_str("a vault"),
            Self::Vault(Some(url)) => write!(f, "the vault `{}`", url.origin().ascii_serialization()),
        }
    }
}

impl PrivateKeyArgument {
    /// Whether the tenant id selects the key: a vault has one key per tenant.
    pub(super) fn is_vault(&self) -> bool {
        matches!(self, Self::Vault(_))
    }

    /// The key, or a client of the vault, with the identity of the settings.
    pub(super) fn open(&self) -> Result<Arc<dyn PrivateKeys>, CliError> {
        match self {
            Self::Pem(file) if file.is_dir() => {
                Err(CliError::Usage(format!("--private-key `{}` is a folder: expected {EXPECTED}", file.display())))
            }
            Self::Pem(file) => {
                std::fs::File::open(file)
                    .map_err(|error| CliError::Usage(format!("cannot read `{}`: {error}", file.display())))?;
                Ok(Arc::new(PemFile::new(file)))
            }
            Self::Vault(None) => Err(CliError::Usage(format!("--private-key is not usable: expected {EXPECTED}"))),
            Self::Vault(Some(url)) => {
                let identity = KeyServices::read(&Settings::from_env())?.identity;
                let vault = app::key_store(&KeyStoreLocation::Vault(url.clone()), &identity, CallLimits::default());
                Ok(vault.map_err(|error| CliError::Transient(error_chain(&error)))?)
            }
        }
    }
}
