//! Decompresses deflate data (RFC 1951).

use std::fmt;

use crate::{
    Error, PIECE_BYTES, Window,
    bits::Bits,
    block_header::CodeLengths,
    huffman::{self, DISTANCE_ENTRIES, DISTANCE_SYMBOLS, END_OF_BLOCK, LITLEN_ENTRIES, LITLEN_SYMBOLS},
    symbols::{self, SLACK_BYTES, Stop, Tables},
};

/// Decompresses raw deflate data, without a gzip or zlib header around it.
///
/// Accepts and rejects exactly the data that zlib does.
pub struct Inflate {
    state: State,
    is_last_block: bool,
    pending: Bits,
    code_lengths: CodeLengths,
    tables: Tables,
}

/// The part of the stream that comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// A block: whether it is the last one, and its type.
    BlockStart,
    /// The length of a stored block, and its complement.
    StoredLength,
    /// The text of a stored block.
    Stored { left: usize },
    /// The number of codes of a block with dynamic codes.
    CodeCounts,
    /// The lengths of the codes for code lengths.
    LengthCodes,
    /// The lengths of all other codes.
    Lengths,
    /// The symbols of a block.
    Symbols,
    /// Nothing: the data is complete.
    End,
}

impl Inflate {
    /// Creates a decoder for the start of deflate data.
    pub fn new() -> Self {
        Self {
            state: State::BlockStart,
            is_last_block: false,
            pending: Bits::default(),
            code_lengths: CodeLengths::new(),
            tables: Tables { litlen: Box::new([0; LITLEN_ENTRIES]), distance: Box::new([0; DISTANCE_ENTRIES]) },
        }
    }

    /// Decompresses the next piece of text, at most [`PIECE_BYTES`], and appends it to `window`. Advances `input` past
    /// the bytes that it has read, and returns the length of the piece.
    ///
    /// Returns 0 when all of `input` is used, or when the data [is complete](Self::is_complete).
    ///
    /// # Errors
    /// [`Error::Deflate`]. Nothing is appended to the window in that case.
    pub fn push(&mut self, input: &mut &[u8], window: &mut Window) -> Result<usize, Error> {
        let (text, start) = window.room();
        let mut end = start;
        self.decode(input, text, &mut end, start + PIECE_BYTES - SLACK_BYTES)?;
        window.append_up_to(end);
        Ok(end - start)
    }

    /// Whether the last block has ended and all of its text is in the window.
    pub fn is_complete(&self) -> bool {
        self.state == State::End
    }

    /// Reads a byte that follows the complete data, such as one of a trailer: the decoder may have read some of these
    /// bytes from its input before it saw the end. Returns `None` if `input` is empty.
    ///
    /// # Panics
    /// If the data is not [complete](Self::is_complete).
    pub fn byte_after_end(&mut self, input: &mut &[u8]) -> Option<u8> {
        assert!(self.is_complete(), "the data is not complete");
        self.pending.byte().or_else(|| {
            let (&byte, rest) = input.split_first()?;
            *input = rest;
            Some(byte)
        })
    }

    /// Starts again at the start of other deflate data. Its text is appended to the same window, but cannot refer back
    /// to text that the window has now.
    pub fn restart(&mut self, window: &mut Window) {
        self.state = State::BlockStart;
        self.is_last_block = false;
        self.pending = Bits::default();
        window.forget_history();
    }

    /// Decodes until `end` is above `limit`, the input is used up, or the data is complete.
    fn decode(&mut self, input: &mut &[u8], text: &mut [u8], end: &mut usize, limit: usize) -> Result<(), Error> {
        while self.state != State::End {
            let next = match self.state {
                State::Symbols => match symbols::inflate(&self.tables, &mut self.pending, input, text, end, limit)? {
                    Stop::End => Some(self.after_block()),
                    Stop::Input | Stop::Output => None,
                },
                State::Stored { left: 0 } => Some(self.after_block()),
                State::Stored { left } => self.copy_stored(left, input, text, end, limit),
                _ => self.read_header(input)?,
            };
            match next {
                Some(next) => self.state = next,
                None => break,
            }
        }
        Ok(())
    }

