//! AES-256 encryption of bytes that arrive in pieces. Does no I/O.

use aes::{
    Aes256,
    cipher::{Array, BlockModeEncrypt, KeyIvInit, StreamCipher},
};

use super::Cipher;
use crate::keys::AesKey;

const BLOCK: usize = 16;

/// Encrypts one stream, piece by piece.
pub(super) enum Encryptor {
    Ctr(Box<ctr::Ctr128BE<Aes256>>),
    Cbc(Box<cbc::Encryptor<Aes256>>),
}

impl Encryptor {
    pub(super) fn new(cipher: Cipher, key: &AesKey) -> Self {
        let (key, iv) = ((&key.key).into(), (&key.iv).into());
        match cipher {
            Cipher::Ctr => Self::Ctr(Box::new(ctr::Ctr128BE::new(key, iv))),
            Cipher::Cbc => Self::Cbc(Box::new(cbc::Encryptor::new(key, iv))),
        }
    }

    /// Encrypts the next bytes in place; returns how many are encrypted. The rest, less than a block, must begin the
    /// next piece.
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

    /// Encrypts the last bytes. CBC adds PKCS#7 padding.
    pub(super) fn finish(mut self, bytes: &mut Vec<u8>) {
        if let Self::Cbc(_) = self {
            let missing = BLOCK - bytes.len() % BLOCK;
            bytes.resize(bytes.len() + missing, missing as u8);
        }
        self.push(bytes);
    }
}
