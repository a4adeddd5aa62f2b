//! Decides by its URL whether a blob can be part of a drop, before anything is read with our credentials.

use std::sync::Arc;

use super::tenant::Tenants;
use crate::store::{BlobPath, Store};

/// The containers of drops: the setting `DROP_CONTAINER`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DropContainer {
    /// One container for all tenants.
    Named(String),
    /// `*`: every container that `TENANTS` names.
    PerTenant,
}

/// The containers that are watched for drops, and the account that they belong to.
#[derive(Debug)]
pub struct WatchedContainers {
    /// The storage account.
    pub store: Arc<dyn Store>,
    /// The containers of drops.
    pub drop_container: DropContainer,
    /// The container of the ledger. It is never watched.
    pub state_container: String,
    /// The tenants, for [`DropContainer::PerTenant`].
    pub tenants: Tenants,
}

/// The target of an event's blob URL.
#[derive(Debug, PartialEq, Eq)]
pub enum UrlTarget {
    /// A blob in a watched container.
    Watched(BlobPath),
    /// A blob of the ledger. Its events are ignored without a log line, because every checkpoint causes one.
    OwnState,
    /// Anything else, with the reason. The event is refused.
    Refused(&'static str),
}

impl WatchedContainers {
    /// Decides whether `url` names a blob of a watched container.
    pub fn classify(&self, url: &str) -> UrlTarget {
        match self.store.parse_blob_url(url) {
            None => UrlTarget::Refused("it is not a blob of the drop storage account"),
            Some(blob) if blob.container == self.state_container => UrlTarget::OwnState,
            Some(blob) if !self.contains(&blob.container) => {
                UrlTarget::Refused("it is not in a container of DROP_CONTAINER")
            }
            Some(blob) => UrlTarget::Watched(blob),
        }
    }

    /// The names of the watched containers.
    pub fn names(&self) -> Vec<String> {
        let mut names = match &self.drop_container {
            DropContainer::Named(name) => vec![name.clone()],
            DropContainer::PerTenant => self.tenants.containers(),
        };
        names.retain(|name| *name != self.state_container);
        names
    }

    /// A text that identifies these values of `DROP_CONTAINER` and `TENANTS`: other values have another text.
    pub fn description(&self) -> String {
        format!("{:?} {:?}", self.drop_container, self.tenants)
    }

    /// Whether the container `name` is watched.
    pub fn contains(&self, name: &str) -> bool {
        name != self.state_container
            && match &self.drop_container {
                DropContainer::Named(container) => container == name,
                DropContainer::PerTenant => self.tenants.covers_container(name),
            }
    }
}
