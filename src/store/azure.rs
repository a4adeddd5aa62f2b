//! [`AzureStore`]: Azure Blob Storage or an emulator, through the official SDK.
//!
//! Endpoints and credentials belong to [`Account`]; this module maps the [`Store`] contract to requests.

mod account;
mod account_error;
mod blob_url;
mod connection_string;
mod endpoint;
mod failure;
mod request;
mod sas;
mod signature;

use std::{fmt, num::NonZeroU16, ops::Range, time::Duration};

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

pub(crate) use self::failure::{error_code, innermost};
pub use self::{
    account::Account,
    account_error::AccountError,
    sas::{ContainerSas, SasError},
};
use self::{
    failure::{Cause, is_container_missing, is_container_present, is_leased, store_error},
    request::{REQUEST_TIMEOUT, send, within},
};
use super::{Blob, BlobPath, ByteStream, ETag, LeaseId, Store, StoreError, WriteIf, is_safe_segment};

/// Lowest upload rate, in bytes per second, at which a write still finishes within its time limit.
const MIN_UPLOAD_RATE: u64 = 256 * 1024;

/// The blobs of a storage account.
pub struct AzureStore {
    service: BlobServiceClient,
    page_size: Option<NonZeroU16>,
}

impl AzureStore {
    /// Opens the blob service of `account`. Sends no request.
    pub fn new(account: &Account) -> Result<Self, AccountError> {
        let options = BlobServiceClientOptions {
            client_options: account.client_options(),
            ..BlobServiceClientOptions::default()
        };
        let service = BlobServiceClient::new(account.blob_endpoint().clone(), account.credential(), Some(options))
            .map_err(AccountError::Identity)?;
        Ok(Self { service, page_size: None })
    }

    /// Limits each page of a listing to `blobs`. The service's default is 5000.
    #[must_use]
    pub fn with_page_size(mut self, blobs: NonZeroU16) -> Self {
        self.page_size = Some(blobs);
        self
    }

    /// The client of a blob; `None` if no blob can have this path.
    ///
    /// The SDK silently removes `.` and `..` segments, tabs and newlines from a URL, so such a name would address
    /// another blob. Empty segments are kept.
    fn client(&self, path: &BlobPath) -> Option<BlobClient> {
        let is_kept = |segment: &str| segment.is_empty() || is_safe_segment(segment);
        (is_safe_segment(&path.container) && !path.name.is_empty() && path.name.split('/').all(is_kept))
            .then(|| self.service.blob_client(&path.container, &path.name))
    }

    async fn create_container_of(&self, path: &BlobPath) -> Result<(), StoreError> {
        let container = self.service.blob_container_client(&path.container);
        match within(path, REQUEST_TIMEOUT, container.create(None)).await? {
            Err(error) if !is_container_present(&error) => Err(store_error(path, &error)),
            _ => Ok(()),
        }
    }
}

#[async_trait]
impl Store for AzureStore {
    async fn list(&self, container: &str, prefix: &str) -> Result<Vec<Blob>, StoreError> {
        let listing = BlobPath::new(container, prefix);
        if !is_safe_segment(container) {
            return Ok(Vec::new());
        }
        let options = BlobContainerClientListBlobsOptions {
            prefix: Some(prefix.to_owned()).filter(|prefix| !prefix.is_empty()),
            maxresults: self.page_size.map(|blobs| blobs.get().into()),
            ..BlobContainerClientListBlobsOptions::default()
        };
        let client = self.service.blob_container_client(container);
        let to_error = |error: azure_core::Error| store_error(&listing, &error);
        let mut pages = client.list_blobs(Some(options)).map_err(to_error)?.into_pages();
        let mut blobs = Vec::new();
        loop {
            let page = match send(&listing, pages.try_next()).await {
                Ok(Some(page)) => page.into_model().map_err(to_error)?,
                Ok(None) | Err(StoreError::Missing(_)) => break,
                Err(error) => return Err(error),
            };
            for item in page.blob_items {
                blobs.push(listed_blob(container, item).ok_or_else(|| incomplete(&listing))?);
            }
        }
        blobs.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(blobs)
    }

    async fn find(&self, path: &BlobPath) -> Result<Option<Blob>, StoreError> {
        let Some(client) = self.client(path) else {
            return Ok(None);
        };
        let properties = match send(path, client.get_properties(None)).await {
            Ok(properties) => properties,
            Err(StoreError::Missing(_)) => return Ok(None),
            Err(error) => return Err(error),
        };
        let (Ok(Some(etag)), Ok(Some(size)), Ok(Some(modified))) =
            (properties.etag(), properties.content_length(), properties.last_modified())
        else {
            return Err(incomplete(path));
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
            // One request: the reader already splits a blob into ranges.
            partition_size: usize::try_from(range.end - range.start).ok().and_then(|bytes| bytes.try_into().ok()),
            ..BlobClientDownloadOptions::default()
        };
        let response = send(&path, client.download(Some(options))).await?;
        let content_range = response.headers.get_optional_str(&"content-range".into()).unwrap_or_default();
        if !content_range.starts_with(&format!("bytes {}-{}/", range.start, range.end - 1)) {
            return Err(StoreError::unavailable(&path, Cause("the response has another range than requested".into())));
        }
        Ok(response.body.map_err(move |error| store_error(&path, &error)).boxed())
    }

