//! What an HTTP answer tells, whatever was asked.

use reqwest::Response;
use serde_json::{Map, Value};

use crate::keys::details::first_object;

/// The longest answer that is read: two keys take 1 KiB.
const LONGEST_ANSWER: usize = 64 * 1024;

/// Whether a later try may be answered otherwise than with `status`.
pub(crate) fn may_help_to_try_again(status: u16) -> bool {
    matches!(status, 408 | 429 | 500..=599)
}

/// The body, or `None` when it is too long to be an answer.
pub(crate) async fn bounded(mut answer: Response) -> reqwest::Result<Option<Vec<u8>>> {
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await? {
        if body.len() + chunk.len() > LONGEST_ANSWER {
            return Ok(None);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Some(body))
}

/// The error code in the body of a refusal, at its top or in `error`.
pub(crate) fn code_in(body: &[u8]) -> Option<String> {
    let answer = first_object(body).ok()?;
    code_of(&answer).or_else(|| code_of(inner(&answer, "error")?))
}

/// The code of the `innererror` in the `error` of a refusal: Azure's services say there what the code leaves open.
pub(crate) fn inner_code_in(body: &[u8]) -> Option<String> {
    let answer = first_object(body).ok()?;
    code_of(inner(inner(&answer, "error")?, "innererror")?)
}

/// A code is one short word, or it might be anything.
fn code_of(object: &Map<String, Value>) -> Option<String> {
    let (_, code) = object.iter().find(|(name, _)| name.eq_ignore_ascii_case("code"))?;
    let is_word = |code: &&str| matches!(code.len(), 1..=32) && code.bytes().all(|byte| byte.is_ascii_alphanumeric());
    code.as_str().filter(is_word).map(str::to_owned)
}

fn inner<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a Map<String, Value>> {
    object.iter().find(|(key, _)| key.eq_ignore_ascii_case(name))?.1.as_object()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_one_short_harmless_word() {
        assert_eq!(code_in(br#"{"error":{"code":"InvalidRequest","message":"m"}}"#).as_deref(), Some("InvalidRequest"));
        assert_eq!(code_in(br#"{"Code":"BadRequest"}"#).as_deref(), Some("BadRequest"));
        let denied = br#"{"error":{"code":"Forbidden","message":"m","innererror":{"code":"ForbiddenByRbac"}}}"#;
        assert_eq!(code_in(denied).as_deref(), Some("Forbidden"));
        assert_eq!(inner_code_in(denied).as_deref(), Some("ForbiddenByRbac"));
        let long = format!(r#"{{"code":"{}"}}"#, "k".repeat(33));
        for body in [
            &b"{\"code\":\"a b\"}"[..],
            b"{\"code\":\"\"}",
            b"{\"code\":7}",
            b"oops",
            b"{\"error\":\"x\"}",
            long.as_bytes(),
        ] {
            assert_eq!(code_in(body), None);
            assert_eq!(inner_code_in(body), None);
        }
    }
}
