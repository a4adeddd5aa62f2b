//! The window that text is written to: a buffer with the text that is not taken yet, and behind it room for more; before it
//! what inflate copies from. Text is taken with the buffer it stands in, so that it need not be moved.

use super::{
    Damage, PIECE_BYTES,
    lines::{BLOCK_BYTES, Block},
};
use crate::buffers::{Buffer, Buffers};

/// How far back inflate copies from at most (RFC 1951, section 2).
const HISTORY_BYTES: usize = 32 << 10;

/// How much may be written behind a piece, and is worthless.
pub(super) const SLACK_BYTES: usize = 320;

/// How much a buffer has room for: a block with what stands before it, the line that it ends in, and the last piece.
const BUFFER_BYTES: usize = HISTORY_BYTES + BLOCK_BYTES + 2 * PIECE_BYTES + SLACK_BYTES;

/// Where a stage hands on what is in the window. An error stops the stage.
pub type NextText<'a, E> = &'a mut dyn FnMut(&mut Window) -> Result<(), E>;

/// Text that is written piece by piece, and taken block by block.
#[derive(Default)]
pub struct Window {
    buffer: Buffer,
    buffers: Buffers,
    /// Where what can be copied from begins.
    history: usize,
    /// Where the text begins that is not taken yet.
    start: usize,
    /// Where the piece begins that was written last.
    piece: usize,
    /// Where the text ends.
    end: usize,
}

impl Window {
    /// An empty window.
    pub fn new() -> Self {
        Self::default()
    }

    /// The text that is not taken yet.
    pub fn text(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// The piece of it that was written last.
    pub fn piece(&self) -> &[u8] {
        &self.buffer[self.piece..self.end]
    }

    /// Writes `bytes`; hands on each piece of them.
    pub fn write<E>(&mut self, bytes: &[u8], next: NextText<'_, E>) -> Result<(), E> {
        for piece in bytes.chunks(PIECE_BYTES) {
            self.make_room();
            self.buffer[self.end..self.end + piece.len()].copy_from_slice(piece);
            self.end += piece.len();
            next(self)?;
        }
        Ok(())
    }

    /// Lets `write` write a piece: it gets what can be copied from with room behind it for [`PIECE_BYTES`] and
    /// [`SLACK_BYTES`], and where the text ends in it, which it moves.
    pub(super) fn write_piece<T>(
        &mut self,
        write: impl FnOnce(&mut [u8], &mut usize) -> Result<T, Damage>,
    ) -> Result<T, Damage> {
        self.make_room();
        let mut end = self.end - self.history;
        let written = write(&mut self.buffer[self.history..], &mut end);
        self.end = self.history + end;
        written
    }

    /// Ends what can be copied from: other text follows.
    pub(super) fn forget(&mut self) {
        self.history = self.end;
    }

    /// Takes the first `count` bytes of the text, as a block.
    pub fn take(&mut self, count: usize) -> Block {
        let cut = self.start + count;
        let mut rest = self.buffers.take_filled(BUFFER_BYTES);
        let from = self.needed_from(cut);
        let needed = self.end - from;
        if rest.len() < needed {
            rest.resize(needed, 0);
        }
        rest[..needed].copy_from_slice(&self.buffer[from..self.end]);
        let block = Block::new(std::mem::replace(&mut self.buffer, rest), self.start..cut);
        self.start = cut;
        self.moved(from);
        block
    }

    /// Leaves out the first `count` bytes of the text.
    pub fn skip(&mut self, count: usize) {
        self.start += count;
    }

    /// Begins a piece, with room for it.
    fn make_room(&mut self) {
        self.piece = self.end;
        let room = PIECE_BYTES + SLACK_BYTES;
        if self.end + room <= self.buffer.len() {
            return;
        }
        let from = self.needed_from(self.start);
        if from >= self.end / 2 && !self.buffer.is_empty() {
            self.buffer.copy_within(from..self.end, 0);
            self.moved(from);
        } else {
            // A long line, or the first.
            let length = BUFFER_BYTES.max(2 * self.buffer.len());
            self.buffer.resize(length, 0);
        }
    }

    /// Where what is still needed begins, when text is needed from `start` on.
    fn needed_from(&self, start: usize) -> usize {
        start.min(self.history.max(self.end.saturating_sub(HISTORY_BYTES)))
    }

    /// The buffer now begins with what was at `from`.
    fn moved(&mut self, from: usize) {
        for place in [&mut self.history, &mut self.start, &mut self.piece, &mut self.end] {
            *place = place.saturating_sub(from);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_does_not_grow_where_text_is_taken_or_left_out() {
        let takes: [fn(&mut Window); 2] =
            [|window| window.skip(window.text().len()), |window| drop(window.take(window.text().len()))];
        for take in takes {
            let mut window = Window::new();
            for number in 0..400_000_u32 {
                let next = &mut |window: &mut Window| {
                    assert_eq!(window.text(), number.to_le_bytes().repeat(3));
                    take(window);
                    Ok::<_, ()>(())
                };
                window.write(&number.to_le_bytes().repeat(3), next).unwrap();
            }
            assert_eq!(window.buffer.len(), BUFFER_BYTES);
        }
    }

    #[test]
    fn text_that_nobody_takes_stays_whole() {
        let mut window = Window::new();
        let text: Vec<u8> = (0..3 * BUFFER_BYTES).map(|at| at as u8).collect();
        window.write(&text, &mut |_| Ok::<_, ()>(())).unwrap();
        assert_eq!(window.text(), text);
        assert_eq!(window.take(5).text(), &text[..5]);
        assert_eq!(window.text(), &text[5..]);
    }
}
