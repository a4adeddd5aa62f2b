//! Private keys in Azure Key Vault, or in a managed HSM: they never leave it.
//!
//! Knows how a tenant's key is named there, and which operations are asked for: `decrypt` for a wrapped key, and for
//! [`onboarding`] public halves and new keys. [`failure`] knows what the vault's refusals mean, [`version`] what
//! `PublicKeyVersion` may name. Nothing here depends on the `rsa` crate: RSA is the vault's.

mod custody;
mod failure;
mod onboarding;
mod version;

use std::{fmt, future::Future, sync::Arc, time::Duration};

use async_trait::async_trait;
use azure_core::{
    credentials::TokenCredential,
    http::{ClientOptions, RequestContent, RetryOptions, Transport},
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

pub(crate) use self::failure::of_secret;
use self::failure::{Failure, Operation, Refusal};
pub use self::onboarding::{NamedKey, VaultKey};
use super::{
    KeyError, SecretBytes,
    unwrap::{Padding, PrivateKeys},
};
use crate::{
    drop::TenantId,
    loopback::is_loopback,
    retry::{self, Attempt, GaveUp, RetryBudget},
    wipe::with_stack_wiped,
};

/// How long there are tries.
const PATIENCE: RetryBudget = RetryBudget::lasting(Duration::from_secs(120));

/// How long one try may take, the token's included.
pub(crate) const TRY_TIMEOUT: Duration = Duration::from_secs(30);

/// How long one try may take to reach the vault.
const CONNECT: Duration = Duration::from_secs(10);

/// Base64url as the vault writes it, which is without padding.
const BASE64URL: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The keys of one vault.
pub struct Vault {
    client: KeyClient,
    url: Url,
    patience: RetryBudget,
    try_timeout: Duration,
}

/// Why a vault cannot be set up on this machine.
#[derive(Debug, thiserror::Error)]
pub enum NotUsable {
    /// TLS or the resolver does not start.
    #[error("the HTTP client does not start")]
    Http(#[source] reqwest::Error),
    /// The identity cannot be set up, or the SDK does not take the address.
    #[error("no token can be asked for")]
    Identity(#[source] azure_core::Error),
}

impl Vault {
    /// The vault at `url`, an origin as [`vault_url`] reads it, for whoever `credential` is. Connects to nothing yet.
    pub fn new(url: &Url, credential: Arc<dyn TokenCredential>) -> Result<Self, NotUsable> {
        Self::over(http_client(url)?, url, credential)
    }

    /// The same, over an HTTP client of the caller's.
    pub fn over(http: reqwest::Client, url: &Url, credential: Arc<dyn TokenCredential>) -> Result<Self, NotUsable> {
        let options = KeyClientOptions {
            client_options: client_options(http),
            verify_challenge_resource: Some(has_a_domain(url)),
            ..KeyClientOptions::default()
        };
        let client = KeyClient::new(url.as_str(), credential, Some(options)).map_err(NotUsable::Identity)?;
        Ok(Self { client, url: url.clone(), patience: PATIENCE, try_timeout: TRY_TIMEOUT })
    }

    /// With other limits than 30 s a try and 2 minutes in all.
    #[must_use]
    pub fn with_limits(mut self, patience: RetryBudget, try_timeout: Duration) -> Self {
        self.patience = patience;
        self.try_timeout = try_timeout;
        self
    }

    /// Where it is.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// Asks until there is an answer: what was asked for, or a refusal, of which only the caller knows what it means.
    async fn ask<T: Send, F>(&self, call: impl Fn() -> F + Send + Sync) -> Result<Result<T, Refusal>, KeyError>
    where
        F: Future<Output = azure_core::Result<T>> + Send,
    {
        let answered = retry::retry(self.patience, |_| async {
            let failure = match timeout(self.try_timeout, call()).await {
                Ok(Ok(answer)) => return Attempt::Done(Ok(answer)),
                Ok(Err(error)) => Failure::of(&error),
                Err(elapsed) => Failure::silent(elapsed.to_string()),
            };
            match failure {
                Failure::Refused(refusal) => Attempt::Done(Err(refusal)),
                Failure::Unavailable { why, wait } => {
                    Attempt::Transient(KeyError::Unavailable { what: self.to_string(), source: why.into() }, wait)
                }
                Failure::NoToken(no_token) => no_token.attempt(self),
                Failure::Unreadable => Attempt::Permanent(KeyError::Refused(format!(
                    "{self} does not answer as a Key Vault does: check PRIVATE_KEYS"
                ))),
            }
        });
        answered.await.map_err(|gave_up| match gave_up {
            GaveUp::Permanent(error) | GaveUp::BudgetSpent(error, _) => error,
        })
    }

    /// What a refusal that is nothing else means.
    fn refused(&self, refusal: &Refusal, operation: Operation, tenant: Option<TenantId>) -> KeyError {
        KeyError::Refused(refusal.told(self, operation, tenant))
    }
}

/// The HTTP client for the vault at `url`.
pub(crate) fn http_client(url: &Url) -> Result<reqwest::Client, NotUsable> {
    let http = reqwest::Client::builder()
        .connect_timeout(CONNECT)
        .redirect(reqwest::redirect::Policy::none())
        // An idle connection would keep its last answer in its buffer, and that may be a key.
        .pool_max_idle_per_host(0);
    let http = if is_loopback(url) { http.no_proxy() } else { http };
    http.build().map_err(NotUsable::Http)
}

/// How the SDK asks a vault.
pub(crate) fn client_options(http: reqwest::Client) -> ClientOptions {
    ClientOptions {
        transport: Some(Transport::new(Arc::new(http))),
        // One loop of tries is enough, and it is ours.
        retry: RetryOptions::none(),
        ..ClientOptions::default()
    }
}

/// Whether the vault is to ask for a token of its own domain, so that it gets no other's. Loopback has no domain.
pub(crate) fn has_a_domain(url: &Url) -> bool {
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
        // Without a version the vault takes the current one.
        let version = version::named(version, &self.url, tenant)?.unwrap_or_default();
        let parameters = KeyOperationParameters {
            algorithm: Some(algorithm(padding)),
            value: Some(wrapped.to_vec()),
            ..KeyOperationParameters::default()
        };
        let parameters = RequestContent::try_from(parameters).map_err(|_| {
            KeyError::Refused("the vault cannot be asked: the wrapped key is not to be put into JSON".to_owned())
        })?;
        match self.ask(|| self.client.decrypt(&name, &version, parameters.clone(), None)).await? {
            Ok(answer) => with_stack_wiped(|| plain_in(answer.into_body().into())).map(Some).ok_or_else(|| {
                KeyError::Refused(format!("{self} does not answer as a Key Vault does: check PRIVATE_KEYS"))
            }),
            // Whatever the vault has against the value: it does not unwrap with this padding.
            Err(Refusal { status: 400, .. }) => Ok(None),
            Err(refusal) => Err(self.refused(&refusal, Operation::Decrypt, Some(tenant))),
        }
    }

    async fn earlier(&self, tenant: TenantId) -> Result<Vec<String>, KeyError> {
        let mut versions = self.versions(tenant).await?;
        versions.pop();
        Ok(versions.into_iter().rev().filter(|key| key.enabled).map(|key| key.version).collect())
    }
}

/// What `decrypt` answers, as far as it is looked at.
#[derive(Deserialize)]
struct Plain<'a> {
    #[serde(borrow)]
    value: &'a str,
}

/// The decrypted value in an answer, which is zeroed. The SDK's own model leaves copies of it behind.
fn plain_in(body: Bytes) -> Option<SecretBytes> {
    let decoded = serde_json::from_slice::<Plain<'_>>(&body).ok().and_then(|Plain { value }| {
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

/// A vault's address: `https`, a host, and nothing behind it. Any host will do: there are vaults in every cloud, behind
/// private names, and managed HSMs.
pub fn vault_url(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    let is_bare = url.username().is_empty() && url.password().is_none() && url.query().or(url.fragment()).is_none();
    (url.scheme() == "https" && url.has_host() && url.path() == "/" && is_bare).then_some(url)
}

/// What errors call it.
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
    fn a_vault_may_be_in_any_cloud() {
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
    fn an_address_that_a_vault_never_has_is_not_taken() {
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
    fn the_value_is_base64url_with_or_without_padding() {
        let plain = |text: &'static str| plain_in(Bytes::from_static(text.as_bytes())).map(|plain| plain.to_vec());
        assert_eq!(plain(r#"{"kid":"https://v/keys/t/1","value":"-_8"}"#), Some(vec![0xfb, 0xff]));
        assert_eq!(plain(r#"{"value":"-_8="}"#), Some(vec![0xfb, 0xff]));
        for wrong in ["{}", "[]", r#"{"value":7}"#, r#"{"value":"+/8"}"#, "<html>"] {
            assert_eq!(plain(wrong), None, "{wrong}");
        }
    }
}
