//! Classifies the answers of the queue service: transient, about this message, or about every message.

use std::time::{Duration, SystemTime};

use azure_core::{
    Error,
    error::ErrorKind,
    http::{StatusCode, headers},
};

use crate::{
    http_response::StatusClass,
    identity::TokenError,
    retry::retry_after,
    sink::FailedTry,
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
pub(super) fn classify(error: &Error) -> FailedTry {
    if *error.kind() == ErrorKind::Credential {
        return FailedTry::without_token(&TokenError::of(error), "SinkStorage");
    }
    let Some(status) = error.http_status() else {
        return FailedTry::transient(innermost(error));
    };
    // If the service sends no error code, the SDK puts the status there.
    let code = error_code(error).filter(|code| code.bytes().all(|byte| byte.is_ascii_alphabetic()));
    let answer = format!("HTTP {} {}", u16::from(status), code.unwrap_or_default());
    let mut answer = answer.trim_end().to_owned();
    let class = class(status, code);
    if class == StatusClass::Service {
        answer = format!("{answer}: {}", fix(status, code));
    }
    FailedTry { class, answer, retry_after: requested_wait(error) }
}

/// Classifies an answer by its error code if that is more precise than the status, otherwise by its status.
/// <https://learn.microsoft.com/rest/api/storageservices/common-rest-api-error-codes>
fn class(status: StatusCode, code: Option<&str>) -> StatusClass {
    match code {
        // Azure creates or deletes the queue at this moment.
        Some("QueueNotFound" | "QueueBeingDeleted" | "QueueDisabled") => StatusClass::Transient,
        // With the status 400, although no message is at fault.
        Some("InvalidAuthenticationInfo" | "AccountRequiresHttps" | "InvalidResourceName" | "InvalidUri") => {
            StatusClass::Service
        }
        _ => StatusClass::of(status.into()),
    }
}

/// How to fix a rejection of every message.
fn fix(status: StatusCode, code: Option<&str>) -> &'static str {
    match (status, code) {
        (StatusCode::Unauthorized | StatusCode::Forbidden, _) | (_, Some("InvalidAuthenticationInfo")) => {
            "this identity may not create the queue or add messages; grant the app the role Storage Queue Data Contributor \
             (to send to an existing queue, Storage Queue Data Message Sender is enough), or renew the SAS or key of the \
             connection string, and check the account's firewall"
        }
        _ => "check DELIVER_TO and SinkStorage; the queue accepts no messages",
    }
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
            let (class, answer) = (StatusClass::Transient, format!("HTTP {status} {code}"));
            let retry_after = Some(Duration::from_secs(7));
            assert_eq!(classify(&failure(status, code)), FailedTry { class, answer, retry_after });
        }
    }

    #[test]
    fn denied_access_rejects_no_message_and_names_the_role() {
        for (status, code) in [
            (401, "NoAuthenticationInformation"),
            (403, "AuthorizationPermissionMismatch"),
            (400, "InvalidAuthenticationInfo"),
        ] {
            let FailedTry { class, answer, .. } = classify(&failure(status, code));
            assert_eq!(class, StatusClass::Service, "{code}");
            let expected =
                format!("HTTP {status} {code}: this identity may not create the queue or add messages; grant the app");
            assert!(answer.starts_with(&expected), "{answer}");
        }
    }

    #[test]
    fn a_wrong_address_rejects_no_message_and_names_the_settings() {
        for (status, code) in [(302, ""), (404, "ResourceNotFound"), (405, "UnsupportedHttpVerb"), (409, "Conflict")] {
            let FailedTry { class, answer, .. } = classify(&failure(status, code));
            assert_eq!(class, StatusClass::Service, "{code}");
            assert!(answer.ends_with(": check DELIVER_TO and SinkStorage; the queue accepts no messages"), "{answer}");
        }
    }

    #[test]
    fn only_an_answer_about_the_message_rejects_it() {
        for (status, code) in [(400, "InvalidInput"), (400, "MessageTooLarge"), (413, "RequestBodyTooLarge")] {
            let FailedTry { class, answer, .. } = classify(&failure(status, code));
            assert_eq!((class, answer), (StatusClass::Request, format!("HTTP {status} {code}")));
        }
    }

    #[test]
    fn an_expired_client_secret_rejects_no_message_and_is_not_quoted() {
        let response = r#"{"error":"invalid_client","error_description":"AADSTS7000222: of the app a@contoso.com"}"#;
        let raw_response = RawResponse::from_bytes(StatusCode::Unauthorized, Headers::new(), Bytes::from(response));
        let error_code = Some("7000222".to_owned());
        let kind = ErrorKind::HttpResponse {
            status: StatusCode::Unauthorized,
            error_code,
            raw_response: Some(Box::new(raw_response)),
        };
        let error = Error::with_error(ErrorKind::Credential, kind.into_error(), response);
        let FailedTry { class, answer, .. } = classify(&error);
        assert_eq!(class, StatusClass::Service);
        assert!(answer.contains("HTTP 401, AADSTS7000222") && answer.contains("AZURE_CLIENT_SECRET"), "{answer}");
        assert!(!answer.contains("contoso"), "{answer}");
    }

    #[test]
    fn a_broken_connection_is_retried() {
        let error = Error::with_error(ErrorKind::Io, std::io::Error::other("connection reset"), "https://a?sig=secret");
        assert_eq!(classify(&error), FailedTry::transient("connection reset"));
    }
}
