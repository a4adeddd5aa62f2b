//! gzip undone (RFC 1952), to the last member. Knows headers, checksums and lengths, and leaves the rest to [`inflate`].
//!
//! [`inflate`]: super::inflate
//!
//! A stream that stops early, or is not what its checksum says, is [`Damage`]: never a shorter text.

use crc32fast::Hasher;

use super::{
    Damage,
    inflate::Inflate,
    window::{NextText, Window},
};

/// Decompresses a stream of gzip members.
pub struct Gunzip {
    at: At,
    inflate: Inflate,
    header: Hasher,
    text: Hasher,
    /// The length of the member's text so far, modulo 2³², as gzip counts it.
    length: u32,
    is_begun: bool,
}

/// What the next byte belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// The ten bytes that every member begins with; how many are there, and the flags.
    Start { seen: u8, flags: u8 },
    /// The length of the extra field.
    ExtraLength { low: Option<u8>, flags: u8 },
    /// The extra field.
    Extra { left: u16, flags: u8 },
    /// The original file name, to its zero byte.
    Name { flags: u8 },
    /// A comment, to its zero byte.
    Comment { flags: u8 },
    /// The lower half of the header's CRC-32.
    HeaderChecksum { low: Option<u8> },
    /// Deflated text.
    Text,
    /// The CRC-32 of the text and its length, both with the lowest byte first.
    Trailer { seen: u8, bytes: [u8; 8] },
    /// Behind a member: the end, or another one.
    Between,
}

/// The first bytes of a member: its magic, and the one compression method there is.
const MAGIC: [u8; 3] = [0x1F, 0x8B, 8];

const HEADER_CHECKSUM: u8 = 1 << 1;
const EXTRA: u8 = 1 << 2;
const NAME: u8 = 1 << 3;
const COMMENT: u8 = 1 << 4;
const RESERVED: u8 = 0b1110_0000;

impl Gunzip {
    /// Begins at the start of a gzip stream.
    pub fn new() -> Self {
        Self {
            at: At::Start { seen: 0, flags: 0 },
            inflate: Inflate::new(),
            header: Hasher::new(),
            text: Hasher::new(),
            length: 0,
            is_begun: false,
        }
    }

    /// Takes the next bytes of the gzip stream; writes the text that they hold to `window` and hands on each piece of it.
    pub fn push<E: From<Damage>>(
        &mut self,
        mut bytes: &[u8],
        window: &mut Window,
        next: NextText<'_, E>,
    ) -> Result<(), E> {
        while let Some((&byte, rest)) = bytes.split_first() {
            self.at = match self.at {
                At::Text => {
                    let is_end = self.inflate(&mut bytes, window, next)?;
                    if is_end { At::Trailer { seen: 0, bytes: [0; 8] } } else { At::Text }
                }
                At::Trailer { seen, bytes: trailer } => match self.inflate.byte_behind(&mut bytes) {
                    Some(byte) => self.trailer(seen, trailer, byte)?,
                    None => return Ok(()),
                },
                At::Between => {
                    self.inflate.restart(window);
                    (self.header, self.text, self.length) = (Hasher::new(), Hasher::new(), 0);
                    At::Start { seen: 0, flags: 0 }
                }
                header => {
                    bytes = rest;
                    self.header(header, byte)?
                }
            };
            self.is_begun |= self.at == At::Text;
        }
        Ok(())
    }

    /// Ends the stream.
    pub fn finish(self) -> Result<(), Damage> {
        if self.at == At::Between { Ok(()) } else { Err(Damage::CutShort) }
    }

    /// Whether the header of a first member was there and made sense, whatever came of it and of further ones.
    pub fn is_begun(&self) -> bool {
        self.is_begun
    }

    fn header(&mut self, at: At, byte: u8) -> Result<At, Damage> {
        if let At::HeaderChecksum { low } = at {
            let Some(low) = low else {
                return Ok(At::HeaderChecksum { low: Some(byte) });
            };
            let sum = self.header.clone().finalize().to_le_bytes();
            return if sum[..2] == [low, byte] { Ok(At::Text) } else { Err(Damage::MemberHeader) };
        }
        self.header.update(&[byte]);
        Ok(match at {
            At::Start { seen, .. } if seen < 3 && byte != MAGIC[usize::from(seen)] => return Err(Damage::NoMember),
            At::Start { seen: 3, .. } if byte & RESERVED != 0 => return Err(Damage::MemberHeader),
            At::Start { seen: 3, .. } => At::Start { seen: 4, flags: byte },
            At::Start { seen: 9, flags } => Self::after_start(flags),
            At::Start { seen, flags } => At::Start { seen: seen + 1, flags },
            At::ExtraLength { low: None, flags } => At::ExtraLength { low: Some(byte), flags },
            At::ExtraLength { low: Some(low), flags } => match u16::from_le_bytes([low, byte]) {
                0 => Self::after_extra(flags),
                left => At::Extra { left, flags },
            },
            At::Extra { left: 1, flags } => Self::after_extra(flags),
            At::Extra { left, flags } => At::Extra { left: left - 1, flags },
            At::Name { flags } if byte == 0 => Self::after_name(flags),
            At::Comment { flags } if byte == 0 => Self::after_comment(flags),
            same => same,
        })
    }

    fn after_start(flags: u8) -> At {
        if flags & EXTRA != 0 { At::ExtraLength { low: None, flags } } else { Self::after_extra(flags) }
    }

    fn after_extra(flags: u8) -> At {
        if flags & NAME != 0 { At::Name { flags } } else { Self::after_name(flags) }
    }

    fn after_name(flags: u8) -> At {
        if flags & COMMENT != 0 { At::Comment { flags } } else { Self::after_comment(flags) }
    }

    fn after_comment(flags: u8) -> At {
        if flags & HEADER_CHECKSUM != 0 { At::HeaderChecksum { low: None } } else { At::Text }
    }

    /// Inflates what the bytes hold of a member's text, and says whether that is at its end.
    fn inflate<E: From<Damage>>(
        &mut self,
        bytes: &mut &[u8],
        window: &mut Window,
        next: NextText<'_, E>,
    ) -> Result<bool, E> {
        let (checksum, length) = (&mut self.text, &mut self.length);
        self.inflate.push(bytes, window, &mut |window| {
            // While the piece is still in the cache.
            checksum.update(window.piece());
            *length = length.wrapping_add(window.piece().len() as u32);
            next(window)
        })
    }

    fn trailer(&mut self, seen: u8, mut bytes: [u8; 8], byte: u8) -> Result<At, Damage> {
        bytes[usize::from(seen)] = byte;
        if seen < 7 {
            return Ok(At::Trailer { seen: seen + 1, bytes });
        }
        let [checksum, length] = [&bytes[..4], &bytes[4..]];
        if self.text.clone().finalize().to_le_bytes() != checksum {
            Err(Damage::Checksum)
        } else if self.length.to_le_bytes() != length {
            Err(Damage::Length)
        } else {
            Ok(At::Between)
        }
    }
}

impl Default for Gunzip {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests;
