//! Unwraps keys with real private RSA keys, and manages keys in a folder of PEM files.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs,
    path::{Path, PathBuf},
    sync::LazyLock,
};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use proptest::{prelude::*, test_runner::TestRunner};
use rsa::{
    Oaep, Pkcs1v15Encrypt, RsaPrivateKey,
    pkcs1::EncodeRsaPrivateKey,
    pkcs8::{DecodePrivateKey, EncodePrivateKey, EncodePublicKey, LineEnding},
    rand_core::OsRng,
    sha2::Sha256,
    traits::PublicKeyParts,
};
use serde_json::Value;
use sha1::Sha1;
use tempfile::TempDir;
use vivadrop::{
    drop::TenantId,
    json::first_object,
    keys::{
        KeyError, Keys, WrappedKey, WrappedKeys,
        details::wrapped_keys,
        key_store::{KeyExpiry, KeyStore},
        pem::{PemFile, PemFolder},
        unwrap::{KeyWrap, Padding, PrivateKeys, unwrap_keys},
    },
};

const KEY: [u8; 32] = *b"0123456789abcdefghijklmnopqrstuv";
const TENANT: &str = "9f1c7fd3-1a33-4f2b-9d3c-0a8f6f2d7e10";

static PRIVATE_KEY: LazyLock<RsaPrivateKey> = LazyLock::new(|| {
    let pem = fs::read_to_string(vectors().join("encrypted-ctr/private-key.pem")).unwrap();
    RsaPrivateKey::from_pkcs8_pem(&pem).unwrap()
});

fn vectors() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors")
}

fn tenant() -> TenantId {
    TENANT.parse().unwrap()
}

/// The private key of the test vectors, as PKCS#8.
fn pem() -> String {
    PRIVATE_KEY.to_pkcs8_pem(LineEnding::LF).unwrap().to_string()
}

/// A wrapped key with this content.
fn wrap(padding: Padding, plain: &[u8]) -> WrappedKey {
    let public = PRIVATE_KEY.to_public_key();
    let value = match padding {
        Padding::Oaep => public.encrypt(&mut OsRng, Oaep::new::<Sha1>(), plain),
        Padding::Oaep256 => public.encrypt(&mut OsRng, Oaep::new::<Sha256>(), plain),
        Padding::Pkcs1v15 => public.encrypt(&mut OsRng, Pkcs1v15Encrypt, plain),
    };
    WrappedKey { value: value.unwrap(), iv: [7; 16] }
}

/// Wrapped keys with a File key only.
fn file_key(wrapped: WrappedKey) -> WrappedKeys {
    WrappedKeys { file: Some(wrapped), ..WrappedKeys::default() }
}

/// A folder with `text` in the file `name`.
fn folder_with(name: &str, text: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(name), text).unwrap();
    folder
}

/// Unwraps a File key with the private key in a file with this `text`.
async fn unwrap_with(text: &str) -> Result<Keys, KeyError> {
    let folder = folder_with("key.pem", text);
    let file = PemFile::new(folder.path().join("key.pem"));
    unwrap_keys(&file, tenant(), KeyWrap::Auto, &file_key(wrap(Padding::Oaep, &KEY))).await
}

/// The text of a `NoKey` error.
fn no_key(keys: Result<Keys, KeyError>) -> String {
    match keys {
        Err(KeyError::NoKey(text)) => text,
        other => panic!("{other:?}"),
    }
}

