//! Splits text into blocks of whole lines.

use std::{fmt, ops::Range};

use inflate::{PIECE_BYTES, Window};
use memchr::{memchr, memchr_iter, memrchr};

use crate::buffers::{Buffer, Buffers};

/// The least text of a block, except for the last one of a text: enough that sending a block to another thread pays
/// off, and little enough that several blocks fit into a core's cache.
pub const BLOCK_BYTES: usize = 256 << 10;

/// The byte-order mark of UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// Whole lines of text. Each has its line end, except possibly the last line of the text.
pub struct Block {
    buffer: Buffer,
    /// Where in the buffer the lines are.
    lines: Range<usize>,
}

/// Collects text in a window, and splits it into blocks of whole lines.
///
/// A line that is longer than the limit is not collected. The last block ends with the beginning of that line, which is
/// itself longer than the limit, so the decoder reports the line; all text after it is dropped.
pub struct LineBlocks {
    window: Window,
    buffers: Buffers,
    /// Where in the window's text the unfinished line starts.
    line: usize,
    /// How much of the window's text was searched for line ends.
    searched: usize,
    max_line_bytes: usize,
    /// Whether the text may still begin with a byte-order mark.
    is_at_start: bool,
    /// Whether there was a line that is too long.
    is_over: bool,
}

impl LineBlocks {
    /// Starts at the beginning of a text whose lines have at most `max_line_bytes`, line ends not counted.
    pub fn new(max_line_bytes: usize) -> Self {
        Self {
            // Room for a block and the piece that completes it.
            window: Window::with_capacity(BLOCK_BYTES + PIECE_BYTES),
            buffers: Buffers::default(),
            line: 0,
            searched: 0,
            max_line_bytes,
            is_at_start: true,
            is_over: false,
        }
    }

    /// The window that text is to be appended to, piece by piece.
    pub fn window(&mut self) -> &mut Window {
        &mut self.window
    }

    /// Takes the next block out of the window, or returns `None` if it needs more text. Call it after each piece of
    /// text, until it returns `None`.
    pub fn next_block(&mut self) -> Option<Block> {
        if self.is_over {
            self.window.consume(self.window.text().len());
            return None;
        }
        self.skip_byte_order_mark();
        let text = self.window.text();
        if let Some(end) = memrchr(b'\n', &text[self.searched..]) {
            self.line = self.searched + end + 1;
        }
        self.searched = text.len();
        if self.line >= BLOCK_BYTES {
            return Some(self.take(self.line));
        }
        // One byte more, because the line may turn out to end with CR LF, which does not count.
        let unfinished = text.len() - self.line;
        if unfinished > self.max_line_bytes.saturating_add(1) {
            self.is_over = true;
            return Some(self.take(text.len()));
        }
        None
    }

    /// Ends the text; returns its last lines, if there are any.
    pub fn finish(mut self) -> Option<Block> {
        let rest = self.window.text().len();
        (rest > 0).then(|| self.take(rest))
    }

    fn skip_byte_order_mark(&mut self) {
        if self.is_at_start && self.window.text().len() >= BYTE_ORDER_MARK.len() {
            self.is_at_start = false;
            if self.window.text().starts_with(BYTE_ORDER_MARK) {
                self.window.consume(BYTE_ORDER_MARK.len());
                self.searched = 0;
            }
        }
    }

    /// Takes the first `count` bytes of the window's text together with their buffer, so that they are not copied.
    fn take(&mut self, count: usize) -> Block {
        let mut buffer = self.buffers.take_uncleared();
        let lines = self.window.take(count, &mut buffer);
        self.line = 0;
        self.searched = self.window.text().len();
        Block { buffer, lines }
    }
}

impl Block {
    /// All lines, with their ends.
    pub fn text(&self) -> &[u8] {
        &self.buffer[self.lines.clone()]
    }

    /// Divides the block into blocks of at most `max_lines` lines. They are copies, unless the block is one of them.
    pub fn split(self, max_lines: usize) -> impl Iterator<Item = Self> {
        let mut rest = Some(self);
        std::iter::from_fn(move || {
            let mut block = rest.take()?;
            let last = if max_lines == usize::MAX { None } else { memchr_iter(b'\n', block.text()).nth(max_lines - 1) };
            let Some(end) = last.map(|last| last + 1).filter(|end| *end < block.text().len()) else {
                return Some(block);
            };
            let first = Self::from(&block.text()[..end]);
            block.skip(end);
            rest = Some(block);
            Some(first)
        })
    }

    /// Removes the first `count` bytes.
    pub fn skip(&mut self, count: usize) {
        self.lines.start += count;
    }

    /// The lines without their ends (LF or CR LF), blank lines included.
    pub fn lines(&self) -> impl Iterator<Item = &[u8]> {
        lines_of(self.text())
    }

    /// As [`Self::lines`], but only the lines that begin in the first `count` bytes.
    pub fn lines_beginning_in(&self, count: usize) -> impl Iterator<Item = &[u8]> {
        let text = self.text();
        let last = count.saturating_sub(1);
        let end = text.get(last..).and_then(|rest| memchr(b'\n', rest)).map_or(text.len(), |end| last + end + 1);
        lines_of(&text[..end])
    }
}

/// The lines of `text` without their ends (LF or CR LF), blank lines included.
fn lines_of(mut rest: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let end = memchr(b'\n', rest);
        let line = &rest[..end.unwrap_or(rest.len())];
        rest = end.map_or(&[], |end| &rest[end + 1..]);
        Some(line.strip_suffix(b"\r").unwrap_or(line))
    })
}

