//! Classifies the error answers of Service Bus: the failure is transient, about this message, or about every message.
//!
//! Service Bus uses 403 for quotas, sizes and permissions alike, so the text of the body decides. It is XML with a
//! sentence for people, `<Error><Code>403</Code><Detail>…</Detail></Error>`, without documented words. Therefore a
//! message is rejected only if the text is clearly about its size. The text itself is never logged.

use std::time::SystemTime;

use reqwest::{
    StatusCode,
    header::{HeaderMap, RETRY_AFTER},
};

use crate::{http_response::StatusClass, retry::retry_after, sink::FailedTry};

/// The error code of throttling, which is in the text of the body.
/// <https://learn.microsoft.com/azure/service-bus-messaging/service-bus-throttling>
const THROTTLED: &str = "50009";

/// Classifies an answer that is not a success, with a text such as `HTTP 410 Gone: …`.
pub(super) fn classify(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> FailedTry {
    let detail = String::from_utf8_lossy(body).to_ascii_lowercase();
    let (class, explanation) = cause(status, &detail);
    let mut answer = describe(status);
    if let Some(code) = sub_code(&detail) {
        answer = format!("{answer}, SubCode {code}");
    }
    if let Some(explanation) = explanation {
        answer = format!("{answer}: {explanation}");
    }
    let requested = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    let retry_after = requested.and_then(|text| retry_after(text, SystemTime::now()));
    FailedTry { class, answer, retry_after }
}

/// The class of an answer, and an explanation with the fix if one is known. `detail` is the body in lower case.
fn cause(status: StatusCode, detail: &str) -> (StatusClass, Option<&'static str>) {
    let is_about = |words: &[&str]| words.iter().any(|word| detail.contains(word));
    if has_number(detail, THROTTLED) {
        return (StatusClass::Transient, Some("the namespace or the entity is throttled"));
    }
    let about_size = is_about(&[
        "message size",
        "messagesize",
        "size of the message",
        "message is too large",
        "message too large",
        "bytes) exceeds the limit",
    ]);
    let about_quota = is_about(&["quota", "maximum entity size", "size of entity", "maximum size of the entity"]);
    match status {
        StatusCode::FORBIDDEN => match (about_size, about_quota) {
            (true, false) => (
                StatusClass::Request,
                Some("the message is too large for the entity; lower BATCH_BYTES, or use the premium tier"),
            ),
            (false, true) => (
                StatusClass::Transient,
                Some(
                    "the entity is full until its consumers read messages; raise its maximum size if this happens often",
                ),
            ),
            _ => (
                StatusClass::Service,
                Some(
                    "check that the entity is enabled and not full, that the firewall of the namespace allows this app, and that \
                     its identity or key may send",
                ),
            ),
        },
        StatusCode::UNAUTHORIZED => (
            StatusClass::Service,
            Some(
                "grant the app's identity the role Azure Service Bus Data Sender on the entity, or renew the key in ServiceBus, \
                 and check the clock of this machine",
            ),
        ),
        StatusCode::NOT_FOUND | StatusCode::GONE => (
            StatusClass::Service,
            Some("there is no such queue or topic; create it, or correct DELIVER_TO: vivadrop does not create it"),
        ),
        // Every message without a session is rejected: the message is not at fault.
        StatusCode::BAD_REQUEST if is_about(&["sessionid", "session id"]) => {
            (StatusClass::Service, Some("the entity requires sessions; add ?session=tenant to DELIVER_TO"))
        }
        _ => {
            let class = StatusClass::of(status.as_u16());
            let fix = "check DELIVER_TO; the entity accepts no messages";
            (class, (class == StatusClass::Service).then_some(fix))
        }
    }
}

/// The status with its reason phrase.
pub(super) fn describe(status: StatusCode) -> String {
    match status.canonical_reason() {
        Some(reason) => format!("HTTP {} {reason}", status.as_str()),
        None => format!("HTTP {}", status.as_str()),
    }
}

/// The number after `subcode=`, with which Service Bus states the cause more precisely.
fn sub_code(detail: &str) -> Option<&str> {
    let (_, rest) = detail.split_once("subcode=")?;
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    matches!(end, 1..=8).then(|| &rest[..end])
}

/// Whether `text` has `number` as a whole word, and not within a longer number or an id.
fn has_number(text: &str, number: &str) -> bool {
    text.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| word == number)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn classified(status: u16, detail: &str) -> (StatusClass, String) {
        let body = format!("<Error><Code>{status}</Code><Detail>{detail} TrackingId:50009f-hidden</Detail></Error>");
        let failed = classify(StatusCode::from_u16(status).unwrap(), &HeaderMap::new(), body.as_bytes());
        assert!(!failed.answer.contains("hidden"), "{}", failed.answer);
        (failed.class, failed.answer)
    }

    #[test]
    fn an_answer_403_is_about_what_its_body_says() {
        for (detail, class) in [
            ("Quota exceeded.", StatusClass::Transient),
            ("The maximum entity size has been reached or exceeded for Queue: 'rows'.", StatusClass::Transient),
            ("The message size exceeds the limit of 262144 bytes.", StatusClass::Request),
            ("MessageSizeExceeded", StatusClass::Request),
            (
                "The received message (delivery-id:0, size:262145 bytes) exceeds the limit (262144 bytes) currently allowed.",
                StatusClass::Request,
            ),
            // The entity is full, or the message is too large: nothing may be set aside.
            ("Quota exceeded or message too large.", StatusClass::Service),
            ("The messaging entity is disabled.", StatusClass::Service),
            ("Ip has been prevented to connect to the endpoint.", StatusClass::Service),
            ("", StatusClass::Service),
        ] {
            assert_eq!(classified(403, detail).0, class, "{detail}");
        }
    }

    #[test]
    fn a_missing_entity_or_a_denied_permission_rejects_no_message() {
        for (status, fix) in [
            (401, "the role Azure Service Bus Data Sender"),
            (404, "there is no such queue or topic"),
            (410, "there is no such queue or topic"),
            (405, "check DELIVER_TO"),
        ] {
            let (class, answer) = classified(status, "SubCode=40400. Endpoint not found.");
            assert_eq!(class, StatusClass::Service, "{status}");
            assert!(answer.contains(", SubCode 40400: ") && answer.contains(fix), "{answer}");
        }
    }

    #[test]
    fn throttling_is_transient_whatever_its_status_is() {
        for (status, detail) in [
            (429, ""),
            (503, "ServerBusy"),
            (500, ""),
            (408, ""),
            (
                403,
                "The request was terminated because the namespace is being throttled. Error code : 50009. Please wait 2 seconds",
            ),
            (400, "Error code: 50009."),
        ] {
            assert_eq!(classified(status, detail).0, StatusClass::Transient, "{status} {detail}");
        }
    }

    #[test]
    fn a_message_is_rejected_only_if_it_is_at_fault() {
        assert_eq!(classified(400, "Bad property."), (StatusClass::Request, "HTTP 400 Bad Request".into()));
        assert_eq!(classified(413, "").0, StatusClass::Request);
        let (class, answer) = classified(400, "The SessionId was not set on a message.");
        assert_eq!(class, StatusClass::Service);
        assert!(answer.ends_with("add ?session=tenant to DELIVER_TO"), "{answer}");
    }

    #[test]
    fn a_requested_wait_is_kept() {
        let headers = HeaderMap::from_iter([(RETRY_AFTER, "7".parse().unwrap())]);
        let failed = classify(StatusCode::TOO_MANY_REQUESTS, &headers, b"");
        assert_eq!(failed.retry_after, Some(Duration::from_secs(7)));
    }
}
