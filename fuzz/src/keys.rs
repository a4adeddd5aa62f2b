//! Wrapped keys, in a response of `egressDecryptionKey` or in key details. Parsed keys that are serialized as the API
//! does are parsed to the same keys again. An unwrapped value is a key or an error, and errors do not quote bytes.

use std::sync::LazyLock;

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};
use vivadrop::{
    drop::TenantId,
    json::first_object,
    keys::{
        KeyError, SecretBytes, WrappedKey, WrappedKeys,
        details::{KeyDetails, wrapped_keys},
        unwrap::{KeyWrap, Padding, PrivateKeys, unwrap_keys},
    },
};

const TENANT: &str = "9f1c7fd3-1a33-4f2b-9d3c-0a8f6f2d7e10";

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_current_thread().build().expect("a runtime without drivers can always be built"));

/// Checks the properties for the bytes of a document with wrapped keys.
pub fn check(bytes: &[u8]) {
    let details: KeyDetails = match first_object(bytes) {
        Ok(details) => details,
        Err(error) => return assert_quotes_nothing(&error),
    };
    let wrapped = match wrapped_keys(&details) {
        Ok(wrapped) => wrapped,
        Err(error) => return assert_quotes_nothing(&error),
    };
    let serialized = serialize(&wrapped).to_string();
    let parsed = first_object(serialized.as_bytes()).expect("the serialized keys are a JSON object");
    assert_eq!(wrapped_keys(&parsed).expect("the serialized keys are valid"), wrapped);

    let tenant: TenantId = TENANT.parse().expect("a tenant id");
    match RUNTIME.block_on(unwrap_keys(&NoEncryption, tenant, KeyWrap::Auto, &wrapped)) {
        Ok(keys) => {
            assert_eq!(
                (keys.file.is_some(), keys.column.is_some()),
                (wrapped.file.is_some(), wrapped.column.is_some())
            );
        }
        Err(error) => assert_quotes_nothing(&error),
    }
}

/// Asserts that the error is too short to quote a value.
fn assert_quotes_nothing(error: &impl ToString) {
    let text = error.to_string();
    assert!(text.len() < 130 && text.is_ascii(), "the error quotes its input: {text}");
}

fn serialize(wrapped: &WrappedKeys) -> Value {
    let key = |kind, key: &Option<WrappedKey>| {
        let WrappedKey { value, iv } = key.as_ref()?;
        Some(
            json!({"DecryptionKeyType": kind, "Value": BASE64_STANDARD.encode(value), "IV": BASE64_STANDARD.encode(iv)}),
        )
    };
    let keys: Vec<_> = [key("Column", &wrapped.column), key("File", &wrapped.file)].into_iter().flatten().collect();
    json!({"PublicKeyVersion": wrapped.public_key_version, "DecryptionKeys": keys})
}

/// Returns the wrapped bytes as the decrypted value, so that any bytes are unwrapped.
#[derive(Debug)]
struct NoEncryption;

#[async_trait::async_trait]
impl PrivateKeys for NoEncryption {
    async fn decrypt(
        &self,
        _tenant: TenantId,
        _version: Option<&str>,
        _padding: Padding,
        wrapped: &[u8],
    ) -> Result<Option<SecretBytes>, KeyError> {
        Ok((!wrapped.is_empty()).then(|| SecretBytes::new(wrapped.to_vec())))
    }
}
