//! The Viva Insights API: asks Microsoft for the wrapped keys of one drop.
//!
//! Knows the wire format of `egressDecryptionKey` and which answers are final. [`partner_key`] registers a tenant's key,
//! and [`token`] knows how we prove who we are.

pub mod partner_key;
mod probe;
pub mod token;

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use azure_core::credentials::{Secret, TokenCredential};
use reqwest::{Response, StatusCode, header::RETRY_AFTER, redirect};
use serde::Serialize;
use serde_json::{Map, Value};
use url::Url;

use self::token::Token;
use super::{
    KeyError, WrappedKeys,
    answer::{bounded, code_in, may_help_to_try_again},
    details::{first_object, wrapped_keys},
};
use crate::{
    drop::TenantId,
    loopback::is_loopback,
    retry::{self, Attempt, GaveUp, RetryBudget, retry_after},
};

/// How long there are tries.
const PATIENCE: RetryBudget = RetryBudget::lasting(Duration::from_secs(120));

/// How long one try may take.
const TRY_TIMEOUT: Duration = Duration::from_secs(30);

/// The Viva Insights API at one address.
pub struct VivaApi {
    client: reqwest::Client,
    /// What endpoints are below of: `…/v1.0`.
    base: Url,
    token: Option<Token>,
    patience: RetryBudget,
    try_timeout: Duration,
}

impl fmt::Debug for VivaApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VivaApi").field("base", &self.base.as_str()).finish_non_exhaustive()
    }
}

/// Why the API cannot be set up with these settings: the end of `VIVA_API_URL is …:`.
#[derive(Debug, thiserror::Error)]
pub enum NotUsable {
    /// Keys and tokens would travel in the clear, or the address has parts that an address of ours never has.
    #[error("expected https://… without user, query and fragment (plain http:// on loopback only)")]
    Url,
    /// A token is always for a scope.
    #[error("VIVA_API_SCOPE is not set: expected the scope of the token for the API, such as https://…/.default")]
    NoScope,
    /// `PARTNER_TENANT_ID`, `PARTNER_APP_ID` or `PARTNER_APP_SECRET` is no such thing, or there is no managed identity.
    #[error("no token can be asked for")]
    Credential(#[source] azure_core::Error),
    /// TLS or the resolver does not start.
    #[error("the HTTP client does not start")]
    Client(#[source] reqwest::Error),
}

/// What is asked.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Question<'a> {
    request_id: &'a str,
    scope_id: TenantId,
}

/// What came of one try that gave no keys, and how long the other side asks us to wait.
struct ApiError {
    error: KeyError,
    wait: Option<Duration>,
}

/// An answer that is none of what was asked for.
struct Refusal {
    status: StatusCode,
    /// The status, and the error code where the body has one.
    answered: String,
    wait: Option<Duration>,
}

impl From<KeyError> for ApiError {
    fn from(error: KeyError) -> Self {
        Self { error, wait: None }
    }
}

impl VivaApi {
    /// The API at `url`. With a `token`, it is asked for `scope` and sent along; see [`token::credential`].
    pub fn new(url: &Url, token: Option<Arc<dyn TokenCredential>>, scope: String) -> Result<Self, NotUsable> {
        let local = is_loopback(url);
        let token = match token {
            Some(_) if scope.trim().is_empty() => return Err(NotUsable::NoScope),
            Some(credential) => Some(Token { credential, scope }),
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
            client: client.build().map_err(NotUsable::Client)?,
            base: base(url, local).ok_or(NotUsable::Url)?,
            token,
            patience: PATIENCE,
            try_timeout: TRY_TIMEOUT,
        })
    }

    /// With other limits than 30 s a try and 2 minutes in all.
    #[must_use]
    pub fn with_limits(mut self, patience: RetryBudget, try_timeout: Duration) -> Self {
        self.patience = patience;
        self.try_timeout = try_timeout;
        self
    }

