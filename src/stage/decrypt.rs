//! AES-256 undone, in counter mode or in cipher block chaining. Knows keys and bytes and nothing of what the bytes mean.

use std::{fmt, str::FromStr};

use aes::{
    Aes256,
    cipher::{BlockCipherDecrypt, BlockModeDecrypt, BlockSizeUser, KeyIvInit, StreamCipher, consts::U16},
};

use super::{Damage, Next, PIECE_BYTES};
use crate::{expected::Expected, keys::AesKey, wipe::with_stack_wiped};

/// The bytes of an AES block.
pub const BLOCK_BYTES: usize = 16;

type Ctr = ctr::Ctr128BE<Aes256>;
type Cbc = cbc::Decryptor<Aes256>;

/// The mode of AES-256 (NIST SP 800-38A).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cipher {
    /// Counter mode, with a 128-bit big-endian counter that starts at the IV.
    Ctr,
    /// Cipher block chaining with PKCS#7 padding.
    Cbc,
}

impl Cipher {
    /// Both, in the order in which they are tried.
    pub const ALL: [Self; 2] = [Self::Ctr, Self::Cbc];
}

impl fmt::Display for Cipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ctr => "AES-256-CTR",
            Self::Cbc => "AES-256-CBC",
        })
    }
}

impl FromStr for Cipher {
    type Err = Expected;

    fn from_str(word: &str) -> Result<Self, Expected> {
        match word {
            "ctr" => Ok(Self::Ctr),
            "cbc" => Ok(Self::Cbc),
            _ => Err(Expected("ctr or cbc")),
        }
    }
}

/// Decrypts a stream of bytes.
pub struct Decrypt {
    mode: Mode,
    /// Bytes on their way through: ciphertext that is not decrypted yet, then a piece of plaintext.
    piece: Vec<u8>,
}

/// On the heap, where it stays: what is moved leaves a copy of the key behind.
enum Mode {
    Ctr(Box<Ctr>),
    Cbc(Box<Cbc>),
}

impl Decrypt {
    /// Begins at the start of a ciphertext.
    pub fn new(cipher: Cipher, key: &AesKey) -> Self {
        let (key, iv) = ((&key.key).into(), (&key.iv).into());
        let mode = with_stack_wiped(|| match cipher {
            Cipher::Ctr => Mode::Ctr(Box::new(Ctr::new(key, iv))),
            Cipher::Cbc => Mode::Cbc(Box::new(Cbc::new(key, iv))),
        });
        Self { mode, piece: Vec::with_capacity(PIECE_BYTES + 2 * BLOCK_BYTES) }
    }

    /// Takes the next bytes of the ciphertext; hands on what can be decrypted by now.
    pub fn push<E>(&mut self, bytes: &[u8], next: Next<'_, E>) -> Result<(), E> {
        for bytes in bytes.chunks(PIECE_BYTES) {
            self.piece.extend_from_slice(bytes);
            let ready = match &mut self.mode {
                Mode::Ctr(ctr) => {
                    ctr.apply_keystream(&mut self.piece);
                    self.piece.len()
                }
                Mode::Cbc(cbc) => {
                    // The last block is kept back: only the end of the stream tells whether it is padding.
                    let whole = self.piece.len().saturating_sub(1) / BLOCK_BYTES * BLOCK_BYTES;
                    decrypt_blocks(cbc, &mut self.piece[..whole]);
                    whole
                }
            };
            next(&self.piece[..ready])?;
            self.piece.drain(..ready);
        }
        Ok(())
    }

    /// Ends the ciphertext; hands on the last plaintext. Nothing at all decrypts to nothing.
    pub fn finish<E: From<Damage>>(mut self, next: Next<'_, E>) -> Result<(), E> {
        let Mode::Cbc(cbc) = &mut self.mode else { return Ok(()) };
        match self.piece.len() {
            0 => Ok(()),
            BLOCK_BYTES => {
                decrypt_blocks(cbc, &mut self.piece);
                next(unpad(&self.piece).ok_or(Damage::Padding)?)
            }
            _ => Err(Damage::PartOfABlock.into()),
        }
    }
}

/// Decrypts whole blocks in place.
pub fn decrypt_blocks<A>(cbc: &mut cbc::Decryptor<A>, bytes: &mut [u8])
where
    A: BlockCipherDecrypt + BlockSizeUser<BlockSize = U16>,
{
    let (blocks, rest) = aes::Block::slice_as_chunks_mut(bytes);
    debug_assert!(rest.is_empty(), "only whole blocks can be decrypted");
    cbc.decrypt_blocks(blocks);
}

