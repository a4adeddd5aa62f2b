//! Whole drops with the built binary; the private key is in a vault.

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
struct VaultScene {
    scene: Scene,
    entra: Entra,
    vault: KeyVault,
    /// The version of the tenant's key.
    version: String,
}

impl VaultScene {
    /// A partner whose app has no identity yet.
    async fn new() -> Self {
        let (mut scene, entra) = (Scene::in_a_folder().await, Entra::start().await);
        let vault = KeyVault::start(&entra).await;
        let pem = fs::read_to_string(vectors::case("encrypted-ctr").private_key()).unwrap();
        let version = vault.import(scene.tenant, RsaPrivateKey::from_pkcs8_pem(&pem).unwrap());
        scene.set("PRIVATE_KEYS", vault.url().as_str());
        entra.add_secrets(&scene.secrets);
        Self { scene, entra, vault, version }
    }

    /// A partner whose app has this identity.
    async fn with(identity: impl Fn(&Entra) -> Settings) -> Self {
        let mut partner = Self::new().await;
        partner.scene.settings.extend(identity(&partner.entra));
        partner
    }

    /// Uploads a drop, and delivers it.
    async fn deliver(&self) -> (SimulatedDrop, CommandOutput) {
        let drop = self.scene.drop(20, 2).await;
        self.scene.upload(&drop).await;
        let ended = self.deliver_again(&drop).await;
        (drop, ended)
    }

    /// Delivers a drop that is uploaded; the output must contain no secret.
    async fn deliver_again(&self, drop: &SimulatedDrop) -> CommandOutput {
        let mut command = vivadrop();
        let ended = output_of(command.arg("deliver").arg(drop.path()).envs(&self.scene.settings)).await;
        self.scene.secrets.check(&ended.stderr);
        self.scene.secrets.check(&ended.stdout);
        ended
    }

    /// Uploads a drop whose metadata has this `PublicKeyVersion`.
    async fn drop_with_version(&self, version: &str) -> SimulatedDrop {
        let drop = self.scene.drop(20, 2).await;
        let path = drop.simulated.drop.join(METADATA);
        let mut metadata: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        metadata["PublicKeyVersion"] = version.into();
        fs::write(path, metadata.to_string()).unwrap();
        self.scene.upload(&drop).await;
        drop
    }

    /// Adds a version to the tenant's key; returns its id.
    fn rotate(&self) -> String {
        self.vault.import(self.scene.tenant, RsaPrivateKey::new(&mut rsa::rand_core::OsRng, 2048).unwrap())
    }

    /// Checks that a new drop is delivered completely.
    async fn delivers_all(&self) {
        let (drop, ended) = self.deliver().await;
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        let rows = self.scene.rows_of(&drop).await;
        assert_complete(&self.scene.receiver.received(), &drop, &rows);
    }
}

#[tokio::test]
async fn an_app_with_a_client_secret_delivers_with_one_request_to_the_vault_per_key() {
    let partner = VaultScene::with(Entra::with_secret).await;
    partner.delivers_all().await;
    assert_eq!(partner.entra.token_requests(), ["secret"]);
    let request = format!("POST /keys/{}//decrypt RSA-OAEP", partner.scene.tenant);
    assert_eq!(partner.vault.requests(), [request.as_str(); 2]);
}

#[tokio::test]
async fn an_app_with_a_managed_identity_delivers() {
    let partner = VaultScene::with(Entra::with_managed_identity).await;
    partner.delivers_all().await;
    assert_eq!(partner.entra.token_requests(), ["managed"]);
}

#[tokio::test]
async fn an_app_with_a_user_assigned_identity_delivers() {
    let mut partner = VaultScene::with(Entra::with_managed_identity).await;
    let identity = partner.entra.user_assigned();
    partner.scene.set("AZURE_CLIENT_ID", &identity);
    partner.delivers_all().await;
    assert_eq!(partner.entra.token_requests(), [format!("managed {identity}")]);
}

#[tokio::test]
async fn a_signed_in_developer_delivers_and_a_signed_out_one_is_told_to_sign_in() {
    let mut partner = VaultScene::new().await;
    partner.scene.set("SSL_CERT_FILE", &partner.entra.certificate.file().display().to_string());
    partner.scene.set("PATH", "/nowhere:/usr/bin:/bin");
    let (_, ended) = partner.deliver().await;
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("`az login`"), "{}", ended.stderr);
    assert_eq!(partner.scene.receiver.received().requests, 0, "the drop is not set aside");

    let folder = tempfile::tempdir().unwrap();
    let token = partner.entra.tokens().issue(RESOURCE);
    let token = format!(r#"{{"accessToken":"{token}","expires_on":4070908800,"tokenType":"Bearer"}}"#);
    fs::write(folder.path().join("az"), format!("#!/bin/sh\necho '{token}'\n")).unwrap();
    fs::set_permissions(folder.path().join("az"), fs::Permissions::from_mode(0o755)).unwrap();
    partner.scene.set("PATH", &format!("{}:/usr/bin:/bin", folder.path().display()));
    partner.delivers_all().await;
}

