//! The HTTP API of the operator's page, served by the built binary.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod support;

#[path = "api/attributes.rs"]
mod attributes;
#[path = "api/imports.rs"]
mod imports;
#[path = "api/manage.rs"]
mod manage;
#[path = "api/openapi.rs"]
mod openapi;
#[path = "api/page.rs"]
mod page;
#[path = "api/view.rs"]
mod view;

use std::sync::Arc;

use reqwest::{Client, Method, RequestBuilder};
use serde_json::Value;
use time::OffsetDateTime;
use vivadrop::{
    drop::{DropPath, discover::ListingSummary},
    ledger::{DropState, Ledger, ListEntry},
    verdict::Reason,
};

use support::scene::Scene;

/// An answer of the API.
struct Answer {
    status: u16,
    etag: Option<String>,
    content_type: String,
    json: Value,
}

/// Sends a request and reads its JSON answer. No answer contains a secret or a value of a row.
async fn send(scene: &Scene, request: RequestBuilder) -> Answer {
    let response = request.send().await.unwrap();
    let header = |name: &str| response.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
    let (etag, content_type) = (header("etag"), header("content-type").unwrap_or_default());
    assert_eq!(header("cache-control").as_deref(), Some("no-store"));
    let status = response.status().as_u16();
    let text = response.text().await.unwrap();
    scene.secrets.check(&text);
    let json = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{status} {error}: {text}"));
    Answer { status, etag, content_type, json }
}

/// An HTTP client that uses no proxy.
fn client() -> Client {
    Client::builder().no_proxy().build().unwrap()
}

/// Sends a GET request and reads its JSON answer.
async fn get(scene: &Scene, url: String) -> Answer {
    send(scene, client().request(Method::GET, url)).await
}

/// The ledger of the scene.
fn ledger(scene: &Scene) -> Ledger {
    let container = scene.settings.get("STATE_CONTAINER").cloned().unwrap_or("vivadrop-state".into());
    Ledger::new(Arc::clone(&scene.store), container)
}

/// The entry of a drop with ten rows that arrived at `arrived`, and has ended then.
fn entry(scene: &Scene, folder: &str, reason: Option<Reason>, arrived: OffsetDateTime) -> ListEntry {
    ListEntry {
        path: DropPath::new("datasets", folder),
        tenant: scene.tenant,
        state: if reason.is_some() { DropState::SetAside } else { DropState::Completed },
        rows: 10,
        expected_rows: Some(10),
        files_done: 1,
        files_set_aside: 0,
        files: 1,
        since: arrived,
        attempts: 0,
        next_try: None,
        reason,
        message: None,
        is_over: true,
        listing: ListingSummary { blobs: 3, newest: arrived, digest: 7 },
    }
}
