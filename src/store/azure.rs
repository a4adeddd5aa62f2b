//! Azure Blob Storage, or the emulator, through the official SDK.
//!
//! Knows how blobs are named, listed, pinned and guarded on the wire; what opens the account is [`Account`]'s to know.

mod account;
mod connection_string;
mod endpoint;
mod failure;
mod sas;
mod signature;

use std::{fmt, future::Future, num::NonZeroU16, ops::Range, time::Duration};

use async_trait::async_trait;
use azure_core::http::{Etag, NoFormat, RequestContent};
use azure_storage_blob::{
    BlobClient, BlobServiceClient, BlobServiceClientOptions,
    models::{
        BlobClientAcquireLeaseOptions, BlobClientDownloadOptions, BlobClientGetPropertiesResultHeaders,
        BlobClientUploadOptions, BlobContainerClientListBlobsOptions, BlobItem, HttpRange,
    },
};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use tokio::time::timeout;
use url::Url;

use self::failure::{Cause, container_is_there, is_leased, lacks_container, store_error};
pub(crate) use self::failure::{error_code, innermost};
pub use self::{
    account::{Account, AccountError},
    sas::{DropUrl, NoDropUrl},
};
use super::{Blob, ByteStream, ETag, LeaseId, Store, StoreError, WriteIf, blob_url::BlobUrl};
use crate::{drop::is_plain_segment, store::BlobPath};

/// How long one request may take, its repetitions included. Reading a body has no such limit, only one on silence.
const CALL: Duration = Duration::from_secs(30);
/// The slowest line on which a blob can still be written: bytes a second.
const SLOWEST_WRITE: u64 = 256 * 1024;

/// The blobs of a storage account.
pub struct AzureStore {
    service: BlobServiceClient,
    page: Option<NonZeroU16>,
}

impl AzureStore {
    /// The blobs of `account`.
    pub fn new(account: &Account) -> Result<Self, AccountError> {
        let options = BlobServiceClientOptions {
            client_options: account.client_options(),
            ..BlobServiceClientOptions::default()
        };
        let service = BlobServiceClient::new(account.blob_endpoint().clone(), account.credential(), Some(options))
            .map_err(AccountError::Identity)?;
        Ok(Self { service, page: None })
    }

    /// Asks for no more than `blobs` in one answer to a listing; otherwise the service's 5000.
    #[must_use]
    pub fn with_page(mut self, blobs: NonZeroU16) -> Self {
        self.page = Some(blobs);
        self
    }

    /// The SDK drops `.` and `..`, tabs and newlines from a URL without a word: such a name would be another blob's.
    fn client(&self, path: &BlobPath) -> Option<BlobClient> {
        let is_told = |segment: &str| segment.is_empty() || is_plain_segment(segment);
        (is_plain_segment(&path.container) && !path.name.is_empty() && path.name.split('/').all(is_told))
            .then(|| self.service.blob_client(&path.container, &path.name))
    }

    async fn make_container_of(&self, path: &BlobPath) -> Result<(), StoreError> {
        let container = self.service.blob_container_client(&path.container);
        let made = within(path, CALL, container.create(None)).await?;
        match made {
            Err(error) if !container_is_there(&error) => Err(store_error(path, &error)),
            _ => Ok(()),
        }
    }
}

#[async_trait]
impl Store for AzureStore {
    async fn list(&self, container: &str, prefix: &str) -> Result<Vec<Blob>, StoreError> {
        let place = BlobPath::new(container, prefix);
        if !is_plain_segment(container) {
            return Ok(Vec::new());
        }
        let options = BlobContainerClientListBlobsOptions {
            prefix: Some(prefix.to_owned()).filter(|prefix| !prefix.is_empty()),
            maxresults: self.page.map(|page| page.get().into()),
            ..BlobContainerClientListBlobsOptions::default()
        };
        let client = self.service.blob_container_client(container);
        let mut pages = client.list_blobs(Some(options)).map_err(|error| store_error(&place, &error))?.into_pages();
        let mut blobs = Vec::new();
        loop {
            let page = match within(&place, CALL, pages.try_next()).await?.map_err(|error| store_error(&place, &error))
            {
                Ok(Some(page)) => page.into_model().map_err(|error| store_error(&place, &error))?,
                Ok(None) | Err(StoreError::Missing(_)) => break,
                Err(error) => return Err(error),
            };
            for item in page.blob_items {
                blobs.push(listed(container, item).ok_or_else(|| lacks(&place))?);
            }
        }
        blobs.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(blobs)
    }