#[tokio::test]
async fn a_drop_from_before_a_rotation_is_decrypted_with_the_previous_version() {
    let partner = VaultScene::with(Entra::with_secret).await;
    let newest = partner.rotate();
    partner.delivers_all().await;
    let requests = partner.vault.requests();
    let earlier = format!("POST /keys/{}/{}/decrypt RSA-OAEP", partner.scene.tenant, partner.version);
    let by_name = format!("{newest}/decrypt");
    assert!(requests.contains(&earlier) && !requests.iter().any(|request| request.contains(&by_name)), "{requests:?}");
}

#[tokio::test]
async fn a_drop_from_before_a_rotation_whose_customer_numbers_the_keys_is_delivered() {
    let partner = VaultScene::with(Entra::with_secret).await;
    partner.rotate();
    let drop = partner.drop_with_version("1").await;
    let ended = partner.deliver_again(&drop).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let rows = partner.scene.rows_of(&drop).await;
    assert_complete(&partner.scene.receiver.received(), &drop, &rows);
}

#[tokio::test]
async fn a_drop_that_names_a_version_of_another_key_is_delivered() {
    let partner = VaultScene::with(Entra::with_secret).await;
    partner.rotate();
    let drop = partner.drop_with_version(&"0".repeat(32)).await;
    let ended = partner.deliver_again(&drop).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
}

#[tokio::test]
async fn a_drop_from_before_a_rotation_is_delivered_although_the_newest_version_is_disabled() {
    let partner = VaultScene::with(Entra::with_secret).await;
    let newest = partner.rotate();
    partner.vault.disable_version(partner.scene.tenant, &newest);
    partner.delivers_all().await;
}

#[tokio::test]
async fn the_public_key_version_of_the_metadata_also_applies_to_keys_from_the_api() {
    let partner = VaultScene::with(Entra::with_secret).await;
    partner.rotate();
    let drop = partner.drop_with_version(&partner.version).await;
    assert_eq!(partner.deliver_again(&drop).await.code, Some(0));
    let request = format!("POST /keys/{}/{}/decrypt RSA-OAEP", partner.scene.tenant, partner.version);
    assert_eq!(partner.vault.requests(), [request.as_str(); 2]);
}

#[tokio::test]
async fn the_public_key_version_of_the_metadata_applies_to_keys_in_the_metadata() {
    let partner = VaultScene::with(Entra::with_secret).await;
    let drop = partner.scene.drop_like(SimulateOptions { users: 10, weeks: 1, ..SimulateOptions::default() }).await;
    let metadata = fs::read_to_string(drop.simulated.drop.join(METADATA)).unwrap();
    let mut metadata: serde_json::Value = serde_json::from_str(&metadata).unwrap();
    let response = fs::read_to_string(&drop.simulated.decryption_keys).unwrap();
    let response: serde_json::Value = serde_json::from_str(&response).unwrap();
    metadata["DecryptionKeyDetails"] = response["DecryptionKeys"].clone();
    metadata["PublicKeyVersion"] = partner.version.as_str().into();
    fs::write(drop.simulated.drop.join(METADATA), metadata.to_string()).unwrap();
    partner.scene.upload(&drop).await;

    let ended = partner.deliver_again(&drop).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let requests = partner.vault.requests();
    assert!(requests.iter().all(|request| request.contains(&format!("/{}/decrypt", partner.version))), "{requests:?}");
}

#[tokio::test]
async fn a_missing_vault_role_sets_nothing_aside() {
    let partner = VaultScene::with(Entra::with_managed_identity).await;
    partner.vault.answer_always(Behaviour::Denied("ForbiddenByRbac"));
    let drop = partner.scene.drop(10, 1).await;
    partner.scene.upload(&drop).await;
    let host = partner.scene.host().await;
    let response = host.post(&partner.scene.event(&drop, METADATA)).await;
    assert_eq!(response.status, 500, "{}", response.log);
    assert_eq!(partner.vault.requests().len(), 1, "a run asks once");
    let log = host.stop();
    let says_what_to_do = |line: &&serde_json::Value| {
        let line = line.to_string();
        line.contains("will be retried") && line.contains("the role Key Vault Crypto User on the vault")
    };
    assert_eq!(log.iter().filter(says_what_to_do).count(), 1, "{log:?}");
    assert_eq!(partner.scene.receiver.received().requests, 0, "the drop is not set aside");

    // The role applies after some minutes. Nobody has to replay the drop.
    partner.vault.answer_always(Behaviour::Normal);
    let swept = output_of(vivadrop().arg("sweep").envs(&partner.scene.settings)).await;
    assert_eq!(swept.code, Some(0), "{}", swept.stderr);
    assert_complete(&partner.scene.receiver.received(), &drop, &partner.scene.rows_of(&drop).await);
}

