//! Layouts: whatever a file begins with, one is found that the rules allow, or none; and a file of rows is found to be what
//! it is made of, and read back.

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
        layout::{Layout, LayoutError, LayoutName, LayoutRules, detect},
    },
};

use super::{
    bytes::{chance, in_pieces},
    stages,
};

const LAYOUTS: [Layout; 8] = [
    Layout::EncryptedGzip(Cipher::Ctr),
    Layout::EncryptedGzip(Cipher::Cbc),
    Layout::Encrypted(Cipher::Ctr),
    Layout::Encrypted(Cipher::Cbc),
    Layout::GzipEncrypted(Cipher::Ctr),
    Layout::GzipEncrypted(Cipher::Cbc),
    Layout::Plain,
    Layout::PlainGzip,
];

/// From how many bytes of text on no other layout makes sense of a file by chance.
const NO_CHANCE: usize = 64;

fn key() -> AesKey {
    AesKey { key: [1; 32], iv: [1; 16] }
}

/// Takes the bytes for the head of a file, and for the text of one.
pub fn check(bytes: &[u8]) {
    let mut chance = chance(bytes);
    is_allowed(bytes, chance.bool(), chance.bool(), &rules(&mut chance));
    is_the_same_in_pieces(bytes, LAYOUTS[chance.usize(..LAYOUTS.len())]);
    is_found_and_read_back(bytes, LAYOUTS[chance.usize(..LAYOUTS.len())]);
}

fn rules(chance: &mut fastrand::Rng) -> LayoutRules {
    let names =
        [LayoutName::EncryptedGzip, LayoutName::GzipEncrypted, LayoutName::Encrypted, LayoutName::Plain].map(Some);
    let ciphers = Cipher::ALL.map(Some);
    LayoutRules {
        // Mostly all of them.
        layout: names.get(chance.usize(..12)).copied().flatten(),
        cipher: ciphers.get(chance.usize(..6)).copied().flatten(),
        allow_plaintext: chance.bool(),
    }
}

fn is_allowed(head: &[u8], is_whole: bool, has_key: bool, rules: &LayoutRules) {
    let key = has_key.then(key);
    match detect(head, is_whole, key.as_ref(), rules) {
        Ok(layout) => {
            assert!(rules.layout.is_none_or(|name| name == name_of(layout)), "{layout} is not {rules:?}");
            let is_tried = |cipher| rules.cipher.is_none_or(|only| only == cipher);
            assert!(layout.cipher().map_or(rules.allow_plaintext, |cipher| has_key && is_tried(cipher)));
        }
        Err(LayoutError::Plaintext) => assert!(!rules.allow_plaintext),
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

fn is_the_same_in_pieces(file: &[u8], layout: Layout) {
    let [whole, others @ ..] =
        in_pieces(file).map(|pieces| stages::unlayer(layout, Some(&key()), &pieces).expect("there is a key"));
    for other in others {
        assert_eq!(other.end, whole.end, "{layout}");
        assert!(whole.end.is_err() || other.text == whole.text, "another text of {layout}");
    }
}

fn is_found_and_read_back(text: &[u8], layout: Layout) {
    let file = lay(layout, text);
    for pieces in in_pieces(&file) {
        let read = stages::unlayer(layout, Some(&key()), &pieces).expect("there is a key");
        assert_eq!(read.end, Ok(()), "{layout}");
        assert!(read.text == text, "another text of {layout}");
    }
    if is_surely_rows(text) {
        let anything = LayoutRules { allow_plaintext: true, ..LayoutRules::default() };
        assert_eq!(detect(&file, true, Some(&key()), &anything), Ok(layout));
    }
}

/// Whether nobody would doubt that this is the text of rows.
fn is_surely_rows(text: &[u8]) -> bool {
    let is_plain = |byte: &u8| matches!(byte, b' '..=b'~' | b'\n');
    text.len() >= NO_CHANCE && text.starts_with(b"{\"") && text.iter().all(is_plain)
}

/// The file of a layout with this text.
fn lay(layout: Layout, text: &[u8]) -> Vec<u8> {
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
    encoder.write_all(text).expect("memory takes all");
    encoder.finish().expect("memory takes all")
}
