//! gzip: our decoder accepts and rejects the same streams as flate2, with the same text. A truncated stream is an
//! error, never a shorter text.

use std::io::{self, ErrorKind, Read};

use ::inflate::Error;
use flate2::read::MultiGzDecoder;

use super::{
    bytes::in_pieces,
    inflate,
    stages::{self, Output},
};

/// Decompresses the bytes as a gzip stream, and as the data of gzip members.
pub fn check(bytes: &[u8]) {
    compare_with_flate2(bytes);
    // A fuzzer does not find a valid checksum. So deflate data gets a header and a trailer here, right ones and wrong
    // ones.
    if let Output { text, end: Ok(Some(end)) } = inflate::with_flate2(bytes) {
        let member = member(&bytes[..end], &text);
        compare_with_flate2(&[&member[..], &member].concat());
        compare_with_flate2(&[&member[..], &bytes[end..]].concat());
        let cut = bytes.len() % member.len();
        assert_eq!(stages::gunzip(&[&member, &member[..cut]]).end.is_ok(), cut == 0, "cut after {cut} bytes");
        let mut damaged = member;
        let from_end = 1 + bytes.len() % 8;
        let at = damaged.len() - from_end;
        damaged[at] ^= 1;
        let error = if from_end > 4 { Error::Checksum } else { Error::Length };
        assert_eq!(stages::gunzip(&[&damaged]).end, Err(error), "{from_end} bytes before the end");
    }
}

fn compare_with_flate2(bytes: &[u8]) {
    let (expected, expected_error) = with_flate2(bytes);
    for pieces in in_pieces(bytes) {
        let Output { text, end } = stages::gunzip(&pieces);
        match (end, &expected_error) {
            (Ok(()), None) => assert!(text == expected, "another text in {} pieces", pieces.len()),
            (Err(error), Some(expected_error)) => {
                assert!(text.starts_with(&expected) || expected.starts_with(&text), "another text before {error:?}");
                // The reverse does not hold: flate2 does not examine the beginning of a truncated header.
                let is_truncated = expected_error.kind() == ErrorKind::UnexpectedEof;
                assert!(error != Error::Truncated || is_truncated, "{error:?}, with flate2 {expected_error}");
            }
            (end, expected_error) => panic!("ended as {end:?}, with flate2 as {expected_error:?}"),
        }
    }
}

/// Decompresses the bytes with flate2.
fn with_flate2(bytes: &[u8]) -> (Vec<u8>, Option<io::Error>) {
    let mut text = Vec::new();
    let end = MultiGzDecoder::new(bytes).read_to_end(&mut text);
    (text, end.err())
}

/// A gzip member (RFC 1952).
fn member(deflate_data: &[u8], text: &[u8]) -> Vec<u8> {
    let header = [0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 0, 0xFF];
    let (checksum, length) = (crc32fast::hash(text).to_le_bytes(), (text.len() as u32).to_le_bytes());
    [&header[..], deflate_data, &checksum, &length].concat()
}
