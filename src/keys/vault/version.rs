//! What the `PublicKeyVersion` of a drop names. It is the customer's text: it chooses a version of the tenant's own key and
//! nothing else.

use url::Url;

use crate::{drop::TenantId, keys::KeyError};

/// The version that `given` names: as it is, or at the end of the full identifier of this tenant's key in this vault.
///
/// The versions of a vault are 32 hexadecimal digits. What is none is a number of somebody else's books, and the key is
/// tried as it is now. An identifier of another key is refused: whoever wrapped with that one did not mean ours.
pub(super) fn named(given: Option<&str>, vault: &Url, tenant: TenantId) -> Result<Option<String>, KeyError> {
    let Some(given) = given.map(str::trim) else {
        return Ok(None);
    };
    let version = match Url::parse(given) {
        Ok(identifier) if identifier.has_host() => in_identifier(&identifier, vault, tenant).ok_or_else(|| {
            KeyError::Refused(format!(
                "the drop's PublicKeyVersion names a key that is not `{tenant}` in the vault of PRIVATE_KEYS: compare the \
                 key that the customer's pipeline was set up with"
            ))
        })?,
        _ => given.to_owned(),
    };
    let version = is_version(&version).then(|| version.to_ascii_lowercase());
    if version.is_none() {
        tracing::debug!("the drop's PublicKeyVersion is no version of a vault's key: the current one is tried");
    }
    Ok(version)
}

/// The last part of `https://{vault}/keys/{tenant}/{version}`; empty where it names no version.
fn in_identifier(identifier: &Url, vault: &Url, tenant: TenantId) -> Option<String> {
    let mut segments = identifier.path_segments()?.filter(|segment| !segment.is_empty());
    let is_here = identifier.origin() == vault.origin() && segments.next()?.eq_ignore_ascii_case("keys");
    let is_the_tenants = segments.next()?.eq_ignore_ascii_case(&tenant.to_string());
    let version = segments.next().unwrap_or_default().to_owned();
    (is_here && is_the_tenants && segments.next().is_none()).then_some(version)
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
        named(Some(given), &vault, TENANT.parse().unwrap())
    }

    #[test]
    fn a_version_is_32_digits_or_the_end_of_an_identifier() {
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
    fn what_is_no_version_of_a_vault_leaves_the_current_one() {
        let short = format!("https://kv.vault.azure.net/keys/{TENANT}");
        let climbing = format!("../../secrets/{VERSION}");
        for given in ["1", "v2", "", "7f1c1ff0-a1c8-4f3c-8a3b-6a4f0c5d9e21", "../../secrets/x", &short, &climbing] {
            assert_eq!(version(given).unwrap(), None, "{given}");
        }
    }

    #[test]
    fn an_identifier_of_another_key_or_vault_is_refused() {
        for given in [
            format!("https://other.vault.azure.net/keys/{TENANT}/{VERSION}"),
            format!("https://kv.vault.azure.net.evil.example/keys/{TENANT}/{VERSION}"),
            format!("http://kv.vault.azure.net/keys/{TENANT}/{VERSION}"),
            format!("https://kv.vault.azure.net:8443/keys/{TENANT}/{VERSION}"),
            format!("https://kv.vault.azure.net/keys/00000000-0000-4000-8000-000000000000/{VERSION}"),
            format!("https://kv.vault.azure.net/secrets/{TENANT}/{VERSION}"),
            format!("https://kv.vault.azure.net/keys/{TENANT}/{VERSION}/decrypt"),
        ] {
            let Err(KeyError::Refused(text)) = version(&given) else { panic!("{given}") };
            assert!(text.contains(TENANT) && !text.contains("evil"), "{text}");
        }
    }
}
