//! The inner loop: symbols looked up and written.
//!
//! One core inflates a file while the others wait for its rows, so this loop is what `decode` takes its time for. What it
//! does and what that was worth, in a million rows on one core (flate2 with zlib-rs 1.43 s, fdeflate 1.07 s, ISA-L 0.99 s,
//! this 0.74 s):
//! - Two literals are written with one look-up, and so is one literal with the copy behind it.
//! - An entry is a shift count as it is, and the next entry is looked up before the last one is written: from symbol to symbol
//!   there are a shift, a mask and a load. That alone was a fifth.
//! - Copies are of 48 bytes, whatever the length: nine of ten are not longer, and a branch that is hard to foresee costs more
//!   than bytes that are overwritten later.
//! - Branches between literal and copy stay. Without any, all symbols waited for the longest way: 1.16 s.

use super::{
    Damage,
    bits::Bits,
    codes::{
        self, DISTANCE_BITS, DISTANCE_ENTRIES, END, EXCEPTION, LITERAL, LITLEN_BITS, LITLEN_ENTRIES, SUBTABLE, bits,
        literal_before, middle, value,
    },
};

/// How far one round of the loop writes behind its end at most: seven literals, the longest copy and what overshoots it.
pub(super) const SLACK: usize = 7 + 258 + COPY;

/// How much is copied at once.
const COPY: usize = 48;

/// The codes of a block.
pub(super) struct Tables {
    pub(super) litlen: Box<[u32; LITLEN_ENTRIES]>,
    pub(super) distance: Box<[u32; DISTANCE_ENTRIES]>,
}

/// Why a block stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pause {
    /// It is at its end.
    End,
    /// The next symbol is not there yet.
    Input,
    /// There is as much text as was asked for.
    Output,
}

/// The next entry of the main table, whose index has `BITS` bits.
fn next_entry<const BITS: u32, const ENTRIES: usize>(table: &[u32; ENTRIES], buffer: u64) -> u32 {
    table[(buffer & ((1 << BITS) - 1)) as usize]
}

/// The entry in the subtable that `entry` refers to; `buffer` begins behind the index of the main table.
fn within<const ENTRIES: usize>(table: &[u32; ENTRIES], entry: u32, buffer: u64) -> u32 {
    table[(value(entry) + (buffer & ((1 << middle(entry)) - 1)) as usize) % ENTRIES]
}

/// Writes the text of a block from `at` on, where what was written before ends.
///
/// Stops behind `limit`, by less than [`SLACK`]; `text` has that much room, and what is in it behind the end is worthless.
#[inline(never)]
pub(super) fn inflate(
    tables: &Tables,
    pending: &mut Bits,
    bytes: &mut &[u8],
    text: &mut [u8],
    at: &mut usize,
    limit: usize,
) -> Result<Pause, Damage> {
    // In locals, so that they stay in registers.
    let Tables { litlen, distance } = tables;
    let (litlen, distance): (&[u32; LITLEN_ENTRIES], &[u32; DISTANCE_ENTRIES]) = (litlen, distance);
    let (mut input, mut out) = (*bytes, *at);
    let Bits { mut buffer, mut count } = *pending;

    // Eight bytes are put behind the `count` bits, and as many are taken as fit in whole. What is left of them stays above
    // the count, and is put there once more by the next time.
    macro_rules! fill {
        () => {
            match input.first_chunk::<8>() {
                Some(next) => {
                    buffer |= u64::from_le_bytes(*next) << count;
                    input = &input[((63 - count) / 8) as usize..];
                    count |= 56;
                }
                None => break Pause::Input,
            }
        };
    }
    // Writes the literals of `entry`, which becomes the next one. Two bytes are written where one counts: a branch costs more.
    macro_rules! write_literals {
        ($entry:ident) => {
            buffer = buffer.wrapping_shr($entry);
            count -= bits($entry);
            let next = next_entry::<LITLEN_BITS, _>(litlen, buffer);
            text[out..out + 2].copy_from_slice(&(value($entry) as u16).to_le_bytes());
            out += ($entry >> 8 & 3) as usize;
            $entry = next;
        };
    }

    // No literals, in no bits: the first round looks the first entry up.
    let mut entry = LITERAL;
    let pause = loop {
        if out > limit {
            break Pause::Output;
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
                entry = within(litlen, entry, buffer);
                if entry & LITERAL != 0 {
                    write_literals!(entry);
                    continue;
                }
            }
            if entry & EXCEPTION != 0 {
                if entry & END == 0 {
                    return Err(Damage::Deflate);
                }
                buffer >>= bits(entry);
                count -= bits(entry);
                break Pause::End;
            }
        }
        // 56 bits are enough for what follows: 20 of a length, or 16 with a literal before it, and 28 of a distance at most.
        let (literal, count_before) = literal_before(entry);
        text[out] = literal;
        out += count_before;
        let length = codes::length(entry, buffer);
        buffer = buffer.wrapping_shr(entry);
        count -= bits(entry);

        let mut far = next_entry::<DISTANCE_BITS, _>(distance, buffer);
        if far & EXCEPTION != 0 {
            if far & SUBTABLE == 0 {
                return Err(Damage::Deflate);
            }
            buffer >>= DISTANCE_BITS;
            count -= DISTANCE_BITS;
            far = within(distance, far, buffer);
            if far & EXCEPTION != 0 {
                return Err(Damage::Deflate);
            }
        }
        let back = codes::distance(far, buffer);
        buffer = buffer.wrapping_shr(far);
        count -= bits(far);

        entry = next_entry::<LITLEN_BITS, _>(litlen, buffer);
        copy_back(text, out, back, length)?;
        out += length;
    };
    (*bytes, *at) = (input, out);
    *pending = Bits { buffer: buffer & ((1 << count) - 1), count };
    if pause == Pause::Input { last_symbols(tables, pending, bytes, text, at, limit) } else { Ok(pause) }
}

