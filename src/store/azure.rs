//! [`AzureStore`]: Azure Blob Storage or an emulator, through the official SDK.
//!
//! Endpoints and credentials belong to [`Account`]; this module maps the [`Store`] contract to requests.

mod access_policy;
mod account;
mod account_error;
mod blob_url;
mod connection_string;
mod endpoint;
mod failure;
mod request;
mod sas;
mod shared_key;
mod signature;

use std::{
    fmt,
    num::{NonZeroU16, NonZeroUsize},
    ops::Range,
    time::Duration,
};

use async_trait::async_trait;
use azure_core::http::{Etag, NoFormat, RequestContent};
use azure_storage_blob::{
    BlobClient, BlobServiceClient, BlobServiceClientOptions,
    models::{
        BlobClientAcquireLeaseOptions, BlobClientDeleteOptions, BlobClientDownloadOptions,
        BlobClientGetPropertiesResultHeaders, BlobClientUploadOptions, BlobContainerClientListBlobsOptions, BlobItem,
        HttpRange, ListBlobsIncludeItem,
    },
};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, future, stream};

pub(crate) use self::failure::{error_code, innermost};
pub use self::{
    account::Account,
    account_error::AccountError,
    sas::{ContainerSas, SasError},
};
use self::{
    failure::{Cause, is_container_missing, is_container_present, is_impossible_container, is_leased, store_error},
    request::{REQUEST_TIMEOUT, send, within},
};
use super::{
    Blob, BlobMetadata, BlobPath, ByteStream, ETag, LeaseId, ListedBlob, Listing, OPEN_BYTES, Store, StoreError,
    WriteIf, is_safe_segment,
};

/// Lowest upload rate, in bytes per second, at which a write still finishes within its time limit.
const MIN_UPLOAD_RATE: u64 = 256 * 1024;