    async fn find(&self, path: &BlobPath) -> Result<Option<Blob>, StoreError> {
        let Some(client) = self.client(path) else {
            return Ok(None);
        };
        let properties = match call(path, CALL, client.get_properties(None)).await {
            Ok(properties) => properties,
            Err(StoreError::Missing(_)) => return Ok(None),
            Err(error) => return Err(error),
        };
        let (Ok(Some(etag)), Ok(Some(size)), Ok(Some(modified))) =
            (properties.etag(), properties.content_length(), properties.last_modified())
        else {
            return Err(lacks(path));
        };
        Ok(Some(Blob { path: path.clone(), etag: unquoted(&etag), size, modified }))
    }

    async fn read_range(&self, blob: &Blob, range: Range<u64>) -> Result<ByteStream, StoreError> {
        let path = blob.path.clone();
        let client = self.client(&path).ok_or_else(|| StoreError::Missing(path.clone()))?;
        if range.is_empty() {
            return Ok(stream::empty().boxed());
        }
        let options = BlobClientDownloadOptions {
            range: Some(HttpRange::from(range.clone())),
            if_match: Some(quoted(&blob.etag)),
            // One request: cutting a blob into ranges is the reader's work.
            partition_size: usize::try_from(range.end - range.start).ok().and_then(|bytes| bytes.try_into().ok()),
            ..BlobClientDownloadOptions::default()
        };
        let answer = call(&path, CALL, client.download(Some(options))).await?;
        let sent = answer.headers.get_optional_str(&"content-range".into()).unwrap_or_default();
        if !sent.starts_with(&format!("bytes {}-{}/", range.start, range.end - 1)) {
            return Err(StoreError::unavailable(&path, Cause("another range came than was asked for".into())));
        }
        Ok(answer.body.map_err(move |error| store_error(&path, &error)).boxed())
    }

    /// A write whose answer was lost is repeated, so a guarded one may report [`StoreError::Changed`] for its own version.
    async fn write(&self, path: &BlobPath, bytes: Bytes, condition: WriteIf) -> Result<ETag, StoreError> {
        let unwritable = || StoreError::unavailable(path, Cause("a blob cannot have this name".into()));
        let client = self.client(path).ok_or_else(unwritable)?;
        let limit = CALL + Duration::from_secs(bytes.len() as u64 / SLOWEST_WRITE);
        let put = || {
            let content: RequestContent<_, NoFormat> = bytes.clone().into();
            within(path, limit, client.upload(content, Some(upload_options(&condition))))
        };
        let mut written = put().await?;
        if written.as_ref().is_err_and(lacks_container) {
            if let WriteIf::Matches(_) | WriteIf::Held(..) = condition {
                return Err(StoreError::Changed(path.clone()));
            }
            self.make_container_of(path).await?;
            written = put().await?;
        }
        let etag = written.map_err(|error| store_error(path, &error))?.etag;
        etag.as_ref().map(unquoted).ok_or_else(|| lacks(path))
    }

