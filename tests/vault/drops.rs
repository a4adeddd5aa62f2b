//! Whole drops with the built binary, the private key in the vault.

use std::{fs, os::unix::fs::PermissionsExt};

use rsa::{RsaPrivateKey, pkcs8::DecodePrivateKey};
use vivadrop::simulate::SimulateOptions;

use crate::support::{
    command::{CommandOutput, output_of, vivadrop},
    entra::Entra,
    host::Settings,
    scene::{METADATA, Scene, SimulatedDrop, assert_complete},
    vault::{Behaviour, KeyVault, RESOURCE},
    vectors,
};

/// A partner whose customers' keys are in a vault.
struct Custody {
    scene: Scene,
    entra: Entra,
    vault: KeyVault,
    /// The version of the tenant's key.
    version: String,
}

impl Custody {
    async fn new() -> Self {
        let (mut scene, entra) = (Scene::in_a_folder().await, Entra::start().await);
        let vault = KeyVault::start(&entra).await;
        let pem = fs::read_to_string(vectors::case("encrypted-ctr").private_key()).unwrap();
        let version = vault.import(scene.tenant, RsaPrivateKey::from_pkcs8_pem(&pem).unwrap());
        scene.set("PRIVATE_KEYS", vault.url().as_str());
        entra.add_secrets(&scene.secrets);
        Self { scene, entra, vault, version }
    }

    async fn with(identity: impl Fn(&Entra) -> Settings) -> Self {
        let mut custody = Self::new().await;
        custody.scene.settings.extend(identity(&custody.entra));
        custody
    }

    /// Lays a drop, and delivers it.
    async fn deliver(&self) -> (SimulatedDrop, CommandOutput) {
        let drop = self.scene.drop(20, 2).await;
        self.scene.upload(&drop).await;
        let ended = self.deliver_again(&drop).await;
        (drop, ended)
    }

    async fn deliver_again(&self, drop: &SimulatedDrop) -> CommandOutput {
        let mut command = vivadrop();
        let ended = output_of(command.arg("deliver").arg(drop.path()).envs(&self.scene.settings)).await;
        self.scene.secrets.check(&ended.stderr);
        self.scene.secrets.check(&ended.stdout);
        ended
    }

    async fn delivers_all(&self) {
        let (drop, ended) = self.deliver().await;
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        let rows = self.scene.rows_of(&drop).await;
        assert_complete(&self.scene.receiver.received(), &drop, &rows);
    }
}

#[tokio::test]
async fn an_app_with_a_client_secret_delivers_and_asks_the_vault_once_for_each_key() {
    let custody = Custody::with(Entra::with_secret).await;
    custody.delivers_all().await;
    assert_eq!(custody.entra.token_requests(), ["secret"]);
    let decrypted = format!("POST /keys/{}//decrypt RSA-OAEP", custody.scene.tenant);
    assert_eq!(custody.vault.requests(), [decrypted.as_str(); 2]);
}

#[tokio::test]
async fn an_app_with_a_managed_identity_delivers() {
    let custody = Custody::with(Entra::with_managed_identity).await;
    custody.delivers_all().await;
    assert_eq!(custody.entra.token_requests(), ["managed"]);
}

#[tokio::test]
async fn an_app_with_a_user_assigned_identity_delivers() {
    let mut custody = Custody::with(Entra::with_managed_identity).await;
    let identity = custody.entra.user_assigned();
    custody.scene.set("AZURE_CLIENT_ID", &identity);
    custody.delivers_all().await;
    assert_eq!(custody.entra.token_requests(), [format!("managed {identity}")]);
}

#[tokio::test]
async fn a_developer_who_is_signed_in_delivers_and_one_who_is_not_is_told_so() {
    let mut custody = Custody::new().await;
    custody.scene.set("SSL_CERT_FILE", &custody.entra.certificate.file().display().to_string());
    custody.scene.set("PATH", "/nowhere:/usr/bin:/bin");
    let (_, ended) = custody.deliver().await;
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("`az login`"), "{}", ended.stderr);
    assert_eq!(custody.scene.receiver.received().requests, 0, "no drop is set aside for that");

    let folder = tempfile::tempdir().unwrap();
    let token = custody.entra.tokens().issue(RESOURCE);
    let said = format!(r#"{{"accessToken":"{token}","expires_on":4070908800,"tokenType":"Bearer"}}"#);
    fs::write(folder.path().join("az"), format!("#!/bin/sh\necho '{said}'\n")).unwrap();
    fs::set_permissions(folder.path().join("az"), fs::Permissions::from_mode(0o755)).unwrap();
    custody.scene.set("PATH", &format!("{}:/usr/bin:/bin", folder.path().display()));
    custody.delivers_all().await;
}

#[tokio::test]
async fn a_drop_that_was_under_way_when_its_key_was_rotated_is_opened_with_the_key_before() {
    let custody = Custody::with(Entra::with_secret).await;
    let newer = RsaPrivateKey::new(&mut rsa::rand_core::OsRng, 2048).unwrap();
    let newest = custody.vault.import(custody.scene.tenant, newer);
    custody.delivers_all().await;
    let asked = custody.vault.requests();
    let earlier = format!("POST /keys/{}/{}/decrypt RSA-OAEP", custody.scene.tenant, custody.version);
    let by_name = format!("{newest}/decrypt");
    assert!(asked.contains(&earlier) && !asked.iter().any(|asked| asked.contains(&by_name)), "{asked:?}");
}

