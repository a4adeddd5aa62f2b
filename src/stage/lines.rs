//! Text cut into blocks of whole lines. Knows where lines end, and nothing about I/O or what a line says.

use memchr::{memchr, memrchr};

use super::{
    PIECE_BYTES,
    buffers::{Buffer, Buffers},
};

/// How much text a block holds at least, unless the text ends: enough to be worth sending to another thread, little enough
/// that several fit into a core's cache.
pub const BLOCK_BYTES: usize = 256 << 10;

/// UTF-8's byte-order mark.
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// Some whole lines of text, each with its line end but perhaps the last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block(pub Buffer);

/// Collects bytes until they hold a block of whole lines.
///
/// A line longer than the limit is not collected: the block ends with as much of it as shows that it is too long, and the
/// text is not followed any further.
pub struct LineBlocks {
    /// Lines that are not handed on yet; the last of them may be unfinished.
    text: Buffer,
    buffers: Buffers,
    /// Where the unfinished line starts in `text`.
    line: usize,
    longest: usize,
    at_start: bool,
    is_over: bool,
}

impl LineBlocks {
    /// Begins at the start of a text whose lines have at most `longest` bytes, line ends not counted.
    pub fn new(longest: usize) -> Self {
        Self { text: Buffer::default(), buffers: Buffers::default(), line: 0, longest, at_start: true, is_over: false }
    }

    /// Takes the next bytes of the text; hands on the blocks that they complete.
    pub fn push<E>(&mut self, bytes: &[u8], next: &mut dyn FnMut(Block) -> Result<(), E>) -> Result<(), E> {
        for piece in bytes.chunks(PIECE_BYTES) {
            if self.is_over {
                return Ok(());
            }
            self.take(piece);
            if self.line >= BLOCK_BYTES {
                next(self.cut(self.line))?;
            }
            // An unfinished line may yet turn out to end in CR LF, which does not count.
            if self.text.len() - self.line > self.longest.saturating_add(1) {
                self.is_over = true;
                next(self.cut(self.text.len()))?;
            }
        }
        Ok(())
    }

    /// Ends the text; returns the last lines, if there are any.
    pub fn finish(mut self) -> Option<Block> {
        (!self.text.is_empty()).then(|| self.cut(self.text.len()))
    }

    fn take(&mut self, bytes: &[u8]) {
        let from = self.text.len();
        self.text.extend_from_slice(bytes);
        if let Some(end) = memrchr(b'\n', bytes) {
            self.line = from + end + 1;
        }
        if self.at_start && self.text.len() >= BYTE_ORDER_MARK.len() {
            self.at_start = false;
            if self.text.starts_with(BYTE_ORDER_MARK) {
                self.text.drain(..BYTE_ORDER_MARK.len());
                self.line = self.line.saturating_sub(BYTE_ORDER_MARK.len());
            }
        }
    }

    /// Takes the text up to `end` out as a block.
    fn cut(&mut self, end: usize) -> Block {
        let mut rest = self.buffers.take(BLOCK_BYTES + PIECE_BYTES);
        rest.extend_from_slice(&self.text[end..]);
        let mut block = std::mem::replace(&mut self.text, rest);
        block.truncate(end);
        self.line = 0;
        Block(block)
    }
}

impl Block {
    /// The lines of the block, without their ends (LF or CR LF); blank ones too.
    pub fn lines(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = self.0.as_slice();
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

/// Whether a line says nothing: only spaces and tabs, and perhaps a stray CR.
pub fn is_blank(line: &[u8]) -> bool {
    line.iter().all(|byte| matches!(byte, b' ' | b'\t' | b'\r'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn blocks(text: &[u8], longest: usize, piece: usize) -> Vec<Block> {
        let mut blocks = Vec::new();
        let mut lines = LineBlocks::new(longest);
        for bytes in text.chunks(piece) {
            lines
                .push(bytes, &mut |block| {
                    blocks.push(block);
                    Ok::<_, ()>(())
                })
                .unwrap();
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
        assert!(blocks.iter().all(|Block(text)| text.ends_with(b"\n") && text.len() <= BLOCK_BYTES + PIECE_BYTES));
        assert_eq!(blocks.iter().flat_map(|Block(text)| text.to_vec()).collect::<Vec<_>>(), text);
    }

    #[test]
    fn a_line_without_end_is_not_collected() {
        let longest = 1000;
        let mut lines = LineBlocks::new(longest);
        let mut handed_on = 0;
        for _ in 0..1000 {
            lines
                .push(&[b'x'; 4096], &mut |Block(text)| {
                    handed_on += text.len();
                    assert!(text.len() > longest);
                    Ok::<_, ()>(())
                })
                .unwrap();
        }
        assert_eq!(handed_on, 4096);
        assert_eq!(lines.finish(), None);
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
