//! Where batches go: the seam to the partner's webhook or queue.
//!
//! A sink ships messages and knows nothing of rows. Keepers: [`webhook::Webhook`], [`queue::Queue`] and [`stdout::Stdout`];
//! `tests/sink_contract.rs` is this contract as code.

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

/// Where messages go.
#[async_trait]
pub trait Sink: fmt::Debug + Send + Sync + 'static {
    /// Delivers `message`, returning once the destination has taken responsibility for it.
    ///
    /// Tries again by itself, with backoff, as long as that may help. May be called again with the same message after a
    /// crash; its id is then the same. Several calls may be open at once.
    async fn deliver(&self, message: &Message) -> Result<(), SinkError>;

    /// How many bytes of JSON a message may have at most, if the destination has a limit. Larger ones are refused.
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

/// Why a message was not taken.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// The receiver answered that it will not take this message. The file is set aside.
    #[error("the receiver refused the message `{id}`: {answer}")]
    Refused {
        /// The message's id.
        id: String,
        /// What it answered, such as `HTTP 400 Bad Request`; never its body.
        answer: String,
    },
    /// The receiver did not take the message within `DELIVERY_PATIENCE`. The file is tried again from its checkpoint.
    #[error("the receiver did not take the message `{id}` in {tries} tries: {answer}")]
    Unavailable {
        /// The message's id.
        id: String,
        /// How often it was tried.
        tries: u32,
        /// What came of the last try.
        answer: String,
    },
}

impl SinkError {
    /// What the failure means for the file.
    pub fn verdict(&self) -> Verdict {
        match self {
            Self::Refused { .. } => Verdict::SetAside(Reason::Refused),
            Self::Unavailable { .. } => Verdict::TryAgain,
        }
    }
}
