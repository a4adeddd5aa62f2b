//! gzip undone (RFC 1952), to the last member. Knows headers, checksums and lengths; inflating itself is flate2's.
//!
//! A stream that stops early, or is not what its checksum says, is [`Damage`]: never a shorter text.

use crc32fast::Hasher;
use flate2::{Decompress, FlushDecompress, Status};

use super::{Damage, Next, PIECE_BYTES};

/// Decompresses a stream of gzip members.
pub struct Gunzip {
    at: At,
    inflate: Decompress,
    header: Hasher,
    text: Hasher,
    /// The length of the member's text so far, modulo 2³², as gzip counts it.
    length: u32,
    piece: Box<[u8]>,
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
            inflate: Decompress::new(false),
            header: Hasher::new(),
            text: Hasher::new(),
            length: 0,
            piece: vec![0; PIECE_BYTES].into(),
        }
    }

    /// Takes the next bytes of the gzip stream; hands on the text that they hold.
    pub fn push<E: From<Damage>>(&mut self, mut bytes: &[u8], next: Next<'_, E>) -> Result<(), E> {
        while let Some((&byte, rest)) = bytes.split_first() {
            self.at = match self.at {
                At::Text => {
                    bytes = self.inflate(bytes, next)?;
                    continue;
                }
                At::Trailer { seen, bytes: trailer } => {
                    bytes = rest;
                    self.trailer(seen, trailer, byte)?
                }
                At::Between => {
                    self.inflate.reset(false);
                    (self.header, self.text, self.length) = (Hasher::new(), Hasher::new(), 0);
                    At::Start { seen: 0, flags: 0 }
                }
                header => {
                    bytes = rest;
                    self.header(header, byte)?
                }
            };
        }
        Ok(())
    }

    /// Ends the stream.
    pub fn finish(self) -> Result<(), Damage> {
        if self.at == At::Between { Ok(()) } else { Err(Damage::CutShort) }
    }

    /// Whether the header of a first member was there and made sense.
    pub fn is_begun(&self) -> bool {
        matches!(self.at, At::Text | At::Trailer { .. } | At::Between)
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

    /// Inflates a piece, and returns the bytes that it did not need.
    fn inflate<'b, E: From<Damage>>(&mut self, bytes: &'b [u8], next: Next<'_, E>) -> Result<&'b [u8], E> {
        let (taken, given) = (self.inflate.total_in(), self.inflate.total_out());
        let status =
            self.inflate.decompress(bytes, &mut self.piece, FlushDecompress::None).map_err(|_| Damage::Deflate)?;
        let taken = (self.inflate.total_in() - taken) as usize;
        let given = (self.inflate.total_out() - given) as usize;
        if status == Status::StreamEnd {
            self.at = At::Trailer { seen: 0, bytes: [0; 8] };
        } else if taken == 0 && given == 0 {
            return Err(Damage::Deflate.into());
        }
        let text = &self.piece[..given];
        self.text.update(text);
        self.length = self.length.wrapping_add(given as u32);
        next(text)?;
        Ok(&bytes[taken..])
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
mod tests {
    use std::io::Write;

    use flate2::{Compression, GzBuilder, write::GzEncoder};
    use proptest::prelude::*;

    use super::*;

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn gunzip(bytes: &[u8], piece: usize) -> Result<Vec<u8>, Damage> {
        let mut text = Vec::new();
        let mut gunzip = Gunzip::new();
        for bytes in bytes.chunks(piece) {
            gunzip.push(bytes, &mut |piece| {
                text.extend_from_slice(piece);
                Ok::<_, Damage>(())
            })?;
        }
        gunzip.finish()?;
        Ok(text)
    }

    proptest! {
        #[test]
        fn members_are_read_to_the_last_in_whatever_pieces_they_arrive(
            texts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..4),
            piece in 1_usize..50,
        ) {
            let bytes: Vec<u8> = texts.iter().flat_map(|text| gzip(text)).collect();
            prop_assert_eq!(gunzip(&bytes, piece).unwrap(), texts.concat());
        }

        #[test]
        fn a_stream_cut_anywhere_is_never_a_shorter_text(text in prop::collection::vec(any::<u8>(), 1..300), cut in any::<prop::sample::Index>()) {
            let bytes = gzip(&text);
            let cut = cut.index(bytes.len());
            prop_assert_eq!(gunzip(&bytes[..cut], 64), Err(Damage::CutShort));
        }

        #[test]
        fn any_bytes_at_all_end_in_a_text_or_in_damage(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _text_or_damage = gunzip(&[&MAGIC[..], &bytes].concat(), 16);
        }
    }

    #[test]
    fn every_field_of_a_header_is_read_past() {
        let mut encoder = GzBuilder::new()
            .extra(vec![1, 2, 3])
            .filename("part-0.json")
            .comment("rows")
            .mtime(7)
            .write(Vec::new(), Compression::fast());
        encoder.write_all(b"{}\n").unwrap();
        assert_eq!(gunzip(&encoder.finish().unwrap(), 1).unwrap(), b"{}\n");
    }

    /// A member with the flags `flags` and `fields` in its header.
    fn member(flags: u8, fields: &[u8]) -> Vec<u8> {
        let plain = gzip(b"{}\n");
        [&plain[..3], &[flags], &plain[4..10], fields, &plain[10..]].concat()
    }

    #[test]
    fn a_header_checksum_must_match() {
        let mut header = Hasher::new();
        header.update(&member(HEADER_CHECKSUM, &[])[..10]);
        let [low, high, ..] = header.finalize().to_le_bytes();
        assert_eq!(gunzip(&member(HEADER_CHECKSUM, &[low, high]), 5).unwrap(), b"{}\n");
        assert_eq!(gunzip(&member(HEADER_CHECKSUM, &[low, high ^ 1]), 5), Err(Damage::MemberHeader));
    }

    #[test]
    fn an_extra_field_may_be_empty() {
        assert_eq!(gunzip(&member(EXTRA, &[0, 0]), 5).unwrap(), b"{}\n");
    }

    #[test]
    fn reserved_flags_are_damage() {
        assert_eq!(gunzip(&member(1 << 6, &[]), 5), Err(Damage::MemberHeader));
    }

    #[test]
    fn a_wrong_checksum_or_length_is_damage() {
        let bytes = gzip(b"some text");
        let flip = |from_end: usize| {
            let mut bytes = bytes.clone();
            let at = bytes.len() - from_end;
            bytes[at] ^= 1;
            gunzip(&bytes, 16)
        };
        assert_eq!(flip(8), Err(Damage::Checksum));
        assert_eq!(flip(4), Err(Damage::Length));
    }

    #[test]
    fn what_follows_a_member_must_be_another() {
        assert_eq!(gunzip(&[&gzip(b"text")[..], b"\0\0"].concat(), 16), Err(Damage::NoMember));
    }
}
