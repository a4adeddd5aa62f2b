//! How the receiver answers a message.

use std::time::Duration;

use axum::http::StatusCode;
use url::Url;

/// How the receiver answers a message, and whether it accepts it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Accepts the message and answers 204.
    Accept,
    /// Rejects the message with this status and this `Retry-After`, if any.
    Status(StatusCode, Option<String>),
    /// Rejects the message and redirects the client with 307, which asks it to send the body again.
    Redirect(Url),
    /// Rejects the message and closes the connection without an answer.
    Disconnect,
    /// Accepts the message and closes the connection without an answer: the client cannot know that it was accepted.
    AcceptAndDisconnect,
    /// Gives the inner answer after this time.
    After(Duration, Box<Self>),
}

impl Answer {
    /// Rejects the message with this status, without a `Retry-After`.
    ///
    /// # Panics
    /// If `status` is not an HTTP status (100 to 999).
    pub fn status(status: u16) -> Self {
        Self::Status(http_status(status), None)
    }

    /// Rejects the message with this status and this `Retry-After`: seconds, a date, or invalid text.
    ///
    /// # Panics
    /// If `status` is not an HTTP status (100 to 999).
    pub fn retry_after(status: u16, retry_after: impl Into<String>) -> Self {
        Self::Status(http_status(status), Some(retry_after.into()))
    }

    /// Gives this answer after `time`.
    #[must_use]
    pub fn after(self, time: Duration) -> Self {
        Self::After(time, Box::new(self))
    }
}

fn http_status(status: u16) -> StatusCode {
    StatusCode::from_u16(status).expect("an HTTP status is a number from 100 to 999")
}
