//! Removes the layers around the text of a file: AES and gzip, in the order of the file's layout.

use inflate::{Gunzip, Window};

use super::{
    Damage,
    decrypt::{Cipher, Decrypt},
    layout::Layout,
};
use crate::keys::AesKey;

/// Decrypts and decompresses a file to text.
pub struct RemoveLayers(Layers);

/// The decoders of a layout, the outermost layer first.
enum Layers {
    None,
    Gzip(Gunzip),
    Encrypted(Decrypt),
    EncryptedGzip(Decrypt, Gunzip),
    /// The window holds the ciphertext between the two.
    GzipEncrypted(Gunzip, Window, Decrypt),
}

impl RemoveLayers {
    /// Creates the decoders for the start of a file. `key` is the File key.
    ///
    /// Returns `None` if the layout is encrypted and there is no key.
    pub fn new(layout: Layout, key: Option<&AesKey>) -> Option<Self> {
        let decrypt = |cipher: Cipher| Some(Decrypt::new(cipher, key?));
        Some(Self(match layout {
            Layout::Plain => Layers::None,
            Layout::PlainGzip => Layers::Gzip(Gunzip::new()),
            Layout::Encrypted(cipher) => Layers::Encrypted(decrypt(cipher)?),
            Layout::EncryptedGzip(cipher) => Layers::EncryptedGzip(decrypt(cipher)?, Gunzip::new()),
            Layout::GzipEncrypted(cipher) => Layers::GzipEncrypted(Gunzip::new(), Window::new(), decrypt(cipher)?),
        }))
    }

    /// Appends the next piece of text to `window`, at most [`PIECE_BYTES`](super::PIECE_BYTES), and returns its length.
    /// Advances `input` past the bytes that it has read.
    ///
    /// Returns 0 when all of `input` is used. Call it in a loop until then: there may be more text when `input` is
    /// empty.
    pub fn push(&mut self, input: &mut &[u8], window: &mut Window) -> Result<usize, Damage> {
        match &mut self.0 {
            Layers::None => Ok(window.write(input)),
            Layers::Gzip(gunzip) => Ok(gunzip.push(input, window)?),
            Layers::Encrypted(decrypt) => {
                if decrypt.plaintext().is_empty() {
                    decrypt.push(input);
                }
                Ok(write_plaintext(decrypt, window))
            }
            Layers::EncryptedGzip(decrypt, gunzip) => loop {
                let written = gunzip_plaintext(decrypt, gunzip, window)?;
                if written > 0 || input.is_empty() {
                    return Ok(written);
                }
                decrypt.push(input);
            },
            Layers::GzipEncrypted(gunzip, ciphertext, decrypt) => loop {
                let written = write_plaintext(decrypt, window);
                if written > 0 || gunzip.push(input, ciphertext)? == 0 {
                    return Ok(written);
                }
                let mut piece = ciphertext.text();
                decrypt.push(&mut piece);
                ciphertext.consume(ciphertext.text().len());
            },
        }
    }

    /// Ends the file: appends the rest of its text to `window`, piece by piece as [`Self::push`] does, and returns 0
    /// after the last piece.
    ///
    /// A truncated file is an error, never a shorter text.
    pub fn finish(&mut self, window: &mut Window) -> Result<usize, Damage> {
        match &mut self.0 {
            Layers::None => Ok(0),
            Layers::Gzip(gunzip) => {
                gunzip.finish()?;
                Ok(0)
            }
            Layers::Encrypted(decrypt) => {
                decrypt.finish()?;
                Ok(write_plaintext(decrypt, window))
            }
            Layers::EncryptedGzip(decrypt, gunzip) => {
                decrypt.finish()?;
                let written = gunzip_plaintext(decrypt, gunzip, window)?;
                if written == 0 {
                    gunzip.finish()?;
                }
                Ok(written)
            }
            Layers::GzipEncrypted(gunzip, _, decrypt) => {
                gunzip.finish()?;
                decrypt.finish()?;
                Ok(write_plaintext(decrypt, window))
            }
        }
    }

    /// Whether the file's gzip layer, if its layout has one, begins with a complete and valid header.
    pub fn has_read_gzip_header(&self) -> bool {
        match &self.0 {
            Layers::Gzip(gunzip) | Layers::EncryptedGzip(_, gunzip) | Layers::GzipEncrypted(gunzip, ..) => {
                gunzip.has_read_header()
            }
            Layers::None | Layers::Encrypted(_) => false,
        }
    }
}

/// Moves a piece of plaintext to `window`; returns its length.
fn write_plaintext(decrypt: &mut Decrypt, window: &mut Window) -> usize {
    let written = window.write(&mut decrypt.plaintext());
    decrypt.consume(written);
    written
}

/// Decompresses a piece of the plaintext, which is gzip, to `window`; returns its length.
fn gunzip_plaintext(decrypt: &mut Decrypt, gunzip: &mut Gunzip, window: &mut Window) -> Result<usize, Damage> {
    let mut gzip = decrypt.plaintext();
    let before = gzip.len();
    let written = gunzip.push(&mut gzip, window)?;
    let used = before - gzip.len();
    decrypt.consume(used);
    Ok(written)
}
