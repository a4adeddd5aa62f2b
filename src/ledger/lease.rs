//! A lease on a record, and the requests that need it.

use std::{sync::Arc, time::Duration};

use tokio::time::timeout;
use tracing::debug;

use super::{FileRecord, LedgerError, RENEW_EVERY, json};
use crate::store::{BlobPath, ETag, LeaseId, Store, StoreError, WriteIf};

/// The time limit of one request. It is a third of [`LEASE`](super::LEASE), so one request that hangs does not cost the
/// lease.
const REQUEST_TIMEOUT: Duration = RENEW_EVERY;

/// A lease on the record of a file.
#[derive(Debug, Clone)]
pub(super) struct RecordLease {
    pub(super) store: Arc<dyn Store>,
    pub(super) path: BlobPath,
    pub(super) id: LeaseId,
}

impl RecordLease {
    /// Extends the lease: it lasts [`LEASE`](super::LEASE) from now.
    pub(super) async fn renew(&self) -> Result<(), LedgerError> {
        self.request(self.store.renew(&self.path, &self.id)).await
    }

    /// Overwrites version `etag` with `record`, and sets `etag` to the new version.
    ///
    /// If the response to a write is lost, the SDK may repeat the write and then report its own version as a conflict.
    /// Nobody else writes the record while we hold the lease, so the version found after a conflict is our own, and is
    /// overwritten.
    pub(super) async fn write(&self, etag: &mut ETag, record: &FileRecord) -> Result<(), LedgerError> {
        let written = match self.overwrite(etag, record).await {
            Err(LedgerError::Store(StoreError::Changed(_))) => {
                let found = self.request(self.store.find(&self.path)).await?;
                *etag = found.ok_or_else(|| StoreError::Missing(self.path.clone()))?.etag;
                self.overwrite(etag, record).await
            }
            written => written,
        };
        *etag = written?;
        Ok(())
    }

    async fn overwrite(&self, etag: &ETag, record: &FileRecord) -> Result<ETag, LedgerError> {
        let condition = WriteIf::Leased(etag.clone(), self.id.clone());
        let (bytes, metadata) = (json::format_file(record).into(), json::file_metadata(record));
        self.request(self.store.write_with_metadata(&self.path, bytes, &metadata, condition)).await
    }

    /// Ends the lease. If that fails, the lease lapses without it.
    pub(super) async fn release(&self) {
        if let Err(error) = self.request(self.store.release(&self.path, &self.id)).await {
            debug!(%error, "cannot release the lease on `{}`: it will lapse", self.path);
        }
    }

    async fn request<T>(&self, request: impl Future<Output = Result<T, StoreError>>) -> Result<T, LedgerError> {
        match timeout(REQUEST_TIMEOUT, request).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(StoreError::LeaseConflict(path))) => Err(LedgerError::LeaseLost(path)),
            Ok(Err(error)) => Err(error.into()),
            Err(elapsed) => Err(StoreError::unavailable(&self.path, elapsed).into()),
        }
    }
}
