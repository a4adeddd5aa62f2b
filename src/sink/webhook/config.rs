//! Which URLs and secrets are usable, and what a settings report says of the others.

use std::{fmt, time::Duration};

use base64::{Engine, prelude::BASE64_STANDARD};
use hmac::{Hmac, Mac};
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;
use url::Url;
use zeroize::Zeroizing;

use crate::{loopback::is_loopback, retry::RetryBudget};

/// What a secret begins with.
const PREFIX: &str = "whsec_";

/// What Standard Webhooks asks of a secret's length, in bytes.
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// Where and how messages are posted.
///
/// URL and secret are checked on the way in; the public fields may be anything.
#[derive(Clone)]
pub struct WebhookConfig {
    pub(super) url: Url,
    pub(super) signer: Option<Signer>,
    /// Whether bodies are gzipped (`WEBHOOK_GZIP`).
    pub gzip: bool,
    /// How long one try may take (`WEBHOOK_TIMEOUT`).
    pub timeout: Duration,
    /// How long a message is tried (`DELIVERY_PATIENCE`), and with what waits.
    pub patience: RetryBudget,
}

/// What is wrong with the settings of a webhook, each under its own name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookConfigError {
    /// What is wrong with `DELIVER_TO`.
    pub url: Option<UrlError>,
    /// What is wrong with `WEBHOOK_SECRET`.
    pub secret: Option<SecretError>,
}

/// What is wrong with the URL: the text of a settings report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// Neither https, nor http on loopback.
    #[error("expected https://…; plain http:// is for loopback alone (127.0.0.0/8, ::1, localhost)")]
    Scheme,
    /// It has a user name or a password in it.
    #[error("expected a URL without a user name or password: the signature tells the receiver who sent a message")]
    UserInfo,
}

/// What is wrong with the secret: the text of a settings report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// There is none, and the receiver is another machine.
    #[error("expected whsec_ and the Base64 of 24 to 64 bytes: a webhook off loopback is signed")]
    Missing,
    /// It is no `whsec_` and Base64.
    #[error("expected whsec_ and the Base64 of 24 to 64 bytes")]
    Encoding,
    /// It is shorter or longer than the specification asks for.
    #[error("expected whsec_ and the Base64 of 24 to 64 bytes, found {bytes} bytes")]
    Length {
        /// How long it is.
        bytes: usize,
    },
}

impl WebhookConfig {
    /// Checks URL and secret, both before the first complaint. The rest is as design has it: no gzip, 30 s a try,
    /// 4 minutes of patience.
    pub fn new(url: Url, secret: Option<&SecretString>) -> Result<Self, WebhookConfigError> {
        let signer = match secret {
            Some(secret) => Signer::new(secret).map(Some),
            None if is_loopback(&url) => Ok(None),
            None => Err(SecretError::Missing),
        };
        match (check(&url), signer) {
            (Ok(()), Ok(signer)) => Ok(Self::of(url, signer)),
            (url, signer) => Err(WebhookConfigError { url: url.err(), secret: signer.err() }),
        }
    }

    /// The same without a secret, for one that is known later: see [`Self::signed_with`].
    pub fn to_be_signed(url: Url) -> Result<Self, WebhookConfigError> {
        match check(&url) {
            Ok(()) => Ok(Self::of(url, None)),
            Err(error) => Err(WebhookConfigError { url: Some(error), secret: None }),
        }
    }

    /// The same, signed.
    pub fn signed_with(self, secret: &SecretString) -> Result<Self, SecretError> {
        Ok(Self { signer: Some(Signer::new(secret)?), ..self })
    }

    fn of(url: Url, signer: Option<Signer>) -> Self {
        Self {
            url,
            signer,
            gzip: false,
            timeout: Duration::from_secs(30),
            patience: RetryBudget::lasting(Duration::from_secs(4 * 60)),
        }
    }

