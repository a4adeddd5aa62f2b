//! The arrows of the diagram, one file each: decrypt, gunzip, lines, decode.
//!
//! Each stage is a core that knows no I/O. What takes bytes has a `push` that hands on what they become, piece by piece, and
//! a `finish` that says whether the end is one. Text is written to a [`window`], from which [`lines`] takes blocks.
//! [`layout`] chooses the stages for a file, [`text`] joins them.

pub mod columns;
pub mod decode;
pub mod decrypt;
pub mod gunzip;
pub mod inflate;
pub mod layout;
pub mod lines;
pub mod skip;
pub mod text;
pub mod window;

/// Where a stage hands on pieces that are no text yet. An error stops the stage.
pub type Next<'a, E> = &'a mut dyn FnMut(&[u8]) -> Result<(), E>;

/// How many bytes a stage hands on at once, at most: small enough to stay in a core's cache until the next stage is done
/// with them.
pub const PIECE_BYTES: usize = 64 << 10;

/// What is wrong with the bytes of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// AES-CBC makes whole blocks of 16 bytes.
    #[error("the ciphertext ends in the middle of an AES block")]
    PartOfABlock,
    /// The last block does not end as PKCS#7 demands (RFC 5652, section 6.3).
    #[error("the padding behind the last byte is not PKCS#7")]
    Padding,
    /// Something else stands where a gzip member should begin (RFC 1952, section 2.3).
    #[error("there are bytes that are no gzip member where one should begin")]
    NoMember,
    /// The header of a gzip member has reserved flags set, or does not match its checksum.
    #[error("the header of a gzip member is damaged")]
    MemberHeader,
    /// The compressed data is none (RFC 1951).
    #[error("the compressed data is damaged")]
    Deflate,
    /// The text of a gzip member is not what was compressed.
    #[error("a gzip member does not match its checksum")]
    Checksum,
    /// The text of a gzip member is shorter or longer than what was compressed.
    #[error("a gzip member does not match its length")]
    Length,
    /// The file ends within a gzip member.
    #[error("the gzip stream is cut short")]
    CutShort,
}
