//! Builds decoding tables for Huffman codes, each given as the code lengths of its symbols (RFC 1951, section 3.2.2).
//!
//! A code that is longer than the index of the main table continues in a subtable. In the table of literals and
//! lengths, two symbols whose codes fit into the index together share an entry.

use std::ops::Range;

use crate::{
    Error,
    entry::{self, EXCEPTION, SHORTEST_COPY},
};

/// How many symbols for literals and copy lengths can have a code; 286 and 287 are invalid in compressed data.
pub(crate) const LITLEN_SYMBOLS: usize = 288;
/// How many symbols for distances can have a code; 30 and 31 are invalid in compressed data.
pub(crate) const DISTANCE_SYMBOLS: usize = 32;

/// The symbol that ends a block. Symbols below it are literals, symbols above it are copy lengths.
pub(crate) const END_OF_BLOCK: usize = 256;

/// The index bits of the main table for literals and lengths. In rows, the codes of digits have five bits, so eleven
/// bits hold two of them; a larger table takes longer to build, and more of the cache.
pub(crate) const LITLEN_BITS: u32 = 11;
/// The index bits of the main table for distances.
pub(crate) const DISTANCE_BITS: u32 = 9;
/// The index bits of the table for code lengths: the longest such code (RFC 1951, section 3.2.7).
pub(crate) const LENGTH_CODE_BITS: u32 = 7;

/// Room for the main table and its subtables: no valid code needs more than 2342 entries. A power of two, so that an
/// index can be bounded by a mask.
pub(crate) const LITLEN_ENTRIES: usize = 4096;
/// Room for the main table and its subtables: no valid code needs more than 1023 entries.
pub(crate) const DISTANCE_ENTRIES: usize = 1024;

/// The longest code (RFC 1951, section 3.2.7).
const LONGEST_CODE: usize = 15;

/// The base and the number of extra bits of the copy lengths, from symbol 257 on (RFC 1951, section 3.2.5).
#[rustfmt::skip]
const LENGTHS: [(u16, u8); 29] = [
    (3, 0), (4, 0), (5, 0), (6, 0), (7, 0), (8, 0), (9, 0), (10, 0),
    (11, 1), (13, 1), (15, 1), (17, 1),
    (19, 2), (23, 2), (27, 2), (31, 2),
    (35, 3), (43, 3), (51, 3), (59, 3),
    (67, 4), (83, 4), (99, 4), (115, 4),
    (131, 5), (163, 5), (195, 5), (227, 5),
    (258, 0),
];

/// The base and the number of extra bits of the distances, from symbol 0 on (RFC 1951, section 3.2.5).
#[rustfmt::skip]
const DISTANCES: [(u16, u8); 30] = [
    (1, 0), (2, 0), (3, 0), (4, 0),
    (5, 1), (7, 1), (9, 2), (13, 2), (17, 3), (25, 3), (33, 4), (49, 4),
    (65, 5), (97, 5), (129, 6), (193, 6), (257, 7), (385, 7), (513, 8), (769, 8),
    (1025, 9), (1537, 9), (2049, 10), (3073, 10), (4097, 11), (6145, 11), (8193, 12), (12289, 12),
    (16385, 13), (24577, 13),
];

/// Builds the table of the literals and copy lengths whose codes have these `lengths`.
pub(crate) fn build_litlen(lengths: &[u8], table: &mut [u32; LITLEN_ENTRIES]) -> Result<(), Error> {
    let entry_of = |symbol: usize, bits| match symbol {
        0..END_OF_BLOCK => entry::one_literal(symbol, bits),
        END_OF_BLOCK => entry::end_of_block(bits),
        _ => match LENGTHS.get(symbol - END_OF_BLOCK - 1) {
            Some(&(base, extra_bits)) => entry::copy(u32::from(base - SHORTEST_COPY) << 8, bits, u32::from(extra_bits)),
            None => entry::invalid(bits),
        },
    };
    HuffmanCode::new(lengths, true)?.build(LITLEN_BITS, true, table, entry_of)
}

