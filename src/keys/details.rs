//! Parses wrapped keys from JSON: the response of `egressDecryptionKey`, Data Connect's `encryptionKeyDetails.json`,
//! and `DecryptionKeyDetails` of job metadata.
//!
//! Microsoft's documents spell the members differently, so names and key types are matched case-insensitively. This
//! module does no I/O and unwraps nothing.

use std::fmt;

use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{GeneralPurpose, GeneralPurposeConfig},
};
use serde::{
    Deserialize,
    de::{Deserializer, Error, MapAccess, SeqAccess, Visitor},
};

use super::{KeyError, WrappedKey, WrappedKeys};
use crate::json::{Members, Text, read_members};

/// Base64 as Microsoft writes it: with padding; unused bits after the last byte are ignored.
pub(super) const BASE64: GeneralPurpose =
    GeneralPurpose::new(&STANDARD, GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true));

/// The wrapped keys in a document, or in the value of `DecryptionKeyDetails`, as they are written.
///
/// Keys are the objects with a key value, in any nesting of arrays and of the members `DecryptionKeys` and
/// `DecryptionKeyDetails`. If there are several keys of one type, the first is kept; everything else is skipped.
#[derive(Default, Clone, PartialEq)]
pub struct KeyDetails {
    file: Option<Entry>,
    column: Option<Entry>,
}

impl fmt::Debug for KeyDetails {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyDetails").finish_non_exhaustive()
    }
}

/// The wrapped keys in `details`.
///
/// A document without keys is not an error. [`KeyError::WrongKey`] states the key and what is wrong with it, never a
/// value.
pub fn wrapped_keys(details: &KeyDetails) -> Result<WrappedKeys, KeyError> {
    let KeyDetails { file, column } = details;
    Ok(WrappedKeys {
        file: file.as_ref().map(|entry| entry.wrapped_key("File")).transpose()?,
        column: column.as_ref().map(|entry| entry.wrapped_key("Column")).transpose()?,
        // One version unwraps both keys, because the keys of a drop are wrapped together.
        public_key_version: file.as_ref().or(column.as_ref()).and_then(|entry| entry.version.clone()),
    })
}

/// The JSON object of one key.
#[derive(Clone, PartialEq)]
struct Entry {
    value: Text,
    iv: Option<Text>,
    /// `PublicKeyVersion` of this object, or else of the nearest object around it.
    version: Option<String>,
}

/// The members of an object that may be a key, or contain keys. Of each name, the first value that is not null;
/// of two names, the first takes precedence.
#[derive(Default)]
struct Node {
    version: Option<Text>,
    value: [Option<Text>; 2],
    iv: [Option<Text>; 2],
    kind: [Option<Text>; 2],
    inner: [Option<KeyDetails>; 2],
}

impl Members for Node {
    fn read<'de, A: MapAccess<'de>>(&mut self, name: &str, values: &mut A) -> Result<bool, A::Error> {
        fn keep<'de, T: Deserialize<'de>, A: MapAccess<'de>>(
            slot: &mut Option<T>,
            values: &mut A,
        ) -> Result<bool, A::Error> {
            if slot.is_none() {
                *slot = values.next_value()?;
                return Ok(true);
            }
            Ok(false)
        }
        let is = |names: [&str; 2]| names.iter().position(|other| other.eq_ignore_ascii_case(name));
        if name.eq_ignore_ascii_case("PublicKeyVersion") {
            keep(&mut self.version, values)
        } else if let Some(index) = is(["DecryptionKeyValue", "Value"]) {
            keep(&mut self.value[index], values)
        } else if let Some(index) = is(["DecryptionKeyIV", "IV"]) {
            keep(&mut self.iv[index], values)
        } else if let Some(index) = is(["DecryptionKeyType", "Type"]) {
            keep(&mut self.kind[index], values)
        } else if let Some(index) = is(["DecryptionKeys", "DecryptionKeyDetails"]) {
            keep(&mut self.inner[index], values)
        } else {
            Ok(false)
        }
    }
}

fn first<T>([first, second]: [Option<T>; 2]) -> Option<T> {
    first.or(second)
}

impl From<Node> for KeyDetails {
    fn from(Node { version, value, iv, kind, inner }: Node) -> Self {
        let version = version.as_ref().and_then(Text::as_str).filter(|version| !version.trim().is_empty());
        let version = version.map(str::to_owned);
        let Some(value) = first(value) else {
            let mut inner = first(inner).unwrap_or_default();
            for entry in [&mut inner.file, &mut inner.column].into_iter().flatten() {
                entry.version = entry.version.take().or_else(|| version.clone());
            }
            return inner;
        };
        let entry = Some(Entry { value, iv: first(iv), version });
        // A key without a type is the File key: job metadata with one key omits the type.
        let kind = first(kind);
        let kind = kind.as_ref().map_or(Some("File"), Text::as_str);
        match kind.map(str::to_ascii_lowercase).as_deref() {
            Some("file") => Self { file: entry, column: None },
            Some("column") => Self { file: None, column: entry },
            _ => Self::default(),
        }
    }
}

