//! Which tenants have definitions of attributes.

use futures::TryStreamExt;

use super::{Ledger, LedgerError, paths};
use crate::drop::TenantId;

impl Ledger {
    /// The tenants whose definitions are stored. Costs a listing.
    pub async fn defined_tenants(&self) -> Result<Vec<TenantId>, LedgerError> {
        let mut listing = self.store.list(&self.container, paths::DEFINITIONS);
        let mut tenants = Vec::new();
        while let Some(blob) = listing.try_next().await? {
            let name = blob.path.name.strip_prefix(paths::DEFINITIONS).and_then(|name| name.strip_suffix(".json"));
            tenants.extend(name.and_then(|name| name.parse::<TenantId>().ok()));
        }
        Ok(tenants)
    }
}