    fn after_block(&mut self) -> State {
        if self.is_last_block {
            self.pending.align();
            State::End
        } else {
            State::BlockStart
        }
    }

    /// Copies text of a stored block, as much as there is input and room for. Returns `None` if it needs more input or
    /// room.
    fn copy_stored(
        &mut self,
        left: usize,
        input: &mut &[u8],
        text: &mut [u8],
        end: &mut usize,
        limit: usize,
    ) -> Option<State> {
        if *end > limit {
            return None;
        }
        if let Some(byte) = self.pending.byte() {
            text[*end] = byte;
            *end += 1;
            return Some(State::Stored { left: left - 1 });
        }
        let count = left.min(input.len()).min(limit + 1 - *end);
        let (stored, rest) = input.split_at(count);
        text[*end..*end + count].copy_from_slice(stored);
        *input = rest;
        *end += count;
        (count > 0).then_some(State::Stored { left: left - count })
    }

    /// Reads a part of a block's header. Returns what follows it, or `None` if it needs more input.
    fn read_header(&mut self, input: &mut &[u8]) -> Result<Option<State>, Error> {
        self.pending.fill(input);
        Ok(match self.state {
            State::BlockStart => match self.pending.number(3) {
                Some(header) => Some(self.start_block(header)?),
                None => None,
            },
            State::StoredLength => match self.pending.number(32) {
                Some(lengths) if lengths >> 16 == !lengths & 0xFFFF => {
                    Some(State::Stored { left: (lengths & 0xFFFF) as usize })
                }
                Some(_) => return Err(Error::Deflate),
                None => None,
            },
            State::CodeCounts => match self.pending.number(14) {
                Some(counts) => {
                    self.code_lengths.start(counts)?;
                    Some(State::LengthCodes)
                }
                None => None,
            },
            State::LengthCodes => {
                self.code_lengths.read_length_codes(&mut self.pending, input)?.then_some(State::Lengths)
            }
            State::Lengths => {
                if self.code_lengths.read_lengths(&mut self.pending, input)? {
                    self.build_dynamic_tables()?;
                    Some(State::Symbols)
                } else {
                    None
                }
            }
            State::Stored { .. } | State::Symbols | State::End => unreachable!("not a part of a header"),
        })
    }

    /// Starts a block with the three bits of its header (RFC 1951, section 3.2.3).
    fn start_block(&mut self, header: u32) -> Result<State, Error> {
        self.is_last_block = header & 1 != 0;
        match header >> 1 {
            0 => {
                self.pending.align();
                Ok(State::StoredLength)
            }
            1 => {
                self.build_fixed_tables()?;
                Ok(State::Symbols)
            }
            2 => Ok(State::CodeCounts),
            _ => Err(Error::Deflate),
        }
    }

    /// Builds the tables of the fixed codes (RFC 1951, section 3.2.6).
    fn build_fixed_tables(&mut self) -> Result<(), Error> {
        let mut literals = [8; LITLEN_SYMBOLS];
        literals[144..256].fill(9);
        literals[256..280].fill(7);
        huffman::build_litlen(&literals, &mut self.tables.litlen)?;
        huffman::build_distances(&[5; DISTANCE_SYMBOLS], &mut self.tables.distance)
    }

    /// Builds the tables of the codes whose lengths the block's header states.
    fn build_dynamic_tables(&mut self) -> Result<(), Error> {
        let (literals, distances) = self.code_lengths.lengths();
        if literals[END_OF_BLOCK] == 0 {
            return Err(Error::Deflate);
        }
        huffman::build_litlen(literals, &mut self.tables.litlen)?;
        huffman::build_distances(distances, &mut self.tables.distance)
    }
}

impl Default for Inflate {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Inflate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inflate").field("state", &self.state).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
