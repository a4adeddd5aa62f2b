//! The destinations of messages: the partner's webhook, a storage queue, an entity of Service Bus, or standard output.
//!
//! A sink tries to deliver whole messages and does not look into them. Implementations: [`webhook::Webhook`],
//! [`vault_secret_webhook::VaultSecretWebhook`], [`queue::Queue`], [`service_bus::ServiceBus`] and [`stdout::Stdout`].
//! [`deliver`] adds the retries.
//! The tests in `tests/sink_contract.rs` check the contract of [`Sink`]; each test runs against several sinks.

pub mod breaker;
mod delivery;
pub(crate) mod discard;
pub mod queue;
pub mod service_bus;
pub mod stdout;
pub mod vault_secret_webhook;
pub mod webhook;

use std::{fmt, future::ready, num::NonZeroUsize, sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::time::Instant;

use self::breaker::{Breaker, Passage};
pub use self::delivery::{CheckedDeliveryError, deliver, deliver_checked};
pub use crate::http_response::StatusClass;
use crate::{
    message::Message,
    retry::RetryBudget,
    verdict::{Reason, Verdict},
};

/// The destination of messages. Messages are delivered with [`deliver`] or [`deliver_checked`].
#[async_trait]
pub trait Sink: fmt::Debug + Send + Sync + 'static {
    /// Tries once to deliver `message`; returns once the destination has taken responsibility for it.
    ///
    /// Does not retry; every try has a timeout. May be called again with the same message, after a failed try or after a
    /// crash; its id is then the same. After a failed try the destination may have the message nevertheless, because the
    /// acknowledgement may have been lost. Several calls may be in progress at once.
    async fn try_deliver(&self, message: &Message) -> Result<(), FailedTry>;

    /// How long tries are repeated, and the waits between them.
    fn retry_budget(&self) -> RetryBudget;

    /// The name of the destination for logs, such as `the webhook https://partner.example`. Never contains the path or the
    /// query of a URL, which may contain a secret.
    fn name(&self) -> String;

    /// The maximum size of a message in bytes of JSON; `None` if there is no limit. Larger messages are rejected.
    fn largest_message(&self) -> Option<NonZeroUsize> {
        None
    }

    /// Whether deliveries count in metrics.
    fn is_measured(&self) -> bool {
        true
    }

    /// The Service Bus entity that this sink delivers to, if it is one: it drops repeated ids, and `vivadrop check` reads
    /// its properties.
    fn as_service_bus(&self) -> Option<&service_bus::ServiceBus> {
        None
    }
}

/// The destination of the messages of one run, which ends when the circuit breaker of the destination opens.
#[derive(Debug, Clone)]
pub struct Receiver {
    /// The destination.
    pub sink: Arc<dyn Sink>,
    /// Its circuit breaker.
    pub breaker: Arc<Breaker>,
    /// When the run began.
    pub passage: Passage,
}

impl Receiver {
    /// Whether the breaker has not opened since the run began.
    pub(crate) fn is_let_through(&self) -> bool {
        self.breaker.lets_through(self.passage)
    }

    /// The error about `message`, which is not sent because the breaker has opened.
    pub(crate) fn breaker_error(&self, message: &Message) -> SinkError {
        let answer = format!(
            "{}; it takes no messages of several files, so it is left alone for now",
            self.breaker.last_answer()
        );
        SinkError::Unavailable { id: message.id.to_string(), tries: 0, answer, retry_after: None }
    }

    /// Delivers `message` as [`deliver`] does, but stops when the breaker opens.
    pub async fn deliver(&self, message: &Message) -> Result<(), SinkError> {
        let check = || ready(if self.is_let_through() { Ok(()) } else { Err(BreakerOpen) });
        deliver_checked(&*self.sink, message, check).await.map_err(|error| match error {
            CheckedDeliveryError::Sink(error) => error,
            CheckedDeliveryError::Check(BreakerOpen) => self.breaker_error(message),
        })
    }
}

/// The breaker of a destination has opened, so a message is not sent.
struct BreakerOpen;

/// A sink whose results operate a circuit breaker.
#[derive(Debug)]
pub(crate) struct GuardedSink {
    pub(crate) inner: Arc<dyn Sink>,
    pub(crate) breaker: Arc<Breaker>,
}

#[async_trait]
impl Sink for GuardedSink {
    async fn try_deliver(&self, message: &Message) -> Result<(), FailedTry> {
        let started = Instant::now();
        let result = self.inner.try_deliver(message).await;
        match &result {
            Ok(()) | Err(FailedTry { class: StatusClass::Request, .. }) => self.breaker.succeeded(),
            Err(failed) => self.breaker.failed(&message.subject(), started, &failed.answer),
        }
        result
    }

    fn retry_budget(&self) -> RetryBudget {
        self.inner.retry_budget()
    }

    fn name(&self) -> String {
        self.inner.name()
    }

    fn as_service_bus(&self) -> Option<&service_bus::ServiceBus> {
        self.inner.as_service_bus()
    }

    fn largest_message(&self) -> Option<NonZeroUsize> {
        self.inner.largest_message()
    }
}

#[async_trait]
impl<S: Sink + ?Sized> Sink for Arc<S> {
    async fn try_deliver(&self, message: &Message) -> Result<(), FailedTry> {
        (**self).try_deliver(message).await
    }

    fn retry_budget(&self) -> RetryBudget {
        (**self).retry_budget()
    }

    fn name(&self) -> String {
        (**self).name()
    }

    fn largest_message(&self) -> Option<NonZeroUsize> {
        (**self).largest_message()
    }

    fn is_measured(&self) -> bool {
        (**self).is_measured()
    }

    fn as_service_bus(&self) -> Option<&service_bus::ServiceBus> {
        (**self).as_service_bus()
    }
}

/// One try to deliver a message, after which the destination has not acknowledged it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedTry {
    /// What the answer is about. A missing answer is transient.
    pub class: StatusClass,
    /// The answer, or why there is none, and how to fix it if that is known; never the body of a response.
    pub answer: String,
    /// The wait that the destination asked for (`Retry-After`), of any length. Ignored unless the failure is transient.
    pub retry_after: Option<Duration>,
}

impl FailedTry {
    /// A try that may succeed if it is repeated.
    pub fn transient(answer: impl Into<String>) -> Self {
        Self { class: StatusClass::Transient, answer: answer.into(), retry_after: None }
    }

    /// A try after which the destination rejects this message.
    pub fn rejected(answer: impl Into<String>) -> Self {
        Self { class: StatusClass::Request, answer: answer.into(), retry_after: None }
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
    /// The receiver did not acknowledge the message within `DELIVERY_PATIENCE`, or asked to wait for longer. The file is
    /// retried from its checkpoint.
    #[error("the receiver did not acknowledge the message `{id}` in {tries} tries: {answer}")]
    Unavailable {
        /// The id of the message.
        id: String,
        /// The number of tries.
        tries: u32,
        /// The result of the last try.
        answer: String,
        /// The wait that the receiver asked for with `Retry-After`, if it is longer than what was left of
        /// `DELIVERY_PATIENCE`; at most [`MAX_RETRY_AFTER`](crate::retry::MAX_RETRY_AFTER).
        retry_after: Option<Duration>,
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

    /// Whether the receiver will never accept the message.
    pub fn is_rejection(&self) -> bool {
        matches!(self, Self::Rejected { .. })
    }

    /// How long the receiver asked to wait before the next run, if it did.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Unavailable { retry_after, .. } => *retry_after,
            Self::Rejected { .. } | Self::Misconfigured { .. } => None,
        }
    }
}
