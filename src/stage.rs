//! The stages of the pipeline, one module each: from the bytes of a file to its rows.
//!
//! ```text
//!   bytes ──▶ RemoveLayers ──text──▶ LineBlocks ──blocks──▶ SkipRows ──blocks──▶ Decoder ──rows──▶
//!             (Decrypt, Gunzip)
//! ```
//!
//! A stage does no I/O; [`pipeline`](crate::pipeline) connects the stages. `RemoveLayers` appends one bounded piece of
//! text per call to the window of `LineBlocks`, and returns the length of the piece; it is called again until that is
//! 0. So blocks leave the window between two pieces, and a small input that expands a thousandfold does not fill the
//! memory.
//!
//! | module | contents |
//! |---|---|
//! | [`layout`] | the layouts of a file: which of AES and gzip surround its rows, in which order |
//! | [`detect`] | finds the layout of a file from its first bytes |
//! | [`layers`] | removes AES and gzip, in the order of the layout |
//! | [`decrypt`] | AES-256-CTR and AES-256-CBC; gzip is in the package [`inflate`] |
//! | [`lines`] | splits text into blocks of whole lines |
//! | [`skip`] | skips the rows that an earlier run delivered |
//! | [`decode`], [`columns`] | decodes rows, detects the cipher of columns and decrypts them, types metrics |
//!
//! [`batch`](crate::batch) then collects the rows into batches.

pub mod columns;
pub mod decode;
pub mod decrypt;
pub mod detect;
pub mod layers;
pub mod layout;
pub mod lines;
pub mod skip;

pub use inflate::{PIECE_BYTES, Window};

/// Damage to the bytes of a file. The file is set aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// The length of an AES-CBC ciphertext is not a multiple of 16 bytes.
    #[error("the ciphertext ends in the middle of an AES block")]
    PartialAesBlock,
    /// The last AES-CBC block does not end with PKCS#7 padding (RFC 5652, section 6.3).
    #[error("the last AES block does not end with PKCS#7 padding")]
    Padding,
    /// The gzip stream is damaged or truncated.
    #[error(transparent)]
    Gzip(#[from] inflate::Error),
}
