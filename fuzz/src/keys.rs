//! Wrapped keys: an answer of `egressDecryptionKey`, or key details. What was read and is written as the API writes it is
//! read again, and what unwraps is a key or said to be none, without its bytes.

use std::sync::LazyLock;

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};
use vivadrop::{
    drop::TenantId,
    keys::{
        KeyError, SecretBytes, WrappedKey, WrappedKeys,
        details::{first_object, wrapped_keys},
        unwrap::{KeyWrap, Padding, PrivateKeys, unwrap_keys},
    },
};

const TENANT: &str = "9f1c7fd3-1a33-4f2b-9d3c-0a8f6f2d7e10";

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_current_thread().build().expect("a runtime without anything starts"));

/// Reads the bytes as a document with wrapped keys.
pub fn check(bytes: &[u8]) {
    let object = match first_object(bytes) {
        Ok(object) => object,
        Err(error) => return says_little(&error),
    };
    let wrapped = match wrapped_keys(&object.into()) {
        Ok(wrapped) => wrapped,
        Err(error) => return says_little(&error),
    };
    let again = first_object(written(&wrapped).to_string().as_bytes()).expect("what was written is an object");
    assert_eq!(wrapped_keys(&again.into()).expect("what was written has keys"), wrapped);

    let tenant: TenantId = TENANT.parse().expect("a tenant id");
    match RUNTIME.block_on(unwrap_keys(&Unwrapped, tenant, KeyWrap::Auto, &wrapped)) {
        Ok(keys) => {
            assert_eq!(
                (keys.file.is_some(), keys.column.is_some()),
                (wrapped.file.is_some(), wrapped.column.is_some())
            );
        }
        Err(error) => says_little(&error),
    }
}

/// An error has no room for a value.
fn says_little(error: &impl ToString) {
    let text = error.to_string();
    assert!(text.len() < 130 && text.is_ascii(), "an error that quotes what it read: {text}");
}

fn written(wrapped: &WrappedKeys) -> Value {
    let key = |kind, key: &Option<WrappedKey>| {
        let WrappedKey { value, iv } = key.as_ref()?;
        Some(
            json!({"DecryptionKeyType": kind, "Value": BASE64_STANDARD.encode(value), "IV": BASE64_STANDARD.encode(iv)}),
        )
    };
    let keys: Vec<_> = [key("Column", &wrapped.column), key("File", &wrapped.file)].into_iter().flatten().collect();
    json!({"PublicKeyVersion": wrapped.public_key_version, "DecryptionKeys": keys})
}

/// Keys that were never wrapped: so any bytes come out of RSA.
#[derive(Debug)]
struct Unwrapped;

#[async_trait::async_trait]
impl PrivateKeys for Unwrapped {
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
