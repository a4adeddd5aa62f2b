//! From wrapped keys to AES keys: RSA with the tenant's private key.
//!
//! Knows which paddings are tried and what an AES-256 key looks like once it is out. Where the private key is kept is
//! behind [`PrivateKeys`]: with [`PemFolder`] and [`PemFile`] it is a file.

mod pem;

use std::{fmt, str::FromStr, sync::Arc};

use async_trait::async_trait;
use base64::Engine;
use zeroize::Zeroizing;

pub use self::pem::{PemFile, PemFolder};
use super::{AesKey, KeyError, Keys, SecretBytes, WrappedKey, WrappedKeys, details::BASE64};
use crate::{drop::TenantId, expected::Expected, wipe::with_stack_wiped};

/// Keeps the private keys of tenants.
#[async_trait]
pub trait PrivateKeys: fmt::Debug + Send + Sync + 'static {
    /// Decrypts `wrapped` with the private key of `tenant`, of which `version` is meant when it is given.
    ///
    /// `None` means that it does not unwrap with this padding. A tenant without a usable key is
    /// [`KeyError::Refused`].
    async fn decrypt(
        &self,
        tenant: TenantId,
        version: Option<&str>,
        padding: Padding,
        wrapped: &[u8],
    ) -> Result<Option<SecretBytes>, KeyError>;

    /// The versions of the tenant's key before the current one that may still be used, the newest first: what a drop that
    /// names no version may have been wrapped for, before the key was rotated. None where a version cannot be named.
    async fn earlier(&self, _tenant: TenantId) -> Result<Vec<String>, KeyError> {
        Ok(Vec::new())
    }
}

/// How a key was padded before RSA. Displayed by the name that Key Vault has for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Padding {
    /// `RSA-OAEP`, which is over SHA-1.
    Oaep,
    /// `RSA-OAEP-256`, over SHA-256.
    Oaep256,
    /// `RSA1_5`: PKCS#1 v1.5.
    Pkcs1v15,
}

impl fmt::Display for Padding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Oaep => "RSA-OAEP",
            Self::Oaep256 => "RSA-OAEP-256",
            Self::Pkcs1v15 => "RSA1_5",
        })
    }
}

impl FromStr for Padding {
    type Err = Expected;

    fn from_str(text: &str) -> Result<Self, Expected> {
        [Self::Oaep, Self::Oaep256, Self::Pkcs1v15]
            .into_iter()
            .find(|padding| padding.to_string() == text)
            .ok_or(Expected("RSA-OAEP, RSA-OAEP-256 or RSA1_5"))
    }
}

/// `KEY_WRAP`: which paddings are tried.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum KeyWrap {
    /// `auto`: all of them, in the order of [`Padding`].
    #[default]
    Auto,
    /// `RSA-OAEP`.
    RsaOaep,
    /// `RSA-OAEP-256`.
    RsaOaep256,
    /// `RSA1_5`.
    Rsa15,
}

impl KeyWrap {
    /// The paddings to try, in order.
    pub fn paddings(self) -> &'static [Padding] {
        match self {
            Self::Auto => &[Padding::Oaep, Padding::Oaep256, Padding::Pkcs1v15],
            Self::RsaOaep => &[Padding::Oaep],
            Self::RsaOaep256 => &[Padding::Oaep256],
            Self::Rsa15 => &[Padding::Pkcs1v15],
        }
    }
}

/// The text is no `KEY_WRAP`.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected auto, RSA-OAEP, RSA-OAEP-256 or RSA1_5")]
pub struct NoKeyWrap;

impl FromStr for KeyWrap {
    type Err = NoKeyWrap;

    fn from_str(text: &str) -> Result<Self, NoKeyWrap> {
        match text {
            "auto" => Ok(Self::Auto),
            "RSA-OAEP" => Ok(Self::RsaOaep),
            "RSA-OAEP-256" => Ok(Self::RsaOaep256),
            "RSA1_5" => Ok(Self::Rsa15),
            _ => Err(NoKeyWrap),
        }
    }
}

/// Opens the wrapped keys of one drop of `tenant`.
///
/// A key that is there and does not open is [`KeyError::Wrong`], the Column key as well: a missing consent looks
/// different.
pub async fn unwrap_keys(
    private_keys: &dyn PrivateKeys,
    tenant: TenantId,
    wrap: KeyWrap,
    wrapped: &WrappedKeys,
) -> Result<Keys, KeyError> {
    let version = wrapped.public_key_version.as_deref();
    let open = async |name, key: &Option<WrappedKey>| match key {
        Some(key) => unwrap_key(private_keys, tenant, version, wrap, name, key).await.map(Some),
        None => Ok(None),
    };
    Ok(Keys { file: open("File", &wrapped.file).await?, column: open("Column", &wrapped.column).await? })
}

