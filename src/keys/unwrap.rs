//! Unwraps the File and Column key with the tenant's private RSA key.
//!
//! Tries the versions of the private key and the paddings of `KEY_WRAP`, and recognizes an AES-256 key in the unwrapped
//! value. [`PrivateKeys`] abstracts from where the private key is stored.

use std::{fmt, str::FromStr, sync::Arc};

use async_trait::async_trait;
use base64::Engine;
use zeroize::Zeroizing;

use super::{AesKey, KeyError, Keys, SecretBytes, WrappedKey, WrappedKeys, details::BASE64};
use crate::{drop::TenantId, expected::Expected, wipe::with_stack_wiped};

/// Decrypts with the private RSA keys of tenants.
#[async_trait]
pub trait PrivateKeys: fmt::Debug + Send + Sync + 'static {
    /// Decrypts `wrapped` with the private key of `tenant`: with `version` if it is given, otherwise with the current
    /// version. `version` comes from the key store, or from [`Self::named_version`].
    ///
    /// Returns `None` if `wrapped` does not decrypt with this padding. A tenant without a usable key is
    /// [`KeyError::NoKey`], a version that does not exist is [`KeyError::NoVersion`], and one that cannot be used is
    /// [`KeyError::UnusableVersion`].
    async fn decrypt(
        &self,
        tenant: TenantId,
        version: Option<&str>,
        padding: Padding,
        wrapped: &[u8],
    ) -> Result<Option<SecretBytes>, KeyError>;

    /// The version of the tenant's key that `given`, the `PublicKeyVersion` of a drop, names; `None` if `given` does
    /// not have the form of a version. The identifier of another key is [`KeyError::NoKey`].
    fn named_version(&self, _tenant: TenantId, _given: &str) -> Result<Option<String>, KeyError> {
        Ok(None)
    }

    /// The enabled versions of the tenant's key, newest first. The current version is left out if the key store can
    /// tell which one it is.
    ///
    /// If a drop does not name a version, its keys may have been wrapped for any of these versions, because the
    /// tenant's key may have been rotated since. Empty if [`Self::decrypt`] tries all versions itself.
    async fn earlier_versions(&self, _tenant: TenantId) -> Result<Vec<String>, KeyError> {
        Ok(Vec::new())
    }
}

/// RSA padding of a wrapped key. Displayed with Key Vault's name for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Padding {
    /// `RSA-OAEP`: OAEP with SHA-1.
    Oaep,
    /// `RSA-OAEP-256`: OAEP with SHA-256.
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

/// `KEY_WRAP`: the paddings to try.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum KeyWrap {
    /// `auto`: all paddings, in the order of [`Padding`].
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

impl FromStr for KeyWrap {
    type Err = Expected;

    fn from_str(text: &str) -> Result<Self, Expected> {
        match text {
            "auto" => Ok(Self::Auto),
            "RSA-OAEP" => Ok(Self::RsaOaep),
            "RSA-OAEP-256" => Ok(Self::RsaOaep256),
            "RSA1_5" => Ok(Self::Rsa15),
            _ => Err(Expected("auto, RSA-OAEP, RSA-OAEP-256 or RSA1_5")),
        }
    }
}

/// How many versions of a tenant's key are tried if the drop does not name one: the current version and the newest
/// earlier ones.
pub const MAX_VERSIONS: usize = 20;

/// Unwraps the keys of one drop of `tenant`.
///
/// A key that is present but does not unwrap is [`KeyError::WrongKey`]. This includes the Column key: only an absent
/// Column key means that the customer has not consented.
pub async fn unwrap_keys(
    private_keys: &dyn PrivateKeys,
    tenant: TenantId,
    wrap: KeyWrap,
    wrapped: &WrappedKeys,
) -> Result<Keys, KeyError> {
    let named = wrapped.public_key_version.as_deref().map(|given| private_keys.named_version(tenant, given));
    let versions = named.transpose()?.flatten().map(Some).into_iter().collect();
    let mut unwrapping = Unwrapping { private_keys, tenant, wrap, versions, more: More::Current };
    let file = match &wrapped.file {
        Some(key) => Some(unwrapping.unwrap("File", key).await?),
        None => None,
    };
    let column = match &wrapped.column {
        Some(key) => Some(unwrapping.unwrap("Column", key).await?),
        None => None,
    };
    Ok(Keys { file, column })
}

/// Unwraps the keys of one drop, and keeps which versions of the tenant's key to try.
struct Unwrapping<'a> {
    private_keys: &'a dyn PrivateKeys,
    tenant: TenantId,
    wrap: KeyWrap,
    /// The known versions, in the order in which they are tried; `None` is the current one. The first is the version
    /// that the drop names, or the one that has unwrapped the drop's other key.
    versions: Vec<Option<String>>,
    more: More,
}

/// The versions to try after the known ones.
#[derive(Clone, Copy)]
enum More {
    /// The current version, then the earlier ones.
    Current,
    /// The earlier versions, which are not listed yet.
    Earlier,
    /// No others.
    None,
}

