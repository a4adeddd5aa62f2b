//! The sink for a queue or topic of Azure Service Bus: sends each message with one POST request of the REST interface.
//! <https://learn.microsoft.com/rest/api/servicebus/send-message-to-queue>
//!
//! The id of a message becomes its `MessageId`, so an entity with duplicate detection drops a message that is sent
//! again. `address` has the address of the entity, `shared_access` signs requests with a key, `answer` classifies the
//! service's answers, `properties` reads the properties of the entity for `vivadrop check`, and this file sends.
//!
//! The crate `azure_messaging_servicebus` on the registry is the retired line of the SDK, and its successor is not
//! released. Once it is, it can replace this file, `shared_access` and `answer`.

mod address;
mod answer;
mod properties;
mod shared_access;

use std::{
    fmt,
    num::NonZeroUsize,
    sync::Arc,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use azure_core::credentials::TokenCredential;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{Client, RequestBuilder, Response, StatusCode, header, redirect};
use serde::Serialize;
use tokio::time::timeout;
use url::Url;

pub use self::{
    address::{EntityAddress, InvalidAddress},
    properties::EntityProperties,
    shared_access::{InvalidConnectionString, SharedAccessKey},
};
use crate::{
    http_response::{StatusClass, bounded_body},
    identity::TokenError,
    loopback::is_loopback,
    message::Message,
    retry::RetryBudget,
    sink::{FailedTry, Sink},
    telemetry,
};

const USER_AGENT: &str = concat!("vivadrop/", env!("CARGO_PKG_VERSION"));

/// The scope of tokens, in every Azure cloud.
const SCOPE: &str = "https://servicebus.azure.net/.default";

/// The timeout of one try until the status is known, including the request for a token.
const TRY_TIMEOUT: Duration = Duration::from_secs(30);

/// The timeout for the body of a response, after its status is known.
const BODY_TIMEOUT: Duration = Duration::from_secs(5);

/// The timeout for connecting.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The part of a message that is reserved for its properties: the longest drop path takes 9 KiB.
const PROPERTIES: usize = 16 << 10;

/// The maximum size of a message's JSON in the standard tier, which accepts 256 KiB with properties.
/// <https://learn.microsoft.com/azure/service-bus-messaging/service-bus-quotas>
const LARGEST_STANDARD: NonZeroUsize = NonZeroUsize::new((256 << 10) - PROPERTIES).unwrap();

/// The maximum size of a message's JSON in the premium tier, which accepts 1 MiB over HTTP.
const LARGEST_PREMIUM: NonZeroUsize = NonZeroUsize::new((1 << 20) - PROPERTIES).unwrap();

/// The session of the messages that are about no tenant.
const NO_TENANT: &str = "vivadrop";

/// The characters of a drop path that are percent-encoded: all but unreserved characters and slashes.
const ENCODED_IN_DROP: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

/// The configuration of the Service Bus sink.
#[derive(Debug)]
pub struct ServiceBusConfig {
    /// The queue or topic.
    pub address: EntityAddress,
    /// The key of the connection string in `ServiceBus`; without it, the app's identity requests tokens.
    pub key: Option<SharedAccessKey>,
    /// How long a message is retried (`DELIVERY_PATIENCE`).
    pub retry_budget: RetryBudget,
    largest_message: NonZeroUsize,
}

impl ServiceBusConfig {
    /// The entity at `address`, with messages for the standard tier, and retries for 4 minutes.
    pub fn new(address: EntityAddress, key: Option<SharedAccessKey>) -> Self {
        let retry_budget = RetryBudget::lasting(Duration::from_secs(4 * 60));
        Self { address, key, retry_budget, largest_message: LARGEST_STANDARD }
    }

    /// Allows the messages of the premium tier if batches of `batch_bytes` do not fit into the standard tier. The tier
    /// is not a setting of its own.
    #[must_use]
    pub fn for_batches(self, batch_bytes: NonZeroUsize) -> Self {
        let largest_message = if batch_bytes > LARGEST_STANDARD { LARGEST_PREMIUM } else { LARGEST_STANDARD };
        Self { largest_message, ..self }
    }
}

/// The sink `servicebus://<namespace>/<queue or topic>`.
pub struct ServiceBus {
    client: Client,
    address: EntityAddress,
    messages_url: Url,
    access: Access,
    retry_budget: RetryBudget,
    largest_message: NonZeroUsize,
}

/// How requests are authenticated.
enum Access {
    /// With tokens of the app's identity.
    Identity(Arc<dyn TokenCredential>),
    /// With signatures of a key.
    Key(SharedAccessKey),
}

/// The HTTP client cannot be created. Nothing is delivered.
#[derive(Debug, thiserror::Error)]
#[error("cannot create the HTTP client for Service Bus: are the system's CA certificates installed?")]
pub struct InvalidClient(#[source] reqwest::Error);

/// The answer to a request for an entity's properties.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Inspection {
    /// The entity exists.
    Found(EntityProperties),
    /// The namespace has no such queue or topic.
    Missing,
    /// The identity or the key may not read properties. It may be allowed to send all the same.
    NotPermitted,
}

/// The broker properties of a message.
/// <https://learn.microsoft.com/rest/api/servicebus/message-headers-and-properties>
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct BrokerProperties<'a> {
    message_id: &'a str,
    label: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    session_id: Option<String>,
}

