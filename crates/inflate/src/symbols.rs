//! The inner loop: decodes symbols and writes the text that they stand for.
//!
//! In vivadrop, one core inflates a file while the other cores wait for its rows, so this loop takes most of the time
//! of `decode`. One core needed 0.74 s for a million rows (964 MB of JSON), compared with 1.43 s for flate2 with
//! zlib-rs, 1.07 s for fdeflate and 0.99 s for ISA-L. The techniques that made the difference:
//! - Two literals share a table entry, and so do a literal and the copy length that follows it.
//! - An entry is used as a shift count without unpacking, and the next entry is looked up before the text of the
//!   current one is written. So the chain of operations from one symbol to the next is a shift, a mask and a load. This
//!   saved a fifth.
//! - Each copy moves 48 bytes, whatever its length. See [`copy`](crate::copy).
//! - The branch between literal and copy remains. A loop without any branch took 1.16 s, because every symbol waited
//!   for the longest path.
//!
//! Invariants of the loop in [`inflate`]; those of the table entries are in [`entry`]:
//!
//! | value | invariant |
//! |---|---|
//! | `buffer` | its lowest `count` bits are the next bits of the stream; the bits above them are the stream bits that follow, then 0 |
//! | `count` | 56 to 63 after `fill!`, when all 64 bits of `buffer` are bits of the stream |
//! | `input` | starts with the byte that follows the `count` bits |
//! | `entry` | the table entry for the next bits, which are not consumed yet |
//! | `out` | at most `limit` at the start of a round, below `limit + SLACK_BYTES` at its end |
//!
//! After a `fill!`, a path may consume 56 bits, and look at 64 bits:
//!
//! | path from one `fill!` to the next | bits consumed, at most |
//! |---|---|
//! | up to three entries of literals | 33: 11 bits of the index of each |
//! | a literal whose code is in a subtable | 15 |
//! | a copy | 48: 15 + 5 extra bits for the length (with a literal before it 11 + 5), 15 + 13 extra bits for the distance |
//! | looking up the next entry | none, but looks at 11 bits more: 59 after a copy |

use crate::{
    Error,
    bits::Bits,
    copy::{COPY_BYTES, copy_back},
    entry::{self, END, EXCEPTION, LITERAL, SUBTABLE, bits, literal_before, middle, value},
    huffman::{DISTANCE_BITS, DISTANCE_ENTRIES, LITLEN_BITS, LITLEN_ENTRIES},
    window,
};

/// How far past `limit` one round of the loop can write: seven bytes of literals, the longest copy, and the bytes that
/// a copy overwrites past its end.
pub(crate) const SLACK_BYTES: usize = 7 + 258 + COPY_BYTES;

const _: () = assert!(SLACK_BYTES <= window::SLACK_BYTES);

/// The decoding tables of a block.
pub(crate) struct Tables {
    pub(crate) litlen: Box<[u32; LITLEN_ENTRIES]>,
    pub(crate) distance: Box<[u32; DISTANCE_ENTRIES]>,
}

/// Why decoding stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The block is at its end.
    End,
    /// The next symbol needs more input.
    Input,
    /// The text has reached the limit.
    Output,
}

/// The entry of the main table for the next `BITS` bits.
fn lookup<const BITS: u32, const ENTRIES: usize>(table: &[u32; ENTRIES], buffer: u64) -> u32 {
    table[(buffer & ((1 << BITS) - 1)) as usize]
}

/// The entry of the subtable that `reference` refers to. `buffer` starts with the bits that follow the
/// index of the main table.
fn lookup_in_subtable<const ENTRIES: usize>(table: &[u32; ENTRIES], reference: u32, buffer: u64) -> u32 {
    table[(value(reference) + (buffer & ((1 << middle(reference)) - 1)) as usize) % ENTRIES]
}

