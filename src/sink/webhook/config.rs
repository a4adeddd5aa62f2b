//! Validates the URL and the secret of a webhook, and signs messages.

use std::{fmt, time::Duration};

use base64::{Engine, prelude::BASE64_STANDARD};
use hmac::{Hmac, Mac};
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;
use url::Url;
use zeroize::Zeroizing;

use crate::{loopback::is_loopback, retry::RetryBudget};

/// The prefix of every secret.
const PREFIX: &str = "whsec_";

/// The length of a secret in bytes, by the Standard Webhooks specification.
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// The configuration of the webhook sink.
///
/// URL and secret are validated; the public fields may have any value.
#[derive(Clone)]
pub struct WebhookConfig {
    pub(super) url: Url,
    pub(super) signer: Option<Signer>,
    /// Whether request bodies are compressed (`WEBHOOK_GZIP`).
    pub gzip: bool,
    /// The timeout of one request (`WEBHOOK_TIMEOUT`).
    pub timeout: Duration,
    /// How long a message is retried (`DELIVERY_PATIENCE`).
    pub retry_budget: RetryBudget,
}

/// The problems with the settings of a webhook, by setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookConfigError {
    /// The problem with `DELIVER_TO`.
    pub url: Option<UrlError>,
    /// The problem with `WEBHOOK_SECRET`.
    pub secret: Option<SecretError>,
}

/// Why the URL of a webhook is invalid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// The scheme is neither `https`, nor `http` on loopback.
    #[error("expected https://…, or http://… on loopback (127.0.0.0/8, ::1, localhost)")]
    Scheme,
    /// The URL contains a user name or a password.
    #[error("expected a URL without user name and password: the signature authenticates the sender")]
    UserInfo,
}

/// Why the secret of a webhook is invalid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// There is no secret, and the receiver is not on loopback.
    #[error("expected whsec_ and the Base64 of 24 to 64 bytes: messages that leave this machine must be signed")]
    Missing,
    /// The text is not `whsec_` followed by Base64.
    #[error("expected whsec_ and the Base64 of 24 to 64 bytes")]
    Encoding,
    /// The secret is shorter or longer than the specification allows.
    #[error("expected whsec_ and the Base64 of 24 to 64 bytes, found {bytes} bytes")]
    Length {
        /// The length of the secret.
        bytes: usize,
    },
}

impl WebhookConfig {
    /// Validates URL and secret; the error has the problems of both. Sets the defaults of the other settings: no
    /// compression, 30 s per request, retries for 4 minutes.
    pub fn new(url: Url, secret: Option<&SecretString>) -> Result<Self, WebhookConfigError> {
        let signer = match secret {
            Some(secret) => Signer::new(secret).map(Some),
            None if is_loopback(&url) => Ok(None),
            None => Err(SecretError::Missing),
        };
        match (validate_url(&url), signer) {
            (Ok(()), Ok(signer)) => Ok(Self::with_defaults(url, signer)),
            (url, signer) => Err(WebhookConfigError { url: url.err(), secret: signer.err() }),
        }
    }

    /// Validates the URL, for a webhook whose secret is read later and then set with [`Self::with_secret`].
    pub fn without_secret(url: Url) -> Result<Self, WebhookConfigError> {
        match validate_url(&url) {
            Ok(()) => Ok(Self::with_defaults(url, None)),
            Err(error) => Err(WebhookConfigError { url: Some(error), secret: None }),
        }
    }

    /// The same configuration with this secret, which is validated.
    pub fn with_secret(self, secret: &SecretString) -> Result<Self, SecretError> {
        Ok(Self { signer: Some(Signer::new(secret)?), ..self })
    }

    fn with_defaults(url: Url, signer: Option<Signer>) -> Self {
        Self {
            url,
            signer,
            gzip: false,
            timeout: Duration::from_secs(30),
            retry_budget: RetryBudget::lasting(Duration::from_secs(4 * 60)),
        }
    }

    /// The name of the webhook for logs.
    pub(in crate::sink) fn name(&self) -> String {
        name(&self.url)
    }

    /// Whether the receiver is on loopback.
    pub(super) fn is_loopback(&self) -> bool {
        is_loopback(&self.url)
    }
}

impl fmt::Debug for WebhookConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebhookConfig")
            .field("origin", &origin(&self.url))
            .field("signed", &self.signer.is_some())
            .field("gzip", &self.gzip)
            .field("timeout", &self.timeout)
            .field("retry_budget", &self.retry_budget)
            .finish()
    }
}

impl fmt::Display for WebhookConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.url, &self.secret) {
            (Some(url), Some(secret)) => write!(f, "webhook URL: {url}; webhook secret: {secret}"),
            (Some(url), None) => write!(f, "webhook URL: {url}"),
            (None, Some(secret)) => write!(f, "webhook secret: {secret}"),
            (None, None) => f.write_str("no problem with the webhook"),
        }
    }
}

impl std::error::Error for WebhookConfigError {}

/// Signs messages with HMAC-SHA256, by the Standard Webhooks specification.
///
/// Takes about a tenth of the time of the `standardwebhooks` crate on bodies of 1 MiB, because that crate copies every
/// body and hashes it without the SHA instructions of the processor. The receivers in the tests verify with the crate.
#[derive(Clone)]
pub(super) struct Signer(Hmac<Sha256>);

