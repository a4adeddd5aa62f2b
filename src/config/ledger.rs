//! The settings of the commands that only need the ledger, such as `status`.

use super::{InvalidSettings, Settings, Storage, parse::ContainerName, reader::Reader, tenants::TenantList};
use crate::drop::tenant::Tenants;

/// The settings of a command that only reads the ledger, or only records work for later runs.
#[derive(Debug)]
pub struct LedgerConfig {
    /// `DropStorage`: the account with the ledger.
    pub drop_storage: Storage,
    /// `STATE_CONTAINER`: the container of the ledger.
    pub state_container: String,
    /// The tenants of `TENANTS`; `None` if it is not set.
    pub tenants: Option<Tenants>,
}

impl LedgerConfig {
    /// Reads these settings; the error lists all problems.
    pub fn read(settings: &Settings) -> Result<Self, InvalidSettings> {
        let reader = Reader::new(settings);
        let drop_storage = reader.drop_storage();
        let state_container = reader.or_default("STATE_CONTAINER", "vivadrop-state");
        let tenants = match reader.get("TENANTS") {
            Some(_) => reader.required("TENANTS").map(|list: TenantList| Some(list.tenants)),
            None => Some(None),
        };
        reader.finish(|| {
            let ContainerName(state_container) = state_container?;
            Some(Self { drop_storage: drop_storage?, state_container, tenants: tenants? })
        })
    }
}