    /// The wrapped keys of the drop that answers `request_id` (its `CopyActivityId`), made for `tenant`.
    ///
    /// Tries again by itself while that may help. A File key is always among what it returns.
    pub async fn egress_decryption_key(&self, request_id: &str, tenant: TenantId) -> Result<WrappedKeys, KeyError> {
        let question = Question { request_id, scope_id: tenant };
        self.until_answered(|| self.ask(&question)).await
    }

    /// Asks until there is an answer, or none is to be had by asking again.
    async fn until_answered<T, F>(&self, ask: impl Fn() -> F) -> Result<T, KeyError>
    where
        F: Future<Output = Result<T, ApiError>>,
    {
        let answered = retry::retry(self.patience, |_| async {
            match ask().await {
                Ok(answer) => Attempt::Done(answer),
                Err(ApiError { error: error @ KeyError::Unavailable { .. }, wait }) => Attempt::Transient(error, wait),
                Err(ApiError { error, .. }) => Attempt::Permanent(error),
            }
        });
        answered.await.map_err(|gave_up| match gave_up {
            GaveUp::Permanent(error) | GaveUp::BudgetSpent(error, _) => error,
        })
    }

    async fn ask(&self, question: &Question<'_>) -> Result<WrappedKeys, ApiError> {
        let answer = self.exchange(self.endpoint("egressDecryptionKey"), question).await?;
        self.read(answer, question).await
    }

    fn endpoint(&self, name: &str) -> Url {
        let mut endpoint = self.base.clone();
        endpoint.set_path(&format!("{}/{name}", endpoint.path()));
        endpoint
    }

    /// Posts `body` in our name; whatever is answered.
    async fn exchange(&self, endpoint: Url, body: &(impl Serialize + Sync)) -> Result<Response, ApiError> {
        let Some(token) = &self.token else {
            return self.post(endpoint, body, None).await;
        };
        let secret = token.get(self.try_timeout).await?;
        let answer = self.post(endpoint.clone(), body, Some(&secret)).await?;
        if answer.status() == StatusCode::UNAUTHORIZED {
            // It may have lapsed on the way. The credential's cache cannot be told so: it renews by the clock.
            let newer = token.get(self.try_timeout).await?;
            if newer != secret {
                return self.post(endpoint, body, Some(&newer)).await;
            }
        }
        Ok(answer)
    }

    async fn post(
        &self,
        endpoint: Url,
        body: &(impl Serialize + Sync),
        token: Option<&Secret>,
    ) -> Result<Response, ApiError> {
        let mut request = self.client.post(endpoint).timeout(self.try_timeout).json(body);
        if let Some(token) = token {
            request = request.bearer_auth(token.secret());
        }
        request.send().await.map_err(|error| self.silent(error).into())
    }

    async fn read(&self, answer: Response, question: &Question<'_>) -> Result<WrappedKeys, ApiError> {
        match self.content(answer).await? {
            Ok(answer) => Ok(self.keys_in(answer, question)?),
            Err(Refusal { status, answered, wait }) => {
                Err(ApiError { error: self.refusal(status, &answered, question), wait })
            }
        }
    }

    /// What an answer holds: an object, or a refusal. A success without one is final: a gateway's page, or the wrong
    /// address, stays what it is.
    async fn content(&self, answer: Response) -> Result<Result<Map<String, Value>, Refusal>, ApiError> {
        let status = answer.status();
        let asked = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let wait = asked.and_then(|value| retry_after(value, SystemTime::now()));
        let body = bounded(answer).await;
        if status.is_success() {
            let body = body.map_err(|error| self.silent(error))?;
            let body = body.ok_or_else(|| self.nonsense(&"is longer than 64 KiB"))?;
            return Ok(Ok(first_object(&body).map_err(|no_object| self.nonsense(&no_object))?));
        }
        let code = body.ok().flatten().and_then(|body| code_in(&body));
        let answered = match code {
            Some(code) => format!("HTTP {status}, {code}"),
            None => format!("HTTP {status}"),
        };
        Ok(Err(Refusal { status, answered, wait }))
    }

