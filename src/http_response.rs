//! Reads the responses of HTTP services: what an error status means, how much of a body is read, and the error code in
//! it.
//!
//! [`StatusClass`] is one rule for the webhook, the queue, Service Bus, the Viva Insights API, Key Vault and the token
//! service. The body is read for the last four only.

use reqwest::Response;
use serde_json::{Map, Value};

use crate::json::first_object;

/// Longest body that is read. A response with two keys has 1 KiB.
const MAX_BODY: usize = 64 * 1024;

/// The class of an error response by its status: it decides about retries and about the verdict.
///
/// If a service uses a status in its own way, its client classifies that status itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatusClass {
    /// A transient failure: throttling or an outage. The request is repeated with backoff.
    Transient,
    /// The service rejects this request, and would reject it again. The item that the request is about is set aside.
    Request,
    /// The service rejects every request: a wrong address, a redirect, a missing permission, an expired secret. The
    /// request is not repeated at once, because a person has to fix this, and nothing is set aside, because the item is
    /// not at fault: a later run repeats the request.
    Service,
}

impl StatusClass {
    /// The class of `status`, which is not a success.
    pub(crate) fn of(status: u16) -> Self {
        match status {
            408 | 425 | 429 | 500..=599 => Self::Transient,
            400 | 413 | 415 | 422 => Self::Request,
            _ => Self::Service,
        }
    }
}

/// Whether a response with `status` reports a transient failure, so that a retry may succeed.
pub(crate) fn is_transient(status: u16) -> bool {
    StatusClass::of(status) == StatusClass::Transient
}

/// Reads the body; returns `None` if it is longer than 64 KiB.
pub(crate) async fn bounded_body(mut response: Response) -> reqwest::Result<Option<Vec<u8>>> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > MAX_BODY {
            return Ok(None);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Some(body))
}

/// The error code in the JSON body of an error response: the member `code`, at the top level or in `error`.
pub(crate) fn error_code(body: &[u8]) -> Option<String> {
    let object: Map<String, Value> = first_object(body).ok()?;
    code_of(&object).or_else(|| code_of(object_member(&object, "error")?))
}

/// The code of `error.innererror`, with which Azure services state the cause more precisely than with `error.code`.
pub(crate) fn inner_error_code(body: &[u8]) -> Option<String> {
    let object: Map<String, Value> = first_object(body).ok()?;
    code_of(object_member(object_member(&object, "error")?, "innererror")?)
}

/// The member `code`, if it is a short word. Anything else could be a secret or a text of any length, and codes are
/// logged.
fn code_of(object: &Map<String, Value>) -> Option<String> {
    let (_, code) = object.iter().find(|(name, _)| name.eq_ignore_ascii_case("code"))?;
    let is_word = |code: &&str| matches!(code.len(), 1..=32) && code.bytes().all(|byte| byte.is_ascii_alphanumeric());
    code.as_str().filter(is_word).map(str::to_owned)
}

fn object_member<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a Map<String, Value>> {
    object.iter().find(|(key, _)| key.eq_ignore_ascii_case(name))?.1.as_object()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_transient_or_about_the_request_or_about_the_service() {
        for status in [408, 425, 429, 500, 502, 503, 504, 529, 599] {
            assert_eq!(StatusClass::of(status), StatusClass::Transient, "{status}");
        }
        for status in [400, 413, 415, 422] {
            assert_eq!(StatusClass::of(status), StatusClass::Request, "{status}");
        }
        for status in [300, 301, 302, 304, 307, 308, 401, 402, 403, 404, 405, 407, 409, 410, 418, 421, 451, 499, 600] {
            assert_eq!(StatusClass::of(status), StatusClass::Service, "{status}");
        }
    }

    #[test]
    fn an_error_code_is_read_at_the_top_level_and_in_error() {
        assert_eq!(
            error_code(br#"{"error":{"code":"InvalidRequest","message":"m"}}"#).as_deref(),
            Some("InvalidRequest")
        );
        assert_eq!(error_code(br#"{"Code":"BadRequest"}"#).as_deref(), Some("BadRequest"));
        let denied = br#"{"error":{"code":"Forbidden","message":"m","innererror":{"code":"ForbiddenByRbac"}}}"#;
        assert_eq!(error_code(denied).as_deref(), Some("Forbidden"));
        assert_eq!(inner_error_code(denied).as_deref(), Some("ForbiddenByRbac"));
    }

    #[test]
    fn an_error_code_that_is_not_a_short_word_is_ignored() {
        let long = format!(r#"{{"code":"{}"}}"#, "k".repeat(33));
        for body in [
            &b"{\"code\":\"a b\"}"[..],
            b"{\"code\":\"\"}",
            b"{\"code\":7}",
            b"oops",
            b"{\"error\":\"x\"}",
            long.as_bytes(),
        ] {
            assert_eq!(error_code(body), None);
            assert_eq!(inner_error_code(body), None);
        }
    }
}
