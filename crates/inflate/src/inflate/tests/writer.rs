//! Writes deflate data that no compressor would write: any tokens, in blocks of any type, with any codes.

use proptest::prelude::*;

use crate::{
    block_header::LENGTH_CODE_ORDER,
    huffman::{DISTANCE_SYMBOLS, END_OF_BLOCK, LITLEN_SYMBOLS},
};

#[derive(Debug, Clone, Copy)]
pub(super) enum Token {
    Literal(u8),
    Copy { distance: usize, length: usize },
}

#[derive(Debug, Clone)]
pub(super) struct Block {
    tokens: Vec<Token>,
    kind: Kind,
}

#[derive(Debug, Clone)]
enum Kind {
    Stored,
    Fixed,
    /// With a random complete code; the greater `skew`, the more the lengths of its codes differ.
    Dynamic {
        seed: u64,
        skew: u32,
    },
}

impl Block {
    pub(super) fn fixed(tokens: Vec<Token>) -> Self {
        Self { tokens, kind: Kind::Fixed }
    }
}

/// Valid blocks: no distance reaches before the start of the text.
pub(super) fn blocks() -> impl Strategy<Value = Vec<Block>> {
    let token = prop_oneof![
        3 => prop_oneof![3 => b'0'..=b'9', 1 => any::<u8>()].prop_map(Token::Literal),
        2 => (prop_oneof![1_usize..60, 1_usize..32_769], prop_oneof![3_usize..60, 3_usize..259])
            .prop_map(|(distance, length)| Token::Copy { distance, length }),
    ];
    let kind = prop_oneof![
        Just(Kind::Stored),
        Just(Kind::Fixed),
        (any::<u64>(), 0_u32..40).prop_map(|(seed, skew)| Kind::Dynamic { seed, skew }),
    ];
    let block = (prop::collection::vec(token, 0..300), kind).prop_map(|(tokens, kind)| Block { tokens, kind });
    prop::collection::vec(block, 1..5).prop_map(|mut blocks| {
        let mut written = 0;
        for token in blocks.iter_mut().flat_map(|block| &mut block.tokens) {
            match token {
                Token::Copy { distance, length } if written > 0 => {
                    *distance = 1 + (*distance - 1) % written;
                    written += *length;
                }
                other => {
                    *other = Token::Literal(b'x');
                    written += 1;
                }
            }
        }
        blocks
    })
}

/// Writes `blocks` as deflate data.
pub(super) fn write(blocks: &[Block]) -> Vec<u8> {
    let mut bits = BitWriter::default();
    for (at, block) in blocks.iter().enumerate() {
        bits.put(u32::from(at + 1 == blocks.len()), 1);
        match block.kind {
            Kind::Stored => stored(&mut bits, &block.tokens),
            Kind::Fixed => {
                bits.put(1, 2);
                let mut literals = [8; LITLEN_SYMBOLS];
                literals[144..256].fill(9);
                literals[256..280].fill(7);
                tokens(&mut bits, &block.tokens, &literals, &[5; DISTANCE_SYMBOLS]);
            }
            Kind::Dynamic { seed, skew } => {
                bits.put(2, 2);
                let literals = lengths(286, seed, skew);
                let distances = lengths(30, seed.rotate_left(9), skew);
                header(&mut bits, &literals, &distances);
                tokens(&mut bits, &block.tokens, &literals, &distances);
            }
        }
    }
    bits.finish()
}

fn stored(bits: &mut BitWriter, tokens: &[Token]) {
    let mut bytes = Vec::new();
    for token in tokens {
        match *token {
            Token::Literal(byte) => bytes.push(byte),
            // As many bytes as the copy has, so that the distances of later blocks stay valid.
            Token::Copy { length, .. } => bytes.resize(bytes.len() + length, b'-'),
        }
    }
    bytes.truncate(0xFFFF);
    bits.put(0, 2);
    bits.align();
    bits.put(bytes.len() as u32, 16);
    bits.put(!bytes.len() as u32 & 0xFFFF, 16);
    bytes.iter().for_each(|&byte| bits.put(u32::from(byte), 8));
}

