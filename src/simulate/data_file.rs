//! Writes a data file: gzip and AES, in the order of its layout.
//!
//! [`Piece::encode`] does the part that does not depend on other pieces, on any thread. The rest is a stack of writers
//! on top of the file.

use std::{
    fs::File,
    io::{self, Write},
    path::Path,
};

use flate2::{Compression, write::GzEncoder};

use super::{
    Cipher, LayoutName,
    encrypt::Encryptor,
    gzip::{self, Summary},
};
use crate::keys::AesKey;

/// A piece of text, encoded as far as that is independent of other pieces.
pub(super) struct Piece {
    bytes: Vec<u8>,
    /// The summary of the text, if `bytes` are compressed.
    summary: Option<Summary>,
}

impl Piece {
    pub(super) fn encode(text: Vec<u8>, layout: LayoutName) -> io::Result<Self> {
        if layout == LayoutName::EncryptedGzip {
            let (bytes, summary) = gzip::deflate(&text)?;
            return Ok(Self { bytes, summary: Some(summary) });
        }
        Ok(Self { bytes: text, summary: None })
    }
}

/// A data file that is being written.
pub(super) struct DataFile {
    file: File,
    top: Box<dyn Layer>,
    /// The summary of the text so far, if the pieces are compressed.
    member: Option<Summary>,
}

impl DataFile {
    /// Creates the file. Fails if it exists.
    pub(super) fn create(path: &Path, layout: LayoutName, cipher: Cipher, key: &AesKey) -> io::Result<Self> {
        let file = File::create_new(path)?;
        let below: Box<dyn Layer> = Box::new(file.try_clone()?);
        let below = match layout {
            // Ciphertext cannot be compressed, so that every level would store it.
            LayoutName::GzipEncrypted => Box::new(GzEncoder::new(below, Compression::none())),
            LayoutName::EncryptedGzip | LayoutName::Encrypted | LayoutName::Plain => below,
        };
        let mut top = match layout {
            LayoutName::Plain => below,
            LayoutName::EncryptedGzip | LayoutName::GzipEncrypted | LayoutName::Encrypted => {
                Box::new(EncryptingWriter { encryptor: Encryptor::new(cipher, key), buffer: Vec::new(), below })
            }
        };
        let member = (layout == LayoutName::EncryptedGzip).then(Summary::default);
        if member.is_some() {
            top.write_all(&gzip::HEADER)?;
        }
        Ok(Self { file, top, member })
    }

    /// Appends the next piece.
    pub(super) fn push(&mut self, piece: &Piece) -> io::Result<()> {
        if let (Some(member), Some(summary)) = (&mut self.member, &piece.summary) {
            member.append(summary);
        }
        self.top.write_all(&piece.bytes)
    }

    /// Completes the file; returns its size in bytes.
    pub(super) fn finish(mut self) -> io::Result<u64> {
        if let Some(member) = self.member {
            self.top.write_all(&member.trailer())?;
        }
        self.top.finish()?;
        Ok(self.file.metadata()?.len())
    }
}

/// A writer that must be finished, because it buffers its last bytes.
trait Layer: Write {
    /// Writes the buffered bytes, then finishes the layer below.
    fn finish(self: Box<Self>) -> io::Result<()>;
}

impl Layer for File {
    fn finish(self: Box<Self>) -> io::Result<()> {
        Ok(())
    }
}

impl Layer for GzEncoder<Box<dyn Layer>> {
    fn finish(self: Box<Self>) -> io::Result<()> {
        GzEncoder::finish(*self)?.finish()
    }
}

/// Encrypts what is written, and passes it on.
struct EncryptingWriter {
    encryptor: Encryptor,
    /// The bytes that are not encrypted yet. Between writes, this is the incomplete block of CBC.
    buffer: Vec<u8>,
    below: Box<dyn Layer>,
}

impl Write for EncryptingWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        let encrypted = self.encryptor.push(&mut self.buffer);
        self.below.write_all(&self.buffer[..encrypted])?;
        self.buffer.drain(..encrypted);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.below.flush()
    }
}

impl Layer for EncryptingWriter {
    fn finish(self: Box<Self>) -> io::Result<()> {
        let Self { encryptor, mut buffer, mut below } = *self;
        encryptor.finish(&mut buffer);
        below.write_all(&buffer)?;
        below.finish()
    }
}
