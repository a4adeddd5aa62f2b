//! The settings of the commands `onboard` and `offboard`.
//!
//! `onboard` needs fewer settings than a run, but always the partner's two ids, which a run with a managed identity
//! does not need.

use uuid::Uuid;

use super::{
    DropContainer, InvalidSettings, KeyStoreLocation, Settings, Storage, VivaApiConfig, api_url, parse::ContainerName,
    reader::Reader, tenants::TenantList, viva_api,
};
use crate::{drop::tenant::Tenants, identity::Identity, keys::viva_api::partner_key::PartnerApp};

/// The settings that `onboard` needs.
#[derive(Debug)]
pub struct OnboardConfig {
    /// `DropStorage`: the account in which the customer's container is created.
    pub drop_storage: Storage,
    /// `DROP_CONTAINER`.
    pub drop_container: DropContainer,
    /// `STATE_CONTAINER`: the container in which registrations are recorded.
    pub state_container: String,
    /// `PRIVATE_KEYS`: the key store in which the customer's key is created.
    pub private_keys: KeyStoreLocation,
    /// The identity that accesses the key store and the storage account.
    pub identity: Identity,
    /// The API with which the key is registered.
    pub viva_api: VivaApiConfig,
    /// `PARTNER_TENANT_ID` and `PARTNER_APP_ID`.
    pub partner: PartnerApp,
    /// `TENANTS`; `None` if it is not set, as before the first customer.
    pub tenants: Option<Tenants>,
}

impl OnboardConfig {
    /// Reads these settings; the error lists all problems.
    pub fn read(settings: &Settings) -> Result<Self, InvalidSettings> {
        let reader = Reader::new(settings);
        let drop_storage = reader.drop_storage();
        let drop_container = reader.or_default("DROP_CONTAINER", "datasets");
        let state_container = reader.or_default("STATE_CONTAINER", "vivadrop-state");
        let private_keys = reader.required("PRIVATE_KEYS");
        let identity = reader.identity();
        let tenant_id: Option<Uuid> = reader.required("PARTNER_TENANT_ID");
        let app_id: Option<Uuid> = reader.required("PARTNER_APP_ID");
        // `required` has reported an id that is unusable or not set, and `viva_api` would report it a second time.
        let viva_api = if tenant_id.is_some() && app_id.is_some() {
            viva_api(&reader)
        } else {
            api_url(&reader);
            reader.require_resolved("PARTNER_APP_SECRET");
            None
        };
        let tenants = match reader.get("TENANTS") {
            Some(_) => reader.required("TENANTS").map(|list: TenantList| Some(list.tenants)),
            None => Some(None),
        };
        reader.finish(|| {
            let ContainerName(state_container) = state_container?;
            Some(Self {
                drop_storage: drop_storage?,
                drop_container: drop_container?,
                state_container,
                private_keys: private_keys?,
                identity: identity?,
                viva_api: viva_api?,
                partner: PartnerApp { app_id: app_id?, tenant_id: tenant_id? },
                tenants: tenants?,
            })
        })
    }
}

/// The settings that `offboard` needs.
#[derive(Debug)]
pub struct OffboardConfig {
    /// `DropStorage`: the account with the customer's container.
    pub drop_storage: Storage,
    /// `DROP_CONTAINER`.
    pub drop_container: DropContainer,
    /// The tenants of `TENANTS`; `None` if it is not set.
    pub tenants: Option<Tenants>,
    /// `STATE_CONTAINER`.
    pub state_container: String,
    /// `PRIVATE_KEYS`: the key store with the customer's key.
    pub private_keys: KeyStoreLocation,
    /// The identity that accesses the key store and the storage account.
    pub identity: Identity,
}

impl OffboardConfig {
    /// Reads these settings; the error lists all problems.
    pub fn read(settings: &Settings) -> Result<Self, InvalidSettings> {
        let reader = Reader::new(settings);
        let drop_storage = reader.drop_storage();
        let state_container = reader.or_default("STATE_CONTAINER", "vivadrop-state");
        let private_keys = reader.required("PRIVATE_KEYS");
        let identity = reader.identity();
        let drop_container = reader.or_default("DROP_CONTAINER", "datasets");
        let tenants = match reader.get("TENANTS") {
            Some(_) => reader.required("TENANTS").map(|list: TenantList| Some(list.tenants)),
            None => Some(None),
        };
        reader.finish(|| {
            let ContainerName(state_container) = state_container?;
            Some(Self {
                drop_storage: drop_storage?,
                drop_container: drop_container?,
                tenants: tenants?,
                state_container,
                private_keys: private_keys?,
                identity: identity?,
            })
        })
    }
}