/// Builds the table of the distances whose codes have these `lengths`.
pub(crate) fn build_distances(lengths: &[u8], table: &mut [u32; DISTANCE_ENTRIES]) -> Result<(), Error> {
    let entry_of = |symbol: usize, bits| match DISTANCES.get(symbol) {
        Some(&(base, extra_bits)) => entry::copy(u32::from(base), bits, u32::from(extra_bits)),
        None => entry::invalid(bits),
    };
    HuffmanCode::new(lengths, true)?.build(DISTANCE_BITS, false, table, entry_of)
}

/// Builds the table of the code in which the lengths of the other codes are written. The value of an entry is its
/// symbol.
pub(crate) fn build_length_codes(lengths: &[u8], table: &mut [u32; 1 << LENGTH_CODE_BITS]) -> Result<(), Error> {
    let entry_of = |symbol: usize, bits| (symbol as u32) << 16 | bits;
    HuffmanCode::new(lengths, false)?.build(LENGTH_CODE_BITS, false, table, entry_of)
}

/// A canonical Huffman code: its symbols in the order of their codes.
struct HuffmanCode {
    /// The symbols that have a code, the shortest codes first.
    symbols: [u16; LITLEN_SYMBOLS],
    /// Where in `symbols` the codes of each length start.
    starts: [usize; LONGEST_CODE + 2],
    /// The length of the longest code; 0 if there are no codes.
    longest: usize,
}

impl HuffmanCode {
    /// The code in which symbol `n` has `lengths[n]` bits, or no code if that is 0.
    ///
    /// A code must be complete: the Kraft sum of its lengths is 1. With `may_be_incomplete`, a single code of one bit
    /// and no code at all are also valid, as they are in zlib.
    fn new(lengths: &[u8], may_be_incomplete: bool) -> Result<Self, Error> {
        // First the number of codes of each length, one index further on; then where they start.
        let mut starts = [0; LONGEST_CODE + 2];
        for &length in lengths {
            starts[usize::from(length) + 1] += 1;
        }
        starts[1] = 0;
        let longest = (1..=LONGEST_CODE).rev().find(|&length| starts[length + 1] > 0).unwrap_or(0);
        let mut free = 1_usize;
        for length in 1..=LONGEST_CODE {
            free = (2 * free).checked_sub(starts[length + 1]).ok_or(Error::Deflate)?;
            starts[length + 1] += starts[length];
        }
        if free > 0 && !(may_be_incomplete && longest <= 1) {
            return Err(Error::Deflate);
        }
        let mut symbols = [0; LITLEN_SYMBOLS];
        let mut next = starts;
        for (symbol, &length) in lengths.iter().enumerate().filter(|(_, length)| **length > 0) {
            symbols[next[usize::from(length)]] = symbol as u16;
            next[usize::from(length)] += 1;
        }
        Ok(Self { symbols, starts, longest })
    }

    /// The symbols whose codes have `length` bits.
    fn symbols(&self, length: usize) -> &[u16] {
        &self.symbols[self.starts[length]..self.starts[length + 1]]
    }

    /// Builds a table with an index of `index_bits`. `entry_of(symbol, bits)` returns the entry of a symbol whose code
    /// has `bits` bits.
    fn build(
        &self,
        index_bits: u32,
        has_literals: bool,
        table: &mut [u32],
        entry_of: impl Fn(usize, u32) -> u32,
    ) -> Result<(), Error> {
        let index_bits = index_bits as usize;
        let mut codes = [0_u16; LITLEN_SYMBOLS];
        let mut code = 0;
        if self.longest <= 1 {
            // The code is incomplete, or has two symbols, which overwrite these entries.
            table[..2].fill(entry::invalid(1));
        }
        // The table for `length` bits, repeated twice, is the table for one bit more, except for the codes of that
        // length.
        for length in 1..=index_bits {
            for (at, &symbol) in (self.starts[length]..).zip(self.symbols(length)) {
                table[code] = entry_of(usize::from(symbol), length as u32);
                codes[at] = code as u16;
                code = next_code(code, length);
            }
            if has_literals {
                self.add_pairs(length, &codes, table, &entry_of);
            }
            if length < index_bits {
                table.copy_within(..1 << length, 1 << length);
            }
        }
        self.build_subtables(index_bits, code, table, entry_of)
    }