#[tokio::test]
async fn the_version_of_the_metadata_goes_with_the_keys_of_the_api_too() {
    let custody = Custody::with(Entra::with_secret).await;
    custody.vault.import(custody.scene.tenant, RsaPrivateKey::new(&mut rsa::rand_core::OsRng, 2048).unwrap());
    let drop = custody.scene.drop(20, 2).await;
    let place = drop.simulated.drop.join(METADATA);
    let mut metadata: serde_json::Value = serde_json::from_slice(&fs::read(&place).unwrap()).unwrap();
    metadata["PublicKeyVersion"] = custody.version.as_str().into();
    fs::write(place, metadata.to_string()).unwrap();
    custody.scene.upload(&drop).await;
    assert_eq!(custody.deliver_again(&drop).await.code, Some(0));
    let decrypted = format!("POST /keys/{}/{}/decrypt RSA-OAEP", custody.scene.tenant, custody.version);
    assert_eq!(custody.vault.requests(), [decrypted.as_str(); 2]);
}

#[tokio::test]
async fn the_version_that_the_metadata_names_is_the_one_that_unwraps() {
    let custody = Custody::with(Entra::with_secret).await;
    let drop = custody.scene.drop_like(SimulateOptions { users: 10, weeks: 1, ..SimulateOptions::default() }).await;
    let metadata = fs::read_to_string(drop.simulated.drop.join(METADATA)).unwrap();
    let mut metadata: serde_json::Value = serde_json::from_str(&metadata).unwrap();
    let answer = fs::read_to_string(&drop.simulated.decryption_keys).unwrap();
    let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
    metadata["DecryptionKeyDetails"] = answer["DecryptionKeys"].clone();
    metadata["PublicKeyVersion"] = custody.version.as_str().into();
    fs::write(drop.simulated.drop.join(METADATA), metadata.to_string()).unwrap();
    custody.scene.upload(&drop).await;

    let ended = custody.deliver_again(&drop).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let asked = custody.vault.requests();
    assert!(asked.iter().all(|asked| asked.contains(&format!("/{}/decrypt", custody.version))), "{asked:?}");
}

#[tokio::test]
async fn an_app_without_the_role_sets_the_drop_aside_and_its_log_names_the_role() {
    let custody = Custody::with(Entra::with_managed_identity).await;
    custody.vault.answer_always(Behaviour::Denied("ForbiddenByRbac"));
    let drop = custody.scene.drop(10, 1).await;
    custody.scene.upload(&drop).await;
    let host = custody.scene.host().await;
    let answers = host.trigger(&custody.scene.event(&drop, METADATA)).await;
    assert_eq!(answers.iter().map(|answer| answer.status).collect::<Vec<_>>(), [200]);
    let log = host.stop();
    let told = |line: &&serde_json::Value| line.to_string().contains("the role Key Vault Crypto User on the vault");
    assert_eq!(log.iter().filter(told).count(), 1, "{log:?}");

    let failed = &custody.scene.receiver.received().drops[&drop.path()].failed;
    assert_eq!(failed.len(), 1);
    assert_eq!(failed[0].reason, "no-key");
}

#[tokio::test]
async fn a_vault_that_throttles_for_a_while_only_delays_the_drop() {
    let custody = Custody::with(Entra::with_secret).await;
    custody.vault.script([Behaviour::Throttled(1), Behaviour::Status(503)]);
    custody.delivers_all().await;
    assert_eq!(custody.vault.requests().len(), 4);
}

#[tokio::test]
async fn a_wrong_client_secret_sets_nothing_aside_and_the_sweep_goes_on_once_it_is_mended() {
    let mut custody = Custody::with(Entra::with_secret).await;
    let right = custody.scene.settings["AZURE_CLIENT_SECRET"].clone();
    custody.scene.set("AZURE_CLIENT_SECRET", "an-old-one");
    let (drop, ended) = custody.deliver().await;
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("AADSTS7000215): renew AZURE_CLIENT_SECRET"), "{}", ended.stderr);
    let host = custody.scene.host().await;
    let answer = host.post(&custody.scene.event(&drop, METADATA)).await;
    assert_eq!(answer.status, 500, "{}", answer.log);
    let told =
        |line: &&serde_json::Value| line["level"] == "ERROR" && line.to_string().contains("renew AZURE_CLIENT_SECRET");
    assert_eq!(host.stop().iter().filter(told).count(), 1);
    assert_eq!(custody.scene.receiver.received().requests, 0, "no drop is set aside for that");

    custody.scene.set("AZURE_CLIENT_SECRET", &right);
    let swept = output_of(vivadrop().arg("sweep").envs(&custody.scene.settings)).await;
    assert_eq!(swept.code, Some(0), "{}", swept.stderr);
    assert_complete(&custody.scene.receiver.received(), &drop, &custody.scene.rows_of(&drop).await);
}

#[tokio::test]
async fn a_vault_or_token_service_that_stays_away_is_worth_another_try() {
    let mut custody = Custody::with(Entra::with_secret).await;
    // Longer than there is patience, so that there is no waiting for it.
    custody.vault.answer_always(Behaviour::Throttled(300));
    let (drop, ended) = custody.deliver().await;
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    let origin = custody.vault.url().as_str().trim_end_matches('/').to_owned();
    assert!(ended.stderr.contains(&format!("the vault `{origin}` did not answer")), "{}", ended.stderr);

    custody.vault.answer_always(Behaviour::Normal);
    custody.scene.set("DEADLINE", "3s");
    custody.entra.fail(Some(503));
    let host = custody.scene.host().await;
    let answer = host.post(&custody.scene.event(&drop, METADATA)).await;
    assert_eq!(answer.status, 500, "{}", answer.log);
    custody.entra.fail(None);
    assert_eq!(custody.deliver_again(&drop).await.code, Some(0));
}
