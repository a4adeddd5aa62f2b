//! The sink for an Azure Storage queue: puts each message as Base64 text, through the official SDK.
//!
//! [`config`] has the address of the queue, [`answer`] classifies the service's answers, and this file sends. The SDK's
//! retries are switched off: the same loop retries messages as on a webhook.

mod answer;
mod config;

use std::{fmt, num::NonZeroUsize, time::Duration};

use async_trait::async_trait;
use azure_core::http::{RequestContent, RetryOptions, StatusCode, XmlFormat};
use azure_storage_queue::{
    QueueClient, QueueClientOptions,
    models::{QueueClientSendMessageOptions, QueueMessage},
};
use base64_simd::{Out, STANDARD};
use tokio::time::timeout;
use tracing::info;

pub use self::config::{InvalidQueueName, QueueConfig, QueueName};
use crate::{
    buffers::Buffers,
    message::Message,
    retry::RetryBudget,
    sink::{FailedTry, Sink},
};

/// The maximum size of a queue message: 64 KiB of text.
/// <https://learn.microsoft.com/rest/api/storageservices/put-message>
const LARGEST_TEXT: usize = 64 << 10;

/// The maximum size of a message in bytes of JSON: Base64 encodes three bytes as four characters.
const LARGEST_MESSAGE: NonZeroUsize = NonZeroUsize::new(LARGEST_TEXT / 4 * 3).unwrap();

/// The timeout of one try, including the creation of the queue.
const TRY_TIMEOUT: Duration = Duration::from_secs(30);

/// The time-to-live of a message that never expires. The service's default is seven days.
const NEVER_EXPIRES: i32 = -1;

/// The sink `queue://<name>`.
pub struct Queue {
    client: QueueClient,
    name: QueueName,
    retry_budget: RetryBudget,
    /// Reusable memory for the bodies of requests.
    buffers: Buffers,
}

/// The client for the queue cannot be created. Nothing is delivered.
#[derive(Debug, thiserror::Error)]
#[error("cannot create the client for the queue")]
pub struct InvalidClient(#[source] azure_core::Error);

/// The body of a request that puts a message.
type Content = RequestContent<QueueMessage, XmlFormat>;

impl Queue {
    /// Creates the sink; does not connect yet.
    pub fn new(config: QueueConfig) -> Result<Self, InvalidClient> {
        let mut options =
            QueueClientOptions { client_options: config.account.client_options(), ..QueueClientOptions::default() };
        options.client_options.retry = RetryOptions::none();
        let client = QueueClient::new(config.url, config.account.credential(), Some(options)).map_err(InvalidClient)?;
        Ok(Self { client, name: config.name, retry_budget: config.retry_budget, buffers: Buffers::default() })
    }

    /// Puts a message; creates the queue if it does not exist.
    async fn send(&self, content: Content) -> azure_core::Result<()> {
        let put = || {
            let options = QueueClientSendMessageOptions {
                message_time_to_live: Some(NEVER_EXPIRES),
                ..QueueClientSendMessageOptions::default()
            };
            self.client.send_message(content.clone(), Some(options))
        };
        match put().await {
            Err(error) if answer::is_queue_missing(&error) => {}
            result => return result.map(drop),
        }
        match self.client.create(None).await {
            // The service answers 204 if another message has created the queue in the meantime.
            Ok(answer) if answer.status() == StatusCode::NoContent => {}
            Ok(_) => info!(queue = %self.name, "created the queue `{}`", self.name),
            // Another client created the queue in the meantime, with other metadata.
            Err(error) if answer::has_queue_already(&error) => {}
            Err(error) => return Err(error),
        }
        put().await.map(drop)
    }
}

#[async_trait]
impl Sink for Queue {
    async fn try_deliver(&self, message: &Message) -> Result<(), FailedTry> {
        let bytes = message.body.len();
        if bytes > LARGEST_MESSAGE.get() {
            return Err(FailedTry::rejected(format!(
                "it has {bytes} bytes; the limit of a queue is {LARGEST_MESSAGE}"
            )));
        }
        let mut xml = self.buffers.take_uncleared();
        write_xml(&message.body, &mut xml);
        let content: Content = xml.into_bytes().into();
        match timeout(TRY_TIMEOUT, self.send(content)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(answer::classify(&error)),
            Err(_) => Err(FailedTry::transient(format!("no answer in {} s", TRY_TIMEOUT.as_secs()))),
        }
    }

    fn retry_budget(&self) -> RetryBudget {
        self.retry_budget
    }

    fn name(&self) -> String {
        format!("the queue `{}`", self.name)
    }

    fn largest_message(&self) -> Option<NonZeroUsize> {
        Some(LARGEST_MESSAGE)
    }
}

const BEFORE_TEXT: &[u8] = b"<?xml version=\"1.0\" encoding=\"utf-8\"?><QueueMessage><MessageText>";
const AFTER_TEXT: &[u8] = b"</MessageText></QueueMessage>";

/// Encodes a message in the XML of the service, into `xml`, whose contents are overwritten.
///
/// The SDK would check each character for XML escapes, which takes longer than all other work on a message. Base64
/// needs no escapes.
fn write_xml(json: &[u8], xml: &mut Vec<u8>) {
    let text_end = BEFORE_TEXT.len() + STANDARD.encoded_length(json.len());
    xml.resize(text_end + AFTER_TEXT.len(), 0);
    xml[..BEFORE_TEXT.len()].copy_from_slice(BEFORE_TEXT);
    _ = STANDARD.encode(json, Out::from_slice(&mut xml[BEFORE_TEXT.len()..text_end]));
    xml[text_end..].copy_from_slice(AFTER_TEXT);
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue")
            .field("url", &self.client.url().as_str())
            .field("retry_budget", &self.retry_budget)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use base64::{Engine, prelude::BASE64_STANDARD};

    use super::*;

    #[test]
    fn the_xml_equals_that_of_the_sdk() {
        let mut xml = b"of an earlier, longer message".repeat(20);
        for length in 1..5 {
            let json = b"\xFB\xFF<&>"[..length].to_vec();
            let message = QueueMessage { message_text: Some(BASE64_STANDARD.encode(&json)) };
            write_xml(&json, &mut xml);
            assert_eq!(xml, azure_core::xml::to_xml(&message).unwrap());
        }
    }
}
