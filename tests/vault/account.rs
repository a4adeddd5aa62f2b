//! A storage account that accepts only tokens of Microsoft Entra ID: no account key, no SAS, no other secret.

use std::fs;

use base64::{Engine, prelude::BASE64_STANDARD};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{Client, Method};
use serde_json::Value;

use crate::support::{
    azurite::Azurite,
    command::{CommandOutput, output_of, vivadrop},
    entra::Entra,
    scene::{METADATA, Scene, SimulatedDrop, assert_complete},
};

/// The audience of tokens for the account.
const STORAGE: &str = "https://storage.azure.com";

/// The characters of a blob name that are percent-encoded in a URL: slashes are not.
const BLOB_NAME: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

/// A partner whose app authenticates with its managed identity only, and a client that acts as the customer.
struct IdentityScene {
    scene: Scene,
    entra: Entra,
    azurite: Azurite,
    client: Client,
}

impl IdentityScene {
    async fn new() -> Self {
        let (mut scene, entra) = (Scene::in_a_folder().await, Entra::start().await);
        let azurite = Azurite::with_tokens(&entra.certificate);
        scene.settings.remove("DropStorage");
        scene.set("DropStorage__blobServiceUri", &azurite.blob_endpoint());
        scene.set("DropStorage__queueServiceUri", &azurite.queue_endpoint());
        scene.settings.extend(entra.with_managed_identity());
        entra.add_secrets(&scene.secrets);
        let client = entra.certificate.client();
        Self { scene, entra, azurite, client }
    }

    /// Sends a request to the blob service as the customer does.
    async fn request(&self, method: Method, path: &str, body: Vec<u8>) -> String {
        self.request_url(method, format!("{}/{path}", self.azurite.blob_endpoint()), body).await
    }

    /// Sends a request with a token for storage, which must succeed; returns the body of the response.
    async fn request_url(&self, method: Method, url: String, body: Vec<u8>) -> String {
        let request = self.client.request(method, url);
        let request = request.bearer_auth(self.entra.tokens().issue(STORAGE)).header("x-ms-version", "2021-12-02");
        let response = request.header("x-ms-blob-type", "BlockBlob").body(body).send().await.unwrap();
        let status = response.status();
        let body = response.text().await.unwrap();
        assert!(status.is_success(), "{status}: {body}");
        body
    }

    /// Uploads the drop as the customer does, the job metadata last.
    async fn upload(&self, drop: &SimulatedDrop) {
        self.request(Method::PUT, "datasets?restype=container", Vec::new()).await;
        let mut names = drop.names();
        names.sort_by_key(|name| name == METADATA);
        for name in names {
            let path = utf8_percent_encode(&drop.path.blob(&name).name, BLOB_NAME).to_string();
            self.request(Method::PUT, &format!("datasets/{path}"), fs::read(drop.simulated.drop.join(&name)).unwrap())
                .await;
        }
    }

    /// Delivers a drop; the output must contain no secret.
    async fn deliver(&self, drop: &SimulatedDrop) -> CommandOutput {
        let ended = output_of(vivadrop().arg("deliver").arg(drop.path()).envs(&self.scene.settings)).await;
        self.scene.secrets.check(&ended.stderr);
        self.scene.secrets.check(&ended.stdout);
        ended
    }
}

#[tokio::test]
async fn a_drop_is_delivered_with_a_managed_identity_including_leases_and_ledger() {
    let partner = IdentityScene::new().await;
    let drop = partner.scene.drop(2_000, 2).await;
    let rows = partner.scene.rows_of(&drop).await;
    partner.upload(&drop).await;
    for _ in 0..2 {
        // The second run finds in the ledger that the drop is completed.
        let ended = partner.deliver(&drop).await;
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        assert_complete(&partner.scene.receiver.received(), &drop, &rows);
    }
    assert_eq!(partner.entra.token_requests(), ["managed"; 2], "one token per run");
    let ledger = partner.request(Method::GET, "vivadrop-state?restype=container&comp=list", Vec::new()).await;
    assert!(ledger.contains("drop.json") && ledger.contains("part-0.json.gz.json"), "{ledger}");
}

#[tokio::test]
async fn an_event_is_processed_with_the_user_assigned_identity_of_the_setting() {
    let mut partner = IdentityScene::new().await;
    let identity = partner.entra.user_assigned();
    partner.scene.set("DropStorage__clientId", &identity);
    let drop = partner.scene.drop(50, 1).await;
    let rows = partner.scene.rows_of(&drop).await;
    partner.upload(&drop).await;
    let host = partner.scene.host().await;
    let path = utf8_percent_encode(&drop.path.blob(METADATA).name, BLOB_NAME).to_string();
    let url = format!("{}/datasets/{path}", partner.azurite.blob_endpoint());
    let response = host.post(&crate::support::host_payloads::blob_trigger(&url, 1)).await;
    assert_eq!(response.status, 200, "{}", response.log);
    assert_complete(&partner.scene.receiver.received(), &drop, &rows);
    assert_eq!(partner.entra.token_requests(), [format!("managed {identity}")]);
}

#[tokio::test]
async fn rows_are_delivered_to_a_queue_of_the_account_with_the_same_identity() {
    let mut partner = IdentityScene::new().await;
    partner.scene.set("DELIVER_TO", "queue://rows");
    partner.scene.settings.remove("WEBHOOK_SECRET");
    let drop = partner.scene.drop(20, 1).await;
    let rows = partner.scene.rows_of(&drop).await;
    partner.upload(&drop).await;
    let ended = partner.deliver(&drop).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);

    let url = format!("{}/rows/messages?numofmessages=32", partner.azurite.queue_endpoint());
    let listing = partner.request_url(Method::GET, url, Vec::new()).await;
    let texts = listing.split("<MessageText>").skip(1).map(|rest| rest.split('<').next().unwrap());
    let messages = texts.map(|text| serde_json::from_slice(&BASE64_STANDARD.decode(text).unwrap()).unwrap());
    let messages: Vec<Value> = messages.collect();
    let delivered: usize = messages.iter().filter_map(|message| message["data"]["rows"].as_array()).map(Vec::len).sum();
    assert_eq!(delivered, rows.len());
    assert_eq!(messages.last().unwrap()["type"], "viva.insights.drop.completed");
    assert!(
        partner.entra.token_requests().iter().all(|asked| asked == "managed"),
        "{:?}",
        partner.entra.token_requests()
    );
}

#[tokio::test]
async fn a_missing_token_for_the_account_is_retried() {
    let partner = IdentityScene::new().await;
    let drop = partner.scene.drop(10, 1).await;
    partner.upload(&drop).await;
    partner.entra.fail(Some(400));
    let ended = partner.deliver(&drop).await;
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    partner.entra.fail(None);
    assert_eq!(partner.deliver(&drop).await.code, Some(0));
}
