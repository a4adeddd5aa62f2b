//! Deflated text inflated (RFC 1951). Knows blocks, codes and distances, and nothing of what is around them.
//!
//! Its own, because inflating is what a core does most of the time here, and none of the crates was as quick on drops: the
//! numbers are in [`symbols`]. What flate2 takes is taken, what it refuses is refused; the tests hold the two side by side.

use super::{
    Damage, PIECE_BYTES,
    window::{NextText, SLACK_BYTES, Window},
};

mod bits;
mod codes;
mod symbols;

use bits::Bits;
use codes::{DISTANCE_CODES, DISTANCE_ENTRIES, END_OF_BLOCK, LENGTH_CODE_BITS, LITLEN_CODES, LITLEN_ENTRIES};
use symbols::{Pause, SLACK, Tables};

const _: () = assert!(SLACK <= SLACK_BYTES);

/// Inflates a stream of bytes.
pub struct Inflate {
    state: State,
    is_last_block: bool,
    pending: Bits,
    lengths: Lengths,
    tables: Box<Tables>,
}

/// What comes next in the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Whether the block is the last, and its kind.
    Block,
    /// The length of stored text, twice.
    StoredLength,
    Stored {
        left: usize,
    },
    /// How many codes there are.
    Counts,
    /// The lengths of the codes for lengths of codes.
    LengthCodes {
        seen: usize,
    },
    /// The lengths of the codes.
    Lengths {
        seen: usize,
    },
    Symbols,
    End,
}

/// The header of a block with codes of its own.
struct Lengths {
    literals: usize,
    distances: usize,
    length_codes: usize,
    /// Of the literals, then of the distances.
    lengths: [u8; LITLEN_CODES + DISTANCE_CODES],
    of_length_codes: [u8; ORDER.len()],
    table: [u32; 1 << LENGTH_CODE_BITS],
}

/// The order in which the lengths of the codes for lengths come.
const ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

impl Inflate {
    /// Begins at the start of deflated data.
    pub fn new() -> Self {
        Self {
            state: State::Block,
            is_last_block: false,
            pending: Bits::default(),
            lengths: Lengths {
                literals: 0,
                distances: 0,
                length_codes: 0,
                lengths: [0; LITLEN_CODES + DISTANCE_CODES],
                of_length_codes: [0; ORDER.len()],
                table: [0; 1 << LENGTH_CODE_BITS],
            },
            tables: Box::new(Tables {
                litlen: Box::new([0; LITLEN_ENTRIES]),
                distance: Box::new([0; DISTANCE_ENTRIES]),
            }),
        }
    }

    /// Takes what is needed of the next bytes; writes the text that they hold to `window` and hands on each piece of it.
    /// Says whether the data is at its end.
    pub fn push<E: From<Damage>>(
        &mut self,
        bytes: &mut &[u8],
        window: &mut Window,
        next: NextText<'_, E>,
    ) -> Result<bool, E> {
        loop {
            let pause = window.write_piece(|text, end| {
                let limit = *end + PIECE_BYTES - SLACK;
                self.piece(bytes, text, end, limit)
            })?;
            if !window.piece().is_empty() {
                next(window)?;
            }
            match pause {
                Pause::Output => {}
                Pause::Input => return Ok(false),
                Pause::End => return Ok(true),
            }
        }
    }

    /// A byte behind the end of the data: bytes are taken before it is known to be at its end.
    pub fn byte_behind(&mut self, bytes: &mut &[u8]) -> Option<u8> {
        debug_assert!(self.state == State::End, "there is nothing behind the end before it");
        self.pending.byte().or_else(|| {
            let (&byte, rest) = bytes.split_first()?;
            *bytes = rest;
            Some(byte)
        })
    }

    /// Begins anew at the start of other data, from which there is no way back into the text before.
    pub fn restart(&mut self, window: &mut Window) {
        (self.state, self.is_last_block) = (State::Block, false);
        self.pending = Bits::default();
        window.forget();
    }

    /// Inflates to just before `limit` + [`SLACK`], to the end of the bytes, or to the end of the data.
    fn piece(&mut self, bytes: &mut &[u8], text: &mut [u8], end: &mut usize, limit: usize) -> Result<Pause, Damage> {
        loop {
            let state = match self.state {
                State::Symbols => match symbols::inflate(&self.tables, &mut self.pending, bytes, text, end, limit)? {
                    Pause::End => Some(self.behind_block()),
                    pause => return Ok(pause),
                },
                State::Stored { left: 0 } => Some(self.behind_block()),
                State::Stored { .. } if *end > limit => return Ok(Pause::Output),
                State::Stored { left } => self.stored(left, bytes, text, end, limit),
                State::End => return Ok(Pause::End),
                header => self.header(header, bytes)?,
            };
            match state {
                Some(state) => self.state = state,
                None => return Ok(Pause::Input),
            }
        }
    }

    fn behind_block(&mut self) -> State {
        if self.is_last_block {
            self.pending.align();
            State::End
        } else {
            State::Block
        }
    }

