//! Huffman codes as tables: the next bits of the stream are the index of what they say.
//!
//! An entry is a `u32`, laid out so that the inner loop gets by on shifts and few of them. From the lowest bit:
//!
//! | entry | 0..5 | 8..12 | 12..16 | 16..32 |
//! |---|---|---|---|---|
//! | literals | bits of their codes | how many, 1 or 2 | `LITERAL` | the bytes |
//! | length | bits of codes and extra bits | bits of the codes | `LITERAL_BEFORE` or 0 | that literal, then the smallest length less 3 |
//! | distance | bits of code and extra bits | bits of the code | | the smallest distance |
//! | subtable | bits of the index | bits of the subtable's index | `EXCEPTION`, `SUBTABLE` | where it starts |
//! | end of the block | bits of the code | | `EXCEPTION`, `END` | |
//! | nothing | bits of the code | | `EXCEPTION` | |
//!
//! Bits 5 to 7 are zero, so that an entry can be the operand of a shift, which looks at six bits, as it is.

use std::ops::Range;

use super::Damage;

/// The symbols of literals and lengths, and those of distances, that can have a code; some have no meaning.
pub(super) const LITLEN_CODES: usize = 288;
pub(super) const DISTANCE_CODES: usize = 32;

/// The symbol that ends a block.
pub(super) const END_OF_BLOCK: usize = 256;

/// How many bits are looked up at once. Codes of digits take five bits, so eleven hold two of them; a larger table takes
/// longer to make and more of the cache.
pub(super) const LITLEN_BITS: u32 = 11;
pub(super) const DISTANCE_BITS: u32 = 9;
pub(super) const LENGTH_CODE_BITS: u32 = 7;

/// Room for the subtables of any complete code: 2342 and fewer than 1024 are needed at most.
pub(super) const LITLEN_ENTRIES: usize = 4096;
pub(super) const DISTANCE_ENTRIES: usize = 1024;

pub(super) const LITERAL: u32 = 1 << 15;
pub(super) const EXCEPTION: u32 = 1 << 14;
pub(super) const SUBTABLE: u32 = 1 << 13;
pub(super) const END: u32 = 1 << 12;
/// Only of lengths, which are no exceptions.
const LITERAL_BEFORE: u32 = 1 << 13;

/// The shortest length that there is.
const SHORTEST: u16 = 3;

/// The bits that an entry stands for, in a subtable those behind the index of the main table.
pub(super) fn bits(entry: u32) -> u32 {
    entry & 31
}

/// The upper half of an entry.
pub(super) fn value(entry: u32) -> usize {
    (entry >> 16) as usize
}

/// The field in the middle: how many literals, bits of the code, bits of a subtable's index.
pub(super) fn middle(entry: u32) -> u32 {
    entry >> 8 & 15
}

/// The literal that stands before a length, and how often it does: once or not at all.
pub(super) fn literal_before(entry: u32) -> (u8, usize) {
    (value(entry) as u8, usize::from(entry & LITERAL_BEFORE != 0))
}

/// The length of an entry, with its extra bits from `buffer`, the bits that begin with its code.
pub(super) fn length(entry: u32, buffer: u64) -> usize {
    usize::from(SHORTEST) + (entry >> 24) as usize + extra(entry, buffer)
}

/// The distance of an entry, with its extra bits from `buffer`, the bits that begin with its code.
pub(super) fn distance(entry: u32, buffer: u64) -> usize {
    value(entry) + extra(entry, buffer)
}

fn extra(entry: u32, buffer: u64) -> usize {
    // The lowest five bits count, and the shifts look at five: nothing needs to be masked.
    let codes_and_extra = buffer as u32 & (1_u32.wrapping_shl(entry).wrapping_sub(1));
    codes_and_extra.wrapping_shr(entry >> 8) as usize
}

const LENGTHS: [(u16, u8); 29] = [
    (3, 0),
    (4, 0),
    (5, 0),
    (6, 0),
    (7, 0),
    (8, 0),
    (9, 0),
    (10, 0),
    (11, 1),
    (13, 1),
    (15, 1),
    (17, 1),
    (19, 2),
    (23, 2),
    (27, 2),
    (31, 2),
    (35, 3),
    (43, 3),
    (51, 3),
    (59, 3),
    (67, 4),
    (83, 4),
    (99, 4),
    (115, 4),
    (131, 5),
    (163, 5),
    (195, 5),
    (227, 5),
    (258, 0),
];

