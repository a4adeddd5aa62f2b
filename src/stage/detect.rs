//! Finds the layout of a file from its first bytes.
//!
//! Each candidate layout is tried on the head of the file. The one whose text makes the most sense is the layout. The
//! first bytes alone prove little, because ciphertext can begin like gzip or JSON by chance. So a text that continues
//! like rows is preferred to a text that only begins like rows, whatever the order of the candidates.

use inflate::Window;

use super::{
    Damage,
    decrypt::{AES_BLOCK_BYTES, Cipher},
    layers::RemoveLayers,
    layout::{Layout, LayoutRules},
};
use crate::{
    keys::AesKey,
    verdict::{Reason, Verdict},
};

/// How many bytes of a file detection needs, unless the file is shorter.
pub const HEAD_BYTES: usize = 64 << 10;

/// How many bytes of the text of each candidate detection examines.
const SAMPLE_BYTES: usize = 4 << 10;

/// Why no layout was found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// The rows are not encrypted. The file is set aside unless `ALLOW_PLAINTEXT` is `true`.
    #[error("is not encrypted, and `ALLOW_PLAINTEXT` is not `true`")]
    Plaintext,
    /// The file is encrypted, and neither the drop nor the API has a File key. The file is set aside.
    #[error("is encrypted, and there is no File key for it")]
    NoKey,
    /// The file begins with a gzip header, and is damaged within its first bytes. The file is set aside.
    #[error("begins like gzip and is damaged")]
    Damaged(#[source] Damage),
    /// `FILE_LAYOUT` is `plain`, and the file is not. The file is set aside.
    #[error("is neither gzip nor JSON, and `FILE_LAYOUT` is `plain`: it is encrypted, or damaged")]
    NotPlain,
    /// All of the file but its first AES block decrypts to text. The file is set aside.
    #[error(
        "decrypts with AES-256-CBC except for its first block: it was encrypted with another IV than the File key has"
    )]
    WrongIv,
    /// No layout fits: the key or the IV is wrong, or the blob is damaged. The file is set aside.
    #[error("is neither gzip nor JSON after decryption (tried {tried}): a wrong File key or IV, or a damaged blob")]
    Undecipherable {
        /// The layouts that were tried.
        tried: String,
    },
}

impl LayoutError {
    /// The verdict on the file.
    pub fn verdict(&self) -> Verdict {
        Verdict::SetAside(match self {
            Self::Plaintext => Reason::Plaintext,
            Self::NoKey => Reason::NoKey,
            Self::Damaged(_) => Reason::Damaged,
            Self::NotPlain | Self::WrongIv | Self::Undecipherable { .. } => Reason::WrongKey,
        })
    }
}

/// Finds the layout of a file from its `head`: its first [`HEAD_BYTES`], or all of its bytes if `is_whole_file`.
pub fn detect_layout(
    head: &[u8],
    is_whole_file: bool,
    key: Option<&AesKey>,
    rules: &LayoutRules,
) -> Result<Layout, LayoutError> {
    let candidates = rules.candidates();
    let mut best: Option<(Fit, Layout)> = None;
    for &layout in &candidates {
        let Some(fit) = Sample::read(layout, head, is_whole_file, key).and_then(|sample| sample.fit(layout)) else {
            continue;
        };
        // Of layouts that fit equally well, the first one stays.
        if best.is_none_or(|(best_fit, _)| fit > best_fit) {
            best = Some((fit, layout));
        }
    }
    match best {
        Some((_, Layout::Plain | Layout::PlainGzip)) if !rules.allow_plaintext => Err(LayoutError::Plaintext),
        Some((_, layout)) => Ok(layout),
        None => Err(explain(head, is_whole_file, key, &candidates)),
    }
}

/// Finds out why no layout fits, as well as the bytes tell.
fn explain(head: &[u8], is_whole_file: bool, key: Option<&AesKey>, candidates: &[Layout]) -> LayoutError {
    let as_gzip = Sample::read(Layout::PlainGzip, head, is_whole_file, None);
    if let Some(Sample { damage: Some(damage), has_gzip_header: true, .. }) = as_gzip {
        return LayoutError::Damaged(damage);
    }
    if candidates.iter().all(|layout| layout.cipher().is_none()) {
        return LayoutError::NotPlain;
    }
    let Some(key) = key else { return LayoutError::NoKey };
    let cbc = Layout::Encrypted(Cipher::Cbc);
    if candidates.contains(&cbc) {
        // With CBC, a wrong IV changes the first block and no other.
        let sample = Sample::read(cbc, head, is_whole_file, Some(key));
        let after_first_block = sample.as_ref().and_then(|sample| sample.text.get(AES_BLOCK_BYTES..));
        if after_first_block.is_some_and(|text| text.len() >= 4 * AES_BLOCK_BYTES && is_readable(text)) {
            return LayoutError::WrongIv;
        }
    }
    let tried: Vec<_> = candidates.iter().filter(|layout| layout.cipher().is_some()).map(Layout::to_string).collect();
    LayoutError::Undecipherable { tried: tried.join(", ") }
}

