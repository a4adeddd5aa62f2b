//! A webhook for vivadrop's messages: checks signatures, drops doubles by their id, keeps the rest in a file.
//!
//! ```sh
//! WEBHOOK_SECRET=whsec_… cargo run --example webhook_receiver -- 127.0.0.1:9000 messages.ndjson
//! DELIVER_TO=http://127.0.0.1:9000/ WEBHOOK_SECRET=whsec_… vivadrop deliver datasets/run/VivaInsights/tenant
//! ```
//!
//! With `WEBHOOK_GZIP=true` a body is to be unzipped before it is verified; this one takes it as it comes.

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

use journal::Journal;

/// A batch has at most `BATCH_BYTES` of rows (1 MiB), or one row of `MAX_ROW_BYTES`, and what is said of them.
const LONGEST_MESSAGE: usize = 4 << 20;

struct Desk {
    webhook: Webhook,
    journal: Mutex<Journal>,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [address, path] = &arguments[..] else { anyhow::bail!("usage: webhook_receiver ADDRESS FILE") };
    #[expect(clippy::disallowed_methods, reason = "an example has no settings but this")]
    let secret = std::env::var("WEBHOOK_SECRET").context("WEBHOOK_SECRET")?;
    let desk = Arc::new(Desk {
        webhook: Webhook::new(&secret).context("WEBHOOK_SECRET is not usable")?,
        journal: Mutex::new(Journal::open(Path::new(path)).with_context(|| path.clone())?),
    });
    let routes = Router::new().route("/", post(take)).layer(DefaultBodyLimit::max(LONGEST_MESSAGE)).with_state(desk);
    let listener = TcpListener::bind(address).await.with_context(|| address.clone())?;
    println!("listening on http://{}/", listener.local_addr()?);
    axum::serve(listener, routes).await.context("cannot serve")
}

/// Takes one message. 2xx says that it is ours, so it is said once the message is on disk.
async fn take(State(desk): State<Arc<Desk>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    // Over the bytes as they came: JSON that was parsed and written again has another signature.
    if desk.webhook.verify(&body, &headers).is_err() {
        // Final for vivadrop: it sets the file aside. While you change secrets, try both.
        return StatusCode::UNAUTHORIZED;
    }
    let kept = spawn_blocking(move || desk.journal.lock().unwrap_or_else(PoisonError::into_inner).keep(&body));
    match kept.await {
        Ok(Ok(true)) => StatusCode::CREATED,
        // Sent before; that answer was lost, or a run was repeated.
        Ok(Ok(false)) => StatusCode::OK,
        // It comes again, later.
        Ok(Err(_)) | Err(_) => StatusCode::SERVICE_UNAVAILABLE,
    }
}
