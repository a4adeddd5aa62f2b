//! One value of an encrypted column: Base64 of AES-256-CTR or CBC.

use std::borrow::Cow;

use aes::{
    Aes256,
    cipher::{InnerIvInit, KeyInit, KeyIvInit, StreamCipher},
};
use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use zeroize::Zeroizing;

use super::BadRowReason;
use crate::{
    keys::AesKey,
    stage::decrypt::{BLOCK_BYTES, Cipher, decrypt_blocks, unpad},
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
    key: AesKey,
    aes: Aes256,
    /// Every value is encrypted with the same IV, so in counter mode one keystream serves them all.
    keystream: Zeroizing<[u8; KEYSTREAM_BYTES]>,
    ciphers: &'static [Cipher],
}

impl ColumnKey {
    pub(super) fn new(key: &AesKey, cipher: Option<Cipher>) -> Self {
        let mut keystream = Zeroizing::new([0; KEYSTREAM_BYTES]);
        ctr::Ctr128BE::<Aes256>::new(&key.key.into(), &key.iv.into()).apply_keystream(&mut *keystream);
        let ciphers = match cipher {
            Some(Cipher::Ctr) => &[Cipher::Ctr][..],
            Some(Cipher::Cbc) => &[Cipher::Cbc],
            // CBC's padding is a proof; that bytes are text after CTR is less of one.
            None => &[Cipher::Cbc, Cipher::Ctr],
        };
        Self { key: key.clone(), aes: Aes256::new(&key.key.into()), keystream, ciphers }
    }

    /// The text of `value` in the column `name`.
    pub(super) fn decrypt(&self, name: &str, value: &str) -> Result<String, BadRowReason> {
        let sealed = BASE64.decode(value).map_err(|_| BadRowReason::NotBase64(name.into()))?;
        self.ciphers
            .iter()
            .find_map(|cipher| match cipher {
                Cipher::Ctr => self.ctr(&sealed),
                Cipher::Cbc => self.cbc(&sealed),
            })
            .ok_or_else(|| BadRowReason::Undecipherable(name.into()))
    }

    fn ctr(&self, sealed: &[u8]) -> Option<String> {
        let mut keystream = Cow::Borrowed(&self.keystream[..]);
        if sealed.len() > KEYSTREAM_BYTES {
            let mut longer = vec![0; sealed.len()];
            ctr::Ctr128BE::<Aes256>::new(&self.key.key.into(), &self.key.iv.into()).apply_keystream(&mut longer);
            keystream = Cow::Owned(longer);
        }
        let plain = sealed.iter().zip(keystream.iter()).map(|(sealed, key)| sealed ^ key).collect();
        String::from_utf8(plain).ok()
    }

    fn cbc(&self, sealed: &[u8]) -> Option<String> {
        if sealed.is_empty() || !sealed.len().is_multiple_of(BLOCK_BYTES) {
            return None;
        }
        let mut plain = sealed.to_vec();
        let mut cbc = cbc::Decryptor::inner_iv_init(self.aes.clone(), &self.key.iv.into());
        decrypt_blocks(&mut cbc, &mut plain);
        Some(std::str::from_utf8(unpad(&plain)?).ok()?.to_owned())
    }
}

/// Whether `text` is a GUID in its hyphenated form: an identity that is not encrypted.
pub(super) fn is_guid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}
