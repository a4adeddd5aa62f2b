//! Classifies the receiver's answers: acknowledged, permanent failure or transient failure.

use std::{
    error::Error,
    io,
    time::{Duration, SystemTime},
};

use reqwest::{
    StatusCode,
    header::{HeaderMap, RETRY_AFTER},
};

use crate::retry::{Attempt, retry_after};

/// The timeouts of one try.
pub(super) struct Timeouts {
    pub(super) connect: Duration,
    pub(super) whole: Duration,
}

/// Classifies a response by its status, with a text such as `HTTP 404 Not Found`.
pub(super) fn classify(status: StatusCode, headers: &HeaderMap) -> Attempt<(), String> {
    if status.is_success() {
        return Attempt::Done(());
    }
    let answer = match status.canonical_reason() {
        Some(reason) => format!("HTTP {} {reason}", status.as_str()),
        None => format!("HTTP {}", status.as_str()),
    };
    if status.is_redirection() {
        Attempt::Permanent(format!("{answer} (redirects are not followed)"))
    } else if is_transient(status) {
        Attempt::Transient(answer, requested_wait(headers))
    } else {
        Attempt::Permanent(answer)
    }
}

/// Whether a retry may help.
fn is_transient(status: StatusCode) -> bool {
    status.is_server_error()
        || matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS)
}

/// Describes a try that got no response, without the URL, which may contain a secret.
///
/// Such failures are always transient: host names, routes and certificates get fixed without a change on our side.
pub(super) fn describe_failure(error: &reqwest::Error, timeouts: &Timeouts) -> String {
    if error.is_timeout() && error.is_connect() {
        format!("no connection within {} s", timeouts.connect.as_secs_f64())
    } else if error.is_timeout() {
        format!("timed out after {} s", timeouts.whole.as_secs_f64())
    } else {
        innermost_cause(error)
    }
}

/// The innermost error of the chain, which is the most specific one: `connection refused`.
fn innermost_cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    if let Some(error) = cause.downcast_ref::<io::Error>() {
        return match error.kind() {
            kind @ (io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable) => kind.to_string(),
            _ => error.to_string(),
        };
    }
    match cause.downcast_ref::<reqwest::Error>() {
        // The text of reqwest's own errors ends with the URL.
        Some(_) => "the request could not be sent".into(),
        None => cause.to_string(),
    }
}

/// The wait that the receiver requests with `Retry-After`.
fn requested_wait(headers: &HeaderMap) -> Option<Duration> {
    retry_after(headers.get(RETRY_AFTER)?.to_str().ok()?, SystemTime::now())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classify_status(status: u16) -> Attempt<(), String> {
        classify(StatusCode::from_u16(status).unwrap(), &HeaderMap::new())
    }

    #[test]
    fn a_status_is_an_acknowledgement_or_a_transient_or_permanent_failure() {
        for status in [200, 201, 202, 204, 299] {
            assert!(matches!(classify_status(status), Attempt::Done(())), "{status}");
        }
        for status in [408, 425, 429, 500, 502, 503, 504, 529, 599] {
            assert!(matches!(classify_status(status), Attempt::Transient(..)), "{status}");
        }
        for status in [300, 301, 302, 304, 307, 308, 400, 401, 403, 404, 410, 413, 422, 451] {
            assert!(matches!(classify_status(status), Attempt::Permanent(_)), "{status}");
        }
    }

    #[test]
    fn an_answer_is_described_by_its_status_and_reason_phrase() {
        assert!(matches!(classify_status(404), Attempt::Permanent(text) if text == "HTTP 404 Not Found"));
        assert!(matches!(classify_status(529), Attempt::Transient(text, None) if text == "HTTP 529"));
        assert!(
            matches!(classify_status(302), Attempt::Permanent(text) if text == "HTTP 302 Found (redirects are not followed)")
        );
    }
}