fn header(bits: &mut BitWriter, literals: &[u8], distances: &[u8]) {
    bits.put(literals.len() as u32 - 257, 5);
    bits.put(distances.len() as u32 - 1, 5);
    bits.put(LENGTH_CODE_ORDER.len() as u32 - 4, 4);
    // Each code length has a code of four bits, and none is repeated: data of flate2 covers repeats.
    for symbol in LENGTH_CODE_ORDER {
        bits.put(if symbol < 16 { 4 } else { 0 }, 3);
    }
    let codes = codes(&[4; 16]);
    for &length in literals.iter().chain(distances) {
        bits.put_code(codes[usize::from(length)], 4);
    }
}

fn tokens(bits: &mut BitWriter, tokens: &[Token], literals: &[u8], distances: &[u8]) {
    let (literal_codes, distance_codes) = (codes(literals), codes(distances));
    for token in tokens {
        match *token {
            Token::Literal(byte) => bits.put_code(literal_codes[usize::from(byte)], literals[usize::from(byte)]),
            Token::Copy { distance, length } => {
                let (symbol, extra, extra_bits) = length_symbol(length);
                bits.put_code(literal_codes[symbol], literals[symbol]);
                bits.put(extra, extra_bits);
                let (symbol, extra, extra_bits) = distance_symbol(distance);
                bits.put_code(distance_codes[symbol], distances[symbol]);
                bits.put(extra, extra_bits);
            }
        }
    }
    bits.put_code(literal_codes[END_OF_BLOCK], literals[END_OF_BLOCK]);
}

/// The symbol of a copy length, its extra bits and their number (RFC 1951, section 3.2.5): computed, so that the tables
/// under test are not used.
fn length_symbol(length: usize) -> (usize, u32, u32) {
    match length {
        258 => (285, 0, 0),
        3..=10 => (254 + length, 0, 0),
        _ => {
            let bits = (length - 3).ilog2() - 2;
            let from = length - 3 - (4 << bits);
            (261 + 4 * bits as usize + (from >> bits), from as u32 & ((1 << bits) - 1), bits)
        }
    }
}

/// The same for a distance.
fn distance_symbol(distance: usize) -> (usize, u32, u32) {
    if distance <= 4 {
        return (distance - 1, 0, 0);
    }
    let bits = (distance - 1).ilog2() - 1;
    let from = distance - 1 - (2 << bits);
    (2 + 2 * bits as usize + (from >> bits), from as u32 & ((1 << bits) - 1), bits)
}

/// The lengths of a complete code for `count` symbols, at most 15 bits each: the leaves of a random tree, which is the
/// less balanced the greater `skew` is.
fn lengths(count: usize, seed: u64, skew: u32) -> Vec<u8> {
    let mut state = seed;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let mut leaves = vec![0_u8];
    while leaves.len() < count {
        // A leaf of the tree, often the last one, becomes two leaves with one bit more.
        let last = leaves.len() - 1;
        let at = if random(50) < skew as usize { last } else { random(leaves.len()) };
        if leaves[at] < 15 {
            leaves[at] += 1;
            leaves.push(leaves[at]);
        } else {
            let other = random(leaves.len());
            leaves.swap(other, last);
        }
    }
    for at in (1..count).rev() {
        leaves.swap(at, random(at + 1));
    }
    leaves
}

/// The canonical codes with these lengths (RFC 1951, section 3.2.2).
fn codes(lengths: &[u8]) -> Vec<u32> {
    let mut codes = vec![0; lengths.len()];
    let mut code = 0;
    for length in 1..=15 {
        code <<= 1;
        for (symbol, _) in lengths.iter().enumerate().filter(|(_, other)| **other == length) {
            codes[symbol] = code;
            code += 1;
        }
    }
    codes
}

#[derive(Default)]
pub(super) struct BitWriter {
    bytes: Vec<u8>,
    buffer: u64,
    count: u32,
}

impl BitWriter {
    pub(super) fn put(&mut self, value: u32, count: u32) {
        self.buffer |= u64::from(value) << self.count;
        self.count += count;
        while self.count >= 8 {
            self.bytes.push(self.buffer as u8);
            self.buffer >>= 8;
            self.count -= 8;
        }
    }

    /// Huffman codes are written from their most significant bit on.
    fn put_code(&mut self, code: u32, length: u8) {
        self.put(code.reverse_bits() >> (32 - u32::from(length)), u32::from(length));
    }

    fn align(&mut self) {
        self.put(0, (8 - self.count) % 8);
    }

    pub(super) fn finish(mut self) -> Vec<u8> {
        self.align();
        self.bytes
    }
}
