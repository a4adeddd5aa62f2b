//! `@Microsoft.KeyVault(…)`: where a secret is, in the notation of App Service.

use std::{fmt, str::FromStr};

use url::Url;

use crate::keys::vault::vault_url;

/// Where a secret is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretReference {
    pub(super) vault: Url,
    pub(super) name: String,
    /// The current one where this is `None`.
    pub(super) version: Option<String>,
}

/// The text begins like a reference and is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected @Microsoft.KeyVault(SecretUri=https://{{vault}}.vault.azure.net/secrets/{{name}}) or \
     @Microsoft.KeyVault(VaultName={{vault}};SecretName={{name}}), with a version or without"
)]
pub struct InvalidReference;

impl SecretReference {
    /// Whether the text is meant as a reference.
    pub fn is_meant(text: &str) -> bool {
        text.starts_with("@Microsoft.KeyVault")
    }

    fn by_uri(text: &str) -> Option<Self> {
        let url = Url::parse(text).ok()?;
        let vault = vault_url(&url.origin().ascii_serialization())?;
        let mut segments = url.path().trim_end_matches('/').split('/').skip(1);
        let (secrets, name, version) = (segments.next()?, segments.next()?, segments.next());
        let is_whole = segments.next().is_none() && url.query().or(url.fragment()).is_none();
        let has_user = !url.username().is_empty() || url.password().is_some();
        (secrets == "secrets" && is_whole && !has_user).then_some(())?;
        Self::of(vault, name, version)
    }

    fn by_names(parts: &str) -> Option<Self> {
        let (mut vault, mut name, mut version) = (None, None, None);
        for part in parts.split(';').filter(|part| !part.trim().is_empty()) {
            let (key, value) = part.split_once('=')?;
            let place = match key.trim() {
                "VaultName" => &mut vault,
                "SecretName" => &mut name,
                "SecretVersion" => &mut version,
                _ => return None,
            };
            if place.replace(value.trim()).is_some() {
                return None;
            }
        }
        let vault = vault.filter(|vault| is_name(vault))?;
        Self::of(vault_url(&format!("https://{vault}.vault.azure.net"))?, name?, version)
    }

    fn of(vault: Url, name: &str, version: Option<&str>) -> Option<Self> {
        let version = version.filter(|version| !version.is_empty());
        let is_named = is_name(name) && version.is_none_or(is_name);
        is_named.then(|| Self { vault, name: name.to_owned(), version: version.map(ToOwned::to_owned) })
    }
}

impl FromStr for SecretReference {
    type Err = InvalidReference;

    fn from_str(text: &str) -> Result<Self, InvalidReference> {
        let inner = text.trim().strip_prefix("@Microsoft.KeyVault(").and_then(|text| text.strip_suffix(')'));
        let inner = inner.ok_or(InvalidReference)?.trim();
        match inner.strip_prefix("SecretUri=") {
            Some(uri) => Self::by_uri(uri.trim()),
            None => Self::by_names(inner),
        }
        .ok_or(InvalidReference)
    }
}

/// What the names of vaults, secrets and versions are made of.
fn is_name(text: &str) -> bool {
    !text.is_empty() && text.len() <= 127 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// What errors call it.
impl fmt::Display for SecretReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the secret `{}` in the vault `{}`", self.name, self.vault.origin().ascii_serialization())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<(String, String, Option<String>)> {
        let read = text.parse::<SecretReference>().ok()?;
        Some((read.vault.into(), read.name, read.version))
    }

    #[test]
    fn a_reference_is_read_in_both_notations() {
        let vault = "https://kv.vault.azure.net/".to_owned();
        for (text, version) in [
            ("@Microsoft.KeyVault(SecretUri=https://kv.vault.azure.net/secrets/hook)", None),
            ("@Microsoft.KeyVault(SecretUri=https://kv.vault.azure.net/secrets/hook/)", None),
            ("@Microsoft.KeyVault(SecretUri=https://kv.vault.azure.net/secrets/hook/ab12)", Some("ab12".to_owned())),
            ("@Microsoft.KeyVault(VaultName=kv;SecretName=hook)", None),
            ("@Microsoft.KeyVault(VaultName=kv; SecretName=hook; SecretVersion=ab12)", Some("ab12".to_owned())),
        ] {
            assert_eq!(read(text), Some((vault.clone(), "hook".to_owned(), version)), "{text}");
        }
    }

    #[test]
    fn what_is_no_reference_is_not_guessed_at() {
        for text in [
            "@Microsoft.KeyVault()",
            "@Microsoft.KeyVault(SecretUri=https://kv.vault.azure.net/secrets/hook",
            "@Microsoft.KeyVault(SecretUri=http://kv.vault.azure.net/secrets/hook)",
            "@Microsoft.KeyVault(SecretUri=https://kv.vault.azure.net/keys/hook)",
            "@Microsoft.KeyVault(SecretUri=https://kv.vault.azure.net/secrets/a/b/c)",
            "@Microsoft.KeyVault(SecretUri=https://me@kv.vault.azure.net/secrets/hook)",
            "@Microsoft.KeyVault(SecretUri=https://kv.vault.azure.net/secrets/hook?x=1)",
            "@Microsoft.KeyVault(VaultName=kv)",
            "@Microsoft.KeyVault(VaultName=kv.example/;SecretName=hook)",
            "@Microsoft.KeyVault(VaultName=kv;SecretName=a;SecretName=b)",
            "@Microsoft.KeyVault(VaultName=kv;SecretName=hook;Colour=red)",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
