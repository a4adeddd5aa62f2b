use std::io::Write;

use flate2::{Compression, Decompress, FlushDecompress, Status, write::DeflateEncoder};
use proptest::prelude::*;

use super::*;
use crate::block_header::LENGTH_CODE_ORDER;

mod writer;
use writer::{Block, Token, blocks};

/// The result of decompressing bytes.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    /// The data is complete: its text, and how many bytes the data has.
    Complete(Vec<u8>, usize),
    /// The bytes end before the data is complete.
    Truncated,
    Error,
}

/// Decompresses `bytes`, which arrive in pieces of these sizes, again and again. Takes half of the text after some
/// pieces, and all of it after others.
fn inflate(bytes: &[u8], pieces: &[usize]) -> Outcome {
    let mut spare = Vec::new();
    inflate_with(bytes, pieces, |window| {
        let (length, waiting) = (window.text().len(), window.text().to_vec());
        let taken = window.take(if length.is_multiple_of(3) { length } else { length / 2 }, &mut spare);
        assert_eq!([&spare[taken], window.text()].concat(), waiting);
    })
}

/// Decompresses `bytes`, and calls `after_piece` after each piece of text.
fn inflate_with(bytes: &[u8], pieces: &[usize], mut after_piece: impl FnMut(&mut Window)) -> Outcome {
    let mut text = Vec::new();
    let (mut inflate, mut window) = (Inflate::new(), Window::new());
    let mut rest = bytes;
    for piece in pieces.iter().cycle() {
        let (mut input, remaining) = rest.split_at((*piece).min(rest.len()));
        loop {
            match inflate.push(&mut input, &mut window) {
                Err(_) => return Outcome::Error,
                Ok(0) => break,
                Ok(written) => {
                    assert!(written <= PIECE_BYTES);
                    text.extend_from_slice(&window.text()[window.text().len() - written..]);
                    after_piece(&mut window);
                }
            }
        }
        if inflate.is_complete() {
            let read_ahead = std::iter::from_fn(|| inflate.byte_after_end(&mut &[][..])).count();
            return Outcome::Complete(text, bytes.len() - remaining.len() - input.len() - read_ahead);
        }
        assert!(input.is_empty());
        if remaining.is_empty() {
            return Outcome::Truncated;
        }
        rest = remaining;
    }
    unreachable!("`pieces` is not empty")
}

/// The text to which flate2 decompresses the same bytes.
fn flate2_outcome(bytes: &[u8]) -> Outcome {
    let mut inflate = Decompress::new(false);
    let (mut text, mut piece) = (Vec::new(), vec![0; 1 << 16]);
    loop {
        let (from, given) = (inflate.total_in() as usize, inflate.total_out());
        let Ok(status) = inflate.decompress(&bytes[from..], &mut piece, FlushDecompress::None) else {
            return Outcome::Error;
        };
        let given = (inflate.total_out() - given) as usize;
        text.extend_from_slice(&piece[..given]);
        if status == Status::StreamEnd {
            return Outcome::Complete(text, inflate.total_in() as usize);
        }
        if given == 0 && inflate.total_in() as usize == from {
            return Outcome::Truncated;
        }
    }
}

/// Text like that of rows: names that repeat, numbers that do not, and repeated patterns of all lengths.
fn text() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        4 => any::<u32>().prop_map(|number| format!("{{\"CollaborationHours\":{number},\"Meetings\":7}}\n").into_bytes()),
        2 => prop::collection::vec(any::<u8>(), 0..40),
        1 => (prop::collection::vec(any::<u8>(), 1..70), 1_usize..9000).prop_map(|(unit, length)| {
            unit.iter().copied().cycle().take(length).collect()
        }),
    ];
    prop::collection::vec(part, 0..60).prop_map(|parts| parts.concat())
}

fn deflated(text: &[u8], level: u32, flush_every: usize) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::new(level));
    for part in text.chunks(flush_every) {
        encoder.write_all(part).unwrap();
        if flush_every < text.len() {
            encoder.flush().unwrap();
        }
    }
    encoder.finish().unwrap()
}

fn pieces() -> impl Strategy<Value = Vec<usize>> {
    prop_oneof![
        Just(vec![usize::MAX]),
        prop::collection::vec(1_usize..40, 1..5),
        prop::collection::vec(1_usize..9000, 1..5)
    ]
}

