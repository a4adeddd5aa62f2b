//! Receives the messages of vivadrop as a webhook: verifies signatures, deduplicates by id, and stores messages in a
//! file.
//!
//! ```sh
//! WEBHOOK_SECRET=whsec_… cargo run --example webhook_receiver -- 127.0.0.1:9000 messages.ndjson
//! DELIVER_TO=http://127.0.0.1:9000/ WEBHOOK_SECRET=whsec_… vivadrop deliver datasets/run/VivaInsights/tenant
//! ```
//!
//! With `WEBHOOK_GZIP=true`, a receiver must decompress the body before it verifies the signature. This example does
//! not.

mod journal;

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context, Result};
use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, State},
    http::{HeaderMap, StatusCode},
    routing::post,
};
use standardwebhooks::Webhook;
use tokio::{net::TcpListener, task::spawn_blocking};

use journal::{Journal, Stored};

/// Maximum body size: a batch has at most `BATCH_BYTES` of rows (1 MiB), or one row of `MAX_ROW_BYTES`, and metadata.
const MAX_BODY_BYTES: usize = 4 << 20;

struct Receiver {
    webhook: Webhook,
    journal: Mutex<Journal>,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [address, path] = &arguments[..] else { anyhow::bail!("usage: webhook_receiver ADDRESS FILE") };
    #[expect(clippy::disallowed_methods, reason = "this is the only setting of the example")]
    let secret = std::env::var("WEBHOOK_SECRET").context("WEBHOOK_SECRET is not set")?;
    let receiver = Arc::new(Receiver {
        webhook: Webhook::new(&secret).context("WEBHOOK_SECRET is invalid")?,
        journal: Mutex::new(Journal::open(Path::new(path)).with_context(|| path.clone())?),
    });
    let routes =
        Router::new().route("/", post(handle)).layer(DefaultBodyLimit::max(MAX_BODY_BYTES)).with_state(receiver);
    let listener = TcpListener::bind(address).await.with_context(|| address.clone())?;
    println!("listening on http://{}/", listener.local_addr()?);
    axum::serve(listener, routes).await.context("cannot serve")
}

/// Handles one message. A 2xx response acknowledges it, so it is sent only after the message is on disk.
async fn handle(State(receiver): State<Arc<Receiver>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    // The signature covers the bytes of the body: parsed and re-serialized JSON would not match it.
    if receiver.webhook.verify(&body, &headers).is_err() {
        // After 401 the run ends, and a later run sends the message again: nothing is set aside. While you rotate the
        // secret, accept both secrets, so that nothing is delayed.
        return StatusCode::UNAUTHORIZED;
    }
    let stored = spawn_blocking(move || receiver.journal.lock().unwrap_or_else(PoisonError::into_inner).append(&body));
    match stored.await {
        Ok(Ok(Stored::New)) => StatusCode::CREATED,
        // A message that was stored before (its response was lost, or vivadrop repeated a run), or an ending that a
        // newer one has replaced.
        Ok(Ok(Stored::Duplicate)) => StatusCode::OK,
        // Acknowledged, because a retry would end in the same way.
        Ok(Ok(Stored::DeadLetter)) => StatusCode::ACCEPTED,
        // The disk failed. vivadrop retries later.
        Ok(Err(_)) | Err(_) => StatusCode::SERVICE_UNAVAILABLE,
    }
}