/// The text of a `WrongKey` error.
fn wrong_key(keys: Result<Keys, KeyError>) -> String {
    match keys {
        Err(KeyError::WrongKey(text)) => text,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn auto_tries_every_padding() {
    let folder = folder_with(&format!("{TENANT}.pem"), &pem());
    let private_keys = PemFolder::new(folder.path());
    let utf16 = |text: String| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>();
    let text = BASE64_STANDARD.encode(KEY);
    for padding in [Padding::Oaep, Padding::Oaep256, Padding::Pkcs1v15] {
        for plain in [KEY.to_vec(), text.clone().into_bytes(), utf16(text.clone())] {
            let wrapped = file_key(wrap(padding, &plain));
            let keys = unwrap_keys(&private_keys, tenant(), KeyWrap::Auto, &wrapped).await.unwrap();
            let file = keys.file.unwrap();
            assert_eq!((file.key, file.iv), (KEY, [7; 16]), "{padding}");
            assert!(keys.column.is_none());
        }
    }
}

#[tokio::test]
async fn a_configured_padding_is_the_only_one_that_is_tried() {
    let folder = folder_with(&format!("{TENANT}.pem"), &pem());
    let wrapped = file_key(wrap(Padding::Oaep256, &KEY));
    let unwrap = |wrap| unwrap_keys_in(folder.path(), wrap, &wrapped);
    assert!(unwrap(KeyWrap::RsaOaep256).await.is_ok());
    assert_eq!(
        wrong_key(unwrap(KeyWrap::Rsa15).await),
        "the File key does not unwrap to an AES-256 key with RSA1_5: wrong private key, or a damaged value"
    );
}

/// Unwraps keys with the private key in a folder.
async fn unwrap_keys_in(folder: &Path, wrap: KeyWrap, wrapped: &WrappedKeys) -> Result<Keys, KeyError> {
    unwrap_keys(&PemFolder::new(folder), tenant(), wrap, wrapped).await
}

#[tokio::test]
async fn a_column_key_that_does_not_unwrap_is_an_error_and_not_a_missing_consent() {
    let folder = folder_with(&format!("{TENANT}.pem"), &pem());
    let mut damaged = wrap(Padding::Oaep, &KEY);
    damaged.value[100] ^= 1;
    for column in [damaged, wrap(Padding::Oaep, &KEY[..16])] {
        let wrapped = WrappedKeys { column: Some(column), ..file_key(wrap(Padding::Oaep, &KEY)) };
        let text = wrong_key(unwrap_keys_in(folder.path(), KeyWrap::Auto, &wrapped).await);
        assert_eq!(
            text,
            "the Column key does not unwrap to an AES-256 key with RSA-OAEP, RSA-OAEP-256, RSA1_5: wrong private key, \
             or a damaged value"
        );
    }
}

#[tokio::test]
async fn a_drop_without_wrapped_keys_needs_no_private_key() {
    let nowhere = PemFolder::new("/nowhere");
    let keys = unwrap_keys(&nowhere, tenant(), KeyWrap::Auto, &WrappedKeys::default()).await.unwrap();
    assert!(keys.file.is_none() && keys.column.is_none());
}

#[tokio::test]
async fn a_new_customers_key_is_found_without_a_restart_whatever_the_case_of_its_file_name() {
    let folder = tempfile::tempdir().unwrap();
    let wrapped = file_key(wrap(Padding::Oaep, &KEY));
    let text = no_key(unwrap_keys_in(folder.path(), KeyWrap::Auto, &wrapped).await);
    assert!(text.contains(&format!("{TENANT}.pem")) && text.contains("vivadrop onboard"), "{text}");

    fs::write(folder.path().join("9F1C7FD3-1a33-4f2b-9d3c-0a8f6f2d7e10.PEM"), pem()).unwrap();
    assert!(unwrap_keys_in(folder.path(), KeyWrap::Auto, &wrapped).await.is_ok());
}

#[tokio::test]
async fn another_tenants_key_is_not_used() {
    let folder = folder_with("00000000-0000-4000-8000-000000000000.pem", &pem());
    let wrapped = file_key(wrap(Padding::Oaep, &KEY));
    no_key(unwrap_keys_in(folder.path(), KeyWrap::Auto, &wrapped).await);
}

#[tokio::test]
async fn pkcs8_and_pkcs1_are_accepted_with_any_line_ends_and_surrounding_text() {
    let pkcs1 = PRIVATE_KEY.to_pkcs1_pem(LineEnding::LF).unwrap().to_string();
    let one_line = pem().replace('\n', "").replace("KEY-----M", "KEY-----\nM");
    let certificate = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for text in [
        pem().replace('\n', "\r\n"),
        pkcs1,
        one_line,
        format!("Bag Attributes\n    friendlyName: {TENANT}\n{certificate}{}trailing", pem()),
    ] {
        assert!(unwrap_with(&text).await.is_ok(), "{text}");
    }
}

#[tokio::test]
async fn an_unusable_private_key_file_is_an_error_that_says_why() {
    let public = PRIVATE_KEY.to_public_key().to_public_key_pem(LineEnding::LF).unwrap();
    let small = RsaPrivateKey::new(&mut OsRng, 1024).unwrap();
    let small = small.to_pkcs8_pem(LineEnding::LF).unwrap().to_string();
    let encrypted = pem().replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    let encrypted_pkcs1 =
        "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n-----END RSA PRIVATE KEY-----\n";
    let junk = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    for (text, why) in [
        ("", "is not a PEM file"),
        ("\u{0}\u{1}", "is not a PEM file"),
        ("-----BEGIN PRIVATE KEY-----\nAAAA", "is not a PEM file"),
        (public.as_str(), "has a block `PUBLIC KEY`"),
        (&encrypted, "is encrypted with a password"),
        (encrypted_pkcs1, "is encrypted with a password"),
        (junk, "is damaged"),
        (&pem().replacen("MII", "MIJ", 1), "is damaged"),
        (&small, "is an RSA key of 1024 bits"),
    ] {
        let error = no_key(unwrap_with(text).await);
        assert!(error.contains("key.pem` ") && error.contains(why), "{error}");
    }
}

#[tokio::test]
async fn a_missing_file_is_reported_by_name() {
    let file = PemFile::new("/nowhere/key.pem");
    let keys = unwrap_keys(&file, tenant(), KeyWrap::Auto, &file_key(wrap(Padding::Oaep, &KEY))).await;
    assert_eq!(no_key(keys), "there is no private key `/nowhere/key.pem`");
}

#[test]
fn random_bytes_do_not_decrypt_and_do_not_panic() {
    let folder = folder_with("key.pem", &pem());
    let file = PemFile::new(folder.path().join("key.pem"));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let modulus = PRIVATE_KEY.n().to_bytes_be();
    let as_long_as_the_modulus = proptest::collection::vec(any::<u8>(), 256);
    let bytes = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..600),
        as_long_as_the_modulus,
        Just(modulus),
        Just(vec![0; 256]),
        Just([vec![0; 255], vec![1]].concat()),
        Just(vec![255; 256]),
    ];
    let mut runner = TestRunner::new_with_rng(
        ProptestConfig::with_cases(48),
        proptest::test_runner::TestRng::deterministic_rng(proptest::test_runner::RngAlgorithm::ChaCha),
    );
    runner
        .run(&bytes, |bytes| {
            for padding in KeyWrap::Auto.paddings() {
                let plain = runtime.block_on(file.decrypt(tenant(), None, *padding, &bytes)).unwrap();
                prop_assert!(plain.is_none());
            }
            Ok(())
        })
        .unwrap();
}

