//! A client for the Viva Insights API, which provides the wrapped keys of drops.
//!
//! This module has the wire format of `egressDecryptionKey`; [`partner_key`] registers a tenant's public key, and
//! `probe` tests access. `request` sends requests and decides which failures are transient, and [`token`]
//! authenticates.

pub mod partner_key;
mod probe;
mod request;
pub mod token;

use std::{fmt, sync::Arc};

use azure_core::credentials::TokenCredential;
use reqwest::{StatusCode, redirect};
use serde::Serialize;
use url::Url;

use self::{
    request::{ErrorResponse, RequestError},
    token::TokenSource,
};
use super::{
    CallLimits, KeyError, WrappedKeys,
    details::{KeyDetails, wrapped_keys},
};
use crate::{drop::TenantId, loopback::is_loopback};

/// A client for the Viva Insights API at one URL.
pub struct VivaApi {
    client: reqwest::Client,
    /// The URL below which the endpoints are: `…/v1.0`.
    base: Url,
    token: Option<TokenSource>,
    limits: CallLimits,
}

impl fmt::Debug for VivaApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VivaApi").field("base", &self.base.as_str()).finish_non_exhaustive()
    }
}

/// Why the API's client cannot be created.
#[derive(Debug, thiserror::Error)]
pub enum InvalidVivaApi {
    /// The URL would send keys and tokens unencrypted, or has parts that the API's URL never has.
    #[error("expected https://… without user, query and fragment (plain http:// on loopback only)")]
    Url,
    /// A token is requested for a scope, so there must be one.
    #[error("VIVA_API_SCOPE is not set: expected the scope of the token for the API, such as https://…/.default")]
    NoScope,
    /// `PARTNER_TENANT_ID`, `PARTNER_APP_ID` or `PARTNER_APP_SECRET` is invalid, or there is no managed identity.
    #[error("cannot request tokens for it")]
    Credential(#[source] azure_core::Error),
    /// TLS or the resolver cannot be initialized.
    #[error("cannot create the HTTP client")]
    Client(#[source] reqwest::Error),
}

/// The request body of `egressDecryptionKey`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct KeyRequest<'a> {
    request_id: &'a str,
    scope_id: TenantId,
}

impl VivaApi {
    /// A client for the API at `url`. If `token` is given, requests are authenticated with its token for `scope`; see
    /// [`token::credential`].
    pub fn new(url: &Url, token: Option<Arc<dyn TokenCredential>>, scope: String) -> Result<Self, InvalidVivaApi> {
        let local = is_loopback(url);
        let token = match token {
            Some(_) if scope.trim().is_empty() => return Err(InvalidVivaApi::NoScope),
            Some(credential) => Some(TokenSource { credential, scope }),
            None => None,
        };
        let mut client = reqwest::Client::builder()
            .redirect(redirect::Policy::none())
            .https_only(!local)
            .user_agent(concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION")));
        if local {
            client = client.no_proxy();
        }
        Ok(Self {
            client: client.build().map_err(InvalidVivaApi::Client)?,
            base: base_url(url, local).ok_or(InvalidVivaApi::Url)?,
            token,
            limits: CallLimits::default(),
        })
    }

    /// Replaces the default limits.
    #[must_use]
    pub fn with_limits(mut self, limits: CallLimits) -> Self {
        self.limits = limits;
        self
    }

    /// Requests the wrapped keys of the drop with this `request_id` (its `CopyActivityId`) of `tenant`, with retries.
    ///
    /// The result always has a File key.
    pub async fn egress_decryption_key(&self, request_id: &str, tenant: TenantId) -> Result<WrappedKeys, KeyError> {
        let request = KeyRequest { request_id, scope_id: tenant };
        self.with_retries(|| self.request_keys(&request)).await
    }

    async fn request_keys(&self, request: &KeyRequest<'_>) -> Result<WrappedKeys, RequestError> {
        let response = self.post(self.endpoint("egressDecryptionKey"), request).await?;
        match self.read(response).await? {
            Ok(details) => Ok(self.keys_in(&details, request)?),
            Err(response) => Err(self.request_rejected(&response, request).into()),
        }
    }

    fn endpoint(&self, name: &str) -> Url {
        let mut endpoint = self.base.clone();
        endpoint.set_path(&format!("{}/{name}", endpoint.path()));
        endpoint
    }

    /// The keys in a response.
    fn keys_in(&self, response: &KeyDetails, request: &KeyRequest<'_>) -> Result<WrappedKeys, KeyError> {
        let keys = wrapped_keys(response)?;
        if keys.file.is_none() {
            let request = request.request_id;
            return Err(KeyError::NoKey(format!("{self} has no File key for request `{request}`")));
        }
        Ok(keys)
    }

    fn request_rejected(&self, response: &ErrorResponse, request: &KeyRequest<'_>) -> KeyError {
        let KeyRequest { request_id, scope_id } = request;
        let ErrorResponse { status, summary } = response;
        match *status {
            StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND => KeyError::NoKey(format!(
                "{self} has no keys for request `{request_id}` of tenant `{scope_id}` ({summary}): check CopyActivityId \
                 and TenantId of the job metadata, that the tenant's key is registered (`vivadrop onboard`), and VIVA_API_URL"
            )),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => KeyError::Misconfigured(format!(
                "{self} denies access to the keys of tenant `{scope_id}` ({summary}): check PARTNER_TENANT_ID, \
                 PARTNER_APP_ID, PARTNER_APP_SECRET and VIVA_API_SCOPE, and that the customer has consented to this app"
            )),
            _ => KeyError::Misconfigured(format!("{self} answered {summary}: check VIVA_API_URL")),
        }
    }
}

/// The API's name in error messages.
impl fmt::Display for VivaApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the Viva Insights API at `{}`", self.base.origin().ascii_serialization())
    }
}

