//! What a file is made of, told from its first bytes.
//!
//! Every candidate layout is tried on the head of the file, and the one whose text makes the most sense is taken. A few
//! bytes prove little: ciphertext begins like gzip or JSON by chance now and then, so text that reads on as rows beats
//! text that merely begins, and that beats nothing but the right first bytes.

use std::{fmt, str::FromStr};

use super::{
    Damage,
    decrypt::{BLOCK_BYTES, Cipher},
    text::Text,
    window::Window,
};
use crate::{
    expected::Expected,
    keys::AesKey,
    verdict::{Reason, Verdict},
};

/// How much of a file detection looks at.
pub const HEAD_BYTES: usize = 64 << 10;

/// How much text of a candidate is looked at.
const SAMPLE_BYTES: usize = 4 << 10;

/// The layers around the text of a file, the outermost last: `EncryptedGzip` is AES(gzip(rows)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Layout {
    /// AES(gzip(rows)).
    EncryptedGzip(Cipher),
    /// AES(rows).
    Encrypted(Cipher),
    /// gzip(AES(rows)).
    GzipEncrypted(Cipher),
    /// Rows.
    Plain,
    /// gzip(rows).
    PlainGzip,
}

impl Layout {
    /// All there are, in the order in which they are believed when they fit equally well.
    const ALL: [Self; 8] = [
        Self::EncryptedGzip(Cipher::Ctr),
        Self::EncryptedGzip(Cipher::Cbc),
        Self::Encrypted(Cipher::Ctr),
        Self::Encrypted(Cipher::Cbc),
        Self::GzipEncrypted(Cipher::Ctr),
        Self::GzipEncrypted(Cipher::Cbc),
        Self::Plain,
        Self::PlainGzip,
    ];

    /// The cipher, where there is one.
    pub fn cipher(self) -> Option<Cipher> {
        match self {
            Self::EncryptedGzip(cipher) | Self::Encrypted(cipher) | Self::GzipEncrypted(cipher) => Some(cipher),
            Self::Plain | Self::PlainGzip => None,
        }
    }

    fn name(self) -> LayoutName {
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
        self.cipher().map_or(Ok(()), |cipher| write!(f, " with {cipher}"))
    }
}

/// A layout as `FILE_LAYOUT` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LayoutName {
    /// `encrypted-gzip`
    EncryptedGzip,
    /// `gzip-encrypted`
    GzipEncrypted,
    /// `encrypted`
    Encrypted,
    /// `plain`, compressed or not
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

    fn from_str(word: &str) -> Result<Self, Expected> {
        [Self::EncryptedGzip, Self::GzipEncrypted, Self::Encrypted, Self::Plain]
            .into_iter()
            .find(|name| name.to_string() == word)
            .ok_or(Expected("encrypted-gzip, gzip-encrypted, encrypted or plain"))
    }
}

/// Which layouts are considered: `FILE_LAYOUT`, `FILE_CIPHER` and `ALLOW_PLAINTEXT`. The default considers all that are
/// encrypted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LayoutRules {
    /// The one layout to consider, or all.
    pub layout: Option<LayoutName>,
    /// The one cipher to consider, or all.
    pub cipher: Option<Cipher>,
    /// Whether rows that are not encrypted are taken.
    pub allow_plaintext: bool,
}

/// Why no layout was found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// The rows are not encrypted. The file is set aside unless `ALLOW_PLAINTEXT` is `true`.
    #[error("is not encrypted, which `ALLOW_PLAINTEXT` does not allow")]
    Plaintext,
    /// The file is encrypted, and neither the drop nor the API gave a File key. The file is set aside.
    #[error("is encrypted, and there is no File key for it")]
    NoKey,
    /// The file begins as gzip and cannot be read on. The file is set aside.
    #[error("begins as gzip and is damaged")]
    Damaged(#[source] Damage),
    /// All but the first block of the file decrypts to text. The file is set aside.
    #[error(
        "decrypts with AES-256-CBC but for its first block: the IV of the File key is not the one it was encrypted with"
    )]
    WrongIv,
    /// Nothing fits: a wrong key or IV, or bytes that are not what was sent. The file is set aside.
    #[error("is neither gzip nor JSON after decryption (tried {tried}): a wrong File key or IV, or a damaged blob")]
    Undecipherable {
        /// The layouts that were tried.
        tried: String,
    },
}

impl LayoutError {
    /// What the failure means for the file.
    pub fn verdict(&self) -> Verdict {
        Verdict::SetAside(match self {
            Self::Plaintext => Reason::Plaintext,
            Self::NoKey => Reason::NoKey,
            Self::Damaged(_) => Reason::Damaged,
            Self::WrongIv | Self::Undecipherable { .. } => Reason::WrongKey,
        })
    }
}

/// Tells the layout of a file from its first [`HEAD_BYTES`]. `is_whole` says that there are no more.
pub fn detect(head: &[u8], is_whole: bool, key: Option<&AesKey>, rules: &LayoutRules) -> Result<Layout, LayoutError> {
    let candidates = || {
        Layout::ALL
            .into_iter()
            .filter(|layout| rules.layout.is_none_or(|name| name == layout.name()))
            .filter(|layout| layout.cipher().is_none_or(|cipher| rules.cipher.is_none_or(|only| only == cipher)))
    };
    let mut best: Option<(Fit, Layout)> = None;
    for layout in candidates() {
        let fit = Sample::of(layout, head, is_whole, key).and_then(|sample| sample.fit(layout));
        if let Some(fit) = fit
            && best.is_none_or(|(than, _)| fit > than)
        {
            best = Some((fit, layout));
        }
    }
    match best {
        Some((_, Layout::Plain | Layout::PlainGzip)) if !rules.allow_plaintext => Err(LayoutError::Plaintext),
        Some((_, layout)) => Ok(layout),
        None => Err(why_nothing_fits(head, is_whole, key, candidates())),
    }
}

