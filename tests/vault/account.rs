//! A storage account that takes tokens of Microsoft Entra ID alone: no key, no SAS, no secret anywhere.

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

/// What a token for the account is to be for.
const STORAGE: &str = "https://storage.azure.com";

/// What the names of blobs look like in a URL: slashes stay.
const IN_A_URL: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

/// A partner whose app has an identity and nothing else, with the customer's side of the account.
struct Tokens {
    scene: Scene,
    entra: Entra,
    azurite: Azurite,
    client: Client,
}

impl Tokens {
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

    /// A request to the blob service, as the customer makes it.
    async fn ask(&self, method: Method, path: &str, body: Vec<u8>) -> String {
        self.ask_at(method, format!("{}/{path}", self.azurite.blob_endpoint()), body).await
    }

    async fn ask_at(&self, method: Method, url: String, body: Vec<u8>) -> String {
        let request = self.client.request(method, url);
        let request = request.bearer_auth(self.entra.tokens().issue(STORAGE)).header("x-ms-version", "2021-12-02");
        let answer = request.header("x-ms-blob-type", "BlockBlob").body(body).send().await.unwrap();
        let status = answer.status();
        let body = answer.text().await.unwrap();
        assert!(status.is_success(), "{status}: {body}");
        body
    }

    async fn upload(&self, drop: &SimulatedDrop) {
        self.ask(Method::PUT, "datasets?restype=container", Vec::new()).await;
        let mut names = drop.names();
        names.sort_by_key(|name| name == METADATA);
        for name in names {
            let path = utf8_percent_encode(&drop.path.blob(&name).name, IN_A_URL).to_string();
            self.ask(Method::PUT, &format!("datasets/{path}"), fs::read(drop.simulated.drop.join(&name)).unwrap())
                .await;
        }
    }

    async fn deliver(&self, drop: &SimulatedDrop) -> CommandOutput {
        let ended = output_of(vivadrop().arg("deliver").arg(drop.path()).envs(&self.scene.settings)).await;
        self.scene.secrets.check(&ended.stderr);
        self.scene.secrets.check(&ended.stdout);
        ended
    }
}

#[tokio::test]
async fn a_whole_drop_is_delivered_by_managed_identity_leases_and_ledger_and_all() {
    let tokens = Tokens::new().await;
    let drop = tokens.scene.drop(2_000, 2).await;
    let rows = tokens.scene.rows_of(&drop).await;
    tokens.upload(&drop).await;
    for _ in 0..2 {
        // The second time there is nothing left to do, which only the ledger knows.
        let ended = tokens.deliver(&drop).await;
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        assert_complete(&tokens.scene.receiver.received(), &drop, &rows);
    }
    assert_eq!(tokens.entra.token_requests(), ["managed"; 2], "one token a run");
    let ledger = tokens.ask(Method::GET, "vivadrop-state?restype=container&comp=list", Vec::new()).await;
    assert!(ledger.contains("drop.json") && ledger.contains("part-0.json.gz.json"), "{ledger}");
}

#[tokio::test]
async fn an_event_of_the_account_is_worked_on_by_the_identity_that_the_setting_names() {
    let mut tokens = Tokens::new().await;
    let identity = tokens.entra.user_assigned();
    tokens.scene.set("DropStorage__clientId", &identity);
    let drop = tokens.scene.drop(50, 1).await;
    let rows = tokens.scene.rows_of(&drop).await;
    tokens.upload(&drop).await;
    let host = tokens.scene.host().await;
    let path = utf8_percent_encode(&drop.path.blob(METADATA).name, IN_A_URL).to_string();
    let url = format!("{}/datasets/{path}", tokens.azurite.blob_endpoint());
    let answer = host.post(&crate::support::host_payloads::blob_trigger(&url, 1)).await;
    assert_eq!(answer.status, 200, "{}", answer.log);
    assert_complete(&tokens.scene.receiver.received(), &drop, &rows);
    assert_eq!(tokens.entra.token_requests(), [format!("managed {identity}")]);
}

#[tokio::test]
async fn rows_go_to_a_queue_of_the_account_by_the_same_identity() {
    let mut tokens = Tokens::new().await;
    tokens.scene.set("DELIVER_TO", "queue://rows");
    tokens.scene.settings.remove("WEBHOOK_SECRET");
    let drop = tokens.scene.drop(20, 1).await;
    let rows = tokens.scene.rows_of(&drop).await;
    tokens.upload(&drop).await;
    let ended = tokens.deliver(&drop).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);

    let url = format!("{}/rows/messages?numofmessages=32", tokens.azurite.queue_endpoint());
    let answer = tokens.ask_at(Method::GET, url, Vec::new()).await;
    let texts = answer.split("<MessageText>").skip(1).map(|rest| rest.split('<').next().unwrap());
    let messages = texts.map(|text| serde_json::from_slice(&BASE64_STANDARD.decode(text).unwrap()).unwrap());
    let messages: Vec<Value> = messages.collect();
    let delivered: usize = messages.iter().filter_map(|message| message["data"]["rows"].as_array()).map(Vec::len).sum();
    assert_eq!(delivered, rows.len());
    assert_eq!(messages.last().unwrap()["type"], "viva.insights.drop.completed");
    assert!(
        tokens.entra.token_requests().iter().all(|asked| asked == "managed"),
        "{:?}",
        tokens.entra.token_requests()
    );
}

#[tokio::test]
async fn an_account_that_cannot_be_asked_for_want_of_a_token_is_tried_again() {
    let tokens = Tokens::new().await;
    let drop = tokens.scene.drop(10, 1).await;
    tokens.upload(&drop).await;
    tokens.entra.fail(Some(400));
    let ended = tokens.deliver(&drop).await;
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    tokens.entra.fail(None);
    assert_eq!(tokens.deliver(&drop).await.code, Some(0));
}
