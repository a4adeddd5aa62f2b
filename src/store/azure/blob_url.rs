//! Finds the blob that a URL names, if the URL belongs to the account.

use url::Url;

use crate::store::{BlobPath, raw_url::RawUrl};

/// The blob that `url` names, if it belongs to the account at `endpoint`.
pub(super) fn parse_blob_url(endpoint: &Url, url: &str) -> Option<BlobPath> {
    let url = RawUrl::split(url)?;
    if !url.scheme.eq_ignore_ascii_case(endpoint.scheme()) {
        return None;
    }
    let (host, port) = url.host_and_port()?;
    if !is_host_of(endpoint, &host) || Some(port) != endpoint.port_or_known_default() {
        return None;
    }
    let path = url.path()?;
    let path = match endpoint.path().trim_matches('/') {
        "" => &*path,
        account => path.strip_prefix(account)?.strip_prefix('/')?,
    };
    let (container, name) = path.split_once('/')?;
    Some(BlobPath::new(container, name))
}

/// Whether `host` serves the account at `endpoint`.
///
/// Accepts the account's `dfs` host too: events of an account with a hierarchical namespace name it, and a path there
/// is a blob name here. `localhost` and `127.0.0.1` are the same host.
fn is_host_of(endpoint: &Url, host: &str) -> bool {
    let Some(endpoint_host) = endpoint.host_str() else {
        return false;
    };
    let is_local_name = |host| matches!(host, "localhost" | "127.0.0.1");
    host == endpoint_host
        || (endpoint_host.contains(".blob.") && host == endpoint_host.replacen(".blob.", ".dfs.", 1))
        || (is_local_name(host) && is_local_name(endpoint_host))
}

#[cfg(test)]
mod tests;
