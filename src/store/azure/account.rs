//! A storage account: the endpoints of its services, and the credential for them.
//!
//! The credential is an account key, a SAS or an identity. The blob store and the queue sink share an [`Account`]. Key
//! and SAS are added to each request just before it is sent (the SDK's logs redact them), and never appear in an error
//! or in `Debug` output.

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
    account_error::AccountError,
    connection_string::ConnectionString,
    endpoint::{endpoints, parse_https_endpoint, sibling},
    shared_key::SharedKey,
    signature::AccountKey,
};
use crate::{identity::Identity, loopback::is_loopback, telemetry};

/// Time limit for connecting, per try.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest time without a byte, before or within a response, per try.
const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// The well-known account and key of every emulator:
/// <https://learn.microsoft.com/azure/storage/common/storage-use-azurite>.
const DEVELOPMENT: &str = "AccountName=devstoreaccount1;\
    AccountKey=Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==;\
    BlobEndpoint=http://127.0.0.1:10000/devstoreaccount1;QueueEndpoint=http://127.0.0.1:10001/devstoreaccount1";

/// A storage account and a credential for it.
#[derive(Clone)]
pub struct Account {
    pub(super) blob: Url,
    queue: Option<Url>,
    pub(super) credential: Credential,
    http: reqwest::Client,
}

/// The credential for an account.
#[derive(Clone)]
pub(super) enum Credential {
    AccountKey(Arc<AccountKey>),
    Sas(SecretString),
    Identity(Arc<dyn TokenCredential>),
}

impl Account {
    /// The account of a connection string: with an account key, with a SAS, or `UseDevelopmentStorage=true`.
    pub fn from_connection_string(text: &str) -> Result<Self, AccountError> {
        let connection = ConnectionString::parse(text)?;
        if connection.get("DevelopmentStorageProxyUri").is_some() {
            return Err(AccountError::InvalidValue {
                name: "DevelopmentStorageProxyUri",
                expected: "the emulator's address as BlobEndpoint",
            });
        }
        match connection.get("UseDevelopmentStorage") {
            Some(value) if value.eq_ignore_ascii_case("true") => return Self::from_connection_string(DEVELOPMENT),
            Some(_) => {
                return Err(AccountError::InvalidValue { name: "UseDevelopmentStorage", expected: "true, or nothing" });
            }
            None => {}
        }
        let credential = match (connection.get("AccountKey"), connection.get("SharedAccessSignature")) {
            (Some(_), Some(_)) => return Err(AccountError::Conflict("AccountKey", "SharedAccessSignature")),
            (Some(key), None) => parse_account_key(&connection, key)?,
            (None, Some(token)) => parse_sas(token)?,
            (None, None) => return Err(AccountError::Missing("AccountKey and no SharedAccessSignature")),
        };
        let (blob, queue) = endpoints(&connection)?;
        let http = http_client(is_loopback(&blob))?;
        Ok(Self { blob, queue, credential, http })
    }

    /// The account at `blob_service_uri`, opened by `identity`. Both URIs must be `https`. If `queue_service_uri` is
    /// not given, it is derived from `blob_service_uri`.
    pub fn with_identity(
        blob_service_uri: &str,
        queue_service_uri: Option<&str>,
        identity: &Identity,
    ) -> Result<Self, AccountError> {
        let blob = parse_https_endpoint("blobServiceUri", blob_service_uri)?;
        let queue = match queue_service_uri {
            Some(uri) => Some(parse_https_endpoint("queueServiceUri", uri)?),
            None => sibling(&blob, "queue"),
        };
        Self::from_identity(blob, queue, identity)
    }

    /// The account whose queue service is at `queue_service_uri`, opened by `identity`. It is used for queues only,
    /// because its blob endpoint is unknown.
    pub fn queues_with_identity(queue_service_uri: &str, identity: &Identity) -> Result<Self, AccountError> {
        let queue = parse_https_endpoint("queueServiceUri", queue_service_uri)?;
        Self::from_identity(queue.clone(), Some(queue), identity)
    }

    fn from_identity(blob: Url, queue: Option<Url>, identity: &Identity) -> Result<Self, AccountError> {
        let http = http_client(is_loopback(&blob))?;
        let identity = identity.credential(client_options(&http, None)).map_err(AccountError::Identity)?;
        Ok(Self { blob, queue, credential: Credential::Identity(identity), http })
    }

