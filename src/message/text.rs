//! The text of rows, where their message will be.

use bytes::Bytes;

use crate::buffers::Buffer;

/// The JSON text of rows, joined by commas, with room before it for the head of their message.
///
/// A drop's rows are gigabytes, and the rest of their messages is little. So a message is made around its rows, which stay
/// where they were collected.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RowsText {
    /// What is in the room means nothing yet.
    bytes: Buffer,
    room: usize,
}

impl RowsText {
    /// No rows yet, in an empty buffer, with room for a head of `room` bytes. A longer head costs a copy.
    pub fn with_room(room: usize, mut bytes: Buffer) -> Self {
        bytes.resize(room, 0);
        Self { bytes, room }
    }

    /// Adds a row.
    pub fn push(&mut self, row: &[u8]) {
        if !self.is_empty() {
            self.bytes.push(b',');
        }
        self.bytes.extend_from_slice(row);
    }

    /// How many bytes it has, commas counted.
    pub fn len(&self) -> usize {
        self.bytes.len() - self.room
    }

    /// Whether there are no rows in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The text between `head` and `tail`, in one piece.
    pub(super) fn between(mut self, head: &[u8], tail: &[u8]) -> Bytes {
        self.bytes.extend_from_slice(tail);
        if head.len() > self.room {
            self.bytes.splice(..self.room, head.iter().copied());
            self.room = head.len();
        }
        let start = self.room - head.len();
        self.bytes[start..self.room].copy_from_slice(head);
        Bytes::from_owner(Whole(self.bytes)).slice(start..)
    }
}

/// A buffer with all that is in it, room included.
struct Whole(Buffer);

impl AsRef<[u8]> for Whole {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<[u8]> for RowsText {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[self.room..]
    }
}

impl From<&[u8]> for RowsText {
    fn from(text: &[u8]) -> Self {
        Self { bytes: text.into(), room: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffers::Buffers;

    #[test]
    fn a_head_goes_before_the_rows_whether_there_is_room_for_it_or_not() {
        for room in 0..10 {
            let mut text = RowsText::with_room(room, Buffer::default());
            text.push(b"{}");
            text.push(b"{\"a\":1}");
            assert_eq!((text.as_ref(), text.len()), (&b"{},{\"a\":1}"[..], 10));
            assert_eq!(text.between(b"head [", b"]"), "head [{},{\"a\":1}]", "{room}");
        }
    }

    #[test]
    fn rows_stay_where_they_are_until_their_message_is_gone() {
        let buffers = Buffers::default();
        let mut text = RowsText::with_room(8, buffers.take(100));
        text.push(b"{}");
        let place = text.as_ref().as_ptr();
        let message = text.between(b"head [", b"]");
        assert_eq!(message[6..].as_ptr(), place);
        drop(message);
        assert_eq!(RowsText::with_room(8, buffers.take(100)).as_ref().as_ptr(), place);
    }
}
