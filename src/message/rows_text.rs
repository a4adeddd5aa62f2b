//! The text of a batch's rows, in the buffer that becomes the body of its message.

use bytes::Bytes;

use crate::buffers::Buffer;

/// The JSON text of rows, joined by commas, with reserved space in front of it for the head of their message.
///
/// Rows make up nearly all of a message, so the message is built around them: the text is never copied.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RowsText {
    /// The reserved space, whose content is undefined, and the text.
    buffer: Buffer,
    reserved: usize,
}

impl RowsText {
    /// Creates a text without rows in an empty buffer, and reserves `reserved` bytes for the head. A longer head costs
    /// a copy.
    pub fn new(reserved: usize, mut buffer: Buffer) -> Self {
        buffer.resize(reserved, 0);
        Self { buffer, reserved }
    }

    /// Appends a row.
    pub fn push(&mut self, row: &[u8]) {
        if !self.is_empty() {
            self.buffer.push(b',');
        }
        self.buffer.extend_from_slice(row);
    }

    /// The size of the text in bytes, commas included.
    pub fn len(&self) -> usize {
        self.buffer.len() - self.reserved
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Puts `head` in front of the text and `tail` after it; returns all three as one piece of memory.
    pub(super) fn enclosed(mut self, head: &[u8], tail: &[u8]) -> Bytes {
        self.buffer.extend_from_slice(tail);
        if head.len() > self.reserved {
            self.buffer.splice(..self.reserved, head.iter().copied());
            self.reserved = head.len();
        }
        let start = self.reserved - head.len();
        self.buffer[start..self.reserved].copy_from_slice(head);
        self.buffer.into_bytes().slice(start..)
    }
}

impl AsRef<[u8]> for RowsText {
    fn as_ref(&self) -> &[u8] {
        &self.buffer[self.reserved..]
    }
}

impl From<&[u8]> for RowsText {
    fn from(text: &[u8]) -> Self {
        Self { buffer: text.to_vec().into(), reserved: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffers::Buffers;

    #[test]
    fn a_head_may_be_shorter_or_longer_than_the_space_reserved_for_it() {
        for reserved in 0..10 {
            let mut text = RowsText::new(reserved, Buffer::default());
            text.push(b"{}");
            text.push(b"{\"a\":1}");
            assert_eq!((text.as_ref(), text.len()), (&b"{},{\"a\":1}"[..], 10));
            assert_eq!(text.enclosed(b"head [", b"]"), "head [{},{\"a\":1}]", "{reserved}");
        }
    }

    #[test]
    fn rows_are_not_copied_and_their_buffer_is_reused_after_the_message() {
        let buffers = Buffers::default();
        let mut text = RowsText::new(8, buffers.take(100));
        text.push(b"{}");
        let address = text.as_ref().as_ptr();
        let message = text.enclosed(b"head [", b"]");
        assert_eq!(message[6..].as_ptr(), address);
        drop(message);
        assert_eq!(RowsText::new(8, buffers.take(100)).as_ref().as_ptr(), address);
    }
}
