//! The partner's webhook: one signed POST a message, as the Standard Webhooks specification has it.
//!
//! Knows HTTP and what its answers mean, and nothing of rows. [`config`] says which URLs and secrets are usable,
//! [`answer`] what an answer means; this file sends.

mod answer;
mod config;

use std::{fmt, time::Duration};

use async_compression::{Level, tokio::bufread::GzipEncoder};
use async_trait::async_trait;
use bytes::Bytes;
use reqwest::{Client, RequestBuilder, Response, header, redirect};
use standardwebhooks::{HEADER_WEBHOOK_ID, HEADER_WEBHOOK_SIGNATURE, HEADER_WEBHOOK_TIMESTAMP};
use time::OffsetDateTime;
use tokio::io::AsyncReadExt;
use tracing::{debug, warn};
use url::Url;

pub use self::config::{SecretError, UrlError, WebhookConfig, WebhookConfigError};
use self::{answer::Timeouts, config::Signer};
use crate::{
    message::{Message, MessageId},
    retry::{Attempt, GaveUp, RetryBudget, retry},
    sink::{Sink, SinkError},
};

const USER_AGENT: &str = concat!("vivadrop/", env!("CARGO_PKG_VERSION"));

/// How long a connection may take to stand, unless the whole try has less.
const LONGEST_CONNECT: Duration = Duration::from_secs(10);

/// How much of an answer's body is read so that its connection can be used again, and for how long. A receiver that has
/// more to say is hung up on.
const LONGEST_BODY: usize = 64 * 1024;
const LONGEST_READ: Duration = Duration::from_secs(2);

/// The webhook sink.
pub struct Webhook {
    client: Client,
    url: Url,
    signer: Option<Signer>,
    gzip: bool,
    timeouts: Timeouts,
    patience: RetryBudget,
}

/// There is no HTTP client on this machine. Nothing is delivered.
#[derive(Debug, thiserror::Error)]
#[error("cannot set up the webhook's HTTP client: are the system's CA certificates installed?")]
pub struct InvalidClient(#[source] reqwest::Error);

impl Webhook {
    /// Sets up the sink; connects to nothing yet.
    ///
    /// The proxies of the environment (`HTTPS_PROXY`, `NO_PROXY`) are honoured, but on loopback, where what is sent
    /// may be unsigned and is not to leave the machine.
    pub fn new(config: WebhookConfig) -> Result<Self, InvalidClient> {
        let timeouts = Timeouts { connect: LONGEST_CONNECT.min(config.timeout), whole: config.timeout };
        let client = Client::builder()
            .user_agent(USER_AGENT)
            .redirect(redirect::Policy::none())
            // A connection that died without a word goes with the one try that finds out. With HTTP/2 every try shares
            // it, and a timeout does not end it.
            .http1_only()
            .connect_timeout(timeouts.connect)
            .timeout(timeouts.whole);
        let client = if config.is_loopback() { client.no_proxy() } else { client };
        Ok(Self {
            client: client.build().map_err(InvalidClient)?,
            url: config.url,
            signer: config.signer,
            gzip: config.gzip,
            timeouts,
            patience: config.patience,
        })
    }

    /// One try, from timestamp to answer.
    async fn attempt(&self, message: &Message, body: Bytes, number: u32) -> Attempt<(), String> {
        let attempt = match self.request(message, body).send().await {
            Ok(response) => {
                let attempt = answer::of_status(response.status(), response.headers());
                read_to_end(response).await;
                attempt
            }
            Err(error) => Attempt::Transient(answer::of_failure(&error, &self.timeouts), None),
        };
        if let Attempt::Transient(answer, _) = &attempt {
            self.log_try(&message.id, number, answer);
        }
        attempt
    }

    /// The request for one try: signed afresh, since receivers refuse a timestamp older than five minutes.
    fn request(&self, message: &Message, body: Bytes) -> RequestBuilder {
        let timestamp = OffsetDateTime::now_utc().unix_timestamp();
        let mut request = self
            .client
            .post(self.url.clone())
            .header(header::CONTENT_TYPE, "application/json")
            .header(HEADER_WEBHOOK_ID, message.id.as_str())
            .header(HEADER_WEBHOOK_TIMESTAMP, timestamp);
        if let Some(signer) = &self.signer {
            let signature = signer.sign(message.id.as_str(), timestamp, &message.body);
            request = request.header(HEADER_WEBHOOK_SIGNATURE, signature);
        }
        if self.gzip {
            request = request.header(header::CONTENT_ENCODING, "gzip");
        }
        request.body(body)
    }

    /// Says once that a message has to be tried again; how it ends is logged where its verdict is given.
    fn log_try(&self, id: &MessageId, number: u32, answer: &str) {
        let url = config::shown(&self.url);
        if number == 1 {
            let patience = self.patience.total.as_secs();
            warn!(webhook.id = %id, %url, answer, "the receiver did not take `{id}`, trying for up to {patience} s: {answer}");
        } else {
            debug!(webhook.id = %id, %url, answer, number, "the receiver did not take `{id}` in try {number}: {answer}");
        }
    }
}

#[async_trait]
impl Sink for Webhook {
    async fn deliver(&self, message: &Message) -> Result<(), SinkError> {
        let body = if self.gzip { compressed(message).await? } else { message.body.clone() };
        let end = retry(self.patience, |number| self.attempt(message, body.clone(), number)).await;
        end.map_err(|gave_up| {
            let id = message.id.to_string();
            match gave_up {
                GaveUp::Permanent(answer) => SinkError::Refused { id, answer },
                GaveUp::BudgetSpent(answer, tries) => SinkError::Unavailable { id, tries, answer },
            }
        })
    }
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhook")
            .field("url", &config::shown(&self.url))
            .field("signed", &self.signer.is_some())
            .field("gzip", &self.gzip)
            .field("timeout", &self.timeouts.whole)
            .field("patience", &self.patience)
            .finish_non_exhaustive()
    }
}

/// The message's text as gzip. The fastest level takes a third of the default's time, for a few more bytes.
async fn compressed(message: &Message) -> Result<Bytes, SinkError> {
    let mut gzip = Vec::with_capacity(message.body.len() / 4);
    let mut encoder = GzipEncoder::with_quality(&message.body[..], Level::Fastest);
    match encoder.read_to_end(&mut gzip).await {
        Ok(_) => Ok(gzip.into()),
        // There is nothing in memory that could fail; if it does, it is no fault of the message.
        Err(error) => Err(SinkError::Unavailable {
            id: message.id.to_string(),
            tries: 0,
            answer: format!("cannot be compressed: {error}"),
        }),
    }
}

/// Reads what else the receiver says, and forgets it. The answer was given with the status, so nothing can fail here.
async fn read_to_end(mut response: Response) {
    let mut left = LONGEST_BODY;
    let read = async {
        while let Ok(Some(chunk)) = response.chunk().await {
            let Some(rest) = left.checked_sub(chunk.len()) else {
                break;
            };
            left = rest;
        }
    };
    if tokio::time::timeout(LONGEST_READ, read).await.is_err() {
        debug!("the receiver did not end its answer; its connection is closed");
    }
}
