//! The layouts of a data file: which layers of AES and gzip surround its rows.

use std::{fmt, str::FromStr};

use super::decrypt::Cipher;
use crate::expected::Expected;

/// The layers around the rows of a file. The name lists the inner layers last: `EncryptedGzip` is AES(gzip(rows)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Layout {
    /// AES(gzip(rows)).
    EncryptedGzip(Cipher),
    /// AES(rows).
    Encrypted(Cipher),
    /// gzip(AES(rows)).
    GzipEncrypted(Cipher),
    /// Rows, neither encrypted nor compressed.
    Plain,
    /// gzip(rows).
    PlainGzip,
}

impl Layout {
    /// All layouts, in the order in which detection prefers them if several fit equally well.
    pub const ALL: [Self; 8] = [
        Self::EncryptedGzip(Cipher::Ctr),
        Self::EncryptedGzip(Cipher::Cbc),
        Self::Encrypted(Cipher::Ctr),
        Self::Encrypted(Cipher::Cbc),
        Self::GzipEncrypted(Cipher::Ctr),
        Self::GzipEncrypted(Cipher::Cbc),
        Self::Plain,
        Self::PlainGzip,
    ];

    /// The cipher, if the layout is encrypted.
    pub fn cipher(self) -> Option<Cipher> {
        match self {
            Self::EncryptedGzip(cipher) | Self::Encrypted(cipher) | Self::GzipEncrypted(cipher) => Some(cipher),
            Self::Plain | Self::PlainGzip => None,
        }
    }

    /// The name of the layout in settings.
    pub fn name(self) -> LayoutName {
        match self {
            Self::EncryptedGzip(_) => LayoutName::EncryptedGzip,
            Self::Encrypted(_) => LayoutName::Encrypted,
            Self::GzipEncrypted(_) => LayoutName::GzipEncrypted,
            Self::Plain | Self::PlainGzip => LayoutName::Plain,
        }
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.name())?;
        match self.cipher() {
            Some(cipher) => write!(f, " with {cipher}"),
            None => Ok(()),
        }
    }
}

/// A layout as the setting `FILE_LAYOUT` names it, which does not state the cipher.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LayoutName {
    /// `encrypted-gzip`.
    EncryptedGzip,
    /// `gzip-encrypted`.
    GzipEncrypted,
    /// `encrypted`.
    Encrypted,
    /// `plain`, compressed or not.
    Plain,
}

impl fmt::Display for LayoutName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::EncryptedGzip => "encrypted-gzip",
            Self::GzipEncrypted => "gzip-encrypted",
            Self::Encrypted => "encrypted",
            Self::Plain => "plain",
        })
    }
}

impl FromStr for LayoutName {
    type Err = Expected;

    fn from_str(name: &str) -> Result<Self, Expected> {
        match name {
            "encrypted-gzip" => Ok(Self::EncryptedGzip),
            "gzip-encrypted" => Ok(Self::GzipEncrypted),
            "encrypted" => Ok(Self::Encrypted),
            "plain" => Ok(Self::Plain),
            _ => Err(Expected("encrypted-gzip, gzip-encrypted, encrypted or plain")),
        }
    }
}

/// Which layouts detection considers. By default, all that are encrypted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LayoutRules {
    /// `FILE_LAYOUT`: the only layout to consider; `None` considers all.
    pub layout: Option<LayoutName>,
    /// `FILE_CIPHER`: the only cipher to consider; `None` considers both.
    pub cipher: Option<Cipher>,
    /// `ALLOW_PLAINTEXT`: whether rows that are not encrypted are accepted.
    pub allow_plaintext: bool,
}

impl LayoutRules {
    /// The layouts that the rules allow, in the order in which detection prefers them; plain ones in any case.
    pub fn candidates(&self) -> Vec<Layout> {
        let mut candidates = Layout::ALL.to_vec();
        if let Some(only) = self.layout {
            candidates.retain(|layout| layout.name() == only);
        }
        if let Some(only) = self.cipher {
            candidates.retain(|layout| layout.cipher().is_none_or(|cipher| cipher == only));
        }
        candidates
    }
}
