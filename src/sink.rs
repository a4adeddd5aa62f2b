//! The destinations of messages: the partner's webhook, a storage queue, or standard output.
//!
//! A sink delivers whole messages and does not look into them. Implementations: [`webhook::Webhook`],
//! [`vault_secret_webhook::VaultSecretWebhook`], [`queue::Queue`] and [`stdout::Stdout`].
//! The tests in `tests/sink_contract.rs` check the contract of [`Sink`]; each test runs against several sinks.

pub mod queue;
pub mod stdout;
pub mod vault_secret_webhook;
pub mod webhook;

use std::{fmt, num::NonZeroUsize, sync::Arc};

use async_trait::async_trait;

use crate::{
    message::Message,
    verdict::{Reason, Verdict},
};

/// The destination of messages.
#[async_trait]
pub trait Sink: fmt::Debug + Send + Sync + 'static {
    /// Delivers `message`; returns once the destination has taken responsibility for it.
    ///
    /// Retries transient failures with backoff. May be called again with the same message after a crash; its id is then
    /// the same. Several calls may be in progress at once.
    async fn deliver(&self, message: &Message) -> Result<(), SinkError>;

    /// The maximum size of a message in bytes of JSON; `None` if there is no limit. Larger messages are rejected.
    fn largest_message(&self) -> Option<NonZeroUsize> {
        None
    }
}

#[async_trait]
impl<S: Sink + ?Sized> Sink for Arc<S> {
    async fn deliver(&self, message: &Message) -> Result<(), SinkError> {
        (**self).deliver(message).await
    }

    fn largest_message(&self) -> Option<NonZeroUsize> {
        (**self).largest_message()
    }
}

/// Why a message was not delivered.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// The receiver will never accept this message. The file is set aside.
    #[error("the receiver rejected the message `{id}`: {answer}")]
    Rejected {
        /// The id of the message.
        id: String,
        /// The receiver's answer, such as `HTTP 400 Bad Request`; never the body of the response.
        answer: String,
    },
    /// The receiver did not acknowledge the message within `DELIVERY_PATIENCE`. The file is retried from its checkpoint.
    #[error("the receiver did not acknowledge the message `{id}` in {tries} tries: {answer}")]
    Unavailable {
        /// The id of the message.
        id: String,
        /// The number of tries.
        tries: u32,
        /// The result of the last try.
        answer: String,
    },
}

impl SinkError {
    /// What the failure means for the file.
    pub fn verdict(&self) -> Verdict {
        match self {
            Self::Rejected { .. } => Verdict::SetAside(Reason::Refused),
            Self::Unavailable { .. } => Verdict::Retry,
        }
    }
}
