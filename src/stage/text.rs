//! From the bytes of a file to its text: decrypt and gunzip, in the order of the file's layout.

use super::{
    Damage,
    decrypt::{Cipher, Decrypt},
    gunzip::Gunzip,
    layout::Layout,
    window::{NextText, Window},
};
use crate::keys::AesKey;

/// Undoes the layers around the text of a file.
pub struct Text(Layers);

enum Layers {
    None,
    Gzip(Gunzip),
    Encrypted(Decrypt),
    EncryptedGzip(Decrypt, Gunzip),
    /// What is between the two has a window of its own.
    GzipEncrypted(Gunzip, Window, Decrypt),
}

impl Text {
    /// Begins at the start of a file of this layout. `key` is the File key; a plain file needs none.
    ///
    /// Returns `None` when the layout needs a key and there is none.
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

    /// Takes the next bytes of the file; writes the text that they hold to `window` and hands on each piece of it.
    pub fn push<E: From<Damage>>(&mut self, bytes: &[u8], window: &mut Window, next: NextText<'_, E>) -> Result<(), E> {
        match &mut self.0 {
            Layers::None => window.write(bytes, next),
            Layers::Gzip(gunzip) => gunzip.push(bytes, window, next),
            Layers::Encrypted(decrypt) => decrypt.push(bytes, &mut |text| window.write(text, &mut *next)),
            Layers::EncryptedGzip(decrypt, gunzip) => {
                decrypt.push(bytes, &mut |gzip| gunzip.push(gzip, window, &mut *next))
            }
            Layers::GzipEncrypted(gunzip, between, decrypt) => gunzip.push(bytes, between, &mut |between| {
                decrypt.push(between.text(), &mut |text| window.write(text, &mut *next))?;
                between.skip(between.text().len());
                Ok(())
            }),
        }
    }

    /// Ends the file; hands on the last of its text.
    pub fn finish<E: From<Damage>>(self, window: &mut Window, next: NextText<'_, E>) -> Result<(), E> {
        match self.0 {
            Layers::None => {}
            Layers::Gzip(gunzip) => gunzip.finish()?,
            Layers::Encrypted(decrypt) => decrypt.finish(&mut |text| window.write(text, &mut *next))?,
            Layers::EncryptedGzip(decrypt, mut gunzip) => {
                decrypt.finish(&mut |gzip| gunzip.push(gzip, window, &mut *next))?;
                gunzip.finish()?;
            }
            Layers::GzipEncrypted(gunzip, _, decrypt) => {
                gunzip.finish()?;
                decrypt.finish(&mut |text| window.write(text, &mut *next))?;
            }
        }
        Ok(())
    }

    /// Whether everything seen so far fits the outermost gzip header, where the layout has one.
    pub fn is_gzip_begun(&self) -> bool {
        match &self.0 {
            Layers::Gzip(gunzip) | Layers::EncryptedGzip(_, gunzip) | Layers::GzipEncrypted(gunzip, ..) => {
                gunzip.is_begun()
            }
            Layers::None | Layers::Encrypted(_) => false,
        }
    }
}
