//! What is drawn from the bytes that are checked: choices, and pieces.

use fastrand::Rng;

/// Chance that is the same for the same bytes.
pub fn chance(bytes: &[u8]) -> Rng {
    Rng::with_seed(crc32fast::hash(bytes).into())
}

/// The same bytes in three ways: whole, each byte by itself, and cut anywhere.
pub fn in_pieces(bytes: &[u8]) -> [Vec<&[u8]>; 3] {
    [vec![bytes], bytes.chunks(1).collect(), cut_anywhere(bytes)]
}

fn cut_anywhere(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut chance = chance(bytes);
    let mut pieces = Vec::new();
    while !bytes.is_empty() {
        let (piece, rest) = bytes.split_at(chance.usize(0..=bytes.len().min(64)));
        pieces.push(piece);
        bytes = rest;
    }
    pieces
}
