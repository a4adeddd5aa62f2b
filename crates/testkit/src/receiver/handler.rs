//! The HTTP handlers of the receiver: each request is checked, then answered according to the plan.

use std::{
    io::{self, Read},
    sync::Arc,
};

use axum::{
    Router,
    body::Bytes,
    extract::{ConnectInfo, DefaultBodyLimit, State, connect_info::IntoMakeServiceWithConnectInfo},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
};
use flate2::read::MultiGzDecoder;
use tokio::sync::watch;

use super::{Delivery, Received, answer::Answer, connection::ConnectionHandle, message::DecodedMessage};
use crate::plan::Plan;

/// The limit on a request body, before and after gzip is undone, in bytes.
const MAX_BODY_BYTES: usize = 16 * 1024 * 1024;

/// The path that accepts messages.
pub(super) const PATH: &str = "/webhook";

/// The state that all requests share.
pub(super) struct ReceiverState {
    /// Verifies signatures; `None` accepts unsigned messages.
    pub(super) verifier: Option<standardwebhooks::Webhook>,
    pub(super) keep_rows: bool,
    pub(super) plan: Plan<Delivery, Answer>,
    pub(super) received: watch::Sender<Received>,
}

pub(super) fn routes(state: &Arc<ReceiverState>) -> IntoMakeServiceWithConnectInfo<Router, ConnectionHandle> {
    Router::new()
        .route(PATH, post(receive))
        .fallback(not_found)
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(Arc::clone(state))
        .into_make_service_with_connect_info()
}

/// Answers one message.
async fn receive(
    State(state): State<Arc<ReceiverState>>,
    ConnectInfo(connection): ConnectInfo<ConnectionHandle>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let message = match state.decode(&headers, &body) {
        Ok(message) => message,
        Err(rejection) => return rejection.into_response(),
    };
    let mut answer = state.plan.choose(&message.delivery);
    while let Answer::After(time, inner) = answer {
        tokio::time::sleep(time).await;
        answer = *inner;
    }
    if let Answer::Accept | Answer::AcceptAndDisconnect = answer {
        state.update(|received| received.accept(message, state.keep_rows));
    }
    match answer {
        Answer::Status(status, retry_after) => {
            let retry_after = retry_after.map(|text| [(header::RETRY_AFTER, text)]);
            (status, retry_after, "rejected by the test\n").into_response()
        }
        Answer::Redirect(to) => (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, to.to_string())]).into_response(),
        Answer::Disconnect | Answer::AcceptAndDisconnect => connection.disconnect().await,
        Answer::Accept | Answer::After(..) => StatusCode::NO_CONTENT.into_response(),
    }
}

/// Answers a request to any other path.
async fn not_found(State(state): State<Arc<ReceiverState>>) -> StatusCode {
    state.update(|received| received.not_found += 1);
    StatusCode::NOT_FOUND
}

impl ReceiverState {
    pub(super) fn update(&self, change: impl FnOnce(&mut Received)) {
        self.received.send_modify(change);
    }

    /// Checks signature and format, as any receiver must, and decodes the message.
    fn decode(&self, headers: &HeaderMap, body: &Bytes) -> Result<DecodedMessage, (StatusCode, String)> {
        self.update(|received| received.requests += 1);
        let malformed = |why: String| {
            self.update(|received| received.malformed += 1);
            (StatusCode::BAD_REQUEST, why)
        };
        let text = gunzip(headers, body).map_err(|error| malformed(format!("unreadable body: {error}")))?;
        if let Some(verifier) = &self.verifier
            && let Err(error) = verifier.verify(&text, headers)
        {
            self.update(|received| received.bad_signatures += 1);
            return Err((StatusCode::UNAUTHORIZED, error.to_string()));
        }
        let message = DecodedMessage::parse(headers, &text).map_err(malformed)?;
        self.update(|received| received.record(&message.delivery, &text, self.keep_rows));
        Ok(message)
    }
}

/// The body without its content encoding.
fn gunzip(headers: &HeaderMap, body: &Bytes) -> io::Result<Bytes> {
    match headers.get(header::CONTENT_ENCODING).map(|value| value.as_bytes()) {
        None => Ok(body.clone()),
        Some(b"gzip") => {
            let mut text = Vec::new();
            let limit = MAX_BODY_BYTES as u64 + 1;
            MultiGzDecoder::new(body.as_ref()).take(limit).read_to_end(&mut text)?;
            if text.len() > MAX_BODY_BYTES {
                return Err(io::Error::other("more than 16 MiB after gzip"));
            }
            Ok(text.into())
        }
        Some(_) => Err(io::Error::other("expected no content encoding, or gzip")),
    }
}