    /// The endpoint of the blob service, without a query string and without a slash at the end.
    pub fn blob_endpoint(&self) -> &Url {
        &self.blob
    }

    /// The endpoint of the queue service, if it is known.
    pub fn queue_endpoint(&self) -> Option<&Url> {
        self.queue.as_ref()
    }

    /// The credential to pass to the constructor of an SDK client. `None` for an account key or SAS, because
    /// [`Self::client_options`] signs the requests.
    pub fn credential(&self) -> Option<Arc<dyn TokenCredential>> {
        match &self.credential {
            Credential::Identity(identity) => Some(Arc::clone(identity)),
            Credential::AccountKey(_) | Credential::Sas(_) => None,
        }
    }

    /// The options for every SDK client of this account: bounded retries, no decompression, signed requests.
    pub fn client_options(&self) -> ClientOptions {
        client_options(&self.http, Some(self.clone()))
    }

    /// The options for a client whose requests are signed with the account key instead of a SAS.
    pub(super) fn shared_key_options(&self, key: &Arc<AccountKey>) -> ClientOptions {
        let signing: Arc<dyn Policy> = Arc::new(SharedKey(Arc::clone(key)));
        let mut options = client_options(&self.http, None);
        options.per_try_policies.push(signing);
        options
    }

    /// The query string that authorizes a request now: the configured SAS, or a new one signed with the account key.
    /// `None` for an identity.
    pub fn shared_access_signature(&self) -> Option<SecretString> {
        match &self.credential {
            Credential::AccountKey(key) => {
                let protocol = if self.blob.scheme() == "http" { "https,http" } else { "https" };
                Some(key.sign_account_sas(protocol, OffsetDateTime::now_utc()))
            }
            Credential::Sas(sas) => Some(sas.clone()),
            Credential::Identity(_) => None,
        }
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let credential = match &self.credential {
            Credential::AccountKey(_) => "account key",
            Credential::Sas(_) => "SAS",
            Credential::Identity(_) => "identity",
        };
        f.debug_struct("Account")
            .field("blob", &self.blob.as_str())
            .field("credential", &credential)
            .finish_non_exhaustive()
    }
}

/// Appends the SAS to the URL of a request, once per call. With an account key each call is signed anew, so a signature
/// never expires before the request is sent.
#[async_trait]
impl Policy for Account {
    async fn send(&self, context: &Context, request: &mut Request, next: &[Arc<dyn Policy>]) -> PolicyResult {
        if let Some(sas) = self.shared_access_signature() {
            let url = request.url_mut();
            let query = match url.query() {
                Some(query) if !query.is_empty() => format!("{query}&{}", sas.expose_secret()),
                _ => sas.expose_secret().to_owned(),
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
        per_try_policies: telemetry::http::policies(),
        ..ClientOptions::default()
    }
}

/// A client that does not decompress: ranges count stored bytes, and decryption needs them, so a blob's
/// `Content-Encoding` is ignored. Redirects are not followed, and a proxy is not used on loopback.
fn http_client(loopback: bool) -> Result<reqwest::Client, AccountError> {
    let client = reqwest::Client::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(READ_TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        .no_gzip()
        .no_deflate()
        .no_brotli()
        .no_zstd();
    let client = if loopback { client.no_proxy() } else { client };
    client.build().map_err(AccountError::Http)
}

fn parse_account_key(connection: &ConnectionString<'_>, key: &str) -> Result<Credential, AccountError> {
    let name = connection.get("AccountName").ok_or(AccountError::Missing("AccountName"))?;
    let key = AccountKey::new(name.to_owned(), key)
        .ok_or(AccountError::InvalidValue { name: "AccountKey", expected: "Base64, as the portal shows it" })?;
    Ok(Credential::AccountKey(Arc::new(key)))
}

fn parse_sas(token: &str) -> Result<Credential, AccountError> {
    let token = token.strip_prefix('?').unwrap_or(token);
    let has_signature = token.split('&').any(|pair| pair.starts_with("sig="));
    if !has_signature || token.contains(|c: char| !c.is_ascii_graphic() || c == '#') {
        return Err(AccountError::InvalidValue {
            name: "SharedAccessSignature",
            expected: "sv=…&sig=…, as the portal shows it",
        });
    }
    Ok(Credential::Sas(token.to_owned().into()))
}

#[cfg(test)]
mod tests;
