//! One gzip member whose pieces are deflated apart, on all cores, as pigz does.
//!
//! A piece ends on a byte with a sync flush, so pieces can be put one behind the other; their checksums are combined.

use std::io::{self, Write};

use crc32fast::Hasher;
use flate2::{Compression, write::DeflateEncoder};

/// Near the 5:1 of real drops; the levels above it take much longer for little.
const LEVEL: Compression = Compression::new(5);

/// What a member begins with: magic, deflate, no flags, no time, no extra flags, unknown system.
pub(super) const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];

/// The last block of the deflate stream, with nothing in it.
const LAST_BLOCK: [u8; 2] = [3, 0];

/// What a member says of its text, and of any piece of it.
#[derive(Default)]
pub(super) struct Summary {
    checksum: Hasher,
    bytes: u64,
}

impl Summary {
    /// Goes on with the summary of the next piece.
    pub(super) fn append(&mut self, next: &Self) {
        self.checksum.combine(&next.checksum);
        self.bytes += next.bytes;
    }

    /// What a member with this text ends with.
    pub(super) fn trailer(self) -> Vec<u8> {
        let checksum = self.checksum.finalize().to_le_bytes();
        // gzip counts modulo 4 GiB.
        let bytes = (self.bytes as u32).to_le_bytes();
        [&LAST_BLOCK[..], &checksum, &bytes].concat()
    }
}

/// Deflates a piece of text by itself.
pub(super) fn deflated(text: &[u8]) -> io::Result<(Vec<u8>, Summary)> {
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
    fn pieces_make_one_member_that_holds_their_text() {
        let pieces = [b"one piece".as_slice(), b"", &[b'x'; 100_000]];
        let mut member = HEADER.to_vec();
        let mut whole = Summary::default();
        for piece in pieces {
            let (bytes, summary) = deflated(piece).unwrap();
            member.extend(bytes);
            whole.append(&summary);
        }
        member.extend(whole.trailer());

        let mut text = Vec::new();
        let mut behind = member.as_slice();
        GzDecoder::new(&mut behind).read_to_end(&mut text).unwrap();
        assert_eq!(text, pieces.concat());
        assert!(behind.is_empty(), "the first member is the whole");
    }
}