impl ServiceBus {
    /// Creates the sink; does not connect yet. `credential` is that of the app's identity; it is used if the
    /// configuration has no key.
    pub fn new(config: ServiceBusConfig, credential: Arc<dyn TokenCredential>) -> Result<Self, InvalidClient> {
        let client = Client::builder()
            .user_agent(USER_AGENT)
            .redirect(redirect::Policy::none())
            // As for the webhook: with HTTP/2, all tries would share one connection, which a timeout does not close.
            .http1_only()
            .connect_timeout(CONNECT_TIMEOUT);
        let client = if is_loopback(&config.address.messages_url()) { client.no_proxy() } else { client };
        Ok(Self::with_http_client(client.build().map_err(InvalidClient)?, config, credential))
    }

    /// As [`Self::new`], with the caller's HTTP client.
    pub fn with_http_client(client: Client, config: ServiceBusConfig, credential: Arc<dyn TokenCredential>) -> Self {
        Self {
            client,
            messages_url: config.address.messages_url(),
            address: config.address,
            access: config.key.map_or(Access::Identity(credential), Access::Key),
            retry_budget: config.retry_budget,
            largest_message: config.largest_message,
        }
    }

    /// The queue or topic.
    pub fn address(&self) -> &EntityAddress {
        &self.address
    }

    /// Whether the session of a message is its tenant (`?session=tenant`).
    pub fn has_tenant_sessions(&self) -> bool {
        self.address.tenant_sessions
    }

    /// Reads the properties of the entity, in one try. The identity or the key needs the right *Manage* for this, which
    /// is not needed to deliver.
    pub async fn inspect(&self) -> Result<Inspection, FailedTry> {
        let response = self.exchange(self.client.get(self.address.management_url())).await?;
        let (status, headers) = (response.status(), response.headers().clone());
        let body = body_of(response).await;
        match status {
            StatusCode::NOT_FOUND | StatusCode::GONE => return Ok(Inspection::Missing),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => return Ok(Inspection::NotPermitted),
            status if status.is_success() => {}
            status => return Err(answer::classify(status, &headers, &body)),
        }
        match EntityProperties::parse(&body) {
            Ok(Some(properties)) => Ok(Inspection::Found(properties)),
            Ok(None) => Ok(Inspection::Missing),
            Err(_) => Err(FailedTry {
                class: StatusClass::Service,
                answer: "the answer describes no queue or topic".into(),
                retry_after: None,
            }),
        }
    }

