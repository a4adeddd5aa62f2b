use std::io::Write;

use flate2::{Compression, Decompress, FlushDecompress, Status, write::DeflateEncoder};
use proptest::prelude::*;

use super::*;

mod writer;
use writer::{Block, Token, blocks};

/// How inflating ends.
#[derive(Debug, PartialEq, Eq)]
enum Ending {
    /// With a text, behind so many bytes.
    Text(Vec<u8>, usize),
    /// The bytes end before the data does.
    CutShort,
    Damaged,
}

fn inflated(bytes: &[u8], pieces: &[usize]) -> Ending {
    // Sometimes half of the text is taken, sometimes all.
    inflated_and(bytes, pieces, |window| {
        let (count, waiting) = (window.text().len(), window.text().to_vec());
        let block = window.take(if count.is_multiple_of(3) { count } else { count / 2 });
        assert_eq!([block.text(), window.text()].concat(), waiting);
    })
}

/// Inflates and does `what` with the window after each piece.
fn inflated_and(bytes: &[u8], pieces: &[usize], what: impl Fn(&mut Window)) -> Ending {
    let mut text = Vec::new();
    let (mut inflate, mut window) = (Inflate::new(), Window::new());
    let mut rest = bytes;
    for piece in pieces.iter().cycle() {
        let (mut piece, behind) = rest.split_at((*piece).min(rest.len()));
        let ended = inflate.push(&mut piece, &mut window, &mut |window| {
            assert!((1..=PIECE_BYTES).contains(&window.piece().len()));
            text.extend_from_slice(window.piece());
            what(window);
            Ok::<_, Damage>(())
        });
        match ended {
            Err(_) => return Ending::Damaged,
            Ok(true) => {
                let ahead = std::iter::from_fn(|| inflate.byte_behind(&mut &[][..])).count();
                return Ending::Text(text, bytes.len() - behind.len() - piece.len() - ahead);
            }
            Ok(false) if behind.is_empty() => return Ending::CutShort,
            Ok(false) => rest = behind,
        }
    }
    unreachable!("pieces are not empty")
}

/// What flate2 says of the same bytes.
fn expected(bytes: &[u8]) -> Ending {
    let mut inflate = Decompress::new(false);
    let (mut text, mut piece) = (Vec::new(), vec![0; 1 << 16]);
    loop {
        let (from, given) = (inflate.total_in() as usize, inflate.total_out());
        let Ok(status) = inflate.decompress(&bytes[from..], &mut piece, FlushDecompress::None) else {
            return Ending::Damaged;
        };
        let given = (inflate.total_out() - given) as usize;
        text.extend_from_slice(&piece[..given]);
        if status == Status::StreamEnd {
            return Ending::Text(text, inflate.total_in() as usize);
        }
        if given == 0 && inflate.total_in() as usize == from {
            return Ending::CutShort;
        }
    }
}

