//! An Azure Storage queue: one message of Base64 text for each of ours, through the official SDK.
//!
//! Knows how a queue is written to and nothing of rows. [`config`] says which queue, [`answer`] what the service's answers
//! mean; this file sends. The SDK's own repetitions are switched off: what is tried again, and for how long, is the same
//! as on a webhook.

mod answer;
mod config;

use std::{fmt, num::NonZeroUsize, time::Duration};

use async_trait::async_trait;
use azure_core::http::{RequestContent, RetryOptions, XmlFormat};
use azure_storage_queue::{
    QueueClient, QueueClientOptions,
    models::{QueueClientSendMessageOptions, QueueMessage},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use tokio::time::timeout;
use tracing::{debug, info, warn};

pub use self::config::{BadQueueName, QueueConfig, QueueName};
use crate::{
    message::{Message, MessageId},
    retry::{Attempt, GaveUp, RetryBudget, retry},
    sink::{Sink, SinkError},
};

/// The most that a queue takes as one message: 64 KiB of text.
/// <https://learn.microsoft.com/rest/api/storageservices/put-message>
const LARGEST_TEXT: usize = 64 << 10;

/// As many bytes of JSON: Base64 makes four characters of three bytes.
const LARGEST_MESSAGE: NonZeroUsize = NonZeroUsize::new(LARGEST_TEXT / 4 * 3).unwrap();

/// How long one try may take, the making of the queue included.
const TRY: Duration = Duration::from_secs(30);

/// The time to live of a message that never expires. Without it, one that nobody fetches is gone after seven days.
const FOREVER: i32 = -1;

/// The queue sink.
pub struct Queue {
    client: QueueClient,
    name: QueueName,
    patience: RetryBudget,
}

/// There is no client for the queue on this machine. Nothing is delivered.
#[derive(Debug, thiserror::Error)]
#[error("cannot set up the client of the queue")]
pub struct InvalidClient(#[source] azure_core::Error);

/// A message as the queue takes it.
type Content = RequestContent<QueueMessage, XmlFormat>;

impl Queue {
    /// Sets up the sink; connects to nothing yet.
    pub fn new(config: QueueConfig) -> Result<Self, InvalidClient> {
        let mut options =
            QueueClientOptions { client_options: config.account.client_options(), ..QueueClientOptions::default() };
        options.client_options.retry = RetryOptions::none();
        let client = QueueClient::new(config.url, config.account.credential(), Some(options)).map_err(InvalidClient)?;
        Ok(Self { client, name: config.name, patience: config.patience })
    }

    /// One try.
    async fn attempt(&self, message: &Message, content: Content, number: u32) -> Attempt<(), String> {
        let attempt = match timeout(TRY, self.send(content)).await {
            Ok(Ok(())) => return Attempt::Done(()),
            Ok(Err(error)) => answer::of_failure(&error),
            Err(_) => Attempt::Transient(format!("no answer in {} s", TRY.as_secs()), None),
        };
        if let Attempt::Transient(answer, _) = &attempt {
            self.log_try(&message.id, number, answer);
        }
        attempt
    }

    /// Sends a message; makes the queue where there is none, or no longer.
    async fn send(&self, content: Content) -> azure_core::Result<()> {
        let put = || {
            let options = QueueClientSendMessageOptions {
                message_time_to_live: Some(FOREVER),
                ..QueueClientSendMessageOptions::default()
            };
            self.client.send_message(content.clone(), Some(options))
        };
        match put().await {
            Err(error) if answer::lacks_queue(&error) => {}
            sent => return sent.map(drop),
        }
        match self.client.create(None).await {
            Ok(_) => info!(queue = %self.name, "made the queue `{}`", self.name),
            // Somebody else made it meanwhile, with metadata of its own.
            Err(error) if answer::queue_is_there(&error) => {}
            Err(error) => return Err(error),
        }
        put().await.map(drop)
    }

    /// Says once that a message has to be tried again; how it ends is logged where its verdict is given.
    fn log_try(&self, id: &MessageId, number: u32, answer: &str) {
        let name = &self.name;
        if number == 1 {
            let patience = self.patience.total.as_secs();
            warn!(webhook.id = %id, queue = %name, answer, "the queue `{name}` did not take `{id}`, trying for up to {patience} s: {answer}");
        } else {
            debug!(webhook.id = %id, queue = %name, answer, number, "the queue `{name}` did not take `{id}` in try {number}: {answer}");
        }
    }
}

#[async_trait]
impl Sink for Queue {
    async fn deliver(&self, message: &Message) -> Result<(), SinkError> {
        let refused = |answer| SinkError::Refused { id: message.id.to_string(), answer };
        let bytes = message.body.len();
        if bytes > LARGEST_MESSAGE.get() {
            return Err(refused(format!("it has {bytes} bytes, and a queue takes {LARGEST_MESSAGE}")));
        }
        let content = Content::from(xml(&message.body).into_bytes());
        let end = retry(self.patience, |number| self.attempt(message, content.clone(), number)).await;
        end.map_err(|gave_up| match gave_up {
            GaveUp::Permanent(answer) => refused(answer),
            GaveUp::BudgetSpent(answer, tries) => SinkError::Unavailable { id: message.id.to_string(), tries, answer },
        })
    }

    fn largest_message(&self) -> Option<NonZeroUsize> {
        Some(LARGEST_MESSAGE)
    }
}

/// A message in the service's XML.
///
/// The SDK would look at each character for one that means something to XML, which takes longer than all else that is done
/// to a message. Base64 has none.
fn xml(json: &[u8]) -> String {
    let mut xml = String::with_capacity(json.len().div_ceil(3) * 4 + 100);
    xml.push_str("<?xml version=\"1.0\" encoding=\"utf-8\"?><QueueMessage><MessageText>");
    BASE64_STANDARD.encode_string(json, &mut xml);
    xml.push_str("</MessageText></QueueMessage>");
    xml
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue")
            .field("url", &self.client.url().as_str())
            .field("patience", &self.patience)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_written_as_the_sdk_would() {
        for length in 1..5 {
            let json = b"\xFB\xFF<&>"[..length].to_vec();
            let message = QueueMessage { message_text: Some(BASE64_STANDARD.encode(&json)) };
            assert_eq!(xml(&json), azure_core::xml::to_xml(&message).unwrap());
        }
    }
}
