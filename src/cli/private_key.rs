//! The private key of the tenant of a local drop: a PEM file, or a Key Vault.

use std::{convert::Infallible, path::PathBuf, str::FromStr, sync::Arc};

use url::Url;

use super::CliError;
use crate::{
    app,
    config::{KeyServices, KeyStoreLocation, Settings},
    error_chain::error_chain,
    keys::{CallLimits, pem::PemFile, unwrap::PrivateKeys, vault::vault_url},
};

/// The value of `--private-key`.
#[derive(Debug, Clone)]
pub(super) enum PrivateKeyArgument {
    /// A file with the key.
    Pem(PathBuf),
    /// A vault with a key that is named by the tenant id; `None` if the address is not a vault's.
    Vault(Option<Url>),
}

impl FromStr for PrivateKeyArgument {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(if text.starts_with("https://") { Self::Vault(vault_url(text)) } else { Self::Pem(text.into()) })
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
            Self::Pem(file) => {
                std::fs::File::open(file)
                    .map_err(|error| CliError::Usage(format!("cannot read `{}`: {error}", file.display())))?;
                Ok(Arc::new(PemFile::new(file)))
            }
            Self::Vault(None) => Err(CliError::Usage(
                "--private-key is not a vault: expected https://{vault}.vault.azure.net, without a path".into(),
            )),
            Self::Vault(Some(url)) => {
                let identity = KeyServices::read(&Settings::from_env())?.identity;
                let vault = app::key_store(&KeyStoreLocation::Vault(url.clone()), &identity, CallLimits::default());
                Ok(vault.map_err(|error| CliError::Transient(error_chain(&error)))?)
            }
        }
    }
}
