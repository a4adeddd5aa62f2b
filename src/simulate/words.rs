//! The choices of a drop, as settings and flags spell them.

use std::{fmt, str::FromStr};

/// The order of gzip and AES in a data file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// AES(gzip(rows)).
    EncryptedGzip,
    /// gzip(AES(rows)).
    GzipEncrypted,
    /// AES(rows).
    Encrypted,
    /// The rows as they are.
    Plain,
}

impl Layout {
    /// What the names of data files end in.
    pub(super) fn extension(self) -> &'static str {
        match self {
            Self::EncryptedGzip | Self::GzipEncrypted => "json.gz",
            Self::Encrypted | Self::Plain => "json",
        }
    }
}

/// The mode of AES-256.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cipher {
    /// CTR: a 128-bit big-endian counter that starts at the IV.
    Ctr,
    /// CBC with PKCS#7 padding.
    Cbc,
}

/// How the keys are encrypted with the tenant's RSA key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyWrap {
    /// OAEP with SHA-1.
    RsaOaep,
    /// OAEP with SHA-256.
    RsaOaep256,
    /// PKCS#1 v1.5.
    Rsa1_5,
}

/// The text is none of the words.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected one of {0}")]
pub struct UnknownWord(String);

/// An enum that is spelled as one of a few words.
macro_rules! words {
    ($kind:ident { $($word:literal => $choice:ident),+ }) => {
        impl FromStr for $kind {
            type Err = UnknownWord;

            fn from_str(text: &str) -> Result<Self, UnknownWord> {
                match text {
                    $($word => Ok(Self::$choice),)+
                    _ => Err(UnknownWord([$($word),+].join(", "))),
                }
            }
        }

        impl fmt::Display for $kind {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self {
                    $(Self::$choice => $word,)+
                })
            }
        }
    };
}

words!(Layout {
    "encrypted-gzip" => EncryptedGzip,
    "gzip-encrypted" => GzipEncrypted,
    "encrypted" => Encrypted,
    "plain" => Plain
});
words!(Cipher { "ctr" => Ctr, "cbc" => Cbc });
words!(KeyWrap { "RSA-OAEP" => RsaOaep, "RSA-OAEP-256" => RsaOaep256, "RSA1_5" => Rsa1_5 });

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_is_read_as_it_is_displayed() {
        assert_eq!(Layout::GzipEncrypted.to_string().parse(), Ok(Layout::GzipEncrypted));
        assert_eq!(Cipher::Cbc.to_string().parse(), Ok(Cipher::Cbc));
        assert_eq!(KeyWrap::Rsa1_5.to_string().parse(), Ok(KeyWrap::Rsa1_5));
    }

    #[test]
    fn an_unknown_word_is_answered_with_the_known_ones() {
        assert_eq!("gcm".parse::<Cipher>().unwrap_err().to_string(), "expected one of ctr, cbc");
    }
}
