use std::io::Write;

use flate2::{Compression, GzBuilder, write::GzEncoder};
use proptest::prelude::*;

use super::*;

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

/// Decompresses `bytes`, which arrive in pieces of `piece` bytes.
fn gunzip(bytes: &[u8], piece: usize) -> Result<Vec<u8>, Error> {
    let mut text = Vec::new();
    let (mut gunzip, mut window) = (Gunzip::new(), Window::new());
    for mut input in bytes.chunks(piece) {
        while gunzip.push(&mut input, &mut window)? > 0 {
            text.extend_from_slice(window.text());
            window.consume(window.text().len());
        }
        assert!(input.is_empty());
    }
    gunzip.finish()?;
    Ok(text)
}

proptest! {
    #[test]
    fn all_members_are_read_in_pieces_of_any_size(
        texts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..4),
        piece in 1_usize..50,
    ) {
        let bytes: Vec<u8> = texts.iter().flat_map(|text| gzip(text)).collect();
        prop_assert_eq!(gunzip(&bytes, piece).unwrap(), texts.concat());
    }

    #[test]
    fn a_truncated_stream_is_an_error_and_not_a_shorter_text(text in prop::collection::vec(any::<u8>(), 1..300), cut in any::<prop::sample::Index>()) {
        let bytes = gzip(&text);
        let cut = cut.index(bytes.len());
        prop_assert_eq!(gunzip(&bytes[..cut], 64), Err(Error::Truncated));
    }

    #[test]
    fn arbitrary_bytes_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _text_or_error = gunzip(&[&MAGIC[..], &bytes].concat(), 16);
    }
}

#[test]
fn all_optional_fields_of_a_header_are_skipped() {
    let mut encoder = GzBuilder::new()
        .extra(vec![1, 2, 3])
        .filename("part-0.json")
        .comment("rows")
        .mtime(7)
        .write(Vec::new(), Compression::fast());
    encoder.write_all(b"{}\n").unwrap();
    assert_eq!(gunzip(&encoder.finish().unwrap(), 1).unwrap(), b"{}\n");
}

/// A member with these flags and optional fields in its header.
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
    assert_eq!(gunzip(&member(HEADER_CHECKSUM, &[low, high ^ 1]), 5), Err(Error::Header));
}

#[test]
fn an_extra_field_may_be_empty() {
    assert_eq!(gunzip(&member(EXTRA, &[0, 0]), 5).unwrap(), b"{}\n");
}

#[test]
fn reserved_flags_are_an_error() {
    assert_eq!(gunzip(&member(1 << 6, &[]), 5), Err(Error::Header));
}

#[test]
fn a_wrong_checksum_or_length_is_an_error() {
    let bytes = gzip(b"some text");
    let flip = |from_end: usize| {
        let mut bytes = bytes.clone();
        let at = bytes.len() - from_end;
        bytes[at] ^= 1;
        gunzip(&bytes, 16)
    };
    assert_eq!(flip(8), Err(Error::Checksum));
    assert_eq!(flip(4), Err(Error::Length));
}

#[test]
fn bytes_after_a_member_must_be_another_member() {
    assert_eq!(gunzip(&[&gzip(b"text")[..], b"\0\0"].concat(), 16), Err(Error::NotGzip));
}

#[test]
fn a_stream_without_members_is_truncated() {
    assert_eq!(gunzip(b"", 1), Err(Error::Truncated));
}
