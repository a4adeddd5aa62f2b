//! The entries of the decoding tables.
//!
//! The next bits of the stream are the index of an entry, which contains their meaning. The layout of an entry keeps
//! the inner loop short: the loop needs few operations, mostly shifts, to use an entry. From the least significant bit:
//!
//! | entry | bits 0 to 4 | bits 8 to 11 | bits 12 to 15 | bits 16 to 31 |
//! |---|---|---|---|---|
//! | one or two literals | length of the codes | number of literals, 1 or 2 | `LITERAL` | the literals |
//! | copy length | length of the codes, and extra bits | length of the codes | `LITERAL_BEFORE` or 0 | bits 16 to 23: the literal before the copy; bits 24 to 31: base length minus 3 |
//! | copy distance | length of the code, and extra bits | length of the code | 0 | base distance |
//! | reference to a subtable | index bits of the main table | index bits of the subtable | `EXCEPTION`, `SUBTABLE` | index of the subtable's first entry |
//! | end of the block | length of the code | 0 | `EXCEPTION`, `END` | 0 |
//! | invalid code | length of the code, or 1 | 0 | `EXCEPTION` | 0 |
//!
//! Invariants that the inner loop relies on:
//!
//! | invariant | purpose |
//! |---|---|
//! | Bits 5 to 7 are 0. | `buffer.wrapping_shr(entry)` shifts by bits 0 to 5 of the entry, without a mask. |
//! | Bits 8 to 12 of a copy are the length of its codes, which is below 16. | `wrapping_shr(entry >> 8)` of 32 bits needs no mask either. |
//! | An entry with both `LITERAL` and `EXCEPTION` does not exist. | The loop tests `LITERAL` first, and `EXCEPTION` only without it. |
//! | `SUBTABLE` and `LITERAL_BEFORE` are the same bit: only an `EXCEPTION` is a subtable, only a copy has a literal before it. | There are not enough bits for both. |
//! | In a subtable, lengths of codes exclude the index bits of the main table. | The loop has consumed those already. |

/// The entry has one or two literals.
pub(crate) const LITERAL: u32 = 1 << 15;
/// The entry is neither literals nor a copy.
pub(crate) const EXCEPTION: u32 = 1 << 14;
/// The exception refers to a subtable.
pub(crate) const SUBTABLE: u32 = 1 << 13;
/// The exception is the end of the block.
pub(crate) const END: u32 = 1 << 12;
/// The copy follows a literal.
const LITERAL_BEFORE: u32 = 1 << 13;

/// The length of the shortest copy.
pub(crate) const SHORTEST_COPY: u16 = 3;

/// An entry with one literal, whose code has `bits` bits.
pub(crate) fn one_literal(literal: usize, bits: u32) -> u32 {
    (literal as u32) << 16 | LITERAL | 1 << 8 | bits
}

/// An entry with two literals, whose codes have `bits` bits together.
pub(crate) fn two_literals(first: u16, second: u16, bits: u32) -> u32 {
    u32::from(second) << 24 | u32::from(first) << 16 | LITERAL | 2 << 8 | bits
}

/// The entry of a copy length or distance: `value` is its upper half, and its code of `bits` bits is followed by
/// `extra_bits`.
pub(crate) fn copy(value: u32, bits: u32, extra_bits: u32) -> u32 {
    value << 16 | bits << 8 | (bits + extra_bits)
}

/// The entry of a copy length, with a literal before it whose code has `bits` bits.
pub(crate) fn with_literal_before(copy: u32, literal: u16, bits: u32) -> u32 {
    // The literal's code is part of what both fields count.
    (copy + (bits << 8 | bits)) | u32::from(literal) << 16 | LITERAL_BEFORE
}

/// The entry of the code that ends a block.
pub(crate) fn end_of_block(bits: u32) -> u32 {
    EXCEPTION | END | bits
}

/// The entry of a code that is invalid.
pub(crate) fn invalid(bits: u32) -> u32 {
    EXCEPTION | bits
}

/// A reference from a main table with `index_bits` to the subtable with `subtable_bits` that begins at `start`.
pub(crate) fn subtable(start: usize, subtable_bits: usize, index_bits: usize) -> u32 {
    (start as u32) << 16 | EXCEPTION | SUBTABLE | (subtable_bits as u32) << 8 | index_bits as u32
}

/// How many bits of the stream the entry stands for.
pub(crate) fn bits(entry: u32) -> u32 {
    entry & 31
}

/// The upper half of the entry.
pub(crate) fn value(entry: u32) -> usize {
    (entry >> 16) as usize
}

/// Bits 8 to 11: the number of literals, the length of the codes, or the index bits of a subtable.
pub(crate) fn middle(entry: u32) -> u32 {
    entry >> 8 & 15
}

/// The literal before a copy, and how many there are: 0 or 1.
pub(crate) fn literal_before(entry: u32) -> (u8, usize) {
    (value(entry) as u8, usize::from(entry & LITERAL_BEFORE != 0))
}

/// The copy length of an entry. `buffer` begins with its codes and extra bits.
pub(crate) fn length(entry: u32, buffer: u64) -> usize {
    usize::from(SHORTEST_COPY) + (entry >> 24) as usize + extra(entry, buffer)
}

/// The copy distance of an entry. `buffer` begins with its code and extra bits.
pub(crate) fn distance(entry: u32, buffer: u64) -> usize {
    value(entry) + extra(entry, buffer)
}

/// The value of the extra bits, which follow the code.
fn extra(entry: u32, buffer: u64) -> usize {
    // Shifts of 32 bits use the five lowest bits of their operand: nothing needs to be masked.
    let codes_and_extra = buffer as u32 & (1_u32.wrapping_shl(entry).wrapping_sub(1));
    codes_and_extra.wrapping_shr(entry >> 8) as usize
}
