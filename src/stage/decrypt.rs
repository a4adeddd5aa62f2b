//! Decrypts AES-256 in counter mode (CTR) or cipher block chaining mode (CBC).

use std::{fmt, str::FromStr};

use aes::{
    Aes256,
    cipher::{BlockCipherDecrypt, BlockModeDecrypt, BlockSizeUser, KeyIvInit, StreamCipher, consts::U16},
};

use super::{Damage, PIECE_BYTES};
use crate::{expected::Expected, keys::AesKey, wipe::with_stack_wiped};

/// The length of an AES block.
pub const AES_BLOCK_BYTES: usize = 16;

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
    /// Both modes, in the order in which detection tries them.
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

    /// Parses a cipher as settings name it: `ctr` or `cbc`.
    fn from_str(name: &str) -> Result<Self, Expected> {
        match name {
            "ctr" => Ok(Self::Ctr),
            "cbc" => Ok(Self::Cbc),
            _ => Err(Expected("ctr or cbc")),
        }
    }
}

/// Decrypts a stream of bytes.
pub struct Decrypt {
    mode: Mode,
    /// Plaintext, then ciphertext that cannot be decrypted yet.
    buffer: Vec<u8>,
    /// How much of the plaintext is consumed.
    consumed: usize,
    /// Where the plaintext ends.
    decrypted: usize,
}

/// The state of the cipher. It is on the heap, because moving it would leave copies of the key on the stack.
enum Mode {
    Ctr(Box<Ctr>),
    Cbc(Box<Cbc>),
}

impl Decrypt {
    /// Creates a decoder for the start of a ciphertext.
    pub fn new(cipher: Cipher, key: &AesKey) -> Self {
        let (key, iv) = ((&key.key).into(), (&key.iv).into());
        let mode = with_stack_wiped(|| match cipher {
            Cipher::Ctr => Mode::Ctr(Box::new(Ctr::new(key, iv))),
            Cipher::Cbc => Mode::Cbc(Box::new(Cbc::new(key, iv))),
        });
        let buffer = Vec::with_capacity(PIECE_BYTES + 2 * AES_BLOCK_BYTES);
        Self { mode, buffer, consumed: 0, decrypted: 0 }
    }

    /// Decrypts at most [`PIECE_BYTES`] of `input`, and advances it past them. The result is appended to
    /// [`Self::plaintext`], except for a last block that may be padding.
    pub fn push(&mut self, input: &mut &[u8]) {
        let (piece, rest) = input.split_at(input.len().min(PIECE_BYTES));
        *input = rest;
        self.buffer.drain(..self.consumed);
        self.decrypted -= self.consumed;
        self.consumed = 0;
        self.buffer.extend_from_slice(piece);
        let ciphertext = &mut self.buffer[self.decrypted..];
        self.decrypted += match &mut self.mode {
            Mode::Ctr(ctr) => {
                ctr.apply_keystream(ciphertext);
                ciphertext.len()
            }
            Mode::Cbc(cbc) => {
                // The last block waits for more input or for the end, because only the end has padding.
                let whole_blocks = ciphertext.len().saturating_sub(1) / AES_BLOCK_BYTES * AES_BLOCK_BYTES;
                decrypt_blocks(cbc, &mut ciphertext[..whole_blocks]);
                whole_blocks
            }
        };
    }

    /// Ends the ciphertext: appends the last plaintext to [`Self::plaintext`]. An empty ciphertext has an empty
    /// plaintext.
    pub fn finish(&mut self) -> Result<(), Damage> {
        let Mode::Cbc(cbc) = &mut self.mode else { return Ok(()) };
        let ciphertext = &mut self.buffer[self.decrypted..];
        match ciphertext.len() {
            0 => Ok(()),
            AES_BLOCK_BYTES => {
                decrypt_blocks(cbc, ciphertext);
                self.decrypted += unpad(ciphertext).ok_or(Damage::Padding)?.len();
                self.buffer.truncate(self.decrypted);
                Ok(())
            }
            _ => Err(Damage::PartialAesBlock),
        }
    }

    /// The plaintext that is not consumed yet.
    pub fn plaintext(&self) -> &[u8] {
        &self.buffer[self.consumed..self.decrypted]
    }

