//! `POST /v1.0/egressPartnerKey`: takes the public key of a customer, and refuses one that is another customer's.

use axum::{
    Json,
    body::Bytes,
    extract::{ConnectInfo, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use time::{Duration, OffsetDateTime, format_description::well_known::Rfc3339};
use uuid::Uuid;

use super::{Behaviour, Desk, RegisteredKey, refusal, treated};

/// How long a registration lasts, as in the page's sample.
const LASTS: Duration = Duration::days(365);

pub(super) async fn egress_partner_key(
    State(desk): State<Desk>,
    ConnectInfo(behaviour): ConnectInfo<Behaviour>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    treated(behaviour, || answer(&desk, &headers, &body)).await
}

fn answer(desk: &Desk, headers: &HeaderMap, body: &[u8]) -> Response {
    let mut book = desk.book();
    if !book.lets_in(headers) {
        return refusal(StatusCode::UNAUTHORIZED, "Unauthorized", "The token is missing or invalid.");
    }
    let Some((scope, key)) = read(body) else {
        return refusal(StatusCode::BAD_REQUEST, "BadRequest", "A value is missing or invalid.");
    };
    if book.partner_keys.iter().any(|(other, theirs)| *other != scope && theirs.modulus == key.modulus) {
        return refusal(StatusCode::BAD_REQUEST, "DuplicateKey", "The key is used for another scope.");
    }
    let app = key.partner_app_id.clone();
    book.partner_keys.insert(scope.clone(), key);
    book.registrations += 1;
    let now = OffsetDateTime::now_utc();
    let [created, expires] = [now, now + LASTS].map(|date| date.format(&Rfc3339).unwrap_or_default());
    Json(json!({
        "scopeId": {"id": scope}, "createdDate": created, "partnerAppId": app,
        "encryptionAlgorithm": "RSA2048", "expirationDate": expires,
    }))
    .into_response()
}

/// The scope and its key, where every value is there and valid.
fn read(body: &[u8]) -> Option<(String, RegisteredKey)> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let guid = |name: &str| body[name].as_str().filter(|text| Uuid::try_parse(text).is_ok()).map(str::to_lowercase);
    let rsa = &body["rsaKey"];
    let is_rsa = rsa["kty"] == "RSA" && rsa["e"] == "AQAB" && body["encryptionAlgorithm"] == "RSA2048";
    let modulus = BASE64_STANDARD.decode(rsa["n"].as_str()?).ok().filter(|modulus| modulus.len() == 256)?;
    let key = RegisteredKey { partner_app_id: guid("partnerAppId")?, tenant_id: guid("tenantId")?, modulus };
    is_rsa.then_some((guid("scopeId")?, key))
}
