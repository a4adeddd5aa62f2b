//! The consumer of a storage queue, through the service's REST interface.

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use reqwest::{Method, Response};
use secrecy::ExposeSecret;
use serde_json::Value;
use testkit::receiver::Receiver;
use time::OffsetDateTime;
use vivadrop::store::azure::Account;

use super::{azurite::Azurite, schema};

/// The largest number of messages in one response of the service.
const MAX_MESSAGES: usize = 32;

/// Receives the messages of one queue.
pub(crate) struct QueueConsumer {
    pub(crate) name: String,
    url: String,
    access: Access,
    client: reqwest::Client,
}

/// How requests are authenticated.
enum Access {
    /// With a shared access signature of the account key.
    Key(Account),
    /// With a token of Microsoft Entra ID.
    Token(String),
}

/// A message that was in the queue.
#[derive(Debug, Clone)]
pub(crate) struct QueueMessage {
    /// The expiration time, as the service gives it.
    pub(crate) expires: String,
    /// The message text.
    pub(crate) base64: String,
    /// The decoded text: JSON.
    pub(crate) body: Bytes,
}

impl QueueMessage {
    /// The body, parsed.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

impl QueueConsumer {
    /// A consumer of a queue with a new name, which does not exist yet.
    pub(crate) fn new(azurite: &Azurite) -> Self {
        let name = azurite.unique_name("rows");
        let url = format!("{}/{name}", azurite.queue_endpoint());
        let account = Account::from_connection_string(&azurite.connection_string()).unwrap();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { name, url, access: Access::Key(account), client }
    }

    /// Like [`Self::new`], in an account that accepts tokens only.
    pub(crate) fn with_token(azurite: &Azurite, token: String, client: reqwest::Client) -> Self {
        let name = azurite.unique_name("rows");
        let url = format!("{}/{name}", azurite.queue_endpoint());
        Self { name, url, access: Access::Token(token), client }
    }

    /// `DELIVER_TO`.
    pub(crate) fn deliver_to(&self) -> String {
        format!("queue://{}", self.name)
    }

    /// The queue's URL with a shared access signature that is valid for an hour.
    pub(crate) fn signed_url(&self) -> String {
        let Access::Key(account) = &self.access else { panic!("signing needs the account key") };
        format!("{}?{}", self.url, account.shared_access_signature().unwrap().expose_secret())
    }

    /// Receives all messages, and hides them from later calls. A missing queue has none.
    pub(crate) async fn receive_all(&self) -> Vec<QueueMessage> {
        let mut all = Vec::new();
        loop {
            // Hidden for an hour: longer than any test runs.
            let query = format!("numofmessages={MAX_MESSAGES}&visibilitytimeout=3600");
            let answer = self.request(Method::GET, "/messages", &query).await;
            if answer.status() == 404 {
                return all;
            }
            assert_eq!(answer.status(), 200);
            let xml = answer.text().await.unwrap();
            let messages = xml.split("<QueueMessage>").skip(1).map(parse);
            let before = all.len();
            all.extend(messages);
            if all.len() == before {
                return all;
            }
        }
    }

    /// The approximate number of messages, including hidden ones.
    pub(crate) async fn count(&self) -> u64 {
        let answer = self.request(Method::GET, "", "comp=metadata").await;
        answer.headers()["x-ms-approximate-messages-count"].to_str().unwrap().parse().unwrap()
    }

    /// Posts `messages` to `receiver` as signed webhooks.
    pub(crate) async fn forward_to(&self, receiver: &Receiver, messages: &[QueueMessage]) {
        let signer = standardwebhooks::Webhook::new(receiver.secret().expose_secret()).unwrap();
        for message in messages {
            let id = message.json()["id"].as_str().unwrap().to_owned();
            let now = OffsetDateTime::now_utc().unix_timestamp();
            let signature = signer.sign(&id, now, &message.body).unwrap();
            let request = self
                .client
                .post(receiver.url())
                .header("webhook-id", id)
                .header("webhook-timestamp", now)
                .header("webhook-signature", signature);
            assert_eq!(request.body(message.body.clone()).send().await.unwrap().status(), 204);
        }
    }

    /// Deletes the queue with its messages.
    pub(crate) async fn delete(&self) {
        assert_eq!(self.request(Method::DELETE, "", "").await.status(), 204);
    }

    /// Sends an authenticated request to the queue.
    async fn request(&self, method: Method, path: &str, query: &str) -> Response {
        let url = format!("{}{path}?{query}", self.url);
        let request = match &self.access {
            Access::Key(account) => {
                let signature = account.shared_access_signature().unwrap();
                self.client.request(method, format!("{url}&{}", signature.expose_secret()))
            }
            Access::Token(token) => {
                self.client.request(method, url).bearer_auth(token).header("x-ms-version", "2021-12-02")
            }
        };
        request.send().await.unwrap()
    }
}

/// Parses a message of a response. Its body must match the schema.
fn parse(xml: &str) -> QueueMessage {
    let value = |name: &str| {
        let (_, rest) = xml.split_once(&format!("<{name}>")).unwrap();
        rest.split_once('<').unwrap().0.to_owned()
    };
    let base64 = value("MessageText");
    let body: Bytes = BASE64_STANDARD.decode(&base64).unwrap().into();
    schema::assert_valid(&body);
    QueueMessage { expires: value("ExpirationTime"), base64, body }
}
