//! Classifies the receiver's answers: acknowledged, or a failure that is transient, about this message, or about every
//! message.

use std::{
    error::Error,
    io,
    time::{Duration, SystemTime},
};

use reqwest::{
    StatusCode,
    header::{HeaderMap, RETRY_AFTER},
};

use crate::{http_response::StatusClass, retry::retry_after, sink::FailedTry};

/// The timeouts of one try.
pub(super) struct Timeouts {
    pub(super) connect: Duration,
    pub(super) whole: Duration,
}

/// Classifies a response by its status, with a text such as `HTTP 404 Not Found: check DELIVER_TO`.
pub(super) fn classify(status: StatusCode, headers: &HeaderMap) -> Result<(), FailedTry> {
    if status.is_success() {
        return Ok(());
    }
    let mut answer = match status.canonical_reason() {
        Some(reason) => format!("HTTP {} {reason}", status.as_str()),
        None => format!("HTTP {}", status.as_str()),
    };
    let class = StatusClass::of(status.as_u16());
    if let Some(fix) = fix(status, class) {
        answer = format!("{answer}: {fix}");
    }
    Err(FailedTry { class, answer, retry_after: requested_wait(headers) })
}

/// How to fix what the status reports; `None` if only the receiver's log can tell.
fn fix(status: StatusCode, class: StatusClass) -> Option<&'static str> {
    match (status, class) {
        (StatusCode::UNAUTHORIZED, _) => {
            Some("check WEBHOOK_SECRET, that the receiver has the same secret, and the receiver's clock")
        }
        (StatusCode::FORBIDDEN, _) => {
            Some("check WEBHOOK_SECRET and DELIVER_TO, and that the receiver's firewall allows this app")
        }
        (StatusCode::PROXY_AUTHENTICATION_REQUIRED, _) => Some("check HTTPS_PROXY; the proxy denies access"),
        (StatusCode::PAYLOAD_TOO_LARGE, _) => {
            Some("lower BATCH_BYTES or BATCH_ROWS, or let the receiver accept larger requests")
        }
        (StatusCode::UNSUPPORTED_MEDIA_TYPE, _) => {
            Some("the receiver must accept application/json, and gzip if WEBHOOK_GZIP is true")
        }
        _ if status.is_redirection() => Some("redirects are not followed, set DELIVER_TO to the final URL"),
        (_, StatusClass::Service) => Some("check DELIVER_TO; the endpoint accepts no messages"),
        (_, StatusClass::Transient | StatusClass::Request) => None,
    }
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

    fn classify_status(status: u16) -> Result<(), FailedTry> {
        classify(StatusCode::from_u16(status).unwrap(), &HeaderMap::new())
    }

    fn failed(status: u16) -> FailedTry {
        classify_status(status).unwrap_err()
    }

    #[test]
    fn any_2xx_acknowledges_the_message() {
        for status in [200, 201, 202, 204, 299] {
            assert_eq!(classify_status(status), Ok(()), "{status}");
        }
    }

    #[test]
    fn only_a_transient_failure_is_retried_in_the_run() {
        for status in [408, 425, 429, 500, 502, 503, 504, 529, 599] {
            assert_eq!(failed(status).class, StatusClass::Transient, "{status}");
        }
        for status in [300, 301, 302, 304, 307, 308, 400, 401, 403, 404, 405, 410, 413, 415, 422, 451] {
            assert_ne!(failed(status).class, StatusClass::Transient, "{status}");
        }
    }

    #[test]
    fn only_an_answer_about_the_message_rejects_it() {
        for status in [400, 413, 415, 422] {
            assert_eq!(failed(status).class, StatusClass::Request, "{status}");
        }
        for status in [301, 307, 401, 403, 404, 405, 409, 410, 411, 414, 426, 431, 451] {
            assert_eq!(failed(status).class, StatusClass::Service, "{status}");
        }
    }

    #[test]
    fn an_answer_is_described_by_its_status_its_reason_phrase_and_how_to_fix_it() {
        for (status, text) in [
            (400, "HTTP 400 Bad Request"),
            (404, "HTTP 404 Not Found: check DELIVER_TO; the endpoint accepts no messages"),
            (302, "HTTP 302 Found: redirects are not followed, set DELIVER_TO to the final URL"),
            (503, "HTTP 503 Service Unavailable"),
            (529, "HTTP 529"),
        ] {
            assert_eq!(failed(status).answer, text);
        }
    }

    #[test]
    fn a_requested_wait_is_kept() {
        let headers = HeaderMap::from_iter([(RETRY_AFTER, "7".parse().unwrap())]);
        let failed = classify(StatusCode::TOO_MANY_REQUESTS, &headers).unwrap_err();
        assert_eq!(failed.retry_after, Some(Duration::from_secs(7)));
    }
}
