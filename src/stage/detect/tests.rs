use std::io::Write;

use aes::{
    Aes256,
    cipher::{BlockModeEncrypt, KeyIvInit, StreamCipher, block_padding::Pkcs7},
};
use flate2::{Compression, write::GzEncoder};

use super::*;
use crate::stage::layout::LayoutName;

const ROWS: &str = "{\"ObjectId\":\"b7f16999-b812-4462-b854-bcea37e7597c\",\"CollaborationHours\":12.4}\n";
/// Rules that allow every layout.
const ANYTHING: LayoutRules = LayoutRules { layout: None, cipher: None, allow_plaintext: true };

fn key(number: u8) -> AesKey {
    AesKey { key: [number; 32], iv: [number; 16] }
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

fn encrypt(cipher: Cipher, text: &[u8]) -> Vec<u8> {
    let (key, iv) = (key(1).key.into(), key(1).iv.into());
    match cipher {
        Cipher::Ctr => {
            let mut bytes = text.to_vec();
            ctr::Ctr128BE::<Aes256>::new(&key, &iv).apply_keystream(&mut bytes);
            bytes
        }
        Cipher::Cbc => cbc::Encryptor::<Aes256>::new(&key, &iv).encrypt_padded_vec::<Pkcs7>(text),
    }
}

/// A file of this layout with this text.
fn encode(layout: Layout, text: &[u8]) -> Vec<u8> {
    match layout {
        Layout::EncryptedGzip(cipher) => encrypt(cipher, &gzip(text)),
        Layout::Encrypted(cipher) => encrypt(cipher, text),
        Layout::GzipEncrypted(cipher) => gzip(&encrypt(cipher, text)),
        Layout::Plain => text.to_vec(),
        Layout::PlainGzip => gzip(text),
    }
}

fn detect_whole(bytes: &[u8], rules: &LayoutRules) -> Result<Layout, LayoutError> {
    detect_layout(bytes, true, Some(&key(1)), rules)
}

#[test]
fn each_layout_is_detected() {
    for layout in Layout::ALL {
        for text in [ROWS.to_owned(), ROWS.repeat(3000), format!("\u{feff}\r\n {ROWS}"), "{}".into()] {
            let bytes = encode(layout, text.as_bytes());
            let head = &bytes[..bytes.len().min(HEAD_BYTES)];
            assert_eq!(detect_layout(head, head.len() == bytes.len(), Some(&key(1)), &ANYTHING), Ok(layout));
        }
    }
}

#[test]
fn gzip_of_an_empty_text_is_a_file_without_rows() {
    for layout in Layout::ALL {
        let fits = detect_whole(&encode(layout, b""), &ANYTHING);
        match layout {
            Layout::Encrypted(Cipher::Ctr) | Layout::Plain => {}
            Layout::EncryptedGzip(_) | Layout::Encrypted(_) => assert_eq!(fits, Ok(layout)),
            Layout::GzipEncrypted(_) | Layout::PlainGzip => assert!(fits.is_ok(), "{layout}"),
        }
    }
}

#[test]
fn plain_rows_are_rejected_unless_they_are_allowed() {
    for layout in [Layout::Plain, Layout::PlainGzip] {
        let rules = LayoutRules::default();
        assert_eq!(detect_whole(&encode(layout, ROWS.as_bytes()), &rules), Err(LayoutError::Plaintext));
        assert_eq!(detect_layout(&encode(layout, ROWS.as_bytes()), true, None, &ANYTHING), Ok(layout));
    }
}

#[test]
fn only_the_layout_and_the_cipher_of_the_settings_are_considered() {
    let bytes = encode(Layout::EncryptedGzip(Cipher::Ctr), ROWS.as_bytes());
    for rules in [
        LayoutRules { cipher: Some(Cipher::Cbc), ..ANYTHING },
        LayoutRules { layout: Some(LayoutName::GzipEncrypted), ..ANYTHING },
    ] {
        assert!(matches!(detect_whole(&bytes, &rules), Err(LayoutError::Undecipherable { .. })), "{rules:?}");
    }
    let plain = LayoutRules { layout: Some(LayoutName::Plain), ..ANYTHING };
    assert_eq!(detect_whole(&bytes, &plain), Err(LayoutError::NotPlain));
    assert_eq!(detect_layout(&bytes, true, None, &plain), Err(LayoutError::NotPlain));
}

#[test]
fn a_wrong_key_and_a_missing_key_are_distinguished() {
    let bytes = encode(Layout::EncryptedGzip(Cipher::Ctr), ROWS.as_bytes());
    assert!(matches!(detect_layout(&bytes, true, Some(&key(2)), &ANYTHING), Err(LayoutError::Undecipherable { .. })));
    assert_eq!(detect_layout(&bytes, true, None, &ANYTHING), Err(LayoutError::NoKey));
}

#[test]
fn a_wrong_iv_is_distinguished_from_a_wrong_key_with_cbc() {
    let bytes = encode(Layout::Encrypted(Cipher::Cbc), ROWS.repeat(3).as_bytes());
    let other_iv = AesKey { iv: [0xA5; 16], ..key(1) };
    assert_eq!(detect_layout(&bytes, true, Some(&other_iv), &ANYTHING), Err(LayoutError::WrongIv));
}

#[test]
fn damaged_gzip_is_distinguished_from_a_wrong_key() {
    let mut bytes = encode(Layout::GzipEncrypted(Cipher::Ctr), ROWS.as_bytes());
    bytes.truncate(12);
    assert_eq!(detect_whole(&bytes, &ANYTHING), Err(LayoutError::Damaged(inflate::Error::Truncated.into())));
}

#[test]
fn ciphertext_that_begins_like_another_layout_by_chance_is_detected() {
    // With these IVs the ciphertext begins like rows or like gzip. They were found by trial.
    for (iv, start) in [(33_376_u128, &b"{\""[..]), (3_668_870, b"\x1F\x8B\x08")] {
        let key = AesKey { iv: iv.to_be_bytes(), ..key(1) };
        let mut bytes = gzip(ROWS.as_bytes());
        ctr::Ctr128BE::<Aes256>::new(&key.key.into(), &key.iv.into()).apply_keystream(&mut bytes);
        assert!(bytes.starts_with(start));
        assert_eq!(detect_layout(&bytes, true, Some(&key), &ANYTHING), Ok(Layout::EncryptedGzip(Cipher::Ctr)));
    }
}

#[test]
fn the_head_of_a_file_may_end_within_the_header_of_a_second_member() {
    for cipher in Cipher::ALL {
        let whole = [gzip(ROWS.as_bytes()), gzip(b"")].concat();
        assert_eq!(detect_whole(&encrypt(cipher, &whole), &ANYTHING), Ok(Layout::EncryptedGzip(cipher)));
        let head = &encrypt(cipher, &whole)[..gzip(ROWS.as_bytes()).len() + 5];
        assert_eq!(detect_layout(head, false, Some(&key(1)), &ANYTHING), Ok(Layout::EncryptedGzip(cipher)));
    }
}

#[test]
fn bytes_after_a_member_that_are_not_a_member_do_not_hide_the_layout() {
    let bytes = encrypt(Cipher::Ctr, &[&gzip(ROWS.as_bytes())[..], b"\0\0\0\0"].concat());
    assert_eq!(detect_whole(&bytes, &ANYTHING), Ok(Layout::EncryptedGzip(Cipher::Ctr)));
}

#[test]
fn a_file_damaged_after_its_gzip_header_is_detected() {
    let mut bytes = encode(Layout::EncryptedGzip(Cipher::Ctr), ROWS.as_bytes());
    bytes.truncate(24);
    assert_eq!(detect_whole(&bytes, &ANYTHING), Ok(Layout::EncryptedGzip(Cipher::Ctr)));
}
