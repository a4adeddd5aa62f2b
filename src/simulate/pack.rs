//! Encodes a data file: gzip and AES, in the order of its layout.
//!
//! What needs no other block is done by [`Piece::of`], on any thread; the rest is a stack of writers, the lowest of which
//! is the file. Knows nothing of rows.

use std::{
    fs::File,
    io::{self, Write},
    path::Path,
};

use flate2::{Compression, write::GzEncoder};

use super::{
    Cipher, LayoutName,
    encrypt::Seal,
    gzip::{self, Summary},
};
use crate::keys::AesKey;

/// Some text of a data file, encoded as far as it can be by itself.
pub(super) struct Piece {
    bytes: Vec<u8>,
    /// There when `bytes` are deflated.
    summary: Option<Summary>,
}

impl Piece {
    pub(super) fn of(text: Vec<u8>, layout: LayoutName) -> io::Result<Self> {
        if layout == LayoutName::EncryptedGzip {
            let (bytes, summary) = gzip::deflated(&text)?;
            return Ok(Self { bytes, summary: Some(summary) });
        }
        Ok(Self { bytes: text, summary: None })
    }
}

/// A data file that is being written.
pub(super) struct Packed {
    file: File,
    top: Box<dyn Layer>,
    /// There when the pieces are deflated.
    member: Option<Summary>,
}

impl Packed {
    /// Begins a new file; nothing is overwritten.
    pub(super) fn create(path: &Path, layout: LayoutName, cipher: Cipher, key: &AesKey) -> io::Result<Self> {
        let file = File::create_new(path)?;
        let below: Box<dyn Layer> = Box::new(file.try_clone()?);
        let below = match layout {
            // Ciphertext does not get smaller: every level would store it.
            LayoutName::GzipEncrypted => Box::new(GzEncoder::new(below, Compression::none())),
            LayoutName::EncryptedGzip | LayoutName::Encrypted | LayoutName::Plain => below,
        };
        let mut top = match layout {
            LayoutName::Plain => below,
            LayoutName::EncryptedGzip | LayoutName::GzipEncrypted | LayoutName::Encrypted => {
                Box::new(Encrypted { seal: Seal::new(cipher, key), buffer: Vec::new(), below })
            }
        };
        let member = (layout == LayoutName::EncryptedGzip).then(Summary::default);
        if member.is_some() {
            top.write_all(&gzip::HEADER)?;
        }
        Ok(Self { file, top, member })
    }

    /// Takes the next piece of the text.
    pub(super) fn push(&mut self, piece: &Piece) -> io::Result<()> {
        if let (Some(member), Some(summary)) = (&mut self.member, &piece.summary) {
            member.append(summary);
        }
        self.top.write_all(&piece.bytes)
    }

    /// Ends the file; returns its size in bytes.
    pub(super) fn finish(mut self) -> io::Result<u64> {
        if let Some(member) = self.member {
            self.top.write_all(&member.trailer())?;
        }
        self.top.finish()?;
        Ok(self.file.metadata()?.len())
    }
}

/// A writer that holds something back until its end.
trait Layer: Write {
    /// Writes what was held back, here and below.
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

/// AES on top of another writer.
struct Encrypted {
    seal: Seal,
    /// The bytes at hand; between writes, CBC's unfinished block.
    buffer: Vec<u8>,
    below: Box<dyn Layer>,
}

impl Write for Encrypted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        let sealed = self.seal.push(&mut self.buffer);
        self.below.write_all(&self.buffer[..sealed])?;
        self.buffer.drain(..sealed);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.below.flush()
    }
}

impl Layer for Encrypted {
    fn finish(self: Box<Self>) -> io::Result<()> {
        let Self { seal, mut buffer, mut below } = *self;
        seal.finish(&mut buffer);
        below.write_all(&buffer)?;
        below.finish()
    }
}
