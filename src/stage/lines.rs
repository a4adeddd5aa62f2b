//! Text cut into blocks of whole lines. Knows where lines end, and nothing about I/O or what a line says.

use std::{fmt, ops::Range};

use memchr::{memchr, memrchr};

use super::window::Window;
use crate::buffers::Buffer;

/// How much text a block holds at least, unless the text ends: enough to be worth sending to another thread, little enough
/// that several fit into a core's cache.
pub const BLOCK_BYTES: usize = 256 << 10;

/// UTF-8's byte-order mark.
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// Some whole lines of text, each with its line end but perhaps the last.
pub struct Block {
    buffer: Buffer,
    /// Where the lines are in the buffer.
    lines: Range<usize>,
}

/// Takes text from a window, in blocks of whole lines.
///
/// A line longer than the limit is not waited for: the block ends with as much of it as shows that it is too long, and the
/// text is not followed any further.
pub struct LineBlocks {
    /// Where the unfinished line starts in the text that is not taken yet.
    line: usize,
    longest: usize,
    at_start: bool,
    is_over: bool,
}

impl LineBlocks {
    /// Begins at the start of a text whose lines have at most `longest` bytes, line ends not counted.
    pub fn new(longest: usize) -> Self {
        Self { line: 0, longest, at_start: true, is_over: false }
    }

    /// Looks at the piece that was written last; hands on the block that it completes.
    pub fn push<E>(&mut self, window: &mut Window, next: &mut dyn FnMut(Block) -> Result<(), E>) -> Result<(), E> {
        if self.is_over {
            window.skip(window.text().len());
            return Ok(());
        }
        let (text, piece) = (window.text(), window.piece());
        if let Some(end) = memrchr(b'\n', piece) {
            self.line = text.len() - piece.len() + end + 1;
        }
        if self.at_start && text.len() >= BYTE_ORDER_MARK.len() {
            self.at_start = false;
            if text.starts_with(BYTE_ORDER_MARK) {
                window.skip(BYTE_ORDER_MARK.len());
                self.line = self.line.saturating_sub(BYTE_ORDER_MARK.len());
            }
        }
        if self.line >= BLOCK_BYTES {
            next(window.take(self.line))?;
            self.line = 0;
        }
        // An unfinished line may yet turn out to end in CR LF, which does not count.
        let unfinished = window.text().len() - self.line;
        if unfinished > self.longest.saturating_add(1) {
            self.is_over = true;
            next(window.take(window.text().len()))?;
        }
        Ok(())
    }

    /// Ends the text; returns the last lines, if there are any.
    pub fn finish(self, window: &mut Window) -> Option<Block> {
        let left = window.text().len();
        (left > 0).then(|| window.take(left))
    }
}

impl Block {
    pub(super) fn new(buffer: Buffer, lines: Range<usize>) -> Self {
        Self { buffer, lines }
    }

    /// All of its lines, with their ends.
    pub fn text(&self) -> &[u8] {
        &self.buffer[self.lines.clone()]
    }

    /// Leaves out the first `count` bytes.
    pub fn skip(&mut self, count: usize) {
        self.lines.start += count;
    }

    /// The lines of the block, without their ends (LF or CR LF); blank ones too.
    pub fn lines(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = self.text();
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
}

impl<T: Into<Vec<u8>>> From<T> for Block {
    fn from(text: T) -> Self {
        let text = text.into();
        let lines = 0..text.len();
        Self::new(text.into(), lines)
    }
}

impl fmt::Debug for Block {
    /// How much there is, and nothing of what it says.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.lines.len())
    }
}

/// Whether a line says nothing: only spaces and tabs, and perhaps a stray CR.
pub fn is_blank(line: &[u8]) -> bool {
    line.iter().all(|byte| matches!(byte, b' ' | b'\t' | b'\r'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::stage::PIECE_BYTES;

    fn blocks(text: &[u8], longest: usize, piece: usize) -> Vec<Block> {
        let mut blocks = Vec::new();
        let (mut window, mut lines) = (Window::new(), LineBlocks::new(longest));
        for bytes in text.chunks(piece) {
            let mut keep = |block| {
                blocks.push(block);
                Ok::<_, ()>(())
            };
            window.write(bytes, &mut |window| lines.push(window, &mut keep)).unwrap();
        }
        blocks.extend(lines.finish(&mut window));
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
    fn a_byte_order_mark_is_skipped_at_the_start_alone() {
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
    fn a_line_without_end_is_not_collected() {
        let longest = 1000;
        let text = vec![b'x'; 4_000_000];
        let blocks = blocks(&text, longest, 4096);
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
    fn the_longest_line_may_be_followed_by_either_line_end() {
        for end in ["\n", "\r\n", "\r", ""] {
            let text = format!("{}{end}", "x".repeat(100));
            let blocks = blocks(text.as_bytes(), 100, 1);
            assert_eq!(blocks.len(), 1, "{end:?}");
            assert_eq!(blocks[0].lines().next().unwrap().len(), 100);
        }
    }

    proptest! {
        #[test]
        fn no_byte_is_lost_or_added(text in "[ab\r\n]{0,200}", piece in 1_usize..20) {
            let mut expected: Vec<_> = text.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line)).collect();
            if text.is_empty() || text.ends_with('\n') {
                expected.pop();
            }
            let expected: Vec<_> = expected.iter().map(|line| line.as_bytes().to_vec()).collect();
            prop_assert_eq!(lines(text.as_bytes(), piece), expected);
        }
    }
}
