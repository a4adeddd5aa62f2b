//! Who we are to Microsoft Entra ID.
//!
//! One rule for all that asks for a token, the storage account, the vault and the Viva Insights API: an application with a
//! client secret where the settings name one, the managed identity on Azure, and elsewhere whoever is signed in with the
//! Azure CLI (`az`) or the Azure Developer CLI (`azd`). The credentials of `azure_identity` keep a token for each scope
//! until five minutes before it lapses, and one call at a time renews it, so nothing is kept here.

mod failure;

use std::sync::Arc;

use azure_core::{
    credentials::{Secret, TokenCredential},
    http::ClientOptions,
};
use azure_identity::{
    ClientSecretCredential, ClientSecretCredentialOptions, DeveloperToolsCredential, ManagedIdentityCredential,
    ManagedIdentityCredentialOptions, UserAssignedId,
};
use secrecy::{ExposeSecret, SecretString};

pub(crate) use self::failure::{NoToken, network_cause};

/// An application of a tenant, which proves itself with a client secret.
#[derive(Debug, Clone)]
pub struct Application {
    /// The tenant it is registered in: the partner's, not a customer's.
    pub tenant_id: String,
    /// The application (client) id.
    pub app_id: String,
    /// Its client secret.
    pub app_secret: SecretString,
}

/// Who asks for a token.
#[derive(Debug, Clone)]
pub enum Identity {
    /// `AZURE_TENANT_ID`, `AZURE_CLIENT_ID`, `AZURE_CLIENT_SECRET`.
    Application(Application),
    /// The managed identity of the app: the user-assigned one of this client id, or else its own.
    Managed(Option<String>),
    /// Whoever is signed in with `az` or `azd`.
    Developer,
}

impl Identity {
    /// What proves it. `options` are how the token service is asked, where it is asked over HTTP.
    pub fn credential(&self, options: ClientOptions) -> azure_core::Result<Arc<dyn TokenCredential>> {
        Ok(match self {
            Self::Application(application) => application.credential(options)?,
            Self::Managed(client_id) => ManagedIdentityCredential::new(Some(ManagedIdentityCredentialOptions {
                user_assigned_id: client_id.clone().map(UserAssignedId::ClientId),
                client_options: options,
            }))?,
            Self::Developer => DeveloperToolsCredential::new(None)?,
        })
    }
}

impl Application {
    /// What proves it.
    pub fn credential(&self, client_options: ClientOptions) -> azure_core::Result<Arc<dyn TokenCredential>> {
        Ok(ClientSecretCredential::new(
            &self.tenant_id,
            self.app_id.clone(),
            Secret::new(self.app_secret.expose_secret().to_owned()),
            Some(ClientSecretCredentialOptions { client_options }),
        )?)
    }
}
