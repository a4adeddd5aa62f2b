//! The result of one test, printed as one line.

use std::fmt;

use crate::{error_chain::error_chain, keys::KeyError, sink::SinkError, store::StoreError};

/// The result of one test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How severe it is.
    pub severity: Severity,
    /// The subject of the test, in one word.
    pub subject: &'static str,
    /// The test and its result.
    pub text: String,
    /// How to fix it.
    pub todo: Option<String>,
}

/// How severe a finding is, the least severe first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Works.
    Ok,
    /// Works, but the person should know something.
    Note,
    /// Not tested.
    Skipped,
    /// Did not answer. A retry may help.
    Retry,
    /// Fails until a person fixes it.
    Fix,
}

impl Severity {
    /// The word that is printed: at most 5 characters, the width of its column.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Skipped => "skip",
            Self::Retry => "retry",
            Self::Fix => "fix",
        }
    }
}

impl Finding {
    pub(super) fn new(severity: Severity, subject: &'static str, text: impl Into<String>) -> Self {
        Self { severity, subject, text: text.into(), todo: None }
    }

    /// Something that works.
    pub fn ok(subject: &'static str, text: impl Into<String>) -> Self {
        Self::new(Severity::Ok, subject, text)
    }

    /// Something that a person must fix.
    pub fn fix(subject: &'static str, text: impl Into<String>) -> Self {
        Self::new(Severity::Fix, subject, text)
    }

    #[must_use]
    pub(super) fn todo(mut self, todo: impl Into<String>) -> Self {
        self.todo = Some(todo.into());
        self
    }

    /// The finding for an error of the store during `test`.
    pub(super) fn of_store_error(subject: &'static str, test: &str, error: &StoreError) -> Self {
        let text = format!("{test}: {}", error_chain(error));
        match error {
            StoreError::Denied(_) => Self::fix(subject, text),
            StoreError::Missing(_)
            | StoreError::Changed(_)
            | StoreError::LeaseConflict(_)
            | StoreError::Unavailable { .. } => Self::new(Severity::Retry, subject, text)
                .todo("check that the account of DropStorage is available and that its firewall allows this machine"),
        }
    }

    /// The finding for an error of the vault, the API or the token service during `test`. Permanent errors say how to
    /// fix them.
    pub(super) fn of_key_error(subject: &'static str, test: &str, error: &KeyError) -> Self {
        let text = format!("{test}: {}", error_chain(error));
        match error {
            KeyError::NoKey(_)
            | KeyError::NoVersion(_)
            | KeyError::UnusableVersion(_)
            | KeyError::WrongKey(_)
            | KeyError::Misconfigured(_)
            | KeyError::NoToken { .. } => Self::fix(subject, text),
            KeyError::Unavailable { .. } => Self::new(Severity::Retry, subject, text)
                .todo("check that it is available and that this machine can connect to it"),
        }
    }

    /// The finding for a message that the sink did not accept.
    pub(super) fn of_sink_error(subject: &'static str, test: &str, error: &SinkError) -> Self {
        let text = format!("{test}: {}", error_chain(error));
        match error {
            SinkError::Rejected { .. } => Self::fix(subject, text).todo(
                "check DELIVER_TO and WEBHOOK_SECRET; the receiver must answer 2xx also to message types that it does not \
                 know",
            ),
            // The error itself says how to fix it.
            SinkError::Misconfigured { .. } => Self::fix(subject, text),
            SinkError::Unavailable { .. } => Self::new(Severity::Retry, subject, text)
                .todo("check that the destination in DELIVER_TO is available and answers in time"),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { severity, subject, text, todo } = self;
        write!(f, "{:<5}  {subject:<8}  {text}", severity.as_str())?;
        match todo {
            Some(todo) => write!(f, " -> {todo}"),
            None => Ok(()),
        }
    }
}
