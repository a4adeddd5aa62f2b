//! Derives choices and pieces from the bytes under test, so that a check does the same for the same bytes.

use fastrand::Rng;

/// A random generator that is seeded with the bytes.
pub fn chance(bytes: &[u8]) -> Rng {
    Rng::with_seed(crc32fast::hash(bytes).into())
}

/// The same bytes in three ways: in one piece, in pieces of one byte, and in pieces of random lengths.
pub fn in_pieces(bytes: &[u8]) -> [Vec<&[u8]>; 3] {
    [vec![bytes], bytes.chunks(1).collect(), in_random_pieces(bytes)]
}

/// Pieces of 0 to 64 bytes.
fn in_random_pieces(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut chance = chance(bytes);
    let mut pieces = Vec::new();
    while !bytes.is_empty() {
        let (piece, rest) = bytes.split_at(chance.usize(0..=bytes.len().min(64)));
        pieces.push(piece);
        bytes = rest;
    }
    pieces
}
