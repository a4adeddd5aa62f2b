//! `POST /v1.0/egressDecryptionKey`: returns the wrapped keys of a request.

use std::sync::Arc;

use axum::{
    Json,
    body::Bytes,
    extract::{ConnectInfo, State},
    http::HeaderMap,
    response::{IntoResponse, Response},
};
use serde_json::Value;

use super::{Behaviour, KeyRequest, Shared, bad_request, respond, unauthorized};

pub(super) async fn egress_decryption_key(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(behaviour): ConnectInfo<Behaviour>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let request = parse(&body);
    if let Some(request) = &request {
        shared.state().key_requests.push(request.clone());
    }
    respond(behaviour, || documented(&shared, &headers, request)).await
}

/// The documented response: 200 with the keys, or 400 if a value is missing or invalid.
fn documented(shared: &Shared, headers: &HeaderMap, request: Option<KeyRequest>) -> Response {
    let state = shared.state();
    if !state.is_authorized(headers) {
        return unauthorized();
    }
    let keys = request.and_then(|KeyRequest { request_id, scope_id }| {
        state.keys.get(&(request_id.to_ascii_lowercase(), scope_id.to_ascii_lowercase()))
    });
    match keys {
        Some(keys) => Json(keys).into_response(),
        None => bad_request(),
    }
}

fn parse(body: &[u8]) -> Option<KeyRequest> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let member = |name| body[name].as_str().map(str::to_owned);
    Some(KeyRequest { request_id: member("requestId")?, scope_id: member("scopeId")? })
}
