//! Decompresses gzip streams (RFC 1952): headers, checksums and lengths around deflate data.

use std::fmt;

use crc32fast::Hasher;

use crate::{Error, Inflate, Window};

/// Decompresses a gzip stream, to the end of its last member.
///
/// The text of all members is one text. A stream that ends early, or whose text does not match a checksum or a length,
/// is an [`Error`]: never a shorter text.
pub struct Gunzip {
    state: State,
    inflate: Inflate,
    /// The checksum of the member's header so far.
    header: Hasher,
    /// The checksum of the member's text so far.
    text: Hasher,
    /// The length of the member's text so far, modulo 2³², as the trailer states it.
    length: u32,
    has_read_header: bool,
}

/// The part of the stream that the next byte belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The ten bytes that every header begins with.
    Start { read: u8, flags: u8 },
    /// The length of the extra field, least significant byte first.
    ExtraLength { low: Option<u8>, flags: u8 },
    /// The extra field.
    Extra { left: u16, flags: u8 },
    /// The original file name, up to its zero byte.
    Name { flags: u8 },
    /// The comment, up to its zero byte.
    Comment { flags: u8 },
    /// The CRC-16 of the header: the lower half of its CRC-32, least significant byte first.
    HeaderChecksum { low: Option<u8> },
    /// The deflate data.
    Data,
    /// The CRC-32 of the text and its length, both least significant byte first.
    Trailer { read: u8, bytes: [u8; 8] },
    /// The first byte of a further member, unless the stream ends here.
    MemberEnd,
}

/// The magic number of a member, followed by its only compression method, deflate.
const MAGIC: [u8; 3] = [0x1F, 0x8B, 8];

// The flags in the header (RFC 1952, section 2.3.1).
const HEADER_CHECKSUM: u8 = 1 << 1;
const EXTRA: u8 = 1 << 2;
const NAME: u8 = 1 << 3;
const COMMENT: u8 = 1 << 4;
const RESERVED: u8 = 0b1110_0000;

impl Gunzip {
    /// Creates a decoder for the start of a gzip stream.
    pub fn new() -> Self {
        Self {
            state: State::Start { read: 0, flags: 0 },
            inflate: Inflate::new(),
            header: Hasher::new(),
            text: Hasher::new(),
            length: 0,
            has_read_header: false,
        }
    }

    /// Decompresses the next piece of text, at most [`PIECE_BYTES`](crate::PIECE_BYTES), and appends it to `window`.
    /// Advances `input` past the bytes that it has read, and returns the length of the piece.
    ///
    /// Returns 0 when all of `input` is used. Call it in a loop until then: the decoder also buffers some bytes of the
    /// input, so there may be more text when `input` is empty.
    ///
    /// # Errors
    /// Any [`Error`] but [`Error::Truncated`].
    pub fn push(&mut self, input: &mut &[u8], window: &mut Window) -> Result<usize, Error> {
        loop {
            self.state = match self.state {
                State::Data if self.inflate.is_complete() => State::Trailer { read: 0, bytes: [0; 8] },
                State::Data => {
                    let written = self.inflate_piece(input, window)?;
                    if written > 0 || !self.inflate.is_complete() {
                        return Ok(written);
                    }
                    State::Data
                }
                State::Trailer { read, bytes } => match self.inflate.byte_after_end(input) {
                    Some(byte) => self.read_trailer(read, bytes, byte)?,
                    None => return Ok(0),
                },
                State::MemberEnd if input.is_empty() => return Ok(0),
                State::MemberEnd => {
                    self.inflate.restart(window);
                    (self.header, self.text, self.length) = (Hasher::new(), Hasher::new(), 0);
                    State::Start { read: 0, flags: 0 }
                }
                _ => {
                    let Some((&byte, rest)) = input.split_first() else { return Ok(0) };
                    *input = rest;
                    self.read_header(byte)?
                }
            };
            self.has_read_header |= self.state == State::Data;
        }
    }

