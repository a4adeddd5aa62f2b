//! References to Key Vault secrets, `@Microsoft.KeyVault(…)`, in the syntax of App Service.

use std::{fmt, str::FromStr};

use url::Url;

use crate::keys::vault::vault_url;

/// A reference to a secret in a Key Vault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretReference {
    pub(super) vault: Url,
    pub(super) name: String,
    /// `None` refers to the current version.
    pub(super) version: Option<String>,
}

/// The text is not a valid reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected @Microsoft.KeyVault(SecretUri=https://{{vault}}.vault.azure.net/secrets/{{name}}) or \
     @Microsoft.KeyVault(VaultName={{vault}};SecretName={{name}}), each with an optional version"
)]
pub struct InvalidReference;

impl SecretReference {
    /// Whether the text is a reference, valid or not, and not a secret.
    pub fn is_reference(text: &str) -> bool {
        text.starts_with("@Microsoft.KeyVault")
    }

    /// Parses the value of `SecretUri=`: `https://{vault}.vault.azure.net/secrets/{name}[/{version}]`.
    fn from_uri(text: &str) -> Option<Self> {
        let url = Url::parse(text).ok()?;
        let vault = vault_url(&url.origin().ascii_serialization())?;
        let has_credentials = !url.username().is_empty() || url.password().is_some();
        if has_credentials || url.query().is_some() || url.fragment().is_some() {
            return None;
        }
        let segments: Vec<&str> = url.path().trim_end_matches('/').split('/').skip(1).collect();
        match segments[..] {
            ["secrets", name] => Self::new(vault, name, None),
            ["secrets", name, version] => Self::new(vault, name, Some(version)),
            _ => None,
        }
    }

    /// Parses `VaultName={vault};SecretName={name}[;SecretVersion={version}]`.
    fn from_names(text: &str) -> Option<Self> {
        let (mut vault, mut name, mut version) = (None, None, None);
        for part in text.split(';').filter(|part| !part.trim().is_empty()) {
            let (key, value) = part.split_once('=')?;
            let field = match key.trim() {
                "VaultName" => &mut vault,
                "SecretName" => &mut name,
                "SecretVersion" => &mut version,
                _ => return None,
            };
            let is_duplicate = field.replace(value.trim()).is_some();
            if is_duplicate {
                return None;
            }
        }
        let vault = vault.filter(|vault| is_name(vault))?;
        Self::new(vault_url(&format!("https://{vault}.vault.azure.net"))?, name?, version)
    }

    fn new(vault: Url, name: &str, version: Option<&str>) -> Option<Self> {
        let version = version.filter(|version| !version.is_empty());
        let is_valid = is_name(name) && version.is_none_or(is_name);
        is_valid.then(|| Self { vault, name: name.to_owned(), version: version.map(ToOwned::to_owned) })
    }
}

impl FromStr for SecretReference {
    type Err = InvalidReference;

    fn from_str(text: &str) -> Result<Self, InvalidReference> {
        let inner = text.trim().strip_prefix("@Microsoft.KeyVault(").and_then(|text| text.strip_suffix(')'));
        let inner = inner.ok_or(InvalidReference)?.trim();
        let reference = match inner.strip_prefix("SecretUri=") {
            Some(uri) => Self::from_uri(uri.trim()),
            None => Self::from_names(inner),
        };
        reference.ok_or(InvalidReference)
    }
}

/// Whether the text can be the name of a vault or a secret, or a version.
fn is_name(text: &str) -> bool {
    !text.is_empty() && text.len() <= 127 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// How errors name the secret.
impl fmt::Display for SecretReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the secret `{}` in the vault `{}`", self.name, self.vault.origin().ascii_serialization())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vault, the name and the version that a reference parses to.
    fn parse(text: &str) -> Option<(String, String, Option<String>)> {
        let reference = text.parse::<SecretReference>().ok()?;
        Some((reference.vault.into(), reference.name, reference.version))
    }

    #[test]
    fn both_forms_of_a_reference_are_parsed() {
        let vault = "https://kv.vault.azure.net/".to_owned();
        for (text, version) in [
            ("@Microsoft.KeyVault(SecretUri=https://kv.vault.azure.net/secrets/hook)", None),
            ("@Microsoft.KeyVault(SecretUri=https://kv.vault.azure.net/secrets/hook/)", None),
            ("@Microsoft.KeyVault(SecretUri=https://kv.vault.azure.net/secrets/hook/ab12)", Some("ab12".to_owned())),
            ("@Microsoft.KeyVault(VaultName=kv;SecretName=hook)", None),
            ("@Microsoft.KeyVault(VaultName=kv; SecretName=hook; SecretVersion=ab12)", Some("ab12".to_owned())),
        ] {
            assert_eq!(parse(text), Some((vault.clone(), "hook".to_owned(), version)), "{text}");
        }
    }

    #[test]
    fn invalid_references_are_not_parsed() {
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
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