    /// Adds entries for a literal followed by a literal or a copy length, if their codes have `length` bits together.
    fn add_pairs(&self, length: usize, codes: &[u16], table: &mut [u32], entry_of: impl Fn(usize, u32) -> u32) {
        // Among codes of one length, literals come first.
        let literals_end = |length: usize| {
            self.symbols(length).partition_point(|&symbol| usize::from(symbol) < END_OF_BLOCK) + self.starts[length]
        };
        let with_codes = |range: Range<usize>| self.symbols[range.clone()].iter().zip(&codes[range]);
        for first_length in 1..length {
            let (first_bits, second_length) = (first_length as u32, length - first_length);
            let second_literals = self.starts[second_length]..literals_end(second_length);
            let second_others = second_literals.end..self.starts[second_length + 1];
            for (&first, &code) in with_codes(self.starts[first_length]..literals_end(first_length)) {
                for (&second, &second_code) in with_codes(second_literals.clone()) {
                    table[usize::from(code) | usize::from(second_code) << first_length] =
                        entry::two_literals(first, second, length as u32);
                }
                for (&second, &second_code) in with_codes(second_others.clone()) {
                    let second = entry_of(usize::from(second), second_length as u32);
                    if second & EXCEPTION == 0 {
                        table[usize::from(code) | usize::from(second_code) << first_length] =
                            entry::with_literal_before(second, first, first_bits);
                    }
                }
            }
        }
    }

    /// Adds subtables for the codes that are longer than the index. Codes whose first `index_bits` are equal share a
    /// subtable. `code` is the first code that is longer.
    fn build_subtables(
        &self,
        index_bits: usize,
        mut code: usize,
        table: &mut [u32],
        entry_of: impl Fn(usize, u32) -> u32,
    ) -> Result<(), Error> {
        let mask = (1 << index_bits) - 1;
        let (mut prefix, mut start, mut end) = (None, 0, 1 << index_bits);
        for length in index_bits + 1..=self.longest {
            for (at, &symbol) in (self.starts[length]..).zip(self.symbols(length)) {
                if prefix != Some(code & mask) {
                    prefix = Some(code & mask);
                    let bits = self.subtable_bits(index_bits, length, self.starts[length + 1] - at);
                    (start, end) = (end, end + (1 << bits));
                    table[code & mask] = entry::subtable(start, bits, index_bits);
                }
                let entry = entry_of(usize::from(symbol), (length - index_bits) as u32);
                let subtable = table.get_mut(start..end).ok_or(Error::Deflate)?;
                for slot in subtable.iter_mut().skip(code >> index_bits).step_by(1 << (length - index_bits)) {
                    *slot = entry;
                }
                code = next_code(code, length);
            }
        }
        Ok(())
    }

    /// The index bits of a subtable whose first code has `length` bits. `left` codes of that length have no entry yet,
    /// including the first one.
    fn subtable_bits(&self, index_bits: usize, length: usize, left: usize) -> usize {
        let mut bits = length - index_bits;
        let mut free = (1_usize << bits).saturating_sub(left);
        while free > 0 && index_bits + bits < self.longest {
            bits += 1;
            free = (2 * free).saturating_sub(self.symbols(index_bits + bits).len());
        }
        bits
    }
}

/// The code of `length` bits that follows `code`. Canonical codes count upwards from their first bit, which is the
/// least significant one here.
fn next_code(code: usize, length: usize) -> usize {
    let free = !code & ((1 << length) - 1);
    // No code follows the last one; the result is not used then.
    let highest_free = free.checked_ilog2().map_or(0, |bit| 1 << bit);
    code & (highest_free.max(1) - 1) | highest_free
}
