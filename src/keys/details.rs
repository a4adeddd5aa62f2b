//! Wrapped keys in JSON: the answer of `egressDecryptionKey`, Data Connect's `encryptionKeyDetails.json`, and the
//! `DecryptionKeyDetails` of job metadata.
//!
//! Knows how Microsoft's texts spell them, which no two of them do alike: names and types are matched without case. Knows
//! nothing of where the JSON came from, and opens no key.

use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{GeneralPurpose, GeneralPurposeConfig},
};
use serde_json::{Deserializer, Map, Value};

use super::{KeyError, WrappedKey, WrappedKeys};

/// Base64 as Microsoft writes it: padded; bits behind the last byte do not matter.
pub(super) const BASE64: GeneralPurpose =
    GeneralPurpose::new(&STANDARD, GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true));

/// The wrapped keys in `source`: a whole document, or the value of `DecryptionKeyDetails` alone.
///
/// No keys at all is no error. Of two keys of one type the first counts, and types other than File and Column are left
/// alone. [`KeyError::Wrong`] names the key and what is wrong with it, never a value.
pub fn wrapped_keys(source: &Value) -> Result<WrappedKeys, KeyError> {
    let mut entries = Vec::new();
    collect(source, None, &mut entries);
    let first = |kind| entries.iter().find(|entry| entry.is(kind));
    let (file, column) = (first("File"), first("Column"));
    Ok(WrappedKeys {
        file: file.map(|entry| entry.wrapped_key("File")).transpose()?,
        column: column.map(|entry| entry.wrapped_key("Column")).transpose()?,
        // One version unwraps both: the keys of a drop are made in one go.
        public_key_version: file.or(column).and_then(|entry| entry.version).map(str::to_owned),
    })
}

/// One key as JSON has it.
struct Entry<'a> {
    fields: &'a Map<String, Value>,
    value: &'a Value,
    /// `PublicKeyVersion`, its own or of an object around it.
    version: Option<&'a str>,
}

/// Finds the entries in `source`: an object with a value, or any nesting of lists and objects around such objects.
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

/// The field that has the first of `names` that is there. Null is as good as not there.
fn field<'a>(fields: &'a Map<String, Value>, names: &[&str]) -> Option<&'a Value> {
    names
        .iter()
        .find_map(|name| fields.iter().find(|(key, value)| key.eq_ignore_ascii_case(name) && !value.is_null()))
        .map(|(_, value)| value)
}

impl Entry<'_> {
    /// Whether its type is `kind`. Job metadata names no type where there is one key, which is the File key.
    fn is(&self, kind: &str) -> bool {
        match field(self.fields, &["DecryptionKeyType", "Type"]) {
            Some(named) => named.as_str().is_some_and(|named| named.eq_ignore_ascii_case(kind)),
            None => kind == "File",
        }
    }

    fn wrapped_key(&self, kind: &str) -> Result<WrappedKey, KeyError> {
        let iv = field(self.fields, &["DecryptionKeyIV", "IV"])
            .ok_or_else(|| KeyError::Wrong(format!("the {kind} key has no IV")))?;
        let value = decode(self.value).map_err(|wrong| KeyError::Wrong(format!("the {kind} key's value {wrong}")))?;
        let iv = decode(iv)
            .and_then(|iv| <[u8; 16]>::try_from(iv).map_err(|iv| format!("has {} bytes where 16 are needed", iv.len())))
            .map_err(|wrong| KeyError::Wrong(format!("the {kind} key's IV {wrong}")))?;
        Ok(WrappedKey { value, iv })
    }
}

/// Undoes Base64. The API's page prints a value that ends in a stray full stop.
fn decode(value: &Value) -> Result<Vec<u8>, String> {
    let text = value.as_str().ok_or("is no text")?.trim_end_matches('.');
    // The decoder's own error quotes a byte.
    BASE64.decode(text).map_err(|_| "is not Base64".to_owned())
}

/// The bytes do not begin with a JSON object.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoObject {
    /// There is nothing but white space.
    #[error("is empty")]
    Empty,
    /// What is there is something else, or breaks off.
    #[error("does not begin with a JSON object: see line {line}, column {column}")]
    Broken {
        /// Where reading stopped, from 1.
        line: usize,
        /// Where in that line, in bytes.
        column: usize,
    },
}

