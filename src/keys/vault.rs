//! Private keys in Azure Key Vault or a managed HSM. The vault decrypts with them, and they never leave it.
//!
//! The key of a tenant is named by the tenant id. [`PrivateKeys`] is implemented here; the module `key_store` has the
//! [`KeyStore`](super::key_store::KeyStore), `failure` classifies the vault's error responses, and `version` parses
//! `PublicKeyVersion`. The `rsa` crate is not used here.

mod failure;
mod key_store;
mod version;

use std::{fmt, future::Future, sync::Arc, time::Duration};

use async_trait::async_trait;
use azure_core::{
    credentials::TokenCredential,
    http::{ClientOptions, RequestContent, Transport},
};
use azure_security_keyvault_keys::{
    KeyClient, KeyClientOptions,
    models::{EncryptionAlgorithm, KeyOperationParameters},
};
use base64::{
    Engine,
    alphabet::URL_SAFE,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use bytes::Bytes;
use serde::Deserialize;
use tokio::time::timeout;
use url::Url;
use zeroize::{Zeroize, Zeroizing};

pub(crate) use self::failure::SecretFailure;
use self::failure::{ErrorResponse, Failure, Operation};
use super::{
    CallLimits, KeyError, SecretBytes,
    unwrap::{Padding, PrivateKeys},
};
use crate::{
    drop::TenantId,
    identity::without_retries,
    loopback::is_loopback,
    retry::{self, Attempt},
    wipe::with_stack_wiped,
};

/// Timeout for connecting to the vault.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Base64url without padding, as the vault writes it; padding is accepted.
const BASE64URL: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A client for the keys of one vault.
pub struct Vault {
    client: KeyClient,
    url: Url,
    limits: CallLimits,
}

/// Why the client of a vault cannot be created.
#[derive(Debug, thiserror::Error)]
pub enum InvalidVault {
    /// TLS or the resolver cannot be initialized.
    #[error("cannot create the HTTP client")]
    Http(#[source] reqwest::Error),
    /// The credential cannot be created, or the SDK rejects the URL.
    #[error("cannot request tokens for it")]
    Identity(#[source] azure_core::Error),
}

impl Vault {
    /// A client for the vault at `url`, which has the form that [`vault_url`] accepts. Connects to nothing yet.
    pub fn new(url: &Url, credential: Arc<dyn TokenCredential>) -> Result<Self, InvalidVault> {
        Self::with_http_client(http_client(url)?, url, credential)
    }

    /// As [`Self::new`], with the caller's HTTP client.
    pub fn with_http_client(
        http: reqwest::Client,
        url: &Url,
        credential: Arc<dyn TokenCredential>,
    ) -> Result<Self, InvalidVault> {
        let options = KeyClientOptions {
            client_options: client_options(http),
            verify_challenge_resource: Some(verifies_challenge(url)),
            ..KeyClientOptions::default()
        };
        let client = KeyClient::new(url.as_str(), credential, Some(options)).map_err(InvalidVault::Identity)?;
        Ok(Self { client, url: url.clone(), limits: CallLimits::default() })
    }

    /// Replaces the default limits.
    #[must_use]
    pub fn with_limits(mut self, limits: CallLimits) -> Self {
        self.limits = limits;
        self
    }

    /// Calls the vault, with retries, until there is a result or an error response that is not transient.
    ///
    /// The caller interprets the error response, because its meaning depends on the operation.
    async fn call<T: Send, F>(&self, call: impl Fn() -> F + Send + Sync) -> Result<Result<T, ErrorResponse>, KeyError>
    where
        F: Future<Output = azure_core::Result<T>> + Send,
    {
        let result = retry::retry(self.limits.retry, |_| async {
            let failure = match timeout(self.limits.try_timeout, call()).await {
                Ok(Ok(result)) => return Attempt::Done(Ok(result)),
                Ok(Err(error)) => Failure::of(&error),
                Err(elapsed) => Failure::no_response(elapsed.to_string()),
            };
            match failure {
                Failure::Rejected(response) => Attempt::Done(Err(response)),
                Failure::Unavailable { why, retry_after } => {
                    Attempt::Transient(KeyError::unavailable(self.to_string(), why), retry_after)
                }
                Failure::NoToken(error) => error.attempt(self),
                Failure::NotAVault => Attempt::Permanent(self.not_a_vault()),
            }
        });
        result.await.map_err(KeyError::from)
    }

    fn rejected(&self, response: &ErrorResponse, operation: Operation, tenant: Option<TenantId>) -> KeyError {
        let text = response.explain(self, operation, tenant);
        if response.is_key_missing() { KeyError::NoKey(text) } else { KeyError::Misconfigured(text) }
    }

    fn not_a_vault(&self) -> KeyError {
        KeyError::Misconfigured(format!("{self} does not answer like a Key Vault: check PRIVATE_KEYS"))
    }
}

/// An HTTP client for the vault at `url`.
pub(crate) fn http_client(url: &Url) -> Result<reqwest::Client, InvalidVault> {
    let http = reqwest::Client::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        // An idle connection would keep the last response, which may be a key, in its buffer.
        .pool_max_idle_per_host(0);
    let http = if is_loopback(url) { http.no_proxy() } else { http };
    http.build().map_err(InvalidVault::Http)
}

/// The SDK's options for a client of a vault.
pub(crate) fn client_options(http: reqwest::Client) -> ClientOptions {
    ClientOptions { transport: Some(Transport::new(Arc::new(http))), ..without_retries() }
}

/// Whether the SDK must verify that the vault requests a token for the vault's own domain, so that no other service's
/// token is sent to it. A vault on loopback has no domain to compare.
pub(crate) fn verifies_challenge(url: &Url) -> bool {
    !is_loopback(url)
}

#[async_trait]
impl PrivateKeys for Vault {
    async fn decrypt(
        &self,
        tenant: TenantId,
        version: Option<&str>,
        padding: Padding,
        wrapped: &[u8],
    ) -> Result<Option<SecretBytes>, KeyError> {
        let name = tenant.to_string();
        let parameters = KeyOperationParameters {
            algorithm: Some(algorithm(padding)),
            value: Some(wrapped.to_vec()),
            ..KeyOperationParameters::default()
        };
        let parameters = RequestContent::try_from(parameters).expect("an algorithm's name and bytes serialize to JSON");
        // An empty version selects the current one.
        let version_or_empty = version.unwrap_or_default();
        match self.call(|| self.client.decrypt(&name, version_or_empty, parameters.clone(), None)).await? {
            Ok(response) => with_stack_wiped(|| decrypted_value(response.into_body().into()))
                .map(Some)
                .ok_or_else(|| self.not_a_vault()),
            // The vault answers 400, with various codes, if the value does not decrypt with this padding.
            Err(ErrorResponse { status: 400, .. }) => Ok(None),
            Err(response) => {
                let explain = || response.explain(self, Operation::Decrypt, Some(tenant));
                Err(if response.is_key_missing() && version.is_some() {
                    KeyError::NoVersion(explain())
                } else if response.is_unusable_version() {
                    KeyError::UnusableVersion(explain())
                } else {
                    self.rejected(&response, Operation::Decrypt, Some(tenant))
                })
            }
        }
    }

    fn named_version(&self, tenant: TenantId, given: &str) -> Result<Option<String>, KeyError> {
        version::key_version(given, &self.url, tenant)
    }

    async fn earlier_versions(&self, tenant: TenantId) -> Result<Vec<String>, KeyError> {
        let versions = self.listed_versions(tenant).await?;
        // The newest version is the current one. `created` has a resolution of one second, so two versions can both be
        // the newest: then both are returned.
        let newest = versions.first().and_then(|version| version.created);
        let is_only_newest = versions.get(1).is_none_or(|second| second.created < newest);
        let earlier = versions.into_iter().skip(is_only_newest.into());
        Ok(earlier.filter(|version| version.enabled).map(|version| version.id).collect())
    }
}

/// The members of the response to `decrypt` that are read.
#[derive(Deserialize)]
struct DecryptResponse<'a> {
    #[serde(borrow)]
    value: &'a str,
}

/// The decrypted value in the response `body`, which is zeroed. The SDK's model type would leave copies of the value in
/// memory.
fn decrypted_value(body: Bytes) -> Option<SecretBytes> {
    let decoded = serde_json::from_slice::<DecryptResponse<'_>>(&body).ok().and_then(|DecryptResponse { value }| {
        let mut plain = Zeroizing::new(vec![0; base64::decoded_len_estimate(value.len())]);
        let length = BASE64URL.decode_slice(value, &mut plain).ok()?;
        plain.truncate(length);
        Some(plain)
    });
    if let Ok(mut body) = body.try_into_mut() {
        body.as_mut().zeroize();
    }
    decoded
}

