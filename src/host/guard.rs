//! Which of the blobs in events are ours: account and container, before anything is read with our credentials.

use std::sync::Arc;

use super::event::BlobUrl;
use crate::{
    config::DropContainer,
    drop::tenant::Tenants,
    store::{BlobPath, Store},
};

/// Decides which blobs are ours to look at.
#[derive(Debug)]
pub struct Guard {
    /// Whose addresses count.
    pub store: Arc<dyn Store>,
    /// Which containers count.
    pub drop_container: DropContainer,
    /// Where our own state lies.
    pub state_container: String,
    /// Who may drop, and where.
    pub tenants: Tenants,
}

/// What an address in an event is to us.
#[derive(Debug, PartialEq, Eq)]
pub enum Notice {
    /// A blob where drops may lie.
    Blob(BlobPath),
    /// A blob of our own: not worth a word, since every checkpoint makes one.
    OurOwnState,
    /// None of ours, and why.
    Foreign(&'static str),
}

impl Guard {
    /// What the blob at `url` is to us.
    pub fn judge(&self, url: &BlobUrl) -> Notice {
        match self.store.blob_at(url.as_str()) {
            None => Notice::Foreign("it is not a blob of the drop storage account"),
            Some(blob) if blob.container == self.state_container => Notice::OurOwnState,
            Some(blob) if !self.covers(&blob.container) => {
                Notice::Foreign("it is not in a container of DROP_CONTAINER")
            }
            Some(blob) => Notice::Blob(blob),
        }
    }

    /// The containers that drops may lie in.
    pub fn containers(&self) -> Vec<String> {
        let named = match &self.drop_container {
            DropContainer::Named(name) => vec![name.clone()],
            DropContainer::PerTenant => self.tenants.containers(),
        };
        named.into_iter().filter(|container| *container != self.state_container).collect()
    }

    /// Whether drops may lie in `container`.
    pub fn covers(&self, container: &str) -> bool {
        container != self.state_container
            && match &self.drop_container {
                DropContainer::Named(name) => name == container,
                DropContainer::PerTenant => self.tenants.covers_container(container),
            }
    }
}
