//! A queue as its consumer has it, by the service's REST interface.

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use reqwest::{Method, Response};
use secrecy::ExposeSecret;
use serde_json::Value;
use testkit::receiver::Receiver;
use time::OffsetDateTime;
use vivadrop::store::azure::Account;

use super::{azurite::Azurite, schema};

/// How many messages the service hands out at once, at most.
const MOST: usize = 32;

/// The consumer's end of a queue.
pub(crate) struct QueueEnd {
    pub(crate) name: String,
    url: String,
    access: Access,
    client: reqwest::Client,
}

/// What opens a queue.
enum Access {
    Key(Account),
    /// A token of Microsoft Entra ID.
    Token(String),
}

/// A message as it lay in the queue.
#[derive(Debug, Clone)]
pub(crate) struct Taken {
    /// What the service says when it expires.
    pub(crate) expires: String,
    /// Its text.
    pub(crate) base64: String,
    /// The JSON in it.
    pub(crate) body: Bytes,
}

impl Taken {
    /// The JSON, parsed.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

impl QueueEnd {
    /// A queue that nobody has made yet.
    pub(crate) fn fresh(azurite: &Azurite) -> Self {
        let name = azurite.fresh_name("rows");
        let url = format!("{}/{name}", azurite.queue_endpoint());
        let account = Account::from_connection_string(&azurite.connection_string()).unwrap();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { name, url, access: Access::Key(account), client }
    }

    /// The same in an account that takes tokens alone.
    pub(crate) fn fresh_with_token(azurite: &Azurite, token: String, client: reqwest::Client) -> Self {
        let name = azurite.fresh_name("rows");
        let url = format!("{}/{name}", azurite.queue_endpoint());
        Self { name, url, access: Access::Token(token), client }
    }

    /// `DELIVER_TO`.
    pub(crate) fn deliver_to(&self) -> String {
        format!("queue://{}", self.name)
    }

    /// Its address, with a signature that opens it for an hour.
    pub(crate) fn signed_url(&self) -> String {
        let Access::Key(account) = &self.access else { panic!("a token signs nothing") };
        format!("{}?{}", self.url, account.shared_access_signature().unwrap().expose_secret())
    }

    /// Takes all messages out of the queue; one that is not there has none.
    pub(crate) async fn take_all(&self) -> Vec<Taken> {
        let mut all = Vec::new();
        loop {
            // Nobody else reads: what is not seen for an hour is gone for the test.
            let query = format!("numofmessages={MOST}&visibilitytimeout=3600");
            let answer = self.ask(Method::GET, "/messages", &query).await;
            if answer.status() == 404 {
                return all;
            }
            assert_eq!(answer.status(), 200);
            let xml = answer.text().await.unwrap();
            let messages = xml.split("<QueueMessage>").skip(1).map(taken);
            let before = all.len();
            all.extend(messages);
            if all.len() == before {
                return all;
            }
        }
    }

    /// How many messages are in it, hidden ones counted.
    pub(crate) async fn count(&self) -> u64 {
        let answer = self.ask(Method::GET, "", "comp=metadata").await;
        answer.headers()["x-ms-approximate-messages-count"].to_str().unwrap().parse().unwrap()
    }

    /// Posts `messages` to `receiver`, signed, as a consumer would that hands them on.
    pub(crate) async fn hand_to(&self, receiver: &Receiver, messages: &[Taken]) {
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

    /// Deletes the queue, and what is in it.
    pub(crate) async fn delete(&self) {
        assert_eq!(self.ask(Method::DELETE, "", "").await.status(), 204);
    }

    async fn ask(&self, method: Method, path: &str, query: &str) -> Response {
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

fn taken(xml: &str) -> Taken {
    let value = |name: &str| {
        let (_, behind) = xml.split_once(&format!("<{name}>")).unwrap();
        behind.split_once('<').unwrap().0.to_owned()
    };
    let base64 = value("MessageText");
    let body: Bytes = BASE64_STANDARD.decode(&base64).unwrap().into();
    schema::assert_valid(&body);
    Taken { expires: value("ExpirationTime"), base64, body }
}
