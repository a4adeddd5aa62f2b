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

use self::breaker::{Breaker, LastFailure, Openings};
pub use self::delivery::{CheckedDeliveryError, deliver, deliver_checked};
pub use crate::http_response::StatusClass;
use crate::{
    identity::TokenError,
    message::Message,
    retry::RetryBudget,
    verdict::{Reason, Verdict},
};

/// The destination of messages. Messages are delivered with [`deliver`] or [`deliver_checked`].
#[async_trait]
pub trait Sink: fmt::Debug + Send + Sync + 'static {
    /// Tries once to deliver `message`; returns once the destination has taken responsibility for it.
    ///
    /// Does not retry; a try over the network has a timeout. May be called again with the same message, after a failed
    /// try or after a crash; its id is then the same. After a failed try the destination may have the message
    /// nevertheless, because the acknowledgement may have been lost. Several calls may be in progress at once.
    async fn try_deliver(&self, message: &Message) -> Result<(), FailedTry>;

    /// How long tries are repeated, and the waits between them.
    fn retry_budget(&self) -> RetryBudget;

    /// The name of the destination for logs, such as `the webhook https://partner.example`. Never contains the path or
    /// the query of a URL, which may contain a secret.
    fn name(&self) -> String;

    /// The maximum size of a message in bytes of JSON; `None` if there is no limit. Larger messages are rejected.
    fn largest_message(&self) -> Option<NonZeroUsize> {
        None
    }

    /// Whether deliveries count in metrics.
    fn is_measured(&self) -> bool {
        true
    }

    /// This sink as a Service Bus sink, if it is one. Such a sink needs special treatment: the entity can drop repeated
    /// ids, and `vivadrop check` reads its properties.
    fn as_service_bus(&self) -> Option<&service_bus::ServiceBus> {
        None
    }
}

/// The destination of the messages of one run. The run stops when the circuit breaker of the destination opens.
#[derive(Debug, Clone)]
pub struct Receiver {
    /// The destination.
    pub sink: Arc<dyn Sink>,
    /// Its circuit breaker.
    pub breaker: Arc<Breaker>,
    /// How often its circuit breaker had opened when the run began.
    pub openings: Openings,
}

impl Receiver {
    /// Whether the run must stop: the breaker has opened since the run began, and is still open.
    pub(crate) fn must_stop(&self) -> bool {
        self.breaker.stops(self.openings)
    }

    /// The error about `message`, which is not sent because the breaker has opened.
    pub(crate) fn breaker_error(&self, message: &Message) -> SinkError {
        let (id, last) = (message.id.to_string(), self.breaker.last_failure());
        let is_service = last.as_ref().is_some_and(|last| last.is_service);
        let answer = last.map(|last| last.answer).unwrap_or_default();
        let answer = format!("{answer}; messages about several files have failed, so this message was not sent");
        if is_service {
            SinkError::Misconfigured { id, problem: answer }
        } else {
            SinkError::Unavailable { id, tries: 0, answer, retry_after: None }
        }
    }

    /// Delivers `message` as [`deliver`] does, but stops when the breaker opens.
    pub async fn deliver(&self, message: &Message) -> Result<(), SinkError> {
        let check = || ready(if self.must_stop() { Err(BreakerOpen) } else { Ok(()) });
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
#[deny(clippy::missing_trait_methods)]
impl Sink for GuardedSink {
    async fn try_deliver(&self, message: &Message) -> Result<(), FailedTry> {
        let started = Instant::now();
        let result = self.inner.try_deliver(message).await;
        match &result {
            Ok(()) | Err(FailedTry { class: StatusClass::Request, .. }) => self.breaker.succeeded(),
            Err(FailedTry { class, answer, .. }) => {
                let failure = LastFailure { answer: answer.clone(), is_service: *class == StatusClass::Service };
                self.breaker.failed(&message.subject(), started, failure);
            }
        }
        result
    }

    fn retry_budget(&self) -> RetryBudget {
        self.inner.retry_budget()
    }

    fn name(&self) -> String {
        self.inner.name()
    }

    fn largest_message(&self) -> Option<NonZeroUsize> {
        self.inner.largest_message()
    }

    fn is_measured(&self) -> bool {
        self.inner.is_measured()
    }

    fn as_service_bus(&self) -> Option<&service_bus::ServiceBus> {
        self.inner.as_service_bus()
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
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

/// A failed try to deliver a message: the destination has not acknowledged the message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedTry {
    /// Whether the failure is transient, about this message, or about every message. A missing answer is transient.
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

    /// A try in which this message was rejected, so that a retry cannot succeed.
    pub fn rejected(answer: impl Into<String>) -> Self {
        Self { class: StatusClass::Request, answer: answer.into(), retry_after: None }
    }

    /// A try without a token of the app's identity. A key in `setting` would make the token unnecessary.
    pub(crate) fn without_token(error: &TokenError, setting: &str) -> Self {
        match error {
            TokenError::Unavailable { retry_after, .. } => {
                Self { retry_after: *retry_after, ..Self::transient(error.to_string()) }
            }
            TokenError::Rejected(_) | TokenError::NotSignedIn => Self {
                class: StatusClass::Service,
                answer: format!(
                    "{error}; give the app a managed identity, check AZURE_CLIENT_SECRET, or set {setting}"
                ),
                retry_after: None,
            },
        }
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
    /// The receiver did not acknowledge the message within `DELIVERY_PATIENCE`, or asked to wait for longer; or the
    /// circuit breaker has opened. The file is retried from its checkpoint.
    #[error("the receiver did not acknowledge the message `{id}` in {tries} tries: {answer}")]
    Unavailable {
        /// The id of the message.
        id: String,
        /// The number of tries; 0 if the circuit breaker has stopped the delivery.
        tries: u32,
        /// The result of the last try.
        answer: String,
        /// The wait that the receiver asked for with `Retry-After`, if it is longer than what was left of
        /// `DELIVERY_PATIENCE`; at most [`MAX_RETRY_AFTER`](crate::retry::MAX_RETRY_AFTER).
        retry_after: Option<Duration>,
    },
}

impl SinkError {
    /// Whether the file is retried or set aside after this failure.
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