const DISTANCES: [(u16, u8); 30] = [
    (1, 0),
    (2, 0),
    (3, 0),
    (4, 0),
    (5, 1),
    (7, 1),
    (9, 2),
    (13, 2),
    (17, 3),
    (25, 3),
    (33, 4),
    (49, 4),
    (65, 5),
    (97, 5),
    (129, 6),
    (193, 6),
    (257, 7),
    (385, 7),
    (513, 8),
    (769, 8),
    (1025, 9),
    (1537, 9),
    (2049, 10),
    (3073, 10),
    (4097, 11),
    (6145, 11),
    (8193, 12),
    (12289, 12),
    (16385, 13),
    (24577, 13),
];

/// Makes the table of the literals and lengths whose codes have `lengths` bits.
pub(super) fn litlen(lengths: &[u8], table: &mut [u32; LITLEN_ENTRIES]) -> Result<(), Damage> {
    Code::new(lengths, true)?.fill(LITLEN_BITS, true, table, |symbol, bits| match symbol {
        0..END_OF_BLOCK => (symbol as u32) << 16 | LITERAL | 1 << 8 | bits,
        END_OF_BLOCK => EXCEPTION | END | bits,
        _ => extended(LENGTHS.get(symbol - END_OF_BLOCK - 1), bits, |base| u32::from(base - SHORTEST) << 8),
    })
}

/// Makes the table of the distances whose codes have `lengths` bits.
pub(super) fn distances(lengths: &[u8], table: &mut [u32; DISTANCE_ENTRIES]) -> Result<(), Damage> {
    Code::new(lengths, true)?
        .fill(DISTANCE_BITS, false, table, |symbol, bits| extended(DISTANCES.get(symbol), bits, u32::from))
}

/// Makes the table of the code that the lengths of the other codes are written in. Its symbols stand as values.
pub(super) fn length_codes(lengths: &[u8], table: &mut [u32; 1 << LENGTH_CODE_BITS]) -> Result<(), Damage> {
    Code::new(lengths, false)?.fill(LENGTH_CODE_BITS, false, table, |symbol, bits| (symbol as u32) << 16 | bits)
}

fn extended(base_and_extra: Option<&(u16, u8)>, bits: u32, value: impl Fn(u16) -> u32) -> u32 {
    base_and_extra.map_or(EXCEPTION | bits, |&(base, extra)| value(base) << 16 | bits << 8 | (bits + u32::from(extra)))
}

/// A Huffman code: symbols in the order of their codes.
struct Code {
    /// The symbols that have a code, the shortest codes first.
    symbols: [u16; LITLEN_CODES],
    /// Where the symbols with codes of each length start.
    starts: [usize; 17],
    longest: usize,
}

impl Code {
    /// The code whose symbol `n` has `lengths[n]` bits, or none at all.
    ///
    /// More codes than there are bit patterns are damage; so are fewer, but for those that zlib takes where `may_be_sparse`:
    /// a single one, of one bit, or none.
    fn new(lengths: &[u8], may_be_sparse: bool) -> Result<Self, Damage> {
        let mut starts = [0; 17];
        for &length in lengths {
            starts[usize::from(length) + 1] += 1;
        }
        starts[1] = 0;
        let longest = (1..=15).rev().find(|&length| starts[length + 1] > 0).unwrap_or(0);
        let mut free = 1_usize;
        for length in 1..=15 {
            free = (2 * free).checked_sub(starts[length + 1]).ok_or(Damage::Deflate)?;
            starts[length + 1] += starts[length];
        }
        if free > 0 && !(may_be_sparse && longest <= 1) {
            return Err(Damage::Deflate);
        }
        let mut symbols = [0; LITLEN_CODES];
        let mut next = starts;
        for (symbol, &length) in lengths.iter().enumerate().filter(|(_, length)| **length > 0) {
            symbols[next[usize::from(length)]] = symbol as u16;
            next[usize::from(length)] += 1;
        }
        Ok(Self { symbols, starts, longest })
    }

    fn symbols(&self, length: usize) -> &[u16] {
        &self.symbols[self.starts[length]..self.starts[length + 1]]
    }

