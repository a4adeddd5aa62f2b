//! Messages about a drop that does not exist.

use std::ops::Range;

use vivadrop::{
    drop::FileVersion,
    message::{DropFacts, Message},
    store::ETag,
};

/// The description of the drop.
pub(crate) fn facts() -> DropFacts {
    DropFacts {
        id: Some("4f5d0b34-5a3d-4b4b-9d3c-0a8f6f2d7e10".into()),
        tenant_id: "9f1c7fd3-1a33-4f2b-9d3c-0a8f6f2d7e10".parse().unwrap(),
        path: "datasets/run".into(),
        table: None,
        request_start_date: Some("2026-08-16T00:00:00Z".into()),
        request_end_date: None,
        generation: 0,
    }
}

/// The file of the drop.
pub(crate) fn file() -> FileVersion {
    FileVersion { name: "part-0.json.gz".into(), etag: ETag("1".into()) }
}

/// The message with the rows `range` of the file. `rows` is their JSON text, joined by commas.
pub(crate) fn rows_message(range: Range<u64>, rows: &str) -> Message {
    Message::rows(&facts(), &file(), range, true, None, rows.as_bytes().into(), &[])
}