#[tokio::test]
async fn unwrapping_can_move_between_threads() {
    let folder = folder_with(&format!("{TENANT}.pem"), &pem());
    let keys = tokio::spawn(async move {
        let wrapped = file_key(wrap(Padding::Oaep, &KEY));
        unwrap_keys(&PemFolder::new(folder.path()), tenant(), KeyWrap::Auto, &wrapped).await
    });
    assert!(keys.await.unwrap().is_ok());
}

/// The wrapped keys of a test vector: in a saved API response, the drop's key details, or its job metadata.
fn wrapped_in(case: &Path) -> Result<WrappedKeys, KeyError> {
    let metadata = case.join("drop/metadata");
    let candidates = [
        case.join("decryption-keys.json"),
        metadata.join("MoreMetadata/EncryptedDatasets/encryptionKeyDetails.json"),
        metadata.join("JobMetadata/Metadata.json"),
    ];
    match candidates.iter().find_map(|path| fs::read(path).ok()) {
        Some(json) => wrapped_keys(&first_object(&json).unwrap()),
        None => Ok(WrappedKeys::default()),
    }
}

#[tokio::test]
async fn the_test_vectors_unwrap_to_their_keys_or_are_rejected() {
    let mut unwrapped = 0;
    for case in fs::read_dir(vectors()).unwrap().map(|entry| entry.unwrap().path()) {
        let name = case.file_name().unwrap().to_string_lossy().into_owned();
        let (Ok(secrets), true) = (fs::read(case.join("secrets.json")), case.join("private-key.pem").exists()) else {
            continue;
        };
        let private_key = PemFile::new(case.join("private-key.pem"));
        let wrapped = wrapped_in(&case).unwrap();
        let keys = unwrap_keys(&private_key, tenant(), KeyWrap::Auto, &wrapped).await;
        match name.as_str() {
            "refuse-wrong-private-key" | "refuse-short-key" => {
                assert!(wrong_key(keys).starts_with("the File key "), "{name}")
            }
            "refuse-column-key-of-other-tenant" => assert!(wrong_key(keys).starts_with("the Column key "), "{name}"),
            _ => {
                let mut keys = keys.unwrap_or_else(|error| panic!("{name}: {error}"));
                if name == "refuse-wrong-column-key" {
                    // It unwraps. Only decrypting the columns shows that it is the wrong key.
                    keys.column = None;
                }
                let secrets: Value = serde_json::from_slice(&secrets).unwrap();
                for (number, key) in [keys.file, keys.column].into_iter().enumerate() {
                    let Some(key) = key else { continue };
                    let hex = key.key.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
                    assert_eq!(secrets["keys"][number], hex, "{name}");
                    unwrapped += 1;
                }
            }
        }
    }
    assert!(unwrapped > 0, "no test vector has keys");
}

