//! gzip: what flate2 takes is taken, with the same text, and what it refuses is refused. A stream that stops early is never
//! a shorter text.

use std::io::{self, ErrorKind, Read};

use flate2::read::MultiGzDecoder;
use vivadrop::stage::Damage;

use super::{
    bytes::in_pieces,
    inflate,
    stages::{self, Output},
};

/// Undoes gzip of the bytes, and of members around them, as flate2 does.
pub fn check(bytes: &[u8]) {
    same_as_flate2(bytes);
    // No fuzzer finds a checksum: data that inflates is given the right one, and wrong ones.
    if let Output { text, end: Ok(Some(end)) } = inflate::expected(bytes) {
        let member = member(&bytes[..end], &text);
        same_as_flate2(&[&member[..], &member].concat());
        same_as_flate2(&[&member[..], &bytes[end..]].concat());
        let cut = bytes.len() % member.len();
        assert_eq!(stages::gunzip(&[&member, &member[..cut]]).end.is_ok(), cut == 0, "cut at {cut}");
        let mut damaged = member;
        let from_end = 1 + bytes.len() % 8;
        let at = damaged.len() - from_end;
        damaged[at] ^= 1;
        let damage = if from_end > 4 { Damage::Checksum } else { Damage::Length };
        assert_eq!(stages::gunzip(&[&damaged]).end, Err(damage), "{from_end} from the end");
    }
}

fn same_as_flate2(bytes: &[u8]) {
    let (expected, error) = expected(bytes);
    for pieces in in_pieces(bytes) {
        let Output { text, end } = stages::gunzip(&pieces);
        match (end, &error) {
            (Ok(()), None) => assert!(text == expected, "another text in {} pieces", pieces.len()),
            (Err(damage), Some(error)) => {
                assert!(text.starts_with(&expected) || expected.starts_with(&text), "another text before {damage:?}");
                // The other way round does not hold: flate2 does not look at the beginning of a header that is cut.
                let is_cut = error.kind() == ErrorKind::UnexpectedEof;
                assert!(damage != Damage::CutShort || is_cut, "{damage:?}, and with flate2 {error}");
            }
            (end, error) => panic!("ended as {end:?}, and with flate2 as {error:?}"),
        }
    }
}

/// What flate2 makes of the same bytes.
fn expected(bytes: &[u8]) -> (Vec<u8>, Option<io::Error>) {
    let mut text = Vec::new();
    let end = MultiGzDecoder::new(bytes).read_to_end(&mut text);
    (text, end.err())
}

/// A gzip member (RFC 1952).
fn member(deflated: &[u8], text: &[u8]) -> Vec<u8> {
    let header = [0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 0, 0xFF];
    let (checksum, length) = (crc32fast::hash(text).to_le_bytes(), (text.len() as u32).to_le_bytes());
    [&header[..], deflated, &checksum, &length].concat()
}