/// The page size of a listing with blob metadata, in blobs.
const BLOBS_WITH_METADATA: i32 = 1_000;

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

    /// The SDK's client for a blob; `None` if no blob can have this path.
    ///
    /// The SDK silently removes `.` and `..` segments, tabs and newlines from a URL, so such a name would address
    /// another blob. Empty segments are kept.
    fn client(&self, path: &BlobPath) -> Option<BlobClient> {
        let is_kept = |segment: &str| segment.is_empty() || is_safe_segment(segment);
        (is_safe_segment(&path.container) && !path.name.is_empty() && path.name.split('/').all(is_kept))
            .then(|| self.service.blob_client(&path.container, &path.name))
    }

    /// Lists blobs, one page in memory at a time.
    fn pages<'a>(
        &self,
        container: &'a str,
        prefix: &str,
        include: Option<Vec<ListBlobsIncludeItem>>,
    ) -> Listing<'a, ListedBlob> {
        if !is_safe_segment(container) {
            return stream::empty().boxed();
        }
        let path = BlobPath::new(container, prefix);
        // By default a page has 5,000 blobs, which take 30 MB with their metadata.
        let page_size = include.is_some().then_some(BLOBS_WITH_METADATA);
        let options = BlobContainerClientListBlobsOptions {
            prefix: Some(prefix.to_owned()).filter(|prefix| !prefix.is_empty()),
            maxresults: self.page_size.map(|blobs| blobs.get().into()).or(page_size),
            include,
            ..BlobContainerClientListBlobsOptions::default()
        };
        let pages = match self.service.blob_container_client(container).list_blobs(Some(options)) {
            Ok(items) => items.into_pages(),
            Err(error) => return stream::once(future::err(store_error(&path, &error))).boxed(),
        };
        let blobs = stream::try_unfold((pages, path), async move |(mut pages, path)| {
            let page = match within(&path, REQUEST_TIMEOUT, pages.try_next()).await? {
                Ok(Some(page)) => page.into_model().map_err(|error| store_error(&path, &error))?,
                Ok(None) => return Ok(None),
                Err(error) if is_container_missing(&error) || is_impossible_container(&error) => return Ok(None),
                Err(error) => return Err(store_error(&path, &error)),
            };
            let listed = |item| listed_blob(container, item).ok_or_else(|| incomplete(&path));
            let blobs: Vec<_> = page.blob_items.into_iter().map(listed).collect();
            Ok(Some((stream::iter(blobs), (pages, path))))
        });
        blobs.try_flatten().boxed()
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
    fn list<'a>(&'a self, container: &'a str, prefix: &'a str) -> Listing<'a> {
        self.pages(container, prefix, None).map_ok(|listed| listed.blob).boxed()
    }

    fn list_with_metadata<'a>(&'a self, container: &'a str, prefix: &'a str) -> Listing<'a, ListedBlob> {
        self.pages(container, prefix, Some(vec![ListBlobsIncludeItem::Metadata]))
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

    async fn open(&self, path: &BlobPath) -> Result<Option<(Blob, ByteStream)>, StoreError> {
        let Some(client) = self.client(path) else {
            return Ok(None);
        };
        let options = BlobClientDownloadOptions {
            range: Some(HttpRange::from(0..OPEN_BYTES)),
            partition_size: usize::try_from(OPEN_BYTES).ok().and_then(NonZeroUsize::new),
            ..BlobClientDownloadOptions::default()
        };
        let response = match within(path, REQUEST_TIMEOUT, client.download(Some(options))).await? {
            Ok(response) => response,
            Err(error) => match store_error(path, &error) {
                StoreError::Missing(_) => return Ok(None),
                error => return Err(error),
            },
        };
        let content_range = response.headers.get_optional_str(&"content-range".into()).unwrap_or_default();
        // An empty blob has no range: the SDK then reads it without one.
        let length = response.headers.get_optional_str(&"content-length".into());
        let size = content_range.rsplit_once('/').map(|(_, size)| size).or(length).and_then(|size| size.parse().ok());
        let (Some(etag), Some(modified), Some(size)) =
            (&response.properties.etag, response.properties.last_modified, size)
        else {
            return Err(incomplete(path));
        };
        let blob = Blob { path: path.clone(), etag: unquoted(etag), size, modified };
        let path = path.clone();
        Ok(Some((blob, response.body.map_err(move |error| store_error(&path, &error)).boxed())))
    }

    /// The SDK repeats a write whose response was lost, so a conditional write that succeeded may still report
    /// [`StoreError::Changed`].
    async fn write_with_metadata(
        &self,
        path: &BlobPath,
        bytes: Bytes,
        metadata: &BlobMetadata,
        condition: WriteIf,
    ) -> Result<ETag, StoreError> {
        let invalid_name = || StoreError::unavailable(path, Cause("a blob cannot have this name".into()));
        let client = self.client(path).ok_or_else(invalid_name)?;
        let limit = REQUEST_TIMEOUT + Duration::from_secs(bytes.len() as u64 / MIN_UPLOAD_RATE);
        let upload = || {
            let content: RequestContent<_, NoFormat> = bytes.clone().into();
            within(path, limit, client.upload(content, Some(upload_options(metadata, &condition))))
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

    async fn delete(&self, path: &BlobPath, version: Option<&ETag>) -> Result<(), StoreError> {
        let Some(client) = self.client(path) else {
            return Ok(());
        };
        let options = BlobClientDeleteOptions { if_match: version.map(quoted), ..BlobClientDeleteOptions::default() };
        match send(path, client.delete(Some(options))).await {
            Ok(_) | Err(StoreError::Missing(_)) => Ok(()),
            // Azurite checks the condition before it checks whether the blob exists.
            Err(StoreError::Changed(_)) if self.find(path).await?.is_none() => Ok(()),
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

fn upload_options(metadata: &BlobMetadata, condition: &WriteIf) -> BlobClientUploadOptions<'static> {
    let mut options = BlobClientUploadOptions::default();
    if !metadata.is_empty() {
        options.metadata = Some(metadata.iter().map(|(name, value)| (name.clone(), value.clone())).collect());
    }
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
fn listed_blob(container: &str, item: BlobItem) -> Option<ListedBlob> {
    let properties = item.properties?;
    let blob = Blob {
        path: BlobPath::new(container, item.name?),
        etag: unquoted(&properties.etag?),
        size: properties.content_length?,
        modified: properties.last_modified?,
    };
    // The names of metadata are case-insensitive, and the service may return them in another case.
    let values = item.metadata.and_then(|metadata| metadata.values).unwrap_or_default();
    let metadata = values.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value)).collect();
    Some(ListedBlob { blob, metadata: Some(metadata) })
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