/// Decodes symbols of a block, and writes their text to `text` from the index `at` on, which it advances.
///
/// Stops when `at` is above `limit`; it is then below `limit` + [`SLACK_BYTES`]. `text` must have that much room. The
/// bytes of `text` from `at` on have arbitrary values afterwards.
#[inline(never)]
pub(crate) fn inflate(
    tables: &Tables,
    pending: &mut Bits,
    bytes: &mut &[u8],
    text: &mut [u8],
    at: &mut usize,
    limit: usize,
) -> Result<Stop, Error> {
    // Local variables, so that they stay in registers.
    let Tables { litlen, distance } = tables;
    let (litlen, distance): (&[u32; LITLEN_ENTRIES], &[u32; DISTANCE_ENTRIES]) = (litlen, distance);
    let (mut input, mut out) = (*bytes, *at);
    let Bits { mut buffer, mut count } = *pending;

    // Adds the next eight bytes above the `count` bits, and consumes the bytes that fit completely. The bits of the
    // byte that fits partly stay above `count`; the next `fill!` adds the same bits there again.
    macro_rules! fill {
        () => {
            match input.first_chunk::<8>() {
                Some(next) => {
                    buffer |= u64::from_le_bytes(*next) << count;
                    input = &input[((63 - count) / 8) as usize..];
                    count |= 56;
                }
                None => break Stop::Input,
            }
        };
    }
    // Writes the literals of `$entry`, and replaces it by the next entry. Always writes two bytes, even if only one
    // counts, because a branch costs more.
    macro_rules! write_literals {
        ($entry:ident) => {
            buffer = buffer.wrapping_shr($entry);
            count -= bits($entry);
            let next = lookup::<LITLEN_BITS, _>(litlen, buffer);
            text[out..out + 2].copy_from_slice(&(value($entry) as u16).to_le_bytes());
            out += ($entry >> 8 & 3) as usize;
            $entry = next;
        };
    }

    // Zero literals in zero bits: the first round does nothing but look up the first entry.
    let mut entry = LITERAL;
    let stop = loop {
        if out > limit {
            break Stop::Output;
        }
        fill!();
        if entry & LITERAL != 0 {
            write_literals!(entry);
            if entry & LITERAL != 0 {
                write_literals!(entry);
                if entry & LITERAL != 0 {
                    write_literals!(entry);
                    continue;
                }
            }
            fill!();
        }
        if entry & EXCEPTION != 0 {
            if entry & SUBTABLE != 0 {
                buffer >>= LITLEN_BITS;
                count -= LITLEN_BITS;
                entry = lookup_in_subtable(litlen, entry, buffer);
                if entry & LITERAL != 0 {
                    write_literals!(entry);
                    continue;
                }
            }
            if entry & EXCEPTION != 0 {
                if entry & END == 0 {
                    return Err(Error::Deflate);
                }
                buffer >>= bits(entry);
                count -= bits(entry);
                break Stop::End;
            }
        }
        let (literal, count_before) = literal_before(entry);
        text[out] = literal;
        out += count_before;
        let length = entry::length(entry, buffer);
        buffer = buffer.wrapping_shr(entry);
        count -= bits(entry);

        let mut distance_entry = lookup::<DISTANCE_BITS, _>(distance, buffer);
        if distance_entry & EXCEPTION != 0 {
            if distance_entry & SUBTABLE == 0 {
                return Err(Error::Deflate);
            }
            buffer >>= DISTANCE_BITS;
            count -= DISTANCE_BITS;
            distance_entry = lookup_in_subtable(distance, distance_entry, buffer);
            if distance_entry & EXCEPTION != 0 {
                return Err(Error::Deflate);
            }
        }
        let back = entry::distance(distance_entry, buffer);
        buffer = buffer.wrapping_shr(distance_entry);
        count -= bits(distance_entry);

        entry = lookup::<LITLEN_BITS, _>(litlen, buffer);
        copy_back(text, out, back, length)?;
        out += length;
    };
    (*bytes, *at) = (input, out);
    *pending = Bits { buffer: buffer & ((1 << count) - 1), count };
    if stop == Stop::Input { last_symbols(tables, pending, bytes, text, at, limit) } else { Ok(stop) }
}

/// Does the same as [`inflate`] one symbol at a time, for the last bytes of the input, which may end within a symbol.
fn last_symbols(
    tables: &Tables,
    pending: &mut Bits,
    bytes: &mut &[u8],
    text: &mut [u8],
    at: &mut usize,
    limit: usize,
) -> Result<Stop, Error> {
    while *at <= limit {
        pending.fill(bytes);
        let mut rest = *pending;
        match next_symbol(tables, &mut rest)? {
            None => return Ok(Stop::Input),
            Some(Symbol::Literals(entry)) => {
                text[*at..*at + 2].copy_from_slice(&(value(entry) as u16).to_le_bytes());
                *at += middle(entry) as usize & 3;
            }
            Some(Symbol::Copy { literal_before: (literal, count), distance, length }) => {
                text[*at] = literal;
                *at += count;
                copy_back(text, *at, distance, length)?;
                *at += length;
            }
            Some(Symbol::End) => {
                *pending = rest;
                return Ok(Stop::End);
            }
        }
        *pending = rest;
    }
    Ok(Stop::Output)
}

/// The meaning of an entry, together with the entry of the distance that follows it.
enum Symbol {
    /// The literals of this entry.
    Literals(u32),
    Copy {
        literal_before: (u8, usize),
        distance: usize,
        length: usize,
    },
    End,
}

/// Consumes the next symbol; returns `None` if not all of its bits are there yet. A code is invalid only once all of
/// its bits are there.
fn next_symbol(tables: &Tables, pending: &mut Bits) -> Result<Option<Symbol>, Error> {
    let entry = lookup::<LITLEN_BITS, _>(&tables.litlen, pending.buffer);
    let Some((entry, buffer)) = consume_code(&tables.litlen, entry, pending) else { return Ok(None) };
    if entry & LITERAL != 0 {
        return Ok(Some(Symbol::Literals(entry)));
    }
    if entry & EXCEPTION != 0 {
        return if entry & END != 0 { Ok(Some(Symbol::End)) } else { Err(Error::Deflate) };
    }
    let (literal_before, length) = (literal_before(entry), entry::length(entry, buffer));
    let entry = lookup::<DISTANCE_BITS, _>(&tables.distance, pending.buffer);
    let Some((entry, buffer)) = consume_code(&tables.distance, entry, pending) else { return Ok(None) };
    if entry & EXCEPTION != 0 {
        return Err(Error::Deflate);
    }
    Ok(Some(Symbol::Copy { literal_before, distance: entry::distance(entry, buffer), length }))
}

/// Consumes the bits of the code whose entry in the main table is `entry`. Returns its entry, from the subtable if it
/// has one, and the buffer that starts with the bits of that entry.
fn consume_code<const ENTRIES: usize>(
    table: &[u32; ENTRIES],
    mut entry: u32,
    pending: &mut Bits,
) -> Option<(u32, u64)> {
    if entry & (EXCEPTION | SUBTABLE) == EXCEPTION | SUBTABLE {
        pending.consume(bits(entry)).then_some(())?;
        entry = lookup_in_subtable(table, entry, pending.buffer);
    }
    let buffer = pending.buffer;
    pending.consume(bits(entry)).then_some((entry, buffer))
}