/// How well a layout fits. A better fit is greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fit {
    /// The first bytes are those of the layout, and later ones are damaged.
    Begins,
    /// Nothing contradicts the layout, but there is no text to examine.
    Possible,
    /// The text reads like rows.
    Rows,
}

/// The result of reading the head of a file with one layout.
struct Sample {
    text: Vec<u8>,
    /// Whether `text` is the text of the whole file.
    is_whole_text: bool,
    has_gzip_header: bool,
    damage: Option<Damage>,
}

impl Sample {
    /// Reads at most [`SAMPLE_BYTES`] of text. Returns `None` if the layout is encrypted and there is no key.
    fn read(layout: Layout, head: &[u8], is_whole_file: bool, key: Option<&AesKey>) -> Option<Self> {
        let mut layers = RemoveLayers::new(layout, key)?;
        let (mut input, mut window) = (head, Window::new());
        let mut reached_end = read_sample(&mut window, |window| layers.push(&mut input, window));
        let has_gzip_header = layers.has_read_gzip_header();
        if reached_end == Ok(true) {
            reached_end =
                if is_whole_file { read_sample(&mut window, |window| layers.finish(window)) } else { Ok(false) };
        }
        let text = window.text();
        Some(Self {
            text: text[..text.len().min(SAMPLE_BYTES)].to_vec(),
            is_whole_text: reached_end == Ok(true),
            has_gzip_header,
            damage: reached_end.err(),
        })
    }

    fn fit(&self, layout: Layout) -> Option<Fit> {
        let has_gzip_layer = !matches!(layout, Layout::Plain | Layout::Encrypted(_));
        let is_empty = self.is_whole_text && self.text.is_empty();
        if has_gzip_layer && !self.has_gzip_header {
            None
        } else if begins_like_row(&self.text) {
            Some(if is_readable(&self.text) { Fit::Rows } else { Fit::Begins })
        } else if is_empty {
            Some(Fit::Possible)
        } else if matches!(layout, Layout::EncryptedGzip(_)) {
            // Random bytes do not decrypt to a gzip header, so the layout fits whatever the text is.
            Some(if self.damage.is_none() { Fit::Possible } else { Fit::Begins })
        } else {
            None
        }
    }
}

/// Calls `append_piece` until the window has [`SAMPLE_BYTES`] of text. Returns true if the text ended before that.
fn read_sample(
    window: &mut Window,
    mut append_piece: impl FnMut(&mut Window) -> Result<usize, Damage>,
) -> Result<bool, Damage> {
    while window.text().len() < SAMPLE_BYTES {
        if append_piece(window)? == 0 {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether `text`, the beginning of a file's text, can be the beginning of rows: `{`, then a name or the end of the
/// object.
fn begins_like_row(text: &[u8]) -> bool {
    let text = text.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(text);
    let text = trim_json_whitespace(text);
    let Some(inside) = text.strip_prefix(b"{") else {
        return false;
    };
    let first_block = &text[..text.len().min(AES_BLOCK_BYTES)];
    matches!(trim_json_whitespace(inside).first(), Some(b'"' | b'}') | None) && is_readable(first_block)
}

/// Returns `text` without JSON whitespace (RFC 8259, section 2) at its start.
fn trim_json_whitespace(text: &[u8]) -> &[u8] {
    let start = text.iter().position(|byte| !matches!(byte, b' ' | b'\t' | b'\n' | b'\r'));
    &text[start.unwrap_or(text.len())..]
}

/// Whether `text` is UTF-8, except for a last character that may be truncated, without control characters that JSON
/// text cannot contain.
fn is_readable(text: &[u8]) -> bool {
    let is_utf8 = match std::str::from_utf8(text) {
        Ok(_) => true,
        Err(error) => error.error_len().is_none(),
    };
    is_utf8 && !text.iter().any(|&byte| byte < b' ' && !matches!(byte, b'\t' | b'\n' | b'\r') || byte == 0x7F)
}

#[cfg(test)]
mod tests;
