//! Entries: small blobs whose fields are also their blob metadata, so that a listing returns them.
//!
//! Without blob metadata, as in a folder, the content of each entry is read. So is that of an entry whose fields do not
//! fit in blob metadata.

use std::fmt;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use serde::{
    Deserializer, Serialize,
    de::{DeserializeOwned, Visitor},
};
use serde_json::{Map, Value};

use super::{CONCURRENT_READS, Ledger, json};
use crate::store::{BlobMetadata, ETag, ListedBlob, Listing, ReadWholeError, Store, StoreError, read_current};

/// The largest entry that is read, in bytes.
const MAX_ENTRY_BYTES: u64 = 64 << 10;

/// The most bytes of the names and values of blob metadata. Azure refuses a write with more than 8 KiB.
const MAX_METADATA_BYTES: usize = 7_800;

/// The ASCII characters that are percent-encoded in blob metadata. Characters beyond ASCII are encoded as well.
const ENCODED: &AsciiSet = &CONTROLS.add(b' ').add(b'%').add(b'"');

/// The blob of an entry: content and metadata. The metadata is empty if it would be larger than Azure allows: a message
/// or a path beyond ASCII takes up to three times its bytes there.
pub(super) fn format(entry: &impl Serialize) -> (Bytes, BlobMetadata) {
    let mut metadata = metadata(entry);
    if metadata.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>() > MAX_METADATA_BYTES {
        metadata.clear();
    }
    (json::format(entry).into(), metadata)
}

/// Blob metadata with the fields of `entry`, which have lower-case names and are texts, numbers or null.
pub(super) fn metadata(entry: &impl Serialize) -> BlobMetadata {
    let Ok(Value::Object(fields)) = serde_json::to_value(entry) else {
        unreachable!("an entry is an object of texts and numbers");
    };
    let encoded = fields.into_iter().filter_map(|(name, value)| {
        let text = match value {
            Value::Null => return None,
            Value::String(text) => text,
            value => value.to_string(),
        };
        Some((name, utf8_percent_encode(&text, ENCODED).to_string()))
    });
    encoded.collect()
}

impl Ledger {
    /// Lists the entries in a folder, each with its version. Skips blobs that are not entries.
    pub(super) fn entries<'a, T: DeserializeOwned + Send + 'a>(&'a self, folder: &'a str) -> Listing<'a, (ETag, T)> {
        let listed = self.store.list_with_metadata(&self.container, folder);
        let entries = listed.map_ok(async |listed| {
            let version = listed.blob.etag.clone();
            Ok(parse(&*self.store, listed).await?.map(|entry| (version, entry)))
        });
        entries.try_buffered(CONCURRENT_READS).try_filter_map(async |entry| Ok(entry)).boxed()
    }
}

/// Parses a listed entry. Returns `None` if the blob was deleted, or cannot be parsed because somebody changed it by
/// hand.
async fn parse<T: DeserializeOwned>(store: &dyn Store, listed: ListedBlob) -> Result<Option<T>, StoreError> {
    if let Some(metadata) = &listed.metadata
        && let Some(entry) = parse_metadata(metadata)
    {
        return Ok(Some(entry));
    }
    match read_current(store, &listed.blob.path, MAX_ENTRY_BYTES).await {
        Ok(current) => Ok(current.and_then(|(_, bytes)| serde_json::from_slice(&bytes).ok())),
        Err(ReadWholeError::TooLarge { .. }) => Ok(None),
        Err(ReadWholeError::Store(error)) => Err(error),
    }
}

/// Parses blob metadata; `None` if it does not have the fields of `T`.
pub(super) fn parse_metadata<T: DeserializeOwned>(metadata: &BlobMetadata) -> Option<T> {
    let decode = |(name, text): (&String, &String)| {
        Some((name.clone(), Value::String(percent_decode_str(text).decode_utf8().ok()?.into_owned())))
    };
    let fields: Map<_, _> = metadata.iter().map(decode).collect::<Option<_>>()?;
    serde_json::from_value(Value::Object(fields)).ok()
}

/// Parses a number, which is a text in blob metadata; null is 0.
pub(super) fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    optional_number(deserializer).map(Option::unwrap_or_default)
}

/// Parses a number, which is a text in blob metadata, or null.
pub(super) fn optional_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    struct NumberOrText;
    impl Visitor<'_> for NumberOrText {
        type Value = Option<u64>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a number, also as a text, or null")
        }

        fn visit_unit<E>(self) -> Result<Option<u64>, E> {
            Ok(None)
        }

        fn visit_u64<E>(self, number: u64) -> Result<Option<u64>, E> {
            Ok(Some(number))
        }

        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Option<u64>, E> {
            text.parse().map(Some).map_err(E::custom)
        }
    }
    deserializer.deserialize_any(NumberOrText)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_entry_that_does_not_fit_in_blob_metadata_has_only_its_content() {
        let of = |message: &str| format(&json!({"path": "datasets/run", "message": message, "rows": 7}));
        // Percent-encoded, a character beyond ASCII takes up to twelve bytes.
        for message in ["m".repeat(500), "\u{1F600}".repeat(500), "\u{6F22}".repeat(1_000)] {
            let (bytes, metadata) = of(&message);
            let size: usize = metadata.iter().map(|(name, value)| name.len() + value.len()).sum();
            assert!(size < 8 << 10, "{size}");
            assert_eq!(metadata.is_empty(), message.chars().count() == 1_000);
            let entry: Value = serde_json::from_slice(&bytes).unwrap();
            assert_eq!(entry["message"], message);
        }
    }
}