impl Signer {
    fn new(secret: &SecretString) -> Result<Self, SecretError> {
        let text = secret.expose_secret();
        let digits = text.strip_prefix(PREFIX).ok_or(SecretError::Encoding)?;
        let key = BASE64_STANDARD.decode(digits).map(Zeroizing::new).map_err(|_| SecretError::Encoding)?;
        if !SECRET_BYTES.contains(&key.len()) {
            return Err(SecretError::Length { bytes: key.len() });
        }
        Ok(Self(Hmac::new_from_slice(&key).expect("HMAC accepts keys of any length")))
    }

    /// The value of `webhook-signature`: the signature of id, timestamp and body, joined by full stops.
    pub(super) fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        let mut hmac = self.0.clone();
        hmac.update(format!("{id}.{timestamp}.").as_bytes());
        hmac.update(body);
        format!("v1,{}", BASE64_STANDARD.encode(hmac.finalize().into_bytes()))
    }
}

fn validate_url(url: &Url) -> Result<(), UrlError> {
    match url.scheme() {
        "https" => {}
        "http" if is_loopback(url) => {}
        _ => return Err(UrlError::Scheme),
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(UrlError::UserInfo);
    }
    Ok(())
}

/// The name of the webhook at `url` for logs.
pub(super) fn name(url: &Url) -> String {
    format!("the webhook {}", origin(url))
}

/// Scheme, host and port of the URL. Path and query are not shown, because they may contain a secret: the URLs of chat
/// services have it in the path.
pub(super) fn origin(url: &Url) -> String {
    url.origin().ascii_serialization()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

    fn config(url: &str, secret: Option<&str>) -> Result<WebhookConfig, WebhookConfigError> {
        WebhookConfig::new(url.parse().unwrap(), secret.map(SecretString::from).as_ref())
    }

    fn url_error(url: &str) -> Option<UrlError> {
        config(url, Some(SECRET)).err().and_then(|error| error.url)
    }

    fn secret_error(secret: &str) -> Option<SecretError> {
        let error = config("https://partner.example/", Some(secret)).err();
        error.and_then(|error| error.secret)
    }

    #[test]
    fn plain_http_is_accepted_on_loopback_only() {
        for url in [
            "https://partner.example/hook?code=1",
            "https://10.0.0.1/",
            "http://127.0.0.1:7071/",
            "http://127.9.9.9/",
            "http://[::1]:80/",
            "http://LOCALHOST/hook",
        ] {
            assert_eq!(url_error(url), None, "{url}");
        }
        for url in [
            "http://partner.example/",
            "http://10.0.0.1/",
            "http://0.0.0.0/",
            "http://[::ffff:127.0.0.1]/",
            "http://localhost.partner.example/",
            "http://127.0.0.1.partner.example/",
            "ftp://127.0.0.1/",
        ] {
            assert_eq!(url_error(url), Some(UrlError::Scheme), "{url}");
        }
    }

    #[test]
    fn a_url_with_credentials_is_invalid() {
        for url in ["https://me@partner.example/", "https://:word@partner.example/"] {
            assert_eq!(url_error(url), Some(UrlError::UserInfo), "{url}");
        }
    }

    #[test]
    fn a_secret_is_whsec_and_the_base64_of_24_to_64_bytes() {
        let secret_of = |bytes: usize| format!("whsec_{}", BASE64_STANDARD.encode(vec![7; bytes]));
        for bytes in [24, 32, 64] {
            assert_eq!(secret_error(&secret_of(bytes)), None, "{bytes}");
        }
        for bytes in [0, 23, 65] {
            assert_eq!(secret_error(&secret_of(bytes)), Some(SecretError::Length { bytes }));
        }
        for text in ["", "C2FVsBQIhrscChlQIMV+b5sSYspob7oD", "whsec_not base64", "whsec_C2FVs"] {
            assert_eq!(secret_error(text), Some(SecretError::Encoding), "{text:?}");
        }
    }

    #[test]
    fn a_webhook_off_loopback_requires_a_secret() {
        let missing = config("https://partner.example/", None).unwrap_err();
        assert_eq!(missing.secret, Some(SecretError::Missing));
        assert!(config("http://127.0.0.1/", None).is_ok());
    }

    #[test]
    fn problems_with_url_and_secret_are_reported_together() {
        let error = config("http://partner.example/", Some("whsec_tooshort")).unwrap_err();
        assert_eq!(error.url, Some(UrlError::Scheme));
        assert_eq!(error.secret, Some(SecretError::Length { bytes: 6 }));
    }

    #[test]
    fn debug_output_and_the_name_contain_neither_the_secret_nor_the_path_nor_the_query_string() {
        let config = config("https://partner.example:8443/hidden/T0?code=hidden#hidden", Some(SECRET)).unwrap();
        let debug = format!("{config:?} {}", config.name());
        assert!(debug.ends_with("the webhook https://partner.example:8443"), "{debug}");
        assert!(!debug.contains("hidden") && !debug.contains("C2FV"), "{debug}");
    }
}
