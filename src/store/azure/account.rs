//! A storage account: where its services are, and what opens them.
//!
//! Knows connection strings and identities; the blob store and a queue sink are built on the same account. What
//! opens it is put on a request on its way out (the SDK's logs redact it), and is in no error and no Debug output.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use azure_core::{
    credentials::TokenCredential,
    http::{
        ClientOptions, Context, ExponentialRetryOptions, Request, RetryOptions, Transport,
        policies::{Policy, PolicyResult},
    },
};
use secrecy::{ExposeSecret, SecretString};
use time::OffsetDateTime;
use url::Url;

use super::{
    connection_string::ConnectionString,
    endpoint::{endpoints, https, sibling},
    signature::AccountKey,
};
use crate::{identity::Identity, loopback::is_loopback};

/// How long one try may take to reach the account.
const CONNECT: Duration = Duration::from_secs(5);
/// How long one try may hear nothing, before the answer or in the middle of it.
const SILENCE: Duration = Duration::from_secs(10);

/// The account of every emulator, and its key: published at <https://learn.microsoft.com/azure/storage/common/storage-use-azurite>.
const DEVELOPMENT: &str = "AccountName=devstoreaccount1;\
    AccountKey=Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==;\
    BlobEndpoint=http://127.0.0.1:10000/devstoreaccount1;QueueEndpoint=http://127.0.0.1:10001/devstoreaccount1";

/// A storage account and the right to use it.
#[derive(Clone)]
pub struct Account {
    pub(super) blob: Url,
    queue: Option<Url>,
    pub(super) access: Access,
    http: reqwest::Client,
}

/// What opens an account.
#[derive(Clone)]
pub(super) enum Access {
    Key(Arc<AccountKey>),
    Signature(SecretString),
    Identity(Arc<dyn TokenCredential>),
}