    /// Fills a table whose index has `index_bits` bits. `entry` is told a symbol and the bits of its code.
    fn fill(
        &self,
        index_bits: u32,
        has_literals: bool,
        table: &mut [u32],
        entry: impl Fn(usize, u32) -> u32,
    ) -> Result<(), Damage> {
        let index_bits = index_bits as usize;
        let mut codes = [0_u16; LITLEN_CODES];
        let mut code = 0;
        if self.longest <= 1 {
            // What a sparse code leaves free says nothing.
            table[..2].fill(EXCEPTION | 1);
        }
        // The table of `length` bits, twice, is the table of one bit more, but for the codes that it adds.
        for length in 1..=index_bits {
            for (at, &symbol) in (self.starts[length]..).zip(self.symbols(length)) {
                table[code] = entry(usize::from(symbol), length as u32);
                codes[at] = code as u16;
                code = next_code(code, length);
            }
            if has_literals {
                self.pairs(length, &codes, table, &entry);
            }
            if length < index_bits {
                table.copy_within(..1 << length, 1 << length);
            }
        }
        self.subtables(index_bits, code, table, entry)
    }

    /// A literal and a literal or length behind it whose codes have `length` bits together are looked up together.
    fn pairs(&self, length: usize, codes: &[u16], table: &mut [u32], entry: impl Fn(usize, u32) -> u32) {
        // Literals come before all others.
        let literals = |length: usize| {
            self.symbols(length).partition_point(|&symbol| usize::from(symbol) < END_OF_BLOCK) + self.starts[length]
        };
        let with_codes = |range: Range<usize>| self.symbols[range.clone()].iter().zip(&codes[range]);
        for first_length in 1..length {
            let (bits, second_length) = (first_length as u32, length - first_length);
            let second_literals = self.starts[second_length]..literals(second_length);
            let others = second_literals.end..self.starts[second_length + 1];
            for (&first, &code) in with_codes(self.starts[first_length]..literals(first_length)) {
                let literal = u32::from(first) << 16;
                for (&second, &behind) in with_codes(second_literals.clone()) {
                    table[usize::from(code) | usize::from(behind) << first_length] =
                        u32::from(second) << 24 | literal | LITERAL | 2 << 8 | length as u32;
                }
                for (&second, &behind) in with_codes(others.clone()) {
                    let second = entry(usize::from(second), second_length as u32);
                    if second & EXCEPTION == 0 {
                        // The bits of the literal's code count among those of both fields.
                        table[usize::from(code) | usize::from(behind) << first_length] =
                            (second + (bits << 8 | bits)) | literal | LITERAL_BEFORE;
                    }
                }
            }
        }
    }

    /// Codes longer than the index share subtables by their first bits.
    fn subtables(
        &self,
        index_bits: usize,
        mut code: usize,
        table: &mut [u32],
        entry: impl Fn(usize, u32) -> u32,
    ) -> Result<(), Damage> {
        let mask = (1 << index_bits) - 1;
        let (mut prefix, mut start, mut end) = (None, 0, 1 << index_bits);
        for length in index_bits + 1..=self.longest {
            for (at, &symbol) in (self.starts[length]..).zip(self.symbols(length)) {
                if prefix != Some(code & mask) {
                    prefix = Some(code & mask);
                    let bits = self.subtable_bits(index_bits, length, self.starts[length + 1] - at);
                    (start, end) = (end, end + (1 << bits));
                    table[code & mask] =
                        (start as u32) << 16 | EXCEPTION | SUBTABLE | (bits as u32) << 8 | index_bits as u32;
                }
                let entry = entry(usize::from(symbol), (length - index_bits) as u32);
                let subtable = table.get_mut(start..end).ok_or(Damage::Deflate)?;
                for slot in subtable.iter_mut().skip(code >> index_bits).step_by(1 << (length - index_bits)) {
                    *slot = entry;
                }
                code = next_code(code, length);
            }
        }
        Ok(())
    }

    /// How many bits index a subtable that begins with codes of `length` bits, of which `left` have no place yet.
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

/// The code of `length` bits behind `code`. Codes count upwards from their first bit, which is the lowest here.
fn next_code(code: usize, length: usize) -> usize {
    let free = !code & ((1 << length) - 1);
    // Behind the last code there is none; it does not matter then what is returned.
    let highest_free = free.checked_ilog2().map_or(0, |bit| 1 << bit);
    code & (highest_free.max(1) - 1) | highest_free
}
