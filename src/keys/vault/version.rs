//! Parses the `PublicKeyVersion` of a drop. The customer controls this text, so it can only select a version of the
//! tenant's own key.

use url::Url;

use crate::{drop::TenantId, keys::KeyError};

/// The key version in `given`, which is a version or the full identifier of this tenant's key in this vault.
///
/// Returns `None` for any other text, so that every enabled version is tried: a vault's versions are 32 hexadecimal
/// digits, and customers also number their keys in their own way. The identifier of another key is an error, because
/// the drop's keys were wrapped with a key that is not ours.
pub(super) fn key_version(given: &str, vault: &Url, tenant: TenantId) -> Result<Option<String>, KeyError> {
    let given = given.trim();
    let version = match Url::parse(given) {
        Ok(identifier) if identifier.has_host() => in_identifier(&identifier, vault, tenant).ok_or_else(|| {
            KeyError::NoKey(format!(
                "the drop's PublicKeyVersion names a key other than `{tenant}` in the vault of PRIVATE_KEYS: check which key \
                 the customer's pipeline uses"
            ))
        })?,
        _ => given.to_owned(),
    };
    let version = is_version(&version).then(|| version.to_ascii_lowercase());
    if version.is_none() {
        tracing::debug!("the drop's PublicKeyVersion is not a version of a vault's key: trying every version");
    }
    Ok(version)
}

/// The version in `https://{vault}/keys/{tenant}/{version}`; empty if the identifier has no version, and `None` if it
/// is the identifier of another key.
fn in_identifier(identifier: &Url, vault: &Url, tenant: TenantId) -> Option<String> {
    let mut segments = identifier.path_segments()?.filter(|segment| !segment.is_empty());
    let is_in_vault = identifier.origin() == vault.origin() && segments.next()?.eq_ignore_ascii_case("keys");
    let is_tenants_key = segments.next()?.eq_ignore_ascii_case(&tenant.to_string());
    let version = segments.next().unwrap_or_default().to_owned();
    (is_in_vault && is_tenants_key && segments.next().is_none()).then_some(version)
}

fn is_version(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    const VERSION: &str = "7f1c1ff0a1c84f3c8a3b6a4f0c5d9e21";
    const TENANT: &str = "9f1c7fd3-1a33-4f2b-9d3c-0a8f6f2d7e10";

    fn version(given: &str) -> Result<Option<String>, KeyError> {
        let vault = "https://kv.vault.azure.net".parse().unwrap();
        key_version(given, &vault, TENANT.parse().unwrap())
    }

    #[test]
    fn a_version_is_32_digits_or_the_last_segment_of_a_key_identifier() {
        for given in [
            VERSION.to_owned(),
            format!(" {} ", VERSION.to_uppercase()),
            format!("https://kv.vault.azure.net/keys/{TENANT}/{VERSION}"),
            format!("https://KV.vault.azure.net:443/keys/{}/{VERSION}/", TENANT.to_uppercase()),
        ] {
            assert_eq!(version(&given).unwrap().as_deref(), Some(VERSION), "{given}");
        }
    }

    #[test]
    fn any_other_text_selects_no_version() {
        let short = format!("https://kv.vault.azure.net/keys/{TENANT}");
        let climbing = format!("../../secrets/{VERSION}");
        for given in ["1", "v2", "", "7f1c1ff0-a1c8-4f3c-8a3b-6a4f0c5d9e21", "../../secrets/x", &short, &climbing] {
            assert_eq!(version(given).unwrap(), None, "{given}");
        }
    }

    #[test]
    fn the_identifier_of_another_key_or_vault_is_an_error() {
        for given in [
            format!("https://other.vault.azure.net/keys/{TENANT}/{VERSION}"),
            format!("https://kv.vault.azure.net.evil.example/keys/{TENANT}/{VERSION}"),
            format!("http://kv.vault.azure.net/keys/{TENANT}/{VERSION}"),
            format!("https://kv.vault.azure.net:8443/keys/{TENANT}/{VERSION}"),
            format!("https://kv.vault.azure.net/keys/00000000-0000-4000-8000-000000000000/{VERSION}"),
            format!("https://kv.vault.azure.net/secrets/{TENANT}/{VERSION}"),
            format!("https://kv.vault.azure.net/keys/{TENANT}/{VERSION}/decrypt"),
        ] {
            let Err(KeyError::NoKey(text)) = version(&given) else { panic!("{given}") };
            assert!(text.contains(TENANT) && !text.contains("evil"), "{text}");
        }
    }
}