/// Why a text names no storage account. Says what is wrong, never what the text is.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// Not one known `Name=value`.
    #[error("expected a connection string, such as AccountName=…;AccountKey=… or UseDevelopmentStorage=true")]
    NoConnectionString,
    /// Something cannot be left out.
    #[error("the connection string has no {0}")]
    Lacks(&'static str),
    /// One of the two has to go.
    #[error("the connection string has {0} twice")]
    Twice(&'static str),
    /// One of the two has to go.
    #[error("the connection string has both {0} and {1}: keep one")]
    Both(&'static str, &'static str),
    /// A value has not the form it should have.
    #[error("{name} is not usable: expected {expected}")]
    Unusable {
        /// Which value.
        name: &'static str,
        /// What it should be.
        expected: &'static str,
    },
    /// The identity cannot be set up on this machine.
    #[error("the identity is not usable")]
    Identity(#[source] azure_core::Error),
    /// TLS cannot be set up on this machine.
    #[error("cannot set up HTTPS")]
    Http(#[source] reqwest::Error),
}

impl Account {
    /// The account of a connection string: with an account key, with a SAS, or `UseDevelopmentStorage=true`.
    pub fn from_connection_string(text: &str) -> Result<Self, AccountError> {
        let given = ConnectionString::parse(text)?;
        if given.get("DevelopmentStorageProxyUri").is_some() {
            return Err(AccountError::Unusable {
                name: "DevelopmentStorageProxyUri",
                expected: "the emulator's address as BlobEndpoint",
            });
        }
        match given.get("UseDevelopmentStorage") {
            Some(value) if value.eq_ignore_ascii_case("true") => return Self::from_connection_string(DEVELOPMENT),
            Some(_) => {
                return Err(AccountError::Unusable { name: "UseDevelopmentStorage", expected: "true, or nothing" });
            }
            None => {}
        }
        let access = match (given.get("AccountKey"), given.get("SharedAccessSignature")) {
            (Some(_), Some(_)) => return Err(AccountError::Both("AccountKey", "SharedAccessSignature")),
            (Some(key), None) => account_key(&given, key)?,
            (None, Some(token)) => shared_access_signature(token)?,
            (None, None) => return Err(AccountError::Lacks("AccountKey and no SharedAccessSignature")),
        };
        let (blob, queue) = endpoints(&given)?;
        let http = http_client(is_loopback(&blob))?;
        Ok(Self { blob, queue, access, http })
    }

    /// The account at `blob_service_uri`, by `identity`. Both URIs are `https`; the queue service's is derived from the blob
    /// service's where it is not given.
    pub fn with_identity(
        blob_service_uri: &str,
        queue_service_uri: Option<&str>,
        identity: &Identity,
    ) -> Result<Self, AccountError> {
        let blob = https("blobServiceUri", blob_service_uri)?;
        let queue = match queue_service_uri {
            Some(uri) => Some(https("queueServiceUri", uri)?),
            None => sibling(&blob, "queue"),
        };
        Self::by_identity(blob, queue, identity)
    }

    /// The queues at `queue_service_uri`, by `identity`. Nothing is known of the account's blobs.
    pub fn queues_with_identity(queue_service_uri: &str, identity: &Identity) -> Result<Self, AccountError> {
        let queue = https("queueServiceUri", queue_service_uri)?;
        Self::by_identity(queue.clone(), Some(queue), identity)
    }

    fn by_identity(blob: Url, queue: Option<Url>, identity: &Identity) -> Result<Self, AccountError> {
        let http = http_client(is_loopback(&blob))?;
        let identity = identity.credential(client_options(&http, None)).map_err(AccountError::Identity)?;
        Ok(Self { blob, queue, access: Access::Identity(identity), http })
    }

    /// Where the blob service is: no slash at the end, no query.
    pub fn blob_endpoint(&self) -> &Url {
        &self.blob
    }

    /// Where the queue service is, when that is known.
    pub fn queue_endpoint(&self) -> Option<&Url> {
        self.queue.as_ref()
    }

    /// What the constructor of an SDK client takes as its credential: the identity's, or nothing where
    /// [`Self::client_options`] signs.
    pub fn credential(&self) -> Option<Arc<dyn TokenCredential>> {
        match &self.access {
            Access::Identity(identity) => Some(Arc::clone(identity)),
            Access::Key(_) | Access::Signature(_) => None,
        }
    }

    /// What every SDK client of this account is built with: bounded tries, nothing decompressed, requests signed.
    pub fn client_options(&self) -> ClientOptions {
        client_options(&self.http, Some(self.clone()))
    }

    /// The query string that opens the account now: its SAS, or one that its key signs. `None` for an identity.
    pub fn shared_access_signature(&self) -> Option<SecretString> {
        match &self.access {
            Access::Key(key) => {
                let protocol = if self.blob.scheme() == "http" { "https,http" } else { "https" };
                Some(key.sign(protocol, OffsetDateTime::now_utc()))
            }
            Access::Signature(signature) => Some(signature.clone()),
            Access::Identity(_) => None,
        }
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let access = match &self.access {
            Access::Key(_) => "account key",
            Access::Signature(_) => "SAS",
            Access::Identity(_) => "identity",
        };
        f.debug_struct("Account").field("blob", &self.blob.as_str()).field("access", &access).finish_non_exhaustive()
    }
}

/// Puts the SAS on the URL of a request, once a call: an account key signs anew each time, so none ever runs out.
#[async_trait]
impl Policy for Account {
    async fn send(&self, context: &Context, request: &mut Request, next: &[Arc<dyn Policy>]) -> PolicyResult {
        if let Some(signature) = self.shared_access_signature() {
            let url = request.url_mut();
            let query = match url.query() {
                Some(query) if !query.is_empty() => format!("{query}&{}", signature.expose_secret()),
                _ => signature.expose_secret().to_owned(),
            };
            url.set_query(Some(&query));
        }
        next[0].send(context, request, &next[1..]).await
    }
}

fn client_options(http: &reqwest::Client, signing: Option<Account>) -> ClientOptions {
    ClientOptions {
        transport: Some(Transport::new(Arc::new(http.clone()))),
        retry: RetryOptions::exponential(ExponentialRetryOptions {
            initial_delay: azure_core::time::Duration::milliseconds(250),
            max_retries: 3,
            max_total_elapsed: azure_core::time::Duration::seconds(20),
            max_delay: azure_core::time::Duration::seconds(5),
        }),
        per_call_policies: signing.map(|account| Arc::new(account) as Arc<dyn Policy>).into_iter().collect(),
        ..ClientOptions::default()
    }
}

/// A drop's bytes are counted and decrypted as they are stored, so a `Content-Encoding` is left alone.
fn http_client(loopback: bool) -> Result<reqwest::Client, AccountError> {
    let client = reqwest::Client::builder()
        .connect_timeout(CONNECT)
        .read_timeout(SILENCE)
        .redirect(reqwest::redirect::Policy::none())
        .no_gzip()
        .no_deflate()
        .no_brotli()
        .no_zstd();
    let client = if loopback { client.no_proxy() } else { client };
    client.build().map_err(AccountError::Http)
}

fn account_key(given: &ConnectionString<'_>, key: &str) -> Result<Access, AccountError> {
    let name = given.get("AccountName").ok_or(AccountError::Lacks("AccountName"))?;
    let key = AccountKey::new(name.to_owned(), key)
        .ok_or(AccountError::Unusable { name: "AccountKey", expected: "Base64, as the portal shows it" })?;
    Ok(Access::Key(Arc::new(key)))
}

fn shared_access_signature(token: &str) -> Result<Access, AccountError> {
    let token = token.strip_prefix('?').unwrap_or(token);
    let is_signed = token.split('&').any(|pair| pair.starts_with("sig="));
    if !is_signed || token.contains(|c: char| !c.is_ascii_graphic() || c == '#') {
        return Err(AccountError::Unusable {
            name: "SharedAccessSignature",
            expected: "sv=…&sig=…, as the portal shows it",
        });
    }
    Ok(Access::Signature(token.to_owned().into()))
}

#[cfg(test)]
mod tests;
