//! The receiver's requests: each is checked, then taken or answered as told.

use std::{
    io::{self, Read},
    sync::{Arc, Mutex, PoisonError},
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

use super::{
    Received,
    answer::{Answer, Orders},
    line::Line,
    parcel::Parcel,
};

/// The longest body, as it travels and as it is read.
const LONGEST_BODY: usize = 16 * 1024 * 1024;

/// Where messages are posted.
pub(super) const PATH: &str = "/webhook";

/// What the requests share.
pub(super) struct Desk {
    pub(super) verifier: Option<standardwebhooks::Webhook>,
    pub(super) keep_rows: bool,
    pub(super) orders: Mutex<Orders>,
    pub(super) received: watch::Sender<Received>,
}

pub(super) fn routes(desk: &Arc<Desk>) -> IntoMakeServiceWithConnectInfo<Router, Line> {
    Router::new()
        .route(PATH, post(take))
        .fallback(stray)
        .layer(DefaultBodyLimit::max(LONGEST_BODY))
        .with_state(Arc::clone(desk))
        .into_make_service_with_connect_info()
}

/// Takes one message, or does what it was told instead.
async fn take(
    State(desk): State<Arc<Desk>>,
    ConnectInfo(line): ConnectInfo<Line>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let parcel = match desk.examine(&headers, &body) {
        Ok(parcel) => parcel,
        Err(refusal) => return refusal.into_response(),
    };
    let mut answer = desk.orders.lock().unwrap_or_else(PoisonError::into_inner).answer(&parcel.delivery);
    loop {
        answer = match answer {
            Answer::After(time, then) => {
                tokio::time::sleep(time).await;
                *then
            }
            Answer::Take => {
                desk.note(|received| received.take(parcel, desk.keep_rows));
                return StatusCode::NO_CONTENT.into_response();
            }
            Answer::Status(status, retry_after) => {
                let retry_after = retry_after.map(|text| [(header::RETRY_AFTER, text)]);
                return (status, retry_after, "not now\n").into_response();
            }
            Answer::Redirect(to) => {
                return (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, to.to_string())]).into_response();
            }
            Answer::TakeAndCut => {
                desk.note(|received| received.take(parcel, desk.keep_rows));
                return line.cut().await;
            }
            Answer::Cut => return line.cut().await,
        };
    }
}

/// Whatever was posted or asked elsewhere.
async fn stray(State(desk): State<Arc<Desk>>) -> StatusCode {
    desk.note(|received| received.strays += 1);
    StatusCode::NOT_FOUND
}

impl Desk {
    pub(super) fn note(&self, change: impl FnOnce(&mut Received)) {
        self.received.send_modify(change);
    }

    /// Checks what any receiver would check, before it looks at the content.
    fn examine(&self, headers: &HeaderMap, body: &Bytes) -> Result<Parcel, (StatusCode, String)> {
        self.note(|received| received.requests += 1);
        let malformed = |why: String| {
            self.note(|received| received.malformed += 1);
            (StatusCode::BAD_REQUEST, why)
        };
        let text = unzipped(headers, body).map_err(|error| malformed(format!("unreadable body: {error}")))?;
        if let Some(verifier) = &self.verifier
            && let Err(error) = verifier.verify(&text, headers)
        {
            self.note(|received| received.bad_signatures += 1);
            return Err((StatusCode::UNAUTHORIZED, error.to_string()));
        }
        let parcel = Parcel::open(headers, &text).map_err(malformed)?;
        self.note(|received| received.log(&parcel.delivery, &text, self.keep_rows));
        Ok(parcel)
    }
}

/// The body as JSON text.
fn unzipped(headers: &HeaderMap, body: &Bytes) -> io::Result<Bytes> {
    match headers.get(header::CONTENT_ENCODING).map(|value| value.as_bytes()) {
        None => Ok(body.clone()),
        Some(b"gzip") => {
            let mut text = Vec::new();
            let longest = LONGEST_BODY as u64;
            MultiGzDecoder::new(body.as_ref()).take(longest + 1).read_to_end(&mut text)?;
            if text.len() > LONGEST_BODY {
                return Err(io::Error::other("it is longer than 16 MiB"));
            }
            Ok(text.into())
        }
        Some(_) => Err(io::Error::other("expected no content encoding, or gzip")),
    }
}
