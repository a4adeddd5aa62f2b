//! A webhook whose secret is in a vault: read there when the first message is to be sent, kept, and read again every hour.
//!
//! App settings that are Key Vault references reach the app resolved. Those in a file of tenants do not, nor any outside of
//! Azure; they are read here, by the same notation.
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
    webhook::{InvalidClient, Webhook, WebhookConfig},
};
use crate::{
    keys::vault::{self, TRY_TIMEOUT},
    message::Message,
    retry::{Attempt, GaveUp, RetryBudget, retry},
};

/// The webhook, once its secret is known.
pub struct VaultSecretWebhook {
    client: SecretClient,
    reference: SecretReference,
    config: WebhookConfig,
    webhook: Cached<Arc<Webhook>, Unread>,
}

/// Why the secret is not known, and after how many tries.
#[derive(Clone)]
struct Unread {
    why: String,
    tries: u32,
}

impl VaultSecretWebhook {
    /// Sets up the sink; connects to nothing yet. `config` is that of the webhook without its secret.
    pub fn new(
        config: WebhookConfig,
        reference: SecretReference,
        credential: Arc<dyn TokenCredential>,
    ) -> Result<Self, vault::NotUsable> {
        let options = SecretClientOptions {
            client_options: vault::client_options(vault::http_client(&reference.vault)?),
            verify_challenge_resource: Some(vault::has_a_domain(&reference.vault)),
            ..SecretClientOptions::default()
        };
        let client = SecretClient::new(reference.vault.as_str(), credential, Some(options));
        Ok(Self { client: client.map_err(vault::NotUsable::Identity)?, reference, config, webhook: Cached::new() })
    }

    /// The webhook with the secret as it is in the vault now. Where there is one to go on with, the vault has one try.
    async fn open(&self, has_one: bool) -> Result<Arc<Webhook>, Unread> {
        let patience = if has_one { RetryBudget::lasting(Duration::ZERO) } else { self.config.patience };
        let secret = retry(patience, |_| self.read()).await.map_err(|gave_up| match gave_up {
            GaveUp::Permanent(why) => Unread { why, tries: 1 },
            GaveUp::BudgetSpent(why, tries) => Unread { why, tries },
        });
        let opened = secret.and_then(|secret| {
            let unusable =
                |why: &dyn fmt::Display| Unread { why: format!("{} is not usable: {why}", self.reference), tries: 1 };
            let config = self.config.clone().signed_with(&secret).map_err(|why| unusable(&why))?;
            Webhook::new(config).map(Arc::new).map_err(|why: InvalidClient| unusable(&why))
        });
        if let (true, Err(Unread { why, .. })) = (has_one, &opened) {
            warn!("{why}; messages are signed with the one that was read before");
        }
        opened
    }

    async fn read(&self) -> Attempt<SecretString, String> {
        let reference = &self.reference;
        let options = SecretClientGetSecretOptions {
            secret_version: reference.version.clone(),
            ..SecretClientGetSecretOptions::default()
        };
        let asked = self.client.get_secret(&reference.name, Some(options));
        match timeout(TRY_TIMEOUT, asked).await {
            Err(_) => Attempt::Transient(
                format!("{reference} cannot be read: no answer in {} s", TRY_TIMEOUT.as_secs()),
                None,
            ),
            Ok(Err(error)) => vault::of_secret(&error, reference),
            Ok(Ok(answer)) => match answer.into_model() {
                Ok(Secret { value: Some(value), .. }) => Attempt::Done(value.into()),
                Ok(_) | Err(_) => {
                    Attempt::Permanent(format!("{reference} cannot be read: the answer has no secret in it"))
                }
            },
        }
    }
}

#[async_trait]
impl Sink for VaultSecretWebhook {
    async fn deliver(&self, message: &Message) -> Result<(), SinkError> {
        match self.webhook.get(|has_one| self.open(has_one)).await {
            Ok(webhook) => webhook.deliver(message).await,
            // The message is none the worse for it: once the secret can be read it is delivered.
            Err(Unread { why: answer, tries }) => {
                Err(SinkError::Unavailable { id: message.id.to_string(), tries, answer })
            }
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