    /// Removes the first `count` bytes of the plaintext.
    pub fn consume(&mut self, count: usize) {
        debug_assert!(count <= self.plaintext().len(), "the plaintext is shorter than {count} bytes");
        self.consumed += count;
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

/// Returns `plaintext` without its PKCS#7 padding (RFC 5652, section 6.3), or `None` if it does not end with such
/// padding.
pub fn unpad(plaintext: &[u8]) -> Option<&[u8]> {
    let count = usize::from(*plaintext.last()?);
    let (text, padding) = plaintext.split_at_checked(plaintext.len().checked_sub(count)?)?;
    let is_padding = (1..=AES_BLOCK_BYTES).contains(&count) && padding.iter().all(|&byte| usize::from(byte) == count);
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

    /// Decrypts a ciphertext that arrives in `pieces`.
    fn decrypt<'b>(
        cipher: Cipher,
        key: &AesKey,
        pieces: impl IntoIterator<Item = &'b [u8]>,
    ) -> Result<Vec<u8>, Damage> {
        let mut decrypt = Decrypt::new(cipher, key);
        let mut text = Vec::new();
        for mut piece in pieces {
            while !piece.is_empty() {
                decrypt.push(&mut piece);
                // Leaves one byte, because a caller need not consume all of it.
                let count = decrypt.plaintext().len().saturating_sub(1);
                text.extend_from_slice(&decrypt.plaintext()[..count]);
                decrypt.consume(count);
            }
        }
        decrypt.finish()?;
        text.extend_from_slice(decrypt.plaintext());
        Ok(text)
    }

    proptest! {
        #[test]
        fn ciphertext_is_decrypted_in_pieces_of_any_size(
            text in prop::collection::vec(any::<u8>(), 0..300),
            sizes in prop::collection::vec(1_usize..40, 1..30),
            iv in any::<u8>(),
        ) {
            for cipher in Cipher::ALL {
                let ciphertext = encrypt(cipher, &key(iv), &text);
                let mut rest = ciphertext.as_slice();
                let mut sizes = sizes.iter().cycle();
                let pieces = std::iter::from_fn(|| {
                    let (piece, after) = rest.split_at((*sizes.next()?).min(rest.len()));
                    rest = after;
                    (!piece.is_empty()).then_some(piece)
                });
                prop_assert_eq!(decrypt(cipher, &key(iv), pieces).unwrap(), text.as_slice());
            }
        }
    }

    #[test]
    fn ciphertext_longer_than_the_buffer_is_decrypted() {
        let text: Vec<u8> = (0..3 * PIECE_BYTES + 5).map(|at| at as u8).collect();
        for cipher in Cipher::ALL {
            let ciphertext = encrypt(cipher, &key(1), &text);
            assert_eq!(decrypt(cipher, &key(1), [ciphertext.as_slice()]).unwrap(), text);
        }
    }

    #[test]
    fn the_counter_has_128_bits_and_wraps_around() {
        let text = [0; 64];
        let ciphertext = encrypt(Cipher::Ctr, &key(0xFF), &text);
        let first_block_after_wrapping = encrypt(Cipher::Ctr, &key(0), &text[..16]);
        assert_eq!(ciphertext[16..32], first_block_after_wrapping);
        assert_eq!(decrypt(Cipher::Ctr, &key(0xFF), [ciphertext.as_slice()]).unwrap(), text);
    }

    #[test]
    fn a_ciphertext_truncated_within_a_block_is_damaged() {
        let ciphertext = encrypt(Cipher::Cbc, &key(1), b"some text that is longer than a block");
        assert_eq!(decrypt(Cipher::Cbc, &key(1), [&ciphertext[..ciphertext.len() - 3]]), Err(Damage::PartialAesBlock));
    }

    #[test]
    fn a_ciphertext_truncated_between_blocks_has_no_padding() {
        let ciphertext = encrypt(Cipher::Cbc, &key(1), b"some text that is longer than a block");
        assert_eq!(decrypt(Cipher::Cbc, &key(1), [&ciphertext[..ciphertext.len() - 16]]), Err(Damage::Padding));
    }

    #[test]
    fn padding_is_1_to_16_bytes_whose_value_is_their_number() {
        assert_eq!(unpad(b"text\x01"), Some(&b"text"[..]));
        assert_eq!(unpad(&[16; 16]), Some(&b""[..]));
        for invalid in [&b""[..], b"text\x00", b"text\x02", b"\x03\x03", &[17; 32]] {
            assert_eq!(unpad(invalid), None, "{invalid:?}");
        }
    }
}
