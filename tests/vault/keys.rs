//! The vault's client against a stub: operations, errors, retries.

use std::{fs, sync::Arc, time::Duration};

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
        CallLimits, KeyError, WrappedKey, WrappedKeys,
        key_store::{KeyExpiry, KeyStore},
        unwrap::{KeyWrap, MAX_VERSIONS, Padding, PrivateKeys, unwrap_keys},
        vault::Vault,
    },
    retry::RetryBudget,
    verdict::{Reason, Verdict},
};

use crate::support::{
    credential::Credential,
    entra::Entra,
    vault::{Behaviour, KeyVault},
    vectors,
};

const EXPIRES: OffsetDateTime = datetime!(2027-11-22 00:00:00 UTC);

/// A client of a stubbed vault, and a tenant.
struct VaultScene {
    stub: KeyVault,
    vault: Vault,
    tenant: TenantId,
    _entra: Entra,
}

/// A scene whose vault is empty. The client gives up soon.
async fn empty() -> VaultScene {
    let entra = Entra::start().await;
    let stub = KeyVault::start(&entra).await;
    let credential = Arc::new(Credential(Some(entra.tokens())));
    let vault = Vault::with_http_client(entra.certificate.client(), stub.url(), credential).unwrap();
    let retry =
        RetryBudget { first_wait: Duration::from_millis(10), ..RetryBudget::lasting(Duration::from_millis(1500)) };
    let vault = vault.with_limits(CallLimits { retry, try_timeout: Duration::from_secs(10) });
    VaultScene { stub, vault, tenant: TenantId(Uuid::new_v4()), _entra: entra }
}

/// The private key of the test vectors.
fn private_key() -> RsaPrivateKey {
    RsaPrivateKey::from_pkcs8_pem(&fs::read_to_string(vectors::case("encrypted-ctr").private_key()).unwrap()).unwrap()
}

/// A text, wrapped for `key`.
fn wrap(key: &RsaPublicKey, padding: Padding) -> Vec<u8> {
    let wrapped = match padding {
        Padding::Oaep => key.encrypt(&mut OsRng, Oaep::new::<Sha1>(), b"an AES key"),
        Padding::Oaep256 => key.encrypt(&mut OsRng, Oaep::new::<Sha256>(), b"an AES key"),
        Padding::Pkcs1v15 => key.encrypt(&mut OsRng, Pkcs1v15Encrypt, b"an AES key"),
    };
    wrapped.unwrap()
}

impl VaultScene {
    /// A scene whose vault has a key of the tenant, and the key's version.
    async fn with_key() -> (Self, String) {
        let scene = empty().await;
        let version = scene.stub.import(scene.tenant, private_key());
        (scene, version)
    }

    /// Decrypts a wrapped text with a version of the tenant's key.
    async fn decrypt(&self, version: Option<&str>) -> Result<Option<Vec<u8>>, KeyError> {
        let wrapped = wrap(&private_key().to_public_key(), Padding::Oaep);
        let plain = self.vault.decrypt(self.tenant, version, Padding::Oaep, &wrapped).await?;
        Ok(plain.map(|plain| plain.to_vec()))
    }

    /// The text of the error, which must have this verdict.
    async fn failure(&self, verdict: Verdict) -> String {
        let error = self.decrypt(None).await.unwrap_err();
        assert_eq!(error.verdict(), verdict, "{error}");
        error.to_string()
    }
}

#[tokio::test]
async fn the_vault_decrypts_a_wrapped_key_only_with_its_padding() {
    let (scene, _) = VaultScene::with_key().await;
    let public = private_key().to_public_key();
    for padding in [Padding::Oaep, Padding::Oaep256, Padding::Pkcs1v15] {
        let wrapped = wrap(&public, padding);
        let plain = scene.vault.decrypt(scene.tenant, None, padding, &wrapped).await.unwrap();
        assert_eq!(plain.unwrap().as_slice(), b"an AES key");
    }
    let wrapped = wrap(&public, Padding::Oaep256);
    assert!(scene.vault.decrypt(scene.tenant, None, Padding::Oaep, &wrapped).await.unwrap().is_none());
}

#[tokio::test]
async fn a_drop_selects_the_version_that_decrypts() {
    let (scene, first) = VaultScene::with_key().await;
    scene.vault.create(scene.tenant, EXPIRES).await.unwrap();
    assert_eq!(scene.decrypt(None).await.unwrap(), None, "the current version is another key");
    let identifier = format!("{}keys/{}/{first}", scene.stub.url(), scene.tenant);
    for given in [first.as_str(), &identifier] {
        let version = scene.vault.named_version(scene.tenant, given).unwrap();
        assert_eq!(scene.decrypt(version.as_deref()).await.unwrap().unwrap(), b"an AES key");
    }
    let unknown = scene.decrypt(Some(&"0".repeat(32))).await;
    let Err(KeyError::NoVersion(text)) = unknown else { panic!("{unknown:?}") };
    assert!(text.contains("HTTP 404, KeyNotFound"), "{text}");
}

