//! What the service's answers mean: refused, or try again.

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

/// Whether the queue is what is missing.
pub(super) fn lacks_queue(error: &Error) -> bool {
    error.http_status() == Some(StatusCode::NotFound) && error_code(error) == Some("QueueNotFound")
}

/// Whether somebody else made the queue meanwhile.
pub(super) fn queue_is_there(error: &Error) -> bool {
    error.http_status() == Some(StatusCode::Conflict) && error_code(error) == Some("QueueAlreadyExists")
}

/// What a failure means, and what is said of it: a status and the service's code for it, never what it wrote.
pub(super) fn of_failure(error: &Error) -> Attempt<(), String> {
    let Some(status) = error.http_status() else {
        // A connection or a token that was not to be had: another try may always help.
        return Attempt::Transient(innermost(error), None);
    };
    // Where the service gives no code the SDK has the status in its place.
    let code = error_code(error).filter(|code| code.bytes().all(|byte| byte.is_ascii_alphabetic()));
    let answer = format!("HTTP {} {}", u16::from(status), code.unwrap_or_default());
    let answer = answer.trim_end().to_owned();
    match status {
        // Says nothing of the message, and passes: a role counts only some minutes after it was given, a firewall or a
        // key is put right, and no drop need be replayed for it.
        StatusCode::Unauthorized | StatusCode::Forbidden => {
            Attempt::Transient(format!("{answer} (may the app make the queue and add messages to it?)"), None)
        }
        _ if may_pass(status, code) => Attempt::Transient(answer, asked(error)),
        _ => Attempt::Permanent(answer),
    }
}

/// Throttling, outages, and what ends once Azure has finished something.
fn may_pass(status: StatusCode, code: Option<&str>) -> bool {
    let is_changing = matches!(code, Some("QueueNotFound" | "QueueBeingDeleted" | "QueueDisabled"));
    matches!(u16::from(status), 408 | 425 | 429 | 500..) || is_changing
}

fn asked(error: &Error) -> Option<Duration> {
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
    fn what_ends_by_itself_is_tried_again_as_late_as_it_asks() {
        for (status, code) in [
            (408, "RequestTimeout"),
            (429, "TooManyRequests"),
            (500, "InternalError"),
            (503, "ServerBusy"),
            (599, "Unheard"),
            (404, "QueueNotFound"),
            (409, "QueueBeingDeleted"),
        ] {
            let attempt = of_failure(&failure(status, code));
            let Attempt::Transient(answer, asked) = attempt else { panic!("{attempt:?}") };
            assert_eq!((answer, asked), (format!("HTTP {status} {code}"), Some(Duration::from_secs(7))));
        }
    }

    #[test]
    fn an_app_that_is_not_let_in_yet_tries_again() {
        for (status, code) in [(401, "InvalidAuthenticationInfo"), (403, "AuthorizationPermissionMismatch")] {
            let attempt = of_failure(&failure(status, code));
            let Attempt::Transient(answer, _) = attempt else { panic!("{attempt:?}") };
            assert_eq!(answer, format!("HTTP {status} {code} (may the app make the queue and add messages to it?)"));
        }
    }

    #[test]
    fn anything_else_is_final() {
        for (status, code) in
            [(302, ""), (400, "InvalidInput"), (404, "ResourceNotFound"), (413, "RequestBodyTooLarge")]
        {
            let attempt = of_failure(&failure(status, code));
            let Attempt::Permanent(answer) = attempt else { panic!("{attempt:?}") };
            assert_eq!(answer, format!("HTTP {status} {code}").trim_end());
        }
    }

    #[test]
    fn a_connection_that_breaks_is_tried_again() {
        let error = Error::with_error(ErrorKind::Io, std::io::Error::other("connection reset"), "https://a?sig=secret");
        assert!(matches!(of_failure(&error), Attempt::Transient(answer, None) if answer == "connection reset"));
    }
}
