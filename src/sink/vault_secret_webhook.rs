//! A webhook whose secret is in a Key Vault: read when the first message is sent, cached, and read again every hour.
//!
//! App Service replaces Key Vault references in app settings by the secrets, but not those in a file of tenants, and
//! nothing replaces them outside Azure. This sink resolves them; the syntax is the same.
//! <https://learn.microsoft.com/azure/app-service/app-service-key-vault-references>

mod cached;
mod reference;

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use azure_core::credentials::TokenCredential;
use azure_security_keyvault_secrets::{
    SecretClient, SecretClientOptions,
    models::{Secret, SecretClientGetSecretOptions},
};
use secrecy::SecretString;
use tokio::time::timeout;
use tracing::warn;

use self::cached::Cached;
pub use self::reference::{InvalidReference, SecretReference};
use super::{
    FailedTry, Sink, StatusClass,
    webhook::{Webhook, WebhookConfig},
};
use crate::{
    keys::{
        TRY_TIMEOUT,
        vault::{self, InvalidVault, SecretFailure},
    },
    message::Message,
    retry::RetryBudget,
};

/// The sink `https://…` with a secret from a Key Vault.
pub struct VaultSecretWebhook {
    client: SecretClient,
    reference: SecretReference,
    config: WebhookConfig,
    webhook: Cached<Arc<Webhook>, SecretFailure>,
}

impl VaultSecretWebhook {
    /// Creates the sink; does not connect yet. `config` is the webhook's configuration without the secret.
    pub fn new(
        config: WebhookConfig,
        reference: SecretReference,
        credential: Arc<dyn TokenCredential>,
    ) -> Result<Self, InvalidVault> {
        let options = SecretClientOptions {
            client_options: vault::client_options(vault::http_client(&reference.vault)?),
            verify_challenge_resource: Some(vault::verifies_challenge(&reference.vault)),
            ..SecretClientOptions::default()
        };
        let client = SecretClient::new(reference.vault.as_str(), credential, Some(options));
        Ok(Self { client: client.map_err(InvalidVault::Identity)?, reference, config, webhook: Cached::new() })
    }

    /// Tries once to read the secret, and creates a webhook with it. If `has_old_webhook`, an error is logged here,
    /// because the caller continues with the old webhook.
    async fn load(&self, has_old_webhook: bool) -> Result<Arc<Webhook>, SecretFailure> {
        let webhook = match self.read_secret().await {
            Ok(secret) => self.webhook_with(&secret),
            Err(failure) => Err(failure),
        };
        if let (true, Err(failure)) = (has_old_webhook, &webhook) {
            warn!("{failure}; messages are still signed with the secret that was read before");
        }
        webhook
    }

    /// Creates the webhook with this secret.
    fn webhook_with(&self, secret: &SecretString) -> Result<Arc<Webhook>, SecretFailure> {
        let not_usable = |error: &dyn fmt::Display| {
            SecretFailure::Misconfigured(format!("{} is not usable: {error}", self.reference))
        };
        let config = self.config.clone().with_secret(secret).map_err(|error| not_usable(&error))?;
        Webhook::new(config).map(Arc::new).map_err(|error| not_usable(&error))
    }

    /// Tries once to read the secret.
    async fn read_secret(&self) -> Result<SecretString, SecretFailure> {
        let reference = &self.reference;
        let options = SecretClientGetSecretOptions {
            secret_version: reference.version.clone(),
            ..SecretClientGetSecretOptions::default()
        };
        let response = match timeout(TRY_TIMEOUT, self.client.get_secret(&reference.name, Some(options))).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Err(SecretFailure::of(&error, reference)),
            Err(_) => {
                let why = format!("{reference} cannot be read: no answer in {} s", TRY_TIMEOUT.as_secs());
                return Err(SecretFailure::Unavailable { why, retry_after: None });
            }
        };
        match response.into_model() {
            Ok(Secret { value: Some(value), .. }) => Ok(value.into()),
            Ok(_) | Err(_) => {
                let problem = format!("{reference} cannot be read: the answer contains no secret");
                Err(SecretFailure::Misconfigured(problem))
            }
        }
    }
}

#[async_trait]
impl Sink for VaultSecretWebhook {
    /// Reads the secret first if it is unknown; then a failure to read it is the failure of this try.
    async fn try_deliver(&self, message: &Message) -> Result<(), FailedTry> {
        let webhook = self.webhook.get(|has_old_webhook| self.load(has_old_webhook)).await?;
        webhook.try_deliver(message).await
    }

    fn retry_budget(&self) -> RetryBudget {
        self.config.retry_budget
    }

    fn name(&self) -> String {
        self.config.name()
    }
}

/// The message is not at fault: it is delivered once the secret can be read.
impl From<SecretFailure> for FailedTry {
    fn from(failure: SecretFailure) -> Self {
        match failure {
            SecretFailure::Unavailable { why: answer, retry_after } => {
                Self { class: StatusClass::Transient, answer, retry_after }
            }
            SecretFailure::Misconfigured(answer) => Self { class: StatusClass::Service, answer, retry_after: None },
        }
    }
}

impl fmt::Debug for VaultSecretWebhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VaultSecretWebhook")
            .field("secret", &self.reference)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}
