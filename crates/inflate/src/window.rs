//! The buffer that text is decompressed into.
//!
//! ```text
//!   buffer:  | history ......... | text ............... | room for a piece, and slack |
//!            up to 32 KiB that     not consumed yet       where the next piece goes
//!            copies refer to
//! ```
//!
//! Text that is consumed becomes history. When the room is used up, history and text move to the start of the buffer.

use std::{fmt, ops::Range};

/// The most bytes of text that one call appends to a window: few enough that they are still in a core's cache when the
/// caller processes them.
pub const PIECE_BYTES: usize = 64 << 10;

/// The largest distance that a copy can refer back to (RFC 1951, section 2).
const HISTORY_BYTES: usize = 32 << 10;

/// How many bytes after a piece the inner loop may overwrite with arbitrary values.
pub(crate) const SLACK_BYTES: usize = 320;

/// The capacity of [`Window::new`].
const DEFAULT_CAPACITY: usize = 256 << 10;

/// Holds decompressed text until the caller consumes it, and the 32 KiB before it, to which compressed data refers
/// back.
pub struct Window {
    buffer: Vec<u8>,
    /// The length of a new buffer.
    buffer_bytes: usize,
    /// Where the bytes begin that copies may refer to; some of them may be further back than copies reach.
    history: usize,
    /// Where the text begins that is not consumed.
    start: usize,
    /// Where the text ends.
    end: usize,
}

impl Window {
    /// Creates an empty window with room for 256 KiB of text.
    pub fn new() -> Self {
        Self::with_capacity(DEFAULT_CAPACITY)
    }

    /// Creates an empty window with room for `text_bytes` of text, besides the history and the next piece.
    ///
    /// Memory is allocated when the first text arrives. The window grows if it has to hold more text.
    pub fn with_capacity(text_bytes: usize) -> Self {
        let buffer_bytes = HISTORY_BYTES + text_bytes + PIECE_BYTES + SLACK_BYTES;
        Self { buffer: Vec::new(), buffer_bytes, history: 0, start: 0, end: 0 }
    }

    /// The text that was appended and not consumed yet.
    pub fn text(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Removes the first `count` bytes of the text.
    ///
    /// # Panics
    /// If the text is shorter than that.
    pub fn consume(&mut self, count: usize) {
        assert!(count <= self.text().len(), "the text is shorter than {count} bytes");
        self.start += count;
    }

    /// Removes the first `count` bytes of the text by swapping the window's buffer with `spare`, so that they need not
    /// be copied. They are then `spare[range]`, where `range` is what this function returns.
    ///
    /// The contents of `spare` do not matter. Pass a buffer that was taken before to save the allocation of a new one,
    /// or else an empty `Vec`. History and the remaining text are copied to it.
    ///
    /// # Panics
    /// If the text is shorter than `count` bytes.
    ///
    /// ```
    /// let mut window = inflate::Window::new();
    /// window.write(&mut &b"one\ntwo\nthr"[..]);
    ///
    /// let mut buffer = Vec::new();
    /// let lines = window.take(8, &mut buffer);
    /// assert_eq!(buffer[lines], *b"one\ntwo\n");
    /// assert_eq!(window.text(), b"thr");
    /// ```
    pub fn take(&mut self, count: usize, spare: &mut Vec<u8>) -> Range<usize> {
        assert!(count <= self.text().len(), "the text is shorter than {count} bytes");
        let taken = self.start..self.start + count;
        let needed = self.needed_from(taken.end)..self.end;
        let length = self.buffer_bytes.max(needed.len());
        if spare.len() < length {
            spare.resize(length, 0);
        }
        spare[..needed.len()].copy_from_slice(&self.buffer[needed.clone()]);
        std::mem::swap(&mut self.buffer, spare);
        self.start = taken.end;
        self.moved_back_by(needed.start);
        taken
    }

    /// Appends a piece of `input` as it is, for text that is not compressed. Advances `input` past it, and returns its
    /// length: 0 if `input` is empty.
    pub fn write(&mut self, input: &mut &[u8]) -> usize {
        let (piece, rest) = input.split_at(input.len().min(PIECE_BYTES));
        *input = rest;
        self.make_room();
        let end = self.end + piece.len();
        self.buffer[self.end..end].copy_from_slice(piece);
        self.end = end;
        piece.len()
    }

    /// Returns the history and the text, followed by room for [`PIECE_BYTES`] and [`SLACK_BYTES`], and the index at
    /// which the room begins. A piece that was written there becomes text with [`Self::append_up_to`].
    pub(crate) fn room(&mut self) -> (&mut [u8], usize) {
        self.make_room();
        (&mut self.buffer[self.history..], self.end - self.history)
    }

    /// Appends to the text the bytes that were written to [`Self::room`] up to the index `end`.
    pub(crate) fn append_up_to(&mut self, end: usize) {
        self.end = self.history + end;
    }

    /// Ends the history: no copy in the text that follows may refer to text before this point.
    pub(crate) fn forget_history(&mut self) {
        self.history = self.end;
    }

    /// Makes room for a piece after the text.
    fn make_room(&mut self) {
        if self.end + PIECE_BYTES + SLACK_BYTES <= self.buffer.len() {
            return;
        }
        let from = self.needed_from(self.start);
        if from >= self.end / 2 && !self.buffer.is_empty() {
            self.buffer.copy_within(from..self.end, 0);
            self.moved_back_by(from);
        } else {
            // The buffer is new, or holds more text than it has capacity for.
            let length = self.buffer_bytes.max(2 * self.buffer.len());
            self.buffer.resize(length, 0);
        }
    }

    /// Where the bytes begin that must be kept if the text before `start` is consumed.
    fn needed_from(&self, start: usize) -> usize {
        start.min(self.history.max(self.end.saturating_sub(HISTORY_BYTES)))
    }

    /// Adjusts all positions after the bytes from `from` on have moved to the start of the buffer.
    fn moved_back_by(&mut self, from: usize) {
        for position in [&mut self.history, &mut self.start, &mut self.end] {
            *position = position.saturating_sub(from);
        }
    }
}

impl fmt::Debug for Window {
    /// Prints how much text there is, but not the text, which may be confidential.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Window").field("text_bytes", &self.text().len()).finish_non_exhaustive()
    }
}

impl Default for Window {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_does_not_grow_if_its_text_is_consumed_or_taken() {
        let remove: [fn(&mut Window, &mut Vec<u8>); 2] = [
            |window, _| window.consume(window.text().len()),
            |window, spare| {
                window.take(window.text().len(), spare);
            },
        ];
        for remove in remove {
            let (mut window, mut spare) = (Window::new(), Vec::new());
            for number in 0..400_000_u32 {
                let bytes = number.to_le_bytes().repeat(3);
                assert_eq!(window.write(&mut &bytes[..]), bytes.len());
                assert_eq!(window.text(), bytes);
                remove(&mut window, &mut spare);
            }
            assert_eq!(window.buffer.len(), window.buffer_bytes);
        }
    }

    #[test]
    fn text_that_is_not_consumed_is_kept() {
        let mut window = Window::new();
        let text: Vec<u8> = (0..3 * window.buffer_bytes).map(|at| at as u8).collect();
        let mut input = &text[..];
        while window.write(&mut input) > 0 {}
        assert_eq!(window.text(), text);
        let mut spare = Vec::new();
        let taken = window.take(5, &mut spare);
        assert_eq!(spare[taken], text[..5]);
        assert_eq!(window.text(), &text[5..]);
    }
}
