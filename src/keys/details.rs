//! Parses wrapped keys from JSON: the response of `egressDecryptionKey`, Data Connect's `encryptionKeyDetails.json`,
//! and `DecryptionKeyDetails` of job metadata.
//!
//! Microsoft's documents spell the members differently, so names and key types are matched case-insensitively. This
//! module does no I/O and unwraps nothing.

use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{GeneralPurpose, GeneralPurposeConfig},
};
use serde_json::{Map, Value};

use super::{KeyError, WrappedKey, WrappedKeys};

/// Base64 as Microsoft writes it: with padding; unused bits after the last byte are ignored.
pub(super) const BASE64: GeneralPurpose =
    GeneralPurpose::new(&STANDARD, GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true));

/// The wrapped keys in `source`, which is a whole document or the value of `DecryptionKeyDetails`.
///
/// A document without keys is not an error. If there are several keys of one type, the first is used; types other than
/// File and Column are ignored. [`KeyError::WrongKey`] states the key and what is wrong with it, never a value.
pub fn wrapped_keys(source: &Value) -> Result<WrappedKeys, KeyError> {
    let mut entries = Vec::new();
    collect(source, None, &mut entries);
    let first = |kind| entries.iter().find(|entry| entry.is(kind));
    let (file, column) = (first("File"), first("Column"));
    Ok(WrappedKeys {
        file: file.map(|entry| entry.wrapped_key("File")).transpose()?,
        column: column.map(|entry| entry.wrapped_key("Column")).transpose()?,
        // One version unwraps both keys, because the keys of a drop are wrapped together.
        public_key_version: file.or(column).and_then(|entry| entry.version).map(str::to_owned),
    })
}

/// The JSON object of one key.
struct Entry<'a> {
    fields: &'a Map<String, Value>,
    value: &'a Value,
    /// `PublicKeyVersion` of this object, or else of the nearest object around it.
    version: Option<&'a str>,
}

/// Appends the entries in `source` to `found`: objects with a key value, in any nesting of arrays and objects.
fn collect<'a>(source: &'a Value, outer_version: Option<&'a str>, found: &mut Vec<Entry<'a>>) {
    match source {
        Value::Array(list) => list.iter().for_each(|inner| collect(inner, outer_version, found)),
        Value::Object(fields) => {
            let version = field(fields, &["PublicKeyVersion"])
                .and_then(Value::as_str)
                .filter(|version| !version.trim().is_empty())
                .or(outer_version);
            if let Some(value) = field(fields, &["DecryptionKeyValue", "Value"]) {
                found.push(Entry { fields, value, version });
            } else if let Some(inner) = field(fields, &["DecryptionKeys", "DecryptionKeyDetails"]) {
                collect(inner, version, found);
            }
        }
        _ => {}
    }
}

/// The value of the first of `names` that is present. A null value counts as absent.
fn field<'a>(fields: &'a Map<String, Value>, names: &[&str]) -> Option<&'a Value> {
    names
        .iter()
        .find_map(|name| fields.iter().find(|(key, value)| key.eq_ignore_ascii_case(name) && !value.is_null()))
        .map(|(_, value)| value)
}

impl Entry<'_> {
    /// Whether the key has the type `kind`. A key without a type is the File key: job metadata with one key omits the
    /// type.
    fn is(&self, kind: &str) -> bool {
        match field(self.fields, &["DecryptionKeyType", "Type"]) {
            Some(named) => named.as_str().is_some_and(|named| named.eq_ignore_ascii_case(kind)),
            None => kind == "File",
        }
    }

    fn wrapped_key(&self, kind: &str) -> Result<WrappedKey, KeyError> {
        let iv = field(self.fields, &["DecryptionKeyIV", "IV"])
            .ok_or_else(|| KeyError::WrongKey(format!("the {kind} key has no IV")))?;
        let value =
            decode(self.value).map_err(|wrong| KeyError::WrongKey(format!("the {kind} key's value {wrong}")))?;
        let iv = decode(iv)
            .and_then(|iv| <[u8; 16]>::try_from(iv).map_err(|iv| format!("has {} bytes, expected 16", iv.len())))
            .map_err(|wrong| KeyError::WrongKey(format!("the {kind} key's IV {wrong}")))?;
        Ok(WrappedKey { value, iv })
    }
}

