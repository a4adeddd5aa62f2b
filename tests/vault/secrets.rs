//! A webhook whose secret is in a vault.

use secrecy::ExposeSecret;

use crate::support::{
    command::{CommandOutput, output_of, vivadrop},
    entra::Entra,
    scene::{Scene, SimulatedDrop, assert_complete},
    vault::{Behaviour, KeyVault},
};

/// A partner whose private keys are in a folder and whose webhook secret is in a vault.
struct SecretScene {
    scene: Scene,
    vault: KeyVault,
    drop: SimulatedDrop,
    _entra: Entra,
}

impl SecretScene {
    async fn new() -> Self {
        let (mut scene, entra) = (Scene::in_a_folder().await, Entra::start().await);
        let vault = KeyVault::start(&entra).await;
        vault.add_secret("hook", scene.receiver.secret().expose_secret());
        scene.set("WEBHOOK_SECRET", &format!("@Microsoft.KeyVault(SecretUri={}secrets/hook)", vault.url()));
        scene.set("DELIVERY_PATIENCE", "2s");
        scene.settings.extend(entra.with_managed_identity());
        let drop = scene.drop(20, 1).await;
        scene.upload(&drop).await;
        Self { scene, vault, drop, _entra: entra }
    }

    /// Delivers the drop; the output must contain no secret.
    async fn deliver(&self) -> CommandOutput {
        let mut command = vivadrop();
        let ended = output_of(command.arg("deliver").arg(self.drop.path()).envs(&self.scene.settings)).await;
        self.scene.secrets.check(&ended.stderr);
        ended
    }

    /// Checks that the drop is delivered completely.
    async fn delivers_all(&self) {
        let ended = self.deliver().await;
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        assert_complete(&self.scene.receiver.received(), &self.drop, &self.scene.rows_of(&self.drop).await);
    }
}

#[tokio::test]
async fn the_secret_is_read_once_per_run_and_signs_every_message() {
    let partner = SecretScene::new().await;
    partner.vault.script([Behaviour::Throttled(0), Behaviour::Status(503)]);
    partner.delivers_all().await;
    assert_eq!(partner.vault.requests(), ["GET /secrets/hook/"; 3]);
}

#[tokio::test]
async fn an_unreadable_secret_sets_nothing_aside() {
    let mut partner = SecretScene::new().await;
    let fails = async |parts: &[&str]| {
        let ended = partner.deliver().await;
        assert_eq!(ended.code, Some(1), "{}", ended.stderr);
        for part in parts {
            assert!(ended.stderr.contains(part), "{part}: {}", ended.stderr);
        }
        assert_eq!(partner.scene.receiver.received().requests, 0);
    };
    let secret = "the secret `hook` in the vault `https://localhost:";
    partner.vault.script([Behaviour::Denied("ForbiddenByRbac")]);
    fails(&[secret, "grant the app's identity the role Key Vault Secrets User"]).await;
    partner.vault.add_secret("hook", "hunter2");
    fails(&[secret, "is not usable: expected whsec_"]).await;
    partner.vault.add_secret("hook", partner.scene.receiver.secret().expose_secret());
    partner.delivers_all().await;
    partner.scene.set("WEBHOOK_SECRET", &format!("@Microsoft.KeyVault(SecretUri={}secrets/hok)", partner.vault.url()));
    let other = partner.scene.drop(20, 1).await;
    partner.scene.upload(&other).await;
    partner.drop = other;
    let ended = partner.deliver().await;
    assert_eq!(ended.code, Some(1));
    assert!(
        ended.stderr.contains("there is no secret of that name and version (HTTP 404, SecretNotFound)"),
        "{}",
        ended.stderr
    );
}

#[tokio::test]
async fn a_vault_that_asks_for_a_longer_wait_than_the_retry_budget_ends_the_tries() {
    let partner = SecretScene::new().await;
    partner.vault.script([Behaviour::Throttled(600)]);
    let ended = partner.deliver().await;
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("cannot be read: HTTP 429, Throttled"), "{}", ended.stderr);
    assert_eq!(partner.vault.requests(), ["GET /secrets/hook/"]);
    partner.delivers_all().await;
}