#[tokio::test]
async fn a_throttling_vault_only_delays_the_drop() {
    let partner = VaultScene::with(Entra::with_secret).await;
    partner.vault.script([Behaviour::Throttled(1), Behaviour::Status(503)]);
    partner.delivers_all().await;
    assert_eq!(partner.vault.requests().len(), 4);
}

#[tokio::test]
async fn a_wrong_client_secret_sets_nothing_aside_and_the_sweep_delivers_once_it_is_fixed() {
    let mut partner = VaultScene::with(Entra::with_secret).await;
    let right = partner.scene.settings["AZURE_CLIENT_SECRET"].clone();
    partner.scene.set("AZURE_CLIENT_SECRET", "an-old-one");
    let (drop, ended) = partner.deliver().await;
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("AADSTS7000215): renew AZURE_CLIENT_SECRET"), "{}", ended.stderr);
    let host = partner.scene.host().await;
    let response = host.post(&partner.scene.event(&drop, METADATA)).await;
    assert_eq!(response.status, 500, "{}", response.log);
    let names_fix =
        |line: &&serde_json::Value| line["level"] == "ERROR" && line.to_string().contains("renew AZURE_CLIENT_SECRET");
    assert_eq!(host.stop().iter().filter(names_fix).count(), 1);
    assert_eq!(partner.scene.receiver.received().requests, 0, "the drop is not set aside");

    partner.scene.set("AZURE_CLIENT_SECRET", &right);
    let swept = output_of(vivadrop().arg("sweep").envs(&partner.scene.settings)).await;
    assert_eq!(swept.code, Some(0), "{}", swept.stderr);
    assert_complete(&partner.scene.receiver.received(), &drop, &partner.scene.rows_of(&drop).await);
}

#[tokio::test]
async fn a_vault_or_token_service_that_does_not_answer_is_retried() {
    let mut partner = VaultScene::with(Entra::with_secret).await;
    // Longer than the retry budget, so that the client gives up at once.
    partner.vault.answer_always(Behaviour::Throttled(300));
    let (drop, ended) = partner.deliver().await;
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    let origin = partner.vault.url().as_str().trim_end_matches('/').to_owned();
    assert!(ended.stderr.contains(&format!("the vault `{origin}` did not answer")), "{}", ended.stderr);

    partner.vault.answer_always(Behaviour::Normal);
    partner.scene.set("DEADLINE", "3s");
    partner.entra.fail(Some(503));
    let host = partner.scene.host().await;
    let response = host.post(&partner.scene.event(&drop, METADATA)).await;
    assert_eq!(response.status, 200, "{}", response.log);
    assert!(response.log.contains("is retried at"), "the vault asked to wait: {}", response.log);
    let other = partner.scene.drop(10, 1).await;
    partner.scene.upload(&other).await;
    let response = host.post(&partner.scene.event(&other, METADATA)).await;
    assert_eq!(response.status, 500, "{}", response.log);
    partner.entra.fail(None);
    assert_eq!(partner.deliver_again(&drop).await.code, Some(0));
}

#[tokio::test]
async fn a_downloaded_drop_is_decoded_with_the_vault_and_the_api() {
    let partner = VaultScene::with(Entra::with_managed_identity).await;
    let drop = partner.scene.drop(20, 2).await;
    let rows = partner.scene.rows_of(&drop).await;
    let decode = async |key: &str| {
        let mut decode = vivadrop();
        decode.arg("decode").arg(&drop.simulated.drop).args(["--private-key", key]).envs(&partner.scene.settings);
        output_of(&mut decode).await
    };
    let vault = partner.vault.url().as_str();
    let ended = decode(vault).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(ended.stdout.lines().collect::<Vec<_>>(), rows);
    assert_eq!(partner.scene.api.key_requests().len(), 1);

    let ended = decode(&format!("{vault}keys/{}", partner.scene.tenant)).await;
    assert_eq!(ended.code, Some(2));
    assert!(ended.stderr.contains("without a path"), "{}", ended.stderr);
}
