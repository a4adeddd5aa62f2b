//! The settings of `onboard`: fewer than those of a run, and two that a run can do without.

use super::{
    DropContainer, InvalidSettings, PrivateKeysIn, Settings, Storage, VivaApiConfig,
    reader::Reader,
    tenants::TenantList,
    viva_api,
    words::{ContainerName, Guid},
};
use crate::{drop::tenant::Tenants, identity::Identity, keys::viva_api::partner_key::PartnerApp};

/// The settings that `onboard` needs.
#[derive(Debug)]
pub struct OnboardConfig {
    /// `DropStorage`: where the customer's container is made.
    pub drop_storage: Storage,
    /// `DROP_CONTAINER`.
    pub drop_container: DropContainer,
    /// `STATE_CONTAINER`: where registrations are recorded.
    pub state_container: String,
    /// `PRIVATE_KEYS`: where the key is made.
    pub private_keys: PrivateKeysIn,
    /// Who asks for tokens.
    pub identity: Identity,
    /// The API that the key is registered with.
    pub viva_api: VivaApiConfig,
    /// `PARTNER_TENANT_ID` and `PARTNER_APP_ID`, also where the app's own identity asks for tokens.
    pub partner: PartnerApp,
    /// `TENANTS`, which may still be empty.
    pub tenants: Option<Tenants>,
}

impl OnboardConfig {
    /// Reads these settings; complains about all that are not usable.
    pub fn read(settings: &Settings) -> Result<Self, InvalidSettings> {
        let reader = Reader::new(settings);
        let (drop_storage, drop_container) = (reader.storage("DropStorage"), reader.or("DROP_CONTAINER", "datasets"));
        let state_container = reader.or("STATE_CONTAINER", "vivadrop-state");
        let (private_keys, identity) = (reader.required("PRIVATE_KEYS"), reader.identity());
        let (tenant_id, app_id) = (reader.required("PARTNER_TENANT_ID"), reader.required("PARTNER_APP_ID"));
        // Both are required here, whatever else they go together with.
        let viva_api = (reader.get("PARTNER_TENANT_ID").is_some() == reader.get("PARTNER_APP_ID").is_some())
            .then(|| viva_api(&reader))
            .flatten();
        let tenants = match reader.get("TENANTS") {
            Some(_) => reader.required("TENANTS").map(|list: TenantList| Some(list.tenants)),
            None => Some(None),
        };
        reader.finish(|| {
            let (ContainerName(state_container), Guid(tenant_id), Guid(app_id)) =
                (state_container?, tenant_id?, app_id?);
            Some(Self {
                drop_storage: drop_storage?,
                drop_container: drop_container?,
                state_container,
                private_keys: private_keys?,
                identity: identity?,
                viva_api: viva_api?,
                partner: PartnerApp { app_id, tenant_id },
                tenants: tenants?,
            })
        })
    }
}
