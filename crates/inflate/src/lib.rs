//! Decompresses gzip ([RFC 1952](https://www.rfc-editor.org/rfc/rfc1952)) and raw deflate
//! ([RFC 1951](https://www.rfc-editor.org/rfc/rfc1951)) streams into a [`Window`] of the caller.
//!
//! - **Fast**: for JSON text, about twice as fast as `flate2` with `zlib-rs`. `cargo bench -p inflate` compares the
//!   two.
//! - **Safe**: no `unsafe` code.
//! - **Bounded**: each call appends at most [`PIECE_BYTES`] bytes of text, so a small input that expands a thousandfold
//!   cannot fill the memory. The caller decides between two calls how much of the text to keep.
//! - **Strict**: accepts and rejects exactly the streams that zlib does; property tests and fuzzers compare the two.
//!   [`Gunzip`] reads all members of a stream and checks every checksum and length. A truncated stream is an error,
//!   never a shorter text.
//! - **Without I/O**: the input arrives as slices, cut anywhere.
//!
//! A call of [`Gunzip::push`] decompresses one piece, advances the input past the bytes that it used, and returns how
//! many bytes of text it appended to the window. It returns 0 when it has used all of the input:
//!
//! ```
//! use inflate::{Gunzip, Window};
//! # use std::io::Write;
//! # let mut encoder = flate2::write::GzEncoder::new(Vec::new(), Default::default());
//! # encoder.write_all(b"one\ntwo\n").unwrap();
//! # let gzip = encoder.finish().unwrap();
//!
//! let (mut gunzip, mut window) = (Gunzip::new(), Window::new());
//! let mut text = Vec::new();
//! for mut input in gzip.chunks(10) {
//!     while gunzip.push(&mut input, &mut window)? > 0 {
//!         text.extend_from_slice(window.text());
//!         window.consume(window.text().len());
//!     }
//! }
//! gunzip.finish()?; // reports a truncated stream
//! assert_eq!(text, b"one\ntwo\n");
//! # Ok::<_, inflate::Error>(())
//! ```
//!
//! Text may also stay in the window until there is enough of it, and be taken out together with the buffer that holds
//! it, without a copy: see [`Window::take`].

mod bits;
mod block_header;
mod copy;
mod entry;
mod gunzip;
mod huffman;
mod inflate;
mod symbols;
mod window;

pub use self::{
    gunzip::Gunzip,
    inflate::Inflate,
    window::{PIECE_BYTES, Window},
};

/// Why a stream cannot be decompressed. The decoder must not be used any further.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Error {
    /// No gzip member begins where one should: the magic number or the compression method is wrong (RFC 1952,
    /// section 2.3.1).
    #[error("there are bytes that are not a gzip member where one should begin")]
    NotGzip,
    /// The header of a gzip member has reserved flags set, or does not match its CRC-16 (RFC 1952, section 2.3.1).
    #[error("the header of a gzip member is damaged")]
    Header,
    /// The compressed data is not deflate (RFC 1951): for example a reserved block type, an invalid Huffman code, or a
    /// distance that reaches before the start of the text.
    #[error("the compressed data is damaged")]
    Deflate,
    /// The text of a gzip member does not match the CRC-32 in its trailer (RFC 1952, section 2.3.1).
    #[error("a gzip member does not match its checksum")]
    Checksum,
    /// The text of a gzip member does not have the length that its trailer states (RFC 1952, section 2.3.1).
    #[error("a gzip member does not match its length")]
    Length,
    /// The stream ends within a gzip member, or before the first one.
    #[error("the gzip stream is truncated")]
    Truncated,
}