/// The plaintext before its PKCS#7 padding, if that is what it ends in.
pub fn unpad(plain: &[u8]) -> Option<&[u8]> {
    let count = usize::from(*plain.last()?);
    let (text, padding) = plain.split_at_checked(plain.len().checked_sub(count)?)?;
    let is_padding = (1..=BLOCK_BYTES).contains(&count) && padding.iter().all(|&byte| usize::from(byte) == count);
    is_padding.then_some(text)
}

#[cfg(test)]
mod tests {
    use aes::cipher::{BlockModeEncrypt, block_padding::Pkcs7};
    use proptest::prelude::*;

    use super::*;

    fn key(iv: u8) -> AesKey {
        AesKey { key: [7; 32], iv: [iv; 16] }
    }

    fn encrypt(cipher: Cipher, key: &AesKey, text: &[u8]) -> Vec<u8> {
        match cipher {
            Cipher::Ctr => {
                let mut bytes = text.to_vec();
                Ctr::new(&key.key.into(), &key.iv.into()).apply_keystream(&mut bytes);
                bytes
            }
            Cipher::Cbc => {
                cbc::Encryptor::<Aes256>::new(&key.key.into(), &key.iv.into()).encrypt_padded_vec::<Pkcs7>(text)
            }
        }
    }

    fn decrypt<'b>(
        cipher: Cipher,
        key: &AesKey,
        pieces: impl IntoIterator<Item = &'b [u8]>,
    ) -> Result<Vec<u8>, Damage> {
        let mut text = Vec::new();
        let mut decrypt = Decrypt::new(cipher, key);
        let mut keep = |piece: &[u8]| {
            text.extend_from_slice(piece);
            Ok(())
        };
        for piece in pieces {
            decrypt.push(piece, &mut keep)?;
        }
        decrypt.finish(&mut keep)?;
        Ok(text)
    }

    proptest! {
        #[test]
        fn what_was_encrypted_comes_back_in_whatever_pieces_it_arrives(
            text in prop::collection::vec(any::<u8>(), 0..300),
            cut in prop::collection::vec(1_usize..40, 1..30),
            iv in any::<u8>(),
        ) {
            for cipher in Cipher::ALL {
                let sealed = encrypt(cipher, &key(iv), &text);
                let mut rest = sealed.as_slice();
                let mut cuts = cut.iter().cycle();
                let pieces = std::iter::from_fn(|| {
                    let (piece, after) = rest.split_at((*cuts.next()?).min(rest.len()));
                    rest = after;
                    (!piece.is_empty()).then_some(piece)
                });
                prop_assert_eq!(decrypt(cipher, &key(iv), pieces).unwrap(), text.as_slice());
            }
        }
    }

    #[test]
    fn pieces_larger_than_the_buffer_come_back_whole() {
        let text: Vec<u8> = (0..3 * PIECE_BYTES + 5).map(|at| at as u8).collect();
        for cipher in Cipher::ALL {
            let sealed = encrypt(cipher, &key(1), &text);
            assert_eq!(decrypt(cipher, &key(1), [sealed.as_slice()]).unwrap(), text);
        }
    }

    #[test]
    fn the_counter_wraps_over_all_its_128_bits() {
        let text = [0; 64];
        let sealed = encrypt(Cipher::Ctr, &key(0xFF), &text);
        let first_after_the_wrap = encrypt(Cipher::Ctr, &key(0), &text[..16]);
        assert_eq!(sealed[16..32], first_after_the_wrap);
        assert_eq!(decrypt(Cipher::Ctr, &key(0xFF), [sealed.as_slice()]).unwrap(), text);
    }

    #[test]
    fn a_ciphertext_cut_within_a_block_is_damaged() {
        let sealed = encrypt(Cipher::Cbc, &key(1), b"some text that is longer than a block");
        assert_eq!(decrypt(Cipher::Cbc, &key(1), [&sealed[..sealed.len() - 3]]), Err(Damage::PartOfABlock));
    }

    #[test]
    fn a_ciphertext_cut_between_blocks_has_no_padding() {
        let sealed = encrypt(Cipher::Cbc, &key(1), b"some text that is longer than a block");
        assert_eq!(decrypt(Cipher::Cbc, &key(1), [&sealed[..sealed.len() - 16]]), Err(Damage::Padding));
    }

    #[test]
    fn padding_is_one_to_sixteen_bytes_that_say_how_many_they_are() {
        assert_eq!(unpad(b"text\x01"), Some(&b"text"[..]));
        assert_eq!(unpad(&[16; 16]), Some(&b""[..]));
        for none in [&b""[..], b"text\x00", b"text\x02", b"\x03\x03", &[17; 32]] {
            assert_eq!(unpad(none), None, "{none:?}");
        }
    }
}
