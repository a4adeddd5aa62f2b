//! The destinations of messages: the partner's webhook, a storage queue, or standard output.
//!
//! A sink delivers whole messages and does not look into them. Implementations: [`webhook::Webhook`],
//! [`vault_secret_webhook::VaultSecretWebhook`], [`queue::Queue`] and [`stdout::Stdout`].
//! The tests in `tests/sink_contract.rs` check the contract of [`Sink`]; each test runs against several sinks.

pub mod queue;
pub mod stdout;
pub mod vault_secret_webhook;
pub mod webhook;

use std::{fmt, num::NonZeroUsize, sync::Arc, time::Duration};

use async_trait::async_trait;

use crate::{
    http_response::StatusClass,
    message::{Message, MessageId},
    retry::{Attempt, GaveUp},
    verdict::{Reason, Verdict},
};

/// The destination of messages.
#[async_trait]
pub trait Sink: fmt::Debug + Send + Sync + 'static {
    /// Delivers `message`; returns once the destination has taken responsibility for it.
    ///
    /// Retries transient failures with backoff. Fails at once if the destination rejects this message, or every message.
    /// May be called again with the same message after a crash; its id is then the same. Several calls may be in progress
    /// at once.
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
    /// No message can be delivered until a person corrects a setting, a permission or the receiver. The file is retried
    /// from its checkpoint by a later run: the message is not at fault.
    #[error("the message `{id}` was not delivered: {problem}")]
    Misconfigured {
        /// The id of the message.
        id: String,
        /// The problem and how to fix it, such as `HTTP 404 Not Found: check DELIVER_TO`.
        problem: String,
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
            Self::Misconfigured { .. } | Self::Unavailable { .. } => Verdict::Retry,
        }
    }

    /// The error for the message `id`, whose tries ended with `gave_up`.
    fn of(id: &MessageId, gave_up: GaveUp<FailedTry>) -> Self {
        let id = id.to_string();
        let (FailedTry { class, answer }, tries) = match gave_up {
            GaveUp::Permanent(failed) => (failed, 1),
            GaveUp::BudgetSpent(failed, tries) => (failed, tries),
        };
        match class {
            StatusClass::Transient => Self::Unavailable { id, tries, answer },
            StatusClass::Request => Self::Rejected { id, answer },
            StatusClass::Service => Self::Misconfigured { id, problem: answer },
        }
    }
}

/// One try to deliver a message, after which the destination has not acknowledged it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct FailedTry {
    /// What the answer is about. A missing answer is transient.
    class: StatusClass,
    /// The answer, or why there is none, and how to fix it if that is known; never the body of a response.
    answer: String,
}

impl FailedTry {
    /// A try that may succeed if it is repeated.
    fn transient(answer: impl Into<String>) -> Self {
        Self { class: StatusClass::Transient, answer: answer.into() }
    }

    /// The attempt that this try was. The destination may have asked to wait for `retry_after` before the next one.
    fn attempt(self, retry_after: Option<Duration>) -> Attempt<(), Self> {
        match self.class {
            StatusClass::Transient => Attempt::Transient(self, retry_after),
            StatusClass::Request | StatusClass::Service => Attempt::Permanent(self),
        }
    }
}