    async fn delete(&self, path: &BlobPath) -> Result<(), StoreError> {
        let Some(client) = self.client(path) else {
            return Ok(());
        };
        match call(path, CALL, client.delete(None)).await {
            Ok(_) | Err(StoreError::Missing(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn has_container(&self, container: &str) -> Result<bool, StoreError> {
        let place = BlobPath::new(container, "");
        if !is_plain_segment(container) {
            return Ok(false);
        }
        let client = self.service.blob_container_client(container);
        match call(&place, CALL, client.get_properties(None)).await {
            Ok(_) => Ok(true),
            Err(StoreError::Missing(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn make_container(&self, container: &str) -> Result<(), StoreError> {
        let place = BlobPath::new(container, "");
        if !is_plain_segment(container) {
            return Err(StoreError::unavailable(&place, Cause("a container cannot have this name".into())));
        }
        self.make_container_of(&place).await
    }

    async fn lease(&self, path: &BlobPath, time: Duration) -> Result<Option<LeaseId>, StoreError> {
        let client = self.client(path).ok_or_else(|| StoreError::Missing(path.clone()))?;
        let lease = LeaseId::fresh();
        let options = BlobClientAcquireLeaseOptions {
            proposed_lease_id: Some(lease.to_string()),
            ..BlobClientAcquireLeaseOptions::default()
        };
        let seconds = i32::try_from(time.as_secs()).unwrap_or(i32::MAX);
        match within(path, CALL, client.acquire_lease(seconds, Some(options))).await? {
            Ok(_) => Ok(Some(lease)),
            Err(error) if is_leased(&error) => Ok(None),
            Err(error) => Err(store_error(path, &error)),
        }
    }

    async fn renew(&self, path: &BlobPath, lease: &LeaseId) -> Result<(), StoreError> {
        let client = self.client(path).ok_or_else(|| StoreError::Missing(path.clone()))?;
        call(path, CALL, client.renew_lease(lease.to_string(), None)).await.map(drop)
    }

    async fn release(&self, path: &BlobPath, lease: &LeaseId) -> Result<(), StoreError> {
        let client = self.client(path).ok_or_else(|| StoreError::Missing(path.clone()))?;
        call(path, CALL, client.release_lease(lease.to_string(), None)).await.map(drop)
    }

    fn blob_at(&self, url: &str) -> Option<BlobPath> {
        blob_at(self.service.url(), url)
    }
}

impl fmt::Debug for AzureStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AzureStore").field("endpoint", &self.service.url().as_str()).finish_non_exhaustive()
    }
}

fn upload_options(condition: &WriteIf) -> BlobClientUploadOptions<'static> {
    let mut options = BlobClientUploadOptions::default();
    match condition {
        WriteIf::Always => {}
        WriteIf::Absent => options.if_none_match = Some("*".into()),
        WriteIf::Matches(etag) => options.if_match = Some(quoted(etag)),
        WriteIf::Held(etag, lease) => {
            options.if_match = Some(quoted(etag));
            options.lease_id = Some(lease.to_string());
        }
    }
    options
}

/// What the SDK says within `limit`.
async fn within<T>(
    path: &BlobPath,
    limit: Duration,
    request: impl Future<Output = azure_core::Result<T>>,
) -> Result<azure_core::Result<T>, StoreError> {
    let silence = |_| StoreError::unavailable(path, Cause(format!("no answer in {} s", limit.as_secs())));
    timeout(limit, request).await.map_err(silence)
}

async fn call<T>(
    path: &BlobPath,
    limit: Duration,
    request: impl Future<Output = azure_core::Result<T>>,
) -> Result<T, StoreError> {
    within(path, limit, request).await?.map_err(|error| store_error(path, &error))
}

fn listed(container: &str, item: BlobItem) -> Option<Blob> {
    let properties = item.properties?;
    Some(Blob {
        path: BlobPath::new(container, item.name?),
        etag: unquoted(&properties.etag?),
        size: properties.content_length?,
        modified: properties.last_modified?,
    })
}

fn lacks(path: &BlobPath) -> StoreError {
    StoreError::unavailable(path, Cause("the answer lacks name, ETag, size or time".into()))
}

fn unquoted(etag: &Etag) -> ETag {
    ETag(etag.as_ref().trim_matches('"').to_owned())
}

fn quoted(etag: &ETag) -> Etag {
    format!("\"{etag}\"").into()
}

/// The blob of the account at `endpoint` that `url` names.
fn blob_at(endpoint: &Url, url: &str) -> Option<BlobPath> {
    let url = BlobUrl::split(url)?;
    if !url.scheme.eq_ignore_ascii_case(endpoint.scheme()) {
        return None;
    }
    let (host, port) = url.host_and_port()?;
    if !is_host_of(endpoint, &host) || Some(port) != endpoint.port_or_known_default() {
        return None;
    }
    let path = url.path()?;
    let path = match endpoint.path().trim_matches('/') {
        "" => &*path,
        account => path.strip_prefix(account)?.strip_prefix('/')?,
    };
    let (container, name) = path.split_once('/')?;
    Some(BlobPath::new(container, name))
}

/// Events of accounts with a hierarchical namespace name the `dfs` host; what it calls a path is a blob's name.
fn is_host_of(endpoint: &Url, host: &str) -> bool {
    let Some(ours) = endpoint.host_str() else {
        return false;
    };
    let one_loopback = |host| matches!(host, "localhost" | "127.0.0.1");
    host == ours
        || (ours.contains(".blob.") && host == ours.replacen(".blob.", ".dfs.", 1))
        || (one_loopback(host) && one_loopback(ours))
}

#[cfg(test)]
mod tests;