/// Decodes Base64. Ignores full stops at the end: the API's documentation prints a value with one.
fn decode(value: &Value) -> Result<Vec<u8>, String> {
    let text = value.as_str().ok_or("is not a string")?.trim_end_matches('.');
    // The decoder's error message would quote a byte of the value.
    BASE64.decode(text).map_err(|_| "is not Base64".to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const IV: &str = "AAECAwQFBgcICQoLDA0ODw==";
    const IV_BYTES: [u8; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];

    fn key(value: &[u8]) -> Option<WrappedKey> {
        Some(WrappedKey { value: value.into(), iv: IV_BYTES })
    }

    fn error(source: &Value) -> String {
        match wrapped_keys(source) {
            Err(KeyError::WrongKey(text)) => text,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn both_spellings_of_the_response_are_parsed() {
        let pascal = json!({"DecryptionKeys": [{"DecryptionKeyType": "Column", "Value": "Yw==", "IV": IV},
                                               {"DecryptionKeyType": "File", "Value": "Zg==", "IV": IV}]});
        let camel = json!({"decryptionKeys": [{"type": "file", "value": "Zg==", "iv": IV},
                                              {"type": "COLUMN", "value": "Yw==", "iv": IV}]});
        for response in [pascal, camel] {
            let keys = wrapped_keys(&response).unwrap();
            assert_eq!((keys.file, keys.column), (key(b"f"), key(b"c")));
        }
    }

    #[test]
    fn data_connects_key_details_may_be_flat_or_nested() {
        let flat = json!({"PublicKeyVersion": "v1", "DecryptionKeyValue": "Zg==", "DecryptionKeyIV": IV});
        let nested = json!({"DecryptionKeyDetails": flat.clone()});
        let version_outside = json!({"PublicKeyVersion": "v1",
            "DecryptionKeyDetails": [[{"decryptionkeyvalue": "Zg==", "decryptionkeyiv": IV}]]});
        for source in [flat, nested, version_outside] {
            let keys = wrapped_keys(&source).unwrap();
            assert_eq!((keys.file, keys.column), (key(b"f"), None));
            assert_eq!(keys.public_key_version.as_deref(), Some("v1"));
        }
    }

    #[test]
    fn the_version_of_the_key_object_takes_precedence_over_an_outer_one() {
        let source = json!({"PublicKeyVersion": "outer", "DecryptionKeyDetails":
            {"Value": "Zg==", "IV": IV, "publicKeyVersion": "inner"}});
        let keys = wrapped_keys(&source).unwrap();
        assert_eq!(keys.public_key_version.as_deref(), Some("inner"));
    }

    #[test]
    fn a_document_without_keys_is_not_an_error() {
        let unknown = json!([{"type": "Backup", "value": "not Base64!"}]);
        for source in [json!(null), json!({}), json!([]), json!("text"), json!({"DecryptionKeyDetails": null}), unknown]
        {
            assert_eq!(wrapped_keys(&source).unwrap(), WrappedKeys::default(), "{source}");
        }
    }

    #[test]
    fn the_first_of_two_file_keys_is_used() {
        let source = json!([{"value": "Zg==", "iv": IV}, {"type": "File", "value": "!", "iv": IV}]);
        assert_eq!(wrapped_keys(&source).unwrap().file, key(b"f"));
    }

    #[test]
    fn a_trailing_full_stop_and_unused_bits_are_ignored() {
        let source = json!({"value": "Zn==.", "iv": format!("{IV}.")});
        assert_eq!(wrapped_keys(&source).unwrap().file, key(b"f"));
    }

    #[test]
    fn an_error_names_the_key_and_does_not_quote_its_value() {
        let column = |value: &str, iv: &str| error(&json!({"type": "Column", "value": value, "iv": iv}));
        assert_eq!(column("c2VjcmV0", "AAEC"), "the Column key's IV has 3 bytes, expected 16");
        assert_eq!(column("c2VjcmV0", "AA EC"), "the Column key's IV is not Base64");
        assert_eq!(column("Zg", IV), "the Column key's value is not Base64");
        assert_eq!(column("_-==", IV), "the Column key's value is not Base64");
        assert_eq!(error(&json!({"value": "Zg=="})), "the File key has no IV");
        assert_eq!(error(&json!({"value": 7, "iv": IV})), "the File key's value is not a string");
    }
}
