//! Unwraps values that are encoded as JSON in a string, or as Base64 of JSON.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::Value;

use crate::json::bounded_value;

/// The number of encodings that are undone. The host applies at most two; a sender may have applied more.
pub(super) const MAX_LAYERS: usize = 4;

/// The string, list or object whose JSON is `text`. Other JSON is rejected, because Base64 can look like `null` or
/// `1234`.
pub(super) fn json_in(text: &str) -> Option<Value> {
    let value = bounded_value(text.as_bytes()).ok()?;
    matches!(value, Value::String(_) | Value::Array(_) | Value::Object(_)).then_some(value)
}

/// The value whose JSON is encoded as Base64 in `text`.
pub(super) fn json_in_base64(text: &str) -> Option<Value> {
    bounded_value(&STANDARD.decode(text.trim()).ok()?).ok()
}