/// Text like that of rows: names that repeat and figures that do not, and runs of all lengths.
fn text() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        4 => any::<u32>().prop_map(|figure| format!("{{\"CollaborationHours\":{figure},\"Meetings\":7}}\n").into_bytes()),
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
    fn what_flate2_deflates_comes_back_at_any_level_in_any_pieces(
        text in text(),
        level in 0_u32..=9,
        flush_every in prop_oneof![Just(usize::MAX), 1_usize..3000],
        pieces in pieces(),
    ) {
        let bytes = deflated(&text, level, flush_every);
        let behind = [&bytes[..], b"what follows"].concat();
        prop_assert!(inflated(&behind, &pieces) == Ending::Text(text, bytes.len()));
    }

    #[test]
    fn blocks_of_every_kind_and_any_codes_are_inflated(blocks in blocks(), pieces in pieces()) {
        let bytes = writer::write(&blocks);
        let expected = expected(&bytes);
        prop_assert!(matches!(expected, Ending::Text(..)), "{:?}", expected);
        prop_assert!(inflated(&bytes, &pieces) == expected);
    }

    #[test]
    fn bytes_that_were_changed_end_as_they_do_with_flate2(
        blocks in blocks(),
        flips in prop::collection::vec((any::<prop::sample::Index>(), 0_u32..8), 1..3),
        pieces in pieces(),
    ) {
        let mut bytes = writer::write(&blocks);
        for (at, bit) in flips {
            let at = at.index(bytes.len());
            bytes[at] ^= 1_u8 << bit;
        }
        prop_assert!(inflated(&bytes, &pieces) == expected(&bytes));
    }

    #[test]
    fn data_cut_anywhere_is_not_at_its_end(blocks in blocks(), cut in any::<prop::sample::Index>(), pieces in pieces()) {
        let bytes = writer::write(&blocks);
        let cut = cut.index(bytes.len());
        prop_assert!(inflated(&bytes[..cut], &pieces) == Ending::CutShort);
    }

    #[test]
    fn any_bytes_at_all_end_as_they_do_with_flate2(
        mut bytes in prop::collection::vec(any::<u8>(), 1..600),
        kind in 0_u8..3,
        pieces in pieces(),
    ) {
        bytes[0] = bytes[0] & !7 | kind << 1;
        prop_assert!(inflated(&bytes, &pieces) == expected(&bytes));
    }
}

#[test]
fn text_longer_than_the_window_is_inflated_in_pieces() {
    let mut state = 7_u32;
    let mut random = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state >> 20
    };
    // Repeats from far back: a history that is lost when it moves would show.
    let unit: Vec<u8> = (0..32_000).map(|_| random() as u8).collect();
    let text: Vec<u8> = (0..40).flat_map(|_| [&unit[..], &random().to_le_bytes()].concat()).collect();
    for level in [0, 1, 6, 9] {
        let bytes = deflated(&text, level, usize::MAX);
        let (pieces, expected) = ([65_536], Ending::Text(text.clone(), bytes.len()));
        assert!(inflated(&bytes, &pieces) == expected, "level {level}");
        assert!(inflated_and(&bytes, &pieces, |_| {}) == expected, "level {level}, never taken");
        let skip = |window: &mut Window| window.skip(window.text().len());
        assert!(inflated_and(&bytes, &pieces, skip) == expected, "level {level}, never wanted");
    }
}

#[test]
fn zeros_by_the_million_are_inflated() {
    let text = vec![0; 3_000_000];
    let bytes = deflated(&text, 9, usize::MAX);
    assert!(inflated(&bytes, &[1000]) == Ending::Text(text, bytes.len()));
}

#[test]
fn a_distance_before_the_beginning_is_damage_after_another_text_too() {
    let text = Block::fixed(vec![Token::Literal(b'x'); 100]);
    let reaches_back = Block::fixed(vec![Token::Literal(b'x'), Token::Copy { distance: 2, length: 3 }]);
    let (mut inflate, mut window) = (Inflate::new(), Window::new());
    let mut inflate = |block, window: &mut Window| {
        let ended = inflate.push(&mut writer::write(&[block]).as_slice(), window, &mut |_| Ok::<_, Damage>(()));
        inflate.restart(window);
        ended
    };
    assert_eq!(inflate(text, &mut window), Ok(true));
    assert_eq!(inflate(reaches_back, &mut window), Err(Damage::Deflate));
}

#[test]
fn a_block_of_one_code_for_its_end_is_empty() {
    // A dynamic block whose only code is that of its end, of one bit, and which has no distances.
    let mut bits = writer::BitWriter::default();
    bits.put(0b101, 3);
    bits.put(0, 5);
    bits.put(0, 5);
    bits.put(14, 4);
    // Codes of one bit for 1 and of two bits for 0 and 18.
    for symbol in ORDER.iter().take(18) {
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
    assert_eq!(expected(&bytes), Ending::Text(Vec::new(), bytes.len()));
    assert_eq!(inflated(&bytes, &[usize::MAX]), Ending::Text(Vec::new(), bytes.len()));
}