    /// The URL as logs have it: without its query string.
    pub fn shown_url(&self) -> String {
        shown(&self.url)
    }

    /// Whether the receiver is this machine.
    pub fn is_loopback(&self) -> bool {
        is_loopback(&self.url)
    }
}

impl fmt::Debug for WebhookConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebhookConfig")
            .field("url", &self.shown_url())
            .field("signed", &self.signer.is_some())
            .field("gzip", &self.gzip)
            .field("timeout", &self.timeout)
            .field("patience", &self.patience)
            .finish()
    }
}

impl fmt::Display for WebhookConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.url, &self.secret) {
            (Some(url), Some(secret)) => write!(f, "the webhook's URL: {url}; its secret: {secret}"),
            (Some(url), None) => write!(f, "the webhook's URL: {url}"),
            (None, Some(secret)) => write!(f, "the webhook's secret: {secret}"),
            (None, None) => f.write_str("the webhook is usable"),
        }
    }
}

impl std::error::Error for WebhookConfigError {}

/// Signs messages: HMAC-SHA256 by the Standard Webhooks specification.
///
/// The `standardwebhooks` crate copies every body and hashes it without the processor's own instructions; on bodies of a
/// MiB this takes about a tenth of its time. The receivers of the tests verify with the crate.
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
        Hmac::new_from_slice(&key).map(Self).map_err(|_| SecretError::Encoding)
    }

    /// The `webhook-signature`: over id, timestamp and body, joined by full stops.
    pub(super) fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        let mut hmac = self.0.clone();
        hmac.update(format!("{id}.{timestamp}.").as_bytes());
        hmac.update(body);
        format!("v1,{}", BASE64_STANDARD.encode(hmac.finalize().into_bytes()))
    }
}

fn check(url: &Url) -> Result<(), UrlError> {
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

/// A URL without what may be secret in it.
pub(super) fn shown(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    url.into()
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
    fn plain_http_is_for_loopback_alone() {
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
    fn a_url_holds_no_credentials() {
        for url in ["https://me@partner.example/", "https://:word@partner.example/"] {
            assert_eq!(url_error(url), Some(UrlError::UserInfo), "{url}");
        }
    }

    #[test]
    fn a_secret_is_whsec_and_base64_of_24_to_64_bytes() {
        let of = |bytes: usize| format!("whsec_{}", BASE64_STANDARD.encode(vec![7; bytes]));
        for bytes in [24, 32, 64] {
            assert_eq!(secret_error(&of(bytes)), None, "{bytes}");
        }
        for bytes in [0, 23, 65] {
            assert_eq!(secret_error(&of(bytes)), Some(SecretError::Length { bytes }));
        }
        for text in ["", "C2FVsBQIhrscChlQIMV+b5sSYspob7oD", "whsec_not base64", "whsec_C2FVs"] {
            assert_eq!(secret_error(text), Some(SecretError::Encoding), "{text:?}");
        }
    }

    #[test]
    fn a_webhook_off_loopback_has_a_secret() {
        let missing = config("https://partner.example/", None).unwrap_err();
        assert_eq!(missing.secret, Some(SecretError::Missing));
        assert!(config("http://127.0.0.1/", None).is_ok());
    }

    #[test]
    fn url_and_secret_are_complained_of_together() {
        let error = config("http://partner.example/", Some("whsec_tooshort")).unwrap_err();
        assert_eq!(error.url, Some(UrlError::Scheme));
        assert_eq!(error.secret, Some(SecretError::Length { bytes: 6 }));
    }

    #[test]
    fn neither_the_secret_nor_a_query_string_is_shown() {
        let config = config("https://partner.example/hook?code=hidden#hidden", Some(SECRET)).unwrap();
        let shown = format!("{config:?}");
        assert!(shown.contains("https://partner.example/hook"), "{shown}");
        assert!(!shown.contains("hidden") && !shown.contains("C2FV"), "{shown}");
    }
}