impl Unwrapping<'_> {
    /// Unwraps one key: with the version that the drop names, if the key store has it, otherwise with the first version
    /// that unwraps it.
    async fn unwrap(&mut self, name: &str, wrapped: &WrappedKey) -> Result<Arc<AesKey>, KeyError> {
        let mut unusable = None;
        let mut at = 0;
        loop {
            let Some(version) = self.versions.get(at) else {
                if self.add_versions().await? {
                    continue;
                }
                break;
            };
            // Before another version is added, the known one is the one that the drop names.
            let is_named = version.is_some() && matches!(self.more, More::Current);
            match self.try_paddings(version.as_deref(), wrapped).await {
                Ok(Some(key)) => {
                    self.versions.swap(0, at);
                    return Ok(key);
                }
                Ok(None) if is_named => self.more = More::None,
                Ok(None) => {}
                Err(KeyError::NoVersion(_)) if is_named => {
                    self.versions.remove(at);
                    continue;
                }
                Err(error @ (KeyError::NoVersion(_) | KeyError::UnusableVersion(_))) if !is_named => {
                    _ = unusable.get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
            at += 1;
        }
        // The message is the same for every cause: otherwise the sender of a wrapped key could use it as a padding
        // oracle.
        let tried = self.wrap.paddings().iter().map(Padding::to_string).collect::<Vec<_>>().join(", ");
        let wrong_key = || {
            KeyError::WrongKey(format!(
                "the {name} key does not unwrap to an AES-256 key with {tried}: wrong private key, or a damaged value"
            ))
        };
        Err(unusable.unwrap_or_else(wrong_key))
    }

    /// Adds versions to try; returns false if there are no others.
    async fn add_versions(&mut self) -> Result<bool, KeyError> {
        match self.more {
            More::Current => {
                self.versions.push(None);
                self.more = More::Earlier;
            }
            More::Earlier => {
                let earlier = self.private_keys.earlier_versions(self.tenant).await?;
                self.versions.extend(earlier.into_iter().take(MAX_VERSIONS - 1).map(Some));
                self.more = More::None;
            }
            More::None => return Ok(false),
        }
        Ok(true)
    }

    async fn try_paddings(&self, version: Option<&str>, wrapped: &WrappedKey) -> Result<Option<Arc<AesKey>>, KeyError> {
        for &padding in self.wrap.paddings() {
            let plain = self.private_keys.decrypt(self.tenant, version, padding, &wrapped.value).await?;
            if let Some(key) = plain.and_then(|plain| with_stack_wiped(|| aes_key(&plain, wrapped.iv))) {
                return Ok(Some(key));
            }
        }
        Ok(None)
    }
}

/// Length of the Base64 of 32 bytes.
const BASE64_LEN: usize = 44;
/// Length of that Base64 in UTF-16.
const UTF16_LEN: usize = 2 * BASE64_LEN;

/// The AES key in `plain`, which is 32 bytes or their Base64 as UTF-8 or UTF-16LE text.
fn aes_key(plain: &[u8], iv: [u8; 16]) -> Option<Arc<AesKey>> {
    let mut shared = Arc::new(AesKey { key: [0; 32], iv });
    // The key is written in place, so that no copy is left elsewhere in memory. Nothing else shares the `Arc` yet.
    let aes = Arc::get_mut(&mut shared)?;
    match plain.len() {
        32 => aes.key.copy_from_slice(plain),
        BASE64_LEN => decode_into(aes, plain)?,
        UTF16_LEN => {
            let mut text = Zeroizing::new([0; BASE64_LEN]);
            for (byte, unit) in text.iter_mut().zip(plain.chunks_exact(2)) {
                // Base64 is ASCII, so the high byte of each UTF-16 unit is zero. A zero byte is not Base64 and fails
                // below.
                *byte = if unit[1] == 0 { unit[0] } else { 0 };
            }
            decode_into(aes, &*text)?;
        }
        _ => return None,
    }
    Some(shared)
}

/// Decodes the Base64 of one key into `aes`. Leaves no copy of the key in memory.
fn decode_into(aes: &mut AesKey, text: &[u8]) -> Option<()> {
    let mut decoded = Zeroizing::new([0; BASE64_LEN]);
    let length = BASE64.decode_slice(text, &mut *decoded).ok()?;
    let key = decoded.get(..length).filter(|key| key.len() == aes.key.len())?;
    aes.key.copy_from_slice(key);
    Some(())
}

#[cfg(test)]
mod tests {
    use base64::prelude::BASE64_STANDARD;
    use proptest::prelude::*;

    use super::*;

    const KEY: [u8; 32] = *b"0123456789abcdefghijklmnopqrstuv";

    fn key_in(plain: &[u8]) -> Option<[u8; 32]> {
        aes_key(plain, [7; 16]).map(|aes| aes.key)
    }

    fn utf16(text: &str) -> Vec<u8> {
        text.encode_utf16().flat_map(u16::to_le_bytes).collect()
    }

    #[test]
    fn a_key_is_32_bytes_or_their_base64_in_utf8_or_utf16() {
        let text = BASE64_STANDARD.encode(KEY);
        assert_eq!(key_in(&KEY), Some(KEY));
        assert_eq!(key_in(text.as_bytes()), Some(KEY));
        assert_eq!(key_in(&utf16(&text)), Some(KEY));
    }

    #[test]
    fn values_of_another_length_are_not_keys() {
        for length in [0, 16, 31, 33, 48] {
            let bytes = vec![b'A'; length];
            let text = BASE64_STANDARD.encode(&bytes);
            assert_eq!(key_in(&bytes), None);
            assert_eq!(key_in(text.as_bytes()), None, "{length}");
            assert_eq!(key_in(&utf16(&text)), None);
        }
    }

    #[test]
    fn utf16_text_that_is_not_ascii_is_not_a_key() {
        let mut text = utf16(&BASE64_STANDARD.encode(KEY));
        text[1] = 1;
        assert_eq!(key_in(&text), None);
    }

    #[test]
    fn key_wrap_is_parsed_case_sensitively() {
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
        assert_eq!("rsa".parse::<KeyWrap>(), Err(Expected("auto, RSA-OAEP, RSA-OAEP-256 or RSA1_5")));
    }

    proptest! {
        #[test]
        fn only_32_of_any_random_bytes_are_a_key(plain in proptest::collection::vec(any::<u8>(), 0..100)) {
            prop_assert_eq!(key_in(&plain).is_some(), plain.len() == 32);
        }
    }
}
