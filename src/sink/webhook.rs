//! The sink for the partner's webhook: one signed POST request per message, by the Standard Webhooks specification.
//!
//! [`config`] validates URL and secret and signs, [`answer`] classifies the receiver's answers, and this file sends.

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
use tracing::debug;
use url::Url;

pub use self::config::{SecretError, UrlError, WebhookConfig, WebhookConfigError};
use self::{answer::Timeouts, config::Signer};
use crate::{
    message::Message,
    retry::RetryBudget,
    sink::{FailedTry, Sink},
    telemetry::{self, traceparent_for_webhooks},
};

const USER_AGENT: &str = concat!("vivadrop/", env!("CARGO_PKG_VERSION"));

/// The timeout for connecting, unless the timeout of the whole try is shorter.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How many bytes of a response body are read, and for how long, so that the connection can be reused. If the body is
/// larger or slower, the connection is closed.
const DRAINED_BYTES: usize = 64 * 1024;
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// The sink `https://…`.
pub struct Webhook {
    client: Client,
    url: Url,
    signer: Option<Signer>,
    gzip: bool,
    timeouts: Timeouts,
    retry_budget: RetryBudget,
}

/// The HTTP client cannot be created. Nothing is delivered.
#[derive(Debug, thiserror::Error)]
#[error("cannot create the HTTP client for the webhook: are the system's CA certificates installed?")]
pub struct InvalidClient(#[source] reqwest::Error);

impl Webhook {
    /// Creates the sink; does not connect yet.
    ///
    /// Uses the proxies of the environment (`HTTPS_PROXY`, `NO_PROXY`), except on loopback: messages to loopback may be
    /// unsigned and must not leave the machine.
    pub fn new(config: WebhookConfig) -> Result<Self, InvalidClient> {
        let timeouts = Timeouts { connect: CONNECT_TIMEOUT.min(config.timeout), whole: config.timeout };
        let client = Client::builder()
            .user_agent(USER_AGENT)
            .redirect(redirect::Policy::none())
            // With HTTP/1.1, a dead connection is closed with the one try that uses it. With HTTP/2 all tries would
            // share it, and a timeout does not close it.
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
            retry_budget: config.retry_budget,
        })
    }

    /// The request for one try. Each try has a new timestamp, because receivers reject timestamps older than 5 minutes.
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
        if let Some(traceparent) = traceparent_for_webhooks() {
            request = request.header("traceparent", traceparent);
        }
        request.body(body)
    }
}

#[async_trait]
impl Sink for Webhook {
    async fn try_deliver(&self, message: &Message) -> Result<(), FailedTry> {
        let body = if self.gzip { compress(message).await? } else { message.body.clone() };
        match telemetry::http::send(self.request(message, body)).await {
            Ok(response) => {
                let result = answer::classify(response.status(), response.headers());
                drain(response).await;
                result
            }
            Err(error) => Err(FailedTry::transient(answer::describe_failure(&error, &self.timeouts))),
        }
    }

    fn retry_budget(&self) -> RetryBudget {
        self.retry_budget
    }

    fn name(&self) -> String {
        config::name(&self.url)
    }
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhook")
            .field("origin", &config::origin(&self.url))
            .field("signed", &self.signer.is_some())
            .field("gzip", &self.gzip)
            .field("timeout", &self.timeouts.whole)
            .field("retry_budget", &self.retry_budget)
            .finish_non_exhaustive()
    }
}

/// Compresses the message with gzip. The fastest level takes a third of the time of the default, and its output is
/// little larger.
async fn compress(message: &Message) -> Result<Bytes, FailedTry> {
    let mut gzip = Vec::with_capacity(message.body.len() / 4);
    let mut encoder = GzipEncoder::with_quality(&message.body[..], Level::Fastest);
    match encoder.read_to_end(&mut gzip).await {
        Ok(_) => Ok(gzip.into()),
        // Reading from memory does not fail. If it does, the message is not at fault, so it is retried.
        Err(error) => Err(FailedTry::transient(format!("compressing it failed: {error}"))),
    }
}

/// Reads and discards the response body, so that the connection can be reused. Errors are ignored: the status is known.
async fn drain(mut response: Response) {
    let read = async {
        let mut bytes = 0;
        while let Ok(Some(chunk)) = response.chunk().await {
            bytes += chunk.len();
            if bytes > DRAINED_BYTES {
                break;
            }
        }
    };
    if tokio::time::timeout(DRAIN_TIMEOUT, read).await.is_err() {
        debug!("the receiver did not finish its response in time; the connection is closed");
    }
}
