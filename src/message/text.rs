//! The text of rows, where their message will be.

use bytes::Bytes;

/// The JSON text of rows, joined by commas, with room before it for the head of their message.
///
/// A drop's rows are gigabytes, and the rest of their messages is little. So a message is made around its rows, which stay
/// where they were collected.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RowsText {
    /// What is in the room means nothing yet.
    bytes: Vec<u8>,
    room: usize,
}

impl RowsText {
    /// No rows yet, with room for a head of `room` bytes, and for rows of about `text` bytes. A longer head costs a copy.
    pub fn with_room(room: usize, text: usize) -> Self {
        let mut bytes = Vec::with_capacity(room + text);
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
        let Some(start) = self.room.checked_sub(head.len()) else {
            self.bytes.splice(..self.room, head.iter().copied());
            return self.bytes.into();
        };
        self.bytes[start..self.room].copy_from_slice(head);
        Bytes::from(self.bytes).slice(start..)
    }
}

impl AsRef<[u8]> for RowsText {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[self.room..]
    }
}

impl From<&[u8]> for RowsText {
    fn from(text: &[u8]) -> Self {
        Self { bytes: text.to_vec(), room: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_goes_before_the_rows_whether_there_is_room_for_it_or_not() {
        for room in 0..10 {
            let mut text = RowsText::with_room(room, 5);
            text.push(b"{}");
            text.push(b"{\"a\":1}");
            assert_eq!((text.as_ref(), text.len()), (&b"{},{\"a\":1}"[..], 10));
            assert_eq!(text.between(b"head [", b"]"), "head [{},{\"a\":1}]", "{room}");
        }
    }

    #[test]
    fn rows_stay_where_they_are() {
        let mut text = RowsText::with_room(8, 100);
        text.push(b"{}");
        let place = text.as_ref().as_ptr();
        assert_eq!(text.between(b"head [", b"]")[6..].as_ptr(), place);
    }
}
