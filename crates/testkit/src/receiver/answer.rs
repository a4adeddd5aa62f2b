//! What the receiver was told to answer.

use std::{collections::VecDeque, fmt, time::Duration};

use axum::http::StatusCode;
use url::Url;

use super::Delivery;

/// How a message is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The message is kept, and answered with 204.
    Take,
    /// It is not kept, and answered with this status; `Retry-After` as given.
    Status(StatusCode, Option<String>),
    /// It is not kept; the sender is sent elsewhere (307, which a client would follow with the body).
    Redirect(Url),
    /// It is not kept, and the connection is dropped without an answer.
    Cut,
    /// It is kept, but the connection is dropped without an answer: the sender cannot know.
    TakeAndCut,
    /// The same after a while.
    After(Duration, Box<Self>),
}

impl Answer {
    /// This status, without a `Retry-After`.
    ///
    /// # Panics
    /// When `status` is none of HTTP's (100 to 999).
    pub fn status(status: u16) -> Self {
        Self::Status(StatusCode::from_u16(status).expect("expected a status of HTTP"), None)
    }

    /// This status, with a `Retry-After`: seconds, a date, or nonsense.
    ///
    /// # Panics
    /// When `status` is none of HTTP's (100 to 999).
    pub fn retry_after(status: u16, retry_after: impl Into<String>) -> Self {
        match Self::status(status) {
            Self::Status(status, _) => Self::Status(status, Some(retry_after.into())),
            other => other,
        }
    }

    /// The same answer, `time` later.
    #[must_use]
    pub fn after(self, time: Duration) -> Self {
        Self::After(time, Box::new(self))
    }
}

/// The answers to come.
pub(super) struct Orders {
    next: VecDeque<(usize, Answer)>,
    always: Box<dyn Fn(&Delivery) -> Answer + Send + Sync>,
}

impl Default for Orders {
    fn default() -> Self {
        Self { next: VecDeque::new(), always: Box::new(|_| Answer::Take) }
    }
}

impl Orders {
    pub(super) fn next(&mut self, times: usize, answer: Answer) {
        self.next.push_back((times, answer));
    }

    pub(super) fn always(&mut self, judge: impl Fn(&Delivery) -> Answer + Send + Sync + 'static) {
        self.next.clear();
        self.always = Box::new(judge);
    }

    /// The answer to this delivery.
    pub(super) fn answer(&mut self, delivery: &Delivery) -> Answer {
        while let Some((times, answer)) = self.next.front_mut() {
            if *times > 0 {
                *times -= 1;
                return answer.clone();
            }
            self.next.pop_front();
        }
        (self.always)(delivery)
    }
}

impl fmt::Debug for Orders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Orders").field("next", &self.next).finish_non_exhaustive()
    }
}
