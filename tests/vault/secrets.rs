//! The webhook's secret in the vault.

use secrecy::ExposeSecret;

use crate::support::{
    command::{CommandOutput, output_of, vivadrop},
    entra::Entra,
    scene::{Scene, SimulatedDrop, assert_complete},
    vault::{Behaviour, KeyVault},
};

/// A partner whose private keys are in a folder, and whose webhook's secret is in a vault.
struct VaultSecretWebhook {
    scene: Scene,
    vault: KeyVault,
    drop: SimulatedDrop,
    _entra: Entra,
}

impl VaultSecretWebhook {
    async fn new() -> Self {
        let (mut scene, entra) = (Scene::in_a_folder().await, Entra::start().await);
        let vault = KeyVault::start(&entra).await;
        vault.add_secret("hook", scene.receiver.secret().expose_secret());
        scene.set("WEBHOOK_SECRET", &format!("@Microsoft.KeyVault(SecretUri={}secrets/hook)", vault.url()));
        scene.set("DELIVERY_PATIENCE", "2s");
        scene.settings.extend(entra.with_managed_identity());
        let drop = scene.drop(20, 2).await;
        scene.upload(&drop).await;
        Self { scene, vault, drop, _entra: entra }
    }

    async fn deliver(&self) -> CommandOutput {
        let mut command = vivadrop();
        let ended = output_of(command.arg("deliver").arg(self.drop.path()).envs(&self.scene.settings)).await;
        self.scene.secrets.check(&ended.stderr);
        ended
    }

    async fn is_delivered(&self) {
        let ended = self.deliver().await;
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        assert_complete(&self.scene.receiver.received(), &self.drop, &self.scene.rows_of(&self.drop).await);
    }
}

#[tokio::test]
async fn the_secret_is_read_once_and_signs_every_message() {
    let vault_secret_webhook = VaultSecretWebhook::new().await;
    vault_secret_webhook.vault.script([Behaviour::Throttled(0), Behaviour::Status(503)]);
    vault_secret_webhook.is_delivered().await;
    assert_eq!(vault_secret_webhook.vault.requests(), ["GET /secrets/hook/"; 3]);
}

#[tokio::test]
async fn nothing_is_set_aside_because_the_secret_cannot_be_read() {
    let mut vault_secret_webhook = VaultSecretWebhook::new().await;
    let fails = async |says: &[&str]| {
        let ended = vault_secret_webhook.deliver().await;
        assert_eq!(ended.code, Some(1), "{}", ended.stderr);
        for words in says {
            assert!(ended.stderr.contains(words), "{words}: {}", ended.stderr);
        }
        assert_eq!(vault_secret_webhook.scene.receiver.received().requests, 0);
    };
    let secret = "the secret `hook` in the vault `https://localhost:";
    vault_secret_webhook.vault.script([Behaviour::Denied("ForbiddenByRbac")]);
    fails(&[secret, "grant its identity the role Key Vault Secrets User"]).await;
    vault_secret_webhook.vault.add_secret("hook", "hunter2");
    fails(&[secret, "is not usable: expected whsec_"]).await;
    vault_secret_webhook.vault.add_secret("hook", vault_secret_webhook.scene.receiver.secret().expose_secret());
    vault_secret_webhook.is_delivered().await;
    vault_secret_webhook.scene.set(
        "WEBHOOK_SECRET",
        &format!("@Microsoft.KeyVault(SecretUri={}secrets/hok)", vault_secret_webhook.vault.url()),
    );
    let other = vault_secret_webhook.scene.drop(20, 2).await;
    vault_secret_webhook.scene.upload(&other).await;
    vault_secret_webhook.drop = other;
    let ended = vault_secret_webhook.deliver().await;
    assert_eq!(ended.code, Some(1));
    assert!(
        ended.stderr.contains("there is none of that name and version (HTTP 404, SecretNotFound)"),
        "{}",
        ended.stderr
    );
}