    /// The SDK repeats a write whose response was lost, so a conditional write that succeeded may still report
    /// [`StoreError::Changed`].
    async fn write(&self, path: &BlobPath, bytes: Bytes, condition: WriteIf) -> Result<ETag, StoreError> {
        let invalid_name = || StoreError::unavailable(path, Cause("a blob cannot have this name".into()));
        let client = self.client(path).ok_or_else(invalid_name)?;
        let limit = REQUEST_TIMEOUT + Duration::from_secs(bytes.len() as u64 / MIN_UPLOAD_RATE);
        let upload = || {
            let content: RequestContent<_, NoFormat> = bytes.clone().into();
            within(path, limit, client.upload(content, Some(upload_options(&condition))))
        };
        let mut uploaded = upload().await?;
        if uploaded.as_ref().is_err_and(is_container_missing) {
            if let WriteIf::Matches(_) | WriteIf::Leased(..) = condition {
                return Err(StoreError::Changed(path.clone()));
            }
            self.create_container_of(path).await?;
            uploaded = upload().await?;
        }
        let etag = uploaded.map_err(|error| store_error(path, &error))?.etag;
        etag.as_ref().map(unquoted).ok_or_else(|| incomplete(path))
    }

    async fn delete(&self, path: &BlobPath) -> Result<(), StoreError> {
        let Some(client) = self.client(path) else {
            return Ok(());
        };
        match send(path, client.delete(None)).await {
            Ok(_) | Err(StoreError::Missing(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn has_container(&self, container: &str) -> Result<bool, StoreError> {
        let path = BlobPath::new(container, "");
        if !is_safe_segment(container) {
            return Ok(false);
        }
        let client = self.service.blob_container_client(container);
        match send(&path, client.get_properties(None)).await {
            Ok(_) => Ok(true),
            Err(StoreError::Missing(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn create_container(&self, container: &str) -> Result<(), StoreError> {
        let path = BlobPath::new(container, "");
        if !is_safe_segment(container) {
            return Err(StoreError::unavailable(&path, Cause("a container cannot have this name".into())));
        }
        self.create_container_of(&path).await
    }

    async fn lease(&self, path: &BlobPath, time: Duration) -> Result<Option<LeaseId>, StoreError> {
        let client = self.client(path).ok_or_else(|| StoreError::Missing(path.clone()))?;
        let lease = LeaseId::fresh();
        let options = BlobClientAcquireLeaseOptions {
            proposed_lease_id: Some(lease.to_string()),
            ..BlobClientAcquireLeaseOptions::default()
        };
        let seconds = i32::try_from(time.as_secs()).unwrap_or(i32::MAX);
        match within(path, REQUEST_TIMEOUT, client.acquire_lease(seconds, Some(options))).await? {
            Ok(_) => Ok(Some(lease)),
            Err(error) if is_leased(&error) => Ok(None),
            Err(error) => Err(store_error(path, &error)),
        }
    }

    async fn renew(&self, path: &BlobPath, lease: &LeaseId) -> Result<(), StoreError> {
        let client = self.client(path).ok_or_else(|| StoreError::Missing(path.clone()))?;
        send(path, client.renew_lease(lease.to_string(), None)).await.map(drop)
    }

    async fn release(&self, path: &BlobPath, lease: &LeaseId) -> Result<(), StoreError> {
        let client = self.client(path).ok_or_else(|| StoreError::Missing(path.clone()))?;
        send(path, client.release_lease(lease.to_string(), None)).await.map(drop)
    }

    fn parse_blob_url(&self, url: &str) -> Option<BlobPath> {
        blob_url::parse_blob_url(self.service.url(), url)
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
        WriteIf::Leased(etag, lease) => {
            options.if_match = Some(quoted(etag));
            options.lease_id = Some(lease.to_string());
        }
    }
    options
}

/// The blob of a list item; `None` if the item lacks a property.
fn listed_blob(container: &str, item: BlobItem) -> Option<Blob> {
    let properties = item.properties?;
    Some(Blob {
        path: BlobPath::new(container, item.name?),
        etag: unquoted(&properties.etag?),
        size: properties.content_length?,
        modified: properties.last_modified?,
    })
}

fn incomplete(path: &BlobPath) -> StoreError {
    StoreError::unavailable(path, Cause("the response lacks name, ETag, size or time".into()))
}

fn unquoted(etag: &Etag) -> ETag {
    ETag(etag.as_ref().trim_matches('"').to_owned())
}

fn quoted(etag: &ETag) -> Etag {
    format!("\"{etag}\"").into()
}