fn algorithm(padding: Padding) -> EncryptionAlgorithm {
    match padding {
        Padding::Oaep => EncryptionAlgorithm::RsaOaep,
        Padding::Oaep256 => EncryptionAlgorithm::RsaOaep256,
        Padding::Pkcs1v15 => EncryptionAlgorithm::Rsa1_5,
    }
}

/// Parses the URL of a vault: `https`, a host, and nothing after it.
///
/// Any host is accepted, because vaults exist in every Azure cloud, behind private names, and as managed HSMs.
pub fn vault_url(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    let is_bare = url.username().is_empty() && url.password().is_none() && url.query().or(url.fragment()).is_none();
    (url.scheme() == "https" && url.has_host() && url.path() == "/" && is_bare).then_some(url)
}

/// The vault's name in error messages.
impl fmt::Display for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the vault `{}`", self.url.origin().ascii_serialization())
    }
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vault").field("url", &self.url.as_str()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vault_url_may_be_in_any_cloud() {
        for text in [
            "https://kv.vault.azure.net",
            "https://kv.vault.azure.net/",
            "https://kv.vault.azure.cn",
            "https://kv.vault.usgovcloudapi.net",
            "https://hsm.managedhsm.azure.net",
            "https://localhost:8443",
        ] {
            assert!(vault_url(text).is_some(), "{text}");
        }
    }

    #[test]
    fn a_url_with_more_than_scheme_and_host_is_rejected() {
        for text in [
            "http://kv.vault.azure.net",
            "http://localhost:8443",
            "https://kv.vault.azure.net/keys",
            "https://me@kv.vault.azure.net",
            "https://kv.vault.azure.net/?code=1",
            "https://kv.vault.azure.net/#keys",
            "kv.vault.azure.net",
            "https://",
        ] {
            assert!(vault_url(text).is_none(), "{text}");
        }
    }

    #[test]
    fn a_decrypted_value_is_base64url_with_or_without_padding() {
        let plain =
            |text: &'static str| decrypted_value(Bytes::from_static(text.as_bytes())).map(|plain| plain.to_vec());
        assert_eq!(plain(r#"{"kid":"https://v/keys/t/1","value":"-_8"}"#), Some(vec![0xfb, 0xff]));
        assert_eq!(plain(r#"{"value":"-_8="}"#), Some(vec![0xfb, 0xff]));
        for wrong in ["{}", "[]", r#"{"value":7}"#, r#"{"value":"+/8"}"#, "<html>"] {
            assert_eq!(plain(wrong), None, "{wrong}");
        }
    }
}
