//! Classifies the answers of the queue service as permanent or transient failures.

use std::time::{Duration, SystemTime};

use azure_core::{
    Error,
    error::ErrorKind,
    http::{StatusCode, headers},
};

use crate::{
    retry::{Attempt, retry_after},
    store::azure::{error_code, innermost},
};

/// Whether the queue does not exist.
pub(super) fn is_queue_missing(error: &Error) -> bool {
    error.http_status() == Some(StatusCode::NotFound) && error_code(error) == Some("QueueNotFound")
}

/// Whether the queue cannot be created because it exists already.
pub(super) fn has_queue_already(error: &Error) -> bool {
    error.http_status() == Some(StatusCode::Conflict) && error_code(error) == Some("QueueAlreadyExists")
}

/// Classifies a failed try. The text has the status and the service's error code, never the body of the response.
pub(super) fn classify(error: &Error) -> Attempt<(), String> {
    let Some(status) = error.http_status() else {
        // Without a status, there was no connection or no token. Both are transient.
        return Attempt::Transient(innermost(error), None);
    };
    // If the service sends no error code, the SDK puts the status there.
    let code = error_code(error).filter(|code| code.bytes().all(|byte| byte.is_ascii_alphabetic()));
    let answer = format!("HTTP {} {}", u16::from(status), code.unwrap_or_default());
    let answer = answer.trim_end().to_owned();
    match status {
        // Denied access is transient: roles take some minutes to apply, and firewalls and keys get fixed. Setting drops
        // aside would mean that somebody has to replay them.
        StatusCode::Unauthorized | StatusCode::Forbidden => {
            Attempt::Transient(format!("{answer} (check that the app may create the queue and add messages)"), None)
        }
        _ if is_transient(status, code) => Attempt::Transient(answer, requested_wait(error)),
        _ => Attempt::Permanent(answer),
    }
}

/// Whether a retry may help: after throttling, an outage, or while Azure creates or deletes the queue.
fn is_transient(status: StatusCode, code: Option<&str>) -> bool {
    let is_changing = matches!(code, Some("QueueNotFound" | "QueueBeingDeleted" | "QueueDisabled"));
    matches!(u16::from(status), 408 | 425 | 429 | 500..) || is_changing
}

/// The wait that the service requests with `Retry-After`.
fn requested_wait(error: &Error) -> Option<Duration> {
    let ErrorKind::HttpResponse { raw_response: Some(response), .. } = error.kind() else {
        return None;
    };
    retry_after(response.headers().get_optional_str(&headers::RETRY_AFTER)?, SystemTime::now())
}

#[cfg(test)]
mod tests {
    use azure_core::{
        Bytes,
        http::{RawResponse, headers::Headers},
    };

    use super::*;

    fn failure(status: u16, code: &str) -> Error {
        let (status, error_code) = (StatusCode::from(status), Some(code.to_owned()));
        let mut headers = Headers::new();
        headers.insert(headers::RETRY_AFTER, "7");
        let raw_response = Some(Box::new(RawResponse::from_bytes(status, headers, Bytes::new())));
        ErrorKind::HttpResponse { status, error_code, raw_response }.into_error()
    }

    #[test]
    fn a_transient_failure_is_retried_after_the_requested_wait() {
        for (status, code) in [
            (408, "RequestTimeout"),
            (429, "TooManyRequests"),
            (500, "InternalError"),
            (503, "ServerBusy"),
            (599, "Unheard"),
            (404, "QueueNotFound"),
            (409, "QueueBeingDeleted"),
        ] {
            let attempt = classify(&failure(status, code));
            let Attempt::Transient(answer, wait) = attempt else { panic!("{attempt:?}") };
            assert_eq!((answer, wait), (format!("HTTP {status} {code}"), Some(Duration::from_secs(7))));
        }
    }

    #[test]
    fn denied_access_is_retried() {
        for (status, code) in [(401, "InvalidAuthenticationInfo"), (403, "AuthorizationPermissionMismatch")] {
            let attempt = classify(&failure(status, code));
            let Attempt::Transient(answer, _) = attempt else { panic!("{attempt:?}") };
            assert_eq!(
                answer,
                format!("HTTP {status} {code} (check that the app may create the queue and add messages)")
            );
        }
    }

    #[test]
    fn any_other_answer_is_permanent() {
        for (status, code) in
            [(302, ""), (400, "InvalidInput"), (404, "ResourceNotFound"), (413, "RequestBodyTooLarge")]
        {
            let attempt = classify(&failure(status, code));
            let Attempt::Permanent(answer) = attempt else { panic!("{attempt:?}") };
            assert_eq!(answer, format!("HTTP {status} {code}").trim_end());
        }
    }

    #[test]
    fn a_broken_connection_is_retried() {
        let error = Error::with_error(ErrorKind::Io, std::io::Error::other("connection reset"), "https://a?sig=secret");
        assert!(matches!(classify(&error), Attempt::Transient(answer, None) if answer == "connection reset"));
    }
}