#[tokio::test]
async fn a_folder_creates_keys_that_unwrap_what_their_public_keys_wrap() {
    let folder = tempfile::tempdir().unwrap();
    // The folder need not exist.
    let keys = PemFolder::new(folder.path().join("keys"));
    assert_eq!(keys.current(tenant()).await.unwrap(), None);
    assert_eq!(keys.all().await.unwrap(), []);

    let expires = time::OffsetDateTime::now_utc() + time::Duration::days(365);
    let first = keys.create(tenant(), expires).await.unwrap();
    assert_eq!((first.bits(), first.expiry), (2048, KeyExpiry::Unknown));
    let second = keys.create(tenant(), expires).await.unwrap();
    assert_ne!(first.modulus, second.modulus);
    assert_eq!(keys.current(tenant()).await.unwrap(), Some(second.clone()));
    assert_eq!(keys.all().await.unwrap(), [(tenant(), second.clone())], "the current key of each tenant");

    // The keys of a drop that were wrapped before the rotation still unwrap.
    for key in [&first, &second] {
        for padding in [Padding::Oaep, Padding::Oaep256, Padding::Pkcs1v15] {
            let wrapped = key.wrap(padding, &KEY).unwrap();
            let plain = keys.decrypt(tenant(), None, padding, &wrapped).await.unwrap().unwrap();
            assert_eq!(*plain, KEY);
        }
    }
    let files = fs::read_dir(folder.path().join("keys")).unwrap();
    let mut names: Vec<_> = files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    let mut expected = [&first, &second].map(|key| format!("{TENANT}.{}.pem", key.version)).to_vec();
    expected.push(format!("{TENANT}.pem"));
    expected.sort();
    assert_eq!(names, expected);
}

#[tokio::test]
async fn keys_that_are_created_concurrently_all_stay_usable() {
    let folder = tempfile::tempdir().unwrap();
    let keys = PemFolder::new(folder.path());
    let create = || async { keys.create(tenant(), time::OffsetDateTime::now_utc()).await.unwrap() };
    let first = create().await;
    let (second, third) = tokio::join!(create(), create());
    for key in [first, second, third] {
        let wrapped = key.wrap(Padding::Oaep, &KEY).unwrap();
        let plain = keys.decrypt(tenant(), None, Padding::Oaep, &wrapped).await.unwrap();
        assert_eq!(*plain.expect("each process may have registered the key it created"), KEY);
    }
}

#[cfg(unix)]
#[tokio::test]
async fn only_the_owner_can_read_a_new_key() {
    use std::os::unix::fs::PermissionsExt;

    let folder = tempfile::tempdir().unwrap();
    let keys = PemFolder::new(folder.path());
    keys.create(tenant(), time::OffsetDateTime::now_utc()).await.unwrap();
    for file in fs::read_dir(folder.path()).unwrap() {
        assert_eq!(file.unwrap().metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
}
