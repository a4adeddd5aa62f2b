//! Deflated data: what flate2 takes is taken, with the same text and the same end, and what it refuses is refused.

use flate2::{Decompress, FlushDecompress, Status};
use vivadrop::stage::Damage;

use super::{
    bytes::in_pieces,
    stages::{self, Output},
};

/// Inflates bytes in pieces as flate2 does it.
pub fn check(bytes: &[u8]) {
    let expected = expected(bytes);
    for pieces in in_pieces(bytes) {
        let found = stages::inflate(&pieces);
        if found.end != expected.end {
            assert!(is_undecided(&found) && is_undecided(&expected), "{:?} is no {:?}", found.end, expected.end);
            is_damaged_whatever_follows(bytes);
        }
        let (one, other) = (&found.text, &expected.text);
        if matches!(found.end, Ok(Some(_))) {
            assert!(one == other, "another text in {} pieces", pieces.len());
        } else {
            // How much was handed on before the bytes ended, or were seen to be damaged, is not promised.
            assert!(one.starts_with(other) || other.starts_with(one), "another text in {} pieces", pieces.len());
        }
    }
}

/// Whether more bytes could be asked for.
fn is_undecided(output: &Output<Option<usize>>) -> bool {
    !matches!(output.end, Ok(Some(_)))
}

/// Codes that are damaged may be seen to be before all of them are there, or only then.
fn is_damaged_whatever_follows(bytes: &[u8]) {
    for byte in [0x00, 0x55, 0xFF] {
        let longer = [bytes, &[byte; 1000]].concat();
        assert_eq!(expected(&longer).end, Err(Damage::Deflate), "before {byte:#x}");
        assert_eq!(stages::inflate(&[&longer]).end, Err(Damage::Deflate), "before {byte:#x}");
    }
}

/// What flate2 makes of the same bytes.
pub fn expected(bytes: &[u8]) -> Output<Option<usize>> {
    let mut inflate = Decompress::new(false);
    let (mut text, mut room) = (Vec::new(), vec![0; 1 << 16]);
    let end = loop {
        let (taken, given) = (inflate.total_in() as usize, inflate.total_out());
        let Ok(status) = inflate.decompress(&bytes[taken..], &mut room, FlushDecompress::None) else {
            break Err(Damage::Deflate);
        };
        let given = (inflate.total_out() - given) as usize;
        text.extend_from_slice(&room[..given]);
        if status == Status::StreamEnd {
            break Ok(Some(inflate.total_in() as usize));
        }
        if given == 0 && inflate.total_in() as usize == taken {
            break Ok(None);
        }
    };
    Output { text, end }
}