impl<T: Into<Vec<u8>>> From<T> for Block {
    fn from(text: T) -> Self {
        let text = text.into();
        let lines = 0..text.len();
        Self { buffer: text.into(), lines }
    }
}

impl fmt::Debug for Block {
    /// Prints the length, but not the text, which is confidential.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.lines.len())
    }
}

/// Whether a line is blank: it has only spaces, tabs and CR.
pub fn is_blank(line: &[u8]) -> bool {
    line.iter().all(|byte| matches!(byte, b' ' | b'\t' | b'\r'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The blocks of `text`, which arrives in pieces of `piece` bytes.
    fn blocks(text: &[u8], max_line_bytes: usize, piece: usize) -> Vec<Block> {
        let mut blocks = Vec::new();
        let mut lines = LineBlocks::new(max_line_bytes);
        for mut bytes in text.chunks(piece) {
            while lines.window().write(&mut bytes) > 0 {
                blocks.extend(std::iter::from_fn(|| lines.next_block()));
            }
        }
        blocks.extend(lines.finish());
        blocks
    }

    fn lines(text: &[u8], piece: usize) -> Vec<Vec<u8>> {
        blocks(text, 1 << 20, piece).iter().flat_map(Block::lines).map(<[u8]>::to_vec).collect()
    }

    #[test]
    fn a_line_may_arrive_in_pieces() {
        for piece in 1..12 {
            assert_eq!(lines(b"one\ntwo\r\n\nthree", piece), [&b"one"[..], b"two", b"", b"three"]);
        }
    }

    #[test]
    fn a_block_is_divided_between_lines() {
        for (max_lines, expected) in [(1, &["a\n", "\n", "bc"][..]), (2, &["a\n\n", "bc"]), (3, &["a\n\nbc"])] {
            let parts = Block::from("a\n\nbc").split(max_lines);
            let parts: Vec<_> = parts.map(|part| String::from_utf8(part.text().to_vec()).unwrap()).collect();
            assert_eq!(parts, expected);
        }
        assert_eq!(Block::from("a\n\nb\n").split(3).count(), 1);
        assert_eq!(Block::from("a\n\nb\n").split(usize::MAX).count(), 1);
    }

    #[test]
    fn the_lines_that_begin_in_the_first_bytes_are_whole_lines() {
        let block = Block::from("ab\r\n\nefg\nhi");
        for (count, expected) in [(1, 1), (4, 1), (5, 2), (6, 3), (9, 3), (10, 4), (99, 4)] {
            let all = [&b"ab"[..], b"", b"efg", b"hi"];
            assert!(block.lines_beginning_in(count).eq(all.into_iter().take(expected)), "{count}");
        }
    }

    #[test]
    fn a_byte_order_mark_is_skipped_only_at_the_start() {
        for piece in 1..5 {
            assert_eq!(lines(b"\xEF\xBB\xBFa\n\xEF\xBB\xBFb\n", piece), [&b"a"[..], b"\xEF\xBB\xBFb"]);
        }
        assert!(blocks(BYTE_ORDER_MARK, 10, 1).is_empty());
    }

    #[test]
    fn a_block_holds_whole_lines_and_is_bounded() {
        let text = b"0123456789abcdef\n".repeat(100_000);
        let blocks = blocks(&text, 1 << 20, 100_000);
        assert!(blocks.len() > 3);
        let is_whole_and_bounded = |text: &[u8]| text.ends_with(b"\n") && text.len() <= BLOCK_BYTES + PIECE_BYTES;
        assert!(blocks.iter().all(|block| is_whole_and_bounded(block.text())));
        assert_eq!(blocks.iter().flat_map(Block::text).copied().collect::<Vec<_>>(), text);
    }

    #[test]
    fn an_endless_line_is_not_collected() {
        let text = vec![b'x'; 4_000_000];
        let blocks = blocks(&text, 1000, 4096);
        assert_eq!(blocks.iter().map(|block| block.text().len()).collect::<Vec<_>>(), [4096]);
    }

    #[test]
    fn a_line_may_be_longer_than_a_block() {
        let line = "x".repeat(3 * BLOCK_BYTES);
        let text = format!("a\n{line}\nb\n{line}");
        for piece in [1000, PIECE_BYTES] {
            assert!(lines(text.as_bytes(), piece).iter().eq([b"a", line.as_bytes(), b"b", line.as_bytes()].iter()));
        }
    }

    #[test]
    fn a_line_of_the_longest_length_may_have_either_line_end() {
        for end in ["\n", "\r\n", "\r", ""] {
            let text = format!("{}{end}", "x".repeat(100));
            let blocks = blocks(text.as_bytes(), 100, 1);
            assert_eq!(blocks.len(), 1, "{end:?}");
            assert_eq!(blocks[0].lines().next().unwrap().len(), 100);
        }
    }

    proptest! {
        #[test]
        fn no_byte_of_the_lines_is_lost_or_added(text in "[ab\r\n]{0,200}", piece in 1_usize..20) {
            let mut expected: Vec<_> = text.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line)).collect();
            if text.is_empty() || text.ends_with('\n') {
                expected.pop();
            }
            let expected: Vec<_> = expected.iter().map(|line| line.as_bytes().to_vec()).collect();
            prop_assert_eq!(lines(text.as_bytes(), piece), expected);
        }
    }
}