/// Does the same symbol by symbol, for the last bytes, which may end within one.
fn last_symbols(
    tables: &Tables,
    pending: &mut Bits,
    bytes: &mut &[u8],
    text: &mut [u8],
    at: &mut usize,
    limit: usize,
) -> Result<Pause, Damage> {
    while *at <= limit {
        pending.fill(bytes);
        let mut behind = *pending;
        match next_symbol(tables, &mut behind)? {
            None => return Ok(Pause::Input),
            Some(Symbol::Literals(entry)) => {
                text[*at..*at + 2].copy_from_slice(&(value(entry) as u16).to_le_bytes());
                *at += middle(entry) as usize & 3;
            }
            Some(Symbol::Copy { before: (literal, count), distance, length }) => {
                text[*at] = literal;
                *at += count;
                copy_back(text, *at, distance, length)?;
                *at += length;
            }
            Some(Symbol::End) => {
                *pending = behind;
                return Ok(Pause::End);
            }
        }
        *pending = behind;
    }
    Ok(Pause::Output)
}

enum Symbol {
    Literals(u32),
    Copy { before: (u8, usize), distance: usize, length: usize },
    End,
}

/// The next symbol, or `None` when not all of its bits are there yet: nothing is damaged before it is there.
fn next_symbol(tables: &Tables, pending: &mut Bits) -> Result<Option<Symbol>, Damage> {
    let entry = next_entry::<LITLEN_BITS, _>(&tables.litlen, pending.buffer);
    let Some((entry, buffer)) = looked_up(&tables.litlen, entry, pending) else { return Ok(None) };
    if entry & LITERAL != 0 {
        return Ok(Some(Symbol::Literals(entry)));
    }
    if entry & EXCEPTION != 0 {
        return if entry & END != 0 { Ok(Some(Symbol::End)) } else { Err(Damage::Deflate) };
    }
    let (before, length) = (literal_before(entry), codes::length(entry, buffer));
    let entry = next_entry::<DISTANCE_BITS, _>(&tables.distance, pending.buffer);
    let Some((entry, buffer)) = looked_up(&tables.distance, entry, pending) else { return Ok(None) };
    if entry & EXCEPTION != 0 {
        return Err(Damage::Deflate);
    }
    Ok(Some(Symbol::Copy { before, distance: codes::distance(entry, buffer), length }))
}

/// The entry of the next code, after a look into the subtable where it has one, and the bits that it stands for.
fn looked_up<const ENTRIES: usize>(table: &[u32; ENTRIES], mut entry: u32, pending: &mut Bits) -> Option<(u32, u64)> {
    if entry & (EXCEPTION | SUBTABLE) == EXCEPTION | SUBTABLE {
        pending.skip(bits(entry)).then_some(())?;
        entry = within(table, entry, pending.buffer);
    }
    let buffer = pending.buffer;
    pending.skip(bits(entry)).then_some((entry, buffer))
}

/// Writes at `out` what was written `distance` before it, `length` bytes of it.
#[inline(always)]
fn copy_back(text: &mut [u8], out: usize, distance: usize, length: usize) -> Result<(), Damage> {
    let from = out.checked_sub(distance).ok_or(Damage::Deflate)?;
    if distance < COPY {
        repeat(text, from, out, length);
        return Ok(());
    }
    text.copy_within(from..from + COPY, out);
    if length > COPY {
        let mut done = COPY;
        while done < length {
            text.copy_within(from + done..from + done + COPY, out + done);
            done += COPY;
        }
    }
    Ok(())
}

/// Copies what runs into itself.
#[cold]
fn repeat(text: &mut [u8], from: usize, out: usize, length: usize) {
    const STEP: usize = 16;
    let distance = out - from;
    if distance == 1 {
        let byte = text[from];
        text[out..out + length].fill(byte);
        return;
    }
    // Each step copies what the one before made right.
    for done in (0..length).step_by(distance.min(STEP)) {
        text.copy_within(from + done..from + done + STEP, out + done);
    }
}
