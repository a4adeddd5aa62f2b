//! One value of an encrypted column: Base64 of AES-256-CTR or CBC.

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

use super::{BadRowReason, json};
use crate::{
    keys::AesKey,
    stage::decrypt::{AES_BLOCK_BYTES, Cipher, decrypt_blocks, unpad},
    wipe::with_stack_wiped,
};

/// Padded standard Base64. The unused bits of the last digit are not looked at, as most encoders' readers do not.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireCanonical),
);

/// How much of the keystream is kept. Values are mostly GUIDs of 36 characters.
const KEYSTREAM_BYTES: usize = 256;

/// The Column key, ready for many short values.
pub(super) struct ColumnKey {
    iv: [u8; AES_BLOCK_BYTES],
    aes: Box<Aes256>,
    /// Every value is encrypted with the same IV, so in counter mode one keystream serves them all.
    keystream: Box<Zeroizing<[u8; KEYSTREAM_BYTES]>>,
    ciphers: &'static [Cipher],
}

/// Room for one value at a time.
#[derive(Default)]
pub(super) struct Scratch {
    sealed: Vec<u8>,
    plain: Vec<u8>,
}

impl ColumnKey {
    pub(super) fn new(key: &AesKey, cipher: Option<Cipher>) -> Self {
        let mut keystream = Box::new(Zeroizing::new([0; KEYSTREAM_BYTES]));
        let aes = with_stack_wiped(|| {
            let aes = Box::new(Aes256::new((&key.key).into()));
            ctr(&aes, &key.iv).apply_keystream(&mut **keystream);
            aes
        });
        let ciphers = match cipher {
            Some(Cipher::Ctr) => &[Cipher::Ctr][..],
            Some(Cipher::Cbc) => &[Cipher::Cbc],
            // CBC's padding is a proof; that bytes are text after CTR is less of one.
            None => &[Cipher::Cbc, Cipher::Ctr],
        };
        Self { iv: key.iv, aes, keystream, ciphers }
    }

    /// Writes the text of `value`, of the column `name`, as a JSON string.
    pub(super) fn decrypt(
        &self,
        name: &str,
        value: &[u8],
        scratch: &mut Scratch,
        out: &mut Vec<u8>,
    ) -> Result<(), BadRowReason> {
        scratch.sealed.clear();
        BASE64.decode_vec(value, &mut scratch.sealed).map_err(|_| BadRowReason::NotBase64(name.into()))?;
        let Scratch { sealed, plain } = scratch;
        let is_text = self.ciphers.iter().any(|cipher| {
            plain.clear();
            let is_decrypted = match cipher {
                Cipher::Ctr => self.ctr(sealed, plain),
                Cipher::Cbc => self.cbc(sealed, plain),
            };
            is_decrypted && std::str::from_utf8(plain).is_ok()
        });
        if !is_text {
            return Err(BadRowReason::Undecipherable(name.into()));
        }
        write_string(out, plain);
        Ok(())
    }

    fn ctr(&self, sealed: &[u8], plain: &mut Vec<u8>) -> bool {
        plain.extend_from_slice(sealed);
        if sealed.len() <= KEYSTREAM_BYTES {
            plain.iter_mut().zip(&**self.keystream).for_each(|(byte, key)| *byte ^= key);
        } else {
            ctr(&self.aes, &self.iv).apply_keystream(plain);
        }
        true
    }

    /// Says whether the padding is one.
    fn cbc(&self, sealed: &[u8], plain: &mut Vec<u8>) -> bool {
        if sealed.is_empty() || !sealed.len().is_multiple_of(AES_BLOCK_BYTES) {
            return false;
        }
        plain.extend_from_slice(sealed);
        let mut cbc = cbc::Decryptor::inner_iv_init(&*self.aes, (&self.iv).into());
        decrypt_blocks(&mut cbc, plain);
        let Some(length) = unpad(plain).map(<[u8]>::len) else { return false };
        plain.truncate(length);
        true
    }
}

/// Counter mode from its start, with a key that stays where it is.
fn ctr<'a>(aes: &'a Aes256, iv: &[u8; AES_BLOCK_BYTES]) -> ctr::Ctr128BE<&'a Aes256> {
    ctr::Ctr128BE::from_core(ctr::CtrCore::inner_iv_init(aes, iv.into()))
}

/// Writes `text`, which is UTF-8, as a JSON string.
fn write_string(out: &mut Vec<u8>, text: &[u8]) {
    if json::plain(text, 0) == text.len() {
        out.push(b'"');
        out.extend_from_slice(text);
        out.push(b'"');
    } else {
        // Writing a string to memory cannot fail.
        let _infallible = serde_json::to_writer(out, &String::from_utf8_lossy(text));
    }
}

/// Whether `text` is a GUID in its hyphenated form: an identity that is not encrypted.
pub(super) fn is_guid(text: &[u8]) -> bool {
    text.len() == 36
        && text.iter().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}
