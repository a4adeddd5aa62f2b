//! Layouts: detection finds a layout that the rules allow, or an error that explains why; a file of rows is detected as
//! the layout that it was encoded with, and is read back.

use std::io::Write;

use aes::{
    Aes256,
    cipher::{BlockModeEncrypt, KeyIvInit, StreamCipher, block_padding::Pkcs7},
};
use flate2::{Compression, write::GzEncoder};
use vivadrop::{
    keys::AesKey,
    stage::{
        decrypt::Cipher,
        detect::{LayoutError, detect_layout},
        layout::{Layout, LayoutName, LayoutRules},
    },
};

use super::{
    bytes::{chance, in_pieces},
    stages,
};

/// A text of so many bytes does not fit a wrong layout by chance.
const TOO_LONG_FOR_CHANCE: usize = 64;

fn key() -> AesKey {
    AesKey { key: [1; 32], iv: [1; 16] }
}

/// Uses the bytes as the head of a file, as a file, and as the text of a file.
pub fn check(bytes: &[u8]) {
    let mut chance = chance(bytes);
    check_detected_layout(bytes, chance.bool(), chance.bool(), &rules(&mut chance));
    check_pieces(bytes, Layout::ALL[chance.usize(..Layout::ALL.len())]);
    check_round_trip(bytes, Layout::ALL[chance.usize(..Layout::ALL.len())]);
}

fn rules(chance: &mut fastrand::Rng) -> LayoutRules {
    let names =
        [LayoutName::EncryptedGzip, LayoutName::GzipEncrypted, LayoutName::Encrypted, LayoutName::Plain].map(Some);
    let ciphers = Cipher::ALL.map(Some);
    LayoutRules {
        // Two thirds of the rules allow all layouts, and two thirds both ciphers.
        layout: names.get(chance.usize(..12)).copied().flatten(),
        cipher: ciphers.get(chance.usize(..6)).copied().flatten(),
        allow_plaintext: chance.bool(),
    }
}

fn check_detected_layout(head: &[u8], is_whole_file: bool, has_key: bool, rules: &LayoutRules) {
    let key = has_key.then(key);
    match detect_layout(head, is_whole_file, key.as_ref(), rules) {
        Ok(layout) => {
            assert!(rules.layout.is_none_or(|name| name == name_of(layout)), "{layout} does not follow {rules:?}");
            match layout.cipher() {
                Some(cipher) => assert!(has_key && rules.cipher.is_none_or(|only| only == cipher)),
                None => assert!(rules.allow_plaintext),
            }
        }
        Err(LayoutError::Plaintext) => assert!(!rules.allow_plaintext),
        Err(LayoutError::NotPlain) => assert_eq!(rules.layout, Some(LayoutName::Plain)),
        Err(LayoutError::NoKey) => assert!(!has_key),
        Err(LayoutError::WrongIv | LayoutError::Undecipherable { .. }) => assert!(has_key),
        Err(LayoutError::Damaged(_)) => assert!(head.starts_with(b"\x1F\x8B\x08")),
    }
}

fn name_of(layout: Layout) -> LayoutName {
    match layout {
        Layout::EncryptedGzip(_) => LayoutName::EncryptedGzip,
        Layout::Encrypted(_) => LayoutName::Encrypted,
        Layout::GzipEncrypted(_) => LayoutName::GzipEncrypted,
        Layout::Plain | Layout::PlainGzip => LayoutName::Plain,
    }
}

/// Checks that the text of a file does not depend on the pieces in which it arrives.
fn check_pieces(file: &[u8], layout: Layout) {
    let [whole, others @ ..] =
        in_pieces(file).map(|pieces| stages::remove_layers(layout, Some(&key()), &pieces).expect("there is a key"));
    for other in others {
        assert_eq!(other.end, whole.end, "{layout}");
        assert!(whole.end.is_err() || other.text == whole.text, "another text of {layout}");
    }
}

/// Checks that a file with this text is read back, and detected if its text is clearly that of rows.
fn check_round_trip(text: &[u8], layout: Layout) {
    let file = encode(layout, text);
    for pieces in in_pieces(&file) {
        let read = stages::remove_layers(layout, Some(&key()), &pieces).expect("there is a key");
        assert_eq!(read.end, Ok(()), "{layout}");
        assert!(read.text == text, "another text of {layout}");
    }
    if is_clearly_rows(text) {
        let anything = LayoutRules { allow_plaintext: true, ..LayoutRules::default() };
        assert_eq!(detect_layout(&file, true, Some(&key()), &anything), Ok(layout));
    }
}

/// Whether no other layout can make more sense of a file with this text.
fn is_clearly_rows(text: &[u8]) -> bool {
    let is_plain = |byte: &u8| matches!(byte, b' '..=b'~' | b'\n');
    text.len() >= TOO_LONG_FOR_CHANCE && text.starts_with(b"{\"") && text.iter().all(is_plain)
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

fn encrypt(cipher: Cipher, text: &[u8]) -> Vec<u8> {
    let AesKey { key, iv } = &key();
    match cipher {
        Cipher::Ctr => {
            let mut bytes = text.to_vec();
            ctr::Ctr128BE::<Aes256>::new(key.into(), iv.into()).apply_keystream(&mut bytes);
            bytes
        }
        Cipher::Cbc => cbc::Encryptor::<Aes256>::new(key.into(), iv.into()).encrypt_padded_vec::<Pkcs7>(text),
    }
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text).expect("a vector accepts all bytes");
    encoder.finish().expect("a vector accepts all bytes")
}