/// The first JSON object in `bytes`, behind a byte-order mark and white space, if any. What follows it is not looked at.
pub fn first_object(bytes: &[u8]) -> Result<Map<String, Value>, NoObject> {
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    match Deserializer::from_slice(text).into_iter().next() {
        Some(Ok(object)) => Ok(object),
        // The position alone: the parser's own words may quote what it read.
        Some(Err(broken)) => Err(NoObject::Broken { line: broken.line(), column: broken.column() }),
        None => Err(NoObject::Empty),
    }
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

    fn wrong(source: &Value) -> String {
        match wrapped_keys(source) {
            Err(KeyError::Wrong(text)) => text,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn both_spellings_of_the_answer_are_read() {
        let pascal = json!({"DecryptionKeys": [{"DecryptionKeyType": "Column", "Value": "Yw==", "IV": IV},
                                               {"DecryptionKeyType": "File", "Value": "Zg==", "IV": IV}]});
        let camel = json!({"decryptionKeys": [{"type": "file", "value": "Zg==", "iv": IV},
                                              {"type": "COLUMN", "value": "Yw==", "iv": IV}]});
        for answer in [pascal, camel] {
            let keys = wrapped_keys(&answer).unwrap();
            assert_eq!((keys.file, keys.column), (key(b"f"), key(b"c")));
        }
    }

    #[test]
    fn data_connects_details_are_read_flat_and_nested() {
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
    fn the_version_of_the_key_itself_comes_before_the_one_outside() {
        let source = json!({"PublicKeyVersion": "outer", "DecryptionKeyDetails":
            {"Value": "Zg==", "IV": IV, "publicKeyVersion": "inner"}});
        let keys = wrapped_keys(&source).unwrap();
        assert_eq!(keys.public_key_version.as_deref(), Some("inner"));
    }

    #[test]
    fn no_keys_at_all_is_no_error() {
        let unknown = json!([{"type": "Backup", "value": "not Base64!"}]);
        for source in [json!(null), json!({}), json!([]), json!("text"), json!({"DecryptionKeyDetails": null}), unknown]
        {
            assert_eq!(wrapped_keys(&source).unwrap(), WrappedKeys::default(), "{source}");
        }
    }

    #[test]
    fn of_two_file_keys_the_first_counts() {
        let source = json!([{"value": "Zg==", "iv": IV}, {"type": "File", "value": "!", "iv": IV}]);
        assert_eq!(wrapped_keys(&source).unwrap().file, key(b"f"));
    }

    #[test]
    fn a_stray_full_stop_and_stray_bits_are_forgiven() {
        let source = json!({"value": "Zn==.", "iv": format!("{IV}.")});
        assert_eq!(wrapped_keys(&source).unwrap().file, key(b"f"));
    }

    #[test]
    fn an_error_names_the_key_and_never_its_value() {
        let column = |value: &str, iv: &str| wrong(&json!({"type": "Column", "value": value, "iv": iv}));
        assert_eq!(column("c2VjcmV0", "AAEC"), "the Column key's IV has 3 bytes where 16 are needed");
        assert_eq!(column("c2VjcmV0", "AA EC"), "the Column key's IV is not Base64");
        assert_eq!(column("Zg", IV), "the Column key's value is not Base64");
        assert_eq!(column("_-==", IV), "the Column key's value is not Base64");
        assert_eq!(wrong(&json!({"value": "Zg=="})), "the File key has no IV");
        assert_eq!(wrong(&json!({"value": 7, "iv": IV})), "the File key's value is no text");
    }

    #[test]
    fn the_first_object_counts_and_the_rest_is_not_looked_at() {
        for text in ["{\"a\":1}", "\u{feff}{\"a\":1}", " \r\n{\"a\":1}{\"a\":2}", "{\"a\":1}\n\u{0}not json"] {
            assert_eq!(first_object(text.as_bytes()).unwrap()["a"], 1, "{text:?}");
        }
        assert_eq!(first_object(b"{\"a\":1}\xff\xfe").unwrap()["a"], 1);
    }

    #[test]
    fn what_is_no_object_is_refused_by_position_without_a_quotation() {
        assert_eq!(first_object(b"\xef\xbb\xbf \n"), Err(NoObject::Empty));
        for text in ["[{}]", "\"secret\"", "{\"a\":secret}", "{\"a\":\"secret", "7", "\u{feff}\u{feff}{}"] {
            let broken = first_object(text.as_bytes()).unwrap_err().to_string();
            assert!(broken.contains("line 1") && !broken.contains("secret"), "{broken}");
        }
    }
}
