//! The header of a block with dynamic Huffman codes: the lengths of its codes, which are compressed themselves (RFC
//! 1951, section 3.2.7).

use crate::{
    Error,
    bits::Bits,
    entry,
    huffman::{self, DISTANCE_SYMBOLS, LENGTH_CODE_BITS, LITLEN_SYMBOLS},
};

/// The order in which the header states the lengths of the codes for code lengths.
pub(crate) const LENGTH_CODE_ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

/// Copies the previous length 3 to 6 times (2 extra bits).
const REPEAT_PREVIOUS: usize = 16;
/// Repeats a length of 0 for 3 to 10 times (3 extra bits).
const REPEAT_ZERO: usize = 17;
/// Repeats a length of 0 for 11 to 138 times (7 extra bits).
const REPEAT_ZERO_LONG: usize = 18;

/// Reads the lengths of the codes of a block. The input may end anywhere within the header.
pub(crate) struct CodeLengths {
    literals: usize,
    distances: usize,
    /// How many lengths of codes for code lengths the header states.
    length_codes: usize,
    /// How many lengths of the current part of the header are read.
    read: usize,
    length_code_lengths: [u8; LENGTH_CODE_ORDER.len()],
    length_code_table: [u32; 1 << LENGTH_CODE_BITS],
    /// The lengths of the codes for literals and copy lengths, then of those for distances.
    lengths: [u8; LITLEN_SYMBOLS + DISTANCE_SYMBOLS],
}

impl CodeLengths {
    pub(crate) fn new() -> Self {
        Self {
            literals: 0,
            distances: 0,
            length_codes: 0,
            read: 0,
            length_code_lengths: [0; LENGTH_CODE_ORDER.len()],
            length_code_table: [0; 1 << LENGTH_CODE_BITS],
            lengths: [0; LITLEN_SYMBOLS + DISTANCE_SYMBOLS],
        }
    }

    /// Starts a header with its first 14 bits, which state how many codes there are.
    pub(crate) fn start(&mut self, counts: u32) -> Result<(), Error> {
        self.literals = (counts & 31) as usize + 257;
        self.distances = (counts >> 5 & 31) as usize + 1;
        self.length_codes = (counts >> 10) as usize + 4;
        self.length_code_lengths = [0; LENGTH_CODE_ORDER.len()];
        self.read = 0;
        if self.literals <= 286 && self.distances <= 30 { Ok(()) } else { Err(Error::Deflate) }
    }

    /// Reads the lengths of the codes for code lengths. Returns `false` if it needs more input.
    pub(crate) fn read_length_codes(&mut self, pending: &mut Bits, input: &mut &[u8]) -> Result<bool, Error> {
        while self.read < self.length_codes {
            pending.fill(input);
            let Some(length) = pending.number(3) else { return Ok(false) };
            self.length_code_lengths[LENGTH_CODE_ORDER[self.read]] = length as u8;
            self.read += 1;
        }
        huffman::build_length_codes(&self.length_code_lengths, &mut self.length_code_table)?;
        self.read = 0;
        Ok(true)
    }

    /// Reads the lengths of the codes for literals, copy lengths and distances. Returns `false` if it needs more input.
    pub(crate) fn read_lengths(&mut self, pending: &mut Bits, input: &mut &[u8]) -> Result<bool, Error> {
        while self.read < self.literals + self.distances {
            pending.fill(input);
            if !self.read_length(pending)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The lengths of the codes for literals and copy lengths, and those of the codes for distances.
    pub(crate) fn lengths(&self) -> (&[u8], &[u8]) {
        self.lengths[..self.literals + self.distances].split_at(self.literals)
    }

    /// Reads the next length, or several equal ones. Returns `false`, and consumes nothing, if not all of its bits are
    /// there.
    fn read_length(&mut self, pending: &mut Bits) -> Result<bool, Error> {
        let entry = self.length_code_table[(pending.buffer & ((1 << LENGTH_CODE_BITS) - 1)) as usize];
        let mut rest = *pending;
        if !rest.consume(entry::bits(entry)) {
            return Ok(false);
        }
        let (length, repeat, extra_bits) = match entry::value(entry) {
            REPEAT_PREVIOUS => {
                let previous = self.read.checked_sub(1).ok_or(Error::Deflate)?;
                (self.lengths[previous], 3, 2)
            }
            REPEAT_ZERO => (0, 3, 3),
            REPEAT_ZERO_LONG => (0, 11, 7),
            length => (length as u8, 1, 0),
        };
        let Some(more) = rest.number(extra_bits) else { return Ok(false) };
        *pending = rest;
        let end = self.read + repeat + more as usize;
        let all = self.literals + self.distances;
        self.lengths[..all].get_mut(self.read..end).ok_or(Error::Deflate)?.fill(length);
        self.read = end;
        Ok(true)
    }
}
