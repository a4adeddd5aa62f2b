//! What was found, as one line for a person.

use std::fmt;

use crate::{error_chain::error_chain, keys::KeyError, sink::SinkError, store::StoreError};

/// What one look has found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What it comes to.
    pub state: State,
    /// What was looked at, in one word.
    pub about: &'static str,
    /// What was tried and what was found.
    pub text: String,
    /// What to do about it.
    pub todo: Option<String>,
}

/// What a finding comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// As it should be.
    Well,
    /// Nothing is wrong, and there is something to know.
    Note,
    /// Not looked at, since something else is wrong.
    Skipped,
    /// It did not answer: trying again may help.
    TryAgain,
    /// Wrong until somebody mends it.
    Mend,
}

impl State {
    /// The word for it; all are of a length to stand in a column.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Well => "ok",
            Self::Note => "note",
            Self::Skipped => "skip",
            Self::TryAgain => "again",
            Self::Mend => "mend",
        }
    }
}

impl Finding {
    pub(super) fn new(state: State, about: &'static str, text: impl Into<String>) -> Self {
        Self { state, about, text: text.into(), todo: None }
    }

    pub(super) fn well(about: &'static str, text: impl Into<String>) -> Self {
        Self::new(State::Well, about, text)
    }

    /// Something that a person must mend.
    pub fn mend(about: &'static str, text: impl Into<String>) -> Self {
        Self::new(State::Mend, about, text)
    }

    #[must_use]
    pub(super) fn todo(mut self, todo: impl Into<String>) -> Self {
        self.todo = Some(todo.into());
        self
    }

    /// What the store's failure at `tried` comes to.
    pub(super) fn of_store(about: &'static str, tried: &str, error: &StoreError) -> Self {
        let text = format!("{tried}: {}", error_chain(error));
        match error {
            StoreError::Denied(_) => Self::mend(about, text),
            StoreError::Missing(_)
            | StoreError::Changed(_)
            | StoreError::LeaseConflict(_)
            | StoreError::Unavailable { .. } => Self::new(State::TryAgain, about, text)
                .todo("see that the account of DropStorage is up, and that its firewall lets this machine in"),
        }
    }

    /// What a failure of the vault, the API or the token service comes to. What to do is in its own words.
    pub(super) fn of_key(about: &'static str, tried: &str, error: &KeyError) -> Self {
        let text = format!("{tried}: {}", error_chain(error));
        match error {
            KeyError::Refused(_) | KeyError::Wrong(_) | KeyError::NoToken { .. } => Self::mend(about, text),
            KeyError::Unavailable { .. } => Self::new(State::TryAgain, about, text)
                .todo("see that it is up, and that this machine may connect to it"),
        }
    }

    /// What a message that was not taken comes to.
    pub(super) fn of_sink(about: &'static str, tried: &str, error: &SinkError) -> Self {
        let text = format!("{tried}: {}", error_chain(error));
        match error {
            SinkError::Rejected { .. } => Self::mend(about, text).todo(
                "check DELIVER_TO and WEBHOOK_SECRET; the receiver should answer 2xx, also to types of message that it does \
                 not know",
            ),
            SinkError::Unavailable { .. } => {
                Self::new(State::TryAgain, about, text).todo("see that what DELIVER_TO names is up and answers in time")
            }
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { state, about, text, todo } = self;
        write!(f, "{:<5}  {about:<8}  {text}", state.as_str())?;
        todo.as_ref().map_or(Ok(()), |todo| write!(f, " -> {todo}"))
    }
}
