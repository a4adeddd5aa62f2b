//! Why a credential has no token. The credential's own message is not used, because it quotes the token service's
//! response.

use std::{
    error::Error,
    time::{Duration, SystemTime},
};

use azure_core::{error::ErrorKind, http::headers};

use crate::{http_response::is_transient, retry::retry_after};

/// Why there is no token.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TokenError {
    /// The token service did not answer, or reported a transient failure. A retry may succeed.
    #[error("the token service did not answer ({why})")]
    Unavailable {
        /// The cause, such as `HTTP 503` or `connection refused`.
        why: String,
        /// The server's `Retry-After`.
        retry_after: Option<Duration>,
    },
    /// The token service rejected the request, such as with `HTTP 401, AADSTS7000215`. A retry cannot succeed.
    #[error("the token service answered {0}")]
    Rejected(String),
    /// No user is signed in with `az` or `azd`. A retry cannot succeed.
    #[error("no user is signed in, and this machine has no managed identity")]
    NotSignedIn,
}

impl TokenError {
    /// Classifies the error of a credential.
    pub(crate) fn of(error: &azure_core::Error) -> Self {
        let Some(Response { status, code, retry_after }) = response_in(error) else {
            return without_response(error);
        };
        let answered = match code {
            Some(code) => format!("HTTP {status}, AADSTS{code}"),
            None => format!("HTTP {status}"),
        };
        // The endpoint of the managed identity answers 404 and 410 while it starts.
        if is_transient(status) || matches!(status, 404 | 410) {
            Self::Unavailable { why: answered, retry_after }
        } else {
            Self::Rejected(answered)
        }
    }
}

/// The token service's response.
struct Response {
    status: u16,
    /// The number of Entra's error, as listed in its documentation.
    code: Option<String>,
    retry_after: Option<Duration>,
}

fn response_in(error: &azure_core::Error) -> Option<Response> {
    kinds(error).find_map(|kind| match kind {
        ErrorKind::HttpResponse { status, error_code, raw_response } => Some(Response {
            status: u16::from(*status),
            code: error_code
                .as_deref()
                .and_then(|codes| codes.split(',').next())
                .filter(|code| matches!(code.len(), 1..=10) && code.bytes().all(|byte| byte.is_ascii_digit()))
                .map(str::to_owned),
            retry_after: raw_response
                .as_ref()
                .and_then(|response| response.headers().get_optional_str(&headers::RETRY_AFTER))
                .and_then(|value| retry_after(value, SystemTime::now())),
        }),
        _ => None,
    })
}

fn without_response(error: &azure_core::Error) -> TokenError {
    // The developer tools credential puts the messages of all tools into one text, without a cause. Every other failure
    // without a response has a cause of another kind.
    if kinds(error).all(|kind| *kind == ErrorKind::Credential)
        && sources(error).all(|cause| cause.is::<azure_core::Error>())
    {
        return TokenError::NotSignedIn;
    }
    let why = network_cause(error).unwrap_or_else(|| "its response cannot be read".to_owned());
    TokenError::Unavailable { why, retry_after: None }
}

/// The innermost cause of a network error, such as `connection refused`; `None` for other errors.
pub(crate) fn network_cause(error: &azure_core::Error) -> Option<String> {
    let is_network = kinds(error).any(|kind| matches!(kind, ErrorKind::Io | ErrorKind::Connection));
    is_network.then(|| sources(error).last().map(ToString::to_string)).flatten()
}

/// The kinds of the SDK errors among `error` and its sources.
fn kinds(error: &azure_core::Error) -> impl Iterator<Item = &ErrorKind> {
    sources(error).filter_map(|cause| Some(cause.downcast_ref::<azure_core::Error>()?.kind()))
}

/// `error` and its sources, outermost first.
fn sources<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

#[cfg(test)]
mod tests {
    use azure_core::{
        Bytes,
        http::{RawResponse, StatusCode, headers::Headers},
    };

    use super::*;

    /// The error with which `azure_identity` reports a response of the token service.
    fn error_response(status: StatusCode, code: Option<&str>, retry_after: Option<&'static str>) -> azure_core::Error {
        let mut headers = Headers::new();
        if let Some(value) = retry_after {
            headers.insert(headers::RETRY_AFTER, value);
        }
        let kind = ErrorKind::HttpResponse {
            status,
            error_code: code.map(str::to_owned),
            raw_response: Some(Box::new(RawResponse::from_bytes(status, headers, Bytes::new()))),
        };
        let inner = azure_core::Error::new(kind, "Invalid client secret: hunter2");
        azure_core::Error::with_error(ErrorKind::Credential, inner, "authentication failed: hunter2")
    }

    #[test]
    fn a_wrong_client_secret_is_reported_with_entras_error_number() {
        let error = error_response(StatusCode::Unauthorized, Some("7000215,50000"), None);
        assert_eq!(TokenError::of(&error), TokenError::Rejected("HTTP 401, AADSTS7000215".into()));
    }

    #[test]
    fn a_transient_failure_of_the_token_service_keeps_its_retry_after() {
        let error = error_response(StatusCode::ServiceUnavailable, None, Some("7"));
        let retry_after = Some(Duration::from_secs(7));
        assert_eq!(TokenError::of(&error), TokenError::Unavailable { why: "HTTP 503".into(), retry_after });
    }

    #[test]
    fn a_connection_error_is_transient() {
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        let inner = azure_core::Error::new(ErrorKind::Connection, refused);
        let error = azure_core::Error::with_error(ErrorKind::Credential, inner, "failed");
        let why = "connection refused".to_owned();
        assert_eq!(TokenError::of(&error), TokenError::Unavailable { why, retry_after: None });
    }

    #[test]
    fn a_response_that_cannot_be_parsed_is_not_quoted() {
        let inner = azure_core::Error::with_message(ErrorKind::DataConversion, "invalid type: string \"hunter2\"");
        let error = azure_core::Error::with_error(ErrorKind::Credential, inner, "failed");
        let why = "its response cannot be read".to_owned();
        assert_eq!(TokenError::of(&error), TokenError::Unavailable { why, retry_after: None });
    }

    #[test]
    fn the_messages_of_developer_tools_are_not_quoted() {
        let inner = azure_core::Error::with_message(ErrorKind::Credential, "Please run `az login`: hunter2");
        let error = azure_core::Error::with_error(ErrorKind::Credential, inner, "not retried");
        assert_eq!(TokenError::of(&error), TokenError::NotSignedIn);
    }
}
