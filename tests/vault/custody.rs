//! What is asked of a vault, and what its answers mean.

use std::{fs, sync::Arc, time::Duration};

use async_trait::async_trait;
use azure_core::credentials::{AccessToken, TokenCredential, TokenRequestOptions};
use rsa::{
    Oaep, Pkcs1v15Encrypt, RsaPrivateKey, RsaPublicKey, pkcs8::DecodePrivateKey, rand_core::OsRng, sha2::Sha256,
    traits::PublicKeyParts,
};
use sha1::Sha1;
use time::{OffsetDateTime, macros::datetime};
use uuid::Uuid;
use vivadrop::{
    drop::TenantId,
    keys::{
        KeyError,
        unwrap::{Padding, PrivateKeys},
        vault::Vault,
    },
    retry::RetryBudget,
};

use crate::support::{
    entra::{Entra, Tokens},
    vault::{Behaviour, KeyVault, RESOURCE},
    vectors,
};

const EXPIRES: OffsetDateTime = datetime!(2027-11-22 00:00:00 UTC);

/// A credential that always has a token.
#[derive(Clone)]
struct Credential(Tokens);

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credential")
    }
}

#[async_trait]
impl TokenCredential for Credential {
    async fn get_token(&self, scopes: &[&str], _: Option<TokenRequestOptions<'_>>) -> azure_core::Result<AccessToken> {
        assert_eq!(scopes, [format!("{RESOURCE}/.default")]);
        Ok(AccessToken::new(self.0.issue(RESOURCE), OffsetDateTime::now_utc() + Duration::from_secs(3600)))
    }
}

struct Custody {
    stub: KeyVault,
    vault: Vault,
    tenant: TenantId,
    _entra: Entra,
}

/// A vault with nothing in it, and little patience.
async fn empty() -> Custody {
    let entra = Entra::start().await;
    let stub = KeyVault::start(&entra).await;
    let credential = Arc::new(Credential(entra.tokens()));
    let vault = Vault::over(entra.certificate.client(), stub.url(), credential).unwrap();
    let patience =
        RetryBudget { first: Duration::from_millis(10), ..RetryBudget::lasting(Duration::from_millis(1500)) };
    let vault = vault.with_limits(patience, Duration::from_secs(10));
    Custody { stub, vault, tenant: TenantId(Uuid::new_v4()), _entra: entra }
}

fn private_key() -> RsaPrivateKey {
    RsaPrivateKey::from_pkcs8_pem(&fs::read_to_string(vectors::case("encrypted-ctr").private_key()).unwrap()).unwrap()
}

fn wrap(key: &RsaPublicKey, padding: Padding) -> Vec<u8> {
    let wrapped = match padding {
        Padding::Oaep => key.encrypt(&mut OsRng, Oaep::new::<Sha1>(), b"an AES key"),
        Padding::Oaep256 => key.encrypt(&mut OsRng, Oaep::new::<Sha256>(), b"an AES key"),
        Padding::Pkcs1v15 => key.encrypt(&mut OsRng, Pkcs1v15Encrypt, b"an AES key"),
    };
    wrapped.unwrap()
}

impl Custody {
    /// The tenant's key is there.
    async fn with_key() -> (Self, String) {
        let custody = empty().await;
        let version = custody.stub.import(custody.tenant, private_key());
        (custody, version)
    }

    async fn decrypt(&self, version: Option<&str>) -> Result<Option<Vec<u8>>, KeyError> {
        let wrapped = wrap(&private_key().to_public_key(), Padding::Oaep);
        let plain = self.vault.decrypt(self.tenant, version, Padding::Oaep, &wrapped).await?;
        Ok(plain.map(|plain| plain.to_vec()))
    }

