//! Reads the queue to which vivadrop delivers: deduplicates messages by id, stores them in a file, and deletes each
//! message from the queue after it has been stored. A message that cannot be read goes to `FILE.dead-letters`: it must
//! neither end the program nor stay in the queue, where it would be received again and again.
//!
//! ```sh
//! cargo run --example queue_reader -- 'https://account.queue.core.windows.net/rows?sv=…&sig=…' messages.ndjson
//! ```
//!
//! The SAS needs the permissions *read* and *process*. Without a SAS, the example uses your `az login`. In Azure, use
//! `ManagedIdentityCredential` instead, with the role Storage Queue Data Message Processor.

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

/// Default visibility timeout: for how many seconds a received message is hidden from other readers. After that,
/// another reader receives the messages of a reader that crashed. If processing takes longer, a message is received
/// again; its id makes this harmless.
const VISIBILITY_TIMEOUT: &str = "60";

/// Pause after the queue was empty.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let (url, path, visibility_timeout) = match &arguments[..] {
        [url, path] => (url, path, VISIBILITY_TIMEOUT),
        [url, path, seconds] => (url, path, seconds.as_str()),
        _ => anyhow::bail!("usage: queue_reader QUEUE_URL FILE [VISIBILITY_TIMEOUT_SECONDS]"),
    };
    let queue = open(url)?;
    let mut journal = Journal::open(Path::new(path)).with_context(|| path.clone())?;
    let visibility_timeout = visibility_timeout.parse().context("expected a number of seconds")?;
    loop {
        let options = QueueClientReceiveMessagesOptions {
            number_of_messages: Some(32),
            visibility_timeout: Some(visibility_timeout),
            ..QueueClientReceiveMessagesOptions::default()
        };
        // The client retries by itself for some time. A failure that lasts longer ends the program.
        let received = queue.receive_messages(Some(options)).await.context("cannot read the queue")?;
        let messages = received.into_model().context("cannot read the queue")?.items.unwrap_or_default();
        if messages.is_empty() {
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        for message in messages {
            handle(&queue, &mut journal, message).await?;
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

/// Stores one message, then deletes it from the queue. In the opposite order, a crash in between would lose it.
async fn handle(queue: &QueueClient, journal: &mut Journal, message: ReceivedMessage) -> Result<()> {
    let (Some(id), Some(receipt), Some(text)) = (message.message_id, message.pop_receipt, message.message_text) else {
        anyhow::bail!("received a message without id, receipt or text");
    };
    // A text that is not Base64 is not a message of vivadrop. The journal keeps it with the dead letters.
    let json = BASE64_STANDARD.decode(&text).unwrap_or_else(|_| text.into_bytes());
    journal.append(&json).with_context(|| format!("cannot store the message {id}"))?;
    match queue.delete_message(&id, &receipt, None).await {
        Ok(_) => Ok(()),
        // The visibility timeout ended, and another reader has received the message. That reader finds its id stored.
        Err(error) if error.http_status() == Some(azure_core::http::StatusCode::NotFound) => Ok(()),
        Err(error) => Err(error).context("cannot delete the message from the queue"),
    }
}