async fn unwrap_key(
    private_keys: &dyn PrivateKeys,
    tenant: TenantId,
    version: Option<&str>,
    wrap: KeyWrap,
    name: &str,
    wrapped: &WrappedKey,
) -> Result<Arc<AesKey>, KeyError> {
    let open = async |version: Option<&str>| {
        for &padding in wrap.paddings() {
            let plain = private_keys.decrypt(tenant, version, padding, &wrapped.value).await?;
            if let Some(key) = plain.and_then(|plain| with_stack_wiped(|| aes_key(&plain, wrapped.iv))) {
                return Ok(Some(key));
            }
        }
        Ok::<_, KeyError>(None)
    };
    if let Some(key) = open(version).await? {
        return Ok(key);
    }
    if version.is_none() {
        for earlier in private_keys.earlier(tenant).await? {
            if let Some(key) = open(Some(&earlier)).await? {
                return Ok(key);
            }
        }
    }
    // All failures read alike: whoever wraps keys for us learns nothing from how one of them fails.
    let tried = wrap.paddings().iter().map(Padding::to_string).collect::<Vec<_>>().join(", ");
    Err(KeyError::Wrong(format!(
        "the {name} key does not unwrap to an AES-256 key with {tried}: wrong private key, or a damaged value"
    )))
}

/// The length of 32 bytes in Base64, and the length of that in UTF-16.
const TEXT: usize = 44;
const WIDE_TEXT: usize = 2 * TEXT;

/// The key in `plain`: 32 bytes, or their Base64 as UTF-8 or UTF-16LE text.
fn aes_key(plain: &[u8], iv: [u8; 16]) -> Option<Arc<AesKey>> {
    let mut shared = Arc::new(AesKey { key: [0; 32], iv });
    // Nobody else has it yet: it is filled where it stays.
    let found = Arc::get_mut(&mut shared)?;
    match plain.len() {
        32 => found.key.copy_from_slice(plain),
        TEXT => decode_into(found, plain)?,
        WIDE_TEXT => {
            let mut text = Zeroizing::new([0; TEXT]);
            for (narrow, wide) in text.iter_mut().zip(plain.chunks_exact(2)) {
                // Base64 is ASCII, whose other byte is zero; zero itself is no Base64.
                *narrow = if wide[1] == 0 { wide[0] } else { 0 };
            }
            decode_into(found, &*text)?;
        }
        _ => return None,
    }
    Some(shared)
}

/// Decodes Base64 of exactly one key, leaving no copy behind.
fn decode_into(found: &mut AesKey, text: &[u8]) -> Option<()> {
    let mut decoded = Zeroizing::new([0; TEXT]);
    let length = BASE64.decode_slice(text, &mut *decoded).ok()?;
    let key = decoded.get(..length).filter(|key| key.len() == found.key.len())?;
    found.key.copy_from_slice(key);
    Some(())
}

#[cfg(test)]
mod tests {
    use base64::prelude::BASE64_STANDARD;
    use proptest::prelude::*;

    use super::*;

    const KEY: [u8; 32] = *b"0123456789abcdefghijklmnopqrstuv";

    fn key_in(plain: &[u8]) -> Option<[u8; 32]> {
        aes_key(plain, [7; 16]).map(|found| found.key)
    }

    fn wide(text: &str) -> Vec<u8> {
        text.encode_utf16().flat_map(u16::to_le_bytes).collect()
    }

    #[test]
    fn a_key_is_32_bytes_or_their_base64_in_either_width() {
        let text = BASE64_STANDARD.encode(KEY);
        assert_eq!(key_in(&KEY), Some(KEY));
        assert_eq!(key_in(text.as_bytes()), Some(KEY));
        assert_eq!(key_in(&wide(&text)), Some(KEY));
    }

    #[test]
    fn keys_of_another_length_are_none() {
        for length in [0, 16, 31, 33, 48] {
            let bytes = vec![b'A'; length];
            let text = BASE64_STANDARD.encode(&bytes);
            assert_eq!(key_in(&bytes), None);
            assert_eq!(key_in(text.as_bytes()), None, "{length}");
            assert_eq!(key_in(&wide(&text)), None);
        }
    }

    #[test]
    fn wide_text_that_is_not_ascii_is_none() {
        let mut text = wide(&BASE64_STANDARD.encode(KEY));
        text[1] = 1;
        assert_eq!(key_in(&text), None);
    }

    #[test]
    fn key_wrap_is_read_to_the_letter() {
        for (text, wrap, padding) in [
            ("RSA-OAEP", KeyWrap::RsaOaep, Padding::Oaep),
            ("RSA-OAEP-256", KeyWrap::RsaOaep256, Padding::Oaep256),
            ("RSA1_5", KeyWrap::Rsa15, Padding::Pkcs1v15),
        ] {
            assert_eq!(text.parse(), Ok(wrap));
            assert_eq!(wrap.paddings(), [padding]);
            assert_eq!(padding.to_string(), text);
        }
        assert_eq!("auto".parse(), Ok(KeyWrap::Auto));
        assert_eq!("rsa".parse::<KeyWrap>(), Err(NoKeyWrap));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_key_or_none(plain in proptest::collection::vec(any::<u8>(), 0..100)) {
            prop_assert_eq!(key_in(&plain).is_some(), plain.len() == 32);
        }
    }
}