fn base_url(url: &Url, local: bool) -> Option<Url> {
    let is_secure = url.scheme() == "https" || (url.scheme() == "http" && local);
    let is_bare = url.username().is_empty() && url.password().is_none() && url.query().or(url.fragment()).is_none();
    let mut base = url.clone();
    base.path_segments_mut().ok()?.pop_if_empty().push("v1.0");
    (is_secure && is_bare).then_some(base)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        text.parse().unwrap()
    }

    #[test]
    fn endpoints_are_below_the_configured_url() {
        for address in ["https://api.example", "https://api.example/", "https://api.example:443"] {
            let api = VivaApi::new(&url(address), None, String::new()).unwrap();
            assert_eq!(api.endpoint("egressDecryptionKey").as_str(), "https://api.example/v1.0/egressDecryptionKey");
        }
        let api = VivaApi::new(&url("http://127.0.0.1:7071/viva/"), None, String::new()).unwrap();
        assert_eq!(api.endpoint("egressDecryptionKey").as_str(), "http://127.0.0.1:7071/viva/v1.0/egressDecryptionKey");
    }

    #[test]
    fn plain_http_is_accepted_on_loopback_only() {
        for address in ["http://127.0.0.1", "http://127.8.9.1:1", "http://[::1]:7071", "http://LOCALHOST/"] {
            assert!(VivaApi::new(&url(address), None, String::new()).is_ok(), "{address}");
        }
        for address in ["http://api.example", "http://10.0.0.1", "http://localhost.api.example", "ftp://localhost"] {
            let rejected = VivaApi::new(&url(address), None, String::new());
            assert!(matches!(rejected, Err(InvalidVivaApi::Url)), "{address}");
        }
    }

    #[test]
    fn a_url_with_user_or_query_is_rejected() {
        for address in ["https://me:secret@api.example", "https://me@api.example", "https://api.example/?sig=secret"] {
            let rejected = VivaApi::new(&url(address), None, String::new());
            assert!(matches!(rejected, Err(InvalidVivaApi::Url)), "{address}");
        }
    }
}
