//! A webhook whose secret is in a Key Vault: read when the first message is sent, cached, and read again every hour.
//!
//! App Service replaces Key Vault references in app settings by the secrets, but not those in a file of tenants, and
//! nothing replaces them outside Azure. This sink resolves them; the syntax is the same.
//! <https://learn.microsoft.com/azure/app-service/app-service-key-vault-references>

mod cached;
mod reference;

use std::{fmt, sync::Arc, time::Duration};

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
    Sink, SinkError,
    webhook::{Webhook, WebhookConfig},
};
use crate::{
    keys::{
        TRY_TIMEOUT,
        vault::{self, InvalidVault},
    },
    message::{Message, MessageId},
    retry::{Attempt, GaveUp, RetryBudget, retry},
};

/// The sink `https://…` with a secret from a Key Vault.
pub struct VaultSecretWebhook {
    client: SecretClient,
    reference: SecretReference,
    config: WebhookConfig,
    webhook: Cached<Arc<Webhook>, UnreadableSecret>,
}

/// Why there is no usable secret.
#[derive(Clone)]
enum UnreadableSecret {
    /// The vault did not answer within the retry budget.
    Unavailable { message: String, tries: u32 },
    /// The secret is missing or invalid, or access is denied, until a person fixes it.
    Misconfigured(String),
}

impl UnreadableSecret {
    fn message(&self) -> &str {
        match self {
            Self::Unavailable { message, .. } | Self::Misconfigured(message) => message,
        }
    }

    /// The error for the message `id`. The message is not at fault: it is delivered once the secret can be read.
    fn sink_error(self, id: &MessageId) -> SinkError {
        let id = id.to_string();
        match self {
            Self::Unavailable { message: answer, tries } => SinkError::Unavailable { id, tries, answer },
            Self::Misconfigured(problem) => SinkError::Misconfigured { id, problem },
        }
    }
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

    /// Reads the secret and creates a webhook with it. If `has_old_webhook`, the vault is tried only once, and an error is
    /// logged here, because the caller continues with the old webhook.
    async fn load(&self, has_old_webhook: bool) -> Result<Arc<Webhook>, UnreadableSecret> {
        let budget = if has_old_webhook { RetryBudget::lasting(Duration::ZERO) } else { self.config.retry_budget };
        let webhook = match retry(budget, |_| self.read_secret()).await {
            Ok(secret) => self.webhook_with(&secret).map_err(UnreadableSecret::Misconfigured),
            Err(GaveUp::Permanent(message)) => Err(UnreadableSecret::Misconfigured(message)),
            Err(GaveUp::BudgetSpent(message, tries)) => Err(UnreadableSecret::Unavailable { message, tries }),
        };
        if let (true, Err(unreadable)) = (has_old_webhook, &webhook) {
            warn!("{}; messages are still signed with the secret that was read before", unreadable.message());
        }
        webhook
    }

    /// Creates the webhook with this secret.
    fn webhook_with(&self, secret: &SecretString) -> Result<Arc<Webhook>, String> {
        let not_usable = |error: &dyn fmt::Display| format!("{} is not usable: {error}", self.reference);
        let config = self.config.clone().with_secret(secret).map_err(|error| not_usable(&error))?;
        Webhook::new(config).map(Arc::new).map_err(|error| not_usable(&error))
    }

    /// Tries once to read the secret.
    async fn read_secret(&self) -> Attempt<SecretString, String> {
        let reference = &self.reference;
        let options = SecretClientGetSecretOptions {
            secret_version: reference.version.clone(),
            ..SecretClientGetSecretOptions::default()
        };
        let response = match timeout(TRY_TIMEOUT, self.client.get_secret(&reference.name, Some(options))).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return vault::secret_failure(&error, reference),
            Err(_) => {
                let message = format!("{reference} cannot be read: no answer in {} s", TRY_TIMEOUT.as_secs());
                return Attempt::Transient(message, None);
            }
        };
        match response.into_model() {
            Ok(Secret { value: Some(value), .. }) => Attempt::Done(value.into()),
            Ok(_) | Err(_) => Attempt::Permanent(format!("{reference} cannot be read: the answer contains no secret")),
        }
    }
}

#[async_trait]
impl Sink for VaultSecretWebhook {
    async fn deliver(&self, message: &Message) -> Result<(), SinkError> {
        match self.webhook.get(|has_old_webhook| self.load(has_old_webhook)).await {
            Ok(webhook) => webhook.deliver(message).await,
            Err(unreadable) => Err(unreadable.sink_error(&message.id)),
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