    /// Ends the stream.
    ///
    /// # Errors
    /// [`Error::Truncated`] if the stream ends within a member, or has none.
    pub fn finish(&self) -> Result<(), Error> {
        if self.state == State::MemberEnd { Ok(()) } else { Err(Error::Truncated) }
    }

    /// Whether the stream began with the complete and valid header of a member, even if there was an error since.
    pub fn has_read_header(&self) -> bool {
        self.has_read_header
    }

    /// Decompresses the next piece of a member's text, and adds it to checksum and length.
    fn inflate_piece(&mut self, input: &mut &[u8], window: &mut Window) -> Result<usize, Error> {
        let written = self.inflate.push(input, window)?;
        let text = window.text();
        // The checksum is computed here because the piece is still in the cache.
        self.text.update(&text[text.len() - written..]);
        self.length = self.length.wrapping_add(written as u32);
        Ok(written)
    }

    /// Reads a byte of a member's header; returns what follows it.
    fn read_header(&mut self, byte: u8) -> Result<State, Error> {
        if let State::HeaderChecksum { low } = self.state {
            let Some(low) = low else {
                return Ok(State::HeaderChecksum { low: Some(byte) });
            };
            let checksum = self.header.clone().finalize().to_le_bytes();
            return if checksum[..2] == [low, byte] { Ok(State::Data) } else { Err(Error::Header) };
        }
        self.header.update(&[byte]);
        Ok(match self.state {
            State::Start { read, .. } if read < 3 && byte != MAGIC[usize::from(read)] => return Err(Error::NotGzip),
            State::Start { read: 3, .. } if byte & RESERVED != 0 => return Err(Error::Header),
            State::Start { read: 3, .. } => State::Start { read: 4, flags: byte },
            State::Start { read: 9, flags } => after_start(flags),
            State::Start { read, flags } => State::Start { read: read + 1, flags },
            State::ExtraLength { low: None, flags } => State::ExtraLength { low: Some(byte), flags },
            State::ExtraLength { low: Some(low), flags } => match u16::from_le_bytes([low, byte]) {
                0 => after_extra(flags),
                left => State::Extra { left, flags },
            },
            State::Extra { left: 1, flags } => after_extra(flags),
            State::Extra { left, flags } => State::Extra { left: left - 1, flags },
            State::Name { flags } if byte == 0 => after_name(flags),
            State::Comment { flags } if byte == 0 => after_comment(flags),
            same => same,
        })
    }

    /// Reads a byte of a member's trailer, and compares checksum and length when all are there; returns what follows
    /// it.
    fn read_trailer(&mut self, read: u8, mut bytes: [u8; 8], byte: u8) -> Result<State, Error> {
        bytes[usize::from(read)] = byte;
        if read < 7 {
            return Ok(State::Trailer { read: read + 1, bytes });
        }
        let (checksum, length) = bytes.split_at(4);
        if self.text.clone().finalize().to_le_bytes() != checksum {
            Err(Error::Checksum)
        } else if self.length.to_le_bytes() != length {
            Err(Error::Length)
        } else {
            Ok(State::MemberEnd)
        }
    }
}

// The fields of a header in their order; `flags` says which of them it has.

fn after_start(flags: u8) -> State {
    if flags & EXTRA != 0 { State::ExtraLength { low: None, flags } } else { after_extra(flags) }
}

fn after_extra(flags: u8) -> State {
    if flags & NAME != 0 { State::Name { flags } } else { after_name(flags) }
}

fn after_name(flags: u8) -> State {
    if flags & COMMENT != 0 { State::Comment { flags } } else { after_comment(flags) }
}

fn after_comment(flags: u8) -> State {
    if flags & HEADER_CHECKSUM != 0 { State::HeaderChecksum { low: None } } else { State::Data }
}

impl Default for Gunzip {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Gunzip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gunzip").field("state", &self.state).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
