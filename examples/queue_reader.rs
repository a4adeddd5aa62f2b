//! A reader of the queue that vivadrop delivers to: drops doubles by their id, keeps the rest in a file, and deletes a
//! message from the queue once it is kept.
//!
//! ```sh
//! cargo run --example queue_reader -- 'https://account.queue.core.windows.net/rows?sv=…&sig=…' messages.ndjson
//! ```
//!
//! The SAS needs *read* and *process*. Without one the developer's own sign-in (`az login`) is used; in Azure,
//! `ManagedIdentityCredential` goes in its place, with the role Storage Queue Data Message Processor.

mod journal;

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use azure_core::credentials::TokenCredential;
use azure_identity::DeveloperToolsCredential;
use azure_storage_queue::{
    QueueClient,
    models::{QueueClientReceiveMessagesOptions, ReceivedMessage},
};
use base64::{Engine, prelude::BASE64_STANDARD};

use journal::Journal;

/// How long a message is hidden from other readers, in seconds. A reader that dies leaves what it had to the next one
/// after that; one that takes longer sees it again, which the ids make harmless.
const HIDDEN: &str = "60";

/// How long a reader waits that found nothing.
const PAUSE: Duration = Duration::from_secs(1);

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let (url, path, hidden) = match &arguments[..] {
        [url, path] => (url, path, HIDDEN),
        [url, path, hidden] => (url, path, hidden.as_str()),
        _ => anyhow::bail!("usage: queue_reader QUEUE_URL FILE [SECONDS_HIDDEN]"),
    };
    let queue = open(url)?;
    let mut journal = Journal::open(Path::new(path)).with_context(|| path.clone())?;
    let hidden = hidden.parse().context("expected a number of seconds")?;
    loop {
        let options = QueueClientReceiveMessagesOptions {
            number_of_messages: Some(32),
            visibility_timeout: Some(hidden),
            ..QueueClientReceiveMessagesOptions::default()
        };
        // The client tries again by itself for a while; what lasts longer is somebody's to look at.
        let received = queue.receive_messages(Some(options)).await.context("cannot read the queue")?;
        let messages = received.into_model().context("cannot read the queue")?.items.unwrap_or_default();
        if messages.is_empty() {
            tokio::time::sleep(PAUSE).await;
        }
        for message in messages {
            take(&queue, &mut journal, message).await?;
        }
    }
}

fn open(url: &str) -> Result<QueueClient> {
    let url: azure_core::http::Url = url.parse().context("expected the URL of a queue")?;
    let credential = match url.query() {
        Some(_) => None,
        None => Some(DeveloperToolsCredential::new(None)? as Arc<dyn TokenCredential>),
    };
    Ok(QueueClient::new(url, credential, None)?)
}

/// Keeps one message, and then deletes it. The other way round a crash between the two would lose it.
async fn take(queue: &QueueClient, journal: &mut Journal, message: ReceivedMessage) -> Result<()> {
    let (Some(id), Some(receipt), Some(text)) = (message.message_id, message.pop_receipt, message.message_text) else {
        anyhow::bail!("the queue gave a message without id, receipt or text");
    };
    let is_ours = |json: &Vec<u8>| {
        serde_json::from_slice::<serde_json::Value>(json).is_ok_and(|message| message["id"].is_string())
    };
    let Some(json) = BASE64_STANDARD.decode(text).ok().filter(is_ours) else {
        // It is left to whoever put it there, and keeps nobody from what comes behind it.
        eprintln!("passed over the message {id}: it is not one of vivadrop's");
        return Ok(());
    };
    journal.keep(&json).with_context(|| format!("message {id} cannot be kept"))?;
    match queue.delete_message(&id, &receipt, None).await {
        Ok(_) => Ok(()),
        // It was visible again, and another reader has it now: to them it is a double.
        Err(error) if error.http_status() == Some(azure_core::http::StatusCode::NotFound) => Ok(()),
        Err(error) => Err(error).context("cannot delete from the queue"),
    }
}