/// The keys of a drop, wrapped for `key`.
fn wrapped_keys(key: &RsaPrivateKey, public_key_version: Option<&str>) -> WrappedKeys {
    let wrapped = || {
        let value = key.to_public_key().encrypt(&mut OsRng, Oaep::new::<Sha1>(), &[7; 32]).unwrap();
        Some(WrappedKey { value, iv: [0; 16] })
    };
    let public_key_version = public_key_version.map(str::to_owned);
    WrappedKeys { file: wrapped(), column: wrapped(), public_key_version }
}

#[tokio::test]
async fn enabled_versions_are_tried_newest_first_until_one_unwraps_the_keys() {
    let scene = empty().await;
    let another = RsaPrivateKey::new(&mut OsRng, 2048).unwrap();
    // More versions than a page of the listing has.
    let ids: Vec<String> = [another.clone(), private_key(), another.clone(), another.clone(), another.clone(), another]
        .into_iter()
        .map(|key| scene.stub.import(scene.tenant, key))
        .collect();
    scene.stub.disable_version(scene.tenant, &ids[3]);
    let wrapped = wrapped_keys(&private_key(), Some("1"));
    let keys = unwrap_keys(&scene.vault, scene.tenant, KeyWrap::RsaOaep, &wrapped).await.unwrap();
    assert!(keys.file.is_some() && keys.column.is_some());

    let decrypted = scene.stub.requests().into_iter().filter(|request| request.starts_with("POST"));
    let expected = ["", &ids[4], &ids[2], &ids[1], &ids[1]];
    let expected = expected.map(|id| format!("POST /keys/{}/{id}/decrypt RSA-OAEP", scene.tenant));
    assert_eq!(decrypted.collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn a_version_that_the_drop_names_is_the_only_one_that_is_tried() {
    let (scene, first) = VaultScene::with_key().await;
    let another = RsaPrivateKey::new(&mut OsRng, 2048).unwrap();
    let second = scene.stub.import(scene.tenant, another);
    let wrapped = wrapped_keys(&private_key(), Some(&second));
    let keys = unwrap_keys(&scene.vault, scene.tenant, KeyWrap::RsaOaep, &wrapped).await;
    assert!(matches!(keys, Err(KeyError::WrongKey(_))), "{keys:?}");
    scene.stub.disable_version(scene.tenant, &first);
    let wrapped = wrapped_keys(&private_key(), Some(&first));
    let keys = unwrap_keys(&scene.vault, scene.tenant, KeyWrap::RsaOaep, &wrapped).await;
    assert!(matches!(&keys, Err(KeyError::UnusableVersion(text)) if text.contains("is disabled")), "{keys:?}");
    assert_eq!(scene.stub.requests().len(), 2);
}

#[tokio::test]
async fn a_damaged_column_key_is_a_wrong_key_although_the_drop_names_a_missing_version() {
    let (scene, _) = VaultScene::with_key().await;
    let mut wrapped = wrapped_keys(&private_key(), Some("00000000000000000000000000000000"));
    wrapped.column.as_mut().unwrap().value[7] ^= 1;
    let keys = unwrap_keys(&scene.vault, scene.tenant, KeyWrap::RsaOaep, &wrapped).await;
    assert!(matches!(keys, Err(KeyError::WrongKey(_))), "{keys:?}");
}

#[tokio::test]
async fn a_drop_that_no_version_unwraps_costs_a_bounded_number_of_requests() {
    let scene = empty().await;
    let another = RsaPrivateKey::new(&mut OsRng, 2048).unwrap();
    for _ in 0..MAX_VERSIONS + 5 {
        scene.stub.import(scene.tenant, another.clone());
    }
    for given in [None, Some("1"), Some("00000000000000000000000000000000")] {
        let before = scene.stub.requests().len();
        let wrapped = wrapped_keys(&private_key(), given);
        let keys = unwrap_keys(&scene.vault, scene.tenant, KeyWrap::RsaOaep, &wrapped).await;
        assert!(matches!(keys, Err(KeyError::WrongKey(_))), "{keys:?}");
        let requests = scene.stub.requests().split_off(before);
        let is_decrypt = |request: &&String| request.starts_with("POST") && !request.contains("/00000");
        assert_eq!(requests.iter().filter(is_decrypt).count(), MAX_VERSIONS, "{requests:?}");
    }
}

#[tokio::test]
async fn a_vault_that_denies_access_sets_nothing_aside_and_the_error_says_how_to_fix_it() {
    let (scene, _) = VaultScene::with_key().await;
    for (inner, fix) in [
        ("ForbiddenByRbac", "the role Key Vault Crypto User on the vault"),
        ("AccessDenied", "the role Key Vault Crypto User on the vault"),
        ("ForbiddenByFirewall", "the firewall of the vault"),
        ("ForbiddenByConnection", "a private endpoint"),
        ("KeyNotYetValid", "is outside its dates"),
    ] {
        scene.stub.script([Behaviour::Denied(inner)]);
        let text = scene.failure(Verdict::Retry).await;
        assert!(text.contains(fix) && text.contains(&format!("HTTP 403, {inner}")), "{text}");
        assert!(text.contains(scene.stub.url().as_str().trim_end_matches('/')), "{text}");
        assert!(!text.contains("quote"), "{text}");
    }
    scene.stub.permit(scene.tenant, &["sign"]);
    let text = scene.failure(Verdict::Retry).await;
    assert!(text.contains("permitted operations") && text.contains(&scene.tenant.to_string()), "{text}");
    scene.stub.disable(scene.tenant);
    let text = scene.failure(Verdict::Retry).await;
    assert!(text.contains("is disabled") && text.contains(&scene.tenant.to_string()), "{text}");
}

#[tokio::test]
async fn a_server_that_does_not_answer_like_a_vault_sets_nothing_aside() {
    let (scene, _) = VaultScene::with_key().await;
    // With a code other than `KeyNotFound`: not the answer of a vault about a key.
    for status in [301, 401, 404, 405, 410, 418] {
        scene.stub.script([Behaviour::Status(status)]);
        let text = scene.failure(Verdict::Retry).await;
        assert!(text.contains("the vault") || text.contains("PRIVATE_KEYS"), "{text}");
    }
}

#[tokio::test]
async fn a_missing_key_sets_the_drop_aside_and_the_error_says_how_to_create_one() {
    let scene = empty().await;
    let text = scene.failure(Verdict::SetAside(Reason::NoKey)).await;
    assert!(text.contains("vivadrop onboard") && text.contains(&scene.tenant.to_string()), "{text}");
}

#[tokio::test]
async fn throttling_and_transient_failures_are_retried() {
    let (scene, _) = VaultScene::with_key().await;
    scene.stub.script([Behaviour::Throttled(1), Behaviour::Status(503), Behaviour::Status(500)]);
    assert_eq!(scene.decrypt(None).await.unwrap().unwrap(), b"an AES key");
    assert_eq!(scene.stub.requests().len(), 4);
}

#[tokio::test]
async fn a_vault_that_does_not_answer_is_unavailable() {
    let (mut scene, _) = VaultScene::with_key().await;
    let failure = async |scene: &VaultScene| {
        let error = scene.decrypt(None).await.unwrap_err();
        assert!(matches!(error, KeyError::Unavailable { .. }), "{error}");
        error.retry_after()
    };
    scene.stub.answer_always(Behaviour::Throttled(60));
    assert_eq!(failure(&scene).await, Some(Duration::from_secs(60)));
    scene.stub.stop().await;
    assert_eq!(failure(&scene).await, None);
}

#[tokio::test]
async fn a_new_key_has_an_expiry_date_and_a_second_key_is_its_next_version() {
    let scene = empty().await;
    assert_eq!(scene.vault.current(scene.tenant).await.unwrap(), None);
    let first = scene.vault.create(scene.tenant, EXPIRES).await.unwrap();
    assert_eq!((first.modulus.len(), first.exponent.as_slice()), (256, &[1, 0, 1][..]));
    assert_eq!((first.expiry, first.enabled), (KeyExpiry::At(EXPIRES), true));
    assert_eq!(scene.vault.current(scene.tenant).await.unwrap().unwrap(), first);

    let second = scene.vault.create(scene.tenant, EXPIRES).await.unwrap();
    assert_ne!((&first.version, &first.modulus), (&second.version, &second.modulus));
    assert_eq!(scene.vault.current(scene.tenant).await.unwrap().unwrap(), second);
    assert_eq!(scene.vault.versions(scene.tenant).await.unwrap(), [first, second]);
}

#[tokio::test]
async fn a_listing_of_several_pages_has_the_key_of_every_tenant() {
    let scene = empty().await;
    let tenants: Vec<TenantId> = (0..5).map(|_| TenantId(Uuid::new_v4())).collect();
    let versions: Vec<String> = tenants.iter().map(|tenant| scene.stub.import(*tenant, private_key())).collect();
    scene.stub.disable(tenants[4]);
    let all = scene.vault.all().await.unwrap();
    assert_eq!(all.len(), 5);
    let modulus = private_key().n().to_bytes_be();
    for (tenant, version) in tenants[..4].iter().zip(&versions) {
        let (_, key) = all.iter().find(|(other, _)| other == tenant).unwrap();
        assert_eq!((&key.version, &key.modulus, key.enabled), (version, &modulus, true));
    }
    let (_, disabled) = all.iter().find(|(other, _)| *other == tenants[4]).unwrap();
    assert!(!disabled.enabled && disabled.modulus.is_empty(), "{disabled:?}");
    let current = scene.vault.current(tenants[4]).await.unwrap().unwrap();
    assert_eq!((&current.version, current.enabled), (&versions[4], false));
}

#[tokio::test]
async fn creating_a_key_needs_the_role_crypto_officer() {
    let scene = empty().await;
    scene.stub.answer_always(Behaviour::Denied("ForbiddenByRbac"));
    let denied = scene.vault.create(scene.tenant, EXPIRES).await;
    let error = denied.unwrap_err();
    assert_eq!(error.verdict(), Verdict::Retry);
    assert!(error.to_string().contains("the role Key Vault Crypto Officer"), "{error}");
}
