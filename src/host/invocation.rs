//! What the Functions host posts, made small, and the answer it gets.
//!
//! Knows JSON as text and the host's answer; what a post says is [`event`](super::event)'s to read.
//!
//! Where deferred binding is off, the host puts the whole blob into its post: 267 MB of Base64 for a 200 MB blob. We need
//! the few hundred bytes around it, so the post is copied as it arrives, without the content of very long strings.

#[cfg(test)]
mod tests;

use std::fmt;

use memchr::{memchr, memchr2};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::one_line::one_line;

/// The longest string that is kept, in bytes as written. A batch of events may be one string, so it is well above one event
/// (a KiB), and a queue message (64 KiB).
pub const LONGEST_STRING: usize = 256 << 10;

/// The most that is kept of a post: what a thousand events take.
pub const LARGEST_POST: usize = 1 << 20;

/// The longest summary in an answer, in characters.
const LONGEST_SUMMARY: usize = 1_000;

/// Copies a JSON text as it arrives, and leaves out the content of every string longer than [`LONGEST_STRING`].
///
/// Looks at quotes and backslashes alone: whether the text is JSON shows when it is [parsed](Reduced::parse).
pub struct Elide {
    longest: usize,
    kept: Vec<u8>,
    at: Place,
    left_out: usize,
}

/// Where in the text the next byte is.
#[derive(Clone, Copy)]
enum Place {
    Outside,
    /// In a string whose content begins at `start` of what is kept.
    String {
        start: usize,
        escaped: bool,
    },
    /// In a string that is left out.
    LeftOut {
        escaped: bool,
    },
}

impl Default for Elide {
    fn default() -> Self {
        Self::leaving_out_over(LONGEST_STRING)
    }
}

impl Elide {
    /// One with another bound than [`LONGEST_STRING`], for tests to try many strings around it.
    fn leaving_out_over(longest: usize) -> Self {
        Self { longest, kept: Vec::new(), at: Place::Outside, left_out: 0 }
    }

    /// Takes the next bytes of the text.
    pub fn push(&mut self, mut bytes: &[u8]) -> Result<(), PostTooLarge> {
        while !bytes.is_empty() {
            let taken = match self.at {
                Place::Outside => self.outside(bytes)?,
                Place::String { escaped: true, .. } | Place::LeftOut { escaped: true } => {
                    self.in_string(bytes, Some(0))?
                }
                Place::String { .. } | Place::LeftOut { .. } => self.in_string(bytes, memchr2(b'"', b'\\', bytes))?,
            };
            bytes = &bytes[taken..];
        }
        Ok(())
    }

    /// Ends the text.
    pub fn finish(self) -> Reduced {
        Reduced { json: self.kept, left_out: self.left_out }
    }

    /// Takes what is outside of strings, up to and with the quote that begins the next one.
    fn outside(&mut self, bytes: &[u8]) -> Result<usize, PostTooLarge> {
        let quote = memchr(b'"', bytes);
        let taken = quote.map_or(bytes.len(), |at| at + 1);
        self.keep(&bytes[..taken])?;
        if quote.is_some() {
            let start = self.kept.len();
            self.at = Place::String { start, escaped: false };
        }
        Ok(taken)
    }

    /// Takes the content of a string up to and with the byte at `mark`, which is a quote, a backslash, or what a backslash
    /// escapes; or all of it where there is no such byte.
    fn in_string(&mut self, bytes: &[u8], mark: Option<usize>) -> Result<usize, PostTooLarge> {
        let taken = mark.map_or(bytes.len(), |at| at + 1);
        let was_escaped = self.at.is_escaped();
        match mark.map(|at| bytes[at]) {
            Some(b'"') if !was_escaped => {
                self.content(&bytes[..taken - 1]);
                self.at = Place::Outside;
                self.keep(b"\"")?;
            }
            marked => {
                self.content(&bytes[..taken]);
                self.at.set_escaped(marked == Some(b'\\') && !was_escaped);
            }
        }
        Ok(taken)
    }

    /// Keeps the next bytes of a string's content, or gives the string up when it is too long.
    fn content(&mut self, bytes: &[u8]) {
        let Place::String { start, escaped } = self.at else {
            return;
        };
        if self.kept.len() - start + bytes.len() > self.longest {
            self.kept.truncate(start);
            self.left_out += 1;
            self.at = Place::LeftOut { escaped };
        } else {
            self.kept.extend_from_slice(bytes);
        }
    }

    /// Keeps bytes outside of strings. The bound is checked here alone, so that it does not depend on where pushes end.
    fn keep(&mut self, bytes: &[u8]) -> Result<(), PostTooLarge> {
        if self.kept.len() + bytes.len() > LARGEST_POST {
            return Err(PostTooLarge);
        }
        self.kept.extend_from_slice(bytes);
        Ok(())
    }
}

impl Place {
    fn is_escaped(self) -> bool {
        match self {
            Self::Outside => false,
            Self::String { escaped, .. } | Self::LeftOut { escaped } => escaped,
        }
    }

    fn set_escaped(&mut self, now: bool) {
        match self {
            Self::Outside => (),
            Self::String { escaped, .. } | Self::LeftOut { escaped } => *escaped = now,
        }
    }
}

impl fmt::Debug for Elide {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Elide({} bytes, {} strings left out)", self.kept.len(), self.left_out)
    }
}

/// There is too much in a post even without its long strings. No host sends such a thing; it is refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the post has more than {} KiB besides long strings", LARGEST_POST >> 10)]
pub struct PostTooLarge;

/// A post without its very long strings. Prints without its content: the host puts tokens and claims into some posts.
#[derive(Clone, PartialEq, Eq)]
pub struct Reduced {
    /// The JSON text, with `""` for each string that was left out.
    pub json: Vec<u8>,
    /// How many strings were left out.
    pub left_out: usize,
}

impl Reduced {
    /// Reads the text.
    pub fn parse(&self) -> Result<Value, NotJson> {
        let text = self.json.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&self.json);
        serde_json::from_slice(text).map_err(|error| NotJson { line: error.line(), column: error.column() })
    }
}

impl fmt::Debug for Reduced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reduced({} bytes, {} strings left out)", self.json.len(), self.left_out)
    }
}

/// A post is no JSON. It is refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the post is no JSON from line {line}, column {column} on (long strings not counted)")]
pub struct NotJson {
    /// The line, from 1.
    pub line: usize,
    /// The column, in bytes.
    pub column: usize,
}

/// What the host is answered: always an object, since it waits forever after an empty or a null answer.
///
/// To be sent as `application/json`; with a status of 2xx when the invocation is done with, whatever came of it. The host
/// reads the body of such an answer alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Answer {
    outputs: Map<String, Value>,
    logs: [String; 1],
    return_value: (),
}

impl Answer {
    /// An answer that says `summary`, in one line, in the invocation's log.
    pub fn new(summary: impl fmt::Display) -> Self {
        Self { outputs: Map::new(), logs: [one_line(&summary.to_string(), LONGEST_SUMMARY)], return_value: () }
    }
}
