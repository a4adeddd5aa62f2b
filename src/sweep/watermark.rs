//! The watermark of sweeps, in the blob `sweep.json` of the state container.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::store::{BlobPath, ReadWholeError, Store, StoreError, WriteIf, read_whole};

/// The largest watermark record that is read, in bytes. A valid one has about a hundred.
const MAX_BYTES: u64 = 4 << 10;

/// The content of `sweep.json`.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    /// The version of the format.
    version: u32,
    /// Sweeps skip every drop whose newest blob is not newer than this.
    #[serde(with = "time::serde::rfc3339")]
    watermark: OffsetDateTime,
}

fn path(container: &str) -> BlobPath {
    BlobPath::new(container, "sweep.json")
}

/// Reads the watermark. It is 1970-01-01 if it is missing or cannot be parsed: a sweep may safely run all drops again.
pub(super) async fn read(store: &dyn Store, container: &str) -> Result<OffsetDateTime, StoreError> {
    let Some(blob) = store.find(&path(container)).await? else {
        return Ok(OffsetDateTime::UNIX_EPOCH);
    };
    match read_whole(store, &blob, MAX_BYTES).await {
        Ok(bytes) => match serde_json::from_slice::<Record>(&bytes) {
            Ok(record) => Ok(record.watermark),
            Err(_) => Ok(OffsetDateTime::UNIX_EPOCH),
        },
        Err(ReadWholeError::TooLarge { .. }) => Ok(OffsetDateTime::UNIX_EPOCH),
        Err(ReadWholeError::Store(error)) => Err(error),
    }
}

/// Writes the watermark. If two sweeps run at the same time, the last write wins; a lower watermark only costs runs
/// with nothing to do.
pub(super) async fn write(store: &dyn Store, container: &str, watermark: OffsetDateTime) -> Result<(), StoreError> {
    let record = Record { version: 1, watermark };
    let text = serde_json::to_vec_pretty(&record).expect("a watermark is between the years 0 and 9999");
    store.write(&path(container), Bytes::from(text), WriteIf::Always).await.map(drop)
}