impl<'de> Deserialize<'de> for KeyDetails {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct DetailsVisitor;
        impl<'de> Visitor<'de> for DetailsVisitor {
            type Value = KeyDetails;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("key details")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<KeyDetails, A::Error> {
                let mut details = KeyDetails::default();
                while let Some(KeyDetails { file, column }) = elements.next_element()? {
                    details.file = details.file.or(file);
                    details.column = details.column.or(column);
                }
                Ok(details)
            }

            fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<KeyDetails, A::Error> {
                read_members::<Node, A>(members).map(KeyDetails::from)
            }

            fn visit_str<E: Error>(self, _: &str) -> Result<KeyDetails, E> {
                Ok(KeyDetails::default())
            }

            fn visit_bool<E: Error>(self, _: bool) -> Result<KeyDetails, E> {
                Ok(KeyDetails::default())
            }

            fn visit_i64<E: Error>(self, _: i64) -> Result<KeyDetails, E> {
                Ok(KeyDetails::default())
            }

            fn visit_u64<E: Error>(self, _: u64) -> Result<KeyDetails, E> {
                Ok(KeyDetails::default())
            }

            fn visit_f64<E: Error>(self, _: f64) -> Result<KeyDetails, E> {
                Ok(KeyDetails::default())
            }

            fn visit_unit<E: Error>(self) -> Result<KeyDetails, E> {
                Ok(KeyDetails::default())
            }
        }
        deserializer.deserialize_any(DetailsVisitor)
    }
}

impl Entry {
    fn wrapped_key(&self, kind: &str) -> Result<WrappedKey, KeyError> {
        let iv = self.iv.as_ref().ok_or_else(|| KeyError::WrongKey(format!("the {kind} key has no IV")))?;
        let value =
            decode(&self.value).map_err(|wrong| KeyError::WrongKey(format!("the {kind} key's value {wrong}")))?;
        let iv = decode(iv)
            .and_then(|iv| <[u8; 16]>::try_from(iv).map_err(|iv| format!("has {} bytes, expected 16", iv.len())))
            .map_err(|wrong| KeyError::WrongKey(format!("the {kind} key's IV {wrong}")))?;
        Ok(WrappedKey { value, iv })
    }
}

/// Decodes Base64. Ignores full stops at the end: the API's documentation prints a value with one.
fn decode(value: &Text) -> Result<Vec<u8>, String> {
    let text = value.as_str().ok_or("is not a string")?.trim_end_matches('.');
    // The decoder's error message would quote a byte of the value.
    BASE64.decode(text).map_err(|_| "is not Base64".to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const IV: &str = "AAECAwQFBgcICQoLDA0ODw==";
    const IV_BYTES: [u8; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];

    fn key(value: &[u8]) -> Option<WrappedKey> {
        Some(WrappedKey { value: value.into(), iv: IV_BYTES })
    }

    fn wrapped(source: &Value) -> Result<WrappedKeys, KeyError> {
        let details: KeyDetails = serde_json::from_str(&source.to_string()).unwrap();
        assert_eq!(serde_json::from_value::<KeyDetails>(source.clone()).unwrap(), details);
        wrapped_keys(&details)
    }

    fn error(source: &Value) -> String {
        match wrapped(source) {
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
            let keys = wrapped(&response).unwrap();
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
            let keys = wrapped(&source).unwrap();
            assert_eq!((keys.file, keys.column), (key(b"f"), None));
            assert_eq!(keys.public_key_version.as_deref(), Some("v1"));
        }
    }

    #[test]
    fn the_version_of_the_key_object_takes_precedence_over_an_outer_one() {
        let source = json!({"PublicKeyVersion": "outer", "DecryptionKeyDetails":
            {"Value": "Zg==", "IV": IV, "publicKeyVersion": "inner"}});
        let keys = wrapped(&source).unwrap();
        assert_eq!(keys.public_key_version.as_deref(), Some("inner"));
    }

    #[test]
    fn a_document_without_keys_is_not_an_error() {
        let unknown = json!([{"type": "Backup", "value": "not Base64!"}]);
        for source in [json!(null), json!({}), json!([]), json!("text"), json!({"DecryptionKeyDetails": null}), unknown]
        {
            assert_eq!(wrapped(&source).unwrap(), WrappedKeys::default(), "{source}");
        }
    }

    #[test]
    fn the_first_of_two_file_keys_is_used() {
        let source = json!([{"value": "Zg==", "iv": IV}, {"type": "File", "value": "!", "iv": IV}]);
        assert_eq!(wrapped(&source).unwrap().file, key(b"f"));
    }

    #[test]
    fn a_trailing_full_stop_and_unused_bits_are_ignored() {
        let source = json!({"value": "Zn==.", "iv": format!("{IV}.")});
        assert_eq!(wrapped(&source).unwrap().file, key(b"f"));
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
