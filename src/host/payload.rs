//! Reads the payload of an invocation without its very long strings.
//!
//! Without deferred binding the host puts the whole blob into the payload: 267 MB of Base64 for a blob of 200 MB.
//! vivadrop needs only the few hundred bytes around it, so it copies the payload as it arrives and leaves out long
//! strings. [`event`](super::event) interprets the payload.

#[cfg(test)]
mod tests;

use std::fmt;

use memchr::{memchr, memchr2};
use serde_json::Value;

use crate::json::{Unreadable, bounded_value};

/// Length limit of a string that is kept, in bytes as written. A string can be a batch of events, so the limit is well
/// above one event (1 KiB) and one queue message (64 KiB).
pub const MAX_STRING_BYTES: usize = 256 << 10;

/// Size limit of a trimmed payload, in bytes: room for about a thousand events.
pub const MAX_PAYLOAD_BYTES: usize = 1 << 20;

/// Copies JSON text as it arrives, and replaces every string longer than [`MAX_STRING_BYTES`] with `""`.
///
/// It looks for quotes and backslashes only; invalid JSON is detected by [`TrimmedPayload::parse`].
pub struct PayloadTrimmer {
    max_string: usize,
    kept: Vec<u8>,
    position: Position,
    omitted: usize,
}

/// The position of the next byte in the text.
#[derive(Clone, Copy)]
enum Position {
    OutsideStrings,
    /// In a string that is kept. Its content begins at `start` of `kept`.
    KeptString {
        start: usize,
        escaped: bool,
    },
    /// In a string that is too long.
    OmittedString {
        escaped: bool,
    },
}

impl Default for PayloadTrimmer {
    fn default() -> Self {
        Self::with_max_string(MAX_STRING_BYTES)
    }
}

impl PayloadTrimmer {
    /// A trimmer with another limit than [`MAX_STRING_BYTES`], so that tests can use short strings.
    fn with_max_string(max_string: usize) -> Self {
        Self { max_string, kept: Vec::new(), position: Position::OutsideStrings, omitted: 0 }
    }

    /// Appends the next bytes of the text.
    pub fn push(&mut self, mut bytes: &[u8]) -> Result<(), PayloadTooLarge> {
        while !bytes.is_empty() {
            let consumed = match self.position {
                Position::OutsideStrings => self.push_outside(bytes)?,
                Position::KeptString { escaped: true, .. } | Position::OmittedString { escaped: true } => {
                    self.push_in_string(bytes, Some(0))?
                }
                Position::KeptString { .. } | Position::OmittedString { .. } => {
                    self.push_in_string(bytes, memchr2(b'"', b'\\', bytes))?
                }
            };
            bytes = &bytes[consumed..];
        }
        Ok(())
    }

    /// Ends the text.
    pub fn finish(self) -> TrimmedPayload {
        TrimmedPayload { json: self.kept, omitted: self.omitted }
    }

    /// Consumes text outside of strings, up to and including the quote that starts the next string.
    fn push_outside(&mut self, bytes: &[u8]) -> Result<usize, PayloadTooLarge> {
        let quote = memchr(b'"', bytes);
        let consumed = quote.map_or(bytes.len(), |at| at + 1);
        self.keep(&bytes[..consumed])?;
        if quote.is_some() {
            self.position = Position::KeptString { start: self.kept.len(), escaped: false };
        }
        Ok(consumed)
    }

    /// Consumes string content up to and including the byte at `mark`, or all of `bytes` if there is no mark. The mark
    /// is a quote, a backslash, or the byte that a backslash escapes.
    fn push_in_string(&mut self, bytes: &[u8], mark: Option<usize>) -> Result<usize, PayloadTooLarge> {
        let consumed = mark.map_or(bytes.len(), |at| at + 1);
        let was_escaped = self.position.is_escaped();
        match mark.map(|at| bytes[at]) {
            Some(b'"') if !was_escaped => {
                self.push_content(&bytes[..consumed - 1]);
                self.position = Position::OutsideStrings;
                self.keep(b"\"")?;
            }
            marked => {
                self.push_content(&bytes[..consumed]);
                self.position.set_escaped(marked == Some(b'\\') && !was_escaped);
            }
        }
        Ok(consumed)
    }

    /// Keeps string content, or removes the whole string once it is too long.
    fn push_content(&mut self, bytes: &[u8]) {
        let Position::KeptString { start, escaped } = self.position else {
            return;
        };
        if self.kept.len() - start + bytes.len() > self.max_string {
            self.kept.truncate(start);
            self.omitted += 1;
            self.position = Position::OmittedString { escaped };
        } else {
            self.kept.extend_from_slice(bytes);
        }
    }

    /// Keeps bytes outside of strings. The size limit is checked only here, so that the result does not depend on how
    /// the text is split into pieces.
    fn keep(&mut self, bytes: &[u8]) -> Result<(), PayloadTooLarge> {
        if self.kept.len() + bytes.len() > MAX_PAYLOAD_BYTES {
            return Err(PayloadTooLarge);
        }
        self.kept.extend_from_slice(bytes);
        Ok(())
    }
}

impl Position {
    fn is_escaped(self) -> bool {
        match self {
            Self::OutsideStrings => false,
            Self::KeptString { escaped, .. } | Self::OmittedString { escaped } => escaped,
        }
    }

    fn set_escaped(&mut self, value: bool) {
        match self {
            Self::OutsideStrings => (),
            Self::KeptString { escaped, .. } | Self::OmittedString { escaped } => *escaped = value,
        }
    }
}

impl fmt::Debug for PayloadTrimmer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PayloadTrimmer({} bytes, {} strings omitted)", self.kept.len(), self.omitted)
    }
}

/// The payload is too large even without its long strings. No host sends such a payload; the request is answered 413.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the payload has more than {} KiB, not counting long strings", MAX_PAYLOAD_BYTES >> 10)]
pub struct PayloadTooLarge;

/// A payload without its very long strings. `Debug` does not show the content, because some payloads contain tokens and
/// claims.
#[derive(Clone, PartialEq, Eq)]
pub struct TrimmedPayload {
    /// The JSON text, with `""` in place of each omitted string.
    pub json: Vec<u8>,
    /// The number of omitted strings.
    pub omitted: usize,
}

impl TrimmedPayload {
    /// Parses the text, within the limits of [`bounded_value`]. A byte-order mark is ignored.
    pub fn parse(&self) -> Result<Value, InvalidPayload> {
        let text = self.json.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&self.json);
        bounded_value(text).map_err(InvalidPayload)
    }
}

impl fmt::Debug for TrimmedPayload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TrimmedPayload({} bytes, {} strings omitted)", self.json.len(), self.omitted)
    }
}

/// The payload is not JSON, or exceeds a limit. The request is answered 400.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the payload {0} (not counting long strings)")]
pub struct InvalidPayload(pub Unreadable);