fn why_nothing_fits(
    head: &[u8],
    is_whole: bool,
    key: Option<&AesKey>,
    candidates: impl Iterator<Item = Layout>,
) -> LayoutError {
    let gzip = Sample::of(Layout::PlainGzip, head, is_whole, None);
    if let Some(Sample { damage: Some(damage), is_gzip: true, .. }) = gzip {
        return LayoutError::Damaged(damage);
    }
    let Some(key) = key else { return LayoutError::NoKey };
    let candidates: Vec<_> = candidates.collect();
    if candidates.contains(&Layout::Encrypted(Cipher::Cbc)) {
        let sample = Sample::of(Layout::Encrypted(Cipher::Cbc), head, is_whole, Some(key));
        let behind = sample.as_ref().and_then(|sample| sample.text.get(BLOCK_BYTES..));
        if behind.is_some_and(|text| text.len() >= 4 * BLOCK_BYTES && is_readable(text)) {
            return LayoutError::WrongIv;
        }
    }
    let tried: Vec<_> = candidates.iter().filter(|layout| layout.cipher().is_some()).map(Layout::to_string).collect();
    LayoutError::Undecipherable { tried: tried.join(", ") }
}

/// How well a layout fits; a later one is believed before an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fit {
    /// The first bytes are right, and what follows is damaged.
    Begins,
    /// Nothing speaks against it.
    Possible,
    /// What it gives reads as rows.
    Rows,
}

/// What a layout makes of the head of a file.
struct Sample {
    text: Vec<u8>,
    /// Whether the text ended where the file does.
    is_all: bool,
    is_gzip: bool,
    damage: Option<Damage>,
}

/// Why a sample ends.
enum Enough {
    Text,
    Damage(Damage),
}

impl From<Damage> for Enough {
    fn from(damage: Damage) -> Self {
        Self::Damage(damage)
    }
}

impl Sample {
    /// `None` when the layout needs a key and there is none.
    fn of(layout: Layout, head: &[u8], is_whole: bool, key: Option<&AesKey>) -> Option<Self> {
        let mut layers = Text::new(layout, key)?;
        let mut text = Vec::new();
        let mut window = Window::new();
        let mut keep = |window: &mut Window| {
            text = window.text()[..window.text().len().min(SAMPLE_BYTES)].to_vec();
            if text.len() < SAMPLE_BYTES { Ok(()) } else { Err(Enough::Text) }
        };
        let mut end = layers.push(head, &mut window, &mut keep);
        let is_gzip = layers.is_gzip_begun();
        let mut is_all = false;
        if end.is_ok() && is_whole {
            end = layers.finish(&mut window, &mut keep);
            is_all = end.is_ok();
        }
        let damage = match end {
            Err(Enough::Damage(damage)) => Some(damage),
            Ok(()) | Err(Enough::Text) => None,
        };
        Some(Self { text, is_all, is_gzip, damage })
    }

    fn fit(&self, layout: Layout) -> Option<Fit> {
        let has_gzip = !matches!(layout, Layout::Plain | Layout::Encrypted(_));
        let is_empty = self.is_all && self.text.is_empty();
        if has_gzip && !self.is_gzip {
            None
        } else if begins_as_row(&self.text) {
            Some(if is_readable(&self.text) { Fit::Rows } else { Fit::Begins })
        } else if is_empty {
            Some(Fit::Possible)
        } else if matches!(layout, Layout::EncryptedGzip(_)) {
            // gzip's header under AES is no accident, whatever the rows may look like.
            Some(if self.damage.is_none() { Fit::Possible } else { Fit::Begins })
        } else {
            None
        }
    }
}

/// Whether `text`, the beginning of a file's text, can be the beginning of rows: `{`, then a name or the end of the object.
fn begins_as_row(text: &[u8]) -> bool {
    let text = text.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(text);
    let text = after_white_space(text);
    let Some(inside) = text.strip_prefix(b"{") else {
        return false;
    };
    let head = &text[..text.len().min(BLOCK_BYTES)];
    matches!(after_white_space(inside).first(), Some(b'"' | b'}') | None) && is_readable(head)
}

/// `text` without the white space of JSON (RFC 8259, section 2) at its start.
fn after_white_space(text: &[u8]) -> &[u8] {
    let start = text.iter().position(|byte| !matches!(byte, b' ' | b'\t' | b'\n' | b'\r'));
    &text[start.unwrap_or(text.len())..]
}

/// Whether `text` is UTF-8, but for a last character that may be cut, without control characters that no JSON text has.
fn is_readable(text: &[u8]) -> bool {
    let is_utf8 = match std::str::from_utf8(text) {
        Ok(_) => true,
        Err(error) => error.error_len().is_none(),
    };
    is_utf8 && !text.iter().any(|&byte| byte < b' ' && !matches!(byte, b'\t' | b'\n' | b'\r') || byte == 0x7F)
}

#[cfg(test)]
mod tests;
