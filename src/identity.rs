//! The identity with which vivadrop authenticates at Microsoft Entra ID.
//!
//! One rule applies to the storage account, the vault and the Viva Insights API. If the settings name an application
//! with a client secret, it requests the tokens; otherwise, on Azure, the managed identity does; elsewhere, the user
//! who is signed in with the Azure CLI (`az`) or the Azure Developer CLI (`azd`). This module caches no tokens, because
//! the credentials of `azure_identity` do: each caches a token per scope until five minutes before it expires, and one
//! call at a time renews it.

mod token_error;

use std::{sync::Arc, time::Duration};

use azure_core::{
    credentials::{Secret, TokenCredential},
    error::ErrorKind,
    http::{ClientOptions, RetryOptions, Transport},
};
use azure_identity::{
    ClientSecretCredential, ClientSecretCredentialOptions, DeveloperToolsCredential, ManagedIdentityCredential,
    ManagedIdentityCredentialOptions, UserAssignedId,
};
use reqwest::redirect::Policy;
use secrecy::{ExposeSecret, SecretString};

pub(crate) use self::token_error::{TokenError, network_cause};
use crate::telemetry;

/// Timeout for connecting to the endpoint of the managed identity.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Timeout for one request to that endpoint, including its whole response.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// An application in a tenant, which authenticates with a client secret.
#[derive(Debug, Clone)]
pub struct Application {
    /// The tenant in which the application is registered: the partner's, not a customer's.
    pub tenant_id: String,
    /// The application (client) id.
    pub app_id: String,
    /// The client secret.
    pub app_secret: SecretString,
}

/// The identity that requests tokens.
#[derive(Debug, Clone)]
pub enum Identity {
    /// The application of `AZURE_TENANT_ID`, `AZURE_CLIENT_ID` and `AZURE_CLIENT_SECRET`.
    Application(Application),
    /// The managed identity of the app: the user-assigned one with this client id, or the system-assigned one.
    Managed(Option<String>),
    /// The user who is signed in with `az` or `azd`.
    Developer,
}

/// Options for credentials whose caller retries: the SDK's own retries would multiply with the caller's.
pub(crate) fn without_retries() -> ClientOptions {
    let per_try_policies = telemetry::http::policies();
    ClientOptions { retry: RetryOptions::none(), per_try_policies, ..ClientOptions::default() }
}

impl Identity {
    /// The credential of this identity. `options` apply to requests to the token service, where there are any.
    pub fn credential(&self, options: ClientOptions) -> azure_core::Result<Arc<dyn TokenCredential>> {
        Ok(match self {
            Self::Application(application) => application.credential(options)?,
            Self::Managed(client_id) => ManagedIdentityCredential::new(Some(ManagedIdentityCredentialOptions {
                user_assigned_id: client_id.clone().map(UserAssignedId::ClientId),
                client_options: ClientOptions { transport: Some(managed_identity_transport()?), ..options },
            }))?,
            Self::Developer => DeveloperToolsCredential::new(None)?,
        })
    }
}

/// The endpoint of the managed identity is on this machine. A proxy must not see the header that authorizes the
/// request.
fn managed_identity_transport() -> azure_core::Result<Transport> {
    let client = reqwest::Client::builder()
        .no_proxy()
        .redirect(Policy::none())
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(REQUEST_TIMEOUT);
    let client = client.build().map_err(|error| azure_core::Error::new(ErrorKind::Other, error))?;
    Ok(Transport::new(Arc::new(client)))
}

impl Application {
    /// The credential of this application.
    pub fn credential(&self, client_options: ClientOptions) -> azure_core::Result<Arc<dyn TokenCredential>> {
        Ok(ClientSecretCredential::new(
            &self.tenant_id,
            self.app_id.clone(),
            Secret::new(self.app_secret.expose_secret().to_owned()),
            Some(ClientSecretCredentialOptions { client_options }),
        )?)
    }
}
