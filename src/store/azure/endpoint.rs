//! Determines the endpoints of an account's blob and queue service.
//!
//! Every request carries a credential, so an endpoint must be `https`. Plain `http` is accepted on loopback only.

use url::Url;

use super::{account_error::AccountError, connection_string::ConnectionString};
use crate::loopback::is_loopback;

/// The endpoints of the blob service and of the queue service.
///
/// If `BlobEndpoint` is given, the account name is not used: the queue endpoint is derived from the blob endpoint, and
/// is `None` if that is not possible.
pub(super) fn endpoints(connection: &ConnectionString<'_>) -> Result<(Url, Option<Url>), AccountError> {
    let blob = match (connection.get("BlobEndpoint"), connection.get("AccountName")) {
        (Some(blob), _) => parse_endpoint("BlobEndpoint", blob)?,
        (None, Some(account)) => blob_endpoint_of(connection, account)?,
        (None, None) => return Err(AccountError::Missing("AccountName and no BlobEndpoint")),
    };
    let queue = match connection.get("QueueEndpoint") {
        Some(queue) => Some(parse_endpoint("QueueEndpoint", queue)?),
        None => sibling(&blob, "queue"),
    };
    Ok((blob, queue))
}

/// The blob endpoint of the account called `account`.
fn blob_endpoint_of(connection: &ConnectionString<'_>, account: &str) -> Result<Url, AccountError> {
    let is_name_char = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    if !(3..=24).contains(&account.len()) || !account.chars().all(is_name_char) {
        return Err(AccountError::InvalidValue {
            name: "AccountName",
            expected: "3 to 24 lower-case letters and digits",
        });
    }
    let suffix = connection.get("EndpointSuffix").unwrap_or("core.windows.net");
    if !suffix.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-')) {
        return Err(AccountError::InvalidValue {
            name: "EndpointSuffix",
            expected: "a domain, such as core.windows.net",
        });
    }
    let protocol = connection.get("DefaultEndpointsProtocol").unwrap_or("https");
    parse_endpoint("DefaultEndpointsProtocol", &format!("{protocol}://{account}.blob.{suffix}"))
}

/// The endpoint of another service of the account whose blob endpoint is `blob`; `None` if the host has no `.blob.`
/// label.
pub(super) fn sibling(blob: &Url, service: &str) -> Option<Url> {
    let host = blob.host_str()?;
    if !host.contains(".blob.") {
        return None;
    }
    let host = host.replacen(".blob.", &format!(".{service}."), 1);
    let mut url = blob.clone();
    url.set_host(Some(&host)).ok()?;
    Some(url)
}

/// Parses the endpoint in the setting `name`, which must be `https`, also on loopback.
pub(super) fn parse_https_endpoint(name: &'static str, text: &str) -> Result<Url, AccountError> {
    let url = parse_endpoint(name, text)?;
    if url.scheme() == "https" {
        return Ok(url);
    }
    Err(AccountError::InvalidValue {
        name,
        expected: "an https URL: a managed identity's token is sent over https only",
    })
}

fn parse_endpoint(name: &'static str, text: &str) -> Result<Url, AccountError> {
    let invalid = AccountError::InvalidValue { name, expected: "an https URL without a query (http on loopback only)" };
    let Ok(mut url) = Url::parse(text) else {
        return Err(invalid);
    };
    let is_safe = url.scheme() == "https" || (url.scheme() == "http" && is_loopback(&url));
    let has_credentials_or_query = !url.username().is_empty() || url.password().is_some() || url.query().is_some();
    if !is_safe || has_credentials_or_query || url.fragment().is_some() {
        return Err(invalid);
    }
    let path = url.path().trim_end_matches('/').to_owned();
    url.set_path(&path);
    Ok(url)
}
