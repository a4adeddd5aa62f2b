//! Lines: no byte is lost or added, wherever the text is cut, and a line that is too long ends it.

use vivadrop::stage::{
    PIECE_BYTES,
    decode::{Decoder, RowRules, RowTooLong},
    lines::{BLOCK_BYTES, is_blank},
};

use super::{
    bytes::{chance, in_pieces},
    stages,
};

/// Text that surely takes more than a block.
const SEVERAL_BLOCKS: usize = BLOCK_BYTES + 2 * PIECE_BYTES;

/// Cuts bytes into lines, and the same bytes over and over into blocks of lines.
pub fn check(bytes: &[u8]) {
    let longest = chance(bytes).usize(1..100);
    for pieces in in_pieces(bytes) {
        same_lines(bytes, longest, &pieces);
    }
    // That takes long, so it is not done for all.
    if !bytes.is_empty() && longest.is_multiple_of(32) {
        let text: Vec<u8> = bytes.iter().copied().cycle().take(SEVERAL_BLOCKS).collect();
        let pieces: Vec<&[u8]> = text.chunks(longest << 11).collect();
        same_lines(&text, bytes.len().max(longest), &pieces);
    }
}

fn same_lines(text: &[u8], longest: usize, pieces: &[&[u8]]) {
    let expected = lines(text);
    let good = expected.iter().position(|line| line.len() > longest).unwrap_or(expected.len());
    let blocks = stages::blocks(longest, pieces);
    let found: Vec<&[u8]> = blocks.iter().flat_map(|block| block.lines()).collect();
    assert!(found.iter().take(good).eq(&expected[..good]), "other lines, of at most {longest} bytes");
    match expected.get(good) {
        None => assert_eq!(found.len(), good, "lines that are not there"),
        Some(too_long) => {
            let found = found.get(good).expect("a line that is too long is not left out");
            assert!(found.len() > longest && too_long.starts_with(found), "not the line that is too long");
        }
    }

    let decoder = Decoder::new(&RowRules { max_row_bytes: longest, ..RowRules::default() }, None);
    let mut rows = 0;
    let stopped = blocks.iter().find_map(|block| match stages::rows(&decoder, block) {
        Ok(decoded) => {
            rows += decoded.count();
            None
        }
        Err(RowTooLong { row }) => Some(rows + row),
    });
    let rows_before = expected[..good].iter().filter(|line| !is_blank(line)).count() as u64;
    let is_over = good < expected.len();
    assert_eq!(stopped, is_over.then_some(rows_before), "stopped at another row");
    assert!(is_over || rows == rows_before, "{rows} rows instead of {rows_before}");
}

/// The lines of a text, without their ends and without a byte-order mark.
pub fn lines(text: &[u8]) -> Vec<&[u8]> {
    let text = text.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(text);
    let mut lines: Vec<_> = text.split(|&byte| byte == b'\n').collect();
    lines.pop_if(|line| line.is_empty());
    lines.into_iter().map(|line| line.strip_suffix(b"\r").unwrap_or(line)).collect()
}
