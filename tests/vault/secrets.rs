//! The webhook's secret in the vault.

use secrecy::ExposeSecret;

use crate::support::{
    command::{Ended, end_of, vivadrop},
    entra::Entra,
    scene::{Scene, SimulatedDrop, assert_complete},
    vault::{Behaviour, KeyVault},
};

/// A partner whose private keys are in a folder, and whose webhook's secret is in a vault.
struct Sealed {
    scene: Scene,
    vault: KeyVault,
    drop: SimulatedDrop,
    _entra: Entra,
}

impl Sealed {
    async fn new() -> Self {
        let (mut scene, entra) = (Scene::in_a_folder().await, Entra::start().await);
        let vault = KeyVault::start(&entra).await;
        vault.keep_secret("hook", scene.receiver.secret().expose_secret());
        scene.set("WEBHOOK_SECRET", &format!("@Microsoft.KeyVault(SecretUri={}secrets/hook)", vault.url()));
        scene.set("DELIVERY_PATIENCE", "2s");
        scene.settings.extend(entra.with_managed_identity());
        let drop = scene.drop(20, 2).await;
        scene.lay(&drop).await;
        Self { scene, vault, drop, _entra: entra }
    }

    async fn deliver(&self) -> Ended {
        let mut command = vivadrop();
        let ended = end_of(command.arg("deliver").arg(self.drop.path()).envs(&self.scene.settings)).await;
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
    let sealed = Sealed::new().await;
    sealed.vault.answer_next([Behaviour::Throttling(0), Behaviour::Failing(503)]);
    sealed.is_delivered().await;
    assert_eq!(sealed.vault.asked(), ["GET /secrets/hook/"; 3]);
}

#[tokio::test]
async fn nothing_is_set_aside_because_the_secret_cannot_be_read() {
    let mut sealed = Sealed::new().await;
    let fails = async |says: &[&str]| {
        let ended = sealed.deliver().await;
        assert_eq!(ended.code, Some(1), "{}", ended.stderr);
        for words in says {
            assert!(ended.stderr.contains(words), "{words}: {}", ended.stderr);
        }
        assert_eq!(sealed.scene.receiver.received().requests, 0);
    };
    let secret = "the secret `hook` in the vault `https://localhost:";
    sealed.vault.answer_next([Behaviour::Denying("ForbiddenByRbac")]);
    fails(&[secret, "grant its identity the role Key Vault Secrets User"]).await;
    sealed.vault.keep_secret("hook", "hunter2");
    fails(&[secret, "is not usable: expected whsec_"]).await;
    sealed.vault.keep_secret("hook", sealed.scene.receiver.secret().expose_secret());
    sealed.is_delivered().await;
    sealed.scene.set("WEBHOOK_SECRET", &format!("@Microsoft.KeyVault(SecretUri={}secrets/hok)", sealed.vault.url()));
    let other = sealed.scene.drop(20, 2).await;
    sealed.scene.lay(&other).await;
    sealed.drop = other;
    let ended = sealed.deliver().await;
    assert_eq!(ended.code, Some(1));
    assert!(
        ended.stderr.contains("there is none of that name and version (HTTP 404, SecretNotFound)"),
        "{}",
        ended.stderr
    );
}
