//! What a failing credential means. Its own words are left out: they quote the token service's answer.

use std::{
    error::Error,
    time::{Duration, SystemTime},
};

use azure_core::{error::ErrorKind, http::headers};

use crate::{keys::answer::may_help_to_try_again, retry::retry_after};

/// Why there is no token.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoToken {
    /// The token service did not answer, or cannot now.
    #[error("the token service did not answer ({why})")]
    Unavailable {
        /// What happened.
        why: String,
        /// How long it asks us to wait.
        wait: Option<Duration>,
    },
    /// The token service refuses: `HTTP 401, AADSTS7000215`.
    #[error("the token service answered {0}")]
    Refused(String),
    /// Nobody is signed in with `az` or `azd`.
    #[error("nobody is signed in, and there is no managed identity here")]
    NobodySignedIn,
}

impl NoToken {
    /// What `error`, a credential's, comes to.
    pub(crate) fn of(error: &azure_core::Error) -> Self {
        let Some(Answer { status, code, wait }) = answer_in(error) else {
            return without_answer(error);
        };
        let answered = match code {
            Some(code) => format!("HTTP {status}, AADSTS{code}"),
            None => format!("HTTP {status}"),
        };
        // The managed identity's endpoint says 404 and 410 while it starts.
        if may_help_to_try_again(status) || matches!(status, 404 | 410) {
            Self::Unavailable { why: answered, wait }
        } else {
            Self::Refused(answered)
        }
    }
}

/// What the token service answered.
struct Answer {
    status: u16,
    /// The number of Entra's error, by which its documentation lists it.
    code: Option<String>,
    wait: Option<Duration>,
}

fn answer_in(error: &azure_core::Error) -> Option<Answer> {
    kinds(error).find_map(|kind| match kind {
        ErrorKind::HttpResponse { status, error_code, raw_response } => Some(Answer {
            status: u16::from(*status),
            code: error_code
                .as_deref()
                .and_then(|codes| codes.split(',').next())
                .filter(|code| matches!(code.len(), 1..=10) && code.bytes().all(|byte| byte.is_ascii_digit()))
                .map(str::to_owned),
            wait: raw_response
                .as_ref()
                .and_then(|response| response.headers().get_optional_str(&headers::RETRY_AFTER))
                .and_then(|value| retry_after(value, SystemTime::now())),
        }),
        _ => None,
    })
}

fn without_answer(error: &azure_core::Error) -> NoToken {
    // The developer's tools report in one text what each of them said; what has a cause has another kind below.
    if kinds(error).all(|kind| *kind == ErrorKind::Credential)
        && chain(error).all(|cause| cause.is::<azure_core::Error>())
    {
        return NoToken::NobodySignedIn;
    }
    let why = network_cause(error).unwrap_or_else(|| "its answer cannot be read".to_owned());
    NoToken::Unavailable { why, wait: None }
}

/// The innermost cause where it is the network's, such as `Connection refused`.
pub(crate) fn network_cause(error: &azure_core::Error) -> Option<String> {
    let is_network = kinds(error).any(|kind| matches!(kind, ErrorKind::Io | ErrorKind::Connection));
    is_network.then(|| chain(error).last().map(ToString::to_string)).flatten()
}

fn kinds(error: &azure_core::Error) -> impl Iterator<Item = &ErrorKind> {
    chain(error).filter_map(|cause| Some(cause.downcast_ref::<azure_core::Error>()?.kind()))
}

fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

#[cfg(test)]
mod tests {
    use azure_core::{
        Bytes,
        http::{RawResponse, StatusCode, headers::Headers},
    };

    use super::*;

    /// As `azure_identity` hands on what the token service answered.
    fn answered(status: StatusCode, code: Option<&str>, retry_after: Option<&'static str>) -> azure_core::Error {
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
    fn a_wrong_secret_is_refused_by_the_number_of_its_error() {
        let error = answered(StatusCode::Unauthorized, Some("7000215,50000"), None);
        assert_eq!(NoToken::of(&error), NoToken::Refused("HTTP 401, AADSTS7000215".into()));
    }

    #[test]
    fn a_token_service_that_cannot_now_is_asked_again_when_it_says() {
        let error = answered(StatusCode::ServiceUnavailable, None, Some("7"));
        let wait = Some(Duration::from_secs(7));
        assert_eq!(NoToken::of(&error), NoToken::Unavailable { why: "HTTP 503".into(), wait });
    }

    #[test]
    fn a_token_service_that_is_not_there_is_asked_again() {
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        let inner = azure_core::Error::new(ErrorKind::Connection, refused);
        let error = azure_core::Error::with_error(ErrorKind::Credential, inner, "failed");
        assert_eq!(NoToken::of(&error), NoToken::Unavailable { why: "connection refused".into(), wait: None });
    }

    #[test]
    fn an_answer_that_cannot_be_read_is_not_quoted() {
        let inner = azure_core::Error::with_message(ErrorKind::DataConversion, "invalid type: string \"hunter2\"");
        let error = azure_core::Error::with_error(ErrorKind::Credential, inner, "failed");
        let why = "its answer cannot be read".to_owned();
        assert_eq!(NoToken::of(&error), NoToken::Unavailable { why, wait: None });
    }

    #[test]
    fn what_the_developers_tools_say_is_not_quoted_either() {
        let inner = azure_core::Error::with_message(ErrorKind::Credential, "Please run `az login`: hunter2");
        let error = azure_core::Error::with_error(ErrorKind::Credential, inner, "not retried");
        assert_eq!(NoToken::of(&error), NoToken::NobodySignedIn);
    }
}
