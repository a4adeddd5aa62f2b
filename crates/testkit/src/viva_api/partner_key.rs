//! `POST /v1.0/egressPartnerKey`: registers a customer's public key, and rejects a key of another customer.

use std::sync::Arc;

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

use super::{Behaviour, RegisteredKey, Shared, bad_request, error_response, respond, unauthorized};

/// The validity of a registration, as in the sample of Microsoft's documentation.
const VALIDITY: Duration = Duration::days(365);

pub(super) async fn egress_partner_key(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(behaviour): ConnectInfo<Behaviour>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    respond(behaviour, || documented(&shared, &headers, &body)).await
}

fn documented(shared: &Shared, headers: &HeaderMap, body: &[u8]) -> Response {
    let mut state = shared.state();
    if !state.is_authorized(headers) {
        return unauthorized();
    }
    let Some((scope, key)) = parse(body) else {
        return bad_request();
    };
    if state.partner_keys.iter().any(|(other, registered)| *other != scope && registered.modulus == key.modulus) {
        return error_response(StatusCode::BAD_REQUEST, "DuplicateKey", "The key is used for another scope.");
    }
    let app = key.partner_app_id.clone();
    state.partner_keys.insert(scope.clone(), key);
    state.registrations += 1;
    let now = OffsetDateTime::now_utc();
    let [created, expires] =
        [now, now + VALIDITY].map(|date| date.format(&Rfc3339).expect("dates of this century have an RFC 3339 form"));
    Json(json!({
        "scopeId": {"id": scope}, "createdDate": created, "partnerAppId": app,
        "encryptionAlgorithm": "RSA2048", "expirationDate": expires,
    }))
    .into_response()
}

/// The scope and its key, if every value is present and valid.
fn parse(body: &[u8]) -> Option<(String, RegisteredKey)> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let guid = |name: &str| body[name].as_str().filter(|text| Uuid::try_parse(text).is_ok()).map(str::to_lowercase);
    let rsa = &body["rsaKey"];
    let is_rsa = rsa["kty"] == "RSA" && rsa["e"] == "AQAB" && body["encryptionAlgorithm"] == "RSA2048";
    let modulus = BASE64_STANDARD.decode(rsa["n"].as_str()?).ok().filter(|modulus| modulus.len() == 256)?;
    let key = RegisteredKey { partner_app_id: guid("partnerAppId")?, tenant_id: guid("tenantId")?, modulus };
    is_rsa.then_some((guid("scopeId")?, key))
}
