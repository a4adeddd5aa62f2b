//! Lines: no byte is lost or added, wherever the text is cut, and a line that is too long ends the text.

use inflate::PIECE_BYTES;
use vivadrop::stage::{
    decode::{Decoder, RowRules, RowTooLong},
    lines::{BLOCK_BYTES, is_blank},
};

use super::{
    bytes::{chance, in_pieces},
    stages,
};

/// The length of a text that has more than one block.
const SEVERAL_BLOCKS: usize = BLOCK_BYTES + 2 * PIECE_BYTES;

/// Splits the bytes into lines, and the bytes repeated many times into several blocks of lines.
pub fn check(bytes: &[u8]) {
    let max_line_bytes = chance(bytes).usize(1..100);
    for pieces in in_pieces(bytes) {
        check_lines(bytes, max_line_bytes, &pieces);
    }
    // This takes long, so it is done for a few inputs only.
    if !bytes.is_empty() && max_line_bytes.is_multiple_of(32) {
        let text: Vec<u8> = bytes.iter().copied().cycle().take(SEVERAL_BLOCKS).collect();
        let pieces: Vec<&[u8]> = text.chunks(max_line_bytes << 11).collect();
        check_lines(&text, bytes.len().max(max_line_bytes), &pieces);
    }
}

fn check_lines(text: &[u8], max_line_bytes: usize, pieces: &[&[u8]]) {
    let expected = lines(text);
    let good = expected.iter().position(|line| line.len() > max_line_bytes).unwrap_or(expected.len());
    let blocks = stages::blocks(max_line_bytes, pieces);
    let found: Vec<&[u8]> = blocks.iter().flat_map(|block| block.lines()).collect();
    assert!(found.iter().take(good).eq(&expected[..good]), "other lines, of at most {max_line_bytes} bytes");
    match expected.get(good) {
        None => assert_eq!(found.len(), good, "more lines than the text has"),
        Some(too_long) => {
            let found = found.get(good).expect("the line that is too long is missing");
            assert!(found.len() > max_line_bytes && too_long.starts_with(found), "not the line that is too long");
        }
    }

    let decoder = Decoder::new(&RowRules { max_row_bytes: max_line_bytes, ..RowRules::default() }, None);
    let mut rows = 0;
    let mut stopped_at = None;
    for block in &blocks {
        match stages::rows(&decoder, block) {
            Ok(decoded) => rows += decoded.count(),
            Err(RowTooLong { row }) => {
                stopped_at = Some(rows + row);
                break;
            }
        }
    }
    let good_rows = expected[..good].iter().filter(|line| !is_blank(line)).count() as u64;
    if good < expected.len() {
        assert_eq!(stopped_at, Some(good_rows), "stopped at another row");
    } else {
        assert_eq!((stopped_at, rows), (None, good_rows));
    }
}

/// The lines of a text, without their ends and without a byte-order mark.
pub fn lines(text: &[u8]) -> Vec<&[u8]> {
    let text = text.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(text);
    let mut lines: Vec<_> = text.split(|&byte| byte == b'\n').collect();
    lines.pop_if(|line| line.is_empty());
    lines.into_iter().map(|line| line.strip_suffix(b"\r").unwrap_or(line)).collect()
}
