//! A copy of the entries of all drops and customers in one blob, so that the first view of a page need not list them.
//!
//! Compressed JSON lines: a [`Header`], then a [`Line`] for each entry. The copy informs people and decides nothing: it
//! is as old as its header says.

use std::{
    borrow::Cow,
    io::{self, BufRead, BufReader, Read, Write},
};

use bytes::{Buf, Bytes, buf::Reader};
use flate2::{Compression, read::MultiGzDecoder, write::GzEncoder};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use time::OffsetDateTime;

use super::{DropStatus, SnapshotBuilder, remedy::remedy};
use crate::ledger::{CustomerEntry, LIST_COPY_VERSION, MAX_LIST_COPY_BYTES};

/// The longest text of a copy that is read, in bytes.
const MAX_TEXT_BYTES: u64 = 64 << 20;

/// The longest line of a copy that is read, in bytes.
const MAX_LINE_BYTES: u64 = 64 << 10;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Header {
    version: u64,
    #[serde(with = "time::serde::rfc3339")]
    as_of: OffsetDateTime,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Line<Drop, Customer> {
    /// A drop, and when its newest blob was written.
    Drop(Drop, #[serde(with = "time::serde::timestamp")] OffsetDateTime),
    Customer(Customer),
}

/// A copy that is being made. Holds the compressed text only.
#[derive(Debug)]
pub struct ListCopy {
    /// `None` if the copy is too large.
    gzip: Option<GzEncoder<Vec<u8>>>,
}

impl ListCopy {
    /// An empty copy of entries that are read after `as_of`.
    pub fn new(as_of: OffsetDateTime) -> Self {
        let mut copy = Self { gzip: Some(GzEncoder::new(Vec::new(), Compression::fast())) };
        copy.push(&Header { version: LIST_COPY_VERSION, as_of });
        copy
    }

    /// Adds a drop.
    pub fn add_drop(&mut self, drop: &DropStatus) {
        self.push(&Line::<_, &CustomerEntry>::Drop(drop, drop.arrived));
    }

    /// Adds a customer.
    pub fn add_customer(&mut self, customer: &CustomerEntry) {
        self.push(&Line::<&DropStatus, _>::Customer(customer));
    }

    /// The content of the blob; `None` if the copy is too large.
    pub fn finish(self) -> Option<Bytes> {
        let content = self.gzip?.finish().expect("writing to memory does not fail");
        (content.len() <= MAX_LIST_COPY_BYTES).then(|| content.into())
    }

    fn push(&mut self, line: &impl Serialize) {
        let Some(gzip) = &mut self.gzip else {
            return;
        };
        let mut text = serde_json::to_vec(line).expect("entries have only texts, numbers and times in their range");
        text.push(b'\n');
        gzip.write_all(&text).expect("writing to memory does not fail");
        if gzip.get_ref().len() > MAX_LIST_COPY_BYTES {
            self.gzip = None;
        }
    }
}

/// Reads a copy; returns the builder of its snapshot. `None` if the time of the copy is not usable, or its version is
/// not ours. Fails if the content is damaged.
pub(super) fn read_copy(
    content: Bytes,
    is_usable: impl FnOnce(OffsetDateTime) -> bool,
) -> io::Result<Option<SnapshotBuilder>> {
    let mut lines = Lines(BufReader::new(MultiGzDecoder::new(content.reader()).take(MAX_TEXT_BYTES)));
    let header = lines.next::<Header>()?.ok_or(io::ErrorKind::UnexpectedEof)?;
    if header.version != LIST_COPY_VERSION || !is_usable(header.as_of) {
        return Ok(None);
    }
    let mut builder = SnapshotBuilder::new(header.as_of);
    while let Some(line) = lines.next::<Line<DropStatus, CustomerEntry>>()? {
        match line {
            Line::Drop(drop, arrived) => {
                // Another version of vivadrop may have another remedy.
                let remedy = remedy(drop.state, drop.reason, drop.next_try).map(Cow::Borrowed);
                builder.add_drop(DropStatus { arrived, remedy, ..drop });
            }
            Line::Customer(customer) => builder.add_customer(customer),
        }
    }
    Ok(Some(builder))
}

struct Lines(BufReader<io::Take<MultiGzDecoder<Reader<Bytes>>>>);

impl Lines {
    /// Parses the next line; `None` at the end.
    fn next<T: DeserializeOwned>(&mut self) -> io::Result<Option<T>> {
        let mut line = Vec::new();
        (&mut self.0).take(MAX_LINE_BYTES).read_until(b'\n', &mut line)?;
        match line.last() {
            None => Ok(None),
            Some(b'\n') => Ok(Some(serde_json::from_slice(&line)?)),
            Some(_) => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;
    use crate::{
        drop::TenantId,
        status::{FileCounts, State},
        verdict::Reason,
    };

    const AS_OF: OffsetDateTime = datetime!(2026-11-22 03:00 UTC);

    fn tenant() -> TenantId {
        "9f1c7fd3-1a33-4f2b-9d3c-0a8f6f2d7e10".parse().unwrap()
    }

    fn drop() -> DropStatus {
        DropStatus {
            tenant_id: tenant(),
            path: Some("datasets/run ü".into()),
            state: State::SetAside,
            rows: Some(10),
            expected_rows: None,
            files: FileCounts { done: Some(1), set_aside: Some(1), total: Some(2) },
            since: AS_OF - time::Duration::HOUR,
            attempts: Some(0),
            next_try: None,
            reason: Some(Reason::Damaged),
            message: Some("line 1\nline 2".into()),
            remedy: remedy(State::SetAside, Some(Reason::Damaged), None).map(Cow::Borrowed),
            arrived: AS_OF - time::Duration::DAY,
        }
    }

    fn customer() -> CustomerEntry {
        CustomerEntry { sas_expires: Some(AS_OF), ..CustomerEntry::new(tenant()) }
    }

    fn copy() -> Bytes {
        let mut copy = ListCopy::new(AS_OF);
        copy.add_drop(&drop());
        copy.add_customer(&customer());
        copy.finish().unwrap()
    }

    #[test]
    fn the_snapshot_of_a_copy_is_that_of_its_entries() {
        let mut builder = SnapshotBuilder::new(AS_OF);
        builder.add_drop(drop());
        builder.add_customer(customer());
        let snapshot = read_copy(copy(), |_| true).unwrap().unwrap().finish(None);
        assert_eq!(snapshot, builder.finish(None));
    }

    #[test]
    fn a_copy_of_another_time_is_not_used() {
        assert!(read_copy(copy(), |as_of| as_of != AS_OF).unwrap().is_none());
    }

    #[test]
    fn a_copy_that_is_cut_off_is_an_error() {
        let content = copy();
        for length in 0..content.len() {
            assert!(read_copy(content.slice(..length), |_| true).is_err(), "{length} bytes");
        }
    }

    #[test]
    fn a_copy_of_another_version_is_not_used() {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        writeln!(gzip, r#"{{"version":2,"asOf":"2026-11-22T03:00:00Z","more":1}}"#).unwrap();
        assert!(read_copy(gzip.finish().unwrap().into(), |_| true).unwrap().is_none());
    }

    #[test]
    fn a_copy_with_an_endless_line_is_an_error() {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(&vec![b' '; 1 << 20]).unwrap();
        assert!(read_copy(gzip.finish().unwrap().into(), |_| true).is_err());
    }
}