    fn nonsense(&self, what: &dyn fmt::Display) -> KeyError {
        KeyError::Refused(format!("the answer of {self} {what}: check VIVA_API_URL"))
    }

    /// The keys in an answer.
    fn keys_in(&self, answer: Map<String, Value>, question: &Question<'_>) -> Result<WrappedKeys, KeyError> {
        let keys = wrapped_keys(&Value::Object(answer))?;
        if keys.file.is_none() {
            let request = question.request_id;
            return Err(KeyError::Refused(format!("{self} has no File key for request `{request}`")));
        }
        Ok(keys)
    }

    fn refusal(&self, status: StatusCode, answered: &str, question: &Question<'_>) -> KeyError {
        let Question { request_id, scope_id } = question;
        match status {
            status if may_help_to_try_again(status.as_u16()) => {
                KeyError::Unavailable { what: self.to_string(), source: answered.into() }
            }
            StatusCode::BAD_REQUEST => KeyError::Refused(format!(
                "{self} has no keys for request `{request_id}` of tenant `{scope_id}` ({answered}): check CopyActivityId \
                 and TenantId of the job metadata, and that the tenant's key is registered (`vivadrop onboard`)"
            )),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => KeyError::Refused(format!(
                "{self} does not let us have the keys of tenant `{scope_id}` ({answered}): check PARTNER_TENANT_ID, \
                 PARTNER_APP_ID, PARTNER_APP_SECRET and VIVA_API_SCOPE, and that the customer has consented to this app"
            )),
            _ => KeyError::Refused(format!("{self} answered with {answered}: check VIVA_API_URL")),
        }
    }

    fn silent(&self, error: reqwest::Error) -> KeyError {
        KeyError::Unavailable { what: self.to_string(), source: error.without_url().into() }
    }
}

/// What errors call it.
impl fmt::Display for VivaApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the Viva Insights API at `{}`", self.base.origin().ascii_serialization())
    }
}

fn base(url: &Url, local: bool) -> Option<Url> {
    let scheme_is_fine = url.scheme() == "https" || (url.scheme() == "http" && local);
    let is_plain = url.username().is_empty() && url.password().is_none() && url.query().or(url.fragment()).is_none();
    let mut base = url.clone();
    base.path_segments_mut().ok()?.pop_if_empty().push("v1.0");
    (scheme_is_fine && is_plain).then_some(base)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        text.parse().unwrap()
    }

    #[test]
    fn the_endpoint_is_below_the_given_address() {
        for address in ["https://api.example", "https://api.example/", "https://api.example:443"] {
            let api = VivaApi::new(&url(address), None, String::new()).unwrap();
            assert_eq!(api.endpoint("egressDecryptionKey").as_str(), "https://api.example/v1.0/egressDecryptionKey");
        }
        let api = VivaApi::new(&url("http://127.0.0.1:7071/viva/"), None, String::new()).unwrap();
        assert_eq!(api.endpoint("egressDecryptionKey").as_str(), "http://127.0.0.1:7071/viva/v1.0/egressDecryptionKey");
    }

    #[test]
    fn plain_http_is_for_loopback_alone() {
        for address in ["http://127.0.0.1", "http://127.8.9.1:1", "http://[::1]:7071", "http://LOCALHOST/"] {
            assert!(VivaApi::new(&url(address), None, String::new()).is_ok(), "{address}");
        }
        for address in ["http://api.example", "http://10.0.0.1", "http://localhost.api.example", "ftp://localhost"] {
            let refused = VivaApi::new(&url(address), None, String::new());
            assert!(matches!(refused, Err(NotUsable::Url)), "{address}");
        }
    }

    #[test]
    fn an_address_with_a_password_or_a_query_is_not_taken() {
        for address in ["https://me:secret@api.example", "https://me@api.example", "https://api.example/?sig=secret"] {
            let refused = VivaApi::new(&url(address), None, String::new());
            assert!(matches!(refused, Err(NotUsable::Url)), "{address}");
        }
    }
}
