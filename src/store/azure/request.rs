//! Sends one SDK request within a time limit.

use std::{future::Future, time::Duration};

use tokio::time::timeout;

use super::failure::{Cause, store_error};
use crate::store::{BlobPath, StoreError};

/// Time limit of one request, including the SDK's retries. Reading a response body has no such limit, only a limit on
/// silence: see the HTTP client of [`Account`](super::Account).
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Sends `request`; fails if it takes longer than `limit`. The caller interprets the SDK's error.
pub(super) async fn within<T>(
    path: &BlobPath,
    limit: Duration,
    request: impl Future<Output = azure_core::Result<T>>,
) -> Result<azure_core::Result<T>, StoreError> {
    let timed_out = |_| StoreError::unavailable(path, Cause(format!("no answer in {} s", limit.as_secs())));
    timeout(limit, request).await.map_err(timed_out)
}

/// Sends `request` within [`REQUEST_TIMEOUT`]; converts the SDK's error to a [`StoreError`] about `path`.
pub(super) async fn send<T>(
    path: &BlobPath,
    request: impl Future<Output = azure_core::Result<T>>,
) -> Result<T, StoreError> {
    within(path, REQUEST_TIMEOUT, request).await?.map_err(|error| store_error(path, &error))
}
