//! The watermark, in a blob that a person can read: `sweep.json`.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::store::{BlobPath, ReadWholeError, Store, StoreError, WriteIf, read_whole};

/// The largest watermark that is read: it has a hundred bytes.
const LARGEST: u64 = 4 << 10;

/// What `sweep.json` says.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    /// The form of this record.
    version: u32,
    /// Every drop whose blobs are all older than this has ended.
    #[serde(with = "time::serde::rfc3339")]
    watermark: OffsetDateTime,
}

fn place(container: &str) -> BlobPath {
    BlobPath::new(container, "sweep.json")
}

/// The watermark, or the beginning of time where there is none, or none that can be read: looking twice does no harm.
pub(super) async fn read(store: &dyn Store, container: &str) -> Result<OffsetDateTime, StoreError> {
    let beginning = OffsetDateTime::UNIX_EPOCH;
    let Some(blob) = store.find(&place(container)).await? else { return Ok(beginning) };
    match read_whole(store, &blob, LARGEST).await {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).map_or(beginning, |record: Record| record.watermark)),
        Err(ReadWholeError::TooLarge { .. }) => Ok(beginning),
        Err(ReadWholeError::Store(error)) => Err(error),
    }
}

/// Writes the watermark. Of two sweeps at the same time the later to write wins; the worst that comes of it is a second look.
pub(super) async fn write(store: &dyn Store, container: &str, watermark: OffsetDateTime) -> Result<(), StoreError> {
    let record = serde_json::to_vec_pretty(&Record { version: 1, watermark }).unwrap_or_default();
    store.write(&place(container), Bytes::from(record), WriteIf::Always).await.map(drop)
}