    /// Copies stored text, as much as there is room for and there are bytes for.
    fn stored(
        &mut self,
        left: usize,
        bytes: &mut &[u8],
        text: &mut [u8],
        end: &mut usize,
        limit: usize,
    ) -> Option<State> {
        if let Some(byte) = self.pending.byte() {
            text[*end] = byte;
            *end += 1;
            return Some(State::Stored { left: left - 1 });
        }
        let count = left.min(bytes.len()).min(limit + 1 - *end);
        let (stored, rest) = bytes.split_at(count);
        text[*end..*end + count].copy_from_slice(stored);
        *bytes = rest;
        *end += count;
        (count > 0).then_some(State::Stored { left: left - count })
    }

    /// Reads a part of a block's header; returns what comes behind it, or `None` when not all of it is there yet.
    fn header(&mut self, state: State, bytes: &mut &[u8]) -> Result<Option<State>, Damage> {
        self.pending.fill(bytes);
        Ok(match state {
            State::Block => {
                let Some(header) = self.pending.number(3) else { return Ok(None) };
                self.is_last_block = header & 1 != 0;
                Some(match header >> 1 {
                    0 => {
                        self.pending.align();
                        State::StoredLength
                    }
                    1 => {
                        self.fixed_codes()?;
                        State::Symbols
                    }
                    2 => State::Counts,
                    _ => return Err(Damage::Deflate),
                })
            }
            State::StoredLength => match self.pending.number(32) {
                None => None,
                Some(length) if length >> 16 == !length & 0xFFFF => {
                    Some(State::Stored { left: (length & 0xFFFF) as usize })
                }
                Some(_) => return Err(Damage::Deflate),
            },
            State::Counts => match self.pending.number(14) {
                None => None,
                Some(counts) => Some(self.lengths.begin(counts)?),
            },
            State::LengthCodes { seen } => match self.pending.number(3) {
                None => None,
                Some(length) => Some(self.lengths.length_code(seen, length as u8)?),
            },
            State::Lengths { seen } => self.code_lengths(seen, bytes)?,
            State::Stored { .. } | State::Symbols | State::End => None,
        })
    }

    /// Reads lengths of codes until all are there, and makes the tables of the codes.
    fn code_lengths(&mut self, mut seen: usize, bytes: &mut &[u8]) -> Result<Option<State>, Damage> {
        while seen < self.lengths.literals + self.lengths.distances {
            match self.lengths.next(seen, &mut self.pending, bytes)? {
                Some(behind) => seen = behind,
                None => {
                    self.state = State::Lengths { seen };
                    return Ok(None);
                }
            }
        }
        let (literals, distances) = self.lengths.lengths[..seen].split_at(self.lengths.literals);
        if literals[END_OF_BLOCK] == 0 {
            return Err(Damage::Deflate);
        }
        codes::litlen(literals, &mut self.tables.litlen)?;
        codes::distances(distances, &mut self.tables.distance)?;
        Ok(Some(State::Symbols))
    }

    /// Makes the tables of the codes that are the same for all blocks that have none of their own.
    fn fixed_codes(&mut self) -> Result<(), Damage> {
        let mut literals = [8; LITLEN_CODES];
        literals[144..256].fill(9);
        literals[256..280].fill(7);
        codes::litlen(&literals, &mut self.tables.litlen)?;
        codes::distances(&[5; DISTANCE_CODES], &mut self.tables.distance)
    }
}

impl Default for Inflate {
    fn default() -> Self {
        Self::new()
    }
}

impl Lengths {
    fn begin(&mut self, counts: u32) -> Result<State, Damage> {
        self.literals = (counts & 31) as usize + 257;
        self.distances = (counts >> 5 & 31) as usize + 1;
        self.length_codes = (counts >> 10) as usize + 4;
        self.of_length_codes = [0; ORDER.len()];
        let are_possible = self.literals <= 286 && self.distances <= 30;
        are_possible.then_some(State::LengthCodes { seen: 0 }).ok_or(Damage::Deflate)
    }

    fn length_code(&mut self, seen: usize, length: u8) -> Result<State, Damage> {
        self.of_length_codes[ORDER[seen]] = length;
        if seen + 1 < self.length_codes {
            return Ok(State::LengthCodes { seen: seen + 1 });
        }
        codes::length_codes(&self.of_length_codes, &mut self.table)?;
        Ok(State::Lengths { seen: 0 })
    }

    /// Reads the next length, or several that are the same; returns how many there are then.
    fn next(&mut self, seen: usize, pending: &mut Bits, bytes: &mut &[u8]) -> Result<Option<usize>, Damage> {
        pending.fill(bytes);
        let entry = self.table[(pending.buffer & ((1 << LENGTH_CODE_BITS) - 1)) as usize];
        let mut behind = *pending;
        if !behind.skip(codes::bits(entry)) {
            return Ok(None);
        }
        let (length, least, extra) = match codes::value(entry) {
            16 => (*seen.checked_sub(1).map(|last| &self.lengths[last]).ok_or(Damage::Deflate)?, 3, 2),
            17 => (0, 3, 3),
            18 => (0, 11, 7),
            length => (length as u8, 1, 0),
        };
        let Some(more) = behind.number(extra) else { return Ok(None) };
        *pending = behind;
        let end = seen + least + more as usize;
        let all = self.literals + self.distances;
        self.lengths[..all].get_mut(seen..end).ok_or(Damage::Deflate)?.fill(length);
        Ok(Some(end))
    }
}

#[cfg(test)]
mod tests;