proptest! {
    #[test]
    fn output_of_flate2_at_any_level_is_decompressed_in_pieces_of_any_size(
        text in text(),
        level in 0_u32..=9,
        flush_every in prop_oneof![Just(usize::MAX), 1_usize..3000],
        pieces in pieces(),
    ) {
        let bytes = deflated(&text, level, flush_every);
        let followed = [&bytes[..], b"other bytes"].concat();
        prop_assert!(inflate(&followed, &pieces) == Outcome::Complete(text, bytes.len()));
    }

    #[test]
    fn blocks_of_every_type_with_any_codes_are_decompressed(blocks in blocks(), pieces in pieces()) {
        let bytes = writer::write(&blocks);
        let expected = flate2_outcome(&bytes);
        prop_assert!(matches!(expected, Outcome::Complete(..)), "{:?}", expected);
        prop_assert!(inflate(&bytes, &pieces) == expected);
    }

    #[test]
    fn changed_data_has_the_same_outcome_as_with_flate2(
        blocks in blocks(),
        flips in prop::collection::vec((any::<prop::sample::Index>(), 0_u32..8), 1..3),
        pieces in pieces(),
    ) {
        let mut bytes = writer::write(&blocks);
        for (at, bit) in flips {
            let at = at.index(bytes.len());
            bytes[at] ^= 1_u8 << bit;
        }
        prop_assert!(inflate(&bytes, &pieces) == flate2_outcome(&bytes));
    }

    #[test]
    fn truncated_data_is_not_complete(blocks in blocks(), cut in any::<prop::sample::Index>(), pieces in pieces()) {
        let bytes = writer::write(&blocks);
        let cut = cut.index(bytes.len());
        prop_assert!(inflate(&bytes[..cut], &pieces) == Outcome::Truncated);
    }

    #[test]
    fn arbitrary_bytes_have_the_same_outcome_as_with_flate2(
        mut bytes in prop::collection::vec(any::<u8>(), 1..600),
        kind in 0_u8..3,
        pieces in pieces(),
    ) {
        bytes[0] = bytes[0] & !7 | kind << 1;
        prop_assert!(inflate(&bytes, &pieces) == flate2_outcome(&bytes));
    }
}

#[test]
fn text_longer_than_the_window_is_decompressed_whether_it_is_consumed_or_not() {
    let mut state = 7_u32;
    let mut random = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state >> 20
    };
    // Most copies refer far back, so that a history that is damaged when it moves changes the text.
    let unit: Vec<u8> = (0..32_000).map(|_| random() as u8).collect();
    let text: Vec<u8> = (0..40).flat_map(|_| [&unit[..], &random().to_le_bytes()].concat()).collect();
    for level in [0, 1, 6, 9] {
        let bytes = deflated(&text, level, usize::MAX);
        let (pieces, expected) = ([65_536], Outcome::Complete(text.clone(), bytes.len()));
        assert!(inflate(&bytes, &pieces) == expected, "level {level}");
        assert!(inflate_with(&bytes, &pieces, |_| {}) == expected, "level {level}, text is kept");
        let consume = |window: &mut Window| window.consume(window.text().len());
        assert!(inflate_with(&bytes, &pieces, consume) == expected, "level {level}, text is consumed");
    }
}

#[test]
fn three_million_zeros_are_decompressed() {
    let text = vec![0; 3_000_000];
    let bytes = deflated(&text, 9, usize::MAX);
    assert!(inflate(&bytes, &[1000]) == Outcome::Complete(text, bytes.len()));
}

#[test]
fn a_copy_from_before_the_start_of_the_data_is_an_error_after_a_restart() {
    let text = Block::fixed(vec![Token::Literal(b'x'); 100]);
    let reaches_back = Block::fixed(vec![Token::Literal(b'x'), Token::Copy { distance: 2, length: 3 }]);
    let (mut inflate, mut window) = (Inflate::new(), Window::new());
    let data = writer::write(&[text]);
    assert_eq!(inflate.push(&mut &data[..], &mut window), Ok(100));
    assert!(inflate.is_complete());
    inflate.restart(&mut window);
    let data = writer::write(&[reaches_back]);
    assert_eq!(inflate.push(&mut &data[..], &mut window), Err(Error::Deflate));
}

#[test]
fn a_block_whose_only_code_ends_it_is_empty() {
    // A dynamic block with a single code, of one bit, for the end of the block, and no codes for distances.
    let mut bits = writer::BitWriter::default();
    bits.put(0b101, 3);
    bits.put(0, 5);
    bits.put(0, 5);
    bits.put(14, 4);
    // The codes for code lengths: one bit for 1, two bits each for 0 and 18.
    for symbol in LENGTH_CODE_ORDER.iter().take(18) {
        bits.put(
            match symbol {
                1 => 1,
                0 | 18 => 2,
                _ => 0,
            },
            3,
        );
    }
    for repeat in [138, 118] {
        bits.put(0b11, 2);
        bits.put(repeat - 11, 7);
    }
    bits.put(0, 1);
    bits.put(0b01, 2);
    bits.put(0, 1);
    let bytes = bits.finish();
    assert_eq!(flate2_outcome(&bytes), Outcome::Complete(Vec::new(), bytes.len()));
    assert_eq!(inflate(&bytes, &[usize::MAX]), Outcome::Complete(Vec::new(), bytes.len()));
}
