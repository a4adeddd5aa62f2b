//! Who we are to Microsoft Entra ID.
//!
//! One rule for all that asks for a token, the storage account, the vault and the Viva Insights API: an application with a
//! client secret where the settings name one, the managed identity on Azure, and elsewhere whoever is signed in with the
//! Azure CLI (`az`) or the Azure Developer CLI (`azd`). The credentials of `azure_identity` keep a token for each scope
//! until five minutes before it lapses, and one call at a time renews it, so nothing is kept here.

mod failure;

use std::{sync::Arc, time::Duration};

use azure_core::{
    credentials::{Secret, TokenCredential},
    error::ErrorKind,
    http::{ClientOptions, Transport},
};
use azure_identity::{
    ClientSecretCredential, ClientSecretCredentialOptions, DeveloperToolsCredential, ManagedIdentityCredential,
    ManagedIdentityCredentialOptions, UserAssignedId,
};
use reqwest::redirect::Policy;
use secrecy::{ExposeSecret, SecretString};

pub(crate) use self::failure::{NoToken, network_cause};

/// How long one try may take to reach the managed identity's endpoint.
const CONNECT: Duration = Duration::from_secs(5);

/// How long one try may take there until all of the answer is in.
const ANSWER: Duration = Duration::from_secs(30);

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
                client_options: ClientOptions { transport: Some(on_this_machine()?), ..options },
            }))?,
            Self::Developer => DeveloperToolsCredential::new(None)?,
        })
    }
}

/// The managed identity's endpoint is on this machine: the header that opens it is no proxy's business.
fn on_this_machine() -> azure_core::Result<Transport> {
    let client =
        reqwest::Client::builder().no_proxy().redirect(Policy::none()).connect_timeout(CONNECT).timeout(ANSWER);
    let client = client.build().map_err(|error| azure_core::Error::new(ErrorKind::Other, error))?;
    Ok(Transport::new(Arc::new(client)))
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
