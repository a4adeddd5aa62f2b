//! Reads bodies and preconditions of requests.

use std::time::Duration;

use axum::{
    body::{Body, Bytes, to_bytes},
    http::{HeaderMap, StatusCode, header},
};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::problem::{FieldError, Problem};
use crate::store::ETag;

/// The largest body that is parsed into a type, in bytes.
const MAX_BODY: usize = 64 << 10;

/// How long a body may take.
const BODY_LIMIT: Duration = Duration::from_secs(10);

/// Reads a JSON body into a type.
pub(super) async fn read_json<T: DeserializeOwned>(headers: &HeaderMap, body: Body) -> Result<T, Problem> {
    let bytes = read_json_text(headers, body, MAX_BODY).await?;
    serde_json::from_slice(&bytes).map_err(|error| Problem::invalid(vec![FieldError::new("", error)]))
}

/// Reads a body that claims to be JSON, of at most `limit` bytes.
pub(super) async fn read_json_text(headers: &HeaderMap, body: Body, limit: usize) -> Result<Bytes, Problem> {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    // A web page of another origin cannot send this type without asking first.
    if !media_type.eq_ignore_ascii_case("application/json") {
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "expected application/json"));
    }
    let read = timeout(BODY_LIMIT, to_bytes(body, limit)).await;
    let read = read.map_err(|_| Problem::new(StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time"))?;
    let too_large =
        |_| Problem::new(StatusCode::PAYLOAD_TOO_LARGE, format!("expected a body of at most {limit} bytes"));
    read.map_err(too_large)
}

/// The version that `If-Match` names.
pub(super) fn if_match(headers: &HeaderMap) -> Result<ETag, Problem> {
    let Some(value) = headers.get(header::IF_MATCH) else {
        return Err(Problem::new(StatusCode::PRECONDITION_REQUIRED, "expected the header If-Match with the ETag"));
    };
    let text = value.to_str().unwrap_or_default();
    // A proxy that compresses answers makes the tag a weak one.
    let text = text.strip_prefix("W/").unwrap_or(text);
    Ok(ETag(text.trim_matches('"').to_owned()))
}
