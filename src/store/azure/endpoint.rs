//! Where the services of an account are: by address, or by the account's name.
//!
//! What opens the account travels with each request, so an address is `https`, or on loopback.

use url::Url;

use super::{account::AccountError, connection_string::ConnectionString};
use crate::loopback::is_loopback;

/// Blob and queue service. Where one is given by its address, the account's name says nothing of the other.
pub(super) fn endpoints(given: &ConnectionString<'_>) -> Result<(Url, Option<Url>), AccountError> {
    let blob = match (given.get("BlobEndpoint"), given.get("AccountName")) {
        (Some(blob), _) => endpoint("BlobEndpoint", blob)?,
        (None, Some(account)) => by_name(given, account)?,
        (None, None) => return Err(AccountError::Lacks("AccountName and no BlobEndpoint")),
    };
    let queue = match given.get("QueueEndpoint") {
        Some(queue) => Some(endpoint("QueueEndpoint", queue)?),
        None => sibling(&blob, "queue"),
    };
    Ok((blob, queue))
}

fn by_name(given: &ConnectionString<'_>, account: &str) -> Result<Url, AccountError> {
    let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    if !(3..=24).contains(&account.len()) || !account.chars().all(is_name) {
        return Err(AccountError::Unusable { name: "AccountName", expected: "3 to 24 small letters and digits" });
    }
    let suffix = given.get("EndpointSuffix").unwrap_or("core.windows.net");
    if !suffix.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-')) {
        return Err(AccountError::Unusable { name: "EndpointSuffix", expected: "a domain, such as core.windows.net" });
    }
    let protocol = given.get("DefaultEndpointsProtocol").unwrap_or("https");
    endpoint("DefaultEndpointsProtocol", &format!("{protocol}://{account}.blob.{suffix}"))
}

/// Another service of the account at `blob`, where the host says which service it is.
pub(super) fn sibling(blob: &Url, service: &str) -> Option<Url> {
    let host = blob.host_str()?;
    let host = host.contains(".blob.").then(|| host.replacen(".blob.", &format!(".{service}."), 1))?;
    let mut url = blob.clone();
    url.set_host(Some(&host)).ok()?;
    Some(url)
}

pub(super) fn https(name: &'static str, text: &str) -> Result<Url, AccountError> {
    let url = endpoint(name, text)?;
    if url.scheme() == "https" {
        return Ok(url);
    }
    Err(AccountError::Unusable { name, expected: "an https URL: a managed identity's token goes nowhere else" })
}

fn endpoint(name: &'static str, text: &str) -> Result<Url, AccountError> {
    let unusable = AccountError::Unusable { name, expected: "an https URL without a query (http on loopback alone)" };
    let Ok(mut url) = Url::parse(text) else {
        return Err(unusable);
    };
    let is_safe = url.scheme() == "https" || (url.scheme() == "http" && is_loopback(&url));
    let is_bare = url.username().is_empty() && url.password().is_none() && url.query().is_none();
    if !is_safe || !is_bare || url.fragment().is_some() {
        return Err(unusable);
    }
    let path = url.path().trim_end_matches('/').to_owned();
    url.set_path(&path);
    Ok(url)
}
