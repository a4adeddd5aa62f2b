//! AES-256 over bytes that come in pieces. Knows modes and padding, and nothing of I/O.

use aes::{
    Aes256,
    cipher::{Array, BlockModeEncrypt, KeyIvInit, StreamCipher},
};

use super::Cipher;
use crate::keys::AesKey;

const BLOCK: usize = 16;

/// An encryption that goes on from piece to piece.
pub(super) enum Seal {
    Ctr(Box<ctr::Ctr128BE<Aes256>>),
    Cbc(Box<cbc::Encryptor<Aes256>>),
}

impl Seal {
    pub(super) fn new(cipher: Cipher, key: &AesKey) -> Self {
        let (key, iv) = ((&key.key).into(), (&key.iv).into());
        match cipher {
            Cipher::Ctr => Self::Ctr(Box::new(ctr::Ctr128BE::new(key, iv))),
            Cipher::Cbc => Self::Cbc(Box::new(cbc::Encryptor::new(key, iv))),
        }
    }

    /// Encrypts what can be of the next bytes, in place; returns how many that is. The others belong to the next piece.
    pub(super) fn push(&mut self, bytes: &mut [u8]) -> usize {
        match self {
            Self::Ctr(ctr) => {
                ctr.apply_keystream(bytes);
                bytes.len()
            }
            Self::Cbc(cbc) => {
                let (blocks, unfinished) = Array::slice_as_chunks_mut(bytes);
                cbc.encrypt_blocks(blocks);
                let unfinished = unfinished.len();
                bytes.len() - unfinished
            }
        }
    }

    /// Encrypts the last bytes, all of them; CBC adds its PKCS#7 padding.
    pub(super) fn finish(mut self, bytes: &mut Vec<u8>) {
        if let Self::Cbc(_) = self {
            let missing = BLOCK - bytes.len() % BLOCK;
            bytes.resize(bytes.len() + missing, missing as u8);
        }
        self.push(bytes);
    }
}
