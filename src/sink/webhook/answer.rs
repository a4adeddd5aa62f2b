//! What an answer means: taken, refused, or try again.

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

/// How long a try may take.
pub(super) struct Timeouts {
    pub(super) connect: Duration,
    pub(super) whole: Duration,
}

/// What a status means, and what is said of it.
pub(super) fn of_status(status: StatusCode, headers: &HeaderMap) -> Attempt<(), String> {
    if status.is_success() {
        return Attempt::Done(());
    }
    let answer = match status.canonical_reason() {
        Some(reason) => format!("HTTP {} {reason}", status.as_str()),
        None => format!("HTTP {}", status.as_str()),
    };
    if status.is_redirection() {
        Attempt::Permanent(format!("{answer} (redirects are not followed)"))
    } else if may_pass(status) {
        Attempt::Transient(answer, asked(headers))
    } else {
        Attempt::Permanent(answer)
    }
}

fn may_pass(status: StatusCode) -> bool {
    status.is_server_error()
        || matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS)
}

/// What is said of a try that had no answer, without the URL. Trying again may always help: a name, a route or a
/// certificate that is wrong now is put right without our doing.
pub(super) fn of_failure(error: &reqwest::Error, timeouts: &Timeouts) -> String {
    if error.is_timeout() && error.is_connect() {
        format!("no connection within {}", in_seconds(timeouts.connect))
    } else if error.is_timeout() {
        format!("timed out after {}", in_seconds(timeouts.whole))
    } else {
        cause(error)
    }
}

/// The innermost error of the chain, where what happened is: `connection refused`.
fn cause(error: &reqwest::Error) -> String {
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
        // An error without a source has only its own text, and that ends with the URL.
        Some(_) => "the request could not be sent".into(),
        None => cause.to_string(),
    }
}

fn in_seconds(time: Duration) -> String {
    format!("{} s", time.as_secs_f64())
}

/// How long the receiver asks to be left alone.
fn asked(headers: &HeaderMap) -> Option<Duration> {
    retry_after(headers.get(RETRY_AFTER)?.to_str().ok()?, SystemTime::now())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meaning(status: u16) -> &'static str {
        match of_status(StatusCode::from_u16(status).unwrap(), &HeaderMap::new()) {
            Attempt::Done(()) => "taken",
            Attempt::Transient(..) => "again",
            Attempt::Permanent(_) => "refused",
        }
    }

    #[test]
    fn a_status_means_taken_again_or_refused() {
        for status in [200, 201, 202, 204, 299] {
            assert_eq!(meaning(status), "taken", "{status}");
        }
        for status in [408, 425, 429, 500, 502, 503, 504, 529, 599] {
            assert_eq!(meaning(status), "again", "{status}");
        }
        for status in [300, 301, 302, 304, 307, 308, 400, 401, 403, 404, 410, 413, 422, 451] {
            assert_eq!(meaning(status), "refused", "{status}");
        }
    }

    #[test]
    fn an_answer_is_a_status_with_its_reason() {
        let answer = |status| of_status(StatusCode::from_u16(status).unwrap(), &HeaderMap::new());
        assert!(matches!(answer(404), Attempt::Permanent(text) if text == "HTTP 404 Not Found"));
        assert!(matches!(answer(529), Attempt::Transient(text, None) if text == "HTTP 529"));
        assert!(
            matches!(answer(302), Attempt::Permanent(text) if text == "HTTP 302 Found (redirects are not followed)")
        );
    }
}
