//! Sends requests to the API: with a token, with retries, and with responses of bounded length.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use azure_core::credentials::Secret;
use reqwest::{Response, StatusCode, header::RETRY_AFTER};
use serde::{Serialize, de::DeserializeOwned};
use url::Url;

use super::VivaApi;
use crate::{
    http_response::{bounded_body, error_code, is_transient},
    json::first_object,
    keys::KeyError,
    retry::{self, Attempt, retry_after},
    telemetry,
};

/// Why one request failed. Only [`KeyError::Unavailable`] is retried.
pub(super) struct RequestError {
    pub(super) error: KeyError,
    /// The server's `Retry-After`.
    pub(super) retry_after: Option<Duration>,
}

impl From<KeyError> for RequestError {
    fn from(error: KeyError) -> Self {
        Self { error, retry_after: None }
    }
}

/// A response that is neither a success nor a transient failure. Its meaning depends on the request.
pub(super) struct ErrorResponse {
    pub(super) status: StatusCode,
    /// The status, and the error code if the body has one.
    pub(super) summary: String,
}

impl VivaApi {
    /// Sends a request until it succeeds or fails permanently.
    pub(super) async fn with_retries<T, F>(&self, send: impl Fn() -> F) -> Result<T, KeyError>
    where
        F: Future<Output = Result<T, RequestError>>,
    {
        let result = retry::retry(self.limits.retry, |_| async {
            match send().await {
                Ok(response) => Attempt::Done(response),
                Err(RequestError { error: error @ KeyError::Unavailable { .. }, retry_after }) => {
                    Attempt::Transient(error, retry_after)
                }
                Err(RequestError { error, .. }) => Attempt::Permanent(error),
            }
        });
        result.await.map_err(KeyError::from)
    }

    /// Posts `body` with a token; returns the response, whatever its status.
    pub(super) async fn post(&self, endpoint: Url, body: &(impl Serialize + Sync)) -> Result<Response, RequestError> {
        let Some(token) = &self.token else {
            return self.send(endpoint, body, None).await;
        };
        let secret = token.get(self.limits.try_timeout).await?;
        let response = self.send(endpoint.clone(), body, Some(&secret)).await?;
        if response.status() == StatusCode::UNAUTHORIZED {
            // The token may have expired on the way. The credential's cache cannot be invalidated: it renews by time.
            let newer = token.get(self.limits.try_timeout).await?;
            if newer != secret {
                return self.send(endpoint, body, Some(&newer)).await;
            }
        }
        Ok(response)
    }

    async fn send(
        &self,
        endpoint: Url,
        body: &(impl Serialize + Sync),
        token: Option<&Secret>,
    ) -> Result<Response, RequestError> {
        let mut request = self.client.post(endpoint).timeout(self.limits.try_timeout).json(body);
        if let Some(token) = token {
            request = request.bearer_auth(token.secret());
        }
        telemetry::http::send(request).await.map_err(|error| self.no_response(error).into())
    }

    /// Reads the JSON object of a successful response, or the error code of another one.
    ///
    /// A successful response without a JSON object comes from a gateway or the wrong URL. It is not requested again at
    /// once, and no drop is set aside for it.
    pub(super) async fn read<T: DeserializeOwned>(
        &self,
        response: Response,
    ) -> Result<Result<T, ErrorResponse>, RequestError> {
        let status = response.status();
        let header = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let retry_after = header.and_then(|value| retry_after(value, SystemTime::now()));
        let body = bounded_body(response).await;
        if status.is_success() {
            let body = body.map_err(|error| self.no_response(error))?;
            let body = body.ok_or_else(|| self.malformed(&"is longer than 64 KiB"))?;
            return Ok(Ok(first_object(&body).map_err(|error| self.malformed(&error))?));
        }
        let code = body.ok().flatten().and_then(|body| error_code(&body));
        let summary = match code {
            Some(code) => format!("HTTP {status}, {code}"),
            None => format!("HTTP {status}"),
        };
        if is_transient(status.as_u16()) {
            let error = KeyError::unavailable(self.to_string(), summary);
            return Err(RequestError { error, retry_after });
        }
        Ok(Err(ErrorResponse { status, summary }))
    }

    fn malformed(&self, what: &dyn fmt::Display) -> KeyError {
        KeyError::Misconfigured(format!("the response of {self} {what}: check VIVA_API_URL"))
    }

    fn no_response(&self, error: reqwest::Error) -> KeyError {
        KeyError::unavailable(self.to_string(), error.without_url())
    }
}