    async fn refusal(&self) -> String {
        match self.decrypt(None).await {
            Err(KeyError::Refused(text)) => text,
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_wrapped_key_is_decrypted_in_the_vault_with_the_padding_it_has() {
    let (custody, _) = Custody::with_key().await;
    let public = private_key().to_public_key();
    for padding in [Padding::Oaep, Padding::Oaep256, Padding::Pkcs1v15] {
        let wrapped = wrap(&public, padding);
        let plain = custody.vault.decrypt(custody.tenant, None, padding, &wrapped).await.unwrap();
        assert_eq!(plain.unwrap().as_slice(), b"an AES key");
    }
    let wrapped = wrap(&public, Padding::Oaep256);
    assert!(custody.vault.decrypt(custody.tenant, None, Padding::Oaep, &wrapped).await.unwrap().is_none());
}

#[tokio::test]
async fn the_version_that_the_drop_names_is_the_one_that_decrypts() {
    let (custody, first) = Custody::with_key().await;
    custody.vault.create(custody.tenant, EXPIRES).await.unwrap();
    assert_eq!(custody.decrypt(None).await.unwrap(), None, "the current one is another key");
    let identifier = format!("{}keys/{}/{first}", custody.stub.url(), custody.tenant);
    for version in [first.as_str(), &identifier] {
        assert_eq!(custody.decrypt(Some(version)).await.unwrap().unwrap(), b"an AES key");
    }
    let unknown = custody.decrypt(Some(&"0".repeat(32))).await;
    let Err(KeyError::Refused(text)) = unknown else { panic!("{unknown:?}") };
    assert!(text.contains("HTTP 404, KeyNotFound"), "{text}");
}

#[tokio::test]
async fn a_refusal_says_what_to_do() {
    let (custody, _) = Custody::with_key().await;
    for (inner, told) in [
        ("ForbiddenByRbac", "the role Key Vault Crypto User on the vault"),
        ("AccessDenied", "the role Key Vault Crypto User on the vault"),
        ("ForbiddenByFirewall", "the firewall of the vault"),
        ("ForbiddenByConnection", "a private endpoint"),
        ("KeyNotYetValid", "is outside its dates"),
    ] {
        custody.stub.script([Behaviour::Denied(inner)]);
        let text = custody.refusal().await;
        assert!(text.contains(told) && text.contains(&format!("HTTP 403, {inner}")), "{text}");
        assert!(text.contains(custody.stub.url().as_str().trim_end_matches('/')), "{text}");
        assert!(!text.contains("quote"), "{text}");
    }
    custody.stub.permit(custody.tenant, &["sign"]);
    let text = custody.refusal().await;
    assert!(text.contains("permitted operations") && text.contains(&custody.tenant.to_string()), "{text}");
    custody.stub.disable(custody.tenant);
    let text = custody.refusal().await;
    assert!(text.contains("is disabled") && text.contains(&custody.tenant.to_string()), "{text}");
}

#[tokio::test]
async fn a_tenant_without_a_key_is_told_how_to_come_by_one() {
    let custody = empty().await;
    let text = custody.refusal().await;
    assert!(text.contains("vivadrop onboard") && text.contains(&custody.tenant.to_string()), "{text}");
}

#[tokio::test]
async fn a_vault_that_throttles_or_fails_for_a_while_is_asked_again() {
    let (custody, _) = Custody::with_key().await;
    custody.stub.script([Behaviour::Throttled(1), Behaviour::Status(503), Behaviour::Status(500)]);
    assert_eq!(custody.decrypt(None).await.unwrap().unwrap(), b"an AES key");
    assert_eq!(custody.stub.requests().len(), 4);
}

#[tokio::test]
async fn a_vault_that_stays_away_is_unavailable() {
    let (mut custody, _) = Custody::with_key().await;
    let is_unavailable = |answer| matches!(answer, Err(KeyError::Unavailable { .. }));
    custody.stub.answer_always(Behaviour::Throttled(60));
    assert!(is_unavailable(custody.decrypt(None).await));
    custody.stub.stop().await;
    assert!(is_unavailable(custody.decrypt(None).await));
}

#[tokio::test]
async fn a_new_key_has_a_date_and_a_second_one_is_its_next_version() {
    let custody = empty().await;
    assert_eq!(custody.vault.current(custody.tenant).await.unwrap(), None);
    let first = custody.vault.create(custody.tenant, EXPIRES).await.unwrap();
    assert_eq!((first.n.len(), first.e.as_slice()), (256, &[1, 0, 1][..]));
    assert_eq!((first.expires, first.enabled), (Some(EXPIRES), true));
    assert_eq!(custody.vault.current(custody.tenant).await.unwrap().unwrap(), first);

    let second = custody.vault.create(custody.tenant, EXPIRES).await.unwrap();
    assert_ne!((&first.version, &first.n), (&second.version, &second.n));
    assert_eq!(custody.vault.current(custody.tenant).await.unwrap().unwrap(), second);
    assert_eq!(custody.vault.versions(custody.tenant).await.unwrap(), [first, second]);
}

#[tokio::test]
async fn every_key_of_the_vault_is_listed_over_all_pages() {
    let custody = empty().await;
    let tenants: Vec<TenantId> = (0..5).map(|_| TenantId(Uuid::new_v4())).collect();
    let versions: Vec<String> = tenants.iter().map(|tenant| custody.stub.import(*tenant, private_key())).collect();
    custody.stub.disable(tenants[4]);
    let all = custody.vault.all().await.unwrap();
    assert_eq!(all.len(), 5);
    let modulus = private_key().n().to_bytes_be();
    for (tenant, version) in tenants[..4].iter().zip(&versions) {
        let (_, key) = all.iter().find(|(name, _)| *name == tenant.to_string()).unwrap();
        assert_eq!((&key.version, &key.n, key.enabled), (version, &modulus, true));
    }
    let (_, disabled) = all.iter().find(|(name, _)| *name == tenants[4].to_string()).unwrap();
    assert!(!disabled.enabled && disabled.n.is_empty(), "{disabled:?}");
    let current = custody.vault.current(tenants[4]).await.unwrap().unwrap();
    assert_eq!((&current.version, current.enabled), (&versions[4], false));
}

#[tokio::test]
async fn making_a_key_needs_the_officers_role() {
    let custody = empty().await;
    custody.stub.answer_always(Behaviour::Denied("ForbiddenByRbac"));
    let refused = custody.vault.create(custody.tenant, EXPIRES).await;
    let Err(KeyError::Refused(text)) = refused else { panic!("{refused:?}") };
    assert!(text.contains("the role Key Vault Crypto Officer"), "{text}");
}
