//! Deflate data: our decoder accepts and rejects the same data as flate2, with the same text and the same end.

use ::inflate::Error;
use flate2::{Decompress, FlushDecompress, Status};

use super::{
    bytes::in_pieces,
    stages::{self, Output},
};

/// Decompresses the bytes, in one piece and in several, and compares the result with flate2.
pub fn check(bytes: &[u8]) {
    let expected = with_flate2(bytes);
    for pieces in in_pieces(bytes) {
        let found = stages::inflate(&pieces);
        if found.end != expected.end {
            assert!(
                !is_complete(&found) && !is_complete(&expected),
                "ended as {:?}, with flate2 as {:?}",
                found.end,
                expected.end
            );
            check_that_more_bytes_are_an_error(bytes);
        }
        if is_complete(&found) {
            assert!(found.text == expected.text, "another text in {} pieces", pieces.len());
        } else {
            // It is not specified how much text is produced before an error, or before the input ends.
            let is_prefix = found.text.starts_with(&expected.text) || expected.text.starts_with(&found.text);
            assert!(is_prefix, "another text in {} pieces", pieces.len());
        }
    }
}

fn is_complete(output: &Output<Option<usize>, Error>) -> bool {
    matches!(output.end, Ok(Some(_)))
}

/// Checks that data which only one of the two decoders rejects is rejected by both if more bytes follow. One of them
/// may see sooner than the other that the codes in a truncated header are invalid.
fn check_that_more_bytes_are_an_error(bytes: &[u8]) {
    for byte in [0x00, 0x55, 0xFF] {
        let longer = [bytes, &[byte; 1000]].concat();
        assert_eq!(with_flate2(&longer).end, Err(Error::Deflate), "followed by {byte:#x}");
        assert_eq!(stages::inflate(&[&longer]).end, Err(Error::Deflate), "followed by {byte:#x}");
    }
}

/// Decompresses the bytes with flate2. The end is the length of the data, or `None` if the data is not complete.
pub fn with_flate2(bytes: &[u8]) -> Output<Option<usize>, Error> {
    let mut inflate = Decompress::new(false);
    let (mut text, mut buffer) = (Vec::new(), vec![0; 1 << 16]);
    let end = loop {
        let (used, written) = (inflate.total_in() as usize, inflate.total_out());
        let Ok(status) = inflate.decompress(&bytes[used..], &mut buffer, FlushDecompress::None) else {
            break Err(Error::Deflate);
        };
        let written = (inflate.total_out() - written) as usize;
        text.extend_from_slice(&buffer[..written]);
        if status == Status::StreamEnd {
            break Ok(Some(inflate.total_in() as usize));
        }
        if written == 0 && inflate.total_in() as usize == used {
            break Ok(None);
        }
    };
    Output { text, end }
}
