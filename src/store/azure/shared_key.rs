//! Authorizes requests with the account key itself (Shared Key), for the operations that no SAS permits: reading and
//! writing the stored access policies of a container.
//!
//! The key is not sent: it signs the request. Microsoft documents the string to sign at
//! <https://learn.microsoft.com/rest/api/storageservices/authorize-with-shared-key>.

use std::{fmt, sync::Arc, time::SystemTime};

use async_trait::async_trait;
use azure_core::http::{
    Context, Request, Url,
    policies::{Policy, PolicyResult},
};

use super::signature::AccountKey;

/// The headers in the string to sign, in its order; `content-length` comes after the second one.
const SIGNED_HEADERS: [&str; 10] = [
    "content-encoding",
    "content-language",
    "content-md5",
    "content-type",
    "date",
    "if-modified-since",
    "if-match",
    "if-none-match",
    "if-unmodified-since",
    "range",
];

/// Signs each try of a request, after all its headers are set.
pub(super) struct SharedKey(pub(super) Arc<AccountKey>);

impl fmt::Debug for SharedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedKey([REDACTED])")
    }
}

#[async_trait]
impl Policy for SharedKey {
    async fn send(&self, context: &Context, request: &mut Request, next: &[Arc<dyn Policy>]) -> PolicyResult {
        request.insert_header("x-ms-date", httpdate::fmt_http_date(SystemTime::now()));
        let text = string_to_sign(&self.0.account, request);
        let authorization = format!("SharedKey {}:{}", self.0.account, self.0.sign(&text));
        request.insert_header("authorization", authorization);
        next[0].send(context, request, &next[1..]).await
    }
}

fn string_to_sign(account: &str, request: &Request) -> String {
    let header = |name: &'static str| request.headers().get_optional_str(&name.into()).unwrap_or_default();
    let mut lines = vec![request.method().as_str().to_owned()];
    for (number, name) in SIGNED_HEADERS.into_iter().enumerate() {
        if number == 2 {
            let length = request.body().len().filter(|length| *length > 0);
            lines.push(length.map_or_else(String::new, |length| length.to_string()));
        }
        lines.push(header(name).to_owned());
    }
    let mut own: Vec<(String, &str)> = request
        .headers()
        .iter()
        .map(|(name, value)| (name.as_str().to_ascii_lowercase(), value.as_str().trim()))
        .filter(|(name, _)| name.starts_with("x-ms-"))
        .collect();
    own.sort();
    lines.extend(own.into_iter().map(|(name, value)| format!("{name}:{value}")));
    lines.push(canonical_resource(account, request.url()));
    lines.join("\n")
}

/// The path, after the account's name, and the decoded parameters of the query, sorted.
fn canonical_resource(account: &str, url: &Url) -> String {
    let mut parameters: Vec<_> = url.query_pairs().map(|(name, value)| (name.to_ascii_lowercase(), value)).collect();
    parameters.sort();
    let parameters = parameters.into_iter().map(|(name, value)| format!("\n{name}:{value}"));
    format!("/{account}{}{}", url.path(), parameters.collect::<String>())
}

#[cfg(test)]
mod tests {
    use azure_core::http::Method;

    use super::*;

    #[test]
    fn the_string_to_sign_is_the_documented_one() {
        let url = "https://acct.blob.core.windows.net/customer?restype=container&comp=acl".parse().unwrap();
        let mut request = Request::new(url, Method::Put);
        request.set_body("<a/>\n");
        request.insert_header("x-ms-version", "2026-04-06");
        request.insert_header("x-ms-date", "Sun, 22 Nov 2026 02:00:00 GMT");
        request.insert_header("content-type", "text/xml");
        request.insert_header("accept", "application/xml");
        assert_eq!(
            string_to_sign("acct", &request),
            "PUT\n\n\n5\n\ntext/xml\n\n\n\n\n\n\nx-ms-date:Sun, 22 Nov 2026 02:00:00 GMT\nx-ms-version:2026-04-06\n\
             /acct/customer\ncomp:acl\nrestype:container"
        );
        // Computed independently, with Python's `hmac`.
        let key = AccountKey::new("acct".into(), "bm90IGEgc2VjcmV0").unwrap();
        assert_eq!(key.sign(&string_to_sign("acct", &request)), "KJM8A0sXl0wtPYD5Y30jlRUe9/qvxHRrnrtTbuiAiyk=");
    }
}
