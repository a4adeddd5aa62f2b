//! One gzip member whose pieces are compressed independently, on all cores, as pigz does.
//!
//! A sync flush ends each piece on a byte boundary, so that pieces can be concatenated. Their checksums are combined.

use std::io::{self, Write};

use crc32fast::Hasher;
use flate2::{Compression, write::DeflateEncoder};

/// Gives about the 5:1 of real drops. Higher levels are much slower and hardly better.
const LEVEL: Compression = Compression::new(5);

/// The header of a member: magic, deflate, no flags, no time, no extra flags, unknown system (RFC 1952).
pub(super) const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];

/// An empty final block, which ends the deflate stream.
const LAST_BLOCK: [u8; 2] = [3, 0];

/// Checksum and size of some text, which are combined into the trailer of the member.
#[derive(Default)]
pub(super) struct Summary {
    checksum: Hasher,
    bytes: u64,
}

impl Summary {
    /// Adds the text that follows.
    pub(super) fn append(&mut self, next: &Self) {
        self.checksum.combine(&next.checksum);
        self.bytes += next.bytes;
    }

    /// The end of a member with this text: the final block, the checksum and the size.
    pub(super) fn trailer(self) -> Vec<u8> {
        let checksum = self.checksum.finalize().to_le_bytes();
        // The size is modulo 4 GiB (RFC 1952).
        let bytes = (self.bytes as u32).to_le_bytes();
        [&LAST_BLOCK[..], &checksum, &bytes].concat()
    }
}

/// Compresses a piece of text independently of other pieces.
pub(super) fn deflate(text: &[u8]) -> io::Result<(Vec<u8>, Summary)> {
    let mut encoder = DeflateEncoder::new(Vec::new(), LEVEL);
    encoder.write_all(text)?;
    encoder.flush()?;
    let mut summary = Summary { checksum: Hasher::new(), bytes: text.len() as u64 };
    summary.checksum.update(text);
    Ok((std::mem::take(encoder.get_mut()), summary))
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::bufread::GzDecoder;

    use super::*;

    #[test]
    fn concatenated_pieces_are_one_member() {
        let pieces = [b"one piece".as_slice(), b"", &[b'x'; 100_000]];
        let mut member = HEADER.to_vec();
        let mut whole = Summary::default();
        for piece in pieces {
            let (bytes, summary) = deflate(piece).unwrap();
            member.extend(bytes);
            whole.append(&summary);
        }
        member.extend(whole.trailer());

        let mut text = Vec::new();
        let mut rest = member.as_slice();
        GzDecoder::new(&mut rest).read_to_end(&mut text).unwrap();
        assert_eq!(text, pieces.concat());
        assert!(rest.is_empty(), "there is only one member");
    }
}
