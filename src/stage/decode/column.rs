//! Decrypts single values of encrypted columns: Base64 of AES-256-CTR or CBC.

use std::sync::OnceLock;

use aes::{
    Aes256,
    cipher::{InnerIvInit, KeyInit, StreamCipher},
};
use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use zeroize::Zeroizing;

use super::BadRowReason;
use crate::{
    json::scanner as json,
    keys::AesKey,
    stage::decrypt::{AES_BLOCK_BYTES, Cipher, decrypt_blocks, unpad},
    wipe::with_stack_wiped,
};

/// Padded standard Base64. Ignores the unused bits of the last digit, as most decoders do.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireCanonical),
);

/// How much of the keystream is cached. Most values are GUIDs of 36 characters.
const KEYSTREAM_BYTES: usize = 256;

/// The Column key, prepared for many short values.
pub(super) struct ColumnKey {
    iv: [u8; AES_BLOCK_BYTES],
    aes: Box<Aes256>,
    /// The start of the keystream of counter mode. All values have the same IV, and so the same keystream.
    keystream: Box<Zeroizing<[u8; KEYSTREAM_BYTES]>>,
    configured: Option<Cipher>,
    /// The cipher of the file, once it is detected.
    detected: OnceLock<Cipher>,
}

/// The ciphers with which a value decrypts to text that is not empty.
pub(super) struct Fits {
    pub(super) cbc: bool,
    pub(super) ctr: bool,
}

/// Buffers for one value, reused from value to value.
#[derive(Default)]
pub(super) struct Scratch {
    ciphertext: Vec<u8>,
    pub(super) plaintext: Vec<u8>,
}

impl ColumnKey {
    pub(super) fn new(key: &AesKey, cipher: Option<Cipher>) -> Self {
        let mut keystream = Box::new(Zeroizing::new([0; KEYSTREAM_BYTES]));
        let aes = with_stack_wiped(|| {
            let aes = Box::new(Aes256::new((&key.key).into()));
            ctr(&aes, &key.iv).apply_keystream(&mut **keystream);
            aes
        });
        Self { iv: key.iv, aes, keystream, configured: cipher, detected: OnceLock::new() }
    }

    /// Whether the cipher is to be detected.
    pub(super) fn is_undecided(&self) -> bool {
        self.configured.is_none() && self.detected.get().is_none()
    }

    /// Sets the cipher of the file, unless it is already set.
    pub(super) fn set_detected(&self, cipher: Cipher) {
        self.detected.get_or_init(|| cipher);
    }

    /// The ciphers to try, in order. If the cipher is neither configured nor detected, CBC comes first: valid padding
    /// is stronger evidence than valid UTF-8 after CTR.
    fn ciphers(&self) -> &'static [Cipher] {
        match self.configured.or_else(|| self.detected.get().copied()) {
            Some(Cipher::Ctr) => &[Cipher::Ctr],
            Some(Cipher::Cbc) => &[Cipher::Cbc],
            None => &[Cipher::Cbc, Cipher::Ctr],
        }
    }

    /// Finds the ciphers with which `value` decrypts to text. A value that is empty or not Base64 fits neither.
    pub(super) fn fits(&self, value: &[u8], scratch: &mut Scratch) -> Fits {
        scratch.ciphertext.clear();
        if BASE64.decode_vec(value, &mut scratch.ciphertext).is_err() || scratch.ciphertext.is_empty() {
            return Fits { cbc: false, ctr: false };
        }
        Fits { cbc: self.decrypts(Cipher::Cbc, scratch), ctr: self.decrypts(Cipher::Ctr, scratch) }
    }

    /// Decrypts `value` of the column `name` and appends the text to `out` as a JSON string.
    pub(super) fn decrypt(
        &self,
        name: &str,
        value: &[u8],
        scratch: &mut Scratch,
        out: &mut Vec<u8>,
    ) -> Result<(), BadRowReason> {
        self.plaintext_of(name, value, scratch)?;
        write_string(out, &scratch.plaintext);
        Ok(())
    }

    /// Decrypts `value`, of the column `name`, into [`Scratch::plaintext`].
    pub(super) fn plaintext_of(&self, name: &str, value: &[u8], scratch: &mut Scratch) -> Result<(), BadRowReason> {
        scratch.ciphertext.clear();
        BASE64.decode_vec(value, &mut scratch.ciphertext).map_err(|_| BadRowReason::NotBase64(name.into()))?;
        // An empty ciphertext is a missing value, whatever the detected cipher is. CBC never produces one, because it
        // pads.
        if scratch.ciphertext.is_empty() && self.configured.is_none() {
            scratch.plaintext.clear();
            return Ok(());
        }
        if !self.ciphers().iter().any(|&cipher| self.decrypts(cipher, scratch)) {
            return Err(BadRowReason::Undecipherable(name.into()));
        }
        Ok(())
    }

    /// Decrypts the ciphertext in `scratch`; returns whether the plaintext is text.
    fn decrypts(&self, cipher: Cipher, scratch: &mut Scratch) -> bool {
        let Scratch { ciphertext, plaintext, .. } = scratch;
        plaintext.clear();
        let is_decrypted = match cipher {
            Cipher::Ctr => self.ctr(ciphertext, plaintext),
            Cipher::Cbc => self.cbc(ciphertext, plaintext),
        };
        is_decrypted && std::str::from_utf8(plaintext).is_ok()
    }

    fn ctr(&self, ciphertext: &[u8], plaintext: &mut Vec<u8>) -> bool {
        plaintext.extend_from_slice(ciphertext);
        if ciphertext.len() <= KEYSTREAM_BYTES {
            plaintext.iter_mut().zip(&**self.keystream).for_each(|(byte, key)| *byte ^= key);
        } else {
            ctr(&self.aes, &self.iv).apply_keystream(plaintext);
        }
        true
    }

    /// Returns false if the length or the padding is invalid.
    fn cbc(&self, ciphertext: &[u8], plaintext: &mut Vec<u8>) -> bool {
        if ciphertext.is_empty() || !ciphertext.len().is_multiple_of(AES_BLOCK_BYTES) {
            return false;
        }
        plaintext.extend_from_slice(ciphertext);
        let mut cbc = cbc::Decryptor::inner_iv_init(&*self.aes, (&self.iv).into());
        decrypt_blocks(&mut cbc, plaintext);
        let Some(length) = unpad(plaintext).map(<[u8]>::len) else { return false };
        plaintext.truncate(length);
        true
    }
}

/// Counter mode from its start. Borrows the key instead of copying it.
fn ctr<'a>(aes: &'a Aes256, iv: &[u8; AES_BLOCK_BYTES]) -> ctr::Ctr128BE<&'a Aes256> {
    ctr::Ctr128BE::from_core(ctr::CtrCore::inner_iv_init(aes, iv.into()))
}

/// Writes `text`, which must be UTF-8, as a JSON string.
fn write_string(out: &mut Vec<u8>, text: &[u8]) {
    if json::plain_end(text, 0) == text.len() {
        out.push(b'"');
        out.extend_from_slice(text);
        out.push(b'"');
    } else {
        serde_json::to_writer(out, &String::from_utf8_lossy(text)).expect("a string can always be written to memory");
    }
}

/// Whether `text` is a GUID with hyphens: an id that is not encrypted.
pub(super) fn is_guid(text: &[u8]) -> bool {
    text.len() == 36
        && text.iter().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}
