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
};
use crate::{
    keys::AesKey,
    text::UnknownWord,
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
    type Err = UnknownWord;

    fn from_str(word: &str) -> Result<Self, UnknownWord> {
        [Self::EncryptedGzip, Self::GzipEncrypted, Self::Encrypted, Self::Plain]
            .into_iter()
            .find(|name| name.to_string() == word)
            .ok_or(UnknownWord("encrypted-gzip, gzip-encrypted, encrypted or plain"))
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
        let mut text = Vec::with_capacity(SAMPLE_BYTES);
        let mut keep = |piece: &[u8]| {
            let room = SAMPLE_BYTES - text.len();
            text.extend_from_slice(&piece[..piece.len().min(room)]);
            if text.len() < SAMPLE_BYTES { Ok(()) } else { Err(Enough::Text) }
        };
        let mut end = layers.push(head, &mut keep);
        let is_gzip = layers.is_gzip_begun();
        let mut is_all = false;
        if end.is_ok() && is_whole {
            end = layers.finish(&mut keep);
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
    let text = text.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(text).trim_ascii_start();
    let Some(inside) = text.strip_prefix(b"{") else {
        return false;
    };
    let head = &text[..text.len().min(BLOCK_BYTES)];
    matches!(inside.trim_ascii_start().first(), Some(b'"' | b'}') | None) && is_readable(head)
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
mod tests {
    use std::io::Write;

    use aes::{
        Aes256,
        cipher::{BlockModeEncrypt, KeyIvInit, StreamCipher, block_padding::Pkcs7},
    };
    use flate2::{Compression, write::GzEncoder};

    use super::*;

    const ROWS: &str = "{\"ObjectId\":\"b7f16999-b812-4462-b854-bcea37e7597c\",\"CollaborationHours\":12.4}\n";
    const ANYTHING: LayoutRules = LayoutRules { layout: None, cipher: None, allow_plaintext: true };

    fn key(number: u8) -> AesKey {
        AesKey { key: [number; 32], iv: [number; 16] }
    }

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn encrypt(cipher: Cipher, text: &[u8]) -> Vec<u8> {
        let (key, iv) = (key(1).key.into(), key(1).iv.into());
        match cipher {
            Cipher::Ctr => {
                let mut bytes = text.to_vec();
                ctr::Ctr128BE::<Aes256>::new(&key, &iv).apply_keystream(&mut bytes);
                bytes
            }
            Cipher::Cbc => cbc::Encryptor::<Aes256>::new(&key, &iv).encrypt_padded_vec::<Pkcs7>(text),
        }
    }

    fn lay(layout: Layout, text: &[u8]) -> Vec<u8> {
        match layout {
            Layout::EncryptedGzip(cipher) => encrypt(cipher, &gzip(text)),
            Layout::Encrypted(cipher) => encrypt(cipher, text),
            Layout::GzipEncrypted(cipher) => gzip(&encrypt(cipher, text)),
            Layout::Plain => text.to_vec(),
            Layout::PlainGzip => gzip(text),
        }
    }

    fn detect_whole(bytes: &[u8], rules: &LayoutRules) -> Result<Layout, LayoutError> {
        detect(bytes, true, Some(&key(1)), rules)
    }

    #[test]
    fn the_bytes_of_each_layout_tell_it() {
        for layout in Layout::ALL {
            for text in [ROWS.to_owned(), ROWS.repeat(3000), format!("\u{feff}\r\n {ROWS}"), "{}".into()] {
                let bytes = lay(layout, text.as_bytes());
                let head = &bytes[..bytes.len().min(HEAD_BYTES)];
                assert_eq!(detect(head, head.len() == bytes.len(), Some(&key(1)), &ANYTHING), Ok(layout));
            }
        }
    }

    #[test]
    fn gzip_of_nothing_is_a_file_without_rows() {
        for layout in Layout::ALL {
            let fits = detect_whole(&lay(layout, b""), &ANYTHING);
            match layout {
                Layout::Encrypted(Cipher::Ctr) | Layout::Plain => {}
                Layout::EncryptedGzip(_) | Layout::Encrypted(_) => assert_eq!(fits, Ok(layout)),
                Layout::GzipEncrypted(_) | Layout::PlainGzip => assert!(fits.is_ok(), "{layout}"),
            }
        }
    }

    #[test]
    fn plain_rows_are_refused_unless_they_are_allowed() {
        for layout in [Layout::Plain, Layout::PlainGzip] {
            let rules = LayoutRules::default();
            assert_eq!(detect_whole(&lay(layout, ROWS.as_bytes()), &rules), Err(LayoutError::Plaintext));
            assert_eq!(detect(&lay(layout, ROWS.as_bytes()), true, None, &ANYTHING), Ok(layout));
        }
    }

    #[test]
    fn a_layout_or_cipher_that_was_named_is_the_only_one() {
        let bytes = lay(Layout::EncryptedGzip(Cipher::Ctr), ROWS.as_bytes());
        for rules in [
            LayoutRules { cipher: Some(Cipher::Cbc), ..ANYTHING },
            LayoutRules { layout: Some(LayoutName::GzipEncrypted), ..ANYTHING },
            LayoutRules { layout: Some(LayoutName::Plain), ..ANYTHING },
        ] {
            assert!(matches!(detect_whole(&bytes, &rules), Err(LayoutError::Undecipherable { .. })), "{rules:?}");
        }
    }

    #[test]
    fn another_key_fits_nothing_and_no_key_is_said_to_be_missing() {
        let bytes = lay(Layout::EncryptedGzip(Cipher::Ctr), ROWS.as_bytes());
        assert!(matches!(detect(&bytes, true, Some(&key(2)), &ANYTHING), Err(LayoutError::Undecipherable { .. })));
        assert_eq!(detect(&bytes, true, None, &ANYTHING), Err(LayoutError::NoKey));
    }

    #[test]
    fn a_wrong_iv_is_told_from_a_wrong_key_where_it_can_be() {
        let bytes = lay(Layout::Encrypted(Cipher::Cbc), ROWS.repeat(3).as_bytes());
        let other_iv = AesKey { iv: [0xA5; 16], ..key(1) };
        assert_eq!(detect(&bytes, true, Some(&other_iv), &ANYTHING), Err(LayoutError::WrongIv));
    }

    #[test]
    fn gzip_that_is_damaged_at_once_is_not_taken_for_a_wrong_key() {
        let mut bytes = lay(Layout::GzipEncrypted(Cipher::Ctr), ROWS.as_bytes());
        bytes.truncate(12);
        assert_eq!(detect_whole(&bytes, &ANYTHING), Err(LayoutError::Damaged(Damage::CutShort)));
    }

    #[test]
    fn ciphertext_that_begins_like_another_layout_by_chance_is_still_read() {
        // IVs under which the ciphertext of gzip begins like rows, or like gzip; found by trying.
        for (iv, start) in [(33_376_u128, &b"{\""[..]), (3_668_870, b"\x1F\x8B\x08")] {
            let key = AesKey { iv: iv.to_be_bytes(), ..key(1) };
            let mut bytes = gzip(ROWS.as_bytes());
            ctr::Ctr128BE::<Aes256>::new(&key.key.into(), &key.iv.into()).apply_keystream(&mut bytes);
            assert!(bytes.starts_with(start));
            assert_eq!(detect(&bytes, true, Some(&key), &ANYTHING), Ok(Layout::EncryptedGzip(Cipher::Ctr)));
        }
    }

    #[test]
    fn a_file_damaged_behind_its_header_keeps_its_layout() {
        let mut bytes = lay(Layout::EncryptedGzip(Cipher::Ctr), ROWS.as_bytes());
        bytes.truncate(24);
        assert_eq!(detect_whole(&bytes, &ANYTHING), Ok(Layout::EncryptedGzip(Cipher::Ctr)));
    }
}