    /// Authorizes and sends `request` once; returns the response before its body is read.
    async fn exchange(&self, request: RequestBuilder) -> Result<Response, FailedTry> {
        let exchange = async {
            let request = self.authorized(request).await?;
            telemetry::http::send(request).await.map_err(|error| no_answer(&error))
        };
        let elapsed = |_| FailedTry::transient(format!("no answer in {} s", TRY_TIMEOUT.as_secs()));
        timeout(TRY_TIMEOUT, exchange).await.map_err(elapsed)?
    }

    /// The request that sends `message`, without authorization.
    fn request(&self, message: &Message) -> RequestBuilder {
        let tenant = message.tenant.map_or_else(|| NO_TENANT.to_owned(), |tenant| tenant.to_string());
        let properties = BrokerProperties {
            message_id: message.id.as_str(),
            label: message.kind,
            session_id: self.address.tenant_sessions.then_some(tenant),
        };
        let properties = serde_json::to_string(&properties).expect("strings can always be serialized");
        let mut request = self
            .client
            .post(self.messages_url.clone())
            .header(header::CONTENT_TYPE, "application/json")
            // `sink::deliver` retries, within its own time limit.
            .header("x-ms-retrypolicy", "NoRetry")
            .header("BrokerProperties", properties);
        if let Some(drop) = &message.drop {
            // Each custom property is a header of its own. The value of a string property is in quotation marks.
            let path = utf8_percent_encode(drop, ENCODED_IN_DROP);
            request = request.header("drop", format!("\"{path}\""));
        }
        request.body(message.body.clone())
    }

    /// Adds a token or a signature to `request`.
    async fn authorized(&self, request: RequestBuilder) -> Result<RequestBuilder, FailedTry> {
        match &self.access {
            Access::Key(key) => Ok(request.header(header::AUTHORIZATION, key.authorization(SystemTime::now()))),
            Access::Identity(credential) => {
                let token = credential.get_token(&[SCOPE], None).await;
                let token = token.map_err(|error| FailedTry::without_token(&TokenError::of(&error), "ServiceBus"))?;
                Ok(request.bearer_auth(token.token.secret()))
            }
        }
    }
}

#[async_trait]
impl Sink for ServiceBus {
    async fn try_deliver(&self, message: &Message) -> Result<(), FailedTry> {
        let (bytes, largest) = (message.body.len(), self.largest_message.get());
        if bytes > largest {
            let limit = format!("it has {bytes} bytes; the limit of Service Bus with its properties is {largest}");
            return Err(FailedTry::rejected(limit));
        }
        let response = self.exchange(self.request(message)).await?;
        let (status, headers) = (response.status(), response.headers().clone());
        // The body is read after a success as well, so that the connection can be reused.
        let body = body_of(response).await;
        if status.is_success() { Ok(()) } else { Err(answer::classify(status, &headers, &body)) }
    }

    fn retry_budget(&self) -> RetryBudget {
        self.retry_budget
    }

    fn name(&self) -> String {
        format!("the Service Bus entity {}", self.address)
    }

    fn largest_message(&self) -> Option<NonZeroUsize> {
        Some(self.largest_message)
    }

    fn as_service_bus(&self) -> Option<&ServiceBus> {
        Some(self)
    }
}

impl fmt::Debug for ServiceBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceBus")
            .field("address", &self.address)
            .field("has_key", &matches!(self.access, Access::Key(_)))
            .field("retry_budget", &self.retry_budget)
            .finish_non_exhaustive()
    }
}

/// The body of a response; empty if it is too large, too slow or incomplete. The status decides what the response
/// means, so this is no failure.
async fn body_of(response: Response) -> Vec<u8> {
    match timeout(BODY_TIMEOUT, bounded_body(response)).await {
        Ok(Ok(Some(body))) => body,
        Ok(Ok(None) | Err(_)) | Err(_) => Vec::new(),
    }
}

/// The failure of a request without a response, described by its innermost cause. The error itself is not used, because
/// it repeats the URL.
fn no_answer(error: &reqwest::Error) -> FailedTry {
    let error: &dyn std::error::Error = error;
    let innermost = std::iter::successors(Some(error), |error| error.source()).last();
    FailedTry::transient(innermost.map_or_else(String::new, ToString::to_string))
}
